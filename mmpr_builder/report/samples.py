"""The pairs that the report shows: which ones, their pictures, and where the two texts differ."""

from __future__ import annotations

import base64
import difflib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, get_args

import pyarrow.parquet as pq
from PIL import Image

from mmpr_builder import images, tables
from mmpr_builder.records import IMAGE_PLACEHOLDER, Kind

THUMBNAIL_PX = 420
THUMBNAIL_BYTES = 40_000
SHOWN_CHARACTERS = 6_000
"""Longer texts are cut in the page (it says so); the pairs themselves are whole."""

_WORD = re.compile(
    r"\s+|[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]|[^\s\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]+"
)
_KEEP = {"\n", "\t"}
_CONTROL = {i: 0x2400 + i for i in range(32) if chr(i) not in _KEEP}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pair lies: row `row` of row group `group` of `part`."""

    part: str
    group: int
    row: int
    kind: str
    source: str
    id: str


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of text: "same" in both, "prefix" (the shared beginning), "new", or "plain"."""

    mark: str
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One pair as the page shows it. `images` are data URLs."""

    row: Mapping[str, Any]
    question: str
    images: tuple[str, ...]
    chosen: tuple[Span, ...]
    rejected: tuple[Span, ...]
    chosen_hidden: int
    rejected_hidden: int


def pick_samples(parts: Sequence[str], limit: int) -> list[Place]:
    """Up to `limit` pairs, shared evenly by kinds and sources; of different seeds while they last.

    Ids are content hashes, so the lowest of them are a fair and repeatable draw.
    """
    lanes: dict[tuple[str, str], dict[str, list[Place]]] = {}
    for part in parts:
        for place, seed_id in _places(part):
            lane = lanes.setdefault((place.kind, place.source), {})
            kept = lane.setdefault(seed_id, [])
            kept.append(place)
            if len(lane) > limit:  # Then one of each seed is more than enough.
                lane[seed_id] = [min(kept, key=lambda p: p.id)]
    order = {kind: i for i, kind in enumerate(get_args(Kind))}
    keys = sorted(lanes, key=lambda key: (order.get(key[0], len(order)), key[1]))
    ranked = [_ranked(lanes[key])[:limit] for key in keys]
    # Kinds take turns first, then the sources inside each kind.
    by_kind = [
        _turns([r for k, r in zip(keys, ranked, strict=True) if k[0] == kind]) for kind in order
    ]
    picked = _turns(by_kind)[:limit]
    return sorted(picked, key=lambda p: (order.get(p.kind, len(order)), p.source, p.id))


def read_samples(places: Sequence[Place]) -> list[Sample]:
    """The pairs at these places, in this order."""
    wanted: dict[tuple[str, int], list[Place]] = {}
    for place in places:
        wanted.setdefault((place.part, place.group), []).append(place)
    found: dict[str, Sample] = {}
    for (part, group), inside in sorted(wanted.items()):
        fs, path = tables.resolve(part)
        with fs.open(path, "rb") as file:
            table = pq.ParquetFile(file).read_row_group(group)
        for place in inside:
            (row,) = table.slice(place.row, 1).to_pylist()
            found[place.id] = _sample(row)
    return [found[place.id] for place in places]


def compare(chosen: str, rejected: str, kind: str) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Both texts as spans: the beginning they share, then what is in one only."""
    left, right = _WORD.findall(chosen), _WORD.findall(rejected)
    shared = 0
    while shared < min(len(left), len(right)) and left[shared] == right[shared]:
        shared += 1
    head = left[:shared]
    prefix = [Span("prefix" if kind == "dropout_ntp" else "same", "".join(head))]
    left, right = left[shared:], right[shared:]
    if kind == "dropout_ntp" or len(left) * len(right) > 2_000_000:
        return (
            _merged([*prefix, Span("new", "".join(left))]),
            _merged([*prefix, Span("new", "".join(right))]),
        )
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    # Texts that go different ways have only chance words in common: marking all else is noise.
    mark = "new" if _likeness(matcher, left, right, _words(head)) >= 0.4 else "plain"
    a, b = list(prefix), list(prefix)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        same = "same" if tag == "equal" else mark
        a.append(Span(same, "".join(left[i1:i2])))
        b.append(Span(same, "".join(right[j1:j2])))
    return _merged(a), _merged(b)


def _likeness(
    matcher: difflib.SequenceMatcher[str], left: Sequence[str], right: Sequence[str], shared: int
) -> float:
    """Share of words, blanks aside, that both have in the same order."""
    blocks = matcher.get_matching_blocks()
    common = sum(_words(left[block.a : block.a + block.size]) for block in blocks)
    return 2 * (shared + common) / max(1, 2 * shared + _words(left) + _words(right))


def _words(pieces: Sequence[str]) -> int:
    return sum(not piece.isspace() for piece in pieces)


def thumbnail(data: bytes) -> str:
    """A small JPEG of an image as a data URL of at most ~40 KB."""
    picture = images.open_image(data)
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    for quality in (82, 60, 40, 20):
        buffer = io.BytesIO()
        picture.save(buffer, format="JPEG", quality=quality, optimize=True)
        if buffer.tell() <= THUMBNAIL_BYTES * 3 // 4:
            break
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _sample(row: dict[str, Any]) -> Sample:
    pictures = tuple(thumbnail(image["bytes"]) for image in row.pop("images"))
    texts = [str(row[name]).translate(_CONTROL) for name in ("chosen_text", "rejected_text")]
    shown = [text[:SHOWN_CHARACTERS] for text in texts]
    chosen, rejected = compare(shown[0], shown[1], row["kind"])
    return Sample(
        row=row,
        question=_question(row["question"]),
        images=pictures,
        chosen=chosen,
        rejected=rejected,
        chosen_hidden=len(texts[0]) - len(shown[0]),
        rejected_hidden=len(texts[1]) - len(shown[1]),
    )


def _question(text: str) -> str:
    """The question as a person reads it: several images are numbered, a single one goes unsaid."""
    first, *rest = text.translate(_CONTROL).split(IMAGE_PLACEHOLDER)
    if len(rest) <= 1:
        return "".join([first, *rest]).strip()
    return first + "".join(f"[image {i}]{part}" for i, part in enumerate(rest, 1))


def _places(part: str) -> Iterator[tuple[Place, str]]:
    fs, path = tables.resolve(part)
    with fs.open(path, "rb") as file:
        parquet = pq.ParquetFile(file)
        for group in range(parquet.num_row_groups):
            columns = parquet.read_row_group(group, columns=["id", "seed_id", "kind", "source"])
            for row, item in enumerate(columns.to_pylist()):
                place = Place(part, group, row, item["kind"], item["source"], item["id"])
                yield place, item["seed_id"]


def _ranked(lane: Mapping[str, Sequence[Place]]) -> list[Place]:
    """One pair of each seed, then a second of each, …; by id inside each round."""
    rounds = [
        (nth, place.id, place)
        for places in lane.values()
        for nth, place in enumerate(sorted(places, key=lambda p: p.id))
    ]
    return [place for _, _, place in sorted(rounds, key=lambda r: r[:2])]


def _turns(lanes: Sequence[Sequence[Place]]) -> list[Place]:
    return [place for turn in zip_longest(*lanes) for place in turn if place is not None]


def _merged(spans: Sequence[Span]) -> tuple[Span, ...]:
    merged: list[Span] = []
    for span in spans:
        if merged and merged[-1].mark == span.mark:
            merged[-1] = Span(span.mark, merged[-1].text + span.text)
        elif span.text:
            merged.append(span)
    return tuple(merged)
