"""Whether a connection has been closed, as its other end sees it."""

from __future__ import annotations

import select
import socket


def is_closed(client: socket.socket) -> bool:
    """Tell whether the other side has closed a connection, without reading what it has sent before."""
    poll = select.poll()
    poll.register(client, 0)  # errors and the end are told always
    return bool(poll.poll(0))
