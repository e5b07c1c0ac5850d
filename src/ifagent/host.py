"""What the agent has to do with the host that it runs on: the kernel, the label's lock, and who sees its namespaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ifagent.core.index import Index
from ifagent.core.link import NsId
from ifagent.core.ownership import Owner
from ifagent.host_lock import HostLock
from ifagent.kernel.contract import Kernel
from ifagent.mounts import seclusion
from ifagent.nsfs import identify
from ifagent.settings import Settings
from ifagent.watchers.contract import NamespaceWatcher

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Host:
    """``kernel`` and ``watchers`` tell what there is.

    ``lock`` keeps a second agent of the same label out, ``first_process`` is the namespace of process 1; neither is
    there with a kernel of the caller's. ``secluded`` says why nobody else sees the named namespaces that the agent
    makes, empty if they are seen.
    """

    kernel: Kernel
    watchers: tuple[NamespaceWatcher, ...]
    lock: HostLock | None = None
    first_process: NsId | None = None
    secluded: str = ""

    @classmethod
    def real(cls, settings: Settings, watchers: Sequence[NamespaceWatcher] | None = None) -> Host:
        """Return the host that the program runs on."""
        from ifagent.kernel.linux import LinuxKernel
        from ifagent.watchers.registry import make_watchers

        netns_dir, proc_root = str(settings.netns_dir), str(settings.proc_root)
        return cls(
            kernel=LinuxKernel(netns_dir=netns_dir, mark=Owner(settings.label).namespace_mark),
            watchers=tuple(make_watchers(settings) if watchers is None else watchers),
            lock=HostLock(settings.label),
            first_process=identify(f"{proc_root}/1/ns/net"),
            secluded="" if settings.private_mounts else seclusion(netns_dir, proc_root),
        )

    def owner(self, label: str) -> Owner:
        """Return whose marks the agent of this label puts on links; they hold until the next boot."""
        return Owner(label, _BOOT_ID.read_bytes() + str(self.kernel.own).encode())

    def tell(self, index: Index) -> None:
        """Tell an index what it has to know of the host."""
        if self.first_process is not None:
            index.host.namespaces |= {self.first_process}
        index.secluded = self.secluded

    def take_label(self) -> None:
        """Lock the label, unless it is locked already. Raises :class:`ifagent.errors.LabelTaken`."""
        if self.lock is not None:
            self.lock.take()

    def release_label(self) -> None:
        """Unlock the label."""
        if self.lock is not None:
            self.lock.release()
