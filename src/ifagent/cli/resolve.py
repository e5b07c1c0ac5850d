"""Turns options into settings, stores and sockets."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from ifagent.agent_socket import default_socket
from ifagent.cli.store_options import store_accesses
from ifagent.client import open_store
from ifagent.errors import InvalidSettings
from ifagent.settings import Settings
from ifagent.stores.contract import Store
from ifagent.stores.registry import backend_of


def make_settings(**values: object) -> Settings:
    """Return the agent's settings. Raises :class:`InvalidSettings`, which names the option."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        message = str(first["ctx"]["error"]) if "error" in first.get("ctx", {}) else first["msg"]
        raise InvalidSettings(f"{option}: {message}") from None


def check_label(label: str) -> str:
    """Return the label. Raises :class:`InvalidSettings` if it is invalid: it becomes part of paths and keys."""
    return make_settings(label=label).label


def socket_of(*, label: str, socket: Path | None) -> Path:
    """Return the path of the agent's socket. Raises :class:`InvalidSettings`."""
    return socket or default_socket(check_label(label))


def store_of(*, store: str, label: str, socket: Path | None) -> Store:
    """Return the store. Raises :class:`InvalidSettings`."""
    access = store_accesses([store]).get(backend_of(store).name)
    return open_store(store, label=check_label(label), socket=socket, access=access)
