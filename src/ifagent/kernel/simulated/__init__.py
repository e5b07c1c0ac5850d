"""A strict kernel in memory: keeps :class:`ifagent.kernel.contract.Kernel` as Linux does, and needs no rights.

For tests, of ifagent and of whoever embeds it::

    kernel = SimulatedKernel()
    kernel.outside.add_namespace("ns1")                    # what somebody else does
    kernel.fail_next(CreateLink, errno.EBUSY)              # what goes wrong
    ...                                                    # run an agent on it
    assert kernel.snapshot().link("ns1", "eth0").mtu == 1400

Its parts: ``kernel`` keeps the contract, ``world`` has the rules for namespaces and links, ``addresses`` those for
addresses, ``outside`` is what others do, ``checks`` is the strictness.
"""

from ifagent.kernel.simulated.kernel import Match, SimulatedKernel, Snapshot
from ifagent.kernel.simulated.outside import Outside
from ifagent.kernel.simulated.world import Where

__all__ = ["Match", "Outside", "SimulatedKernel", "Snapshot", "Where"]
