"""How long an agent waits for etcd, and how much it takes from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of the connections to one cluster; times are in seconds.

    ``longest_wait`` is the longest time between two attempts to reach a store that is lost. After ``quiet`` seconds of
    silence of a watch, progress is requested from the server, which must answer within as long again.
    ``max_answer_bytes`` bounds one answer: etcd takes 1.5 MiB in one request, but one request may delete very many
    keys.

    The first page of a listing has at most ``first_page`` keys, and any page ``largest_page``; in between, the size
    depends on how large the values are. A listing has at most ``max_keys`` keys: a server that sends more may never
    end.
    """

    longest_wait: float = 3.0
    quiet: float = 3.0
    max_answer_bytes: int = 64 * 1024 * 1024
    first_page: int = 50
    largest_page: int = 1000
    max_keys: int = 2_000_000
