"""Every public name is where the package says."""

from __future__ import annotations

import pytest

import ifagent
import ifagent.client


@pytest.mark.parametrize("name", ifagent.__all__)
def test_a_public_name_can_be_had(name: str) -> None:
    module = ifagent._MODULES[name]
    assert getattr(ifagent, name).__module__.startswith(module.rsplit(".", 1)[0])


def test_no_public_name_is_missing() -> None:
    assert set(ifagent.__all__) == set(ifagent._MODULES)


@pytest.mark.parametrize("name", ifagent.client.__all__)
def test_a_name_for_clients_can_be_had(name: str) -> None:
    assert getattr(ifagent.client, name).__doc__
