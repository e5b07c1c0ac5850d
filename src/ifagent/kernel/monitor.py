"""What is heard of all attached namespaces, and what is understood of it.

A notification is there to be read before the request that caused it is acknowledged: whoever reads all that is there
after a request knows what it did, but for namespaces that are *behind*.

Namespaces have ids, which are relative. In the messages of a namespace, another one is called by the id that it has
*there* (its *nsid*); what that means is asked over a socket for questions, in the words of the agent's own namespace.
So a namespace has to have an id in that, and is given one when it is attached.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace

from ifagent.core.events import LinkSeen, LinksListed
from ifagent.core.link import Checksums, LinkId, NsId, Speed
from ifagent.kernel.attributes import UNREADABLE
from ifagent.kernel.facts import KernelFacts
from ifagent.kernel.listeners import AT_A_TIME, Listener, Listeners
from ifagent.kernel.messages import AddressMessage, LinkMessage, Message, parse_address, parse_link, parse_nsid
from ifagent.kernel.mirror import Change, Listing, Mirror
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
"""Most things that a namespace may have said while it was listed, however short that took, to be followed again."""

SOME = 500
"""The same for a listing that takes a second."""

EACH = 0.001
"""Seconds that a namespace may take more of the loop's time for each operation that the agent carries out there."""

EXPECTED = 0.1
"""Seconds that it may take more for all operations together whose notifications were not read yet."""


