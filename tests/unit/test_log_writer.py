"""Lines that a thread writes, to somebody who may not read them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ifagent.cli.log_writer import MAX_WAITING, LogWriter


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        os.close(descriptor)


def read_until(reader: int, condition: Callable[[bytes], bool]) -> bytes:
    found = b""
    while not condition(found):
        found += os.read(reader, 65536)
    return found


def test_lines_come_out_in_order(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    log = LogWriter(writer)
    for number in range(100):
        log.put(b"%d\n" % number)
    assert log.flush(5)
    assert os.read(reader, 65536) == b"".join(b"%d\n" % number for number in range(100))


def test_while_it_is_held_there_is_no_thread(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    log = LogWriter(writer)
    log.hold()
    before = threading.active_count()
    log.put(b"one\n")
    assert threading.active_count() == before
    log.release()
    assert log.flush(5)
    log.hold()
    log.put(b"two\n")
    assert log.flush(5), "what was held comes out at the end all the same"
    assert os.read(reader, 65536) == b"one\ntwo\n"


def test_nobody_waits_for_a_reader_and_what_was_dropped_is_counted(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    log, line = LogWriter(writer), b"x" * 999 + b"\n"
    count = 2 * MAX_WAITING // len(line)
    started = time.monotonic()
    for _ in range(count):
        log.put(line)
    assert not log.flush(0.1)
    assert time.monotonic() - started < 5
    found = read_until(reader, lambda found: b"dropped" in found)
    log.put(b"after\n")
    found += read_until(reader, lambda found: b"after" in found)
    lines = found.splitlines()
    told = [one.decode().split(maxsplit=1) for one in lines if b"dropped" in one]
    assert {text for _, text in told} <= {f"log {n} dropped, stderr was not read" for n in ("line was", "lines were")}
    assert sum(int(number) for number, _ in told) == count - lines.count(line[:-1])
    assert lines.count(line[:-1]) * len(line) >= MAX_WAITING - len(line)
    assert log.flush(5)


def test_a_reader_that_is_gone_is_no_trouble(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    gone, its = os.pipe()
    os.dup2(gone, reader)
    os.close(gone)
    log = LogWriter(writer)
    log.put(b"to nobody\n")
    assert log.flush(5)
    os.close(its)


def test_what_somebody_else_made_non_blocking(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    log = LogWriter(writer)
    for _ in range(200):
        log.put(b"y" * 999 + b"\n")
    found = read_until(reader, lambda found: len(found) == 200_000)
    assert found.count(b"\n") == 200
    assert log.flush(5)


def test_what_is_due_is_asked_for_as_long_as_there_may_be_some(pipe: tuple[int, int]) -> None:
    asked, enough = 0, threading.Event()

    def tick() -> bool:
        nonlocal asked
        asked += 1
        if asked >= 5:
            enough.set()
        return asked < 5

    log = LogWriter(pipe[1], tick_interval=0.01)
    log.tick = tick
    log.put(b"first\n")
    assert enough.wait(5)
