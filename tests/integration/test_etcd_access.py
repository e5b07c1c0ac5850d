"""TLS, certificates, users and tokens with a real etcd."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from certificates import Certificates, Issued
from etcd_rights import USER, forget_tokens, protect, signed_in, with_access
from etcd_server import EtcdServer, proxy_to, running, until

from ifagent.stores.etcd.access import EtcdAccess
from ifagent.stores.etcd.address import EtcdAddress
from ifagent.stores.etcd.answers import Changes
from ifagent.stores.etcd.client import EtcdClient
from ifagent.stores.etcd.cluster import Cluster
from ifagent.stores.etcd.errors import EtcdError
from ifagent.stores.etcd.watcher import Disconnected, Reconnected, Snapshot, WatchEvent, WatchStream, watch_prefix

pytest_plugins = ["etcd_fixtures"]
pytestmark = [pytest.mark.anyio, pytest.mark.etcd]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def tls_etcd(tmp_path_factory: pytest.TempPathFactory, authority: Certificates) -> Iterator[EtcdServer]:
    with running(tmp_path_factory.mktemp("tls"), certificates=authority, asks=True) as server:
        yield server


def access(authority: Certificates, issued: Issued | None = None) -> EtcdAccess:
    return EtcdAccess(ca=authority.ca, cert=issued.cert if issued else None, key=issued.key if issued else None)


@asynccontextmanager
async def watching(address: EtcdAddress, prefix: bytes = b"/w/") -> AsyncIterator[list[WatchEvent]]:
    seen: list[WatchEvent] = []

    async def follow() -> None:
        async with EtcdClient(address) as client, aclosing(watch_prefix(client, prefix)) as events:
            async for event in events:
                seen.append(event)  # noqa: PERF401 the list is read while it grows

    async with anyio.create_task_group() as tg:
        tg.start_soon(follow)
        yield seen
        tg.cancel_scope.cancel()


def of(seen: list[WatchEvent], kind: type[Any]) -> list[Any]:
    return [event for event in seen if isinstance(event, kind)]


async def succeeds(request: Callable[[], Awaitable[object]]) -> None:
    """Repeat a request until it succeeds: grpc takes a moment before it connects again."""
    with anyio.fail_after(5):
        while True:
            try:
                await request()
            except EtcdError:
                await anyio.sleep(0.02)
            else:
                return


def count_sign_ins(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with every token that is fetched."""
    tokens: list[str] = []
    authenticate = Cluster._authenticate

    async def noted(self: Cluster) -> str:
        tokens.append(await authenticate(self))
        return tokens[-1]

    monkeypatch.setattr(Cluster, "_authenticate", noted)
    return tokens


# TLS


async def test_requests_and_watches_over_tls(tls_etcd: EtcdServer, authority: Certificates, label: str) -> None:
    address = with_access(tls_etcd.address, access(authority, authority.issue("me")))
    key = f"/{label}/a".encode()
    async with EtcdClient(address) as client, watching(address, f"/{label}/".encode()) as seen:
        await until(lambda: seen)
        await client.put(key, b"1")
        await until(lambda: len(seen) == 2)
        lease = await client.grant(10)
        assert await client.keep_alive(lease)
        await client.revoke(lease)
        assert [type(event) for event in seen] == [Snapshot, Changes]


async def test_what_is_wrong_with_tls_is_told(
    tls_etcd: EtcdServer, etcd: EtcdServer, authority: Certificates, stranger: Certificates, tmp_path: Path
) -> None:
    me = authority.issue("me")
    broken = tmp_path / "key"
    broken.write_text("-----BEGIN nothing")
    cases = [
        (access(authority), "rejects the client's certificate, or requires one"),
        (access(authority, stranger.issue("me")), "rejects the client's certificate"),
        (access(authority, authority.issue("me", expired=True)), "rejects the client's certificate"),
        (access(stranger, me), "is not signed by a trusted authority"),
        (EtcdAccess(cert=me.cert, key=me.key), "is not signed by a trusted authority"),
        (replace(access(authority, me), key=broken), "cannot be used"),
        (replace(access(authority, me), key=tmp_path / "nowhere"), "nowhere: No such file"),
    ]
    for given, told in cases:
        async with EtcdClient(with_access(tls_etcd.address, given)) as client:
            with pytest.raises(EtcdError, match=told):
                await client.get(b"k")
    plain = EtcdAddress.parse(str(tls_etcd.address).replace("etcds", "etcd"))
    async with EtcdClient(plain) as client:
        with pytest.raises(EtcdError, match="the connection was closed"):
            await client.get(b"k")
    tls = EtcdAddress.parse(str(etcd.address).replace("etcd:", "etcds:"), access=access(authority, me))
    async with EtcdClient(tls) as client:
        with pytest.raises(EtcdError, match="does not speak TLS"):
            await client.get(b"k")


