"""The unit of packaging/systemd in a real systemd."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from machine import Machine, a_machine

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(180)]

PROJECT = Path(__file__).parents[2]
STORE = Path("etc/ifagent/store")
PAIR = """\
- {name: a, enabled: true, ip_addresses: [10.0.0.1/24], namespace: {type: 2, name: red}, veth: {peer_if_name: b}}
- {name: b, enabled: true, namespace: {type: 2, name: blue}, veth: {peer_if_name: a}}
"""


@pytest.fixture
def machine() -> Iterator[Machine]:
    with a_machine() as one:
        yield one


def install(machine: Machine) -> None:
    """Do what docs/operations.md says, and declare a pair in a file."""
    section = (PROJECT / "docs/operations.md").read_text().split("\n## systemd\n", 1)[1].split("\n## ", 1)[0]
    lines = section.split("```console\n", 1)[1].split("```", 1)[0].splitlines()
    commands = [line.removeprefix("# ") for line in lines if "pip install" not in line]
    assert commands[-1] == "systemctl enable --now ifagent"
    shutil.copytree(PROJECT / "packaging", machine.root / "packaging")
    (machine.root / STORE).mkdir(parents=True)
    (machine.root / "etc/ifagent/environment").write_text(f"IFAGENT_STORE=file:/{STORE}\n")
    (machine.root / STORE / "pair.yaml").write_text(PAIR)
    machine.boot()
    machine.run("sh", "-ec", "\n".join(commands))


def show(machine: Machine, name: str) -> str:
    return machine.run("systemctl", "show", "--value", f"--property={name}", "ifagent")


def links(machine: Machine, space: str) -> dict[str, dict[str, Any]]:
    text = machine.run("ip", "-n", space, "-j", "addr", check=False)
    return {link["ifname"]: link for link in json.loads(text or "[]")}


def status_of(machine: Machine, pid: str) -> dict[str, str]:
    lines = machine.run("cat", f"/proc/{pid}/status").splitlines()
    return {key: value.strip() for key, value in (line.split(":", 1) for line in lines)}


def test_it_starts_makes_a_pair_ends_and_starts_again(machine: Machine) -> None:
    install(machine)
    assert (show(machine, "ActiveState"), show(machine, "SubState")) == ("active", "running")
    machine.until(lambda: show(machine, "StatusText") == "2 applied")
    a = links(machine, "red")["a"]
    assert a["addr_info"][0]["local"] == "10.0.0.1"
    assert machine.run("stat", "--format=%U %G %a", "/run/netns") == "root ifagent 1775"
    assert machine.run("stat", "--format=%U %G %a", "/run/ifagent/vpp1.sock") == "ifagent ifagent 660"
    assert machine.run("stat", "--format=%U %G %a", "/run/ifagent") == "ifagent ifagent 750"

    first = show(machine, "MainPID")
    status = status_of(machine, first)
    assert status["Uid"].split() == [machine.run("id", "-u", "ifagent")] * 4
    assert status["CapEff"] == status["CapPrm"] == status["CapBnd"] == f"{1 << 12 | 1 << 19 | 1 << 21:016x}"
    assert status["CapAmb"] == status["CapInh"] == "0" * 16
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")

    machine.run("systemctl", "stop", "ifagent")
    assert (show(machine, "ActiveState"), show(machine, "Result")) == ("inactive", "success")
    assert show(machine, "ExecMainStatus") == "0"
    assert links(machine, "red")["a"] == a, "the links stay"

    (machine.root / STORE / "pair.yaml").write_text(PAIR.replace("10.0.0.1", "10.0.0.2"))
    machine.run("systemctl", "start", "ifagent")
    machine.run("systemctl", "restart", "ifagent")
    assert show(machine, "MainPID") not in {"0", first}
    after = links(machine, "red")["a"]
    assert (after["ifindex"], after["addr_info"][0]["local"]) == (a["ifindex"], "10.0.0.2")
    (machine.root / STORE / "pair.yaml").unlink()
    machine.until(lambda: not machine.run("ip", "netns", "list"))


def test_one_that_hangs_is_started_again_by_the_watchdog(machine: Machine) -> None:
    drop_in = machine.root / "etc/systemd/system/ifagent.service.d/quick.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\nWatchdogSec=2\n")
    install(machine)
    pid = show(machine, "MainPID")
    ifindex = links(machine, "red")["a"]["ifindex"]
    machine.run("systemctl", "kill", "--signal=STOP", "ifagent")
    machine.until(lambda: show(machine, "MainPID") not in {"0", pid} and show(machine, "ActiveState") == "active")
    assert show(machine, "NRestarts") == "1"
    assert "Watchdog timeout" in machine.journal()
    assert links(machine, "red")["a"]["ifindex"] == ifindex


def test_members_of_its_group_may_ask_and_others_may_not(machine: Machine) -> None:
    install(machine)
    for user, groups in (("member", "ifagent"), ("stranger", "nogroup")):
        machine.run("useradd", "--groups", groups, user)
    ask = ("setpriv", "--init-groups", "--reset-env")
    states = ("/opt/ifagent/bin/ifagent", "states", "--store", f"file:/{STORE}", "--json")
    told = machine.run(*ask, "--reuid=member", "--regid=member", *states)
    assert [state["name"] for state in json.loads(told)] == ["a", "b"]
    told = machine.run("sh", "-c", '"$@" 2>&1 || true', "sh", *ask, "--reuid=stranger", "--regid=stranger", *states)
    assert "permission denied" in told


def test_an_etcd_is_heard_in_the_sandbox(machine: Machine) -> None:
    program = shutil.which("etcd")
    assert program
    shutil.copy(program, machine.root / "usr/local/bin/etcd")
    (machine.root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    unit = machine.root / "etc/systemd/system/etcd.service"
    unit.write_text("[Service]\nType=notify\nExecStart=/usr/local/bin/etcd --data-dir /var/lib/etcd\n")
    (machine.root / "etc/systemd/system/multi-user.target.wants/etcd.service").symlink_to("../etcd.service")
    environment = machine.root / "etc/ifagent/environment"
    install(machine)
    environment.write_text("IFAGENT_STORE=etcd://127.0.0.1:2379\n")
    (machine.root / STORE / "in.yaml").write_text(PAIR.replace("red", "green"))
    machine.run("systemctl", "restart", "ifagent")
    machine.run("/opt/ifagent/bin/ifagent", "apply", "--wait=20", f"/{STORE}/in.yaml")
    assert "a" in links(machine, "green")
    assert machine.run("stat", "--format=%U %a", "/var/lib/ifagent") == "ifagent 700"


def test_without_named_namespaces_it_has_a_file_system_of_its_own(machine: Machine) -> None:
    drop_in = machine.root / "etc/systemd/system/ifagent.service.d/no-named-namespaces.conf"
    drop_in.parent.mkdir(parents=True)
    shutil.copy(PROJECT / "packaging/systemd/no-named-namespaces.conf", drop_in)
    install(machine)
    machine.until(lambda: show(machine, "StatusText") == "2 invalid")
    sleep = ("systemd-run", "--quiet", "--property=PrivateNetwork=yes", "--unit=other", "sleep", "600")
    machine.run(*sleep)
    pid = machine.run("systemctl", "show", "--value", "--property=MainPID", "other")
    text = PAIR.replace("{type: 2, name: red}", f"{{type: 0, pid: {pid}}}").replace("{type: 2, name: blue}", "{}")
    (machine.root / STORE / "pair.yaml").write_text(text)
    machine.until(lambda: show(machine, "StatusText") == "2 applied")
    assert "a" in json.dumps(machine.run("nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-br", "link"))
    own, first = (machine.run("readlink", f"/proc/{one}/ns/mnt") for one in (show(machine, "MainPID"), "1"))
    assert own != first


def test_what_systemd_says_of_its_security_is_what_the_document_says(machine: Machine) -> None:
    install(machine)
    said = machine.run("systemd-analyze", "security", "--no-pager", "ifagent.service").splitlines()[-1]
    score = re.search(r"exposure level for ifagent.service: ([\d.]+) (\w+)", said)
    assert score
    document = (PROJECT / "docs/reliability.md").read_text().split("\n## Privilege\n", 1)[1]
    assert f"Overall exposure level for ifagent.service: {score[1]} {score[2]}" in document
    version = machine.run("systemd-analyze", "--version").split()[1]
    assert f"systemd {version}" in document, "other versions may say something else"
