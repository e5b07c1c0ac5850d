"""The store as chaos writes to it: etcd's JSON gateway, which takes any bytes and many keys at once."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from typing import Any

from chaos.values import Family
from etcd_server import EtcdServer

PATIENCE = 20.0
"""Seconds that etcd is given to answer, such as after its start."""

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_PLACES = {Family.V1: "linux/config/v1/interface", Family.V3: "config/linux/interfaces/v2/interface"}


class Store:
    """The keys of one label."""

    def __init__(self, server: EtcdServer, label: str) -> None:
        self._server = server
        self._prefix = f"/vnf-agent/{label}/"

    def write(self, puts: dict[tuple[str, Family], bytes], deletes: list[tuple[str, Family]]) -> None:
        """Write and delete in one transaction."""
        steps: list[dict[str, Any]] = [
            {"requestPut": {"key": _text(self._key(*key)), "value": _bytes(value)}} for key, value in puts.items()
        ]
        steps += [{"requestDeleteRange": {"key": _text(self._key(*key))}} for key in deletes]
        if steps:
            self._ask("kv/txn", {"success": steps})

    def states(self) -> dict[str, dict[str, Any]]:
        """Return the published states by name; none where etcd does not answer."""
        prefix = f"{self._prefix}linux/status/v1/interface/"
        try:
            answer = self._ask("kv/range", {"key": _text(prefix), "range_end": _text(prefix[:-1] + "0")}, within=0)
        except OSError:
            return {}
        states = [json.loads(base64.b64decode(found["value"])) for found in answer.get("kvs", [])]
        return {state["name"]: state for state in states}

    def compact(self) -> None:
        """Have etcd forget all that was before now."""
        revision = self._ask("kv/range", {"key": _text("none")})["header"]["revision"]
        try:
            self._ask("kv/compaction", {"revision": revision}, within=0)
        except urllib.error.HTTPError as error:
            if error.code != 400:  # nothing has changed since the last time
                raise

    def _key(self, name: str, family: Family) -> str:
        return f"{self._prefix}{_PLACES[family]}/{name}"

    def _ask(self, what: str, fields: dict[str, Any], *, within: float = PATIENCE) -> Any:
        """Ask etcd, again and again while it does not answer."""
        deadline = time.monotonic() + within
        request = urllib.request.Request(f"{self._server.url}/v3/{what}", json.dumps(fields).encode())
        while True:
            try:
                with _OPENER.open(request, timeout=10) as answer:
                    return json.load(answer)
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.05)


def _text(text: str) -> str:
    return _bytes(text.encode())


def _bytes(value: bytes) -> str:
    return base64.b64encode(value).decode()
