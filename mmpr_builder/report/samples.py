"""The pairs that the report shows: which ones, and everything the page says of each.

What goes into the page is plain JSON; its script sets it as text and never as markup.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypeVar, get_args

from PIL import Image

from mmpr_builder.escaping import visible
from mmpr_builder.io import images
from mmpr_builder.records import Kind
from mmpr_builder.report.lookup import Place, rows_at
from mmpr_builder.report.texts import as_json, compare, plain_spans, question_text

T = TypeVar("T")

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


def pick_samples(places: Iterable[Place], limit: int) -> list[Place]:
    """Up to `limit` pairs, shared evenly by kinds and sources; of different seeds while they last.

    They come in turns of kind and source, so that any first part of them is as fair. Ids are
    content hashes: the lowest of them are a repeatable draw.
    """
    # One pair of each seed, then a second of each, …; by id inside each round.
    rounds: dict[tuple[str, str], list[tuple[int, Place]]] = {}
    taken: Counter[tuple[str, str, str]] = Counter()
    for place in sorted(places, key=lambda p: p.id):
        nth = taken[place.kind, place.source, place.seed_id]
        taken[place.kind, place.source, place.seed_id] += 1
        rounds.setdefault((place.kind, place.source), []).append((nth, place))
    lanes = {key: sorted(found, key=lambda one: one[0]) for key, found in sorted(rounds.items())}
    # Kinds take turns first, then the sources inside each kind.
    by_kind = [
        in_turns([[place for _, place in lanes[key]] for key in lanes if key[0] == kind])
        for kind in get_args(Kind)
    ]
    return in_turns(by_kind)[:limit]


def in_order(places: Iterable[Place]) -> list[Place]:
    """By source, question, kind and id, as the page lists them: a question's pairs together."""
    rank = {kind: number for number, kind in enumerate(get_args(Kind))}
    return sorted(places, key=lambda p: (p.source, p.seed_id, rank.get(p.kind, len(rank)), p.id))


def read_browser(places: Sequence[Place], most_bytes: int) -> Browser:
    """The pairs at these places, as many of the first ones as fit into `most_bytes` of JSON.

    A picture that several pairs share is there once.
    """
    thumbnails: dict[str, str] = {}
    found: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for place, row in rows_at(places, _COLUMNS.__contains__):
        keys = []
        for image in row.pop("images"):
            keys.append(hashlib.sha256(image["bytes"]).hexdigest())
            if keys[-1] not in thumbnails:
                thumbnails[keys[-1]] = thumbnail(images.open_image(image["bytes"]))
        found[place.id] = pair_json(row), keys
    numbers: dict[str, int] = {}
    shown: list[Place] = []
    room = most_bytes
    for place in places:
        item, keys = found[place.id]
        fresh = [key for key in dict.fromkeys(keys) if key not in numbers]
        room -= len(json.dumps(item, ensure_ascii=False).encode())
        room -= sum(len(thumbnails[key]) for key in fresh)
        if room < 0 and shown:
            break
        numbers |= {key: len(numbers) + i for i, key in enumerate(fresh)}
        shown.append(place)
    pairs = (
        {**item, "images": [numbers[key] for key in keys]}
        for item, keys in (found[place.id] for place in in_order(shown))
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
        "source": visible(str(row["source"])),
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


def thumbnail(picture: Image.Image) -> str:
    """A small JPEG of an image as a data URL of at most `MOST_CHARACTERS`, the same each time."""
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


def in_turns(lanes: Iterable[Sequence[T]]) -> list[T]:
    """The first of each, then the second of each, …; what there is none of is left out."""
    return [place for turn in zip_longest(*lanes) for place in turn if place is not None]