async def test_a_server_with_a_bad_certificate_is_not_trusted(own_tls: EtcdServer, authority: Certificates) -> None:
    address = with_access(own_tls.address, access(authority))
    mine = server_files(own_tls)
    good = Issued(mine.cert.with_suffix(".good"), mine.key.with_suffix(".also-good"))
    good.copy_from(mine)
    for bad, told in (
        (authority.issue("server", "127.0.0.2"), "is for another host"),
        (authority.issue("server", "127.0.0.1", expired=True), "has expired"),
    ):
        mine.copy_from(bad)  # etcd reads them at every handshake
        async with EtcdClient(address) as client:
            with pytest.raises(EtcdError, match=told):
                await client.get(b"k")
            mine.copy_from(good)
            await succeeds(lambda: client.get(b"k"))


@pytest.fixture
def own_tls(tmp_path: Path, authority: Certificates) -> Iterator[EtcdServer]:
    with running(tmp_path, certificates=authority) as server:
        yield server


def server_files(server: EtcdServer) -> Issued:
    files = {word.partition("=")[0]: Path(word.partition("=")[2]) for word in server._options}
    return Issued(files["--cert-file"], files["--key-file"])


async def test_certificates_that_were_rotated_count_from_the_next_connection_on(
    tmp_path: Path, authority: Certificates
) -> None:
    """The old certificate would still do for a connection; that the new one is used shows in the user's rights."""
    with running(tmp_path, certificates=authority, asks=True) as server:
        mine = authority.issue("first", common_name="first")
        await to_thread.run_sync(lambda: protect(server, prefix="/w/", user="second"))
        server.ctl("user", "add", "first", "--interactive=false", given=b"x\n")
        address = with_access(server.address, access(authority, mine))
        async with proxy_to(server.port) as proxy, EtcdClient(proxy.before(address)) as client:
            with pytest.raises(EtcdError, match="permission denied"):
                await client.put(b"/w/a", b"1")
            mine.copy_from(authority.issue("second", common_name="second"))
            with pytest.raises(EtcdError, match="permission denied"):
                await client.put(b"/w/a", b"1")
            await proxy.refuse()
            with pytest.raises(EtcdError, match="connection"):
                await client.put(b"/w/a", b"1")
            await proxy.accept()
            await succeeds(lambda: client.put(b"/w/a", b"1"))


async def test_a_new_authority_is_taken_from_the_same_files(
    tmp_path: Path, authority: Certificates, stranger: Certificates
) -> None:
    mine, ca = authority.issue("me"), tmp_path / "ca.pem"
    ca.write_bytes(authority.ca.read_bytes())
    with running(tmp_path, certificates=authority, asks=True) as server:
        address = with_access(server.address, EtcdAccess(ca=ca, cert=mine.cert, key=mine.key))
        async with watching(address) as seen:
            await until(lambda: of(seen, Snapshot))
            await to_thread.run_sync(server.stop)
            server_files(server).copy_from(stranger.issue("server", "127.0.0.1"))
            server._options.append(f"--trusted-ca-file={stranger.ca}")
            await to_thread.run_sync(server.start)
            await until(lambda: of(seen, Disconnected))
            mine.copy_from(stranger.issue("me"))
            ca.write_bytes(stranger.ca.read_bytes())
            await until(lambda: of(seen, Reconnected))
            assert (len(of(seen, Snapshot)), len(of(seen, Disconnected)), len(of(seen, Reconnected))) == (2, 1, 1)


# Users and tokens


async def test_a_user_with_a_password_and_rights(own_etcd: EtcdServer, tmp_path: Path) -> None:
    await to_thread.run_sync(lambda: protect(own_etcd, prefix="/w/"))
    secret = tmp_path / "secret"
    secret.write_text(USER + "\n")
    from_file = with_access(own_etcd.address, EtcdAccess(user="agent", password_file=secret))
    for address in (signed_in(own_etcd.address), from_file):
        async with EtcdClient(address) as client, watching(address) as seen:
            await until(lambda: seen)
            await client.put(b"/w/a", b"1")
            await until(lambda: len(seen) == 2)
            with pytest.raises(EtcdError, match="permission denied"):
                await client.put(b"/elsewhere", b"1")
    for address, told in (
        (own_etcd.address, "user name is empty"),
        (signed_in(own_etcd.address, password="wrong-one"), "authentication failed"),
        (signed_in(own_etcd.address, user="nobody"), "authentication failed"),
    ):
        async with EtcdClient(address) as client:
            with pytest.raises(EtcdError, match=told) as caught:
                await client.get(b"/w/a")
        assert "wrong-one" not in str(caught.value)
    secret.unlink()
    async with EtcdClient(from_file) as client:
        with pytest.raises(EtcdError, match="secret: No such file"):
            await client.get(b"/w/a")


