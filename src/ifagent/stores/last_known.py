"""The last known intent: the last declarations of a source, cached on disk for a start without it.

::

    inner source --> LastKnown --> agent
                      |     ^
              a change|     |the inner source has not synced,
                      v     |and is late or in trouble
                     IntentFile

Events of the inner source are passed on unchanged and immediately; beside that, its declarations are kept in a file.
They are used only until the inner source has synced, and never again while the agent runs: the agent itself keeps the
last declarations of a source that is lost. A snapshot from the file is never exhaustive, so nothing is removed because
the file does not have it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from ifagent.core.events import Declaration, Declared, Event, SourceHealth, SourceSnapshot
from ifagent.core.resources import Key
from ifagent.log import log
from ifagent.stores.contract import RemoteSource, Source
from ifagent.stores.intent_file import Intent, IntentFile

REST_FACTOR: Final = 4
"""A write is followed by a pause of at least so many times its duration."""

SHUTDOWN_TIMEOUT: Final = 2.0
"""Most seconds that the end waits for the last changes to be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """When a cache of declarations is used and written, in seconds.

    It is used if the source is silent for ``patience`` after the start, or reports trouble earlier. ``pause`` is the
    least time between two writes, and ``retry`` that between two attempts after an error of the disk.
    """

    patience: float = 3.0
    pause: float = 0.2
    retry: float = 10.0


class LastKnown:
    """Wraps ``source`` and caches its declarations in ``folder``, for the agent called ``label``."""

    def __init__(self, source: Source, folder: Path, *, label: str, timings: Timings = Timings()) -> None:
        self._source = source
        self._timings = timings
        self._file = IntentFile(folder, source=source.name, label=label)
        self._declared: dict[Key, Declaration] = {}
        self._problem = ""
        self._in_force = ""
        self._refused = ""
        self._heard = False
        self._changes = 0
        self._written = 0
        self._doubt = anyio.Event()
        self._news = anyio.Event()

    @property
    def name(self) -> str:
        """The name of the wrapped source."""
        return self._source.name

    @property
    def hosts(self) -> tuple[str, ...]:
        """The machines that the wrapped source connects to."""
        return self._source.hosts if isinstance(self._source, RemoteSource) else ()

    async def run(self, emit: Callable[[Event], None]) -> None:
        """Pass on the events of the source until cancelled; then write the last changes.

        While the source has not synced, a :class:`SourceSnapshot` from the file may take its place, and every
        :class:`SourceHealth` says so. Trouble with the disk is logged when it begins and ends, and delays no events.
        """
        async with anyio.create_task_group() as group:
            group.start_soon(self._remember, emit)
            await self._source.run(partial(self._hear, emit))

    def _hear(self, emit: Callable[[Event], None], event: Event) -> None:
        match event:
            case SourceSnapshot():
                self._declared = dict(event.declarations)
                self._heard = True
                emit(event)
                if self._in_force:
                    self._in_force = ""
                    log.info("source synced, no longer using its last known intent", source=self.name)
                    emit(self._health())
                self._change()
            case Declared():
                if event.declaration is None:
                    self._declared.pop(event.key, None)
                else:
                    self._declared[event.key] = event.declaration
                emit(event)
                self._change()
            case SourceHealth():
                self._problem = event.problem
                emit(self._health())
                if event.problem:
                    self._doubt.set()
            case _:
                emit(event)

    def _change(self) -> None:
        self._changes += 1
        self._doubt.set()
        self._news.set()

    def _health(self) -> SourceHealth:
        return SourceHealth(self.name, "; ".join(filter(None, (self._problem, self._in_force))))

    async def _remember(self, emit: Callable[[Event], None]) -> None:
        with anyio.move_on_after(self._timings.patience):
            await self._doubt.wait()
        if not self._heard:
            intent = await to_thread.run_sync(self._file.read)
            if intent and not self._heard:
                self._use(intent, emit)
        try:
            await self._keep()
        finally:
            with anyio.move_on_after(SHUTDOWN_TIMEOUT, shield=True):
                await self._write(abandon=True)

    def _use(self, intent: Intent, emit: Callable[[Event], None]) -> None:
        written = f"{intent.written:%Y-%m-%dT%H:%M:%SZ}"
        age = max(0, round((datetime.now(UTC) - intent.written).total_seconds()))
        log.warning(
            "source not synced, using its last known intent",
            source=self.name,
            written=written,
            age=age,
            interfaces=len(intent.declarations),
        )
        self._in_force = f"using the last known intent of {written}"
        emit(SourceSnapshot(self.name, intent.declarations, complete=False, recalled=True))
        emit(self._health())

    async def _keep(self) -> None:
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            began = anyio.current_time()
            await self._write()
            took = anyio.current_time() - began
            if self._refused:
                self._news.set()
            pause = max(self._timings.pause, REST_FACTOR * took)
            await anyio.sleep(self._timings.retry if self._refused else pause)

    async def _write(self, *, abandon: bool = False) -> None:
        """Write changes that are not written yet; log errors of the disk."""
        changes = self._changes
        if not self._heard or changes == self._written:
            return
        write = partial(self._file.write, dict(self._declared))
        try:
            await to_thread.run_sync(write, abandon_on_cancel=abandon)
        except OSError as error:
            problem = error.strerror or str(error)
            if problem != self._refused:
                log.warning("cannot save the intent to disk", source=self.name, path=self._file.path, problem=problem)
            self._refused = problem
            return
        self._written = changes
        if self._refused:
            self._refused = ""
            log.info("saving the intent to disk again", source=self.name, path=self._file.path)
