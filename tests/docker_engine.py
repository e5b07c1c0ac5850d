"""A real docker daemon for tests, and its containers.

The daemon is private: its data, its sockets and its control group are its own, it makes no bridge and no firewall
rules, and it shares nothing with a daemon of the machine. Everything that it starts is in the control group, by
which everything is found and ended. Its API is spoken here without the client, over plain ``http.client``.

The fixtures are in ``docker_fixtures``.
"""

from __future__ import annotations

import ctypes
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

READY = 20.0
"""Seconds within which the daemon must answer."""

IMAGE = "ifagent-test"
"""The image of every container: busybox, and nothing else."""

_MNT_DETACH = 2
_ENDS_WHEN_TOLD = "trap 'exit 0' TERM; sleep 1000000 & wait"
_EATS_MEMORY_WHEN_TOLD = "trap 'x=0123456789; while :; do x=$x$x; done' USR1; " + _ENDS_WHEN_TOLD

_libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """The daemon answered with an error."""


class DockerEngine:
    """One docker daemon; blocks, so use a thread inside a coroutine.

    ``live_restore`` says whether containers live on while the daemon is away; set it before a start.
    """

    def __init__(self, *, live_restore: bool = False) -> None:
        self.live_restore = live_restore
        # Not pytest's: the path of a unix socket has at most 107 bytes, and the daemon makes longer ones in here.
        self.folder = Path(tempfile.mkdtemp(prefix="ifagent-docker-"))
        self.socket = self.folder / "docker.sock"
        self._group = f"ifagent-test-{uuid.uuid4().hex[:8]}"
        self._hierarchies = _hierarchies()
        # Each of them has every process; this one is there in version 1, and is left alone by everybody.
        ours = next((h for h in self._hierarchies if h.name == "pids"), self._hierarchies[0])
        self._processes = ours / self._group
        self._environment: dict[str, str] = {}
        self._daemon: subprocess.Popen[bytes] | None = None

    # The daemon

    def start(self) -> None:
        """Start the daemon, and wait until it answers."""
        group = self._processes / "daemon"
        group.mkdir(parents=True, exist_ok=True)
        command = self._command()
        with (self.folder / "log").open("ab") as log:
            self._daemon = subprocess.Popen(
                # Into the control group first, so that whatever the daemon starts is there as well.
                ["/bin/sh", "-c", 'echo $$ >"$0" && exec "$@"', str(group / "cgroup.procs"), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={key: value for key, value in os.environ.items() if not key.startswith(("DOCKER", "CONTAINER"))}
                | self._environment,
            )
        _until(self._answers, within=READY, what=self.log)
        if not self._ask("GET", "/images/json"):
            self._ask("POST", f"/images/create?fromSrc=-&repo={IMAGE}", body=_image())

    def _command(self) -> list[str]:
        """Return the command that is the daemon."""
        (self.folder / "daemon.json").write_text("{}")
        # Left by a daemon that was killed, it would name the number of another process one day.
        (self.folder / "exec/containerd/containerd.pid").unlink(missing_ok=True)
        return [
            *("dockerd", "--host", f"unix://{self.socket}", "--pidfile", str(self.folder / "dockerd.pid")),
            *("--data-root", str(self.folder / "data"), "--exec-root", str(self.folder / "exec")),
            *("--config-file", str(self.folder / "daemon.json"), "--cgroup-parent", f"/{self._group}"),
            *("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"),
            *("--ip-masq=false", "--userland-proxy=false", "--storage-driver=overlay2"),
            f"--live-restore={str(self.live_restore).lower()}",
        ]

    def stop(self) -> None:
        """End the daemon as it is meant to be; containers end with it, unless ``live_restore`` is set."""
        if self._daemon:
            self._daemon.terminate()
            self._wait()

    def kill(self) -> None:
        """Kill the daemon with its containerd; containers go on, and the socket's file stays."""
        if self._daemon:
            self._daemon.kill()
            self._wait()

    def pause(self) -> None:
        """Let the daemon do nothing any more; connections to it stay, and new ones can be made."""
        assert self._daemon
        self._daemon.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the daemon go on."""
        assert self._daemon
        self._daemon.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """Return the end of the daemon's log."""
        path = self.folder / "log"
        return path.read_text()[-3000:] if path.exists() else ""

    def _wait(self) -> None:
        assert self._daemon
        try:
            self._daemon.wait(READY)
        finally:
            self._daemon.kill()
            self._daemon.wait()
            self._daemon = None
            # A containerd that outlived its daemon is in the next one's way. The shims must be left alone.
            for pid in self._pids():
                if _command(pid) == "containerd":
                    _kill(pid)
                    _until(lambda pid=pid: pid not in self._pids())  # type: ignore[misc]  # as an early binding

    def _answers(self) -> bool:
        assert self._daemon
        if self._daemon.poll() is not None:
            raise Refused(f"dockerd ended: {self.log()}")
        try:
            return bool(self._ask("GET", "/_ping") == "OK")
        except OSError:
            return False

    # Containers

    def run(
        self,
        label: str = "",
        *,
        variable: str = "MICROSERVICE_LABEL",
        environment: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        memory: int = 0,
        restart: str = "no",
        network: str = "none",
    ) -> Box:
        """Start a container with ``label`` in its environment.

        ``environment`` is more of that, as ``NAME=value``; ``labels`` are docker's. ``memory`` is a limit in bytes,
        needed for :meth:`Box.run_out_of_memory`. ``restart`` is docker's restart policy, such as ``always``.
        """
        box = self.create(
            label,
            variable=variable,
            environment=environment,
            labels=labels,
            memory=memory,
            restart=restart,
            network=network,
        )
        box.start()
        return box

    def create(
        self,
        label: str = "",
        *,
        variable: str = "MICROSERVICE_LABEL",
        environment: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        memory: int = 0,
        restart: str = "no",
        network: str = "none",
    ) -> Box:
        """Make a container as :meth:`run` does, without starting it."""
        value = {
            "Image": IMAGE,
            "Cmd": ["/bin/sh", "-c", _EATS_MEMORY_WHEN_TOLD if memory else _ENDS_WHEN_TOLD],
            "Env": [*([f"{variable}={label}"] if label else []), *environment],
            "Labels": dict(labels or {}),
            "HostConfig": {
                "NetworkMode": network,
                "CgroupParent": f"/{self._group}",
                "Memory": memory,
                "MemorySwap": memory,
                "RestartPolicy": {"Name": restart},
            },
        }
        return Box(self, self._ask("POST", "/containers/create", body=json.dumps(value).encode())["Id"])

    def remove_all(self) -> None:
        """Remove every container, running or not."""
        for entry in self._ask("GET", "/containers/json?all=1"):
            Box(self, entry["Id"]).remove()

    def _ask(self, method: str, path: str, *, body: bytes = b"") -> Any:
        """Ask the API; return the decoded answer, text if it is not JSON, or ``None`` if it is empty."""
        connection = _UnixConnection(self.socket)
        try:
            kind = "application/x-tar" if path.startswith("/images/create") else "application/json"
            connection.request(method, path, body=body, headers={"Content-Type": kind})
            answer = connection.getresponse()
            text = answer.read().decode()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()
        if answer.status >= 400:
            raise Refused(f"{method} {path}: {answer.status} {text}")
        if answer.headers.get("Content-Type", "").startswith("application/json") and "/images/create" not in path:
            return json.loads(text or "null")
        return text or None

    # The end

    def clean_up(self) -> None:
        """End everything that was started, and take away everything that was made, whatever state it is in."""
        deadline = time.monotonic() + READY
        while pids := self._pids():
            for pid in pids:
                _kill(pid)
            assert time.monotonic() < deadline, f"cannot be killed: {[(pid, _command(pid)) for pid in pids]}"
            time.sleep(0.005)
        if self._daemon:
            self._daemon.wait(READY)
            self._daemon = None
        for mount in reversed(_mounts_below(self.folder)):
            _libc.umount2(os.fsencode(mount), _MNT_DETACH)
        shutil.rmtree(self.folder)
        for hierarchy in self._hierarchies:
            for group in sorted((hierarchy / self._group).rglob("*/"), reverse=True):
                _until(lambda group=group: _remove_group(group))  # type: ignore[misc]  # as an early binding
            _until(lambda hierarchy=hierarchy: _remove_group(hierarchy / self._group))  # type: ignore[misc]  # likewise

    def _pids(self) -> list[int]:
        """Return every process that the daemon and its containers consist of."""
        found = []
        for path in self._processes.rglob("cgroup.procs"):
            try:
                found += [int(line) for line in path.read_text().split()]
            except OSError:
                continue
        return found


class PodmanEngine(DockerEngine):
    """One podman service, which answers as docker does; only what the tests of podman need works."""

    def _command(self) -> list[str]:
        settings = self.folder / "containers.conf"
        # Podman would raise the limits of its containers, which takes more than the rights of root in a sandbox.
        settings.write_text('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n')
        self._environment = {"CONTAINERS_CONF": str(settings)}
        return [
            *("podman", "--root", str(self.folder / "data"), "--runroot", str(self.folder / "exec")),
            *("--tmpdir", str(self.folder / "tmp"), "--cgroup-manager=cgroupfs", "--events-backend=file"),
            *("--runtime=runc", "--storage-driver=vfs", "system", "service", "--time=0", f"unix://{self.socket}"),
        ]


class Box:
    """One container."""

    def __init__(self, engine: DockerEngine, id: str) -> None:
        self.engine = engine
        self.id = id

    def start(self) -> None:
        """Start it, again if it has ended."""
        self._do("start")

    def stop(self) -> None:
        """Have it end by itself (SIGTERM)."""
        self._do("stop", t=5)

    def kill(self) -> None:
        """Kill it."""
        self._do("kill")

    def restart(self) -> None:
        """Do what ``docker restart -t 0`` does; returns when it runs again, as another process."""
        self._do("restart", t=0)

    def run_out_of_memory(self) -> None:
        """Have it use more memory than it may; returns when the kernel has killed it."""
        self._do("kill", signal="USR1")
        _until(lambda: self.state()["OOMKilled"] and not self.state()["Running"])

    def pause(self) -> None:
        """Freeze it."""
        self._do("pause")

    def unpause(self) -> None:
        """Let it go on."""
        self._do("unpause")

    def remove(self) -> None:
        """Remove it, even if it runs."""
        self.engine._ask("DELETE", f"/containers/{self.id}?force=1&v=1")

    def execute(self, *command: str) -> None:
        """Have it run one more command, without waiting for its end."""
        made = self.engine._ask("POST", f"/containers/{self.id}/exec", body=json.dumps({"Cmd": command}).encode())
        self.engine._ask("POST", f"/exec/{made['Id']}/start", body=b'{"Detach": true}')

    def state(self) -> dict[str, Any]:
        """Return ``State`` as docker tells it."""
        return dict(self.engine._ask("GET", f"/containers/{self.id}/json")["State"])

    @property
    def pid(self) -> int:
        """The number of its first process, 0 if it does not run."""
        return int(self.state()["Pid"])

    @property
    def path(self) -> str:
        """Where its network namespace can be opened while it runs."""
        return f"/proc/{self.pid}/ns/net"

    @property
    def namespace(self) -> int:
        """The inode number of its network namespace."""
        return Path(self.path).stat().st_ino

    def ip(self, *words: str) -> str:
        """Run ``ip`` in its network namespace, and return what it prints."""
        command = ["nsenter", f"--net={self.path}", "ip", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout

    def links(self) -> dict[str, dict[str, Any]]:
        """Return the links in it by host name, without the loopback, as ``ip -j -d addr`` tells them."""
        listed = json.loads(self.ip("-j", "-d", "addr") or "[]")
        return {link["ifname"]: link for link in listed if link.get("ifname", "lo") != "lo"}

    def _do(self, what: str, **query: object) -> None:
        self.engine._ask("POST", f"/containers/{quote(self.id)}/{what}?{urlencode(query)}")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP on a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _image() -> bytes:
    """Return the file system of the one image, as a tar archive."""
    busybox = shutil.which("busybox")
    assert busybox
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(os.path.realpath(busybox), "bin/busybox")
        for name in ("sh", "sleep"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    return buffer.getvalue()


def _hierarchies() -> list[Path]:
    """Return where control groups are mounted: once for version 2, several times for version 1."""
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(target) for _, target, kind, *_ in lines if kind in {"cgroup", "cgroup2"}]


def _mounts_below(folder: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [target for line in lines if (target := line.split()[4]).startswith(f"{folder}/")]


def _remove_group(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _until(condition: Callable[[], Any], *, within: float = 10.0, what: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"waited {within} s in vain {what()}"
        time.sleep(0.01)


def _why_not() -> str:
    """Say why a container engine cannot be had here, empty if it can."""
    if not shutil.which("busybox"):
        return "busybox is not installed: apt-get install busybox-static"
    if os.getuid() or Path("/proc/self/uid_map").read_text().split() != ["0", "0", str(2**32 - 1)]:
        return "a container engine needs root"
    if not any(os.access(hierarchy, os.W_OK) for hierarchy in _hierarchies()):
        return "a container engine needs to make control groups"
    return ""


@contextmanager
def running(*, start: bool = True) -> Iterator[DockerEngine]:
    """Have a docker daemon, and take everything away after it. Skips the test without one, but fails it in CI."""
    missing = _why_not() if shutil.which("dockerd") else "docker is not installed: apt-get install docker.io"
    if missing:
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with _cleaned_up(DockerEngine(), start=start) as engine:
        yield engine


@contextmanager
def running_podman() -> Iterator[DockerEngine]:
    """Have podman, and take everything away after it. Skips the test where there is none."""
    missing = _why_not() if shutil.which("podman") and shutil.which("runc") else "podman with runc is not installed"
    if missing:
        pytest.skip(missing)
    with _cleaned_up(PodmanEngine(), start=True) as engine:
        yield engine


@contextmanager
def _cleaned_up(engine: DockerEngine, *, start: bool) -> Iterator[DockerEngine]:
    try:
        if start:
            engine.start()
        yield engine
    finally:
        engine.clean_up()
