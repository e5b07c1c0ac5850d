"""Who we are to etcd: what may be said, where it is said, and that no secret is repeated."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import click
import pytest
from certificates import Certificates
from click.testing import CliRunner, Result

from ifagent.cli.failures import report_errors
from ifagent.cli.options import place_options
from ifagent.cli.store_options import store_accesses, store_options
from ifagent.client import open_store
from ifagent.errors import InvalidSettings
from ifagent.stores.etcd.access import MAX_FILE_BYTES, EtcdAccess
from ifagent.stores.etcd.address import EtcdAddress
from ifagent.stores.etcd.client import EtcdClient
from ifagent.stores.etcd.cluster import Cluster, Member, Route

SECRET = "geheim-0815"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in list(os.environ):
        if key.startswith("IFAGENT_"):
            monkeypatch.delenv(key)


def password_file(folder: Path, text: str = SECRET + "\n") -> Path:
    path = folder / "password"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "given",
    [
        {"user": "root"},
        {"password": SECRET},
        {"password_file": Path("/x")},
        {"cert": Path("/x")},
        {"key": Path("/x")},
    ],
)
def test_what_cannot_be_meant(given: dict[str, object]) -> None:
    with pytest.raises(InvalidSettings) as caught:
        EtcdAccess(**given)  # type: ignore[arg-type]  # one of each
    assert SECRET not in str(caught.value)


def test_a_password_file_counts_before_the_password_and_is_read_anew(tmp_path: Path) -> None:
    assert EtcdAccess(user="u", password="x").read_password() == "x"
    access = EtcdAccess(user="u", password="x", password_file=password_file(tmp_path))
    assert access.read_password() == SECRET
    password_file(tmp_path, " with spaces \r\n")
    assert access.read_password() == " with spaces "


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content, told in (
        (None, "No such file"),
        (b"", "is empty"),
        (b"\xff", "is not text"),
        (bytes(MAX_FILE_BYTES + 1), "has more than"),
    ):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InvalidSettings, match=told) as caught:
            EtcdAccess(user="u", password_file=path).check()
        assert str(path) in str(caught.value)
    path.write_text("plain text")
    with pytest.raises(InvalidSettings, match="is not PEM"):
        EtcdAccess(ca=path).check()
    with pytest.raises(InvalidSettings, match="Is a directory"):
        EtcdAccess(ca=tmp_path).check()


def test_certificates_are_read_anew(tmp_path: Path) -> None:
    authority = Certificates(tmp_path)
    first, second = authority.issue("a"), authority.issue("b")
    access = EtcdAccess(ca=authority.ca, cert=first.cert, key=first.key)
    before = access.read_certificates()
    assert access.read_certificates() == before
    first.copy_from(second)
    assert access.read_certificates() != before


def test_certificates_are_not_for_connections_without_tls(tmp_path: Path) -> None:
    access = EtcdAccess(ca=Certificates(tmp_path).ca)
    with pytest.raises(InvalidSettings, match="etcds://"):
        EtcdAddress.parse("etcd://127.0.0.1", access=access)
    address = EtcdAddress.parse("etcds://127.0.0.1,[::1]:3", access=access)
    assert address.tls
    assert str(address) == "etcds://127.0.0.1:2379,[::1]:3"
    assert EtcdAddress.parse(str(address), access=access) == address


def test_no_secret_is_in_any_representation(tmp_path: Path) -> None:
    authority = Certificates(tmp_path)
    issued = authority.issue("a")
    access = EtcdAccess(user="u", password=SECRET, ca=authority.ca, cert=issued.cert, key=issued.key)
    address = EtcdAddress.parse("etcds://127.0.0.1", access=access)
    certificates = access.read_certificates()
    route = Route(Member(address.endpoints[0], *[None] * 5), SECRET)
    for thing in (access, address, EtcdClient(address), Cluster(address), route, {"all": [address]}):
        assert SECRET not in repr(thing)
        assert SECRET not in str(thing)
    assert "PRIVATE KEY" not in repr(certificates)
    assert SECRET in str(route.metadata)
    assert EtcdAccess(user="u", password="other") != EtcdAccess(user="u", password=SECRET)


@pytest.mark.parametrize(
    "url",
    [f"etcd://root:{SECRET}@127.0.0.1", f"etcds://root:{SECRET}@a", f"etcd:root:{SECRET}@a", f"http://r:{SECRET}@a"],
)
def test_an_address_with_a_password_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        open_store(url, label="l", socket="/nowhere")
    assert SECRET not in "".join(traceback.format_exception(caught.value, chain=False)[-1:])


def given() -> EtcdAccess:
    access = store_accesses(["etcd://h"])["etcd"]
    assert isinstance(access, EtcdAccess)
    return access


@click.command()
@place_options()
def _show(store: str, label: str, socket: Path | None, log_level: str, log_format: str) -> None:
    del store, label, socket, log_level, log_format
    with report_errors():
        access = given()
        click.echo(f"{access.user}|{access.read_password()}|{access.ca}|{access.cert}|{access.key}")


def show(*arguments: object, **environment: str) -> Result:
    return CliRunner().invoke(_show, list(map(str, arguments)), env=environment)


def test_options_environment_and_file(tmp_path: Path) -> None:
    authority = Certificates(tmp_path / "pki")
    issued = authority.issue("a")
    paths = {"ca": authority.ca, "cert": issued.cert, "key": issued.key}
    assert show().stdout == "||None|None|None\n"
    flags = [word for name, path in paths.items() for word in (f"--etcd-{name}", path)]
    secret = password_file(tmp_path)
    told = f"root|{SECRET}|{authority.ca}|{issued.cert}|{issued.key}\n"
    assert show(*flags, "--etcd-user", "root", "--etcd-password-file", secret).stdout == told
    variables = {f"IFAGENT_ETCD_{name.upper()}": str(path) for name, path in paths.items()}
    assert show(IFAGENT_ETCD_USER="root", IFAGENT_ETCD_PASSWORD=SECRET, **variables).stdout == told
    assert show(IFAGENT_ETCD_USER="root", IFAGENT_ETCD_PASSWORD_FILE=str(secret), **variables).stdout == told
    lines = [f"etcd-{name} = '{path}'" for name, path in paths.items()]
    config = tmp_path / "c.toml"
    config.write_text("\n".join([*lines, "etcd_user = 'root'", f"etcd-password-file = '{secret}'"]))
    assert show("--config", config).stdout == told
    assert show("--config", config, "--etcd-user", "me").stdout.startswith(f"me|{SECRET}|")
    assert show("--config", config, IFAGENT_ETCD_PASSWORD="other").stdout.startswith("root|other|")
    mine = tmp_path / "mine"
    mine.write_text("mine")
    used = show("--config", config, "--etcd-password-file", mine, IFAGENT_ETCD_PASSWORD="other")
    assert used.stdout.startswith("root|mine|")


def test_there_is_no_flag_and_no_setting_for_a_password(tmp_path: Path) -> None:
    assert show("--etcd-password", SECRET).exit_code == 2
    config = tmp_path / "c.toml"
    config.write_text(f"etcd-password = '{SECRET}'")
    result = show("--config", config)
    assert isinstance(result.exception, InvalidSettings)
    assert "unknown setting 'etcd-password', did you mean 'etcd_password_file'?" in str(result.exception)
    assert SECRET not in result.output + str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--etcd-user", "root"], "--etcd-user needs a password"),
        (["--etcd-cert", "/x"], "--etcd-cert and --etcd-key go together"),
        (["--etcd-ca", "/nowhere/ca.pem"], "/nowhere/ca.pem: No such file"),
        (["--etcd-user", "root", "--etcd-password-file", "/nowhere/secret"], "/nowhere/secret: No such file"),
    ],
)
def test_what_is_wrong_is_told_with_the_option_or_the_file(arguments: list[str], told: str) -> None:
    result = show(*arguments)
    assert result.exit_code == 2
    assert told in result.stderr


def test_the_options_are_on_their_own_too() -> None:
    @click.command()
    @store_options
    def command() -> None:
        click.echo(given().user)

    result = CliRunner().invoke(command, ["--etcd-user", "u"], env={"IFAGENT_ETCD_PASSWORD": "p"})
    assert result.stdout == "u\n"
