"""The store of files: what is put and deleted is in the files, and nothing else in them changes."""

from __future__ import annotations

import json
import os
import stat
from ipaddress import ip_interface
from pathlib import Path

import anyio
import pytest
from linux import MAY_GIVE_FILES_AWAY

from ifagent.client import open_store
from ifagent.core.interface import Interface
from ifagent.core.kinds import AutoTap, BridgePort, Veth
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType, named
from ifagent.errors import BrokenFile, InvalidSettings, SourceLost
from ifagent.formats.interface_files import read_interfaces, read_stored_text
from ifagent.formats.kinds import FORMS
from ifagent.formats.ligato_v1 import FIELDS, encode
from ifagent.stores.files.backend import file_path
from ifagent.stores.files.edit import edit
from ifagent.stores.files.store import FileStore

pytestmark = pytest.mark.anyio


def veth(name: str, **fields: object) -> Interface:
    return Interface(name=name, kind=Veth(peer_if_name="peer"), **fields)  # type: ignore[arg-type]


def store(path: Path) -> FileStore:
    return FileStore(path, socket=path.parent / "none.sock")


async def declared(path: Path) -> dict[str, Interface | None]:
    return {name: one.interface for name, one in (await store(path).declarations()).items()}


YAML_FILE = """\
# The laboratory.
x-common: &common
  enabled: true

interfaces:
  # the uplink
  - name: up      # do not rename
    <<: *common
    type: VETH
    hostIfName: "eth0"
    ip_addresses: [10.0.0.1/24]
    veth: {peer_if_name: peer}

  - name: other
    mtu: 0x5dc
    note: ours
    veth:
      peer_if_name: peer
"""


