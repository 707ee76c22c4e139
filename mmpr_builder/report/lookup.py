"""Pairs of a build by their places, so that no image is read but those of the pairs wanted.

places_of("out/pairs/part-00000.parquet")  ->  Place(part, group=0, row=118, kind="format", …), …
find_pairs(parts, Wanted(kind="format"), n=3)  ->  rows of the first three, and how many fit
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from mmpr_builder.errors import InputError
from mmpr_builder.io import tables
from mmpr_builder.records import Drop

_AT_ONCE = 256  # Rows, which may have pictures of megabytes.
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


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which pairs: all that fit everything that is set.

    `name` is a seed's id, or a pair's id or its beginning (6 digits or more).
    """

    name: str | None = None
    kind: str | None = None
    source: str | None = None

    def fits(self, place: Place) -> bool:
        name = self.name
        named = name in (None, place.seed_id) or (
            name is not None
            and len(name) >= _FEWEST_DIGITS
            and (place.id or "").startswith(name.lower())
        )
        return named and self.kind in (None, place.kind) and self.source in (None, place.source)


def find_pairs(
    parts: Sequence[str], wanted: Wanted, *, n: int, skip: int = 0, draw: int | None = None
) -> tuple[list[dict[str, Any]], int]:
    """(rows of up to `n` pairs that fit, how many fit in all).

    In the order of the build from the `skip`-th on, or, with `draw`, at random by that seed.
    Rows have all columns but `images` and the conversational ones. Raises `InputError` for a file
    without the columns of a build.
    """
    fit = [place for part in parts for place in places_of(part) if wanted.fits(place)]
    if draw is None:
        chosen = fit[skip : skip + n]
    else:
        chosen = random.Random(draw).sample(fit, min(n, len(fit)))
    found = dict(rows_at(chosen, lambda name: name not in _NO_TEXTS))
    return [found[place] for place in chosen], len(fit)


def find_drop(out: str, item_id: str) -> Drop | None:
    """The drop of a seed, if it was dropped."""
    for part in tables.list_parts(f"{out.rstrip('/')}/drops", tables.DROP_SCHEMA):
        table = tables.read_parquet(part)
        for drop in tables.drops_from_table(table.filter(pc.equal(table["item_id"], item_id))):
            return drop
    return None


def places_of(part: str) -> Iterator[Place]:
    """The places of all pairs of a part. Raises `InputError` for a file that no build wrote."""
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

    Each row group is read once and in small batches: it may hold 64 MiB of images.
    """
    groups: dict[tuple[str, int], list[Place]] = {}
    for place in wanted:
        groups.setdefault((place.part, place.group), []).append(place)
    for (part, group), inside in sorted(groups.items()):
        left = deque(sorted(inside, key=lambda place: place.row))
        with tables.ParquetFile(part) as file:
            first = 0
            for batch in file.batches(_AT_ONCE, list(filter(takes, file.schema.names)), group):
                while left and left[0].row < first + batch.num_rows:
                    (row,) = batch.slice(left[0].row - first, 1).to_pylist()
                    yield left.popleft(), row
                first += batch.num_rows
                if not left:
                    break
