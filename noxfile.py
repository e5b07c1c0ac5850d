"""Everything that checks ifagent. ``nox`` alone runs what a change has to pass; ``nox -l`` lists the rest."""

from __future__ import annotations

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
    "integration",
    "docker",
    "examples",
]

CODE = ("src", "tests", "examples", "benchmarks", "noxfile.py", "protos")
PROJECT = nox.project.load_toml("pyproject.toml")


def install(session: nox.Session, *groups: str) -> None:
    """Install ifagent and dependency groups of pyproject.toml, unless an earlier run has."""
    stamp = Path(session.virtualenv.location) / "installed"
    wanted = Path("pyproject.toml").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        session.install("--quiet", "-e", ".", *nox.project.dependency_groups(PROJECT, *groups))
        stamp.write_text(wanted)


def pytest(session: nox.Session, *folders: str) -> None:
    """Run tests in an environment that all test sessions could share."""
    install(session, "test")
    session.run("pytest", *(session.posargs or folders), env={"GRPC_ENABLE_FORK_SUPPORT": "0"})


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


@nox.session
def unit(session: nox.Session) -> None:
    """Test single parts, without a kernel or a store."""
    pytest(session, "tests/unit")


@nox.session
def properties(session: nox.Session) -> None:
    """Test properties over random inputs."""
    pytest(session, "tests/properties")


@nox.session
def conformance(session: nox.Session) -> None:
    """Check the simulated and the real kernel with one suite."""
    pytest(session, "tests/conformance")


@nox.session
def integration(session: nox.Session) -> None:
    """Test the whole on the real kernel with a real etcd."""
    pytest(session, "tests/integration", "tests/chaos")


@nox.session
def docker(session: nox.Session) -> None:
    """Test with containers of a real docker daemon."""
    pytest(session, "tests/docker")


@nox.session
def systemd(session: nox.Session) -> None:
    """Test the unit in a machine with a real systemd; needs root, debootstrap and systemd-container."""
    install(session, "test")
    root = Path(session.cache_dir, "debian").resolve()
    session.run("python", "tests/debian_root.py", str(root))
    session.run("pytest", *(session.posargs or ["tests/systemd"]), env={"IFAGENT_TEST_ROOT": str(root / "root")})


@nox.session
def image(session: nox.Session) -> None:
    """Build the image without a registry and run it with a real docker; needs root, debootstrap and docker."""
    install(session, "test")
    root = Path(session.cache_dir, "debian").resolve()
    session.run("python", "tests/debian_root.py", str(root))
    session.run("pytest", *(session.posargs or ["tests/image"]), env={"IFAGENT_TEST_ROOT": str(root / "root")})


@nox.session
def examples(session: nox.Session) -> None:
    """Run every example and every piece of code in the README."""
    pytest(session, "tests/examples")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz every decoder, guided by coverage; for a minute unless ``--runs`` says otherwise."""
    install(session, "test", "fuzz")
    session.run("python", "-m", "fuzz.run", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session
def chaos(session: nox.Session) -> None:
    """Play havoc with a real agent and compare with a model: ``nox -s chaos -- --minutes 30 --seed 1``."""
    install(session, "test")
    session.run("python", "-m", "chaos", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session
def soak(session: nox.Session) -> None:
    """Keep an agent busy for 10 minutes and see that it does not grow: ``nox -s soak -- --minutes 10``."""
    install(session, "test")
    session.run("python", "-m", "chaos", "--soak", *session.posargs, env={"PYTHONPATH": "tests"})


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


@nox.session
def bench(session: nox.Session) -> None:
    """Measure: ``nox -s bench -- --help``; with ``--quick`` small, and only to find what is out of all proportion."""
    install(session, "test")
    session.run("python", "-m", "benchmarks", *session.posargs, env={"GRPC_ENABLE_FORK_SUPPORT": "0"})
