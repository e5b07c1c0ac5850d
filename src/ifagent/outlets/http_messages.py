"""Requests and answers of HTTP/1.1 (RFC 9112), as far as a read-only server needs them: bytes to values and back.

Requests with a body are refused, so no body is ever read, let alone decompressed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from ifagent.errors import IfagentError

MAX_HEAD: Final = 8 * 1024
"""Longest head of a request: its first line and its fields."""

END_OF_HEAD: Final = b"\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"

_MAX_FIELDS: Final = 64
_MAX_PARAMETERS: Final = 16
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 of the grammar
_FIRST_LINE: Final = re.compile(rf"({_TOKEN}) (\S+) HTTP/1\.([01])")
_FIELD: Final = re.compile(rf"({_TOKEN}):[ \t]*(.*?)[ \t]*")


class RequestRefused(IfagentError):
    """A request is refused with the HTTP ``status`` and a message."""

    def __init__(self, status: int, text: str) -> None:
        """Keep the status."""
        self.status = status
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Request:
    """A request. ``stays`` if the connection is kept open, ``chunks`` if the answer may use chunked encoding."""

    method: str
    path: str
    parameters: Mapping[str, str]
    fields: Mapping[str, str]
    stays: bool
    chunks: bool


def parse_request(head: bytes) -> Request:
    """Parse a head, including its terminating empty line. Raises :class:`RequestRefused`, and nothing else."""
    if not head.endswith(END_OF_HEAD):
        raise RequestRefused(431, f"request head exceeds {MAX_HEAD} bytes")
    first, *lines = head.removesuffix(END_OF_HEAD).decode("latin-1").split("\r\n")
    match = _FIRST_LINE.fullmatch(first)
    if match is None:
        raise RequestRefused(400, "not an HTTP/1.1 request")
    method, target, minor = match.groups()
    fields = _fields(lines)
    try:
        parts = urlsplit(target)
        parameters = dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS))
    except ValueError:
        raise RequestRefused(400, "invalid request target") from None
    if method not in {"GET", "HEAD"}:
        raise RequestRefused(405, "read-only: use GET or HEAD")
    if "content-encoding" in fields:
        raise RequestRefused(415, "content encoding not supported, requests must have no body")
    if fields.get("content-length", "0") != "0" or "transfer-encoding" in fields:
        raise RequestRefused(413, "requests must have no body")
    stays = minor == "1" and "close" not in fields.get("connection", "").lower()
    return Request(method, parts.path, parameters, fields, stays=stays, chunks=minor == "1")


def _fields(lines: list[str]) -> dict[str, str]:
    if len(lines) > _MAX_FIELDS:
        raise RequestRefused(431, f"request has more than {_MAX_FIELDS} header fields")
    fields: dict[str, str] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise RequestRefused(400, "invalid header line")
        name, value = match.group(1).lower(), match.group(2)
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def answer_head(
    status: int, content_type: str, *, length: int | None = None, stays: bool = False, chunks: bool = False
) -> bytes:
    """Write the head of an answer whose body has a ``length``, comes in chunks, or ends with the connection."""
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Date: {formatdate(usegmt=True)}",
        f"Content-Type: {content_type}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
    ]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    elif chunks:
        lines.append("Transfer-Encoding: chunked")
    if status == 405:
        lines.append("Allow: GET, HEAD")
    if not stays:
        lines.append("Connection: close")
    return "\r\n".join(lines).encode() + END_OF_HEAD


def chunk(data: bytes) -> bytes:
    """Encode a chunk of a body; ``data`` must not be empty, an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
