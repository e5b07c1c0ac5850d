"""What an outlet is to the agent, and what of the agent an outlet sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from anyio.abc import TaskStatus

from ifagent.core.events import Declaration
from ifagent.core.interface import Name
from ifagent.core.state import InterfaceState
from ifagent.statistics import Health, Statistics
from ifagent.stream import Subscription


class AgentView(Protocol):
    """The agent as outlets see it: they read, and change nothing. :class:`ifagent.Agent` has more to say on each."""

    def health(self) -> Health:
        """Return whether the agent is alive and ready; costs nothing however many interfaces there are."""

    def statistics(self) -> Statistics:
        """Return what has been counted, and how the agent is now."""

    def current_states(self, *, foreign: bool = False) -> Mapping[Name, InterfaceState]:
        """Return the newest state of every interface; with ``foreign`` those of other links too."""

    def states(self, *, name: Name | None = None, foreign: bool = False) -> Subscription:
        """Return a snapshot, whose events are there without a wait, then every change.

        The iterator may be cancelled at any moment without a loss.
        """

    def declarations(self) -> Mapping[Name, Declaration]:
        """Return everything that is declared."""

    async def wait_ready(self) -> None:
        """Wait until every source has synced and the first round is done.

        Raises :class:`ifagent.errors.AgentEnded` if the agent ends before.
        """


class Outlet(Protocol):
    """A way by which states, and how the agent is, leave the agent."""

    @property
    def ports(self) -> tuple[int, ...]:
        """TCP ports that it will listen at, which may take a right; 0 for any."""

    async def run(self, agent: AgentView, *, task_status: TaskStatus[None] = ...) -> None:
        """Let out what ``agent`` says until cancelled; never returns.

        Calls ``task_status.started()`` once the agent may begin to run: when the outlet can be reached, or has what it
        needs to speak for the agent. Raises :class:`ifagent.errors.InvalidSettings` if that can never be. A reader
        that is slow, hostile or away is no exception, and disturbs neither the agent nor other readers.
        """
