"""An interface in the network namespace of a process: it goes with the process, and waits for the next one."""

from __future__ import annotations

import asyncio

from ifagent import Agent, Interface, NamespaceRef, NamespaceType, Settings, Veth


async def main() -> None:
    """Start a process in a namespace of its own, give it an interface, end it."""
    process = await asyncio.create_subprocess_exec("unshare", "--net", "sleep", "60")
    inside = NamespaceRef(NamespaceType.PID, str(process.pid))
    try:
        async with Agent.open(Settings(label="example")) as agent:
            await agent.configure(Interface(name="inside", kind=Veth(peer_if_name="outside"), namespace=inside))
            await agent.configure(Interface(name="outside", kind=Veth(peer_if_name="inside"), enabled=True))
            state = await agent.wait_for("inside", timeout=5)
            print(f"in {state.namespace}: {state.internal_name} is {state.config_state}")

            process.kill()
            await process.wait()
            state = await agent.wait_for("inside", applied=False, timeout=5)
            print(f"afterwards: {state.config_state}, {state.reason}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


if __name__ == "__main__":
    asyncio.run(main())
