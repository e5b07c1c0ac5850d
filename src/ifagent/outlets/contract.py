"""The contract between the agent and its outlets: what an outlet does, and what it can see of the agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from anyio.abc import TaskStatus

from ifagent.core.events import Declaration
from ifagent.core.names import Name
from ifagent.core.state import InterfaceState
from ifagent.statistics import Health, Statistics
from ifagent.stream import Subscription


class AgentView(Protocol):
    """The agent as outlets see it: read-only. See :class:`ifagent.Agent` for details of each method."""

    def health(self) -> Health:
        """Return whether the agent is alive and ready; takes constant time."""

    def statistics(self) -> Statistics:
        """Return counters, and the current condition of the agent."""

    def current_states(self, *, foreign: bool = False) -> Mapping[Name, InterfaceState]:
        """Return the newest state of every interface; with ``foreign`` those of other links too."""

    def states(self, *, name: Name | None = None, foreign: bool = False) -> Subscription:
        """Subscribe: a snapshot, whose events are available immediately, then every change.

        The iterator may be cancelled at any time without losing events.
        """

    def declarations(self) -> Mapping[Name, Declaration]:
        """Return everything that is declared."""

    async def wait_ready(self) -> None:
        """Wait until every source has synced and the first round is done.

        Raises :class:`ifagent.errors.AgentEnded` if the agent ends before.
        """


class Outlet(Protocol):
    """Publishes states and the agent's health outside of the agent."""

    @property
    def ports(self) -> tuple[int, ...]:
        """TCP ports that it will listen on, for which it may need a capability; 0 for any free port."""

    async def run(self, agent: AgentView, *, task_status: TaskStatus[None] = ...) -> None:
        """Publish what ``agent`` has until cancelled; never returns.

        Calls ``task_status.started()`` once the agent may start: when the outlet can be reached, or holds the lock
        that it needs. Raises :class:`ifagent.errors.InvalidSettings` if that is impossible. A reader that is slow,
        hostile or gone raises nothing, and disturbs neither the agent nor other readers.
        """
