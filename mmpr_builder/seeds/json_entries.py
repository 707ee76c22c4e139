"""A large JSON array or object, entry by entry.

VQAv2's annotations are 360 MB: held as text and decoded one entry at a time, for as Python objects
all at once they would take several times as much.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from mmpr_builder.errors import InputError

_BLANK = re.compile(r"\s*")

# Numbers keep the digits they are written with: a truth of 31.00 is not one of 31.0.
DECODER = json.JSONDecoder(parse_float=Decimal)


def quote(value: object) -> str:
    """A value for a message, short whatever it is."""
    text = value if isinstance(value, str) else repr(value)
    text = text if len(text) <= 120 else text[:117] + "..."
    return repr(text) if isinstance(value, str) else text


def entries(text: str, uri: str, key: str | None = None) -> Iterator[tuple[int, str, Any]]:
    """(number from 1, key or "", value) of a JSON array or object, or of the one under `key`.

    `uri` is for messages.
    Raises `InputError` for text that is no JSON, or has no such key.
    """
    try:
        start = _skip(text, 0)
        if key is not None:
            start = _value_of(text, start, key, uri)
        members = _walk(text, start, to_end=key is None)
        for number, (name, value) in enumerate(members, start=1):
            yield number, name, value
    except (ValueError, IndexError, RecursionError, ArithmeticError) as error:
        raise InputError(f"{uri}: not valid JSON: {error}") from None


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _value_of(text: str, at: int, key: str, uri: str) -> int:
    """Where the value of `key` begins in the object at `at`."""
    names = []
    if text[at] == "{":
        at = _skip(text, at + 1)
        while text[at] != "}":
            name, at = DECODER.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)
            if name == key:
                return at
            names.append(name)
            at = _skip(text, DECODER.raw_decode(text, at)[1])
            at = _skip(text, at + 1) if text[at] == "," else at
    raise InputError(f"{uri}: expected an object with {key!r}, found {quote(names)}")


def _walk(text: str, at: int, *, to_end: bool) -> Iterator[tuple[str, Any]]:
    """The members of the array or object that begins at `at`, and is all there is with `to_end`."""
    opening, name = text[at], ""
    if opening not in "[{":
        raise ValueError(
            f"expected an array or object at character {at}, got {text[at : at + 20]!r}"
        )
    closing = "]" if opening == "[" else "}"
    at = _skip(text, at + 1)
    while text[at] != closing:
        if opening == "{":
            name, at = DECODER.raw_decode(text, at)
            at = _skip(text, at)
            if text[at] != ":":
                raise json.JSONDecodeError("expected ':'", text, at)
            at = _skip(text, at + 1)
        value, at = DECODER.raw_decode(text, at)
        yield name, value
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
        elif text[at] != closing:
            raise json.JSONDecodeError(f"expected ',' or {closing!r}", text, at)
    if to_end and _skip(text, at + 1) != len(text):
        raise json.JSONDecodeError("extra data", text, at + 1)
