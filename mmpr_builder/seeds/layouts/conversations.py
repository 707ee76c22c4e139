"""Rows that are conversations: LLaVA's and InternVL's, ShareGPT's, OpenAI's `messages`, the
Cauldron's `texts`; JSON, Parquet or hub.

{"id": 7, "image": "geo/1.png", "conversations": [
   {"from": "human", "value": "<image>\\nFind x.\\nChoices: (A) 3 (B) 4"},
   {"from": "gpt", "value": "x is a side of … Answer: B"}]}
{"images": […], "texts": [{"user": "What is the total?", "assistant": "31.00.", "source": "…"}]}
{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "1.png"}},
   {"type": "text", "text": "What is it?"}]}, {"role": "assistant", "content": "A cat."}]}

One question with its reply is a row. Several are several rows where the source's `format` is
"conversations" (each is then asked alone), and in `texts`, which are questions of their own. The
reference answer is the row's own, else the one of the reply (`replies.truth`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmpr_builder.errors import RowError
from mmpr_builder.records import IMAGE_PLACEHOLDER
from mmpr_builder.seeds.formats import Row, quote
from mmpr_builder.seeds.replies import truth
from mmpr_builder.seeds.roles import TURNS, find, is_empty

_ASKED, _REPLIED = ("human", "user"), ("gpt", "assistant", "chatgpt", "model")
_NO_TOOLS = "calls of tools are not sampled: give the question with its final answer as a row"


def expanded(row: Row, *, alone: bool) -> Sequence[Row]:
    """The rows that a conversation is made of, any other row as it is. With `alone` every row must
    be a conversation, and each of several questions is asked without what was said before."""
    fields = row.fields
    if fields is None or not (alone or _turns_of(fields)[1]):
        return (row,)
    try:
        return [Row(row.number, made) for made in _rows(fields, alone)]
    except RowError as error:
        return (Row(row.number, None, error),)


def _turns_of(fields: Mapping[str, Any]) -> tuple[str, list[Any] | None]:
    """The column with the turns, and these; None where a question stands in a column of its own."""
    name, asked = find(fields, "question")
    if isinstance(asked, str) and asked.strip():
        return "", None
    for column in (name, *TURNS):
        turns = fields.get(column)
        if isinstance(turns, list) and turns and (column == name or is_empty(asked)):
            return column, turns
    return "", None


def _rows(fields: Mapping[str, Any], alone: bool) -> Iterator[Mapping[str, Any]]:
    column, turns = _turns_of(fields)
    if not isinstance(turns, list):
        raise RowError("missing_conversation", f"no turns in {quote(dict(fields))}")
    if not is_empty(fields.get("tools")):
        raise RowError("tools_not_supported", _NO_TOOLS)
    said = _pairs(turns, alone)
    if len(said) > 1 and not alone and column != "texts":
        raise RowError(
            "several_turns",
            f"{len(said)} questions in one conversation: with the source's `format: conversations`"
            " each is asked alone, without what was said before it",
        )
    kept = {k: v for k, v in fields.items() if k not in (*TURNS, column, "source")}
    own = find(fields, "answer")[1]
    for i, (asked, replied, images) in enumerate(said):
        row = {**kept, "question": asked, **({"image": images} if images else {})}
        if is_empty(own):
            row["answer"] = None if replied is None else truth(replied)
        if len(said) > 1 and fields.get("id") not in (None, ""):
            row["id"] = f"{fields['id']}_{i}"
        yield row


def _pairs(turns: list[Any], alone: bool) -> list[tuple[str, str | None, list[Any]]]:
    """(question, reply if there is one, images among its parts) in order. Raises `RowError`."""
    said: list[tuple[bool, str, list[Any]]] = []
    for turn in turns:
        for who, content in _said(turn):
            if who in _ASKED or who in _REPLIED:
                said.append((who in _ASKED, *_parts(content)))
    if len(said) % 2 and not alone:
        said.append((False, "", []))
    pairs = list(zip(said[::2], said[1::2], strict=False))
    if len(said) % 2 or not pairs or not all(a[0] and not b[0] for a, b in pairs):
        raise RowError("bad_conversation", f"questions and replies must alternate: {quote(turns)}")
    return [(asked, replied or None, images) for (_, asked, images), (_, replied, _) in pairs]


def _said(turn: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(turn, Mapping):
        raise RowError("bad_conversation", f"a turn must be a table, got {quote(turn)}")
    who = turn.get("from", turn.get("role"))
    if who in ("tool", "function", "observation", "function_call") or turn.get("tool_calls"):
        raise RowError("tools_not_supported", _NO_TOOLS)
    turn = {str(who): turn.get("value", turn.get("content"))} if who else turn
    for name in ("system", *_ASKED, *_REPLIED):
        if turn.get(name) is not None:
            yield name, turn[name]


def _parts(content: Any) -> tuple[str, list[Any]]:
    """The text of a turn with `<image>` for each picture among its parts, and those that the parts
    hold themselves. Raises `RowError`."""
    if isinstance(content, str):
        return content, []
    if not isinstance(content, list) or not all(isinstance(part, Mapping) for part in content):
        raise RowError("bad_conversation", f"a turn must be text, got {quote(content)}")
    texts, images = [], []
    for part in content:
        kind = part.get("type") or next((k for k in ("text", "image") if part.get(k)), None)
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind in ("image", "image_url", "input_image"):
            found = part.get("image_url", part.get("image", part.get("url")))
            images += [found] if found is not None else []
            texts.append(IMAGE_PLACEHOLDER)
        else:
            raise RowError("media_not_supported", f"a part of a turn is {quote(dict(part))}")
    return "\n".join(texts), images
