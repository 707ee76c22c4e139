"""The Parquet files of a build's first half: planned seeds and drops, published rollouts.

    out/seeds/unit-00000.parquet          index + seed
    out/seeds/drops.parquet               index + what could not be read, and why
    out/rollouts/unit-00000.parquet       the whole unit, sorted by index, or not there at all
    out/partial/unit-00003/3f9a….parquet  rows of an unfinished unit, left by a stop, a dying engine
                                          or the hunt for a killing row

Rollouts carry their unit's digest in the footer, so that a torn file or one of another plan never
counts as done. A unit is published as soon as its partial rows cover it; doing that twice writes
the same rows.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from mmpr_builder.folder import join
from mmpr_builder.folder.manifest import Unit
from mmpr_builder.io.stores import (
    names_in,
    put_file,
    remove_folder,
    remove_leftovers,
    scratch_folder,
)
from mmpr_builder.io.tables import (
    DROP_SCHEMA,
    ParquetFile,
    drops_from_table,
    list_parts,
    plain,
    read_footer,
    read_parquet,
    readers,
    rollouts_from_table,
    rollouts_to_table,
    seeds_from_table,
    to_table,
    write_parquet,
)
from mmpr_builder.records import Drop, Rollout, Seed

KILLED_ENGINE = "killed_engine"
"""Error reason of a rollout whose sampling ended the engine's process each time it was tried."""
NOT_SAMPLED = "not_sampled"
"""Error reason of a rollout that stands for a seed which sampling has not come to."""

_DIGEST = b"mmpr_unit"
_QUARANTINED = b"mmpr_quarantined"


def seeds_uri(out: str, unit: Unit) -> str:
    return join(out, "seeds", f"{unit.name}.parquet")


def read_seeds(out: str, unit: Unit) -> list[tuple[int, Seed]]:
    """The seeds of a unit with their indices, in order."""
    return seeds_from_table(read_parquet(seeds_uri(out, unit)))


def rollouts_uri(out: str, unit: Unit) -> str:
    return join(out, "rollouts", f"{unit.name}.parquet")


def published(out: str, units: Sequence[Unit]) -> dict[str, int]:
    """Finished units by name, each with the number of its quarantined rows."""
    with ThreadPoolExecutor(readers(out)) as pool:
        found = pool.map(lambda unit: _quarantined(rollouts_uri(out, unit), unit), units)
        return {
            unit.name: count for unit, count in zip(units, found, strict=True) if count is not None
        }


def deliver(
    out: str, unit: Unit, rollouts: Iterable[Rollout], optional: Sequence[str] = ()
) -> bool:
    """Keep these rows of a unit; publish it when all are there. Returns whether it was published.

    `optional` names the columns of `tables.optional_columns`, for parts of one schema.
    """
    rows = {rollout.index: rollout for rollout in rollouts}
    if len(rows) < unit.count:
        if rows:
            # Written before reading: of two that finish a unit together, the later sees all.
            uri = join(_partial_folder(out, unit), f"{uuid.uuid4().hex}.parquet")
            _write(uri, unit, rows, optional)
        rows = read_partial(out, unit)
        if len(rows) < unit.count:
            return False
    _write(rollouts_uri(out, unit), unit, rows, optional)
    remove_folder(_partial_folder(out, unit))
    return True


def tidy(out: str) -> None:
    """Remove what killed processes left behind, once all units are published."""
    remove_folder(join(out, "partial"))
    for folder in (out, *(join(out, name) for name in ("seeds", "rollouts", "report"))):
        remove_leftovers(folder)


def read_partial(out: str, unit: Unit) -> dict[int, Rollout]:
    """Rows kept of an unfinished unit, by index."""
    rows: dict[int, Rollout] = {}
    for uri in list_parts(_partial_folder(out, unit)):
        table = read_parquet(uri)
        if (table.schema.metadata or {}).get(_DIGEST) == unit.digest.encode():
            rows.update({rollout.index: rollout for rollout in rollouts_from_table(table)})
    return rows


def read_kept(out: str, unit: Unit, model: str) -> list[Rollout]:
    """A unit as far as it is sampled; its other seeds have the error `NOT_SAMPLED`."""
    rows, why = read_partial(out, unit), "the build is paired before all seeds were sampled"
    blank = Rollout(Seed("", ""), "", "", "open", model, error=(NOT_SAMPLED, why))
    return [
        rows.get(index) or replace(blank, seed=seed, index=index)
        for index, seed in read_seeds(out, unit)
    ]


def units_with_partial(out: str, units: Sequence[Unit]) -> list[Unit]:
    """Units with rows that may have been kept."""
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
    # Not `footer.schema`: the two refer to each other and would wait for the garbage collector.
    marks = footer.metadata or {}
    if marks.get(_DIGEST) != unit.digest.encode() or footer.num_rows != unit.count:
        return None
    return int(marks.get(_QUARANTINED, b"0"))


def _partial_folder(out: str, unit: Unit) -> str:
    return join(out, "partial", unit.name)


# --- drops of planning -------------------------------------------------------------------------

NUMBERED_DROPS = pa.schema([pa.field("index", pa.int64()), *DROP_SCHEMA])
_AT_ONCE = 4096  # Drops held at a time, writing and reading: some 2 MB.


class DropFile:
    """Collects drops, in order of their index, in a file on this machine's disk: a source of a
    million rows can lose most of them.

    with DropFile() as drops:
        drops.add(7, Drop("q7", "seeds", "empty_question"))
        drops.publish("out/seeds/drops.parquet")
    """

    def __init__(self) -> None:
        self._held = ExitStack()
        self._rows: list[dict[str, object]] = []
        self.count = 0

    def __enter__(self) -> Self:
        self._local = self._held.enter_context(scratch_folder()) / "drops.parquet"
        self._writer = pq.ParquetWriter(self._local, NUMBERED_DROPS, compression="zstd")
        self._held.callback(self._writer.close)
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def add(self, index: int, drop: Drop) -> None:
        """Keep the drop of the input row of that index."""
        self._rows.append({"index": index, **plain(drop)})
        self.count += 1
        if len(self._rows) >= _AT_ONCE:
            self._flush()

    def publish(self, uri: str) -> None:
        """Put all of them at `uri`; no more can be added."""
        self._flush()
        self._writer.close()
        put_file(self._local, uri)

    def _flush(self) -> None:
        if self._rows:
            table = to_table(self._rows, NUMBERED_DROPS).combine_chunks()
            self._writer.write_table(table, row_group_size=_AT_ONCE)
        self._rows = []


@dataclass(frozen=True, slots=True)
class PlannedDrops:
    """(index, drop) of all that was dropped, in order; every iteration reads the file anew."""

    uri: str = ""
    count: int = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[int, Drop]]:
        if not self.count:
            return
        with self._open() as file:
            groups = file.metadata.num_row_groups
        for group in range(groups):
            with self._open() as file:  # Each time: pairing takes hours in between.
                table = file.read(group=group)
            for start in range(0, table.num_rows, _AT_ONCE):
                rows = table.slice(start, _AT_ONCE)
                drops = drops_from_table(rows.drop_columns(["index"]))
                yield from zip(rows["index"].to_pylist(), drops, strict=True)

    def _open(self) -> ParquetFile:
        return ParquetFile(self.uri, fix="restore it, or start again with another out=")
