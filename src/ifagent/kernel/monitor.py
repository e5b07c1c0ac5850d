"""Reads the notifications of all attached namespaces and keeps the links up to date.

A notification can be read before the request that caused it is acknowledged: whoever reads all pending notifications
after a request knows what it did, except in namespaces that are *behind*.

Namespace ids (*nsids*) are relative: a message of one namespace names another by the id that it has *there*. A request
socket in the agent's own namespace translates them, so every attached namespace is assigned an nsid in that.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from ifagent.core.events import LinkSeen, LinksListed
from ifagent.core.link import LinkId, NsId
from ifagent.kernel.attributes import UNREADABLE
from ifagent.kernel.bridge_vlans import PortVlans, parse_port_vlans
from ifagent.kernel.features import KernelFeatures
from ifagent.kernel.link_cache import LinkCache, NamespaceDump, Notification
from ifagent.kernel.listeners import AT_A_TIME, Listener, Listeners
from ifagent.kernel.messages import AddressMessage, LinkMessage, parse_address, parse_link, parse_nsid
from ifagent.kernel.netlink import Message
from ifagent.kernel.requests import assign_nsid, dump_nsids, get_nsid
from ifagent.kernel.rtnetlink import (
    NETNSA_NSID_NOT_ASSIGNED,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELNSID,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNSID,
)
from ifagent.kernel.sockets import ListenSocket, RequestSocket
from ifagent.log import log

FEW = 16
"""Most notifications during a listing, however short, with which a namespace is followed again."""

SOME = 500
"""The same for a listing that takes one second."""

EACH = 0.001
"""Additional seconds of the loop's time that a namespace may take for each operation that the agent executes in it."""

EXPECTED = 0.1
"""Most additional seconds for all operations whose notifications have not been read yet."""


