"""Single pairs of a build, found by id, seed, kind or source, without reading any image."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mmpr_builder.errors import InputError
from mmpr_builder.io import tables
from mmpr_builder.records import Drop

_Place = tuple[str, int, int]
"""(part, row group, row in it)"""

_FEWEST_DIGITS = 6
"""Of a pair's id, to find it by its beginning."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which pairs: all that fit everything that is set.

    `name` is a seed's id, or a pair's id or its beginning (6 digits or more).
    """

    name: str | None = None
    kind: str | None = None
    source: str | None = None


def find_pairs(
    parts: Sequence[str], wanted: Wanted, *, n: int, skip: int = 0, draw: int | None = None
) -> tuple[list[dict[str, Any]], int]:
    """(rows of up to `n` pairs that fit, how many fit in all).

    In the order of the build from the `skip`-th on, or, with `draw`, at random by that seed.
    Rows have all columns but `images` and the conversational ones. Raises `InputError` for a file
    without the columns of a build.
    """
    places = [place for part in parts for place in _places(part, wanted)]
    if draw is None:
        chosen = places[skip : skip + n]
    else:
        chosen = random.Random(draw).sample(places, min(n, len(places)))
    return _read(chosen), len(places)


def find_drop(out: str, item_id: str) -> Drop | None:
    """The drop of a seed, if it was dropped."""
    for part in tables.list_parts(f"{out.rstrip('/')}/drops", tables.DROP_SCHEMA):
        table = tables.read_parquet(part)
        for drop in tables.drops_from_table(table.filter(pc.equal(table["item_id"], item_id))):
            return drop
    return None


def _places(part: str, wanted: Wanted) -> Iterator[_Place]:
    """Where the pairs that fit lie. Raises `InputError` for a file that no build wrote."""
    columns = ("id", "seed_id", "kind", "source")
    for group, rows in enumerate(tables.read_groups(part, columns)):
        missing = [name for name in columns if name not in rows.schema.names]
        if missing:
            raise InputError(
                f"{part}: no column {missing[0]!r}: pairs made elsewhere get it by"
                " `mmpr export FILE DEST --to trl`"
            )
        for i, row in enumerate(rows.to_pylist()):
            if _fits(row, wanted):
                yield part, group, i


def _fits(row: dict[str, str], wanted: Wanted) -> bool:
    name = wanted.name
    named = (
        name is None
        or row["seed_id"] == name
        or (len(name) >= _FEWEST_DIGITS and (row["id"] or "").startswith(name.lower()))
    )
    return named and wanted.kind in (None, row["kind"]) and wanted.source in (None, row["source"])


def _read(places: Sequence[_Place]) -> list[dict[str, Any]]:
    """Their rows, in the order of the places; each row group is read once."""
    wanted: dict[tuple[str, int], list[int]] = {}
    for part, group, index in places:
        wanted.setdefault((part, group), []).append(index)
    found: dict[_Place, dict[str, Any]] = {}
    for (part, group), indices in wanted.items():
        table = _texts(part, group).take(pa.array(indices, pa.int64()))
        for index, row in zip(indices, table.to_pylist(), strict=True):
            found[part, group, index] = row
    return [found[place] for place in places]


def _texts(part: str, group: int) -> pa.Table:
    with tables.ParquetFile(part) as file:
        skipped = ("images", "prompt", "chosen", "rejected")
        return file.read([name for name in file.schema.names if name not in skipped], group)
