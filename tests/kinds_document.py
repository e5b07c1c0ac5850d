"""docs/kinds.md, from the classes of the kinds: ``python tests/kinds_document.py`` writes it."""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo

from ifagent.core.kinds import KINDS, BridgePort, type_of
from ifagent.core.kinds.bridge import check_vlans
from ifagent.core.kinds.contract import LinkKind, Origin, UpperKind
from ifagent.core.kinds.vlan import check_egress_map, check_ingress_map
from ifagent.core.kinds.vxlan import check_end
from ifagent.formats.enums import KIND_NUMBERS, LINK_NUMBERS
from ifagent.formats.kinds import form_of

DOCUMENT = Path(__file__).parents[1] / "docs/kinds.md"

HEAD = """\
# Kinds of interfaces

Every `type` that an interface can have, with the fields that only it has. The fields that every interface has are in
[operations.md](operations.md). This page is written from the classes in `src/ifagent/core/kinds` by
`python tests/kinds_document.py`, and checked against them.

A value in etcd, a file or the command line has these fields in an object named after the kind, as in
`{"name": "web", "type": "VLAN", "vlan": {"lower_if_name": "trunk", "id": 7}}`. The number of a type is that of the
ligato v1.4.1 family; the v3 family has the second one. What is left out has the default, and so has what is cleared.

A field that is *changed in place* leaves the link as it is, with its ifindex and everything on it. One that is
*recreated* deletes the link and makes it again, with every interface of the agent's that sits on it, in one round.
`lower_if_name` and `master_if_name` name other interfaces: a link waits for its lower link, and joins its master as
soon as that is there.

| type | number | v3 | made by | MAC | MTU by default | can be moved | can have ports |
|---|--:|--:|---|---|---|---|---|
"""


LISTS = {
    check_egress_map: "a list such as `2:5`",
    check_ingress_map: "a list such as `5:2`",
    check_vlans: "a list such as `10`, `20-30`",
}


def document() -> str:
    """Return the whole page."""
    port = f"\n## bridge_port\n\n{_flowing(inspect.getdoc(BridgePort) or '')}\n"
    port += f"\nIn `bridge_port`, beside `master_if_name`:\n\n{_table(BridgePort)}"
    return HEAD + "".join(map(_row, KINDS)) + "".join(map(_section, KINDS)) + port


def _row(kind: type[LinkKind]) -> str:
    word = type_of(kind)
    upper = issubclass(kind, UpperKind)
    made = {Origin.CREATED: "the agent", Origin.ADOPTED: "another program", Origin.EXISTING: "somebody else"}[
        kind.origin
    ]
    created = kind.origin is Origin.CREATED
    mac = "the lower link's" if kind.has_mac is False and upper else "none" if kind.has_mac is False else "its own"
    cells = [
        f"[{KIND_NUMBERS[word].name}](#{word})",
        str(int(KIND_NUMBERS[word])),
        str(int(LINK_NUMBERS[word])),
        made,
        mac if created else "as it is",
        ("the lower link's" if upper else str(kind.usual_mtu or "the kernel's choice")) if created else "as it is",
        ("yes" if kind.movable else "no, recreated") if created else "no" if kind.origin is Origin.EXISTING else "yes",
        "yes" if kind.is_master else "",
    ]
    return f"| {' | '.join(cells)} |\n"


def _section(kind: type[LinkKind]) -> str:
    word, form = type_of(kind), form_of(type_of(kind))
    text = f"\n## {word}\n\n{_flowing(inspect.getdoc(kind) or '')}\n"
    own = [field for field in fields(kind) if field.name != "type"]  # type: ignore[arg-type]  # each is a dataclass
    if not own:
        return text
    return f"{text}\nIn `{form.v1_field}`:\n\n{_table(kind)}"


def _table(model: type[Any]) -> str:
    hints = get_type_hints(model, include_extras=True)
    rows = (_field_row(model, each, hints[each.name]) for each in fields(model) if each.name != "type")
    return "| field | values | default | when it changes |\n|---|---|---|---|\n" + "".join(rows)


def _field_row(kind: type[Any], field: Field[Any], hint: Any) -> str:
    required = field.default is MISSING
    default = "required" if required else f"`{str(field.default).lower() if field.default not in {None, ()} else ''}`"
    fixed = getattr(kind, "fixed", frozenset()) | {"lower_if_name", "peer_if_name"}
    change = "recreated" if field.name in fixed else "changed in place"
    return f"| `{field.name}` | {_values(hint)} | {default if default != '``' else ''} | {change} |\n"


def _values(hint: Any) -> str:
    """Return in words what a field can be."""
    if get_origin(hint) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(hint))
    base, *limits = get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
    if base is bool:
        return "`true`, `false`"
    if base is str:
        return "an IP address" if any(getattr(limit, "func", None) is check_end for limit in limits) else "a name"
    if get_origin(base) is tuple:
        checks = {getattr(limit, "func", None) for limit in limits}
        return next((words for check, words in LISTS.items() if check in checks), "a list of IPv4 addresses")
    bounds: dict[str, int] = {}
    for limit in limits:
        for each in limit.metadata if isinstance(limit, FieldInfo) else ():
            bounds |= {name: getattr(each, name) for name in ("ge", "le", "lt", "multiple_of") if hasattr(each, name)}
    least, most = bounds.get("ge"), bounds.get("le", bounds["lt"] - 1 if "lt" in bounds else None)
    if least is None or most is None:
        return "a number"
    steps = f", multiples of {bounds['multiple_of']}" if "multiple_of" in bounds else ""
    return f"{least} to {most}{steps}"


def _flowing(text: str) -> str:
    """Return a docstring as a paragraph of Markdown."""
    text = re.sub(r":class:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text).replace("``", "`")
    table = re.compile(r"^=+( =+)+$\n(.*\n)+?^=+( =+)+$\n(.*\n)+?^=+( =+)+$", re.MULTILINE)
    return table.sub(lambda found: f"```text\n{found.group()}\n```", text).strip()


if __name__ == "__main__":
    DOCUMENT.write_text(document())
    sys.stdout.write(f"{DOCUMENT} is written\n")