class Monitor:
    """Listens from construction to :meth:`close`; for the event loop only, never blocks. ``links`` is what it knows."""

    def __init__(self, own: NsId, own_fd: int, *, buffer: int | None, features: KernelFeatures) -> None:
        """Start without namespaces. ``own_fd`` is an open file of the own one, ``buffer`` as of :class:`Listeners`.

        Raises ``OSError``.
        """
        self._own = own
        self._own_fd = own_fd
        self._features = features
        self.links: LinkCache = LinkCache(self._resolve, newest_first=features.newest_first)
        self._nsids: dict[NsId, int] = {}
        self._namespaces: dict[int, NsId] = {}
        self._by_nsid: dict[NsId, dict[int, NsId | None]] = {}
        self._unread: dict[NsId, Listener] = {}
        self._behind_changes: dict[NsId, bool] = {}
        self._warned: set[NsId] = set()
        self._requests = RequestSocket()
        try:
            self._listeners = Listeners(own, buffer=buffer)
        except OSError:
            self._requests.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor, to wait on."""
        return self._listeners.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._listeners.close()
        self._requests.close()

    def buffer_for(self, namespace: NsId) -> int:
        """Return the size of a namespace's receive buffer in bytes."""
        return self._listeners.buffer_for(namespace)

    def listen(self, namespace: NsId, fd: int, socket: ListenSocket) -> None:
        """Follow a namespace from now on; ``fd`` is its open file. Raises ``OSError``."""
        if namespace != self._own:
            (ack,) = self._requests.request([assign_nsid(fd)])
            if ack.errno not in {0, errno.EEXIST}:
                raise OSError(ack.errno, ack.text or "cannot assign an nsid to the namespace")
            nsid = parse_nsid(*self._requests.ask(get_nsid(fd))).nsid
            self._nsids[namespace] = nsid
            self._namespaces[nsid] = namespace
        self._listeners.add(namespace, socket)
        # An nsid that belonged to no attached namespace may belong to this one.
        for by_nsid in self._by_nsid.values():
            for nsid in [nsid for nsid, found in by_nsid.items() if found is None]:
                del by_nsid[nsid]

    def forget(self, namespace: NsId) -> list[LinkSeen]:
        """Stop following a namespace; return the links elsewhere whose peers are no longer known."""
        self._listeners.remove(namespace)
        self._namespaces.pop(self._nsids.pop(namespace, NETNSA_NSID_NOT_ASSIGNED), None)
        self._by_nsid.pop(namespace, None)
        for by_nsid in self._by_nsid.values():
            for nsid in [nsid for nsid, found in by_nsid.items() if found == namespace]:
                del by_nsid[nsid]
        self._unread.pop(namespace, None)
        self._behind_changes.pop(namespace, None)
        self._warned.discard(namespace)
        self.links.drop(namespace)
        return self._changed()

    # Listings

    def is_behind(self, namespace: NsId) -> bool:
        """Tell whether a namespace is attached and not followed."""
        listener = self._listeners.get(namespace)
        return listener is not None and listener.behind

    def leave(self, namespace: NsId) -> None:
        """Stop following a namespace until it has been listed again."""
        if not self._listeners[namespace].behind:
            self._fall_behind(self._listeners[namespace])

    def record(self, namespace: NsId) -> None:
        """Record a namespace's notifications from now on until it is listed; forget those recorded before."""
        self._listeners[namespace].recorded = []

    def has_recorded(self, namespace: NsId) -> bool:
        """Tell whether there was a notification since :meth:`record`."""
        return bool(self._listeners[namespace].recorded)

    def catch_up(self, namespace: NsId, *, taken: float) -> None:
        """Follow a namespace again that was subscribed to ``taken`` seconds ago, unless too much has happened since."""
        listener = self._listeners[namespace]
        if self._listeners.catch_up(listener, FEW + int(SOME * taken)):
            self._behind_changes[namespace] = False
            self._warned.discard(namespace)
            self._parse(listener, len(listener))

    def replace(self, namespace: NsId, dump: NamespaceDump) -> tuple[LinksListed, list[LinkSeen]]:
        """Apply a dump that was requested after :meth:`record`, and the notifications recorded since.

        Return it, and the links in other namespaces whose peers are known now.
        """
        listener = self._listeners[namespace]
        recorded, listener.recorded = listener.recorded or (), None
        listed = self.links.replace(namespace, dump, recorded)
        return replace(listed, cookie=listener.socket.cookie), self._changed()

    def lose(self, namespace: NsId, problem: Exception) -> None:
        """Stop following a namespace that cannot be listed or parsed."""
        listener = self._listeners[namespace]
        if not listener.behind:
            self._fall_behind(listener, problem)
        elif namespace not in self._warned:
            self._warn(namespace, problem)

    def take_behind_changes(self) -> dict[NsId, bool]:
        """Return, once, the namespaces that fell behind (true) or caught up (false)."""
        changes, self._behind_changes = self._behind_changes, {}
        return changes

    # Notifications

    def expect(self, namespace: NsId) -> None:
        """Allow a namespace the notifications of one operation of the agent."""
        if (listener := self._listeners.get(namespace)) is not None:
            listener.allowance.grant(EACH, time.monotonic(), most=EXPECTED)

    def process_deferred(self) -> None:
        """Parse what was received before, after receiving more: of each link only the latest message is parsed."""
        settled = {listener: len(listener) for listener in self._unread.values()}
        self._gather()
        for listener, count in settled.items():
            self._parse(listener, count)

    def read(self) -> list[LinkSeen]:
        """Read all pending notifications, and return the links that have changed."""
        self._gather()
        for listener in list(self._unread.values()):
            self._parse(listener, len(listener))
        return self._changed()

    def apply_silent_change(self, id_: LinkId, *, alias: str | None, group: int | None) -> None:
        """Apply what a request has set on a link, once all notifications up to it have been read.

        For a link that is up there was a notification, perhaps another one of what somebody else has set since.
        """
        link = self.links.link(id_)
        if link is not None and not link.up:
            alias = link.alias if alias is None else alias
            self.apply_read({id_: link._replace(alias=alias, group=link.group if group is None else group)})

    def apply_read(self, found: Mapping[LinkId, LinkMessage]) -> None:
        """Apply links as they were just read, once all notifications up to then have been read."""
        for id_, link in found.items():
            if id_.namespace in self._listeners:
                self._apply(self._listeners[id_.namespace], Notification(link))

    # Reading

    def _gather(self) -> None:
        """Receive all pending notifications from the sockets."""
        for listener in self._listeners.ready():
            try:
                complete = self._listeners.gather(listener)
            except (OSError, *UNREADABLE) as error:
                self._fall_behind(listener, error)
                continue
            if not complete:
                self._fall_behind(listener)
            elif len(listener):
                self._unread[listener.namespace] = listener

    def _parse(self, listener: Listener, count: int) -> None:
        """Parse the oldest ``count`` messages received, and fall behind if that takes too long."""
        began = time.thread_time()
        ends = began + self._listeners.left(listener)
        try:
            for place, (data, message) in enumerate(listener.take(count), start=1):
                self._handle(listener, data, message)
                if place % AT_A_TIME == 0 and time.thread_time() > ends:
                    self._fall_behind(listener)
                    break
        except UNREADABLE as error:
            self._fall_behind(listener, error)
        if not len(listener):
            self._unread.pop(listener.namespace, None)
        self._listeners.spend(listener, began)

    def _changed(self) -> list[LinkSeen]:
        """Return the links that differ from what was last reported."""
        seen = []
        for namespace in self.links.dirty_namespaces():
            began = time.thread_time()
            seen += self.links.changed_in(namespace)
            if (listener := self._listeners.get(namespace)) is not None:
                self._listeners.spend(listener, began)
        return seen

    def _fall_behind(self, listener: Listener, problem: Exception | None = None) -> None:
        """Stop following a namespace until it is listed."""
        namespace = listener.namespace
        self._unread.pop(namespace, None)
        self._by_nsid.pop(namespace, None)  # a notification that is missed may be about nsids
        self._behind_changes[namespace] = True
        with suppress(OSError):
            self._listeners.fall_behind(listener)
        if isinstance(problem, UNREADABLE) and namespace not in self._warned:
            self._warn(namespace, problem)

    def _warn(self, namespace: NsId, problem: Exception) -> None:
        self._warned.add(namespace)
        text = problem.strerror if isinstance(problem, OSError) else str(problem)
        log.warning("cannot read network namespace", namespace=namespace, problem=text)

    def _handle(self, listener: Listener, data: bytes, message: Message) -> None:
        if message.type in {RTM_NEWNSID, RTM_DELNSID}:
            self._by_nsid.get(listener.namespace, {}).pop(parse_nsid(data, message).nsid, None)
            return
        parsed = _parse_notification(data, message, has_ifa_proto=self._features.has_ifa_proto)
        if parsed is not None:
            self._apply(listener, Notification(parsed, gone=message.type in {RTM_DELLINK, RTM_DELADDR}))

    def _apply(self, listener: Listener, notification: Notification) -> None:
        if listener.recorded is not None:
            listener.recorded.append(notification)
        self.links.apply(listener.namespace, notification)

    # Namespace ids

    def _resolve(self, namespace: NsId, nsid: int) -> NsId | None:
        """Return the attached namespace that ``namespace`` knows as ``nsid``."""
        if namespace == self._own:
            return self._namespaces.get(nsid)
        by_nsid = self._by_nsid.setdefault(namespace, {})
        if nsid not in by_nsid and namespace in self._nsids:
            with suppress(OSError):
                self._query_nsids(namespace, by_nsid)
        return by_nsid.setdefault(nsid, None)

    def _query_nsids(self, namespace: NsId, by_nsid: dict[int, NsId | None]) -> None:
        """Query which nsids a namespace has assigned to others. Raises ``OSError``."""
        target = self._nsids[namespace]
        for data, message in self._requests.dump(dump_nsids(target)):
            there = parse_nsid(data, message)
            by_nsid[there.nsid] = self._namespaces.get(there.current)
        # The own namespace usually has no nsid in itself, and so is not in that dump.
        own = parse_nsid(*self._requests.ask(get_nsid(self._own_fd, target=target))).nsid
        if own != NETNSA_NSID_NOT_ASSIGNED:
            by_nsid[own] = self._own


def _parse_notification(
    data: bytes, message: Message, *, has_ifa_proto: bool
) -> LinkMessage | AddressMessage | PortVlans | None:
    """Return what a notification says, ``None`` for one that says nothing of interest."""
    if message.type in {RTM_NEWADDR, RTM_DELADDR}:
        return parse_address(data, message, has_ifa_proto=has_ifa_proto)
    if message.type not in {RTM_NEWLINK, RTM_DELLINK}:
        return None
    link = parse_link(data, message)
    if link is not None or message.type == RTM_DELLINK:  # who is a port no more has no VLANs that count
        return link
    return parse_port_vlans(data, message)
