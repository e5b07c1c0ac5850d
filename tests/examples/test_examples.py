"""Every example runs, and prints what its reader is told to expect."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = {
    "dry_run.py": "create veth a in named:ns1",
    "embedded.py": "configured: db is APPLIED as eth0",
    "simulated.py": "repaired: mtu is 1300, wanted 1400",
}


def run(*words: str, **options: object) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_every_example_is_tried() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == EXAMPLES.keys()


@pytest.mark.kernel
@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str) -> None:
    assert EXAMPLES[name] in run(sys.executable, str(ROOT / "examples" / name))


def readme_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.kernel
@pytest.mark.parametrize("number", range(len(readme_blocks("python"))))
def test_python_in_the_readme(number: int, tmp_path: Path) -> None:
    script = tmp_path / "readme.py"
    script.write_text(readme_blocks("python")[number])
    run(sys.executable, str(script), cwd=tmp_path)


@pytest.mark.kernel
@pytest.mark.etcd
def test_the_service_in_the_readme(tmp_path: Path) -> None:
    """Run the shell session of the README with a real etcd, command by command as it stands there."""
    from etcd_server import running

    (session,) = readme_blocks("console")
    with running(tmp_path) as etcd:
        commands = [line.removeprefix("$ ") for line in session.splitlines() if line.startswith("$ ")]
        script = "\n".join(
            [
                "set -e",
                f"export PATH={Path(sys.executable).parent}:$PATH ETCDCTL_API=3",
                *(c.replace("127.0.0.1:2379", f"127.0.0.1:{etcd.port}") for c in commands),
                "kill %1; wait %1",
            ]
        )
        printed = run("bash", "-c", f"set -m; {script}", cwd=tmp_path)
    for line in session.splitlines():
        if line and not line.startswith("$ "):
            assert line.strip() in printed.replace("\r", ""), printed


@pytest.mark.kernel
def test_the_demo(tmp_path: Path) -> None:
    printed = run(sys.executable, "-m", "ifagent", "demo", cwd=tmp_path)
    assert "answer after" in printed
    assert "broken and healed in" in printed
    assert "at the same ifindex" in printed
