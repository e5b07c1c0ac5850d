"""Change interfaces in the text of a file, and nothing else in it: comments, order and spelling stay.

What comes out is read again before it is believed. Where a change in place would say something else than it
should (an alias that others share, a merged key), the interface is written anew as a whole.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import ScalarString
from ruamel.yaml.util import load_yaml_guess_indent

from ifagent.core.interface import Interface
from ifagent.core.names import Name
from ifagent.errors import BrokenFile, FieldError
from ifagent.formats.interface_files import LIST_KEY, Entry, parse_interfaces
from ifagent.formats.ligato_v1 import FIELDS, encode

_BY_LETTERS = {field.replace("_", ""): field for field in FIELDS}

Said = tuple[Interface | None, tuple[FieldError, ...]]


def edit(
    path: Path,
    text: str,
    *,
    puts: Mapping[Name, Interface],
    deletes: Collection[Name] = (),
    adds: Sequence[Interface] = (),
) -> str:
    """Return the text with some of its interfaces replaced, some taken out, and others added at the end.

    ``path`` tells the format. Names that are not in the text are left out; a name that stands there twice is
    replaced where it stands first, and taken out everywhere. Raises :class:`BrokenFile` if the text cannot
    be read, or not be changed without changing more.
    """
    entries = parse_interfaces(path, text)
    first: dict[Name, int] = {}
    for entry in entries:
        first.setdefault(entry.declaration.key.name, entry.index)
    replaced = {first[name]: interface for name, interface in puts.items() if name in first}
    removed = {entry.index for entry in entries if entry.declaration.key.name in deletes}
    kept = [entry for entry in entries if entry.index not in removed]
    wanted: list[Said] = [(replaced[e.index], ()) if e.index in replaced else _said(e) for e in kept]
    wanted += [(interface, ()) for interface in adds]
    if wanted == [_said(entry) for entry in entries]:
        return text
    for in_place in (True, False):
        document = _Document(path, text)
        for index, interface in replaced.items():
            document.put(
                index, entries[index].declaration.interface if in_place else None, interface, whole=not in_place
            )
        document.remove(removed)
        document.add(adds)
        changed = document.dump()
        if _reads_as(path, changed, wanted):
            return changed
    raise BrokenFile(path, "cannot be changed without changing something else in it, edit it by hand")


def new_text(interface: Interface) -> str:
    """Return the text of a new JSON file with one interface."""
    return _dump_json(_plain(interface))


def _said(entry: Entry) -> Said:
    return entry.declaration.interface, entry.declaration.errors


def _reads_as(path: Path, text: str, wanted: list[Said]) -> bool:
    try:
        return [_said(entry) for entry in parse_interfaces(path, text)] == wanted
    except BrokenFile:
        return False


def _plain(interface: Interface) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(encode(interface))
    return fields


def _dump_json(document: object) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


class _Document:
    """A file's content as something that can be changed and written again."""

    def __init__(self, path: Path, text: str) -> None:
        self._yaml: YAML | None = None
        if path.suffix == ".json":
            self._root: Any = json.loads(text) if text.strip() else None
        else:
            self._yaml = YAML(typ="rt")
            self._yaml.preserve_quotes = True
            self._yaml.width = 4096
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about numbers that YAML 1.1 would have read otherwise
                self._root, indent, offset = load_yaml_guess_indent(text, yaml=self._yaml)
            if indent is not None and offset is not None:
                self._yaml.indent(sequence=indent, offset=offset)
        if self._root is None:
            self._root = []
        self._single = isinstance(self._root, dict) and LIST_KEY not in self._root

    @property
    def _items(self) -> list[Any]:
        if isinstance(self._root, list):
            return self._root
        if self._single:
            return [self._root]
        if self._root[LIST_KEY] is None:
            self._root[LIST_KEY] = []
        items: list[Any] = self._root[LIST_KEY]
        return items

    def put(self, index: int, old: Interface | None, new: Interface, *, whole: bool) -> None:
        """Replace an item: field by field, or as a whole."""
        item = self._items[index]
        if not whole and isinstance(item, dict):
            _change(item, _plain(old) if old else {}, _plain(new))
        elif self._single:
            self._root = _plain(new)
        else:
            self._items[index] = _plain(new)

    def remove(self, indexes: Collection[int]) -> None:
        """Take items out."""
        if len(indexes) == len(self._items):
            # A list that ruamel empties item by item can keep comments that no longer fit in.
            if isinstance(self._root, list) or self._single:
                self._root, self._single = [], False
            else:
                self._root[LIST_KEY] = []
            return
        for index in sorted(indexes, reverse=True):
            del self._items[index]

    def add(self, interfaces: Sequence[Interface]) -> None:
        """Put items at the end."""
        if self._single and interfaces:
            self._root, self._single = [self._root], False
        if interfaces:
            self._items.extend(map(_plain, interfaces))

    def dump(self) -> str:
        """Write it."""
        if self._yaml is None:
            return _dump_json(self._root)
        stream = io.StringIO()
        self._yaml.dump(self._root, stream)
        return stream.getvalue()


def _change(item: MutableMapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Make the fields that are different so; the others keep the way they are written."""
    written: dict[str, str] = {}
    for key in list(item):
        field = _BY_LETTERS.get(str(key).lower().replace("_", ""))
        if field is None:
            continue
        if field in written or (field not in new and field in old) or (not old and field not in new):
            del item[key]
        else:
            written[field] = key
    for field, value in new.items():
        if not old or old.get(field) != value:
            key = written.get(field, field)
            item[key] = _styled(value, item.get(key))


def _styled(value: object, before: object) -> object:
    """Write quotes, and lists and mappings in one line, where they were so."""
    if isinstance(before, ScalarString) and isinstance(value, str):
        return type(before)(value)
    if isinstance(before, CommentedMap | CommentedSeq) and before.fa.flow_style() and isinstance(value, dict | list):
        styled = CommentedMap(value) if isinstance(value, dict) else CommentedSeq(value)
        styled.fa.set_flow_style()
        return styled
    return value
