"""The command line: how it is used, and what it says when it is used wrongly."""

from __future__ import annotations

import importlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
import structlog
from click.testing import CliRunner, Result

from ifagent.cli import logs
from ifagent.cli.app import COMMANDS, app
from ifagent.client import default_socket
from ifagent.errors import AgentBug

Invoke = Callable[..., Result]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for key in list(os.environ):
        if key.startswith("IFAGENT_") or key == "MICROSERVICE_LABEL":
            monkeypatch.delenv(key)
    root = logging.getLogger()
    handlers, level, own = root.handlers[:], root.level, logging.getLogger("ifagent").level
    yield
    root.handlers[:], root.level = handlers, level
    logging.getLogger("ifagent").setLevel(own)
    logging.raiseExceptions = True
    structlog.reset_defaults()


@pytest.fixture
def invoke() -> Invoke:
    def run(*arguments: object, **environment: str) -> Result:
        result = CliRunner().invoke(app, list(map(str, arguments)), env=environment)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return run


def one_sentence(result: Result) -> str:
    """Return what was said on stderr; no traceback, one line."""
    [line] = result.stderr.splitlines()
    return line


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_that_begins_as_the_list_says(name: str, invoke: Invoke) -> None:
    command: click.Command = importlib.import_module(f"ifagent.cli.{name}").command
    assert command.name == name
    assert command.help is not None
    assert command.help.startswith(COMMANDS[name].rstrip(".,")[:20])
    result = invoke(name, "--help")
    assert result.exit_code == 0
    assert f"Usage: app {name}" in result.stdout


def test_the_list_of_commands_and_the_version(invoke: Invoke) -> None:
    listed = invoke("--help").stdout
    assert all(name in listed for name in COMMANDS)
    assert "0." in invoke("--version").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["apply"],
        ["delete"],
        ["validate"],
        ["states", "--nothing"],
        ["states", "--log-format", "xml"],
        ["apply", "x", "--wait", "0"],
        ["apply", "x", "--wait", "soon"],
        ["get", "a", "b"],
        ["wait"],
        ["wait", "a", "--timeout", "0"],
        ["run", "--resync-interval", "often"],
    ],
)
def test_wrong_use_is_2(arguments: list[str], invoke: Invoke) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["states", "--store", "http://x"],
            "'http://x' is not a store URL, expected etcd://HOST:PORT or file:PATH",
        ),
        (["states", "--store", "etcd://a:b"], "is not an endpoint such as"),
        (["states", "--store", "etcd://u:secret@h"], "must not contain a user or password"),
        (["states", "--store", "file:"], "has no path, write file:PATH"),
        (["states", "--label", "a/b"], "--label: a label has at most 64"),
        (["run", "--label", ""], "--label: a label has at most 64"),
        (["run", "--store", "ftp:x"], "'ftp:x' is not a store URL"),
        (["run", "--resync-interval", "0"], "--resync-interval: "),
        (["run", "--counters", "0.01"], "--counters: Input should be greater than or equal to 0.1"),
        (["run", "--counters", "inf"], "--counters: "),
        (["run", "--store", "file:a", "--store", "file:a"], "source names must be unique"),
        (["validate", "/nowhere/x.yaml"], "/nowhere/x.yaml: No such file or directory"),
        (["apply", "/nowhere/x.yaml", "--store", "file:/nowhere"], "/nowhere/x.yaml: No such file or directory"),
        (["states", "--config", "/nowhere/c.toml"], "/nowhere/c.toml: No such file or directory"),
    ],
)
def test_what_cannot_be_used_is_2_in_one_sentence(arguments: list[str], told: str, invoke: Invoke) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert told in one_sentence(result)
    assert "secret" not in result.output


def test_no_agent_is_1_in_one_sentence(tmp_path: Path, invoke: Invoke) -> None:
    place = ["--store", f"file:{tmp_path}", "--socket", tmp_path / "none.sock"]
    for command in ("states", "watch"):
        result = invoke(command, *place)
        assert result.exit_code == 1
        assert "cannot be reached, is it running?" in one_sentence(result)


def test_no_etcd_is_1_in_one_sentence(tmp_path: Path, invoke: Invoke) -> None:
    (tmp_path / "a.json").write_text('{"name": "a", "veth": {"peer_if_name": "b"}}')
    place = ["--store", "etcd://127.0.0.1:1"]
    for arguments in (["states"], ["get"], ["delete", "a"], ["apply", tmp_path]):
        result = invoke(*arguments, *place)
        assert result.exit_code == 1
        assert "127.0.0.1:1" in one_sentence(result)


