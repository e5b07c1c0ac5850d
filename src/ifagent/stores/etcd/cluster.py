"""The connections to one cluster: whose turn it is, who we are to its members, and what their errors mean.

One connection per endpoint, made when it is first used. All requests go to one endpoint until it fails; then the
next one has its turn. Certificate files are read anew after every failure: if they have changed, all connections
are made anew. A user's token is fetched when it is first needed, and once more when it is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import anyio
import anyio.to_thread
import grpc
import grpc.aio
from aetcd import rpc
from anyio.lowlevel import checkpoint

from ifagent.errors import InvalidSettings
from ifagent.stores.etcd.access import Certificates
from ifagent.stores.etcd.address import Endpoint, EtcdAddress
from ifagent.stores.etcd.answers import BrokenAnswer
from ifagent.stores.etcd.decoding import GuardedChannel
from ifagent.stores.etcd.errors import EtcdError, explain

CANCEL_SETTLE = 0.05
"""Seconds that closing takes after calls were cancelled.

grpc lets go of a cancelled call some milliseconds later and offers nothing to wait for; a program whose loop is
closed by then is told of an error that is none.
"""

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Most bytes of one answer. etcd takes 1.5 MiB in one request, but one request may delete very many keys."""

MAX_TOKEN_BYTES: Final = 8192
"""Most bytes of a token."""

# etcd ends a client that pings more often than every 5 s. Without the ping time-out of HTTP/2 a connection
# that swallows everything takes more than a minute to be noticed.
_CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 3_000),  # is also the time limit of one attempt to connect
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
)

# A member that lost its leader refuses at once instead of letting the request run into its time limit.
_METADATA = (("hasleader", "true"),)

_MOVE_ON = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
    }
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Member:
    """One endpoint with its connection and stubs (generated, hence untyped)."""

    endpoint: Endpoint
    channel: Any
    kv: Any
    lease: Any
    watch: Any
    auth: Any


