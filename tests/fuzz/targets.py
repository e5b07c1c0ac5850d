"""What is fuzzed: every place where bytes that others wrote become values, each as one function of bytes.

A target's ``check`` takes any bytes. What is not understood has to be refused in the way that is documented, and what
is understood has to be usable: it can be written, read again as the same, shown and logged. Anything else comes out as
an exception, and is a bug. ``samples`` are valid inputs: hypothesis damages them, and a fuzzer starts from them.

The same table serves the tests of ``tests/properties/test_fuzz_*.py`` and the long runs of ``tests/fuzz/run.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzz import decoders, kernel_talk

CORPUS = Path(__file__).parent / "corpus"
"""Inputs that are kept, a folder for each target: each does something that no other one does, or once did harm."""


@dataclass(frozen=True, slots=True)
class Target:
    """One decoder. ``share`` is its part of the executions of a long run, ``longest`` the longest input in bytes."""

    name: str
    check: Callable[[bytes], None]
    samples: Callable[[], Sequence[bytes]]
    share: int = 1
    longest: int = 1024

    @property
    def kept(self) -> list[Path]:
        """The files of the corpus."""
        return sorted((CORPUS / self.name).glob("*"))


TARGETS = {
    target.name: target
    for target in (
        Target("ligato_v1", decoders.check_v1, decoders.samples_v1, share=150),
        Target("ligato_v1_binary", decoders.check_v1, decoders.samples_v1_binary, share=100),
        Target("ligato_v3", decoders.check_v3, decoders.samples_v3, share=80),
        Target("ligato_v3_binary", decoders.check_v3, decoders.samples_v3_binary, share=60),
        Target("store", decoders.check_store, decoders.samples_store, share=12),
        Target("yaml", decoders.check_yaml, decoders.samples_yaml, share=4, longest=512),
        Target("json_file", decoders.check_json_file, decoders.samples_json_file, share=8),
        Target("state", decoders.check_state, decoders.samples_state, share=50),
        Target("local_line", decoders.check_local_line, decoders.samples_local_line, share=60),
        Target("lock", decoders.check_lock, decoders.samples_lock, share=15),
        Target("intent_file", decoders.check_intent_file, decoders.samples_intent_file, share=10),
        Target("engine", decoders.check_engine, decoders.samples_engine, share=15),
        Target("process_news", kernel_talk.check_process_news, kernel_talk.samples_process_news, share=10, longest=128),
        Target("netlink", kernel_talk.check_netlink, kernel_talk.samples_netlink, share=450),
        Target("netlink_plan", kernel_talk.check_plan, kernel_talk.samples_netlink, share=20),
    )
}
