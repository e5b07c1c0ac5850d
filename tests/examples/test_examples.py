"""Every example runs, and prints what its reader is told to expect."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from docker_engine import DockerEngine
from etcd_server import running

pytest_plugins = ["docker_fixtures"]

ROOT = Path(__file__).parents[2]
EXAMPLES = {
    "adopt_tap.py": "then: APPLIED as eth0 in named:example-vm",
    "dry_run.py": "create veth a in named:ns1",
    "embedded.py": "configured: db is APPLIED as eth0",
    "in_container.py": "eth0 in microservice:web has 10.8.0.2/24",
    "in_file.py": "then: APPLIED in file",
    "in_process.py": "afterwards: PENDING",
    "simulated.py": "repaired: mtu is 1300, wanted 1400",
}


def run(*words: str, **options: object) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_every_example_is_tried() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == EXAMPLES.keys()


@pytest.mark.kernel
@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - {"in_container.py"}))
def test_example(name: str) -> None:
    assert EXAMPLES[name] in run(sys.executable, str(ROOT / "examples" / name))


@pytest.mark.kernel
def test_the_example_with_a_container(docker: DockerEngine) -> None:
    docker.run("web")
    environment = {**os.environ, "DOCKER_HOST": f"unix://{docker.socket}"}
    printed = run(sys.executable, str(ROOT / "examples" / "in_container.py"), env=environment)
    assert EXAMPLES["in_container.py"] in printed


def readme_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.kernel
@pytest.mark.etcd
def test_the_readme(tmp_path: Path) -> None:
    """Run the README's code as it stands there, the service first, with a real etcd."""
    (session,) = readme_blocks("console")
    embedded, subscriber = readme_blocks("python")
    shutil.copy(ROOT / "examples" / "pair.yaml", tmp_path)
    with running(tmp_path) as etcd:
        for name, text in (("embedded.py", embedded), ("subscriber.py", subscriber)):
            (tmp_path / name).write_text(text.replace("127.0.0.1:2379", f"127.0.0.1:{etcd.port}"))
        lines = session.splitlines()
        commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        commands.insert(-1, f"{sys.executable} subscriber.py")
        script = ["set -em", f"export PATH={Path(sys.executable).parent}:$PATH", *commands, "kill %1", "wait %1"]
        text = "\n".join(script).replace("127.0.0.1:2379", f"127.0.0.1:{etcd.port}")
        printed = run("bash", "-c", text, cwd=tmp_path)
    for line in lines:
        assert line.startswith("$ ") or line in printed, printed
    assert "snapshot web APPLIED" in printed
    assert "10.0.0.1/24" in printed
    assert "APPLIED b" in run(sys.executable, str(tmp_path / "embedded.py"))


@pytest.mark.kernel
def test_the_demo(tmp_path: Path) -> None:
    printed = run(sys.executable, "-m", "ifagent", "demo", cwd=tmp_path)
    assert "answer after" in printed
    assert "drifted and repaired in" in printed
    assert "at the same ifindex" in printed