# Where options come from


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> Callable[..., dict[str, object]]:
    """Return the options that a command would be called with."""

    def take(*arguments: object, **environment: str) -> dict[str, object]:
        seen: dict[str, object] = {}
        command: click.Command = importlib.import_module(f"ifagent.cli.{arguments[0]}").command
        monkeypatch.setattr(command, "callback", seen.update)
        result = invoke(*arguments, **environment)
        assert result.exit_code == 0, result.output
        return seen

    return take


def test_the_defaults(taken: Callable[..., dict[str, object]]) -> None:
    seen = taken("states")
    assert seen["store"] == "etcd://127.0.0.1:2379"
    assert seen["label"] == "vpp1"
    assert seen["socket"] is None
    assert default_socket("vpp1") == Path("/run/ifagent/vpp1.sock")
    assert taken("run")["stores"] == ("etcd://127.0.0.1:2379",)


def test_flag_before_environment_before_file_before_default(
    tmp_path: Path, taken: Callable[..., dict[str, object]]
) -> None:
    config = tmp_path / "c.toml"
    config.write_text('label = "from-file"\nstore = "file:/from/file"\nlog-level = "debug"\nsocket = "/s"\n')
    environment = {"IFAGENT_CONFIG": str(config)}
    assert taken("get", **environment)["label"] == "from-file"
    assert taken("get", "--config", config)["label"] == "from-file"
    assert taken("get", **environment)["log_level"] == "debug"
    assert taken("get", **environment)["socket"] == Path("/s")
    assert taken("run", **environment)["stores"] == ("file:/from/file",)
    environment["MICROSERVICE_LABEL"] = "from-ligato"
    assert taken("get", **environment)["label"] == "from-ligato"
    environment["IFAGENT_LABEL"] = "from-env"
    assert taken("get", **environment)["label"] == "from-env"
    assert taken("get", "--label", "from-flag", **environment)["label"] == "from-flag"


def test_several_stores(tmp_path: Path, taken: Callable[..., dict[str, object]]) -> None:
    both = ("file:/with a space", "etcd://h")
    assert taken("run", "--store", both[0], "--store", both[1])["stores"] == both
    assert taken("run", IFAGENT_STORE=" ".join(both))["stores"] == both
    assert taken("get", IFAGENT_STORE=" ".join(both))["store"] == both[0]
    (tmp_path / "c.toml").write_text(f"store = {list(both)}")
    assert taken("run", "--config", tmp_path / "c.toml")["stores"] == both
    assert taken("get", "--config", tmp_path / "c.toml")["store"] == both[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('lable = "x"', "unknown setting 'lable', did you mean 'label'?"),
        ('colour = "x"', "unknown setting 'colour'; known settings are store, label,"),
        ("[run]\nlabel = 'x'", "unknown setting 'run'"),
        ("label = ", "not valid TOML: "),
        ("label = ['x']", "invalid value for 'label': ['x']"),
        ("store = []", "invalid value for 'store': []"),
        ("label = true", "invalid value for 'label': True"),
    ],
)
def test_a_broken_config_file(tmp_path: Path, text: str, told: str, invoke: Invoke) -> None:
    (tmp_path / "c.toml").write_text(text)
    result = invoke("states", "--config", tmp_path / "c.toml")
    assert result.exit_code == 2
    assert f"{tmp_path}/c.toml: {told}" in one_sentence(result)


def test_a_bad_value_in_the_config_file(tmp_path: Path, invoke: Invoke) -> None:
    (tmp_path / "c.toml").write_text("log-level = 'loud'")
    result = invoke("states", "--config", tmp_path / "c.toml")
    assert result.exit_code == 2
    assert "'loud' is not one of" in result.stderr


def test_a_bug_is_not_put_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    command: click.Command = importlib.import_module("ifagent.cli.states").command

    def fail(**_: object) -> None:
        raise ExceptionGroup("tasks", [AgentBug("cannot happen")])

    monkeypatch.setattr(command, "callback", fail)
    result = CliRunner().invoke(app, ["states"])
    assert isinstance(result.exception, AgentBug | ExceptionGroup)


