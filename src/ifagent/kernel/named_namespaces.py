"""The named namespaces that exist, followed as they come and go."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import anyio

from ifagent.core.link import NsId
from ifagent.core.namespace_ref import NamespaceRef
from ifagent.kernel.netns import list_namespaces
from ifagent.kernel.netns_watch import INTERVAL, NetnsWatch
from ifagent.kernel.threads import run_in_thread
from ifagent.limits import in_words
from ifagent.log import log

_PAUSE: Final = 0.02
"""Seconds between two listings, so that a storm of mounts costs little."""


class NamedNamespaces:
    """The namespaces of a directory as last listed. ``changed`` says that they differ from what was taken last."""

    def __init__(self, directory: str) -> None:
        self.changed: bool = False
        self._directory = directory
        self._found: dict[NamespaceRef, tuple[NsId, str]] = {}
        self._lock = anyio.Lock()
        self._wake = anyio.Event()

    def take(self) -> dict[NamespaceRef, tuple[NsId, str]]:
        """Return the id and path of every named namespace."""
        self.changed = False
        return dict(self._found)

    async def list(self) -> bool:
        """List the directory; tell whether that was possible, else what was found before remains."""
        async with self._lock:  # an older listing must not replace a newer one
            try:
                found = await run_in_thread(partial(list_namespaces, self._directory))
            except OSError as error:
                log.warning("cannot list named namespaces", directory=self._directory, problem=in_words(error))
                return False
            self.changed |= found != self._found
            self._found = found
            return True

    async def follow(self, watch: NetnsWatch, listed: Callable[[], None]) -> None:
        """List whenever the watch wakes, and call ``listed`` after each time, until cancelled."""
        watch.start(lambda: self._wake.set())  # noqa: PLW0108 the event is replaced after each wake
        while True:
            self._wake = anyio.Event()
            watch.listen()
            await run_in_thread(watch.follow)
            complete = await self.list()
            listed()
            await anyio.sleep(_PAUSE)
            with anyio.move_on_after(watch.interval if complete else INTERVAL):
                await self._wake.wait()
