"""Lists of VLANs are the same texts for the same VLANs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifagent.core.vlan_lists import (
    MAX_TEXTS,
    PVID,
    UNTAGGED,
    VLAN_IDS,
    default_list,
    join_ranges,
    others,
    read_ids,
    read_list,
    wanted_list,
    write_list,
)

ids = st.integers(VLAN_IDS[0], VLAN_IDS[-1])
few_ids = st.integers(1, 12) | st.integers(4090, 4094)


@given(st.dictionaries(few_ids, st.sampled_from([0, UNTAGGED, UNTAGGED | PVID])))
def test_what_is_written_is_read_and_the_others_are_all_others(flags: dict[int, int]) -> None:
    written = write_list(flags)
    assert {vid: bits for run, bits in read_list(written) for vid in run} == flags
    rest = [vid for run in others(written) for vid in run]
    assert sorted((*rest, *flags)) == list(VLAN_IDS)


def test_ranges_are_as_long_as_they_can_be() -> None:
    assert wanted_list(10, (), ("20-25", "26", "28")) == ("10 pvid untagged", "20-26", "28")
    assert wanted_list(20, ("21",), ("20", "22-23")) == ("20 pvid", "21 untagged", "22-23")
    assert wanted_list(0, (), ("1-4094",)) == ("1-4094",)
    assert list(others(("1-4094",))) == []
    assert list(others(())) == [VLAN_IDS]
    assert (default_list(1), default_list(0)) == (("1 pvid untagged",), ())


def test_what_the_kernel_has_put_together_is_written_alike() -> None:
    assert join_ranges([(1, 1, PVID | UNTAGGED), (20, 30, 0)]) == ("1 pvid untagged", "20-30")
    told = join_ranges((vid, vid, 0) for vid in range(1, 4095, 2))
    assert len(told) == MAX_TEXTS + 1
    assert told[-1] == "and more"


@pytest.mark.parametrize("text", ["0", "4095", "30-20", "x", "", "1-", "-1", "1 2", "99999", "\u0661"])
def test_what_is_no_vlan_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no VLAN id of 1 to 4094"):
        read_ids(text)


def test_a_vlan_is_tagged_or_not() -> None:
    with pytest.raises(ValueError, match="VLAN 7 is both tagged and untagged"):
        wanted_list(0, ("7",), ("5-9",))
