"""The one place where text from outside becomes text that people and parsers may see.

Names, reasons and messages come from values, namespaces, containers and stores, and whoever wrote them may have put in
what clears a screen, changes a title, forges a line or turns the order of letters around. What is shown goes through
:func:`visible`, what is written as JSON through :func:`json_text`: then every character is one that a terminal shows,
and takes for nothing else.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

# ``str.isprintable`` refuses the categories Cc, Cf, Cs, Co, Cn, Zl, Zp and Zs, but for the ordinary space. These show
# nothing, or what cannot be told from a space, and are letters, symbols or marks (Default_Ignorable_Code_Point, and the
# empty pattern of Braille).
_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def is_visible(text: str) -> bool:
    """Tell whether every character of a text is shown as it is."""
    return text.isprintable() and (text.isascii() or not _UNSEEN.search(text))


def visible(text: str, *, keep: str = "") -> str:
    r"""Return a text in which every character that is not shown as it is reads ``\x1b``, ``\u202e`` or ``\U000e0001``.

    Those in ``keep``, such as line feeds, are left alone.
    """
    if is_visible(text):
        return text
    return "".join(c if c in keep or is_visible(c) else _escaped(c) for c in text)


def cut(text: str, length: int) -> str:
    """Return a text of at most ``length`` characters, which says so where it was longer."""
    if len(text) <= length:
        return text
    note = f"… ({len(text)} characters)"
    return text[: max(0, length - len(note))] + note


def json_text(value: object, *, indent: int | None = None) -> str:
    """Return a value as JSON, in one line unless ``indent`` is given, with :func:`visible` characters only.

    What is not visible is escaped as JSON does, half characters too. Raises ``TypeError`` for what JSON has no form of.
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=None if indent else (",", ":"))
    return text if is_visible(text) else "".join(c if c == "\n" or is_visible(c) else _json_escaped(c) for c in text)


def json_bytes(value: Any) -> bytes:
    """Return :func:`json_text` in one line, in UTF-8."""
    return json_text(value).encode()


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escaped(character: str) -> str:
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
