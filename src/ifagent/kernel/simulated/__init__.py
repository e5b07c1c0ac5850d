"""A strict kernel in memory: implements :class:`ifagent.kernel.contract.Kernel` like Linux, without privileges.

For tests, of ifagent and of programs that embed it::

    kernel = SimulatedKernel()
    kernel.external.add_namespace("ns1")                    # what another program does
    kernel.fail_next(CreateLink, errno.EBUSY)              # what goes wrong
    ...                                                    # run an agent on it
    assert kernel.snapshot().link("ns1", "eth0").mtu == 1400

Its modules: ``kernel`` implements the contract, ``checks`` rejects operations that the contract forbids, ``executor``
executes the others, ``world`` has the rules for namespaces and links, ``link_settings`` those for what is set on
links, ``addresses`` those for their addresses, and ``external`` is what other programs do.
"""

from ifagent.kernel.simulated.external import ExternalChanges
from ifagent.kernel.simulated.kernel import Match, SimulatedKernel
from ifagent.kernel.simulated.snapshot import KernelSnapshot
from ifagent.kernel.simulated.world import Where

__all__ = ["ExternalChanges", "KernelSnapshot", "Match", "SimulatedKernel", "Where"]
