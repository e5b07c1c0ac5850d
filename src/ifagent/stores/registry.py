"""Which kinds of store there are, and which of them a URL means.

A new kind is a folder beside this module, and a word in :data:`BACKENDS`.
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
    """Return the kind of store that a URL means.

    Raises :class:`InvalidSettings` if there is none, without repeating what may have a password in it.
    """
    scheme, colon, _ = url.partition(":")
    if not colon or scheme not in _BACKENDS:
        what = "this" if "@" in url else repr(url)
        examples = " or ".join(backend.example for backend in BACKENDS)
        raise InvalidSettings(f"{what} is not a store URL, expected {examples}")
    return _BACKENDS[scheme]


def split_urls(text: str) -> list[str]:
    """Return the URLs in a text, separated by white space: a new one begins with a scheme, for a path may have some."""
    return [url for url in _NEXT_URL.split(text.strip()) if url]


def open_source(url: str, *, label: str, access: Access | None = None, state_dir: Path | None = None) -> Source:
    """Return what the store at ``url`` declares for the agent called ``label``.

    What a store on other machines has declared is kept in ``state_dir`` for a start without it, unless that is
    ``None``. Raises :class:`InvalidSettings`.
    """
    source = backend_of(url).source(url, label=label, access=access)
    if state_dir is None or not isinstance(source, RemoteSource):
        return source
    from ifagent.stores.last_known import LastKnown

    return LastKnown(source, state_dir, label=label)


def open_outlets(urls: Iterable[str], *, label: str, accesses: Mapping[str, Access]) -> list[Outlet]:
    """Return what publishes the states of the agent called ``label`` in each store that has a place for them.

    They are in an order that all agents share, as each may wait for the label. ``accesses`` are by the names of the
    kinds of store. Raises :class:`InvalidSettings`.
    """
    found = ((backend_of(url), url) for url in sorted(urls))
    outlets = (backend.outlet(url, label=label, access=accesses.get(backend.name)) for backend, url in found)
    return [outlet for outlet in outlets if outlet is not None]


def open_store(url: str, *, label: str, socket: Path, access: Access | None = None) -> Store:
    """Return the store at ``url`` for those who direct or follow the agent called ``label``.

    ``socket`` is the agent's. Raises :class:`InvalidSettings`.
    """
    return backend_of(url).store(url, label=label, socket=socket, access=access)
