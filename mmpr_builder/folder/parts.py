"""Published rollouts: one Parquet part per unit, there completely or not at all.

    out/rollouts/unit-00000.parquet       the whole unit, sorted by index
    out/partial/unit-00003/3f9a….parquet  rows of a unit that is not finished: what a stop, a dying
                                          engine or the hunt for a killing row left behind

Each carries its unit's digest in the footer, so that a torn file or one of another plan is never
read as done. A unit is published as soon as its partial rows cover it; doing that twice writes
the same rows.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mmpr_builder.folder.files import join, remove_folder
from mmpr_builder.folder.manifest import Unit
from mmpr_builder.io.stores import names_in, remove_leftovers
from mmpr_builder.io.tables import (
    list_parts,
    read_footer,
    read_parquet,
    readers,
    rollouts_from_table,
    rollouts_to_table,
    seeds_from_table,
    write_parquet,
)
from mmpr_builder.records import Rollout, Seed

KILLED_ENGINE = "killed_engine"
"""Error reason of a rollout whose sampling ended the engine's process each time it was tried."""

_DIGEST = b"mmpr_unit"
_QUARANTINED = b"mmpr_quarantined"


def rollouts_uri(out: str, unit: Unit) -> str:
    return join(out, "rollouts", f"{unit.name}.parquet")


def published(out: str, units: Sequence[Unit]) -> dict[str, int]:
    """Names of the units that are finished, each with the number of its quarantined rows."""
    with ThreadPoolExecutor(readers(out)) as pool:
        found = pool.map(lambda unit: _quarantined(rollouts_uri(out, unit), unit), units)
        return {
            unit.name: count for unit, count in zip(units, found, strict=True) if count is not None
        }


def deliver(
    out: str, unit: Unit, rollouts: Iterable[Rollout], optional: Sequence[str] = ()
) -> bool:
    """Keep these rows of a unit; publish it when all are there, and say whether it was.

    `optional` names the columns of `tables.optional_columns`, for parts of one schema.
    """
    rows = {rollout.index: rollout for rollout in rollouts}
    if len(rows) < unit.count:
        if rows:
            # Kept before looking at what is there: of two that finish a unit together, the
            # later one sees everything.
            _write(_partial_uri(out, unit), unit, rows, optional)
        rows = read_partial(out, unit)
        if len(rows) < unit.count:
            return False
    _write(rollouts_uri(out, unit), unit, rows, optional)
    remove_folder(_partial_folder(out, unit))
    return True


def tidy(out: str) -> None:
    """Remove what killed processes have left behind, once all units are published."""
    remove_folder(join(out, "partial"))
    for folder in (out, *(join(out, name) for name in ("seeds", "rollouts", "report"))):
        remove_leftovers(folder)


def read_partial(out: str, unit: Unit) -> dict[int, Rollout]:
    """Rows kept of an unfinished unit, by index."""
    rows: dict[int, Rollout] = {}
    for uri in list_parts(_partial_folder(out, unit)):
        table = read_parquet(uri)
        if _metadata(table.schema).get(_DIGEST) == unit.digest.encode():
            rows.update({rollout.index: rollout for rollout in rollouts_from_table(table)})
    return rows


def units_with_partial(out: str, units: Sequence[Unit]) -> list[Unit]:
    """Units of which some rows may have been kept."""
    names = set(names_in(join(out, "partial")))
    return [unit for unit in units if unit.name in names]


def _write(uri: str, unit: Unit, rows: dict[int, Rollout], optional: Sequence[str]) -> None:
    killed = sum(
        rollout.error is not None and rollout.error[0] == KILLED_ENGINE for rollout in rows.values()
    )
    table = rollouts_to_table((rows[index] for index in sorted(rows)), optional)
    marks = {_DIGEST: unit.digest.encode(), _QUARANTINED: str(killed).encode()}
    write_parquet(table.replace_schema_metadata(marks), uri)


def _quarantined(uri: str, unit: Unit) -> int | None:
    """The count in the footer of a unit's finished part; None if there is no such part."""
    footer = read_footer(uri)
    if footer is None:
        return None
    # Not by way of `footer.schema`: the two know each other, and would stay for the collector.
    marks = footer.metadata or {}
    if marks.get(_DIGEST) != unit.digest.encode() or footer.num_rows != unit.count:
        return None
    return int(marks.get(_QUARANTINED, b"0"))


def _metadata(schema: Any) -> dict[bytes, bytes]:
    return schema.metadata or {}


def _partial_folder(out: str, unit: Unit) -> str:
    return join(out, "partial", unit.name)


def _partial_uri(out: str, unit: Unit) -> str:
    return join(_partial_folder(out, unit), f"{uuid.uuid4().hex}.parquet")


def seeds_uri(out: str, unit: Unit) -> str:
    return join(out, "seeds", f"{unit.name}.parquet")


def read_seeds(out: str, unit: Unit) -> list[tuple[int, Seed]]:
    """The seeds of a unit with their indices, in order."""
    return seeds_from_table(read_parquet(seeds_uri(out, unit)))
