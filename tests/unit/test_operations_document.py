"""docs/operations.md says of settings, endpoints, metrics and log fields what the program says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from errno import EBUSY
from pathlib import Path

import click
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from world import veth

import ifagent
from ifagent import Agent, Memory, Settings
from ifagent.cli.options import SETTINGS
from ifagent.cli.run import command as run
from ifagent.core.operations import CreateLink
from ifagent.kernel.simulated import SimulatedKernel
from ifagent.outlets.http import HttpServer
from ifagent.outlets.metrics import Metrics

pytestmark = pytest.mark.anyio

SOURCE = Path(str(ifagent.__file__)).parent
DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"


def table(heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading, without its header."""
    section = DOCUMENT.read_text().split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def plain(cell: str) -> str:
    return cell.replace("`", "")


def row_of(option: click.Option) -> list[str]:
    """Return flag, environment variables, TOML key and default as the document has to say them."""
    variables = [option.envvar] if isinstance(option.envvar, str) else option.envvar or []
    flag = option.opts[0]
    key = flag.removeprefix("--").replace("-", "_")
    told = re.search(r"\[default: (.*)\]", option.help or "")
    value = told[1] if told else option.default
    if option.is_flag:
        value = "off"
    elif isinstance(value, list | tuple):
        value = " ".join(map(str, value))
    elif isinstance(value, float):
        value = f"{value:g}"
    known = isinstance(value, str | int)
    return [flag, ", ".join(variables), key if key in SETTINGS else "", str(value) if known else ""]


def test_the_settings_are_those_of_ifagent_run() -> None:
    expected = [row_of(option) for option in run.params if isinstance(option, click.Option)]
    rows = table("Settings")
    told = [[plain(cell) for cell in row[:4]] for row in rows]
    missing = [f"| {' | '.join(row)} | ... |" for row in expected if row not in told]
    assert not missing, f"add to the settings in docs/operations.md: {missing}"
    extra = [row for row in told if row not in expected]
    assert not extra, f"take out of the settings in docs/operations.md: {extra}"
    assert all(row[4] for row in rows), "every setting has a meaning, with its unit"


def test_the_endpoints_are_those_of_the_server() -> None:
    endpoints = HttpServer("127.0.0.1:0").endpoints
    assert {plain(row[0]) for row in table("HTTP")} == endpoints.keys()


async def test_the_metrics_are_those_of_the_registry() -> None:
    kernel = SimulatedKernel()
    kernel.fail_next(CreateLink, EBUSY)
    pair = [veth("a", "b"), veth("b", "a")]
    async with Agent.open(Settings(counters=0.1), kernel=kernel, sources=[Memory(pair)]) as agent:
        async for event in agent.states(name="a"):
            if event.state and event.state.statistics:
                break
        expected = set()
        text = b"".join(Metrics(agent.statistics).write("application/openmetrics-text; version=1.0.0")[1]).decode()
        for family in parse_openmetrics(text):  # type: ignore[no-untyped-call]
            assert family.samples, "nothing tells which labels it has"
            labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
            suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
            expected.add((family.name + suffix, family.type, ", ".join(labels)))
    told = {(plain(name), kind, plain(labels)) for name, kind, labels, _ in table("Metrics")}
    assert told == expected


def test_the_names_of_metrics_follow_the_rules() -> None:
    for name, kind, *_ in table("Metrics"):
        assert plain(name).startswith("ifagent_")
        assert plain(name).endswith("_total") == (kind == "counter")
        assert not re.search(r"_(ms|milliseconds|minutes|kb|percent)(_|$)", plain(name)), "units are the base units"


def logged_fields() -> Iterator[str]:
    """Find every field that is logged with ``log.<level>(event, field=...)``."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "log"
                and node.func.attr in {"debug", "info", "warning", "error", "exception", "critical"}
            ):
                yield from (word.arg for word in node.keywords if word.arg)


def test_the_fields_of_logs_are_all_there() -> None:
    told = {field for row in table("Logs") for field in plain(row[0]).split(", ")}
    missing = set(logged_fields()) - told
    assert not missing, f"add to the log fields in docs/operations.md: {sorted(missing)}"
