"""The pairs that the report shows: which ones, and everything the page says of each.

What goes into the page is plain JSON; its script sets it as text and never as markup.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, get_args

from PIL import Image

from mmpr_builder.escaping import visible
from mmpr_builder.io import images
from mmpr_builder.records import Kind
from mmpr_builder.report.lookup import Place, places_of, rows_at
from mmpr_builder.report.texts import as_json, compare, plain_spans, question_text

MOST_CHARACTERS = 48_000
"""Of a thumbnail's data URL."""

_STEPS = ((640, 82), (640, 60), (480, 60), (480, 40), (360, 40), (240, 30))
"""(longest side in px, JPEG quality), tried until a thumbnail is small enough."""

SHOWN_CHARACTERS = 6_000
"""Longer texts are cut in the page (it says so); the pairs themselves are whole."""

_COLUMNS = {
    *("id", "seed_id", "kind", "source", "pass_rate", "n_samples", "template", "dropout_keep"),
    *("question", "answers", "images", "chosen_text", "chosen_answer", "chosen_rule"),
    *("chosen_tokens", "chosen_finish_reason", "rejected_text", "rejected_answer"),
    *("rejected_rule", "rejected_tokens", "rejected_finish_reason"),
}


@dataclass(frozen=True, slots=True)
class Browser:
    """What the page's browser of pairs shows. `images` are data URLs, numbered by the pairs."""

    pairs: tuple[Mapping[str, Any], ...]
    images: tuple[str, ...]


def pick_samples(parts: Sequence[str], limit: int) -> list[Place]:
    """Up to `limit` pairs, shared evenly by kinds and sources; of different seeds while they last.

    They come in turns of kind and source, so that any first part of them is as fair. Ids are
    content hashes: the lowest of them are a repeatable draw.
    """
    lanes: dict[tuple[str, str], dict[str, list[Place]]] = {}
    for part in parts:
        for place in places_of(part):
            lane = lanes.setdefault((place.kind, place.source), {})
            kept = lane.setdefault(place.seed_id, [])
            kept.append(place)
            if len(lane) > limit:  # Then one of each seed is more than enough.
                lane[place.seed_id] = [min(kept, key=lambda p: p.id)]
            if len(lane) > 4 * limit:  # Of a million seeds a few hundred are remembered.
                lanes[place.kind, place.source] = _lowest(lane, limit)
    keys = sorted(lanes, key=lambda key: (_rank(key[0]), key[1]))
    # Kinds take turns first, then the sources inside each kind.
    by_kind = [
        _turns([_ranked(lanes[key])[:limit] for key in keys if key[0] == kind])
        for kind in get_args(Kind)
    ]
    return _turns(by_kind)[:limit]


def in_order(places: Sequence[Place]) -> list[Place]:
    """By source, question, kind and id, as the page lists them: a question's pairs together."""
    return sorted(places, key=lambda p: (p.source, p.seed_id, _rank(p.kind), p.id))


def _rank(kind: str) -> int:
    kinds = get_args(Kind)
    return kinds.index(kind) if kind in kinds else len(kinds)


def read_browser(places: Sequence[Place], most_bytes: int) -> Browser:
    """The pairs at these places, as many of the first ones as fit into `most_bytes` of JSON.

    A picture that several pairs share is there once.
    """
    thumbnails: dict[str, str] = {}
    found = {pair_id: (item, keys) for pair_id, item, keys in _items(places, thumbnails)}
    shown: dict[str, list[str]] = {}
    numbers: dict[str, int] = {}
    room = most_bytes
    for place in places:
        item, keys = found[place.id]
        fresh = [key for key in dict.fromkeys(keys) if key not in numbers]
        room -= len(json.dumps(item, ensure_ascii=False).encode())
        room -= sum(len(thumbnails[key]) for key in fresh)
        if room < 0 and shown:
            break
        numbers |= {key: len(numbers) + i for i, key in enumerate(fresh)}
        shown[place.id] = keys
    pairs = (
        {**found[place.id][0], "images": [numbers[key] for key in shown[place.id]]}
        for place in in_order(places)
        if place.id in shown
    )
    return Browser(tuple(pairs), tuple(thumbnails[key] for key in numbers))


def pair_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """One row of `pairs/*.parquet` as the page's script takes it, but for its images."""
    texts = [visible(str(row[name])) for name in ("chosen_text", "rejected_text")]
    spans = compare(texts[0][:SHOWN_CHARACTERS], texts[1][:SHOWN_CHARACTERS], row["kind"])
    question = question_text(str(row["question"]))
    return {
        "id": row["id"],
        "seed": visible(str(row["seed_id"])),
        "kind": row["kind"],
        "source": row["source"],
        "rate": row["pass_rate"],
        "n": row["n_samples"],
        "template": visible(str(row["template"])),
        "keep": row["dropout_keep"],
        "question": as_json(plain_spans(question[:SHOWN_CHARACTERS])),
        "hidden": max(0, len(question) - SHOWN_CHARACTERS),
        "truth": [as_json(plain_spans(visible(a))) for a in dict.fromkeys(row["answers"] or [])],
        **{
            side: {
                "text": as_json(said),
                "hidden": max(0, len(text) - SHOWN_CHARACTERS),
                "answer": None if answer is None else visible(str(answer)),
                "rule": visible(str(row[f"{side}_rule"] or "")),
                "tokens": row[f"{side}_tokens"],
                "finish": row[f"{side}_finish_reason"],
            }
            for side, said, text in zip(("chosen", "rejected"), spans, texts, strict=True)
            for answer in [row[f"{side}_answer"]]
        },
    }


def _items(
    places: Sequence[Place], thumbnails: dict[str, str]
) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
    """(id, what the page says, keys of its pictures) of each pair; fills in `thumbnails`."""
    for place, row in rows_at(places, _COLUMNS.__contains__):
        keys = []
        for image in row.pop("images"):
            keys.append(hashlib.sha256(image["bytes"]).hexdigest())
            if keys[-1] not in thumbnails:
                thumbnails[keys[-1]] = thumbnail(image["bytes"])
        yield place.id, pair_json(row), keys


def thumbnail(data: bytes) -> str:
    """A small JPEG of an image as a data URL of at most `MOST_CHARACTERS`, the same each time."""
    picture = images.open_image(data)
    encoded = b""
    for side, quality in _STEPS:
        small = picture.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        small.save(buffer, format="JPEG", quality=quality, optimize=True)
        encoded = base64.b64encode(buffer.getvalue())
        if len(encoded) <= MOST_CHARACTERS - 40:
            break
    return "data:image/jpeg;base64," + encoded.decode("ascii")


def _lowest(lane: Mapping[str, list[Place]], limit: int) -> dict[str, list[Place]]:
    """The seeds that would be taken first. One that was left out and comes again with a lower id
    is then as good as new."""
    best = sorted(lane.items(), key=lambda item: min(place.id for place in item[1]))
    return dict(best[:limit])


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
