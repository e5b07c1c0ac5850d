"""Interfaces declared from Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import anyio

from ifagent.core.events import Declaration, Declared, Event, SourceSnapshot
from ifagent.core.interface import Interface
from ifagent.core.names import Name
from ifagent.core.resources import interface_key


class Memory:
    """A source of interfaces that the program sets; usable before, while and after it runs."""

    def __init__(self, interfaces: Iterable[Interface] = (), *, name: str = "memory") -> None:
        self.name = name
        self._interfaces = {interface.name: interface for interface in interfaces}
        self._emit: Callable[[Event], None] = _nowhere

    def __contains__(self, name: object) -> bool:
        return name in self._interfaces

    def __iter__(self) -> Iterator[Interface]:
        return iter(list(self._interfaces.values()))

    def get(self, name: Name) -> Interface | None:
        """Return the interface declared under ``name``."""
        return self._interfaces.get(name)

    def set(self, interface: Interface) -> None:
        """Declare or replace an interface."""
        self._interfaces[interface.name] = interface
        self._emit(Declared(self.name, interface_key(interface.name), Declaration.of(interface)))

    def remove(self, name: Name) -> None:
        """Delete a declaration; nothing happens if there is none."""
        if self._interfaces.pop(name, None) is not None:
            self._emit(Declared(self.name, interface_key(name), None))

    def replace(self, interfaces: Iterable[Interface]) -> None:
        """Declare exactly these interfaces."""
        self._interfaces = {interface.name: interface for interface in interfaces}
        self._emit(self._snapshot())

    def _snapshot(self) -> SourceSnapshot:
        declarations = map(Declaration.of, self._interfaces.values())
        return SourceSnapshot(self.name, {declaration.key: declaration for declaration in declarations})

    async def run(self, emit: Callable[[Event], None]) -> None:
        """Emit a snapshot, then every change, until cancelled."""
        self._emit = emit
        emit(self._snapshot())
        try:
            await anyio.sleep_forever()
        finally:
            self._emit = _nowhere


def _nowhere(_: Event) -> None:
    """Discard events while the source does not run."""
