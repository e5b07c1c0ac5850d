"""Microservices: interfaces follow containers, from etcd into the namespace of whatever container has the label."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from docker_engine import Box, DockerEngine
from lab import Lab, addresses, ip, until, veth

pytest_plugins = ["docker_fixtures", "etcd_fixtures", "lab_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(120)]


def within(value: dict[str, Any], label: str) -> dict[str, Any]:
    return value | {"namespace": {"type": 1, "microservice": label}}


def start(lab: Lab, docker: DockerEngine) -> Lab:
    lab.start_agent("--container-socket", str(docker.socket))
    return lab


@pytest.fixture
def running(lab: Lab, docker: DockerEngine) -> Lab:
    return start(lab, docker)


def until_inside(lab: Lab, box: Box, host_name: str = "a") -> dict[str, Any]:
    return until(lambda: box.links().get(host_name, {}), what=lab.logs)


def test_a_container_before_and_after_its_interfaces(running: Lab, docker: DockerEngine) -> None:
    space = running.space("s")
    running.put(within(veth("a", "b", mtu=1400, ip_addresses=["10.0.0.1/24"]), "web"), veth("b", "a", space))
    state = running.until_state("a", "PENDING")
    assert state["missing"] == ["namespace microservice:web"]
    until(lambda: "no container with this label runs" in running.state("a")["reason"])
    web = docker.run("web")
    running.until_applied("a", "b")
    assert addresses(web.links()["a"]) == ["10.0.0.1/24"]
    early = docker.run("early")
    running.put(within(veth("c", "d"), "early"), veth("d", "c", space))
    running.until_applied("c", "d")
    assert "c" in early.links()


@pytest.mark.parametrize("end", ["stop", "kill", "restart", "replace", "run_out_of_memory"])
def test_a_container_that_ends_and_comes_back(running: Lab, docker: DockerEngine, end: str) -> None:
    space = running.space("s")
    running.put(within(veth("a", "b", ip_addresses=["10.0.0.1/24"]), "web"), veth("b", "a", space))
    web = docker.run("web", memory=32 << 20 if end == "run_out_of_memory" else 0)
    running.until_applied("a", "b")
    before = running.link("b", space)["ifindex"]
    match end:
        case "restart":
            web.restart()
        case "replace":
            web.remove()
            web = docker.run("web")
        case _:
            getattr(web, end)()
            running.until_state("a", "PENDING")
            until(lambda: not running.links(space), what=running.logs)
            web.start()
    until(lambda: running.link("b", space).get("ifindex", before) != before, what=running.logs)
    running.until_applied("a", "b")
    assert web.links().keys() >= {"a"}
    assert addresses(web.links()["a"]) == ["10.0.0.1/24"]
    created = [line for line in running.logs().splitlines() if '"create veth' in line]
    assert len(created) == 2, "made more than once for one coming"


@pytest.mark.parametrize("order", [("left", "right"), ("right", "left")])
def test_both_ends_in_containers_in_any_order(running: Lab, docker: DockerEngine, order: tuple[str, str]) -> None:
    running.put(
        within(veth("a", "b", ip_addresses=["10.0.0.1/24"]), "left"),
        within(veth("b", "a", ip_addresses=["10.0.0.2/24"]), "right"),
    )
    boxes = {label: docker.run(label) for label in order}
    running.until_applied("a", "b")
    assert "a" in boxes["left"].links()
    assert "b" in boxes["right"].links()
    reached = ["ping", "-c1", "-W1", "10.0.0.2"]
    until(
        lambda: subprocess.run(["nsenter", "-t", str(boxes["left"].pid), "-n", *reached], check=False).returncode == 0
    )


def test_the_daemon_is_killed_and_comes_back_or_comes_only_later(lab: Lab, own_docker: DockerEngine) -> None:
    space = lab.space("s")
    start(lab, own_docker)
    lab.put(within(veth("a", "b"), "web"), veth("b", "a", space))
    until(lambda: "cannot reach the container engine" in lab.state("a").get("reason", ""), what=lambda: lab.state("a"))
    own_docker.start()
    box = own_docker.run("web")
    lab.until_applied("a", "b")
    own_docker.kill()
    own_docker.start()
    box.start()
    until(lambda: lab.state("a").get("config_state") == "APPLIED" and "a" in box.links(), within=20, what=lab.logs)


def test_a_tap_goes_into_a_container(running: Lab, docker: DockerEngine) -> None:
    ip("tuntap", "add", "dev", "tap-made", "mode", "tap")
    value = {"name": "t", "type": 1, "enabled": True, "tap": {"temp_if_name": "tap-made"}, "host_if_name": "eth7"}
    running.put(within(value, "web"))
    running.until_state("t", "PENDING")
    web = docker.run("web")
    running.until_applied("t")
    assert until_inside(running, web, "eth7")
    running.delete("t")
    until(lambda: running.link("tap-made"), what=running.logs)


def test_the_label_may_be_a_label_and_the_variable_another(lab: Lab, docker: DockerEngine) -> None:
    space = lab.space("s")
    lab.start_agent("--container-socket", str(docker.socket), "--microservice-variable", "SERVICE")
    lab.put(within(veth("a", "b"), "one"), within(veth("b", "a"), "two"), veth("x", "y", space))
    one = docker.run("one", variable="SERVICE")
    two = docker.run(labels={"ifagent.microservice": "two"})
    lab.until_applied("a", "b")
    assert "a" in one.links()
    assert "b" in two.links()
    assert json.dumps(lab.state("a")["namespace"]).count("microservice") == 1
