"""An agent inside another asyncio program: one task changes interfaces, another follows their states.

Needs the right to make network namespaces. To try it without: ``unshare -Urnm sh -c 'mount -t tmpfs t /run &&
python examples/embedded.py'``.
"""

from __future__ import annotations

import asyncio
from ipaddress import ip_interface

from ifagent import Agent, Change, Interface, Settings, Veth, named


def cable(name: str, peer: str, space: str, address: str) -> Interface:
    """Declare one end of a cable between two namespaces."""
    return Interface(
        name=name,
        kind=Veth(peer_if_name=peer),
        namespace=named(space),
        host_if_name="eth0",
        enabled=True,
        ip_addresses=(ip_interface(address),),
    )


async def change_interfaces(agent: Agent) -> None:
    """Make a cable, change one end of it, take it away again."""
    await agent.configure(cable("web", "db", "example-web", "10.7.0.1/24"))
    state = await agent.configure(cable("db", "web", "example-db", "10.7.0.2/24"))
    print(f"configured: db is {state.config_state} as {state.internal_name}, ifindex {state.if_index}")

    state = await agent.modify("web", mtu=9000)
    print(f"modified: web has mtu {state.mtu} at ifindex {state.if_index}")

    await agent.delete("web")
    await agent.delete("db")


async def follow_states(agent: Agent) -> None:
    """Print what happens until both ends are gone."""
    gone = set()
    async for event in agent.states():
        state = event.state
        if state is None:
            print(f"  {event.seq}: missed {event.missed} intermediate states")
            continue
        print(f"  {event.seq}: {event.name} {event.event}: {state.config_state} {state.reason}")
        if event.event is Change.DELETED:
            gone.add(event.name)
        if gone == {"web", "db"}:
            return


async def main() -> None:
    """Run the agent beside the program's own tasks."""
    async with asyncio.TaskGroup() as group:
        agent = Agent(Settings(label="example"))
        running = group.create_task(agent.run())
        await agent.wait_ready()
        follower = group.create_task(follow_states(agent))
        await group.create_task(change_interfaces(agent))
        await follower
        running.cancel()


if __name__ == "__main__":
    asyncio.run(main())
