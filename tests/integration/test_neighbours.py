"""Another agent, and another program that manages links, on the same machine: neither disturbs the other."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from etcd_server import EtcdServer
from lab import Lab, addresses, ip, lab_in, pair, until, veth

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(120)]


@pytest.fixture
def neighbour(etcd: EtcdServer, label: str, tmp_path: Path) -> Iterator[Lab]:
    """Another agent's lab."""
    folder = tmp_path / "neighbour"
    folder.mkdir()
    with lab_in(etcd, f"{label}-2", folder) as one:
        yield one


@contextmanager
def undisturbed(*spaces: str) -> Iterator[None]:
    """See that nothing happens to links and addresses of namespaces, once the kernel has tried their addresses."""
    until(lambda: not any("tentative" in ip("-n", space, "address") for space in spaces))
    watching = [
        subprocess.Popen(["ip", "-n", space, "-o", "monitor", "link", "address"], stdout=subprocess.PIPE, text=True)
        for space in spaces
    ]
    heard = []
    try:
        yield
    finally:
        for one in watching:
            one.terminate()
            heard.append(one.communicate(timeout=5)[0])
    assert not any(heard), heard


def repairs(lab: Lab) -> int:
    """Return how often the agent had to put something right that was so."""
    return sum(state["repairs"] for state in lab.states().values())


def test_an_agent_that_works_and_one_that_is_killed_again_and_again(lab: Lab, neighbour: Lab) -> None:
    """Both have the same names, each in its own namespace, and links of both are in a third one."""
    mine, theirs, both = lab.space("mine"), neighbour.space("theirs"), lab.space("both")
    lab.put(*pair("a", "b", mine, mine, ip_addresses=["10.0.0.1/24"]), *pair("c", "d", mine, both))
    neighbour.put(*pair("a", "b", theirs, theirs), *pair("c", "x", theirs, both))
    lab.start_agent()
    lab.until_applied("a", "b", "c", "d")
    neighbour.start_agent()
    neighbour.until_applied("a", "b", "c", "x")
    before, index = lab.links(mine), neighbour.link("a", theirs)["ifindex"]
    with undisturbed(mine):
        for mtu in (1301, 1302):
            neighbour.put(*pair("a", "b", theirs, theirs, mtu=mtu), *pair(f"e{mtu}", f"f{mtu}", theirs, both))
            lab.kill_agent()
            lab.start_agent()
            neighbour.until_applied("a", "b", f"e{mtu}", f"f{mtu}")
            neighbour.until_state("b", "APPLIED", mtu=mtu)
            assert neighbour.link("b", theirs)["mtu"] == mtu
            lab.until_applied("a", "b", "c", "d")
    assert lab.links(mine) == before
    assert neighbour.link("a", theirs)["ifindex"] == index
    assert lab.links(both).keys() == {"d", "x", "f1301", "f1302"}

    with undisturbed(theirs):
        lab.delete("a", "b", "c", "d")
        until(lambda: mine not in lab.spaces(), what=lab.logs)
    assert lab.links(both).keys() == {"x", "f1301", "f1302"}, "a namespace goes only with the last link"
    assert (repairs(lab), repairs(neighbour)) == (0, 0)
    neighbour.etcd.ctl("del", "--prefix", neighbour.key(""))
    until(lambda: not lab.spaces() and not neighbour.spaces(), what=neighbour.logs)


ANOTHER_TOOL = """
for i in $(seq 1 $3); do
    ip -n $1 link add x$i type veth peer name y$i
    ip -n $1 address add 10.77.$i.1/24 dev x$i
    ip -n $1 link set dev y$i netns $2
    ip -n $1 link set dev x$i up
    ip -n $2 link set dev y$i address 02:77:00:00:00:$(printf %02x $i) up
    ip -n $1 link set dev x$i down
    ip -n $1 link set dev x$i name z$i
    ip -n $1 address add 10.78.$i.1/24 dev z$i
    ip -n $1 address del 10.77.$i.1/24 dev z$i
    if [ $((i % 2)) = 0 ]; then ip -n $2 link del dev y$i; fi
done
"""


def test_a_tool_that_manages_its_own_links_in_the_same_namespaces(lab: Lab) -> None:
    left, right, rounds = lab.space("l"), lab.space("r"), 24
    lab.put(veth("a", "b", left, ip_addresses=["10.0.0.1/24", "2001:db8::1/64"]), veth("b", "a", right))
    lab.start_agent()
    lab.until_applied("a", "b")
    index = lab.link("a", left)["ifindex"]
    tool = subprocess.Popen(
        ["sh", "-ec", ANOTHER_TOOL, "sh", left, right, str(rounds)], stderr=subprocess.PIPE, text=True
    )

    def follows(mtu: int, text: list[str]) -> bool:
        links = lab.links(left)
        return addresses(links["a"]) == text and links["a"]["mtu"] == links.get("e", {}).get("mtu") == mtu

    changes = 0
    try:
        while tool.poll() is None or changes < 6:
            mtu = 1300 + changes % 100
            text = [f"10.0.{changes % 100}.1/24", "2001:db8::1/64"]
            lab.put(veth("a", "b", left, mtu=mtu, ip_addresses=text), *pair("e", "f", left, right, mtu=mtu))
            until(partial(follows, mtu, text), what=lab.logs)
            lab.delete("e", "f")
            changes += 1
    finally:
        tool.kill()
        _, complaints = tool.communicate(timeout=5)
    assert (tool.returncode, complaints) == (0, "")
    lab.until_applied("a", "b")
    until(lambda: not lab.link("e", left), what=lab.logs)
    assert lab.link("a", left)["ifindex"] == index
    assert repairs(lab) == 0
    kept = range(1, rounds + 1, 2)
    assert lab.links(left).keys() == {"a", *(f"z{i}" for i in kept)}
    assert lab.links(right).keys() == {"b", *(f"y{i}" for i in kept)}
    for i in kept:
        assert addresses(lab.link(f"z{i}", left)) == [f"10.78.{i}.1/24"]
        assert lab.link(f"y{i}", right)["address"] == f"02:77:00:00:00:{i:02x}"
        assert not json.loads(ip("-n", left, "-j", "link", "show", "dev", f"z{i}"))[0].get("ifalias")
