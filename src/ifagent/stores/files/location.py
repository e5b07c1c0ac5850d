"""Where a store of files is."""

from __future__ import annotations

from pathlib import Path

from ifagent.errors import InvalidSettings

FILE_SCHEME = "file:"


def file_path(url: str) -> Path:
    """Return the path in ``file:PATH``; relative ones and ``file:///PATH`` are taken too.

    Raises :class:`InvalidSettings` if there is none.
    """
    path = url.removeprefix(FILE_SCHEME)
    if path.startswith("//"):
        host, slash, path = path[2:].partition("/")
        path = slash + path
        if host not in {"", "localhost"}:
            raise InvalidSettings(f"{url!r} names the machine {host!r}, files are on this one: file:PATH")
    if not path or "\0" in path:
        raise InvalidSettings(f"{url!r} has no path, write file:PATH")
    return Path(path)