# validate


def test_validate_says_file_place_name_field_and_message(tmp_path: Path, invoke: Invoke) -> None:
    (tmp_path / "a.yaml").write_text("- {name: a, mtu: 5, veth: {peer_if_name: b}}\n- {mtu: 1500}\n")
    (tmp_path / "b.json").write_text("{")
    (tmp_path / "c.json").write_text('[{"name": "ok", "veth": {"peer_if_name": "b"}, "colour": "red"}]')
    result = invoke("validate", tmp_path)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{tmp_path}/a.yaml: line 1: a: mtu: 5 is out of range")
    assert f"{tmp_path}/a.yaml: line 2: name: is required" in lines
    assert any(line.startswith(f"{tmp_path}/b.json: line 1: column 2: is not valid JSON") for line in lines)
    assert f"warning: {tmp_path}/c.json: entry 1: ok: unknown field 'colour' is ignored" in result.stderr


def test_validate_good_files(tmp_path: Path, invoke: Invoke) -> None:
    (tmp_path / "a.yaml").write_text("- {name: a, veth: {peer_if_name: b}}\n- {name: b, veth: {peer_if_name: a}}\n")
    (tmp_path / "none.yaml").write_text("[]")
    result = invoke("validate", tmp_path / "none.yaml", tmp_path / "a.yaml")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{tmp_path}/none.yaml: ok, 0 interfaces\n{tmp_path}/a.yaml: ok, 2 interfaces\n"


def test_validate_finds_contradictions_between_files(tmp_path: Path, invoke: Invoke) -> None:
    (tmp_path / "a.yaml").write_text("- {name: a, host_if_name: eth7, veth: {peer_if_name: x}}\n")
    (tmp_path / "b.yaml").write_text("- {name: b, host_if_name: eth7, veth: {peer_if_name: y}}\n")
    assert invoke("validate", tmp_path / "a.yaml").exit_code == 0
    result = invoke("validate", tmp_path)
    assert result.exit_code == 1
    assert "eth7" in result.stdout
    (tmp_path / "b.yaml").write_text("- {name: a, veth: {peer_if_name: y}}\n")
    result = invoke("validate", tmp_path)
    assert result.exit_code == 1
    assert result.stdout == f"{tmp_path}/b.yaml: line 1: a: name: already used, see {tmp_path}/a.yaml: line 1\n"


# apply, get and delete without an agent


def test_apply_checks_all_before_it_declares_any(tmp_path: Path, invoke: Invoke) -> None:
    (tmp_path / "good.yaml").write_text("{name: a, veth: {peer_if_name: b}}")
    (tmp_path / "bad.yaml").write_text("{name: b, mtu: 5, veth: {peer_if_name: a}}")
    store = tmp_path / "store"
    result = invoke("apply", tmp_path / "good.yaml", tmp_path / "bad.yaml", "--store", f"file:{store}")
    assert result.exit_code == 1
    assert "bad.yaml: line 1: b: mtu: 5 is out of range" in result.stderr
    assert "nothing was declared" in result.stderr
    assert not store.exists()


@pytest.mark.parametrize(
    "text",
    [
        "- {name: a, host_if_name: x, veth: {peer_if_name: b}}\n- {name: b, host_if_name: x, veth: {peer_if_name: a}}",
        "- {name: a, veth: {peer_if_name: a}}",
        "- {name: a, veth: {peer_if_name: b}}\n- {name: a, veth: {peer_if_name: c}}",
    ],
)
def test_what_validate_refuses_apply_does_too(tmp_path: Path, invoke: Invoke, text: str) -> None:
    (tmp_path / "in.yaml").write_text(text)
    store = tmp_path / "store"
    told = invoke("validate", tmp_path / "in.yaml")
    result = invoke("apply", tmp_path / "in.yaml", "--store", f"file:{store}")
    assert (told.exit_code, result.exit_code) == (1, 1)
    assert result.stderr == told.stdout + "ifagent: nothing was declared, the files have errors\n"
    assert not store.exists()


