"""Tell a service manager how far the service is (the protocol of ``sd_notify``, systemd's)."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify(message: str) -> None:
    """Send a message such as ``READY=1`` if a service manager asked for it; silent when it cannot be sent."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        # An address that begins with @ is in the abstract namespace.
        manager.connect("\0" + address[1:] if address.startswith("@") else address)
        manager.send(message.encode())
