"""Interfaces declared from Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import anyio

from ifagent.core.events import Declaration, Declared, Event, SourceSnapshot
from ifagent.core.interface import Interface, Name


class Memory:
    """A source that says what the program tells it; usable before, while and after it runs."""

    def __init__(self, interfaces: Iterable[Interface] = (), *, name: str = "memory") -> None:
        self.name = name
        self._interfaces = {interface.name: interface for interface in interfaces}
        self._emit: Callable[[Event], None] = _nowhere

    def __contains__(self, name: object) -> bool:
        return name in self._interfaces

    def __iter__(self) -> Iterator[Interface]:
        return iter(list(self._interfaces.values()))

    def get(self, name: Name) -> Interface | None:
        """Return what is declared under ``name``."""
        return self._interfaces.get(name)

    def set(self, interface: Interface) -> None:
        """Declare an interface, or declare it anew."""
        self._interfaces[interface.name] = interface
        self._emit(Declared(self.name, interface.name, Declaration(name=interface.name, interface=interface)))

    def remove(self, name: Name) -> None:
        """Take an interface back; nothing happens if it is not declared."""
        if self._interfaces.pop(name, None) is not None:
            self._emit(Declared(self.name, name, None))

    def replace(self, interfaces: Iterable[Interface]) -> None:
        """Declare exactly these."""
        self._interfaces = {interface.name: interface for interface in interfaces}
        self._emit(self._snapshot())

    def _snapshot(self) -> SourceSnapshot:
        interfaces = self._interfaces.values()
        return SourceSnapshot(self.name, {i.name: Declaration(name=i.name, interface=i) for i in interfaces})

    async def run(self, emit: Callable[[Event], None]) -> None:
        """Say everything, then whatever changes, until cancelled."""
        self._emit = emit
        emit(self._snapshot())
        try:
            await anyio.sleep_forever()
        finally:
            self._emit = _nowhere


def _nowhere(_: Event) -> None:
    """Stand in for the agent while the source does not run."""