def test_apply_get_delete_with_files_and_no_agent(tmp_path: Path, invoke: Invoke) -> None:
    (tmp_path / "in.yaml").write_text(
        "- {name: a, enabled: true, namespace: {type: 2, name: ns1}, ip_addresses: [10.0.0.1/24],"
        " veth: {peer_if_name: b}}\n- {name: b, veth: {peer_if_name: a}}\n"
    )
    place = ["--store", f"file:{tmp_path}/store", "--socket", tmp_path / "none.sock"]
    result = invoke("get", *place)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "Nothing is declared" in result.stderr
    result = invoke("apply", tmp_path / "in.yaml", *place)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "2 interfaces declared\n", "")
    result = invoke("get", *place)
    assert result.exit_code == 0
    assert "cannot read states" in result.stderr
    header, first, _ = result.stdout.splitlines()
    assert header.split()[:4] == ["name", "type", "peer", "namespace"]
    assert first.split() == ["a", "veth", "b", "ns1", "a", "10.0.0.1/24", "unknown"]
    one = json.loads(invoke("get", "a", "--json", *place).stdout)
    assert one["desired"]["ip_addresses"] == ["10.0.0.1/24"]
    assert one["state"] is None
    assert invoke("get", "nobody", *place).exit_code == 1
    result = invoke("delete", "a", "nobody", "noone", *place)
    assert result.exit_code == 1
    assert result.stdout == "a: deleted\n"
    assert "nobody, noone" in one_sentence(result)
    assert invoke("delete", "b", *place).exit_code == 0


def test_apply_with_wait_says_when_there_is_no_agent(tmp_path: Path, invoke: Invoke) -> None:
    (tmp_path / "in.yaml").write_text("{name: a, veth: {peer_if_name: b}}")
    place = ["--store", f"file:{tmp_path}/store", "--socket", tmp_path / "none.sock"]
    result = invoke("apply", tmp_path / "in.yaml", "--wait", "5", *place)
    assert result.exit_code == 1
    assert "declared, but the outcome is unknown" in one_sentence(result)


def test_what_the_file_system_refuses(tmp_path: Path, invoke: Invoke) -> None:
    (tmp_path / "in.yaml").write_text("{name: a, veth: {peer_if_name: b}}")
    result = invoke("apply", tmp_path / "in.yaml", "--store", f"file:{tmp_path}/in.yaml/sub")
    assert result.exit_code == 1
    assert "in.yaml" in one_sentence(result)


# Logs


def logged(capsys: pytest.CaptureFixture[str], *, level: str, format: str) -> list[str]:  # noqa: A002 as there
    from ifagent.log import log

    logs.configure(level=level, format=format)
    log.debug("small")
    log.warning("an event", text="two words", number=7, empty="")
    logging.getLogger("other").warning("from %s", "elsewhere")
    logging.getLogger("other").info("unheard")
    structlog.get_logger("ifagent.stores.etcd").info("100 %s", what="by structlog")
    logging.getLogger("other").error("went wrong", exc_info=ValueError("no"))
    output = capsys.readouterr()
    assert output.out == ""
    return output.err.splitlines()


def test_json_logs(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in logged(capsys, level="debug", format="json")]
    assert [line["event"] for line in lines] == ["small", "an event", "from elsewhere", "100 %s", "went wrong"]
    moment = lines[1].pop("time")
    assert moment.endswith("+00:00")
    assert lines[1] == {"level": "warning", "event": "an event", "text": "two words", "number": 7, "empty": ""}
    assert list(lines[0]) == ["time", "level", "event"]
    assert lines[2]["logger"] == "other"
    assert "ValueError: no" in lines[4]["exception"]


def test_logs_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    lines = logged(capsys, level="warning", format="console")
    assert lines[0][9:] == 'warning  an event  text="two words"  number=7  empty=""'
    assert "from elsewhere" in lines[1]
    assert lines[-1] == "ValueError: no"


# As a process


def test_help_needs_nothing_but_click() -> None:
    code = """if True:
        import sys, ifagent, click
        before = set(sys.modules)
        from ifagent.cli.app import app
        app(["--help"], standalone_mode=False)
        print(*(set(sys.modules) - before))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert {name for name in loaded if name.startswith("ifagent")} == {
        "ifagent.cli",
        "ifagent.cli.app",
        "ifagent.cli.failures",
        "ifagent.cli.output",
        "ifagent.errors",
        "ifagent.visible",
    }
    assert not {"asyncio", "grpc", "pydantic", "rich", "ruamel", "structlog"} & loaded


def test_python_m_ifagent_and_a_missing_reader_of_stdout() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ifagent", "validate", "/dev/null"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=20) == 0
    assert errors == ""
