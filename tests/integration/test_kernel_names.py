"""Named namespaces on Linux: heard of however they come, made without trace of failure, never made by looking."""

from __future__ import annotations

import errno
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from kernel_rig import LinuxExternal, Rig

from ifagent.core.events import NamespaceSeen, NamespacesListed
from ifagent.core.link import NsId
from ifagent.core.namespace_ref import OWN_NAMESPACE, named
from ifagent.core.operations import CreateNamespace, RemoveNamespace
from ifagent.errors import NamespaceUnavailable
from ifagent.kernel.linux import LinuxKernel
from ifagent.kernel.netns import create_namespace, list_namespaces
from ifagent.nsfs import identify

pytestmark = [pytest.mark.anyio, pytest.mark.kernel]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Give the path of a directory for named namespaces, and take away what is in it afterwards."""
    path = tmp_path / "netns"
    yield path
    if path.exists():
        LinuxExternal(path).clean_up()


@pytest.fixture
def ip_name() -> Iterator[str]:
    """Give a name for a namespace that the ``ip`` command keeps, and take it away."""
    name = f"ifagent-test-{secrets.token_hex(4)}"
    yield name
    subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def running(directory: Path | str, *, mark: str | None = None) -> Rig:
    return Rig(LinuxKernel(str(directory), mark=mark), LinuxExternal(Path(directory)))


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=30).stdout


# Hearing


async def test_it_begins_with_names_and_the_own_namespace(directory: Path) -> None:
    async with running(directory) as rig:
        own = NsId(Path("/proc/self/ns/net").stat().st_ino)
        assert rig.kernel.own == own
        assert rig.events == [NamespacesListed({}), NamespaceSeen(OWN_NAMESPACE, own, "/proc/self/ns/net")]


async def test_a_namespace_of_the_ip_command_is_heard_of(ip_name: str) -> None:
    async with running("/run/netns") as rig:
        ip("netns", "add", ip_name)
        await rig.until(lambda: named(ip_name) in rig.names)
        namespace, path = rig.names[named(ip_name)]
        assert (namespace, path) == (Path(path).stat().st_ino, f"/run/netns/{ip_name}")
        ip("netns", "del", ip_name)
        await rig.until(lambda: named(ip_name) not in rig.names)


async def test_the_ip_command_finds_a_namespace_of_ours(ip_name: str) -> None:
    async with running("/run/netns") as rig:
        assert await rig.do(CreateNamespace(named(ip_name), "ifagent/x")) == 0
        assert "ifagent/x" in ip("-n", ip_name, "link", "show", "dev", "lo")
        assert ip_name in ip("netns", "list")
        assert await rig.do(RemoveNamespace(named(ip_name), rig.id(ip_name))) == 0
        assert ip_name not in ip("netns", "list")
        assert named(ip_name) not in rig.names


async def test_a_directory_that_comes_later_is_followed(directory: Path) -> None:
    external = LinuxExternal(directory)
    async with running(directory) as rig:
        for _ in range(3):
            assert not directory.exists()
            directory.mkdir()
            external.add_namespace("a")
            await rig.until(lambda: named("a") in rig.names)
            external.remove_namespace("a")
            await rig.until(lambda: named("a") not in rig.names)
            external.clean_up()
            directory.rmdir()


async def test_a_mount_alone_is_heard_of(directory: Path) -> None:
    """The directory says nothing of it, and the file may be older."""
    directory.mkdir()
    (directory / "a").touch()
    async with running(directory) as rig:
        for number in range(3):
            (directory / f"link{number}").symlink_to("/proc/self/ns/net")
            await rig.until(lambda: named(f"link{number}") in rig.names)  # noqa: B023 called at once
            subprocess.run(["unshare", f"--net={directory / 'a'}", "true"], check=True)
            await rig.until(lambda: named("a") in rig.names)
            subprocess.run(["umount", str(directory / "a")], check=True)
            await rig.until(lambda: named("a") not in rig.names)


async def test_a_symbolic_link_is_a_name(directory: Path) -> None:
    directory.mkdir()
    async with running(directory) as rig:
        (directory / "own").symlink_to("/proc/self/ns/net")
        await rig.until(lambda: named("own") in rig.names)
        assert rig.id("own") == rig.kernel.own
        (directory / "own").rename(directory / "same")
        await rig.until(lambda: rig.names.keys() == {named("same")})
        (directory / "same").unlink()
        await rig.until(lambda: not rig.names)


async def test_a_name_that_leads_elsewhere_now_is_told(directory: Path) -> None:
    directory.mkdir()
    external = LinuxExternal(directory)
    external.add_namespace("a")
    async with running(directory) as rig:
        first = rig.id("a")
        await rig.attach("a")  # keeps the first alive, so that the second is another
        external.remove_namespace("a")
        external.add_namespace("a")
        await rig.until(lambda: rig.names.get(named("a"), (first, ""))[0] != first)


async def test_what_is_no_network_namespace_has_no_name(directory: Path) -> None:
    directory.mkdir()
    (directory / "plain").touch()
    (directory / "mounts").symlink_to("/proc/self/ns/mnt")
    (directory / "nowhere").symlink_to("/nowhere")
    (directory / "folder").mkdir()
    os.mkfifo(directory / "fifo")
    async with running(directory) as rig:
        assert rig.names == {}
    (directory / "folder").rmdir()


# Making


async def test_looking_makes_nothing(directory: Path) -> None:
    async with running(directory, mark="m") as rig:
        with pytest.raises(NamespaceUnavailable):
            await rig.open(NsId(1), str(directory / "a"))
        assert await rig.do(RemoveNamespace(named("a"), NsId(1))) == errno.ENOENT
        await rig.kernel.detach(NsId(1))
    assert not directory.exists()


async def test_a_directory_is_made_and_shared_by_the_first_namespace(directory: Path) -> None:
    async with running(directory) as rig:
        assert await rig.do(CreateNamespace(named("a"), "m")) == 0
        assert await rig.do(CreateNamespace(named("b"), "m")) == 0
    assert directory.stat().st_mode & 0o777 == 0o755
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    (mount,) = (fields for fields in mounts if fields[4] == str(directory))
    assert any(field.startswith("shared:") for field in mount)


async def test_a_name_is_made_once(directory: Path) -> None:
    async with running(directory) as rig:
        assert await rig.do(CreateNamespace(named("a"), "m")) == 0
        first = rig.id("a")
        (outcome,) = await rig.execute(CreateNamespace(named("a"), "m"))
        assert (outcome.errno, "a namespace of this name" in outcome.text) == (errno.EEXIST, True)
        assert rig.id("a") == first


@pytest.mark.parametrize("content", [b"", b"ifagent other\n", b"ifagent m", b"ifagent m\n "])
async def test_a_file_of_somebody_else_is_left_alone(directory: Path, content: bytes) -> None:
    directory.mkdir()
    (directory / "a").write_bytes(content)
    async with running(directory, mark="m") as rig:
        (outcome,) = await rig.execute(CreateNamespace(named("a"), "m"))
        assert outcome.errno == errno.EEXIST
        assert str(directory / "a") in outcome.text
        assert rig.names == {}
    assert (directory / "a").read_bytes() == content
    assert identify(str(directory / "a")) is None


async def test_a_file_that_a_killed_agent_left_is_made_use_of(directory: Path) -> None:
    directory.mkdir()
    (directory / "a").write_text("ifagent m\n")
    async with running(directory) as rig:
        assert await rig.do(CreateNamespace(named("a"), "m")) == 0
        assert named("a") in rig.names


async def test_files_that_a_killed_agent_left_are_removed_at_the_start(directory: Path) -> None:
    directory.mkdir()
    (directory / "ours").write_text("ifagent m\n")
    (directory / "theirs").write_text("ifagent other\n")
    (directory / "plain").touch()
    async with running(directory) as rig:
        assert await rig.do(CreateNamespace(named("kept"), "m")) == 0
    async with running(directory, mark="m") as rig:
        assert rig.names.keys() == {named("kept")}
    assert {path.name for path in directory.iterdir()} == {"theirs", "plain", "kept"}


async def test_a_namespace_that_cannot_be_marked_leaves_nothing(directory: Path) -> None:
    async with running(directory) as rig:
        (outcome,) = await rig.execute(CreateNamespace(named("a"), "x" * 300))
        assert outcome.errno == errno.ERANGE
        assert "mark" in outcome.text
        assert rig.names == {}
    assert list(directory.iterdir()) == []


async def test_only_the_namespace_meant_is_removed(directory: Path) -> None:
    async with running(directory) as rig:
        assert await rig.do(CreateNamespace(named("a"), "m")) == 0
        assert await rig.do(RemoveNamespace(named("a"), NsId(rig.id("a") + 1))) == errno.ENOENT
        assert named("a") in rig.names


KILLED = """
import itertools, os, sys
from ifagent.kernel.netns import create_namespace, remove_namespace
from ifagent.nsfs import identify
home = os.open("/proc/self/ns/net", os.O_RDONLY)
print("ready", flush=True)
for number in itertools.count():
    name = f"n{number % 3}"
    create_namespace(sys.argv[1], name, mark="m", home=home)
    remove_namespace(sys.argv[1], name, identify(f"{sys.argv[1]}/{name}"))
"""


async def test_a_kill_at_any_moment_leaves_only_what_can_be_told(directory: Path) -> None:
    for moment in range(12):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(directory)], stdout=subprocess.PIPE)
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.003 + moment * 0.0017)
            process.kill()
        assert process.returncode == -signal.SIGKILL
        async with running(directory, mark="m") as rig:
            assert {path.name for path in directory.iterdir()} == {ref.reference for ref in rig.names}
            for ref in list(rig.names):
                await rig.attach(ref.reference)
                assert rig.link(ref.reference, "lo").alias == "m"
                assert await rig.do(RemoveNamespace(ref, rig.id(ref.reference))) == 0


async def test_without_unnamed_files_it_works_too(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def without(path: str, flags: int, mode: int = 0o777, **more: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not here")
        return real(path, flags, mode, **more)

    monkeypatch.setattr(os, "open", without)
    home = real("/proc/self/ns/net", os.O_RDONLY)
    try:
        create_namespace(str(directory), "a", mark="m", home=home)
        assert list_namespaces(str(directory)).keys() == {named("a")}
        with pytest.raises(FileExistsError):
            create_namespace(str(directory), "a", mark="m", home=home)
    finally:
        os.close(home)
