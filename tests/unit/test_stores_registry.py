"""Every kind of store is known by its URLs, and brings no library before it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import ifagent.stores
from ifagent.errors import InvalidSettings
from ifagent.stores.contract import Access
from ifagent.stores.registry import BACKENDS, backend_of, open_outlets, open_source, open_store, split_urls

FOLDERS = {path.parent.name for path in Path(ifagent.stores.__path__[0]).glob("*/__init__.py")}
SCHEMES = [(scheme, backend) for backend in BACKENDS for scheme in backend.schemes]


class Strange(Access):
    """What no store asks for."""


def test_every_folder_is_a_kind_of_store() -> None:
    assert {backend.name for backend in BACKENDS} == FOLDERS


def test_a_scheme_means_one_kind_of_store() -> None:
    assert len({scheme for scheme, _ in SCHEMES}) == len(SCHEMES)
    for scheme, backend in SCHEMES:
        assert backend_of(f"{scheme}:x") is backend
    for backend in BACKENDS:
        assert backend_of(backend.example) is backend
        assert backend.example in backend.help


@pytest.mark.parametrize("url", ["", "etcd", "x:y", "/etc/interfaces", " file:x"])
def test_another_url_is_refused_with_an_example_of_each_kind(url: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        backend_of(url)
    assert all(backend.example in str(caught.value) for backend in BACKENDS)


def test_urls_are_separated_by_white_space_that_is_not_in_a_path() -> None:
    assert split_urls(" file:/a b  etcd://h:1,i:2\nfile:c ") == ["file:/a b", "etcd://h:1,i:2", "file:c"]
    assert split_urls(" ") == []


def test_outlets_are_in_one_order_for_all_agents() -> None:
    urls = ["file:/a", "etcd://b", "etcd://a"]
    there, back = (open_outlets(some, label="l", accesses={}) for some in (urls, urls[::-1]))
    assert [vars(one)["_client"].address for one in there] == [vars(one)["_client"].address for one in back]
    assert len(there) == 2


def test_outlets_of_stores_listen_at_no_port() -> None:
    assert [one.ports for one in open_outlets(["etcd://a"], label="l", accesses={})] == [()]


def test_access_for_another_kind_of_store_is_refused() -> None:
    for open_it in (
        lambda: open_source("etcd://h", label="l", access=Strange()),
        lambda: open_store("etcd://h", label="l", socket=Path("/s"), access=Strange()),
        lambda: open_outlets(["etcd://h"], label="l", accesses={"etcd": Strange()}),
    ):
        with pytest.raises(InvalidSettings, match="etcd takes an EtcdAccess, not Strange"):
            open_it()


def test_no_library_of_a_store_is_loaded_before_it_is_used() -> None:
    script = "import sys, ifagent.stores.registry, ifagent.cli.options; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert not {"grpc", "aetcd", "asyncinotify", "ruamel.yaml", "ruamel"} & set(loaded)
