"""Stores of files, by URL: ``file:PATH``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ifagent.errors import InvalidSettings
from ifagent.outlets.contract import Outlet
from ifagent.stores.contract import Access, Source, Store, StoreOption, StoreSecret


class FilesBackend:
    """A YAML or JSON file, or a directory of them, on the agent's host; states come from the agent's socket."""

    name: str = "files"
    schemes: tuple[str, ...] = ("file",)
    example: str = "file:PATH"
    help: str = "file:PATH (a file or a directory)"
    options: tuple[StoreOption, ...] = ()
    secrets: tuple[StoreSecret, ...] = ()

    def access(self, given: Mapping[str, str | Path | None]) -> Access | None:
        """Return ``None``: files need no credentials."""
        del given
        return None

    def source(self, url: str, *, label: str, access: Access | None) -> Source:
        """Return the source of the files' declarations."""
        del label, access
        from ifagent.stores.files.source import FileSource

        return FileSource(file_path(url), name=url)

    def store(self, url: str, *, label: str, socket: Path, access: Access | None) -> Store:
        """Return the client for the files, and for the states of the agent at ``socket``."""
        del label, access
        from ifagent.stores.files.store import FileStore

        return FileStore(file_path(url), socket=socket)

    def outlet(self, url: str, *, label: str, access: Access | None) -> Outlet | None:
        """Return ``None``: states are not written to files."""
        del url, label, access
        return None


def file_path(url: str) -> Path:
    """Return the path in ``file:PATH``; relative ones and ``file:///PATH`` are taken too.

    Raises :class:`InvalidSettings` if there is none.
    """
    path = url.removeprefix("file:")
    if path.startswith("//"):
        host, slash, path = path[2:].partition("/")
        path = slash + path
        if host not in {"", "localhost"}:
            raise InvalidSettings(f"{url!r} names the machine {host!r}, files are on this one: file:PATH")
    if not path or "\0" in path:
        raise InvalidSettings(f"{url!r} has no path, write file:PATH")
    return Path(path)
