"""docker/Dockerfile, built without a registry, and run as docker/README.md says."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_engine import Box, DockerEngine, running
from lab import addresses, ip, links_of, until
from machine import ROOT

pytestmark = [pytest.mark.docker, pytest.mark.kernel, pytest.mark.timeout(300)]

PROJECT = Path(__file__).parents[2]
BASE = "python:3.12-slim"
"""The name under which the Dockerfile looks for Python; here it is Debian's own."""
AGENT = 10001
LIMIT = 200.0
"""Seconds that a docker command may take; building the image takes 40 on an idle machine."""
PAIR = """\
- {name: a, enabled: true, ip_addresses: [10.0.0.1/24], namespace: {type: 2, name: red}, veth: {peer_if_name: b}}
- {name: b, enabled: true, namespace: {type: 2, name: blue}, veth: {peer_if_name: a}}
- {name: c, ip_addresses: [10.0.1.1/24], namespace: {type: 1, microservice: web}, veth: {peer_if_name: d}}
- {name: d, enabled: true, veth: {peer_if_name: c}}
"""


class Host:
    """The host of the containers: a docker daemon in the network and mount namespace of the test run."""

    def __init__(self, engine: DockerEngine) -> None:
        self.engine = engine

    def docker(self, *words: str, given: int | None = None, check: bool = True) -> str:
        environment = os.environ | {"DOCKER_HOST": f"unix://{self.engine.socket}", "DOCKER_BUILDKIT": "0"}
        command = ["docker", *words]
        done = subprocess.run(
            command, stdin=given, capture_output=True, text=True, check=False, timeout=LIMIT, env=environment
        )
        assert not check or done.returncode == 0, f"{shlex.join(command)}: {done.stdout}{done.stderr}"
        return (done.stdout + done.stderr).strip()

    def make_image(self) -> None:
        root = os.environ[ROOT]
        config = Path(root, "etc/pip.conf")
        config.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
        try:
            tar = ["tar", "--create", f"--directory={root}", "--exclude=./opt/ifagent", "--exclude=./var/cache", "."]
            with subprocess.Popen(tar, stdout=subprocess.PIPE) as packed:
                assert packed.stdout
                self.docker("import", "-", BASE, given=packed.stdout.fileno())
        finally:
            config.unlink()
        self.docker("build", "--network=host", "-f", str(PROJECT / "docker/Dockerfile"), "-t", "ifagent", str(PROJECT))


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    if not os.environ.get(ROOT):
        missing = f"{ROOT} does not name a root; nox -s image makes one"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with running() as engine:
        one = Host(engine)
        one.make_image()
        yield one


@pytest.fixture
def store(host: Host) -> Iterator[Path]:
    """Prepare the host as the README says; yield a directory for declarations. Everything is taken away afterwards."""
    folder = Path("/run") / f"ifagent-test-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    [commands] = re.findall(r"\n    ip netns add x.*?\n\n", (PROJECT / "docker/README.md").read_text(), re.DOTALL)
    subprocess.run(["sh", "-ec", commands], check=True)
    yield folder
    host.engine.remove_all()
    for space in ip("netns", "list").splitlines():
        ip("netns", "del", space.split()[0])
    for host_name in links_of():
        ip("link", "del", "dev", host_name, check=False)
    subprocess.run(["chown", "root:root", "/run/netns"], check=True)


def started(host: Host, store: Path, *more: str, without: tuple[str, ...] = ()) -> str:
    """Run the command of the README with a store of files; return the container's id. ``more`` comes last."""
    readme = (PROJECT / "docker/README.md").read_text()
    [text] = re.findall(r"\n    (docker run .*?)\n\n", readme, re.DOTALL)
    text = text.replace("etcd://127.0.0.1:2379", "file:/store").replace(
        "/var/run/docker.sock:", f"{host.engine.socket}:"
    )
    text = text.replace("$(stat -c %g /var/run/docker.sock)", str(host.engine.socket.stat().st_gid))
    for left_out in without:
        assert left_out in text
        text = text.replace(left_out, "")
    docker, run, *options, image = shlex.split(text.replace("\\\n", " "))
    assert (docker, run, image) == ("docker", "run", "ifagent")
    options = [option for option in options if option not in {"--security-opt", "apparmor=unconfined"}]
    return host.docker("run", "--detach", "-v", f"{store}:/store", *options, *more, image)


