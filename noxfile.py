"""Everything that checks ifagent. ``nox`` alone runs what a change has to pass; ``nox -l`` lists the rest."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = [
    "lint",
    "types",
    "protos",
    "unit",
    "properties",
    "conformance",
    "kernels",
    "integration",
    "hostile",
    "docker",
    "examples",
    "proportions",
    "coverage",
]

CODE = (".ci", "src", "tests", "examples", "benchmarks", "noxfile.py", "protos")
PROJECT = nox.project.load_toml("pyproject.toml")

TEST_ENVIRONMENT = Path(".nox/test").resolve()
"""What the sessions with tests share: to make it for each takes as long as many of their tests."""


MEASURED = Path(".nox/coverage").resolve()
"""What sessions have measured of what they cover."""

ONCE_MORE = ("--reruns", "1", "-rR")
"""For tests of real processes that wait for each other: one that fails may do so once, and is listed as RERUN."""


def install(session: nox.Session, *groups: str) -> None:
    """Install ifagent and dependency groups of pyproject.toml, unless an earlier run has."""
    with made_once(Path(session.virtualenv.location)) as missing:
        if missing:
            session.install("--quiet", "-e", ".", *nox.project.dependency_groups(PROJECT, *groups))


def run_tests(session: nox.Session, *command: str, **env: str) -> None:
    """Run a command of the environment that all sessions with tests share."""
    programs = TEST_ENVIRONMENT / "bin"
    with made_once(TEST_ENVIRONMENT) as missing:
        if missing:
            session.run(sys.executable, "-m", "virtualenv", "--quiet", str(TEST_ENVIRONMENT), external=True)
            wanted = ("-e", ".", *nox.project.dependency_groups(PROJECT, "test"))
            session.run(str(programs / "python"), "-m", "pip", "install", "--quiet", *wanted, external=True)
    env |= {"GRPC_ENABLE_FORK_SUPPORT": "0", "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    session.run(str(programs / command[0]), *command[1:], env=env, external=True)


@contextmanager
def made_once(environment: Path) -> Iterator[bool]:
    """Tell whether an environment has yet to be made as pyproject.toml says; note that it was afterwards."""
    stamp, wanted = environment / "installed", Path("pyproject.toml").read_text()
    missing = not stamp.exists() or stamp.read_text() != wanted
    yield missing
    if missing:
        stamp.write_text(wanted)


def pytest(session: nox.Session, *arguments: str, measured: bool = False, **env: str) -> None:
    """Run tests; what they cover is ``measured`` where the environment asks for it."""
    run_tests(session, *runner(env, measured=measured), *(session.posargs or arguments), **env)


def runner(env: dict[str, str], *, measured: bool) -> tuple[str, ...]:
    """Return the command that runs tests; what it needs is added to ``env``."""
    if not (measured and os.environ.get("IFAGENT_COVERAGE")):
        return ("pytest",)
    MEASURED.mkdir(parents=True, exist_ok=True)
    MEASURED.chmod(0o777)  # agents of tests run as other users too
    env["COVERAGE_FILE"] = str(MEASURED / "data")
    return ("coverage", "run", "-m", "pytest")


def pytest_side_by_side(session: nox.Session, *options: str, folders: tuple[str, ...], measured: bool = False) -> None:
    """Run the test files of some folders in several processes at a time, or what is asked for in one."""
    if session.posargs:
        pytest(session, *options, measured=measured)
        return
    env: dict[str, str] = {}
    command = (*runner(env, measured=measured), "-q", *options)
    run_tests(session, "python", "tests/side_by_side.py", *command, "--", *folders, **env)


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, lint rules and the direction of imports."""
    install(session, "lint")
    session.run("ruff", "format", "--check", *CODE)
    session.run("ruff", "check", *CODE)
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check types inside, and the completeness of the public interface's types."""
    install(session, "types")
    session.run("mypy")
    # Not as an editable install: what counts is what a user's type checker finds.
    session.install("--quiet", "--force-reinstall", "--no-deps", ".")
    session.run("basedpyright", "--verifytypes", "ifagent", "--ignoreexternal")


@nox.session
def protos(session: nox.Session) -> None:
    """Generate the messages anew and compare them with what is committed."""
    install(session, "protos")
    session.run("python", "protos/generate.py", "--check")


@nox.session(venv_backend="none")
def unit(session: nox.Session) -> None:
    """Test single parts, without a kernel or a store."""
    pytest_side_by_side(session, folders=("tests/unit",), measured=True)


@nox.session(venv_backend="none")
def properties(session: nox.Session) -> None:
    """Test properties over random inputs."""
    pytest_side_by_side(session, folders=("tests/properties",), measured=True)


@nox.session(venv_backend="none")
def conformance(session: nox.Session) -> None:
    """Check the simulated and the real kernel with one suite, and each kind of link on both."""
    pytest(session, "tests/conformance", "tests/kinds", measured=True)