class Monitor:
    """Listens from its making to :meth:`close`; used on the event loop, never waits."""

    def __init__(self, own: NsId, own_fd: int, *, buffer: int | None, facts: KernelFacts) -> None:
        """Listen to nobody yet. ``own_fd`` is a file of the agent's namespace; ``buffer`` as of :class:`Listeners`.

        Raises ``OSError``.
        """
        self._own = own
        self._own_fd = own_fd
        self._facts = facts
        self._mirror = Mirror(self._resolve, newest_first=facts.newest_first)
        self._nsids: dict[NsId, int] = {}
        self._namespaces: dict[int, NsId] = {}
        self._relative: dict[NsId, dict[int, NsId | None]] = {}
        self._unread: dict[NsId, Listener] = {}
        self._fallen: dict[NsId, bool] = {}
        self._complained: set[NsId] = set()
        self._questions = RequestSocket()
        try:
            self._listeners = Listeners(own, buffer=buffer)
        except OSError:
            self._questions.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor, to wait on."""
        return self._listeners.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._listeners.close()
        self._questions.close()

    def buffer_for(self, namespace: NsId) -> int:
        """Return the bytes of the receive buffer that a namespace's socket is to have."""
        return self._listeners.buffer_for(namespace)

    def listen(self, namespace: NsId, fd: int, socket: ListenSocket) -> None:
        """Hear of a namespace from now on; ``fd`` is its open file. Raises ``OSError``."""
        if namespace != self._own:
            (ack,) = self._questions.request([assign_nsid(fd)])
            if ack.errno not in {0, errno.EEXIST}:
                raise OSError(ack.errno, ack.text or "no id for the namespace")
            nsid = parse_nsid(*self._questions.ask(get_nsid(fd))).nsid
            self._nsids[namespace] = nsid
            self._namespaces[nsid] = namespace
        self._listeners.add(namespace, socket)
        # What meant none of ours may mean this one.
        for meanings in self._relative.values():
            for nsid in [nsid for nsid, meant in meanings.items() if meant is None]:
                del meanings[nsid]

    def forget(self, namespace: NsId) -> list[LinkSeen]:
        """Stop hearing of a namespace; return the links elsewhere whose peers are no longer known."""
        self._listeners.remove(namespace)
        self._namespaces.pop(self._nsids.pop(namespace, NETNSA_NSID_NOT_ASSIGNED), None)
        self._relative.pop(namespace, None)
        for meanings in self._relative.values():
            for nsid in [nsid for nsid, meant in meanings.items() if meant == namespace]:
                del meanings[nsid]
        self._unread.pop(namespace, None)
        self._fallen.pop(namespace, None)
        self._complained.discard(namespace)
        self._mirror.drop(namespace)
        return self._changed()

    # Listings

    def is_behind(self, namespace: NsId) -> bool:
        """Tell whether a namespace is not followed."""
        listener = self._listeners.get(namespace)
        return listener is not None and listener.behind

    def knows(self, namespace: NsId) -> bool:
        """Tell whether a namespace has been listed."""
        return namespace in self._mirror

    def leave(self, namespace: NsId) -> None:
        """Do not follow a namespace until it has been listed anew."""
        if not self._listeners[namespace].behind:
            self._fall_behind(self._listeners[namespace])

    def record(self, namespace: NsId) -> None:
        """Keep, from now on, what is heard of a namespace until its listing comes; forget what was kept."""
        self._listeners[namespace].recorded = []

    def heard(self, namespace: NsId) -> bool:
        """Tell whether anything was kept since :meth:`record`."""
        return bool(self._listeners[namespace].recorded)

    def catch_up(self, namespace: NsId, *, taken: float) -> None:
        """Follow a namespace again, if it can be, that has been heard for ``taken`` seconds, since it was listed."""
        listener = self._listeners[namespace]
        if self._listeners.catch_up(listener, FEW + int(SOME * taken)):
            self._fallen[namespace] = False
            self._complained.discard(namespace)
            self._understand(listener, len(listener))

    def replace(self, namespace: NsId, listing: Listing) -> tuple[LinksListed, list[LinkSeen]]:
        """Take a listing that was asked for after :meth:`record`, and what was heard since.

        Return it, and the links in other namespaces whose peers are known now.
        """
        listener = self._listeners[namespace]
        changes, listener.recorded = listener.recorded or (), None
        listed = self._mirror.replace(namespace, listing, changes)
        return replace(listed, cookie=listener.socket.cookie), self._changed()

    def lose(self, namespace: NsId, problem: Exception) -> None:
        """Do not follow a namespace that cannot be listed or understood."""
        listener = self._listeners[namespace]
        if not listener.behind:
            self._fall_behind(listener, problem)
        elif namespace not in self._complained:
            self._complain(namespace, problem)

    def take_fallen(self) -> dict[NsId, bool]:
        """Return, once, the namespaces that are behind now, and false for those that are not any more."""
        fallen, self._fallen = self._fallen, {}
        return fallen

    # Notifications

    def expect(self, namespace: NsId) -> None:
        """Allow a namespace what is said because of one operation of the agent's."""
        if (listener := self._listeners.get(namespace)) is not None:
            listener.allowance.grant(EACH, time.monotonic(), most=EXPECTED)

    def digest(self) -> None:
        """Gather what the kernel has said, and understand what had been gathered before: of that more rarely comes."""
        settled = {listener: len(listener) for listener in self._unread.values()}
        self._gather()
        for listener, count in settled.items():
            self._understand(listener, count)

    def read(self) -> list[LinkSeen]:
        """Read all that the kernel has said so far, and return the links that are different by it."""
        self._gather()
        for listener in list(self._unread.values()):
            self._understand(listener, len(listener))
        return self._changed()

    def amend(self, id_: LinkId, *, alias: str | None, group: int | None) -> None:
        """Take note of what a request has set on a link, after everything said before it was read.

        The kernel keeps silent about alias and group of a link that is down. Of one that is up it has told, and of
        what somebody else has set since as well.
        """
        said = self._mirror.link(id_)
        if said is not None and not said.up:
            alias = said.alias if alias is None else alias
            group = said.group if group is None else group
            self._change(self._listeners[id_.namespace], Change(said._replace(alias=alias, group=group)))

    # What notifications do not tell

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
        return self._mirror.take_unsure()

    # Reading

    def _gather(self) -> None:
        """Take what the kernel has said so far out of the sockets."""
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

    def _understand(self, listener: Listener, count: int) -> None:
        """Take in so many of the messages that were gathered, the oldest first, unless that takes too long."""
        began = time.thread_time()
        ends = began + self._listeners.left(listener)
        try:
            for place, (data, message) in enumerate(listener.take(count), start=1):
                self._take(listener, data, message)
                if place % AT_A_TIME == 0 and time.thread_time() > ends:
                    self._fall_behind(listener)
                    break
        except UNREADABLE as error:
            self._fall_behind(listener, error)
        if not len(listener):
            self._unread.pop(listener.namespace, None)
        self._listeners.spend(listener, began)

    def _changed(self) -> list[LinkSeen]:
        """Return the links that are different from what was told of them last."""
        seen = []
        for namespace in self._mirror.touched():
            began = time.thread_time()
            seen += self._mirror.changed_in(namespace)
            if (listener := self._listeners.get(namespace)) is not None:
                self._listeners.spend(listener, began)
        return seen

    def _fall_behind(self, listener: Listener, problem: Exception | None = None) -> None:
        """Stop to follow a namespace, until it is listed."""
        namespace = listener.namespace
        self._unread.pop(namespace, None)
        self._relative.pop(namespace, None)  # what is not heard may be about ids
        self._fallen[namespace] = True
        with suppress(OSError):
            self._listeners.fall_behind(listener)
        if isinstance(problem, UNREADABLE) and namespace not in self._complained:
            self._complain(namespace, problem)

    def _complain(self, namespace: NsId, problem: Exception) -> None:
        self._complained.add(namespace)
        text = problem.strerror if isinstance(problem, OSError) else str(problem)
        log.warning("cannot tell what there is in a network namespace", namespace=namespace, problem=text)

    def _take(self, listener: Listener, data: bytes, message: Message) -> None:
        said: LinkMessage | AddressMessage | None = None
        if message.type in {RTM_NEWLINK, RTM_DELLINK}:
            said = parse_link(data, message)
        elif message.type in {RTM_NEWADDR, RTM_DELADDR}:
            said = parse_address(data, message, tells_maker=self._facts.tells_maker)
        elif message.type in {RTM_NEWNSID, RTM_DELNSID}:
            self._relative.get(listener.namespace, {}).pop(parse_nsid(data, message).nsid, None)
        if said is not None:
            self._change(listener, Change(said, gone=message.type in {RTM_DELLINK, RTM_DELADDR}))

    def _change(self, listener: Listener, change: Change) -> None:
        if listener.recorded is not None:
            listener.recorded.append(change)
        self._mirror.apply(listener.namespace, change)

    # Ids of namespaces

    def _resolve(self, namespace: NsId, nsid: int) -> NsId | None:
        """Return the attached namespace that ``namespace`` calls ``nsid``."""
        if namespace == self._own:
            return self._namespaces.get(nsid)
        meanings = self._relative.setdefault(namespace, {})
        if nsid not in meanings and namespace in self._nsids:
            with suppress(OSError):
                self._learn_relative(namespace, meanings)
        return meanings.setdefault(nsid, None)

    def _learn_relative(self, namespace: NsId, meanings: dict[int, NsId | None]) -> None:
        """Ask which ids a namespace has for others. Raises ``OSError``."""
        target = self._nsids[namespace]
        for data, message in self._questions.dump(dump_nsids(target)):
            there = parse_nsid(data, message)
            meanings[there.nsid] = self._namespaces.get(there.current)
        # The own namespace mostly has no id in itself, and so none in that listing.
        own = parse_nsid(*self._questions.ask(get_nsid(self._own_fd, target=target))).nsid
        if own != NETNSA_NSID_NOT_ASSIGNED:
            meanings[own] = self._own
