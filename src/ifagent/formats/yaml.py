"""YAML 1.2 text to plain values, with limits, and with the lines at which they begin.

The text is composed into nodes by ruamel.yaml; the values are made of the nodes here, because only so can a file
that is small but unfolds without end be refused, and errors be told with their line. Dates stay strings.
"""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_DEPTH = 32
"""Deepest nesting; an interface needs three."""

MAX_WRITTEN = 500_000
"""Most values and keys that are written in one document: each takes 0.7 KB, and some 20 us, to be read."""

MAX_NODES = 2_000_000
"""Most values in one document, each alias counted with everything it stands for."""

_TAG = "tag:yaml.org,2002:"
_WORDS: dict[str, Any] = {"true": True, "false": False}
_FLOATS = {".inf": "inf", "-.inf": "-inf", "+.inf": "inf", ".nan": "nan"}


class BrokenYaml(Exception):
    """Why a text is not usable YAML; ``line`` and ``column`` begin at 1, 0 where they are not known."""

    def __init__(self, problem: str, line: int = 0, column: int = 0) -> None:
        self.problem = problem
        self.line = line
        self.column = column
        super().__init__(problem)


def read_yaml(text: str, *, items: str) -> tuple[object, list[int]]:
    """Return the one document of ``text`` as plain values, and the lines of its items.

    The items are the members of the document if that is a list, of the list under the key ``items`` if it is
    a mapping with one, else the document itself. Equal aliases are one object: do not change what is
    returned. Raises :class:`BrokenYaml`, and nothing else.
    """
    try:
        yaml: Any = YAML(typ="safe", pure=True)
        yaml.Composer = _Composer
        root = yaml.compose(text)
    except BrokenYaml:
        raise
    except MarkedYAMLError as error:
        raise _broken(error) from None
    except YAMLError as error:
        position = getattr(error, "position", 0)
        raise BrokenYaml(str(error).splitlines()[0], text.count("\n", 0, position) + 1) from None
    except RecursionError:
        raise BrokenYaml("is nested too deeply") from None
    except AssertionError as error:  # so ruamel.yaml refuses the directive %YAML 1.3
        raise BrokenYaml(f"is not YAML 1.1 or 1.2: {error}") from None
    if root is None:
        return None, []
    return _Builder().build(root, 0)[0], _lines(root, items)


def _broken(error: MarkedYAMLError) -> BrokenYaml:
    mark = error.problem_mark or error.context_mark
    problem = " ".join(filter(None, (error.context, error.problem)))
    return BrokenYaml(problem, mark.line + 1, mark.column + 1) if mark else BrokenYaml(problem)


def _at(node: Node, problem: str) -> BrokenYaml:
    return BrokenYaml(problem, node.start_mark.line + 1, node.start_mark.column + 1)


def _lines(root: Node, items: str) -> list[int]:
    listed: Node = root
    if isinstance(root, MappingNode):
        listed = next((value for key, value in root.value if key.value == items), root)
    members = listed.value if isinstance(listed, SequenceNode) else [root]
    return [member.start_mark.line + 1 for member in members]


class _Composer(Composer):
    """Makes nodes of the text, not more than :data:`MAX_WRITTEN` nor much deeper than :data:`MAX_DEPTH`."""

    def __init__(self, loader: Any) -> None:
        super().__init__(loader=loader)
        self.warn_double_anchors = False  # YAML allows them, and nobody would read the warning
        self._written = self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._written += 1
        if self._written > MAX_WRITTEN:
            raise BrokenYaml(f"has more than {MAX_WRITTEN} values")
        self._depth += 1
        if self._depth > MAX_DEPTH + 2:
            raise BrokenYaml(f"is nested more than {MAX_DEPTH} deep", self.parser.peek_event().start_mark.line + 1)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Builder:
    """Makes the values of one document; each node is made once, however many aliases lead to it."""

    def __init__(self) -> None:
        self._done: dict[int, tuple[object, int]] = {}
        self._open: set[int] = set()
        self._merged = 0

    def build(self, node: Node, depth: int) -> tuple[object, int]:
        """Return a node's value, and how many values that is with every alias unfolded."""
        if id(node) in self._done:
            return self._done[id(node)]
        if id(node) in self._open:
            raise _at(node, "contains itself")
        if depth > MAX_DEPTH:
            raise _at(node, f"is nested more than {MAX_DEPTH} deep")
        self._open.add(id(node))
        match node:
            case ScalarNode():
                built: tuple[object, int] = _scalar(node), 1
            case SequenceNode():
                members = [self.build(member, depth + 1) for member in node.value]
                built = [value for value, _ in members], 1 + sum(size for _, size in members)
            case MappingNode():
                built = self._mapping(node, depth)
            case _:
                raise _at(node, "unknown kind of node")
        if built[1] > MAX_NODES:
            raise _at(node, f"expands to more than {MAX_NODES} values")
        self._open.discard(id(node))
        self._done[id(node)] = built
        return built

    def _mapping(self, node: MappingNode, depth: int) -> tuple[dict[Any, object], int]:
        own: dict[Any, object] = {}
        merged: dict[Any, object] = {}
        size = 1
        _check_tag(node, "map")
        for key_node, value_node in node.value:
            value, value_size = self.build(value_node, depth + 1)
            size += 1 + value_size
            if size > MAX_NODES:
                raise _at(node, f"expands to more than {MAX_NODES} values")
            if key_node.tag == f"{_TAG}merge":
                for source in value if isinstance(value, list) else [value]:
                    merged = self._merge(source, merged, value_node)
                continue
            if not isinstance(key_node, ScalarNode):
                raise _at(key_node, "a key must be a plain word")
            key = _scalar(key_node)
            if key in own:
                raise _at(key_node, f"duplicate key {key!r}")
            own[key] = value
        return merged | own, size

    def _merge(self, source: object, merged: dict[Any, object], node: Node) -> dict[Any, object]:
        """Add what ``merged`` does not have yet; the work of all merges together is limited."""
        if not isinstance(source, dict):
            raise _at(node, "only a mapping, or a list of them, can be merged with <<")
        self._merged += len(source)
        if self._merged > MAX_NODES:
            raise _at(node, f"expands to more than {MAX_NODES} values")
        return source | merged


def _check_tag(node: Node, name: str) -> None:
    if node.tag != _TAG + name:
        raise _at(node, f"unknown tag {node.tag!r}")


def _scalar(node: ScalarNode) -> object:
    """Make the value of a scalar as YAML 1.2's core schema does; what it does not know stays a string."""
    text: str = node.value
    match str(node.tag).removeprefix(_TAG):
        case "null":
            return None
        case "bool":
            return _WORDS.get(text.lower(), text)
        case "int":
            return _number(int, text)
        case "float":
            return _number(float, _FLOATS.get(text.lower(), text))
        case "str" | "timestamp" | "value" | "merge":
            return text
        case _:
            raise _at(node, f"unknown tag {node.tag!r}")


def _number(kind: type[int | float], text: str) -> object:
    try:
        if kind is float:
            return float(text.replace("_", ""))
        sign, digits = (text[:1], text[1:]) if text[:1] in {"+", "-"} else ("", text)
        base = {"0x": 16, "0o": 8, "0b": 2}.get(digits[:2].lower(), 10)
        return int(sign + (digits if base == 10 else digits[2:]).replace("_", ""), base)
    except ValueError:
        return text
