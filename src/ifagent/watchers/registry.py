"""All watchers. A new type of reference to a namespace needs a module beside this one, and a line here."""

from __future__ import annotations

from ifagent.settings import Settings
from ifagent.watchers.containers import ContainerWatcher
from ifagent.watchers.contract import NamespaceWatcher
from ifagent.watchers.paths import PathWatcher
from ifagent.watchers.processes import ProcessWatcher


def make_watchers(settings: Settings) -> tuple[NamespaceWatcher, ...]:
    """Return the watchers for the namespaces of processes, at paths and of containers."""
    return (
        ProcessWatcher(settings.proc_root),
        PathWatcher(),
        ContainerWatcher(
            settings.container_sockets, variable=settings.microservice_variable, proc_root=settings.proc_root
        ),
    )