async def test_a_user_where_nobody_is_asked_and_then_somebody_is(own_etcd: EtcdServer) -> None:
    async with EtcdClient(signed_in(own_etcd.address)) as client:
        assert await client.get(b"/w/a") is None
        await to_thread.run_sync(lambda: protect(own_etcd))
        await client.put(b"/w/a", b"1")


async def test_a_token_that_the_server_forgot_is_renewed(own_etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    await to_thread.run_sync(lambda: protect(own_etcd))
    tokens = count_sign_ins(monkeypatch)
    async with EtcdClient(signed_in(own_etcd.address)) as client:
        lease = await client.grant(60)
        for number, request in enumerate(
            (
                lambda: client.put(b"/w/a", b"1"),
                lambda: client.range(b"/w/"),
                lambda: client.txn(puts={b"/w/b": b"1"}),
                lambda: client.keep_alive(lease),
                lambda: client.revoke(lease),
            )
        ):
            await to_thread.run_sync(lambda: forget_tokens(own_etcd))
            await request()  # type: ignore[no-untyped-call]  # a lambda
            await client.get(b"/w/a")
            assert len(tokens) == number + 2
        assert len(set(tokens)) == len(tokens)


async def test_a_watch_is_opened_with_a_new_token(own_etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    await to_thread.run_sync(lambda: protect(own_etcd))
    tokens = count_sign_ins(monkeypatch)
    async with EtcdClient(signed_in(own_etcd.address)) as client:
        revision = (await client.range(b"/w/")).position.revision
        await to_thread.run_sync(lambda: forget_tokens(own_etcd))
        async with WatchStream(client, b"/w/", after=revision) as stream:
            await client.put(b"/w/a", b"1")
            assert [changes.changes[0][0] for changes in await stream.changes()] == [b"/w/a"]
    assert len(tokens) == 2


async def test_tokens_that_expire_are_renewed_unnoticed(
    tmp_path: Path, authority: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = authority.issue("tokens")
    options = f"--auth-token=jwt,pub-key={made.cert},priv-key={made.key},sign-method=ES256,ttl=1s"
    tokens = count_sign_ins(monkeypatch)
    with running(tmp_path, options) as server:
        await to_thread.run_sync(lambda: protect(server))
        async with proxy_to(server.port) as proxy:
            address = proxy.before(signed_in(server.address))
            async with EtcdClient(signed_in(server.address)) as client, watching(address) as seen:
                await until(lambda: of(seen, Snapshot))
                lease = await client.grant(60)
                with anyio.fail_after(20):
                    while len(tokens) < 4:
                        await client.put(b"/w/a", b"%d" % len(tokens))
                        assert await client.keep_alive(lease)
                        await anyio.sleep(0.05)
                written = len(of(seen, Changes))
                assert not of(seen, Disconnected)
                # The watch's own token has expired long ago; it needs another one when it is opened anew.
                before = len(tokens)
                proxy.reset()
                await until(lambda: of(seen, Reconnected))
                assert len(tokens) > before
                await client.put(b"/w/b", b"last")
                await until(lambda: len(of(seen, Changes)) > written)
                assert len(of(seen, Disconnected)) == 1


async def test_a_password_that_was_changed_is_read_anew(own_etcd: EtcdServer, tmp_path: Path) -> None:
    await to_thread.run_sync(lambda: protect(own_etcd))
    secret = tmp_path / "secret"
    secret.write_text(USER)
    address = with_access(own_etcd.address, EtcdAccess(user="agent", password_file=secret))
    async with watching(address) as seen, EtcdClient(address) as client:
        await until(lambda: of(seen, Snapshot))
        own_etcd.ctl("user", "passwd", "agent", "--interactive=false", given=b"another-one\n")
        with pytest.raises(EtcdError, match="authentication failed"):
            await client.put(b"/w/a", b"1")
        secret.write_text("another-one")
        await client.put(b"/w/a", b"1")
        await until(lambda: of(seen, Changes))
        assert len(of(seen, Disconnected)) == len(of(seen, Reconnected))
