"""What the values in etcd mean for the agent, as far as anybody outside can know.

An invalid value leaves the last valid one in force that the agent has heard of. Which one that is depends on what it
was quick enough to hear, and after a restart it has heard of none. So there may be several *possible worlds*, and the
agent is right when what it made is right in one of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from chaos.values import Family, Wish

MOST_WORLDS = 64
"""Possible worlds that are looked at; more would take long, and say little."""


@dataclass(frozen=True, slots=True)
class World:
    """One possibility: the values in force, and the names whose value is invalid.

    What is ``invalid`` and not in ``wishes`` has nothing in force: whatever links it has stay as they are.
    """

    wishes: Mapping[str, Wish]
    invalid: frozenset[str]

    @property
    def declared(self) -> frozenset[str]:
        """All names."""
        return self.invalid | self.wishes.keys()

    @property
    def unknown(self) -> frozenset[str]:
        """The names that have nothing in force."""
        return self.invalid - self.wishes.keys()


class Intent:
    """The values of one label; ``None`` stands for one that is invalid."""

    def __init__(self) -> None:
        self._values: dict[str, dict[Family, Wish | None]] = {}
        # What may be in force, the newest last, of those names that have an invalid value or may yet get one.
        self._heard: dict[str, list[Wish | None]] = {}

    def put(self, name: str, family: Family, wish: Wish | None) -> None:
        """Take a value; ``None`` for an invalid one."""
        self._values.setdefault(name, {})[family] = wish
        self._hear(name)

    def delete(self, name: str, family: Family) -> None:
        """Take a value away."""
        self._values.get(name, {}).pop(family, None)
        self._hear(name)

    def restart(self, *, remembers: bool = False) -> None:
        """Note that the agent has begun anew: what it hears first is what there is now.

        One that ``remembers`` may have begun with what it has heard before.
        """
        for name in self._values.keys() | self._heard.keys():
            if not remembers and name in self.declared and self.value(name) is None:
                self._heard[name] = [None]
            else:
                self._note(name, None)

    def settle(self, world: World) -> None:
        """Note that the agent has heard everything, and that it was this world."""
        self._heard = {name: [world.wishes.get(name)] for name in world.declared}
        self._values = {name: values for name, values in self._values.items() if values}

    @property
    def declared(self) -> set[str]:
        """The names that have a value."""
        return {name for name, values in self._values.items() if values}

    def families(self, name: str) -> list[Family]:
        """Return under which keys a name has a value."""
        return sorted(self._values.get(name, {}))

    def value(self, name: str) -> Wish | None:
        """Return the value that counts, that of v3 if there is one; ``None`` for an invalid one, or for none."""
        values = self._values.get(name, {})
        return values[Family.V3] if Family.V3 in values else values.get(Family.V1)

    def worlds(self) -> Iterator[World]:
        """Return everything that may be, at most ``MOST_WORLDS``; the likeliest, the newest in force, first."""
        declared = self.declared
        valid = {name: wish for name in declared if (wish := self.value(name)) is not None}
        invalid = sorted(declared - valid.keys())
        choices = [list(dict.fromkeys(reversed(self._heard.get(name, [None])))) for name in invalid]
        for chosen in itertools.islice(itertools.product(*choices), MOST_WORLDS):
            in_force = {name: wish for name, wish in zip(invalid, chosen, strict=True) if wish is not None}
            yield World(valid | in_force, frozenset(invalid))

    def _hear(self, name: str) -> None:
        value = self.value(name)
        if value is not None or name not in self.declared:
            self._note(name, value)

    def _note(self, name: str, value: Wish | None) -> None:
        heard = self._heard.setdefault(name, [None])
        if value in heard:
            heard.remove(value)
        heard.append(value)