@nox.session(venv_backend="none")
def integration(session: nox.Session) -> None:
    """Test the whole on the real kernel with a real etcd."""
    pytest_side_by_side(session, *ONCE_MORE, folders=("tests/integration", "tests/chaos"), measured=True)


@nox.session(venv_backend="none")
def hostile(session: nox.Session) -> None:
    """Attack a real agent from every side that docs/threat-model.md names."""
    pytest_side_by_side(session, *ONCE_MORE, folders=("tests/hostile",))


@nox.session(venv_backend="none")
def docker(session: nox.Session) -> None:
    """Test with containers of a real docker daemon."""
    pytest(session, "tests/docker")


@nox.session(venv_backend="none")
def coverage(session: nox.Session) -> None:
    """Tell what of each module the sessions before covered: ``IFAGENT_COVERAGE=1 nox -s unit properties coverage``."""
    if not any(MEASURED.glob("data.*")):
        session.skip("no session has measured what it covers: set IFAGENT_COVERAGE=1")
    env = {"COVERAGE_FILE": str(MEASURED / "data")}
    run_tests(session, "coverage", "combine", "--quiet", **env)
    run_tests(session, "coverage", "report", "--skip-covered", "--sort=cover", **env)
    shutil.rmtree(MEASURED)


@nox.session(venv_backend="none")
def systemd(session: nox.Session) -> None:
    """Test the unit in a machine with a real systemd; needs root, debootstrap and systemd-container."""
    root = Path(session.cache_dir, "debian").resolve()
    run_tests(session, "python", "tests/debian_root.py", str(root))
    pytest(session, "tests/systemd", IFAGENT_TEST_ROOT=str(root / "root"))


@nox.session(venv_backend="none")
def kernels(session: nox.Session) -> None:
    """Test on the kernels of three Debian releases what is likely to differ; ``-- --all`` takes half an hour."""
    folder = Path(session.cache_dir, "kernels").resolve()
    run_tests(session, "python", "tests/kernels.py", str(folder), *session.posargs, IFAGENT_CRASH_RUNS="1")


@nox.session(venv_backend="none")
def fresh(session: nox.Session) -> None:
    """Run ``make demo`` and ``make test`` on Debian machines that have nothing; needs root and debootstrap."""
    folder = Path(session.cache_dir, "fresh").resolve()
    run_tests(session, "python", "tests/fresh.py", str(folder), *session.posargs)


@nox.session(venv_backend="none")
def image(session: nox.Session) -> None:
    """Build the image without a registry and run it with a real docker; needs root, debootstrap and docker."""
    root = Path(session.cache_dir, "debian").resolve()
    run_tests(session, "python", "tests/debian_root.py", str(root))
    pytest(session, "tests/image", IFAGENT_TEST_ROOT=str(root / "root"))


@nox.session(venv_backend="none")
def examples(session: nox.Session) -> None:
    """Run every example and every piece of code in the README."""
    pytest(session, "tests/examples")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz every decoder, guided by coverage; for a minute unless ``--runs`` says otherwise."""
    install(session, "test", "fuzz")
    session.run("python", "-m", "fuzz.run", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(venv_backend="none")
def chaos(session: nox.Session) -> None:
    """Play havoc with a real agent and compare with a model: ``nox -s chaos -- --minutes 30 --seed 1``."""
    run_tests(session, "python", "-m", "chaos", *session.posargs, PYTHONPATH="tests")


@nox.session(venv_backend="none")
def soak(session: nox.Session) -> None:
    """Keep an agent busy for 10 minutes and see that it does not grow: ``nox -s soak -- --minutes 10``."""
    run_tests(session, "python", "-m", "chaos", "--soak", *session.posargs, PYTHONPATH="tests")


@nox.session
def package(session: nox.Session) -> None:
    """Build the wheel, install it alone and run its command."""
    dist = Path(session.create_tmp()) / "dist"
    session.install("--quiet", "build>=1.2,<2")
    session.run("python", "-m", "build", "--wheel", "--outdir", str(dist), silent=True)
    session.install("--quiet", "--force-reinstall", "--no-deps", *map(str, dist.glob("*.whl")))
    session.install("--quiet", *PROJECT["project"]["dependencies"])
    session.run("ifagent", "--help", silent=True)
    session.run("python", "-c", "import ifagent, importlib.resources as r; assert r.files('ifagent') / 'py.typed'")


@nox.session(venv_backend="none")
def proportions(session: nox.Session) -> None:
    """Measure a little, and fail when one thing is out of all proportion to another; no time is judged."""
    run_tests(session, "python", "-m", "benchmarks", "--quick", *session.posargs)


@nox.session(venv_backend="none")
def bench(session: nox.Session) -> None:
    """Measure everything, for some 20 minutes: ``nox -s bench -- --help``."""
    run_tests(session, "python", "-m", "benchmarks", *session.posargs)
