"""JSON that others wrote to plain values, with limits that nobody has to check again afterwards.

Python's own parser takes what no JSON is (``NaN``), makes infinity of ``1e999``, and nests as deep as its stack goes.
What is done with such a value later, comparing it, quoting it in a message, may need more stack than there is then.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from functools import cache
from typing import Any, Final, NoReturn

MAX_DEPTH: Final = 32
"""Deepest nesting of lists and objects; an interface needs three."""

Pairs = Callable[[list[tuple[str, Any]]], Any]
"""What makes an object of its keys and values."""

# Strings in whole, and everything else that is not a bracket; of text that was parsed already, so it cannot go astray.
_NO_BRACKETS: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"|[^"\[\]{}]++', re.DOTALL)
_ONE_KIND: Final = str.maketrans("{}", "[]")


class BrokenJson(Exception):
    """Why a text is not usable JSON: ``problem`` completes a sentence that begins with what it is.

    ``line`` and ``column`` begin at 1, and are 0 where they are not known; then the problem says all.
    """

    def __init__(self, problem: str, line: int = 0, column: int = 0) -> None:
        self.problem = problem
        self.line = line
        self.column = column
        super().__init__(f"{problem} in line {line}, column {column}" if line else problem)


def read_json(text: str | bytes, *, pairs: Pairs | None = None) -> Any:
    """Return the value that a text in UTF-8 stands for; ``pairs`` makes its objects, dictionaries unless given.

    Numbers are finite, and lists and objects nested at most :data:`MAX_DEPTH` deep. Strings may have half characters
    (U+D800), which cannot be encoded. Raises :class:`BrokenJson`, and nothing else.
    """
    try:
        text = text if isinstance(text, str) else text.decode()
        value = _decoder(pairs).decode(text)
    except UnicodeDecodeError as error:
        raise BrokenJson(f"is not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise BrokenJson(f"is not valid JSON: {error.msg}", error.lineno, error.colno) from None
    except RecursionError:
        raise BrokenJson("is nested too deeply") from None
    except ValueError:  # Python's limit for the conversion of decimal digits
        raise BrokenJson("has a number that is too long") from None
    if _is_deep(text):
        raise BrokenJson("is nested too deeply")
    return value


@cache
def _decoder(pairs: Pairs | None) -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=pairs, parse_constant=_refuse_constant, parse_float=_finite)


def _refuse_constant(text: str) -> NoReturn:
    raise BrokenJson(f"is not valid JSON: {text} is not allowed")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise BrokenJson("has a number that is too large")
    return number


def _is_deep(text: str) -> bool:
    """Tell whether brackets, which are balanced, are nested too deeply."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    brackets = _NO_BRACKETS.sub("", text).translate(_ONE_KIND)
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace("[]", "")  # takes off what is innermost
    return bool(brackets)