@dataclass(frozen=True, slots=True)
class Route:
    """Where one request goes, and what goes along with it: never shown, for there is a token in it."""

    member: Member
    token: str = ""

    def __repr__(self) -> str:
        """Name the endpoint."""
        return f"Route({self.member.endpoint})"

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What grpc sends beside the request."""
        return (*_METADATA, ("token", self.token)) if self.token else _METADATA


class Cluster:
    """Carries requests to whichever member answers. Everything raises :class:`EtcdError`."""

    def __init__(self, address: EtcdAddress) -> None:
        self.address = address
        self._members: tuple[Member, ...] = ()
        self._turn = 0
        self._certificates: Certificates | None = None
        self._certificates_may_differ = True
        self._opening = anyio.Lock()
        self._token: str | None = None  # empty: the cluster wants none
        self._cancelled_calls = False

    async def close(self) -> None:
        """Close every connection; what is still in flight ends with an error."""
        for member in self._members:
            await member.channel.close()
        if self._cancelled_calls:
            await anyio.sleep(CANCEL_SETTLE)

    # Whose turn it is

    @property
    def member(self) -> Member:
        """The endpoint whose turn it is; there is one after the first request."""
        return self._members[self._turn]

    def rotate_from(self, member: Member) -> None:
        """Give the turn to the next endpoint if ``member`` has it."""
        self._certificates_may_differ = True
        if member is self.member:
            self._turn = (self._turn + 1) % len(self._members)

    async def route(self) -> Route:
        """Return the way that a request takes now, with connections and token ready."""
        async with self._opening:
            if self._certificates_may_differ and (self.address.tls or not self._members):
                await self._open()
            if self._token is None:
                self._token = await self._authenticate() if self.address.access.user else ""
            return Route(self.member, self._token)

    async def _open(self) -> None:
        """Make the channels, which connect later; make them anew if the certificates have changed."""
        certificates = None
        if self.address.tls:
            try:
                certificates = await anyio.to_thread.run_sync(self.address.access.read_certificates)
            except InvalidSettings as error:
                raise EtcdError(str(error)) from None
        self._certificates_may_differ = False
        if self._members and certificates == self._certificates:
            return
        old, self._certificates = self._members, certificates
        self._members = tuple(_open_member(endpoint, certificates) for endpoint in self.address.endpoints)
        for member in old:
            await member.channel.close()

    # Who we are

    async def _authenticate(self) -> str:
        """Return a token for the user; empty if the cluster asks nobody who they are."""
        access, member = self.address.access, self.member
        try:
            password = await anyio.to_thread.run_sync(access.read_password)
        except InvalidSettings as error:
            raise EtcdError(str(error)) from None
        request = rpc.AuthenticateRequest(name=access.user, password=password)
        try:
            async with self._errors(member):
                asked = member.auth.Authenticate(request, timeout=self.address.timeout, metadata=_METADATA)
                answer = decoded(await guarded(asked))
        except EtcdError as error:
            if "authentication is not enabled" in str(error):
                return ""
            raise
        token = str(answer.token)
        if not (token.isascii() and token.isprintable() and len(token) <= MAX_TOKEN_BYTES):
            raise EtcdError(f"{member.endpoint}: invalid token")
        return token

    def forget_token(self, route: Route, error: EtcdError) -> bool:
        """Forget the token if that is what an error was about; tell whether another attempt makes sense."""
        if not (error.bad_token and self.address.access.user):
            return False
        if self._token == route.token:
            self._token = None
        return True

    # Requests

    async def request(self, attempt: Callable[[Route], Awaitable[T]]) -> T:
        """Carry out one request and return its answer.

        One that could not be delivered goes to every endpoint once, one that was refused for its token goes once
        more with a new one.
        """
        others, renewed = len(self.address.endpoints) - 1, False
        while True:
            route = None
            try:
                route = await self.route()
                async with self._errors(route.member):
                    return await attempt(route)
            except EtcdError as error:
                if route and not renewed and self.forget_token(route, error):
                    renewed = True
                elif error.code == grpc.StatusCode.UNAVAILABLE.name and others:
                    others -= 1
                else:
                    raise
            except asyncio.CancelledError:
                self._cancelled_calls = True
                raise

    def end(self, call: Any) -> None:
        """Cancel a stream."""
        self._cancelled_calls = True
        call.cancel()

    @asynccontextmanager
    async def _errors(self, member: Member) -> AsyncIterator[None]:
        """Turn grpc's errors into ours, and move on from a bad endpoint."""
        try:
            yield
        except grpc.RpcError as error:
            raise self.failed(member, error) from error
        except BrokenAnswer as error:
            raise self.broken(member, error) from error
        except (grpc.aio.BaseError, asyncio.InvalidStateError) as error:
            self.rotate_from(member)
            raise EtcdError(f"{member.endpoint}: the connection was closed") from error

    def broken(self, member: Member, error: BrokenAnswer) -> EtcdError:
        """Say what is wrong with an answer, and move on from the endpoint that sent it."""
        self.rotate_from(member)
        return EtcdError(f"{member.endpoint}: sent an answer that cannot be: {error}")

    def failed(self, member: Member, error: grpc.RpcError) -> EtcdError:
        """Say in our words what grpc reported, and move on from an endpoint that is not well."""
        code = error.code()
        if code in _MOVE_ON:
            self.rotate_from(member)
        text = f"no answer within {self.address.timeout:g} s"
        if code is not grpc.StatusCode.DEADLINE_EXCEEDED:
            text = explain(error.details() or code.name)
        return EtcdError(f"{member.endpoint}: {text}", code.name)


def decoded(answer: Any) -> Any:
    """Return an answer, which grpc makes ``None`` where it cannot decode it."""
    if answer is None:
        raise BrokenAnswer("it cannot be decoded")
    return answer


async def guarded(call: Awaitable[Any]) -> Any:
    """Await a grpc call so that being cancelled works, and a call that was cancelled is an error.

    grpc raises a CancelledError of its own making, which anyio does not know for the one it sent: a scope
    would not end there. At the checkpoint anyio sends it again.
    """
    try:
        return await call
    except asyncio.CancelledError:
        await checkpoint()
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise EtcdError("the connection was closed", grpc.StatusCode.CANCELLED.name) from None


def _open_member(endpoint: Endpoint, certificates: Certificates | None) -> Member:
    if certificates is None:
        channel = grpc.aio.insecure_channel(endpoint.target, options=_CHANNEL_OPTIONS)
    else:
        credentials = grpc.ssl_channel_credentials(certificates.ca, certificates.key, certificates.cert)
        channel = grpc.aio.secure_channel(endpoint.target, credentials, options=_CHANNEL_OPTIONS)
    stubs = (rpc.KVStub, rpc.LeaseStub, rpc.WatchStub, rpc.AuthStub)
    guarded_channel = GuardedChannel(channel)
    return Member(endpoint, channel, *(stub(guarded_channel) for stub in stubs))
