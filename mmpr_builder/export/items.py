"""Pairs on their way into a trainer's format, read in bounded memory from the shards of builds.

    Item("out/pairs/part-00000.parquet:118", id="9f…", parts=(None, "How many …?"), chosen="…", …)

`parts` is the prompt as the sampled model was shown it: texts, and None where an image stands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from mmpr_builder.errors import InputError, RowError
from mmpr_builder.io.tables import ParquetFile
from mmpr_builder.output import pair_schema
from mmpr_builder.output.rows import REFERENCE
from mmpr_builder.records import IMAGE_PLACEHOLDER

_NEEDED = ("images", "prompt", "chosen", "rejected")
_ROWS = 64  # Rows decoded at a time: images of a few hundred KB each.


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a row: its bytes, or the file that should hold them."""

    data: bytes | None = None
    path: Path | None = None

    def read(self) -> bytes:
        """The encoded bytes. Raises `RowError` "image_missing"."""
        if self.data is not None:
            return self.data
        if self.path is None:
            raise RowError("image_missing", "the row holds no bytes for an image")
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise RowError("image_missing", f"{self.path}: {error.strerror or error}") from None


@dataclass(frozen=True, slots=True)
class Item:
    """One pair. `chosen` and `rejected` are None for a query without responses (verl)."""

    where: str
    """`FILE:ROW`; rows of Parquet count from 0, lines of JSON from 1."""
    id: str
    parts: tuple[str | None, ...]
    text: str
    """The prompt as one text with an `<image>` per image."""
    pictures: tuple[Picture, ...] = ()
    chosen: str | None = None
    rejected: str | None = None
    source: str = ""
    kind: str = ""
    seed_id: str = ""
    answer: str | None = None
    system: str = ""
    """The system turn before the prompt; only imported pairs can have one."""
    split: Literal["train", "validation"] = "train"
    row: Mapping[str, Any] | None = None
    """The row of Parquet that it was read from or is to be."""

    @property
    def asked(self) -> tuple[str, ...]:
        """The texts before the response: those of the prompt, and a system turn's."""
        return tuple(text for text in (self.system or None, *self.parts) if text is not None)

    @property
    def shown(self) -> str:
        """The prompt as one text in which images stand exactly as the model was shown them."""
        return "".join(IMAGE_PLACEHOLDER if part is None else part for part in self.parts)

    @property
    def sides(self) -> tuple[tuple[str, str], ...]:
        """("chosen", text), ("rejected", text), as far as there are any."""
        named = (("chosen", self.chosen), ("rejected", self.rejected))
        return tuple((name, text) for name, text in named if text is not None)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is no pair at all, with the reason."""

    where: str
    id: str
    reason: str
    detail: str
    source: str = ""


def read_items(
    parts: Sequence[str],
    *,
    kinds: Collection[str] = (),
    sources: Collection[str] = (),
    needed: Sequence[str] = _NEEDED,
) -> Iterator[Item | BadRow]:
    """The pairs of Parquet parts in order, with their `row`.

    `kinds` and `sources` keep only pairs of these; empty keeps all. Raises `InputError` when a
    part lacks the columns that make a pair, or those `needed`.
    """
    for where, row in read_rows(parts, needed):
        name, source = row.get("id") or "", row.get("source") or ""
        if (sources and source not in sources) or (kinds and row.get("kind") not in kinds):
            continue
        try:
            yield replace(item_of(where, row), row=row)
        except RowError as error:
            yield BadRow(where, name, error.reason, error.detail, source)


def read_rows(parts: Iterable[str], needed: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(`FILE:ROW`, plain row) of Parquet parts: columns `needed`, and those of pairs and stages.

    Raises `InputError` for a part that lacks a needed one.
    """
    known = {*needed, *pair_schema(REFERENCE).names, "completion"}
    for uri in parts:
        with ParquetFile(uri, fix="remove it") as file:
            names = file.schema.names
            missing = [name for name in needed if name not in names]
            if missing:
                raise InputError(
                    f"{uri}: no column {missing[0]!r}: give a build's folder, or a Parquet file"
                    f" with {', '.join(needed)}"
                )
            wanted = [name for name in names if name in known]
            rows = chain.from_iterable(batch.to_pylist() for batch in file.batches(_ROWS, wanted))
            yield from ((f"{uri}:{at}", row) for at, row in enumerate(rows))


def item_of(where: str, row: Mapping[str, Any]) -> Item:
    """A plain row of pairs, or of one response or none. Raises `RowError`."""
    turns, system = row["prompt"] or (), ""
    if turns and turns[0].get("role") == "system":
        system, turns = _said(turns[0].get("content") or ()), turns[1:]
    shown = _turn(turns, "user", "odd_prompt", "")
    parts = tuple(None if part["type"] == "image" else part["text"] or "" for part in shown)
    text = row.get("prompt_text") or ""
    # Of a file made elsewhere the two may differ: what trainers of conversations see counts.
    if text.count(IMAGE_PLACEHOLDER) != parts.count(None) or not text:
        text = "".join(f"{IMAGE_PLACEHOLDER}\n" if part is None else part for part in parts)
    sides = {
        side: _said(_turn(row[side], "assistant", "odd_response", f"{side}: "))
        for side in ("chosen", "completion", "rejected")
        if side in row
    }
    named: dict[str, Any] = {
        name: row.get(name) or "" for name in ("id", "source", "kind", "seed_id")
    }
    return Item(
        where=where,
        parts=parts,
        text=text,
        pictures=tuple(_picture(image or {}) for image in row["images"] or ()),
        chosen=sides.get("chosen", sides.get("completion")),
        rejected=sides.get("rejected"),
        answer=row.get("answer"),
        system=system,
        **named,
    )


def _picture(image: Mapping[str, Any]) -> Picture:
    data, path = image.get("bytes"), image.get("path")
    return Picture(path=Path(path)) if data is None and path else Picture(data=data)


def _turn(
    messages: Sequence[Mapping[str, Any]] | None, role: str, reason: str, what: str
) -> Sequence[Mapping[str, Any]]:
    """The content of the only turn, which must be by `role`."""
    roles = [message.get("role") for message in messages or ()]
    if not messages or roles != [role]:
        raise RowError(reason, f"{what}one turn of the {role} is expected, found {roles}")
    return messages[0].get("content") or ()


def _said(content: Sequence[Mapping[str, Any]]) -> str:
    return "".join(part["text"] or "" for part in content)


def turn_of(role: str, *parts: str | None) -> dict[str, Any]:
    """A turn of a conversation as pairs have it: texts, and None for each image."""
    content = [{"type": "image" if part is None else "text", "text": part} for part in parts]
    return {"role": role, "content": content}


@lru_cache(maxsize=8)
def digest_of(data: bytes) -> bytes:
    """SHA-256 of an image. Pairs of one seed follow each other, and theirs are hashed once."""
    return hashlib.sha256(data).digest()
