"""Records <-> Arrow <-> Parquet: what stands between two steps on disk.

    seeds/unit-00003.parquet      index, id, question, images, answers, choices, …
    rollouts/unit-00003.parquet   the same, plus prompt, model, responses: list<struct<text, …>>
    drops/part-00000.parquet      item_id, stage, reason, detail

One explicit schema for each and plain Python values in between: a detour over pandas or numpy
turns nested columns into pickles. The same records always give the same bytes, and a part is
there completely or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from mmpr_builder.escaping import redacted
from mmpr_builder.io.columns import BLIND as BLIND
from mmpr_builder.io.columns import DROP_SCHEMA as DROP_SCHEMA
from mmpr_builder.io.columns import FURTHER as FURTHER
from mmpr_builder.io.columns import ROLLOUT_SCHEMA as ROLLOUT_SCHEMA
from mmpr_builder.io.columns import SEED_SCHEMA as SEED_SCHEMA
from mmpr_builder.io.columns import groups_of, lists_array, rollout_schema
from mmpr_builder.io.columns import optional_columns as optional_columns
from mmpr_builder.io.columns import storable as storable
from mmpr_builder.io.parquet import broken_parts as broken_parts
from mmpr_builder.io.parquet import column_names as column_names
from mmpr_builder.io.parquet import is_complete as is_complete
from mmpr_builder.io.parquet import list_parts as list_parts
from mmpr_builder.io.parquet import put_text as put_text
from mmpr_builder.io.parquet import read_footer as read_footer
from mmpr_builder.io.parquet import read_groups as read_groups
from mmpr_builder.io.parquet import read_parquet as read_parquet
from mmpr_builder.io.parquet import readers as readers
from mmpr_builder.io.parquet import row_groups as row_groups
from mmpr_builder.io.parquet import write_parquet as write_parquet
from mmpr_builder.io.stores import is_local as is_local
from mmpr_builder.io.stores import put_file as put_file
from mmpr_builder.io.stores import resolve as resolve
from mmpr_builder.io.stores import sync as sync
from mmpr_builder.records import Continuation, Drop, ImageRef, Response, Rollout, Seed

_ROWS_PER_BATCH = 256  # Bounds one string array far below Arrow's 2 GiB of offsets.


def warm_up() -> None:
    """Have pyarrow import what it wants with its first array (pandas, where that is installed)."""
    pa.array([""])


def seeds_to_table(seeds: Iterable[tuple[int, Seed]]) -> pa.Table:
    """(position in the build's input order, seed) pairs as one table of `SEED_SCHEMA`."""
    return to_table(({"index": index, **plain(seed)} for index, seed in seeds), SEED_SCHEMA)


def seeds_from_table(table: pa.Table) -> list[tuple[int, Seed]]:
    """The inverse of `seeds_to_table`."""
    return [(row["index"], _seed(row)) for row in table.to_pylist()]


def rollouts_to_table(rollouts: Iterable[Rollout], optional: Sequence[str] = ()) -> pa.Table:
    """Rollouts as one table of `ROLLOUT_SCHEMA`.

    Of the `OPTIONAL_COLUMNS` it has those named, and those in which a rollout has something.
    """
    rows = list(rollouts)
    schema = rollout_schema({*optional, *_filled(rows)})
    batches = [_rollout_batch(chunk, schema) for chunk in _chunks(rows, _ROWS_PER_BATCH)]
    return pa.Table.from_batches(batches, schema=schema)


def rollouts_from_table(table: pa.Table) -> list[Rollout]:
    """The inverse of `rollouts_to_table`."""
    responses = [
        group
        for chunk in table.column("responses").chunks
        for group in groups_of(chunk, Response, continuation=Continuation)
    ]
    nested = {"responses", BLIND, FURTHER} & {*table.column_names}
    if FURTHER in nested:
        responses = _with_further(responses, table.column(FURTHER).chunks)
    blind: list[tuple[Response, ...]] = [()] * table.num_rows
    if BLIND in nested:
        chunks = table.column(BLIND).chunks
        blind = [group for chunk in chunks for group in groups_of(chunk, Response)]
    rows = table.drop_columns(sorted(nested)).to_pylist()
    return [_rollout(*found) for found in zip(rows, responses, blind, strict=True)]


def drops_to_table(drops: Iterable[Drop]) -> pa.Table:
    """Drops as one table of `DROP_SCHEMA`."""
    rows = (plain(replace(drop, detail=redacted(drop.detail))) for drop in drops)
    return to_table(rows, DROP_SCHEMA)


def drops_from_table(table: pa.Table) -> list[Drop]:
    """The inverse of `drops_to_table`."""
    return [Drop(**row) for row in table.to_pylist()]


def to_table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Plain rows (see `plain`) as a table of exactly this schema, its metadata included."""
    batches = []
    for chunk in _chunks(rows, _ROWS_PER_BATCH):
        columns = [pa.array([row[f.name] for row in chunk], type=f.type) for f in schema]
        batches.append(pa.RecordBatch.from_arrays(columns, schema=schema))
    return pa.Table.from_batches(batches, schema=schema)


def plain(value: Any) -> Any:
    """A record as dicts, lists and storable text."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value


def _chunks(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _filled(rollouts: Sequence[Rollout]) -> Iterator[str]:
    """Optional columns in which a rollout has something."""
    if any(rollout.blind for rollout in rollouts):
        yield BLIND
    if any(response.further for rollout in rollouts for response in rollout.responses):
        yield FURTHER


def _rollout_batch(rollouts: Sequence[Rollout], schema: pa.Schema) -> pa.RecordBatch:
    rows = [_rollout_row(rollout) for rollout in rollouts]
    nested: dict[str, Callable[[pa.ListType], pa.ListArray]] = {
        "responses": lambda kind: lists_array([r.responses for r in rollouts], kind),
        BLIND: lambda kind: lists_array([r.blind for r in rollouts], kind),
        FURTHER: lambda kind: _further_array(rollouts, kind),
    }
    columns = [
        nested[field.name](field.type)
        if field.name in nested
        else pa.array([row[field.name] for row in rows], type=field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _further_array(rollouts: Sequence[Rollout], kind: pa.ListType) -> pa.ListArray:
    """For each rollout a list for each response."""
    ends = np.cumsum([0, *(len(rollout.responses) for rollout in rollouts)], dtype=np.int32)
    of_each = [response.further for rollout in rollouts for response in rollout.responses]
    return pa.ListArray.from_arrays(
        pa.array(ends), lists_array(of_each, kind.value_type), type=kind
    )


def _with_further(
    groups: Sequence[tuple[Response, ...]], chunks: Sequence[pa.ListArray]
) -> list[tuple[Response, ...]]:
    """The responses of each rollout with their continuations after the first one."""
    further = (more for c in chunks for more in groups_of(c.flatten(), Continuation))
    return [
        tuple(replace(r, further=more) if (more := next(further)) else r for r in group)
        for group in groups
    ]


def _rollout_row(rollout: Rollout) -> dict[str, Any]:
    row = plain(replace(rollout, responses=(), blind=()))
    if rollout.error is not None:
        row["error"] = dict(zip(("reason", "detail"), row["error"], strict=True))
    return {**row.pop("seed"), **row}


def _seed(row: Mapping[str, Any]) -> Seed:
    return Seed(
        id=row["id"],
        question=row["question"],
        images=tuple(ImageRef(**ref) for ref in row["images"]),
        answers=tuple(row["answers"]),
        choices=tuple(row["choices"]),
        source=row["source"],
        language=row["language"],
        scorer=row["scorer"],
        origin=row["origin"],
    )


def _rollout(
    row: Mapping[str, Any], responses: tuple[Response, ...], blind: tuple[Response, ...]
) -> Rollout:
    error = row["error"]
    return Rollout(
        seed=_seed(row),
        prompt=row["prompt"],
        template=row["template"],
        style=row["style"],
        model=row["model"],
        image_sha256=tuple(row["image_sha256"]),
        responses=responses,
        prompt_tokens=row["prompt_tokens"],
        error=None if error is None else (error["reason"], error["detail"]),
        index=row["index"],
        stop=row.get("stop") or "",
        blind=blind,
    )
