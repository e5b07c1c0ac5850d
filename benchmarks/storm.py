"""Somebody who does his worst in a namespace: ``python -m benchmarks.storm NAMESPACE KIND SECONDS``.

A process of its own. It prepares what it needs, says so with a line, does the same thing as fast as the kernel takes it
for so many seconds, and prints how often it has.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path

from benchmarks.netlink import LINK, UP, Sender, add_address, attribute, entered, message, packed, set_mtu, set_up

FIRST = 100_000
"""The ifindex of the first link that is made here."""

MANY_LINKS, MANY_ADDRESSES = 1_000, 8_000
NEWLINK, DELADDR, IFALIAS = 16, 21, 20


def main() -> None:
    """Storm."""
    space, kind, seconds = sys.argv[1:]
    sender = entered(space, Sender)
    rounds = KINDS[kind](sender, space)
    print("begins", flush=True)
    ended = time.perf_counter() + float(seconds)
    done = 0
    for request in rounds:
        with suppress(OSError):
            sender.send(request)
        done += 1
        if time.perf_counter() > ended:
            break
    print(json.dumps({"sends": done}))


def command(space: Path, kind: str, seconds: float) -> list[str]:
    """Return how to start it."""
    return [sys.executable, "-m", "benchmarks.storm", str(space), kind, str(seconds)]


def _inside(space: str, *lines: str) -> None:
    command = ["nsenter", f"--net={space}", "ip", "-force", "-batch", "-"]
    subprocess.run(command, input="\n".join(lines), text=True, check=False, capture_output=True)


def _made(space: str, count: int) -> list[int]:
    """Have so many links, in pairs; return their ifindexes."""
    numbers = range(FIRST, FIRST + count, 2)
    lines = (f"link add storm{n} index {n} type veth peer name storm{n + 1} index {n + 1}" for n in numbers)
    _inside(space, *lines)
    return list(range(FIRST, FIRST + count))


def _cycle(requests: Callable[[int], Iterator[bytes]], turns: int = 2) -> Iterator[bytes]:
    """Return sends of the requests of one turn after the other, for ever."""
    return cycle([send for turn in range(turns) for send in packed(requests(turn))])


def _flap(links: list[int]) -> Iterator[bytes]:
    return _cycle(lambda turn: (_set_down(n) if turn else set_up(n) for n in links))


def _set_down(ifindex: int) -> bytes:
    return message(NEWLINK, LINK.pack(0, 0, ifindex, 0, UP))


def _set_alias(ifindex: int, alias: str) -> bytes:
    return message(NEWLINK, LINK.pack(0, 0, ifindex, 0, 0) + attribute(IFALIAS, alias.encode()))


def _delete_address(ifindex: int, text: str) -> bytes:
    packed_address = socket.inet_aton(text)
    body = struct.pack("=BBBBi", socket.AF_INET, 32, 0, 0, ifindex)
    return message(DELADDR, body + attribute(2, packed_address) + attribute(1, packed_address))


def _toggle(ifindex: int) -> Iterator[bytes]:
    return _cycle(lambda turn: iter([_delete_address(ifindex, "10.99.0.1") if turn else _address(ifindex, 0)] * 1))


def _address(ifindex: int, number: int) -> bytes:
    return add_address(ifindex, f"10.{99 + (number >> 16)}.{number >> 8 & 255}.{1 + number & 255}/32")


def _toggle_one(sender: Sender, space: str) -> Iterator[bytes]:
    del sender
    return _toggle(_made(space, 2)[0])


def _toggle_among_many(sender: Sender, space: str) -> Iterator[bytes]:
    link = _made(space, 2)[0]
    for send in packed(_address(link, number) for number in range(1, MANY_ADDRESSES)):
        sender.send(send)
    return _toggle(link)


def _flap_own(sender: Sender, space: str) -> Iterator[bytes]:
    del sender
    listed = subprocess.run(
        ["nsenter", f"--net={space}", "ip", "-j", "link"], capture_output=True, text=True, check=True
    )
    return _flap([link["ifindex"] for link in json.loads(listed.stdout) if link["ifname"] != "lo"][:1])


def _churn(sender: Sender, space: str) -> Iterator[bytes]:
    """Make and delete many links, by way of ``ip``, as only that waits for nothing of ours."""
    del sender
    turn = 0
    while True:
        numbers = range(FIRST + turn * 100, FIRST + turn * 100 + 100, 2)
        made = [f"link add storm{n} type veth peer name storm{n + 1}" for n in numbers]
        _inside(space, *made, *(f"link set storm{n} up" for n in numbers), *(f"link del storm{n}" for n in numbers))
        turn = (turn + 1) % 100
        yield packed([set_mtu(1, 65536)])[0]


def _all_links(change: Callable[[int, int], bytes], turns: int) -> Callable[[Sender, str], Iterator[bytes]]:
    def rounds(sender: Sender, space: str) -> Iterator[bytes]:
        del sender
        links = _made(space, MANY_LINKS)
        return _cycle(lambda turn: (change(n, turn) for n in links), turns)

    return rounds


KINDS: dict[str, Callable[[Sender, str], Iterator[bytes]]] = {
    "1,000 links flap": lambda _, space: _flap(_made(space, MANY_LINKS)),
    "one link flaps": lambda _, space: _flap(_made(space, 2)[:1]),
    "its own end flaps": _flap_own,
    "an address comes and goes": _toggle_one,
    "an address comes and goes among 8,000": _toggle_among_many,
    "links come and go": _churn,
    "MTUs of 1,000 links change": _all_links(lambda n, turn: set_mtu(n, 1300 + turn), 2),
    "aliases of 1,000 links change": _all_links(lambda n, turn: _set_alias(n, f"{turn}" * 200), 5),
}
"""What there is to be done, each as endless sends."""


if __name__ == "__main__":
    main()
