"""The connections to one cluster: choice of endpoint, authentication, and translation of errors.

There is one connection per endpoint, made when it is first used. All requests go to one endpoint until it fails, then
to the next. Certificate files are read again after every failure; if they have changed, all connections are replaced.
A user's token is fetched when it is first needed, and once more when it is refused.
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

grpc releases a cancelled call some milliseconds later and offers nothing to wait for; if the event loop is closed by
then, it logs a spurious error.
"""

MAX_TOKEN_BYTES: Final = 8192
"""Most bytes of a token."""

# etcd disconnects a client that pings more often than every 5 s. Without the ping time-out of HTTP/2 it takes more
# than a minute to notice a connection whose packets are dropped.
_CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 3_000),  # also the time limit of one attempt to connect
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
)

# Makes a member without a leader refuse requests instead of letting them time out.
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
    """The endpoint and the token of one request; ``repr`` leaves the token out."""

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
    """Sends requests to a member that answers. Everything raises :class:`EtcdError`."""

    def __init__(self, address: EtcdAddress) -> None:
        self.address = address
        self._members: tuple[Member, ...] = ()
        self._turn = 0
        self._certificates: Certificates | None = None
        self._certificates_may_differ = True
        self._opening = anyio.Lock()
        self._token: str | None = None  # empty: the cluster needs none
        self._cancelled_calls = False

    async def close(self) -> None:
        """Close every connection; what is still in flight ends with an error."""
        for member in self._members:
            await member.channel.close()
        if self._cancelled_calls:
            await anyio.sleep(CANCEL_SETTLE)

    # Choice of endpoint

    @property
    def member(self) -> Member:
        """The current endpoint; available after the first request."""
        return self._members[self._turn]

    def rotate_from(self, member: Member) -> None:
        """Switch to the next endpoint if ``member`` is the current one."""
        self._certificates_may_differ = True
        if member is self.member:
            self._turn = (self._turn + 1) % len(self._members)

    async def route(self) -> Route:
        """Return the route of a request, after connecting and authenticating if necessary."""
        async with self._opening:
            if self._certificates_may_differ and (self.address.tls or not self._members):
                await self._open()
            if self._token is None:
                self._token = await self._authenticate() if self.address.access.user else ""
            return Route(self.member, self._token)

    async def _open(self) -> None:
        """Make the channels, which connect later; replace them if the certificates have changed."""
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
        self._members = tuple(
            _open_member(endpoint, certificates, max_answer_bytes=self.address.limits.max_answer_bytes)
            for endpoint in self.address.endpoints
        )
        for member in old:
            await member.channel.close()

    # Authentication

    async def _authenticate(self) -> str:
        """Return a token for the user; empty if the cluster has authentication disabled."""
        access, member = self.address.access, self.member
        try:
            password = await anyio.to_thread.run_sync(access.read_password)
        except InvalidSettings as error:
            raise EtcdError(str(error)) from None
        request = rpc.AuthenticateRequest(name=access.user, password=password)
        try:
            async with self._errors(member):
                asked = member.auth.Authenticate(request, timeout=self.address.timeout, metadata=_METADATA)
                answer = decoded(await await_call(asked))
        except EtcdError as error:
            if "authentication is not enabled" in str(error):
                return ""
            raise
        token = str(answer.token)
        if not (token.isascii() and token.isprintable() and len(token) <= MAX_TOKEN_BYTES):
            raise EtcdError(f"{member.endpoint}: invalid token")
        return token

    def forget_token(self, route: Route, error: EtcdError) -> bool:
        """Drop the token if it was refused; return whether the request should be tried again."""
        if not (error.bad_token and self.address.access.user):
            return False
        if self._token == route.token:
            self._token = None
        return True

    # Requests

    async def request(self, attempt: Callable[[Route], Awaitable[T]]) -> T:
        """Carry out one request and return its answer.

        A request that could not be delivered is tried once on every endpoint; one whose token was refused is tried
        once more with a new token.
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
        """Turn grpc's errors into :class:`EtcdError`, and switch away from a bad endpoint."""
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
        """Return the error for an invalid answer, and switch away from the endpoint that sent it."""
        self.rotate_from(member)
        return EtcdError(f"{member.endpoint}: sent an invalid answer: {error}")

    def failed(self, member: Member, error: grpc.RpcError) -> EtcdError:
        """Return the error that grpc reported, in plain words, and switch away from an endpoint in trouble."""
        code = error.code()
        if code in _MOVE_ON:
            self.rotate_from(member)
        text = f"no answer within {self.address.timeout:g} s"
        if code is not grpc.StatusCode.DEADLINE_EXCEEDED:
            text = explain(error.details() or code.name)
        return EtcdError(f"{member.endpoint}: {text}", code.name)


def decoded(answer: Any) -> Any:
    """Return an answer. Raises :class:`BrokenAnswer` for ``None``, which grpc returns if it cannot decode one."""
    if answer is None:
        raise BrokenAnswer("cannot be decoded")
    return answer


async def await_call(call: Awaitable[Any]) -> Any:
    """Await a grpc call, so that cancelling the task works, and a call that grpc has cancelled is an error.

    grpc raises a CancelledError of its own, which anyio does not recognise as the one it sent, so a cancel scope
    would not end there. At the checkpoint anyio sends its own again.
    """
    try:
        return await call
    except asyncio.CancelledError:
        await checkpoint()
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise EtcdError("the connection was closed", grpc.StatusCode.CANCELLED.name) from None


def _open_member(endpoint: Endpoint, certificates: Certificates | None, *, max_answer_bytes: int) -> Member:
    options = (*_CHANNEL_OPTIONS, ("grpc.max_receive_message_length", max_answer_bytes))
    if certificates is None:
        channel = grpc.aio.insecure_channel(endpoint.target, options=options)
    else:
        credentials = grpc.ssl_channel_credentials(certificates.ca, certificates.key, certificates.cert)
        channel = grpc.aio.secure_channel(endpoint.target, credentials, options=options)
    stubs = (rpc.KVStub, rpc.LeaseStub, rpc.WatchStub, rpc.AuthStub)
    guarded_channel = GuardedChannel(channel)
    return Member(endpoint, channel, *(stub(guarded_channel) for stub in stubs))
