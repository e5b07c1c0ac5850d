"""The VLANs of a bridge's port as lists of texts, such as ``("10 pvid untagged", "20-30")``. Pure.

Each text is a VLAN id, or a range of such with the same flags, in rising order, in the words of ``bridge vlan``. Ranges
are as long as they can be, so equal lists are equal VLANs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import groupby
from typing import Final

PVID: Final = 2
UNTAGGED: Final = 4
"""``BRIDGE_VLAN_INFO_*`` of ``linux/if_bridge.h``."""

VLAN_IDS: Final = range(1, 4095)

MAX_TEXTS: Final = 256
"""Most texts of one list that are kept: anybody may give a port thousands of VLANs."""

_IDS = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,4}))?")


def read_ids(text: str) -> range:
    """Return the VLAN ids of a text without flags. Raises ``ValueError`` for one that is no id or range."""
    found = _IDS.fullmatch(text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= first <= last <= VLAN_IDS[-1]:
        raise ValueError(f"{text!r} is no VLAN id of 1 to 4094, and no range such as 20-30")
    return range(first, last + 1)


def write_list(flags: Mapping[int, int]) -> tuple[str, ...]:
    """Return the list for VLAN ids with their flags."""
    return tuple(
        _text(ids[0], ids[-1], here)
        for here, ids in ((key[1], [vid for vid, _ in group]) for key, group in groupby(_numbered(flags), _run))
    )


def join_ranges(ranges: Iterable[tuple[int, int, int]]) -> tuple[str, ...]:
    """Return the list for ranges (first id, last id, flags) that the kernel has put together already."""
    texts: list[str] = []
    for first, last, flags in ranges:
        if len(texts) == MAX_TEXTS:
            return (*texts, "and more")
        texts.append(_text(first, last, flags))
    return tuple(texts)


def read_list(vlans: Iterable[str]) -> Iterator[tuple[range, int]]:
    """Yield the VLAN ids of a list, with their flags."""
    for text in vlans:
        ids, *words = text.split()
        yield read_ids(ids), (PVID if "pvid" in words else 0) | (UNTAGGED if "untagged" in words else 0)


def others(vlans: Iterable[str]) -> Iterator[range]:
    """Yield the ranges of VLAN ids that are not in a list."""
    next_id = VLAN_IDS[0]
    for ids, _ in read_list(vlans):
        if ids[0] > next_id:
            yield range(next_id, ids[0])
        next_id = ids[-1] + 1
    if next_id in VLAN_IDS:
        yield range(next_id, VLAN_IDS.stop)


@lru_cache(maxsize=4096)
def wanted_list(pvid: int, untagged: tuple[str, ...], tagged: tuple[str, ...]) -> tuple[str, ...]:
    """Return the list of a port with these VLANs; ``pvid`` 0 is for none. Raises ``ValueError`` for one in both."""
    flags: dict[int, int] = {}
    for texts, bits in ((tagged, 0), (untagged, UNTAGGED)):
        for vid in (vid for text in texts for vid in read_ids(text)):
            if flags.setdefault(vid, bits) != bits:
                raise ValueError(f"VLAN {vid} is both tagged and untagged")
    if pvid:
        flags[pvid] = flags.get(pvid, UNTAGGED) | PVID
    return write_list(flags)


def default_list(pvid: int) -> tuple[str, ...]:
    """Return the list of a new port of a bridge with this default VLAN, 0 for none."""
    return wanted_list(pvid, (), ())


def _text(first: int, last: int, flags: int) -> str:
    ids = str(first) if first == last else f"{first}-{last}"
    return f"{ids}{' pvid' if flags & PVID else ''}{' untagged' if flags & UNTAGGED else ''}"


def _numbered(flags: Mapping[int, int]) -> list[tuple[int, tuple[int, int]]]:
    return [(vid, (vid - place, flags[vid])) for place, vid in enumerate(sorted(flags))]


def _run(numbered: tuple[int, tuple[int, int]]) -> tuple[int, int]:
    """Return what all of one run of VLAN ids have in common: the distance to their place, and the flags."""
    return numbered[1]
