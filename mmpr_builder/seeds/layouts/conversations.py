"""Rows that are conversations: LLaVA's and InternVL's JSON, LLaVA-OneVision's and the Cauldron's
Parquet, files or hub.

{"id": 7, "image": "geo/1.png", "conversations": [
   {"from": "human", "value": "<image>\\nFind x.\\nChoices: (A) 3 (B) 4"},
   {"from": "gpt", "value": "x is a side of … Answer: B"}]}
{"images": […], "texts": [{"user": "What is the total?", "assistant": "31.00.", "source": "…"}]}

Each question with its reply is a row of its own, with all images. The reference answer is what
follows the last "Answer:" of the reply, else a reply of at most `MAX_WORDS` words. A longer one is
a description or a derivation that cannot be compared, so the row has no reference answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mmpr_builder.errors import RowError
from mmpr_builder.io.seed_files import SeedFile
from mmpr_builder.seeds.formats import Row, quote, read_rows
from mmpr_builder.seeds.layouts.base import Layout, each

MAX_WORDS = 12
"""Longest reply, in words, that is taken for an answer."""

_MARK = re.compile(r"(?:\bfinal answer|\banswer|答案)(?: is)?\s*[:：]\s*", re.IGNORECASE)
_ASKED, _REPLIED = ("human", "user"), ("gpt", "assistant")


def _read_conversations(file: SeedFile) -> Iterator[Row]:
    number = 0
    for row in read_rows(file, turns=True):
        try:
            if row.fields is None:
                raise row.error or RowError("invalid_json", "no fields")
            made = list(_rows(row.fields))
        except RowError as error:
            made = [error]
        for found in made:
            number += 1
            if isinstance(found, RowError):
                yield Row(number, None, found)
            else:
                yield Row(number, found)


def _rows(fields: Mapping[str, Any]) -> Iterator[Mapping[str, Any] | RowError]:
    turns = _turns(fields)
    kept = {k: v for k, v in fields.items() if k not in ("conversations", "texts", "source")}
    for i, (asked, replied) in enumerate(turns):
        row = {**kept, "question": asked, "answer": truth(replied)}
        if len(turns) > 1 and fields.get("id") not in (None, ""):
            row["id"] = f"{fields['id']}_{i}"
        yield row


def _turns(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(question, reply) in order. Raises `RowError`."""
    turns = fields.get("conversations") or fields.get("texts")
    if not isinstance(turns, list) or not turns:
        raise RowError("missing_conversation", f"no turns in {quote(dict(fields))}")
    said: list[tuple[bool, str]] = []
    for turn in turns:
        for who, text in _said(turn):
            if who in _ASKED or who in _REPLIED:
                said.append((who in _ASKED, text))
    pairs = list(zip(said[::2], said[1::2], strict=False))
    if len(said) % 2 or not pairs or not all(a[0] and not b[0] for a, b in pairs):
        raise RowError("bad_conversation", f"questions and replies must alternate: {quote(turns)}")
    return [(asked, replied) for (_, asked), (_, replied) in pairs]


def _said(turn: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(turn, Mapping):
        raise RowError("bad_conversation", f"a turn must be a table, got {quote(turn)}")
    who = turn.get("from", turn.get("role"))
    turn = {str(who): turn.get("value", turn.get("content"))} if who else turn
    for name in ("system", *_ASKED, *_REPLIED):
        text = turn.get(name)
        if text is not None:
            if not isinstance(text, str):
                raise RowError("bad_conversation", f"a turn must be text, got {quote(text)}")
            yield name, text


def truth(reply: str) -> str | None:
    """The answer that a reply gives, None if it gives no short one."""
    *before, text = _MARK.split(reply)
    if before:
        text = text.partition("\n")[0]
    elif len(text.split()) > MAX_WORDS:
        return None
    # "31.00." and "Yes." are sentences of one word; "e.g." and "3." with nothing else are kept.
    return text.strip().removesuffix(".").strip() or None


CONVERSATIONS = Layout("", each(_read_conversations), rows=True)
