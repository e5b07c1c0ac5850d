"""What the settings allow, in general."""

from __future__ import annotations

import pytest

from ifagent.core.namespace_ref import NamespaceType
from ifagent.core.policy import Policy

REFERENCES = {NamespaceType.NAMED, NamespaceType.PID, NamespaceType.FILE, NamespaceType.MICROSERVICE}


@pytest.mark.parametrize(
    ("patterns", "possible"),
    [
        (("*",), REFERENCES),
        (("?*:x",), REFERENCES),
        (("[pf]i*",), REFERENCES),  # not worked out further
        ((), set()),
        (("own",), set()),
        (("own", "named:lab-*"), {NamespaceType.NAMED}),
        (("pid:17",), {NamespaceType.PID}),
        (("p*",), {NamespaceType.PID}),
        (("microservice:*", "file:/run/*"), {NamespaceType.MICROSERVICE, NamespaceType.FILE}),
        (("m?croservice:x",), {NamespaceType.MICROSERVICE}),
        (("pidgin",), set()),
    ],
)
def test_which_references_there_may_be(patterns: tuple[str, ...], possible: set[NamespaceType]) -> None:
    policy = Policy(namespaces=patterns)
    assert {one for one in REFERENCES if policy.may_allow(one)} == possible
