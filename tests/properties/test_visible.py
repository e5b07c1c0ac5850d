"""Whatever others call things, nothing that a terminal obeys, hides or turns around comes out anywhere."""

from __future__ import annotations

import io
import json
import logging
import sys
import unicodedata
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifagent.cli.failures import Failure
from ifagent.cli.logs import ConsoleFormatter, JsonFormatter
from ifagent.cli.output import complain, say, say_json
from ifagent.cli.progress import Progress, why
from ifagent.cli.states import _show
from ifagent.cli.watch import _in_words
from ifagent.core.events import Declaration
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType
from ifagent.core.resources import interface_key
from ifagent.core.state import Change, ConfigState, InterfaceState, StateEvent
from ifagent.errors import FieldError
from ifagent.formats.health import OperationalState, encode_health
from ifagent.formats.socket_protocol import encode_declaration, encode_line
from ifagent.formats.state import decode_state, encode_event_json, encode_state_json
from ifagent.visible import json_text, visible

DANGEROUS = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}
"""Categories of Unicode that no output has, but for the ordinary space and the line feeds of our own."""

TRICKS = [
    "\x1b[2J\x1b]0;title\x07",
    "\x9b2J",
    "a\nERROR  forged",
    "a\rb",
    "\u202egnp\u2066\u2069\u200f",
    "\u2028\u2029\x85",
    "\u200b\u200d\ufeff\u2060",
    "\ud800",
    "\udcff",
    "\ue000\U000f0000",
    "\u0378\U000e0001",
    "[red]x[/red]",
    "\u3164\u115f\ufe0f\U000e0100\u2800",
    "\x7f\x08",
    "\xa0\u3000",
]

texts = st.lists(st.one_of(st.sampled_from(TRICKS), st.text(st.characters(), max_size=8)), min_size=1, max_size=4).map(
    "".join
)


def is_harmless(text: str, *, lines: int | None = None) -> bool:
    bad = {c for c in text if unicodedata.category(c) in DANGEROUS and c not in " \n"}
    bad |= {c for c in text if c in "\u3164\u115f\ufe0f\U000e0100\u2800"}
    assert not bad, f"{bad!r} in {text!r}"
    assert lines is None or text.count("\n") == lines, text
    return True


def printed(action: Callable[[], object]) -> str:
    """Return what is printed to stdout and stderr by what takes either for a pipe."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with redirect_stdout(out), redirect_stderr(err):
        action()
        sys.stdout.flush()
        sys.stderr.flush()
    found: list[str] = []
    for stream in (out, err):
        assert isinstance(stream.buffer, io.BytesIO)
        found.append(stream.buffer.getvalue().decode())
    return "".join(found)


def state(text: str, config_state: ConfigState = ConfigState.PENDING) -> InterfaceState:
    return InterfaceState(
        name=text,
        config_state=config_state,
        reason=text,
        internal_name=text,
        if_index=7,
        last_drift=text,
        missing=(text,),
        warnings=(text,),
        errors=(FieldError(text, text),),
        namespace=reference(text),
    )


def reference(text: str) -> NamespaceRef:
    with suppress(ValueError):
        return NamespaceRef(type=NamespaceType.FILE, reference=f"/{text}")
    return NamespaceRef()


@given(texts)
def test_a_text_is_shown_whole_without_what_is_dangerous(text: str) -> None:
    shown = visible(text)
    assert is_harmless(shown, lines=0)
    assert visible(shown) == shown
    plain = "".join(c for c in text if c.isascii() and c.isprintable())
    assert all(c in shown for c in plain)


@given(texts)
def test_json_is_the_same_value(text: str) -> None:
    written = json_text({text: [text]})
    assert is_harmless(written, lines=0)
    assert json.loads(written) == {text: [text]}
    indented = json_text({text: [text]}, indent=2)
    assert is_harmless(indented, lines=4)
    assert json.loads(indented) == {text: [text]}


@given(texts)
def test_states_and_events_as_lines(text: str) -> None:
    line = encode_state_json(state(text)).decode()
    assert is_harmless(line, lines=0)
    if "\ud800" not in text and not any(unicodedata.category(c) == "Cs" for c in text):
        assert decode_state(line.encode()).reason == text
    event = StateEvent(seq=1, event=Change.CHANGED, name=text, state=state(text))
    assert is_harmless(encode_event_json(event).decode(), lines=0)
    declaration = Declaration(key=interface_key(text), errors=(FieldError(text, text),), warnings=(text,), revision=1)
    assert is_harmless(encode_line(encode_declaration(declaration)).decode(), lines=1)
    health = encode_health(
        state=OperationalState.ERROR, start_time=1, last_change=1, last_update=1, problems=[text, text]
    )
    assert is_harmless(health.decode(), lines=0)


@given(texts)
def test_commands(text: str) -> None:
    event = StateEvent(seq=1, event=Change.CREATED, name=text, state=state(text))
    gone = StateEvent(seq=1, event=Change.DELETED, name=text, state=state(text, ConfigState.APPLIED))
    assert is_harmless(printed(lambda: say(*_in_words(event))), lines=1)
    assert is_harmless(printed(lambda: say(*_in_words(gone))), lines=1)
    assert is_harmless(printed(lambda: complain(text)), lines=1)
    assert is_harmless(printed(lambda: say_json(text)), lines=1)
    assert is_harmless(printed(Failure(text).show), lines=1)
    assert is_harmless(printed(lambda: complain(why(state(text)))), lines=1)

    def waited() -> None:
        progress = Progress({text: 0})
        progress.take(text, state(text))
        progress.take(text, state(text, ConfigState.APPLIED))

    assert is_harmless(printed(waited), lines=2)


@given(texts)
def test_tables_have_a_row_a_state_and_no_markup(text: str) -> None:
    shown = printed(lambda: _show({"1": state(text), "2": state("[red]x[/red]")}))
    assert is_harmless(shown)
    assert len([line for line in shown.splitlines() if " PENDING " in line]) >= 2
    assert "[red]x[/red]" in shown


@given(texts)
def test_log_lines(text: str) -> None:
    given_ours = {"levelname": "INFO", "msg": text, "ifagent": {"event": text, "interface": text, "link": 7}}
    bug = ValueError(text)
    raised = (ValueError, bug, bug.__traceback__)
    others = {"levelname": "ERROR", "name": "asyncio", "msg": "%s", "args": (text,), "exc_info": raised}
    for fields in (given_ours, others):
        record = logging.makeLogRecord(fields)
        assert is_harmless(JsonFormatter().format(record), lines=0)
        line = ConsoleFormatter(colour=False).format(record)
        assert is_harmless(line)
        if fields is given_ours:
            assert "\n" not in line


@pytest.mark.parametrize("trick", TRICKS)
def test_the_message_of_a_record_for_other_handlers(trick: str, caplog: pytest.LogCaptureFixture) -> None:
    from ifagent.log import log

    log.warning("a test of a message", interface=trick)
    [record] = caplog.records
    assert is_harmless(record.getMessage(), lines=0)
    assert record.ifagent["interface"] == trick  # type: ignore[attr-defined]
