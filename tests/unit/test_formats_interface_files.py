"""Files of interfaces: what is read, with which lines, and what is refused."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from ifagent.core.resources import by_name, interface_key
from ifagent.errors import BrokenFile
from ifagent.formats import yaml
from ifagent.formats.interface_files import MAX_FILE_BYTES, list_files, merge, parse_interfaces, read_interfaces
from ifagent.formats.yaml import BrokenYaml, read_yaml


def declared(path: Path, text: str) -> dict[str, str]:
    path.write_text(text)
    return {entry.declaration.key.name: entry.place for entry in read_interfaces(path).entries}


YAML_FILE = """\
# ours
x-common: &common {enabled: true, veth: {peerIfName: far}}
interfaces:
  - name: near
    <<: *common
    type: VETH
    namespace: {type: NAMED_NS, name: ns1}
    ip_addresses: [10.0.0.1/24, 2001:db8::1/64]
    phys_address: 02:00:00:00:00:01

  - {name: other, <<: *common, mtu: 0x5dc}
"""


def test_a_yaml_file(tmp_path: Path) -> None:
    assert declared(tmp_path / "a.yaml", YAML_FILE) == {"near": "line 4", "other": "line 11"}
    near, other = (entry.declaration.interface for entry in read_interfaces(tmp_path / "a.yaml").entries)
    assert near is not None
    assert other is not None
    assert near.enabled
    assert near.phys_address == "02:00:00:00:00:01"
    assert str(near.namespace) == "named:ns1"
    assert [str(address) for address in near.ip_addresses] == ["10.0.0.1/24", "2001:db8::1/64"]
    assert other.mtu == 1500


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.json", '{"name": "a", "veth": {"peer_if_name": "b"}}', {"a": "entry 1"}),
        ("a.json", '\ufeff[{"name": "a", "veth": {"peer_if_name": "b"}}]', {"a": "entry 1"}),
        ("a.json", '{"interfaces": [{"name": "a"}, 3]}', {"a": "entry 1", "a.json[1]": "entry 2"}),
        ("a.json", "", {}),
        ("a.json", "null", {}),
        ("a.yaml", "# nothing\n", {}),
        ("a.yaml", "interfaces:\n", {}),
        ("a.yaml", "---\n\nname: a\n", {"a": "line 3"}),
        ("a.conf", "[{name: a}, {name: b}]", {"a": "line 1", "b": "line 1"}),
        ("a.yaml", "name: 2001-01-01\n", {"2001-01-01": "line 1"}),
    ],
)
def test_shapes(tmp_path: Path, name: str, text: str, found: dict[str, str]) -> None:
    assert declared(tmp_path / name, text) == found


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.yaml", b"a: [", "line 1: column 5: "),
        ("a.yaml", b"ok: 1\na: *x", "line 2: column 4: found undefined alias 'x'"),
        ("a.yaml", b"- a\nb: 1", "line 2: column 1: "),
        ("a.yaml", b"mtu: 1\nmtu: 2", "line 2: column 1: duplicate key 'mtu'"),
        ("a.yaml", b"a: 1\nb: !!python/object:os.system x", "line 2: column 4: unknown tag "),
        ("a.yaml", b"a: 1\nb: !mine {c: 1}", "line 2: column 4: unknown tag '!mine'"),
        ("a.yaml", b"? [a]\n: 1", "line 1: column 3: a key must be a plain word"),
        ("a.yaml", b"<<: 7", "line 1: column 5: only a mapping"),
        ("a.yaml", b"---\na: 1\n---\nb: 1\n", "line 3: column 1: expected a single document"),
        ("a.yaml", b"%YAML 1.6\n---\nname: a\n", "is not YAML 1.1 or 1.2: "),
        ("a.yaml", b"a: 1\nb: \x00", "line 2: unacceptable character"),
        ("a.yaml", b"a: 1\nb: \xff", "line 2: is not UTF-8 text"),
        ("a.yaml", b"[" * 5000, "line 1: is nested more than 32 deep"),
        ("a.yaml", b"[" * 40 + b"]" * 40, "is nested more than 32 deep"),
        ("a.yaml", b"- &a [*a]", "line 1: column 3: contains itself"),
        ("a.yaml", b"just words", "must hold an interface, a list of them"),
        ("a.yaml", b"interfaces: {name: a}", "must hold an interface, a list of them"),
        ("a.json", b'{"a": 1,\n"b" 2}', "line 2: column 5: is not valid JSON: Expecting ':' delimiter"),
        ("a.json", b"[" * 100_000, "is nested too deeply"),
        ("a.json", b"[NaN]", "NaN is not allowed"),
        ("a.json", b"[" + b"9" * 5000 + b"]", "has a number that is too long"),
        ("a.json", b"[" + b"{}," * 20_000 + b"{}]", "has 20001 interfaces, at most 20000"),
        ("a.json", b" " * (MAX_FILE_BYTES + 1), f"has more than {MAX_FILE_BYTES} bytes"),
    ],
)
def test_what_cannot_be_read_is_told_with_file_and_place(tmp_path: Path, name: str, data: bytes, told: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(BrokenFile) as caught:
        read_interfaces(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BrokenFile, match=r"no\.yaml: No such file or directory"):
        read_interfaces(tmp_path / "no.yaml")
    with pytest.raises(BrokenFile, match="Is a directory"):
        read_interfaces(tmp_path)


def _laughs(levels: int) -> str:
    lines = ["l0: &l0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join([*lines, f"interfaces: *l{levels - 1}"])


def _merges(count: int) -> str:
    return "\n".join(["- &m0 {k0: 1}", *(f"- &m{n} {{<<: *m{n - 1}, k{n}: 1}}" for n in range(1, count))])


@pytest.mark.parametrize("text", [_laughs(30), _merges(2500)], ids=["lists", "merges"])
def test_what_unfolds_without_end_is_refused_at_once(text: str) -> None:
    start = time.process_time()
    with pytest.raises(BrokenYaml, match="expands to more than"):
        read_yaml(text, items="interfaces")
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" + "a," * 1000 + "]", "has more than 1000 values"),
        ("\n\n" + "[" * 100_000, "line 3: is nested more than 32 deep"),
        ("- " * 100_000, "line 1: is nested more than 32 deep"),
        ("[" * 40 + "]" * 40, "line 1: is nested more than 32 deep"),
    ],
    ids=["many", "brackets", "dashes", "deep"],
)
def test_what_is_too_much_is_refused_while_it_is_read(text: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml, "MAX_WRITTEN", 1000)
    with pytest.raises(BrokenFile) as caught:
        parse_interfaces(Path("x.yaml"), text)
    assert str(caught.value) == f"x.yaml: {told}"


def test_an_anchor_that_is_given_twice_is_no_warning() -> None:
    assert read_yaml("[&a 1, *a, &a 2, *a]", items="interfaces")[0] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("yes", "yes"),
        ("~", None),
        ("0x10", 16),
        ("-0x10", -16),
        ("0o17", 15),
        ("+1_000", 1000),
        ("1.5e3", 1500.0),
        (".inf", float("inf")),
        ("02:00:00:00:00:01", "02:00:00:00:00:01"),
        ("2001-01-01", "2001-01-01"),
        ("'1500'", "1500"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_scalars(text: str, value: object) -> None:
    read, lines = read_yaml(f"[{text}]", items="interfaces")
    assert read == [value]
    assert lines == [1]


def test_merging_files_keeps_the_first_and_names_the_others(tmp_path: Path) -> None:
    item = {"name": "a", "veth": {"peer_if_name": "b"}}
    (tmp_path / "1.json").write_text(json.dumps([item, item]))
    (tmp_path / "2.yaml").write_text(json.dumps(item))
    merged = merge(map(read_interfaces, list_files(tmp_path)))
    assert merged[interface_key("a")].warnings == (
        "is also declared in 1.json, entry 2; the one in 1.json takes precedence",
        "is also declared in 2.yaml, line 1; the one in 1.json takes precedence",
    )


def test_a_name_that_is_declared_again_and_again_has_a_few_warnings(tmp_path: Path) -> None:
    item = {"name": "a", "type": 1}
    (tmp_path / "1.json").write_text(json.dumps([item] * 20_000))
    start = time.process_time()
    warnings = merge([read_interfaces(tmp_path / "1.json")])[interface_key("a")].warnings
    assert len(warnings) == 11
    assert warnings[-1] == "and 19989 more; the one in 1.json takes precedence"
    assert time.process_time() - start < 10


def test_a_file_may_be_called_anything(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.json")
    path.write_text('[{"name": ""}, {"name": "a", "type": 1}, {"name": "a", "type": 1}]')
    merged = merge([read_interfaces(path)])
    assert by_name(merged).keys() == {"\\xff.json[0]", "a"}
    assert merged[interface_key("a")].warnings == (
        "is also declared in \\xff.json, entry 3; the one in \\xff.json takes precedence",
    )


def test_of_a_directory_only_files_with_the_right_names(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.json", "c.yml", ".h.yaml", "d.txt", "e.yaml~"):
        (tmp_path / name).touch()
    (tmp_path / "sub.yaml").mkdir()
    assert [path.name for path in list_files(tmp_path)] == ["a.json", "b.yaml", "c.yml"]
    with pytest.raises(FileNotFoundError):
        list_files(tmp_path / "none")
