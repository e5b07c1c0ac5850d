"""Which requests share a thread: deletions spread, the rest by namespace, one link's in order."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest

from ifagent.core.link import NsId
from ifagent.core.names import HostName
from ifagent.core.namespace_ref import named
from ifagent.core.operation import Operation, Target
from ifagent.core.operations import AddAddress, CreateLink, DeleteAddress, DeleteLink, LinkEnd, MoveLink, SetLink
from ifagent.errors import AgentBug
from ifagent.kernel.jobs import RequestBatch, choose_ends, namespaces_of, plan_jobs

A, B, C, D = map(NsId, range(1, 5))
ADDRESS = ip_interface("192.0.2.1/24")


def target(namespace: NsId, ifindex: int) -> Target:
    return Target(namespace, HostName(f"v{ifindex}"), ifindex)


def test_short_requests_go_together_by_namespace_in_order() -> None:
    operations: list[Operation] = [
        SetLink(target=target(A, 2), up=True),
        SetLink(target=target(B, 2), up=True),
        DeleteAddress(target(A, 2), ADDRESS),
        AddAddress(target(A, 2), ADDRESS),
    ]
    assert plan_jobs(enumerate(operations), width=4) == [[RequestBatch(A, [0, 2, 3]), RequestBatch(B, [1])]]


def test_deletions_are_spread_and_each_is_done_once() -> None:
    operations = [DeleteLink(target(A, ifindex)) for ifindex in range(2, 12)]
    jobs = plan_jobs(enumerate(operations), width=4)
    assert len(jobs) == 4
    assert sorted(place for job in jobs for batch in job for place in batch.positions) == list(range(10))
    assert max(len(job) for job in jobs) == 3


def test_all_of_a_link_that_is_deleted_stays_in_one_job_in_order() -> None:
    operations: list[Operation] = [
        SetLink(target=target(A, 2), group=7),
        DeleteLink(target(A, 3)),
        DeleteLink(target(A, 2)),
        SetLink(target=target(A, 4), up=True),
    ]
    jobs = plan_jobs(enumerate(operations), width=4)
    assert [RequestBatch(A, [0, 2])] in jobs
    assert [RequestBatch(A, [3])] in jobs


def test_a_request_is_sent_where_its_link_is() -> None:
    near, far = LinkEnd(B, HostName("n"), "", 0), LinkEnd(A, HostName("f"), "", 0)
    assert namespaces_of(CreateLink("veth", (near, far), 0)) == (B, A)
    assert namespaces_of(MoveLink(target(A, 2), B, HostName("x"))) == (A, B)
    with pytest.raises(AgentBug):
        namespaces_of(CreateLink("veth", (near, LinkEnd(named("x"), HostName("f"), "", 0)), 0))


def test_veths_are_deleted_where_most_of_them_have_an_end() -> None:
    ends = [(A, 2, B, 2), (B, 3, A, 3), (C, 4, B, 4), (C, 5, A, 5), (C, 6, D, 6)]
    operations = [DeleteLink(target(near, ifindex), 7, target(far, other)) for near, ifindex, far, other in ends]
    chosen = choose_ends([*operations, DeleteLink(target(B, 9), 7)], {A, B, C})
    places = [each.namespaces[0] for each in chosen]
    assert places[5] == B
    assert sorted(places).count(B) == 4, "three pairs have an end there, beside a link alone"
    assert places[3:5] == [C, C]
    assert all(isinstance(each, DeleteLink) and each.group == 7 for each in chosen)


def test_what_is_changed_before_it_is_deleted_is_deleted_by_the_same_end() -> None:
    operations = [
        SetLink(target=target(A, 2), group=7),
        DeleteLink(target(A, 2), 7, target(B, 2)),
        DeleteLink(target(B, 3), 7),
    ]
    assert choose_ends(operations, {A, B}) == operations