def test_a_change_in_yaml_leaves_everything_else(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    addresses = (ip_interface("10.0.0.2/24"), ip_interface("fd00::1/64"))
    new = veth("up", enabled=True, host_if_name="eth1", ip_addresses=addresses)
    changed = edit(path, YAML_FILE, puts={"up": new})
    assert changed == YAML_FILE.replace("eth0", "eth1").replace("[10.0.0.1/24]", "[10.0.0.2/24, fd00::1/64]")


def test_a_put_of_what_is_there_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(YAML_FILE)
    entries = read_interfaces(tmp_path / "a.yaml").entries
    puts = {e.declaration.key.name: e.declaration.interface for e in entries if e.declaration.interface}
    assert len(puts) == 2
    assert edit(tmp_path / "a.yaml", YAML_FILE, puts=puts) == YAML_FILE


def test_a_field_that_is_taken_away(tmp_path: Path) -> None:
    changed = edit(tmp_path / "a.yaml", YAML_FILE, puts={"other": veth("other")})
    assert changed == YAML_FILE.replace("    mtu: 0x5dc\n", "")


def test_a_field_that_a_merged_key_gives(tmp_path: Path) -> None:
    new = veth("up", host_if_name="eth0")
    changed = edit(tmp_path / "a.yaml", YAML_FILE, puts={"up": new})
    (tmp_path / "a.yaml").write_text(changed)
    entries = read_interfaces(tmp_path / "a.yaml").entries
    assert entries[0].declaration.interface == new
    assert "note: ours" in changed


def test_an_alias_does_not_carry_the_change_to_others(tmp_path: Path) -> None:
    text = "- &a {name: a, veth: {peer_if_name: peer}, namespace: &n {type: 2, name: ns1}}\n"
    text += "- {name: b, veth: {peer_if_name: peer}, namespace: *n}\n"
    path = tmp_path / "a.yaml"
    path.write_text(edit(path, text, puts={"a": veth("a", namespace=named("ns2"))}))
    namespaces = [
        str(e.declaration.interface.namespace) for e in read_interfaces(path).entries if e.declaration.interface
    ]
    assert namespaces == ["named:ns2", "named:ns1"]


def test_an_interface_with_errors_can_be_put_right(tmp_path: Path) -> None:
    text = "name: a   # mine\nmtu: 5\nip_addresses: 7\nveth: {peer_if_name: x}\n"
    changed = edit(tmp_path / "a.yaml", text, puts={"a": veth("a", mtu=1400)})
    assert changed == "name: a   # mine\nmtu: 1400\nveth: {peer_if_name: peer}\n"


def test_every_field_is_known_here() -> None:
    full = [
        veth(
            "a",
            description="d",
            enabled=True,
            ip_addresses=("10.0.0.1/24",),
            phys_address="02:00:00:00:00:01",
            mtu=1500,
            host_if_name="h",
            namespace=NamespaceRef(NamespaceType.PID, "7"),
            link_only=True,
            vrf_master_interface="red",
            master_if_name="red",
            bridge_port=BridgePort(hairpin=True),
        ),
        Interface(name="t", kind=AutoTap(temp_if_name="x")),
    ]
    own = {form.v1_field for form in FORMS.values()}
    assert {key for interface in full for key in json.loads(encode(interface))} >= set(FIELDS) - own


@pytest.mark.parametrize("name", ["a.yaml", "a.json"])
@pytest.mark.parametrize(
    "document",
    [
        {"name": "a", "veth": {"peer_if_name": "peer"}},
        [{"name": "a", "veth": {"peer_if_name": "peer"}}],
        {"interfaces": [{"name": "a", "veth": {"peer_if_name": "peer"}}]},
        {"interfaces": None},
        [],
        None,
    ],
)
async def test_one_file_of_any_shape(tmp_path: Path, name: str, document: object) -> None:
    path = tmp_path / name
    if document is not None:
        path.write_text(json.dumps(document))
    one = store(path)
    await one.put([veth("a", mtu=1400), veth("b"), veth("c")])
    assert await declared(path) == {"a": veth("a", mtu=1400), "b": veth("b"), "c": veth("c")}
    assert await one.delete(["a", "nobody"]) == {"a"}
    assert await one.delete(["b", "c"]) == {"b", "c"}
    assert path.exists(), "the file is the store, without it nothing is said"
    assert await declared(path) == {}
    await one.put([veth("z")])
    assert await declared(path) == {"z": veth("z")}


async def test_in_a_directory_it_is_replaced_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "etc"
    one = store(path)
    assert await declared(path) == {}
    await one.put([veth("new")])
    assert [file.name for file in path.iterdir()] == ["new.json"]
    (path / "lab.yaml").write_text(YAML_FILE)
    (path / "lab.yaml").chmod(0o640)
    await one.put([veth("other", mtu=1300), veth("more")])
    assert sorted(file.name for file in path.iterdir()) == ["lab.yaml", "more.json", "new.json"]
    assert stat.S_IMODE((path / "lab.yaml").stat().st_mode) == 0o640
    assert (await declared(path))["other"] == veth("other", mtu=1300)
    assert "# the uplink" in (path / "lab.yaml").read_text()
    assert await one.delete(["new", "up"]) == {"new", "up"}
    assert sorted(file.name for file in path.iterdir()) == ["lab.yaml", "more.json"]
    assert await one.delete(["other"]) == {"other"}
    assert sorted(file.name for file in path.iterdir()) == ["more.json"]


async def test_what_is_declared_twice_is_changed_where_it_counts_and_deleted_everywhere(tmp_path: Path) -> None:
    for name in ("1.json", "2.json"):
        (tmp_path / name).write_text(json.dumps([json.loads(encode(veth("a"))), json.loads(encode(veth(name[0])))]))
    await store(tmp_path).put([veth("a", mtu=1400)])
    assert (await declared(tmp_path))["a"] == veth("a", mtu=1400)
    assert "1400" not in (tmp_path / "2.json").read_text()
    await store(tmp_path).delete(["a"])
    assert set(await declared(tmp_path)) == {"1", "2"}


async def test_one_put_is_one_revision_and_a_later_one_is_greater(tmp_path: Path) -> None:
    one = store(tmp_path)
    revisions = [await one.put([veth("a"), veth("b", mtu=1400 + number)]) for number in range(3)]
    assert revisions == sorted(set(revisions))
    assert {d.revision for d in (await one.declarations()).values()} == {revisions[-1]}
    assert await one.put([]) == 0
    assert await one.put([veth("a")]) > revisions[-1], "putting what is there already is a new revision too"


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "%", "ü x", "-rf", "a" * 128, "é" * 64])
async def test_names_make_safe_file_names(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "d"
    interface = veth(name, host_if_name="eth0")
    await store(directory).put([interface])
    [file] = directory.iterdir()
    assert file.suffix == ".json"
    assert await declared(directory) == {name: interface}
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


async def test_a_file_name_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(encode(veth("b")).decode())
    await store(tmp_path).put([veth("a")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-2.json", "a.json"]


async def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text("[]")
    (tmp_path / "link.yaml").symlink_to("real.yaml")
    await store(tmp_path / "link.yaml").put([veth("a")])
    assert (tmp_path / "link.yaml").is_symlink()
    assert await declared(tmp_path / "real.yaml") == {"a": veth("a")}


async def test_a_broken_file_stops_writers_not_readers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await store(tmp_path).put([veth("a")])
    (tmp_path / "bad.yaml").write_text("{")
    before = (tmp_path / "a.json").read_text()
    for attempt in (store(tmp_path).put([veth("a", mtu=1400), veth("b")]), store(tmp_path).delete(["a"])):
        with pytest.raises(BrokenFile, match=r"bad\.yaml: line 1"):
            await attempt
    assert (tmp_path / "a.json").read_text() == before
    assert not (tmp_path / "b.json").exists()
    assert await declared(tmp_path) == {"a": veth("a")}
    assert "bad.yaml" in caplog.text


async def test_what_the_file_system_refuses_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SourceLost, match=r"^file:.*: Not a directory|File exists"):
        await store(tmp_path / "file" / "sub").put([veth("a")])
    assert await store(tmp_path / "none").delete(["a"]) == frozenset()


async def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.json"

    async def put(number: int) -> None:
        await store(path).put([veth(f"i{number}")])

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(put, number)
    assert set(await declared(path)) == {f"i{number}" for number in range(20)}


async def test_no_temporary_file_is_left_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await store(tmp_path).put([veth("a")])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ifagent.stores.files.store.os.fsync", full)
    with pytest.raises(SourceLost, match="No space left on device"):
        await store(tmp_path).put([veth("a", mtu=1400), veth("b")])
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert await declared(tmp_path) == {"a": veth("a")}


@pytest.mark.parametrize(
    ("url", "path"),
    [("file:a/b", "a/b"), ("file:/a", "/a"), ("file:///a/b", "/a/b"), ("file://localhost/a", "/a")],
)
def test_file_urls(url: str, path: str) -> None:
    assert file_path(url) == Path(path)


@pytest.mark.parametrize("url", ["file:", "file://host/a", "http://x", "", "etcd:1", "etcd://a@b", "/etc/x", "file:\0"])
def test_what_is_no_store(url: str) -> None:
    with pytest.raises(InvalidSettings):
        open_store(url, label="l", socket="/nowhere")


def test_stores() -> None:
    assert isinstance(open_store("file:/x", label="l", socket="/s"), FileStore)
    assert type(open_store("etcd://127.0.0.1", label="l", socket="/s")).__name__ == "EtcdStore"


def test_a_pipe_or_a_device_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").symlink_to("/dev/zero")
    for name in ("a.yaml", "b.yaml"):
        with pytest.raises(BrokenFile, match="is not a regular file"):
            read_stored_text(tmp_path / name)


@pytest.mark.skipif(not MAY_GIVE_FILES_AWAY, reason="another user is needed")
def test_a_strangers_link_to_a_file_of_somebody_elses_is_not_read(tmp_path: Path) -> None:
    secret, link = tmp_path / "secret", tmp_path / "a.yaml"
    secret.write_text("password: hunter2\n")
    link.symlink_to(secret)
    assert read_stored_text(link)[0]
    os.lchown(link, 4242, 4242)
    with pytest.raises(BrokenFile, match="a symbolic link of user 4242 to a file of another owner"):
        read_stored_text(link)
    os.chown(secret, 4242, 4242)
    assert read_stored_text(link)[0]
