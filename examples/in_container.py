"""An interface in whatever container carries the label ``web``: docker or podman, now or later.

Start one with ``docker run --network none -e MICROSERVICE_LABEL=web ...`` while this runs.
"""

from __future__ import annotations

import asyncio
from ipaddress import ip_interface

from ifagent import Agent, Interface, NamespaceRef, NamespaceType, Settings, Veth


async def main() -> None:
    """Wait for the container, for a minute at most."""
    web = NamespaceRef(NamespaceType.MICROSERVICE, "web")
    async with Agent.open(Settings(label="example")) as agent:
        await agent.configure(
            Interface(
                name="web",
                kind=Veth(peer_if_name="host"),
                namespace=web,
                host_if_name="eth0",
                enabled=True,
                ip_addresses=(ip_interface("10.8.0.2/24"),),
            )
        )
        await agent.configure(Interface(name="host", kind=Veth(peer_if_name="web"), enabled=True))
        state = await agent.wait_for("web", timeout=60)
        print(f"{state.internal_name} in {state.namespace} has {', '.join(map(str, state.ip_addresses))}")
        await agent.resync([])


if __name__ == "__main__":
    asyncio.run(main())
