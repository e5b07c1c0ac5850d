"""A program's own test: the real agent on a kernel in memory, so that no rights and no clean-up are needed."""

from __future__ import annotations

import asyncio
import errno

from ifagent import Agent, ConfigState, Interface, Memory, Veth
from ifagent.core.operations import CreateLink
from ifagent.kernel.simulated import SimulatedKernel


async def main() -> None:
    """Declare a pair, have the kernel refuse once, break the link from outside."""
    kernel = SimulatedKernel()
    kernel.fail_next(CreateLink, errno.EBUSY)
    left = Interface(name="left", kind=Veth(peer_if_name="right"), enabled=True, mtu=1400)
    right = Interface(name="right", kind=Veth(peer_if_name="left"), enabled=True)

    async with Agent.open(kernel=kernel, sources=[Memory([left, right])]) as agent:
        state = agent.state("left")
        assert state is not None
        assert state.config_state is ConfigState.RETRYING
        print(f"first: {state.config_state}, {state.reason}")

        await agent.wait_for("left", timeout=5)
        assert kernel.snapshot().link(kernel.own, "left").mtu == 1400

        kernel.external.set_link(kernel.own, "left", mtu=1300)
        async for event in agent.states(name="left"):
            if event.state is not None and event.state.repairs:
                print(f"then: {event.state.config_state}, repaired: {event.state.last_drift}")
                break
        assert kernel.snapshot().link(kernel.own, "left").mtu == 1400


if __name__ == "__main__":
    asyncio.run(main())
