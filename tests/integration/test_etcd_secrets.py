"""No secret shows anywhere: an agent with a user, a password and a key, in good and in bad times."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from certificates import Certificates
from etcd_rights import ROOT, USER, forget_tokens, protect
from etcd_server import running
from lab import lab_in, pair, until

pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(180)]

WRONG = "geheim-wrong-1234"
TOKEN = re.compile(r"\b[A-Za-z]{16}\.\d+\b")
"""What etcd's simple tokens look like."""


def test_no_secret_is_in_logs_states_errors_or_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Certificates(tmp_path / "pki")
    mine = authority.issue("agent")
    folder = tmp_path / "etcd"
    folder.mkdir()
    for name, value in (("USER", "agent"), ("CA", authority.ca), ("CERT", mine.cert), ("KEY", mine.key)):
        monkeypatch.setenv(f"IFAGENT_ETCD_{name}", str(value))
    with running(folder, certificates=authority, asks=True) as server, lab_in(server, "secrets", tmp_path) as lab:
        protect(server, prefix="/vnf-agent/secrets/")
        monkeypatch.setenv("IFAGENT_ETCD_PASSWORD", WRONG)
        lab.start_agent(ready=False)
        until(lambda: "authentication failed" in lab.logs(), what=lab.logs)
        refused = lab.command("states", check=False)
        assert (refused.returncode, "authentication failed" in refused.stderr) == (1, True)
        lab.kill_agent(signal.SIGTERM)

        monkeypatch.setenv("IFAGENT_ETCD_PASSWORD", USER)
        agent = lab.start_agent()
        lab.put(*pair("a", "b", lab.space("l"), lab.space("r")))
        lab.until_applied("a", "b")
        forget_tokens(server)
        lab.put_raw({"broken": "{"})
        lab.until_state("broken", "INVALID")
        server.stop()
        until(lambda: "lost connection to the store" in lab.logs(), what=lab.logs)
        server.start()
        until(lambda: "reconnected to the store" in lab.logs(), what=lab.logs)
        lab.until_applied("a", "b")

        said = [lab.command(*words, check=False) for words in (["states", "--json"], ["get", "--json"], ["get"])]
        assert all(done.returncode == 0 for done in said)
        stored = server.ctl("get", "", "--prefix")
        assert "APPLIED" in stored
        key = next(line for line in mine.key.read_text().splitlines() if not line.startswith("-"))
        everything = {
            "logs": "".join(path.read_text() for path in lab.folder.glob("agent-*.log")),
            "store": stored,
            "command line": Path(f"/proc/{agent.pid}/cmdline").read_text(),
            "refused": refused.stdout + refused.stderr,
            "commands": "".join(done.stdout + done.stderr for done in said),
        }
        for where, text in everything.items():
            assert not [secret for secret in (WRONG, USER, ROOT, key) if secret in text], where
            assert not TOKEN.findall(text), where
