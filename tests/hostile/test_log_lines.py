"""How much others can have the agent log, what they can have it show, and how it ends whatever hangs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from lab import Lab, ip, pair, until, veth

from ifagent.log_limit import IN_A_ROW

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(120)]

INFO = ("--log-level", "info")


def lines(lab: Lab) -> list[dict[str, object]]:
    """Return what the agent has logged."""
    return [json.loads(line) for line in (lab.folder / "agent-0.log").read_text().splitlines()]


def counted(lab: Lab) -> Counter[object]:
    return Counter(line["event"] for line in lines(lab))


def test_root_of_a_container_cannot_fill_the_log(lab: Lab) -> None:
    space = lab.space("s")
    lab.start_agent(*INFO)
    lab.put(*pair("a", "b", space), *pair("c", "d"))
    lab.until_applied("a", "b", "c", "d")
    flapping = b"link set dev a down\nlink set dev a up\n" * 100
    for _ in range(20):
        subprocess.run(["ip", "-n", space, "-batch", "-"], input=flapping, capture_output=True, check=True)
    assert max(counted(lab).values()) <= IN_A_ROW
    # What happens to others has its lines all the same.
    ip("link", "set", "dev", "c", "mtu", "1300")
    until(
        lambda: any(line["event"] == "interface drifted" and line["interface"] == "c" for line in lines(lab)),
        what=lab.logs,
    )


def test_thousands_of_junk_keys_have_a_few_lines(lab: Lab) -> None:
    lab.start_agent(*INFO)
    lab.put_raw({f"j{number}": "{" for number in range(2000)})
    lab.put(*pair("a", "b"))
    lab.until_applied("a", "b")
    assert counted(lab)["interface invalid"] <= IN_A_ROW
    assert sum(len(json.dumps(line)) for line in lines(lab)) < 50_000


def test_no_name_steers_a_terminal(lab: Lab) -> None:
    """A link's name, an alias and a key that somebody else has chosen, in everything that a person may look at."""
    space, trick = lab.space("s"), "\x1b[2J\u202e\u2028\x9b"
    agent = lab.start_agent("--log-format", "console", ready=False)
    until(lambda: agent.poll() is not None or " agent ready " in lab.logs(), what=lab.logs)
    name = b"\x1b[2J\xe2\x80\xae\xe2\x80\xa8"  # 10 bytes, what a terminal obeys and what turns text around
    lab.put(*pair("a", "b", space))
    lab.until_applied("a", "b")
    subprocess.run(["ip", "-n", space, "link", "add", name, "type", "veth", "peer", "x"], check=True)
    subprocess.run(["ip", "-n", space, "link", "set", "a", "master", name], check=False, capture_output=True)
    lab.put(
        {
            "name": "c",
            "type": 0,
            "host_if_name": "x",
            "veth": {"peer_if_name": "d"},
            "namespace": {"type": 2, "name": space},
        }
    )
    lab.put(veth("d", "c", space))
    lab.put_raw({f"bad{trick}": json.dumps({"name": f"bad{trick}", trick: trick, "mtu": trick})})
    until(lambda: any(state.startswith("bad") for state in lab.states()), what=lab.logs)
    socket = ["--socket", str(lab.folder / "0.sock")]
    shown = [
        lab.command(*words, check=False)
        for words in (
            ["states"],
            ["states", "--json"],
            ["states", "--foreign", *socket],
            ["states", "--foreign", "--json", *socket],
            ["get"],
            ["get", "--json"],
            ["get", f"bad{trick}"],
            ["wait", f"bad{trick}", "--timeout", "0.5"],
            ["delete", f"bad{trick}", f"none{trick}"],
        )
    ]
    texts = [text for done in shown for text in (done.stdout, done.stderr)]
    texts.append((lab.folder / "agent-0.log").read_text())
    texts.append(lab.etcd.ctl("get", "--prefix", lab.key("", "status")).replace(trick, ""))
    assert any("\\x1b" in text or "\\u001b" in text for text in texts), "it is shown, escaped"
    for text in texts:
        bad = {c for c in text if unicodedata.category(c)[0] in "CZ" and c not in " \n"}
        assert not bad, (bad, text[:2000])


HANGING = {
    "a thread": "threading.Thread(target=time.sleep, args=(60,), name='stuck').start()",
    "the loop": "import ifagent.cli.run as run; run.notify = lambda *_: time.sleep(60)",
    "a worker": (
        "import anyio, anyio.to_thread, ifagent.cli.run as run; before = run.run_notify\n"
        "async def stuck(_): await anyio.to_thread.run_sync(time.sleep, 60)\n"
        "run.run_notify = stuck"
    ),
}


@pytest.mark.parametrize("what", HANGING)
def test_it_ends_in_time_whatever_hangs(tmp_path: Path, what: str) -> None:
    code = f"import sys, threading, time\n{HANGING[what]}\nfrom ifagent.cli import main\nmain()"
    store, log = tmp_path / "store", tmp_path / "log"
    store.mkdir()
    place = ["--store", f"file:{store}", "--label", f"t{tmp_path.name[-20:]}", "--socket", str(tmp_path / "s")]
    with log.open("wb") as stream:
        agent = subprocess.Popen([sys.executable, "-c", code, "run", *place], stderr=stream)
    try:
        until(lambda: b" ready " in log.read_bytes(), what=log.read_text)
        started = time.monotonic()
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(20) == 0
        assert time.monotonic() - started < 3.5
        assert b"shutdown timed out, exiting without waiting" in log.read_bytes()
    finally:
        agent.kill()
        agent.wait(10)
