"""Creates links whose lower link is in another namespace.

The request is sent in the link's own namespace and names the other one by its id there, so that a tunnel sends its
packets where it should. Kernels before 6.18 make the link in the lower one's namespace and move it: if that has a link
of the same name, the request is refused with ``EEXIST``. So it is made under a name that nothing has, and renamed.
"""

from __future__ import annotations

import errno
import os
from dataclasses import replace

from ifagent.core.names import HostName
from ifagent.core.operations import CreateLink
from ifagent.errors import AgentBug
from ifagent.kernel.messages import parse_link, parse_nsid
from ifagent.kernel.netlink import Ack
from ifagent.kernel.requests import assign_nsid, delete_link, encode, get_link_called, get_nsid, set_name
from ifagent.kernel.sockets import RequestSocket


def create_above(socket: RequestSocket, operation: CreateLink, *, own_fd: int, lower_fd: int) -> Ack:
    """Create a link in the namespace of ``socket``, whose open file is ``own_fd``; ``lower_fd`` is its lower link's.

    Nothing is left of it if it cannot have its name. Raises ``OSError``.
    """
    end = operation.ends[0]
    if not isinstance(end.namespace, int):
        raise AgentBug(f"{operation}: a namespace is not resolved")
    (ack,) = socket.request([assign_nsid(lower_fd)])
    if ack.errno not in {0, errno.EEXIST}:
        return Ack(ack.errno, ack.text or "cannot assign an nsid to the namespace of the lower link")
    nsid = parse_nsid(*socket.ask(get_nsid(lower_fd))).nsid
    temporary = HostName(f"ifa{os.urandom(6).hex()}")
    made = replace(operation, ends=(replace(end, host_name=temporary),))
    (ack,) = socket.request([encode(made, fds={end.namespace: own_fd}, nsid=nsid)])
    if ack.errno:
        return ack
    link = parse_link(*socket.ask(get_link_called(temporary)))
    if link is None:
        return Ack(errno.ENODEV, "")
    (ack,) = socket.request([set_name(link.ifindex, end.host_name)])
    if ack.errno:
        socket.request([delete_link(link.ifindex)])
    return ack
