"""Another program's TAP becomes a declared interface, and is given back as it was."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
from ipaddress import ip_interface

from ifagent import Agent, AutoTap, Interface, Settings, named

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 2, 0x1000


async def main() -> None:
    """Declare first; make the TAP, as a hypervisor or a VPP would, then."""
    async with Agent.open(Settings(label="example")) as agent:
        state = await agent.configure(
            Interface(
                name="vm",
                kind=AutoTap(temp_if_name="vm-tap"),
                namespace=named("example-vm"),
                host_if_name="eth0",
                enabled=True,
                ip_addresses=(ip_interface("10.9.0.1/24"),),
            )
        )
        print(f"first: {state.config_state}, {state.reason}")
        device = os.open("/dev/net/tun", os.O_RDWR)
        try:
            fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"vm-tap", IFF_TAP | IFF_NO_PI))
            state = await agent.wait_for("vm", timeout=5)
            print(f"then: {state.config_state} as {state.internal_name} in {state.namespace}")
            await agent.delete("vm")
        finally:
            os.close(device)


if __name__ == "__main__":
    asyncio.run(main())