def until_applied(host: Host, container: str, *names: str) -> None:
    def applied() -> set[str]:
        assert Box(host.engine, container).pid, host.docker("logs", container)
        said = host.docker("exec", container, "ifagent", "states", "--json", check=False)
        states = json.loads(said) if said.startswith("[") else []
        return {state["name"] for state in states if state["config_state"] == "APPLIED"}

    until(lambda: applied() >= set(names), within=30, what=lambda: host.docker("logs", container))


def status_of(host: Host, container: str) -> dict[str, str]:
    pid = Box(host.engine, container).pid
    lines = (line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {key: value.strip() for key, value in lines}


def test_it_makes_pairs_that_the_host_sees_as_another_user(host: Host, store: Path) -> None:
    web = host.engine.run("web")
    (store / "pair.yaml").write_text(PAIR)
    container = started(host, store)
    until_applied(host, container, "a", "b", "c", "d")
    assert addresses(links_of("red")["a"]) == ["10.0.0.1/24"]
    assert "b" in links_of("blue")
    assert addresses(web.links()["c"]) == ["10.0.1.1/24"]
    assert "d" in links_of()
    status = status_of(host, container)
    assert status["Uid"].split() == [str(AGENT)] * 4
    assert status["CapEff"] == status["CapPrm"] == f"{1 << 12 | 1 << 19 | 1 << 21:016x}"
    (store / "pair.yaml").unlink()
    until(lambda: not ip("netns", "list"), what=lambda: host.docker("logs", container))
    host.docker("stop", container)
    assert Box(host.engine, container).state()["ExitCode"] == 0


def test_what_is_not_given_is_told(host: Host, store: Path) -> None:
    container = started(host, store, without=("--cap-add NET_ADMIN", "--cap-add SYS_PTRACE"))
    until(lambda: not Box(host.engine, container).pid)
    assert Box(host.engine, container).state()["ExitCode"] == 2
    [line] = host.docker("logs", container).splitlines()
    assert line.startswith("ifagent: CAP_NET_ADMIN is missing")
    assert "--cap-add NET_ADMIN" in line


def test_without_new_privileges_it_says_so_and_works_as_root_with_three_capabilities(host: Host, store: Path) -> None:
    (store / "pair.yaml").write_text(PAIR)
    barred = started(host, store, "--security-opt=no-new-privileges")
    until(lambda: not Box(host.engine, barred).pid)
    named = [line.removeprefix("ifagent: ").split()[0] for line in host.docker("logs", barred).splitlines()]
    assert named == ["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]
    host.engine.remove_all()

    subprocess.run(["chown", "root:root", "/run/netns"], check=True)
    container = started(host, store, "--security-opt=no-new-privileges", "--user=0:0")
    until_applied(host, container, "a", "b")
    assert "a" in links_of("red")
    assert status_of(host, container)["CapPrm"] == f"{1 << 12 | 1 << 19 | 1 << 21:016x}"


def test_others_in_the_container_get_nothing_out_of_the_interpreter(host: Host, store: Path) -> None:
    container = started(host, store)
    until_applied(host, container)
    python = "/opt/ifagent/bin/ifagent-python"
    said = host.docker("exec", "--user=1234:1234", container, python, "-c", "print('reached')", check=False)
    assert "reached" not in said
    assert "permission denied" in said.lower()


def image_of(host: Host) -> dict[str, Any]:
    [image] = json.loads(host.docker("image", "inspect", "ifagent"))
    return dict(image["Config"])


def test_the_image_says_that_it_is_not_root(host: Host) -> None:
    assert image_of(host)["User"] == f"{AGENT}:{AGENT}"
