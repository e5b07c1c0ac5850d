"""More notifications than the receive buffer holds, from hundreds of flapping links, while the agent is busy."""

from __future__ import annotations

import errno
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from kernel_rig import LinuxExternal

from ifagent import Agent, ConfigState, Interface, InterfaceState, Settings, Veth, named
from ifagent.core.state import Change
from ifagent.kernel.linux import LinuxKernel
from ifagent.kernel.listeners import Listener

pytestmark = [pytest.mark.anyio, pytest.mark.kernel, pytest.mark.timeout(180)]

SPACES = 5
PAIRS = 250


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "netns"
    path.mkdir()
    yield path
    LinuxExternal(path).clean_up()


def ends(number: int) -> list[Interface]:
    """Declare the pair ``a<number>`` and ``b<number>`` between two namespaces."""
    return [
        Interface(
            name=f"{mine}{number}",
            kind=Veth(peer_if_name=f"{other}{number}"),
            namespace=named(f"s{(number + shift) % SPACES}"),
            enabled=True,
            mtu=1400,
        )
        for shift, mine, other in ((0, "a", "b"), (1, "b", "a"))
    ]


def start_batch(directory: Path, space: str, lines: list[str]) -> subprocess.Popen[str]:
    """Have ``ip`` carry out many commands in one namespace, meanwhile."""
    command = ["nsenter", f"--net={directory / space}", "ip", "-force", "-batch", "-"]
    batch = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
    assert batch.stdin is not None
    batch.stdin.write("\n".join(lines) + "\n")
    batch.stdin.close()
    return batch


def all_right(directory: Path) -> bool:
    """Tell whether the kernel has every link as declared."""
    for space in range(SPACES):
        command = ["nsenter", f"--net={directory / f's{space}'}", "ip", "-o", "link", "show", "type", "veth"]
        links = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        assert len(links) == 2 * PAIRS // SPACES
        if not all("mtu 1400" in link and "LOWER_UP" in link for link in links):
            return False
    return True


async def test_500_flapping_links_and_a_tiny_buffer(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overruns = 0
    gather = Listener.gather

    def counted(listener: Listener, buffer: Sequence[memoryview], seconds: float, most: float) -> bool:
        nonlocal overruns
        try:
            return gather(listener, buffer, seconds, most)
        except OSError as error:
            overruns += error.errno == errno.ENOBUFS
            raise

    monkeypatch.setattr(Listener, "gather", counted)
    wanted = [end for number in range(PAIRS) for end in ends(number)]
    told: dict[str, InterfaceState] = {}

    kernel = LinuxKernel(str(directory), receive_buffer=4096)
    async with Agent.open(Settings(label="overrun"), kernel=kernel) as agent, anyio.create_task_group() as group:

        async def subscribe() -> None:
            async for event in agent.states():
                if event.event is Change.DELETED:
                    del told[event.name]
                elif event.state is not None:
                    told[event.name] = event.state

        def applied(states: dict[str, InterfaceState]) -> bool:
            return len(states) == 2 * PAIRS and all(
                (state.config_state, state.mtu) == (ConfigState.APPLIED, 1400) for state in states.values()
            )

        group.start_soon(subscribe)
        await agent.resync(wanted)
        with anyio.fail_after(60):
            while not applied(told):
                await anyio.sleep(0.02)

        before = overruns
        batches = [
            start_batch(
                directory,
                f"s{space}",
                [
                    f"link set dev {'ab'[shift]}{number} {state}"
                    for state in ("down", "mtu 1300", "up", "down", "up", "mtu 1350", "down")
                    for shift in (0, 1)
                    for number in range(PAIRS)
                    if (number + shift) % SPACES == space
                ],
            )
            for space in range(SPACES)
        ]
        while any(batch.poll() is None for batch in batches):
            time.sleep(0.05)  # the loop is busy: nothing is read meanwhile
            await anyio.sleep(0.005)
        assert [batch.returncode for batch in batches] == [0] * SPACES
        assert overruns > before

        with anyio.fail_after(90):
            while not await to_thread.run_sync(all_right, directory):
                await anyio.sleep(0.1)
            while not (applied(told) and told == agent.current_states()):
                await anyio.sleep(0.05)
        group.cancel_scope.cancel()
