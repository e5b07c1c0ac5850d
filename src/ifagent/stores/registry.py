"""All kinds of store, and the choice between them by URL.

A new kind is a folder beside this module, and an entry in :data:`BACKENDS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from ifagent.errors import InvalidSettings
from ifagent.outlets.contract import Outlet
from ifagent.stores.contract import Access, RemoteSource, Source, Store, StoreBackend
from ifagent.stores.etcd.backend import EtcdBackend
from ifagent.stores.files.backend import FilesBackend

BACKENDS: Final[tuple[StoreBackend, ...]] = (EtcdBackend(), FilesBackend())
"""Every kind of store."""

_BACKENDS: Final = {scheme: backend for backend in BACKENDS for scheme in backend.schemes}
_NEXT_URL: Final = re.compile(rf"\s+(?=(?:{'|'.join(map(re.escape, _BACKENDS))}):)")


def backend_of(url: str) -> StoreBackend:
    """Return the kind of store for a URL.

    Raises :class:`InvalidSettings` if there is none, without repeating a URL that may contain a password.
    """
    scheme, colon, _ = url.partition(":")
    if not colon or scheme not in _BACKENDS:
        what = "this" if "@" in url else repr(url)
        examples = " or ".join(backend.example for backend in BACKENDS)
        raise InvalidSettings(f"{what} is not a store URL, expected {examples}")
    return _BACKENDS[scheme]


def split_urls(text: str) -> list[str]:
    """Return the URLs in a text, separated by white space followed by a scheme: a path may contain white space."""
    return [url for url in _NEXT_URL.split(text.strip()) if url]


def open_source(url: str, *, label: str, access: Access | None = None, state_dir: Path | None = None) -> Source:
    """Return the source of the store at ``url`` for the agent called ``label``.

    Declarations of a remote store are cached in ``state_dir`` for a start without it, unless that is ``None``. Raises
    :class:`InvalidSettings`.
    """
    source = backend_of(url).source(url, label=label, access=access)
    if state_dir is None or not isinstance(source, RemoteSource):
        return source
    from ifagent.stores.last_known import LastKnown

    return LastKnown(source, state_dir, label=label)


def open_outlets(urls: Iterable[str], *, label: str, accesses: Mapping[str, Access]) -> list[Outlet]:
    """Return the outlets of the agent called ``label`` for all stores that have one.

    Their order is the same for all agents, because each may wait for a lock. ``accesses`` are by the names of the kinds
    of store. Raises :class:`InvalidSettings`.
    """
    found = ((backend_of(url), url) for url in sorted(urls))
    outlets = (backend.outlet(url, label=label, access=accesses.get(backend.name)) for backend, url in found)
    return [outlet for outlet in outlets if outlet is not None]


def open_store(url: str, *, label: str, socket: Path, access: Access | None = None) -> Store:
    """Return the client for the store at ``url`` of the agent called ``label``.

    ``socket`` is the agent's. Raises :class:`InvalidSettings`.
    """
    return backend_of(url).store(url, label=label, socket=socket, access=access)
