"""The one socket that hears of all attached namespaces, and what is understood of it.

A notification carries the id that its namespace has in the agent's own (its *nsid*), so a namespace has to
have one, and is given one when it is attached. A notification is there to be read before the request that
caused it is acknowledged: whoever reads all that is there after a request knows what it did.

Ids are relative. In the messages of a namespace, another one is called by the id that it has *there*; what
that means here is asked once over a socket for questions, and kept until the kernel says that it is over.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Mapping
from contextlib import suppress

from ifagent.core.events import LinkSeen, LinksListed
from ifagent.core.link import Checksums, LinkId, NsId, Speed
from ifagent.kernel.facts import KernelFacts
from ifagent.kernel.messages import AddressMessage, LinkMessage, Message, parse_address, parse_link, parse_nsid, split
from ifagent.kernel.mirror import Change, Listing, Mirror
from ifagent.kernel.requests import assign_nsid, dump_nsids, get_nsid
from ifagent.kernel.rtnetlink import (
    IFINFO,
    NETNSA_NSID_NOT_ASSIGNED,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELNSID,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNSID,
)
from ifagent.kernel.sockets import ListenSocket, RequestSocket

_SMALLEST_FOOTPRINT = 768
"""Bytes that the smallest notification takes of the receive buffer, so a buffer of n holds at most n / 768."""


COMPLETE = 512
"""Bytes that a message about all of a link has at least; one about a part, such as a wireless event, is shorter."""


class Monitor:
    """Listens from its making to :meth:`close`; used on the event loop, never waits."""

    def __init__(self, own: NsId, own_fd: int, *, buffer: int, facts: KernelFacts) -> None:
        """Subscribe. ``own_fd`` is a file of the agent's namespace; ``buffer`` is in bytes. Raises ``OSError``."""
        self._own = own
        self._own_fd = own_fd
        self._buffer = buffer
        self._facts = facts
        self._mirror = Mirror(self._resolve, newest_first=facts.newest_first)
        self._nsids: dict[NsId, int] = {}
        self._namespaces: dict[int, NsId] = {}
        self._relative: dict[tuple[NsId, int], NsId | None] = {}
        self._recorded: dict[NsId, list[Change]] = {}
        self._unread: list[tuple[NsId, bytes, Message]] = []
        self._latest: dict[tuple[NsId, int], int] = {}
        self._overrun = False
        self._questions = RequestSocket()
        try:
            self._socket = ListenSocket(buffer=buffer)
        except OSError:
            self._questions.close()
            raise
        self._learn_own_nsid()

    def fileno(self) -> int:
        """Return the descriptor, to wait on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        self._questions.close()

    def listen(self, namespace: NsId, fd: int) -> None:
        """Hear of a namespace from now on; ``fd`` is its open file. Raises ``OSError``."""
        if namespace != self._own:
            (ack,) = self._questions.request([assign_nsid(fd)])
            if ack.errno not in {0, errno.EEXIST}:
                raise OSError(ack.errno, ack.text or "no id for the namespace")
            nsid = parse_nsid(*self._questions.ask(get_nsid(fd))).nsid
            self._nsids[namespace] = nsid
            self._namespaces[nsid] = namespace
        # What meant none of ours may mean this one.
        self._relative = {key: meant for key, meant in self._relative.items() if meant is not None}

    def forget(self, namespace: NsId) -> list[LinkSeen]:
        """Stop hearing of a namespace; return the links elsewhere whose peers are no longer known."""
        self._namespaces.pop(self._nsids.pop(namespace, NETNSA_NSID_NOT_ASSIGNED), None)
        self._recorded.pop(namespace, None)
        self._relative = {key: meant for key, meant in self._relative.items() if namespace not in {key[0], meant}}
        self._mirror.drop(namespace)
        return self._mirror.changed()

    def record(self, namespace: NsId) -> None:
        """Keep, from now on, what is heard of a namespace until its listing comes; forget what was kept."""
        self._recorded[namespace] = []

    def heard(self, namespace: NsId) -> bool:
        """Tell whether anything was kept since :meth:`record`."""
        return bool(self._recorded.get(namespace))

    def replace(self, namespace: NsId, listing: Listing) -> tuple[LinksListed, list[LinkSeen]]:
        """Take a listing that was asked for after :meth:`record`, and what was heard since.

        Return it, and the links in other namespaces whose peers are known now.
        """
        listed = self._mirror.replace(namespace, listing, self._recorded.pop(namespace, ()))
        return listed, self._mirror.changed()

    def digest(self) -> None:
        """Gather what the kernel has said, and understand what had been gathered before: of that more rarely comes."""
        settled = len(self._unread)
        self._gather()
        self._understand(settled)

    def _gather(self) -> None:
        """Take what the kernel has said so far out of the socket's buffer."""
        for _ in range(self._buffer * 2 // _SMALLEST_FOOTPRINT):  # the kernel doubles the size asked for
            try:
                data, nsid = self._socket.receive()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._overrun = True
                continue
            namespace = self._own if nsid is None else self._namespaces.get(nsid)
            if namespace is not None:
                for message in split(data):
                    self._keep(namespace, data, message)

    def _keep(self, namespace: NsId, data: bytes, message: Message) -> None:
        """Keep a message until it is read; a link that was told of already is told of by the newest message alone."""
        if message.type == RTM_NEWLINK and message.end - message.start >= COMPLETE:
            about = namespace, IFINFO.unpack_from(data, message.start)[2]
            place = self._latest.setdefault(about, len(self._unread))
            if place < len(self._unread):
                self._unread[place] = namespace, data, message
                return
        elif message.type in {RTM_DELLINK, RTM_NEWNSID, RTM_DELNSID}:
            self._latest.clear()
        self._unread.append((namespace, data, message))

    def read(self) -> list[LinkSeen]:
        """Read all that the kernel has said so far, and return the links that are different by it."""
        self._gather()
        self._understand(len(self._unread))
        return self._mirror.changed()

    def _understand(self, count: int) -> None:
        """Take in so many of the messages that were gathered, the oldest first."""
        unread, self._unread = self._unread[:count], self._unread[count:]
        self._latest = {about: place - count for about, place in self._latest.items() if place >= count}
        for namespace, data, message in unread:
            self._take(namespace, data, message)

    def amend(self, id_: LinkId, *, alias: str | None, group: int | None) -> None:
        """Take note of what a request has set on a link, after everything said before it was read.

        The kernel keeps silent about alias and group of a link that is down. Of one that is up it has told, and of
        what somebody else has set since as well.
        """
        said = self._mirror.link(id_)
        if said is not None and not said.up:
            alias = said.alias if alias is None else alias
            group = said.group if group is None else group
            self._change(id_.namespace, Change(said._replace(alias=alias, group=group)))

    def inspect(self, links: Collection[LinkId]) -> set[LinkId]:
        """Tell of these links' checksum offloading; see :meth:`Mirror.inspect`."""
        return self._mirror.inspect(links)

    def know_checksums(self, found: Mapping[LinkId, Checksums]) -> None:
        """Take note of what links' checksum offloading is."""
        for id_, checksums in found.items():
            self._mirror.know_checksums(id_, checksums)

    def in_group(self, namespace: NsId, group: int) -> set[int]:
        """Return the links of a group in a namespace."""
        return self._mirror.in_group(namespace, group)

    def take_stirred(self) -> set[LinkId]:
        """Return, once, the links whose checksum offloading is to be asked for again."""
        return self._mirror.take_stirred()

    def know_speeds(self, found: Mapping[LinkId, Speed]) -> None:
        """Take note of how fast links say they are."""
        self._mirror.know_speeds(found)

    def take_speed_doubtful(self) -> set[LinkId]:
        """Return, once, the links whose speed is to be asked for."""
        return self._mirror.take_speed_doubtful()

    def take_doubtful(self) -> set[NsId]:
        """Return, once, the namespaces to be listed anew because not everything is known of them."""
        unsure = self._mirror.take_unsure()
        if self._overrun:
            self._overrun = False
            self._relative.clear()  # what was lost may have been about ids
            unsure |= {self._own, *self._nsids}
        return unsure

    def _take(self, namespace: NsId, data: bytes, message: Message) -> None:
        said: LinkMessage | AddressMessage | None = None
        if message.type in {RTM_NEWLINK, RTM_DELLINK}:
            said = parse_link(data, message)
        elif message.type in {RTM_NEWADDR, RTM_DELADDR}:
            said = parse_address(data, message, tells_maker=self._facts.tells_maker)
        elif message.type in {RTM_NEWNSID, RTM_DELNSID}:
            self._relative.pop((namespace, parse_nsid(data, message).nsid), None)
            if namespace == self._own:
                self._learn_own_nsid()
        if said is None:
            return
        self._change(namespace, Change(said, gone=message.type in {RTM_DELLINK, RTM_DELADDR}))

    def _change(self, namespace: NsId, change: Change) -> None:
        if namespace in self._recorded:
            self._recorded[namespace].append(change)
        self._mirror.apply(namespace, change)

    def _learn_own_nsid(self) -> None:
        """Note the id that the own namespace has in itself, if somebody gave it one: its messages carry it."""
        with suppress(OSError):
            nsid = parse_nsid(*self._questions.ask(get_nsid(self._own_fd))).nsid
            if nsid != NETNSA_NSID_NOT_ASSIGNED:
                self._namespaces[nsid] = self._own

    def _resolve(self, namespace: NsId, nsid: int) -> NsId | None:
        """Return the attached namespace that ``namespace`` calls ``nsid``."""
        if namespace == self._own:
            return self._namespaces.get(nsid)
        key = namespace, nsid
        if key not in self._relative and namespace in self._nsids:
            with suppress(OSError):
                self._learn_relative(namespace)
        return self._relative.setdefault(key, None)

    def _learn_relative(self, namespace: NsId) -> None:
        """Ask which ids a namespace has for others. Raises ``OSError``."""
        target = self._nsids[namespace]
        for data, message in self._questions.dump(dump_nsids(target)):
            there = parse_nsid(data, message)
            self._relative[namespace, there.nsid] = self._namespaces.get(there.current)
        # The own namespace mostly has no id in itself, and so none in that listing.
        own = parse_nsid(*self._questions.ask(get_nsid(self._own_fd, target=target))).nsid
        if own != NETNSA_NSID_NOT_ASSIGNED:
            self._relative[namespace, own] = self._own
