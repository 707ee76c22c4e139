"""Pairs of a build by their places, so that no image is read but those of the pairs wanted.

places_of(parts)  ->  Place("out/pairs/part-00000.parquet", group=0, row=118, kind="format", …), …
find_pairs(parts, kind="format", n=3)  ->  rows of the first three, and how many fit
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mmpr_builder.errors import InputError
from mmpr_builder.io import tables
from mmpr_builder.output import read_drops
from mmpr_builder.records import Drop

_COLUMNS = ("id", "seed_id", "kind", "source")
_NO_TEXTS = ("images", "prompt", "chosen", "rejected")
_FEWEST_DIGITS = 6
"""Of a pair's id, to find it by its beginning."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pair lies: row `row` of row group `group` of `part`."""

    part: str
    group: int
    row: int
    id: str
    seed_id: str
    kind: str
    source: str


def find_pairs(
    parts: Sequence[str],
    *,
    n: int,
    name: str | None = None,
    kind: str | None = None,
    source: str | None = None,
    skip: int = 0,
    draw: int | None = None,
) -> tuple[list[dict[str, Any]], int]:
    """(rows of up to `n` pairs that fit everything that is set, how many fit in all).

    `name` is a seed's id, or a pair's id or its beginning (6 digits or more). In the order of the
    build from the `skip`-th on, or, with `draw`, at random by that seed. Rows have all columns but
    `images` and the conversational ones. Raises `InputError` for a file without the columns of a
    build.
    """
    begun = name.lower() if name is not None and len(name) >= _FEWEST_DIGITS else None
    fit = [
        place
        for place in places_of(parts)
        if kind in (None, place.kind)
        and source in (None, place.source)
        and (
            name in (None, place.seed_id)
            or (begun is not None and (place.id or "").startswith(begun))
        )
    ]
    if draw is None:
        chosen = fit[skip : skip + n]
    else:
        chosen = random.Random(draw).sample(fit, min(n, len(fit)))
    found = dict(rows_at(chosen, lambda column: column not in _NO_TEXTS))
    return [found[place] for place in chosen], len(fit)


def find_drop(out: str, item_id: str) -> Drop | None:
    """The drop of a seed, if it was dropped."""
    return next((drop for drop in read_drops(out) if drop.item_id == item_id), None)


def places_of(parts: Iterable[str]) -> Iterator[Place]:
    """The places of all pairs. Raises `InputError` for a file that no build wrote."""
    for part in parts:
        for group, rows in enumerate(tables.read_groups(part, _COLUMNS)):
            missing = [name for name in _COLUMNS if name not in rows.schema.names]
            if missing:
                raise InputError(
                    f"{part}: no column {missing[0]!r}: pairs made elsewhere get it by"
                    " `mmpr export FILE DEST --to trl`"
                )
            columns = zip(*(rows[name].to_pylist() for name in _COLUMNS), strict=True)
            for row, values in enumerate(columns):
                yield Place(part, group, row, *values)


def rows_at(
    wanted: Sequence[Place], takes: Callable[[str], bool]
) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The rows at these places, in the order of the file, with the columns that `takes` accepts.

    Each row group that has one is read once, and held alone: it may be 64 MiB of images.
    """
    groups: dict[tuple[str, int], list[Place]] = {}
    for place in sorted(wanted, key=lambda place: place.row):
        groups.setdefault((place.part, place.group), []).append(place)
    for (part, group), inside in sorted(groups.items()):
        with tables.ParquetFile(part) as file:
            rows = file.read([name for name in file.schema.names if takes(name)], group)
        found = rows.take([place.row for place in inside])
        del rows
        for number, place in enumerate(inside):
            yield place, found.slice(number, 1).to_pylist()[0]
