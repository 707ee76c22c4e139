"""Pairs on their way into a trainer's format, read in bounded memory from the shards of builds.

    Item("out/pairs/part-00000.parquet:118", id="9f…", parts=(None, "How many …?"), chosen="…", …)

`parts` is the prompt as the sampled model was shown it: texts, and None where an image stands.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from mmpr_builder.errors import InputError, RowError
from mmpr_builder.io.tables import ParquetFile
from mmpr_builder.records import IMAGE_PLACEHOLDER

_NEEDED = ("images", "prompt", "chosen", "rejected")
_WANTED = ("id", "seed_id", "source", "kind", "answer", "prompt_text")
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
    """The whole row it was read from, where it was asked for."""

    @property
    def placeholders(self) -> int:
        """Places for images in the prompt."""
        return sum(part is None for part in self.parts)

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
    whole: bool = False,
    needed: Sequence[str] = _NEEDED,
) -> Iterator[Item | BadRow]:
    """The pairs of Parquet parts in order, only the columns that formats use (`whole`: all).

    `kinds` and `sources` keep only pairs of these; empty keeps all. Raises `InputError` when a
    part lacks the columns that make a pair, or those `needed`.
    """
    for where, row in read_rows(parts, needed, None if whole else _WANTED):
        if kinds and row.get("kind") not in kinds:
            continue
        if sources and row.get("source") not in sources:
            continue
        try:
            item = item_of(where, row)
            yield replace(item, row=row) if whole else item
        except RowError as error:
            name, source = row.get("id") or "", row.get("source") or ""
            yield BadRow(where, name, error.reason, error.detail, source)


def read_rows(
    parts: Iterable[str], needed: Sequence[str], more: Sequence[str] | None = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(`FILE:ROW`, plain row) of Parquet parts: the columns `needed`, and those of `more` that are
    there (None: all others). Raises `InputError` for a part that lacks a needed one.
    """
    for uri in parts:
        with ParquetFile(uri, fix="remove it") as file:
            names = file.schema.names
            missing = [name for name in needed if name not in names]
            if missing:
                raise InputError(
                    f"{uri}: no column {missing[0]!r}: give a build's folder, or a Parquet file"
                    f" with {', '.join(needed)}"
                )
            wanted = [name for name in names if more is None or name in (*needed, *more)]
            batches = file.batches(_ROWS, wanted)
            rows = chain.from_iterable(batch.to_pylist() for batch in batches)
            for at, row in enumerate(rows):
                yield f"{uri}:{at}", row


def split_prompt(text: str) -> tuple[str | None, ...]:
    """A text with placeholders as parts, nothing taken away."""
    pieces: list[str | None] = []
    for i, piece in enumerate(text.split(IMAGE_PLACEHOLDER)):
        if i:
            pieces.append(None)
        if piece:
            pieces.append(piece)
    return tuple(pieces)


def item_of(where: str, row: Mapping[str, Any]) -> Item:
    """A plain row of pairs, or of one response or none. Raises `RowError`."""
    system, turns = _system(row["prompt"] or ())
    parts = _prompt(turns)
    text = row.get("prompt_text") or ""
    # Of a file made elsewhere the two may differ: what trainers of conversations see counts.
    if text.count(IMAGE_PLACEHOLDER) != sum(part is None for part in parts) or not text:
        text = "".join(f"{IMAGE_PLACEHOLDER}\n" if part is None else part for part in parts)
    return Item(
        where=where,
        id=row.get("id") or "",
        parts=parts,
        text=text,
        pictures=tuple(_picture(image) for image in row["images"] or ()),
        chosen=_side(row, "chosen", "completion"),
        rejected=_side(row, "rejected"),
        source=row.get("source") or "",
        kind=row.get("kind") or "",
        seed_id=row.get("seed_id") or "",
        answer=row.get("answer"),
        system=system,
    )


def _picture(image: Mapping[str, Any] | None) -> Picture:
    if image is None:
        return Picture()
    if image.get("bytes") is None and image.get("path"):
        return Picture(path=Path(image["path"]))
    return Picture(data=image.get("bytes"))


def _system(
    messages: Sequence[Mapping[str, Any]],
) -> tuple[str, Sequence[Mapping[str, Any]]]:
    """(text of a leading system turn, the turns after it)."""
    if not messages or messages[0].get("role") != "system":
        return "", messages
    return "".join(part["text"] or "" for part in messages[0].get("content") or ()), messages[1:]


def _prompt(messages: Sequence[Mapping[str, Any]] | None) -> tuple[str | None, ...]:
    parts = _turn(messages, "user", "odd_prompt", "")
    return tuple(None if part["type"] == "image" else part["text"] or "" for part in parts)


def _side(row: Mapping[str, Any], *names: str) -> str | None:
    """The response in the first of these columns that is there."""
    return next((_reply(row[name], name) for name in names if name in row), None)


def _reply(messages: Sequence[Mapping[str, Any]] | None, side: str) -> str:
    parts = _turn(messages, "assistant", "odd_response", f"{side}: ")
    return "".join(part["text"] or "" for part in parts)


def _turn(
    messages: Sequence[Mapping[str, Any]] | None, role: str, reason: str, what: str
) -> Sequence[Mapping[str, Any]]:
    """The content of the only turn, which must be by `role`."""
    roles = [message.get("role") for message in messages or ()]
    if not messages or roles != [role]:
        raise RowError(reason, f"{what}one turn of the {role} is expected, found {roles}")
    return messages[0].get("content") or ()


class Digests:
    """SHA-256 of images; those of one seed's pairs follow each other and are hashed once."""

    def __init__(self) -> None:
        # Of one multi-image seed; to compare them is nothing beside hashing them.
        self._last: deque[tuple[bytes, bytes]] = deque(maxlen=8)

    def of(self, data: bytes) -> bytes:
        """The 32 bytes of its SHA-256."""
        for known, digest in self._last:
            if known == data:
                return digest
        digest = hashlib.sha256(data).digest()
        self._last.append((data, digest))
        return digest
