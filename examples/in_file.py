"""An interface in a network namespace that is mounted at a path: it waits until one is there."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from ifagent import Agent, Interface, NamespaceRef, NamespaceType, Settings, Veth


async def command(*words: str) -> None:
    """Run a command to its end."""
    process = await asyncio.create_subprocess_exec(*words)
    assert await process.wait() == 0


async def main() -> None:
    """Declare first, mount a namespace then."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "space"
        ref = NamespaceRef(NamespaceType.FILE, str(path))
        async with Agent.open(Settings(label="example")) as agent:
            await agent.configure(Interface(name="here", kind=Veth(peer_if_name="there"), enabled=True))
            state = await agent.configure(Interface(name="there", kind=Veth(peer_if_name="here"), namespace=ref))
            print(f"first: {state.config_state}")

            path.touch()
            await command("unshare", f"--net={path}", "true")
            try:
                state = await agent.wait_for("there", timeout=5)
                print(f"then: {state.config_state} in {state.namespace.type}")
            finally:
                await command("umount", str(path))


if __name__ == "__main__":
    asyncio.run(main())
