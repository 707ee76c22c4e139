"""Parquet files: opened, written whole, listed; and records <-> tables.

    seeds/unit-00003.parquet      index, id, question, images, answers, choices, …
    rollouts/unit-00003.parquet   the same, plus prompt, model, responses: list<struct<text, …>>
    drops/part-00000.parquet      item_id, stage, reason, detail

Each has one explicit schema (`columns`). The same records always give the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmpr_builder.errors import InputError, StorageError
from mmpr_builder.escaping import redacted
from mmpr_builder.io.columns import BLIND as BLIND
from mmpr_builder.io.columns import DROP_SCHEMA as DROP_SCHEMA
from mmpr_builder.io.columns import FURTHER as FURTHER
from mmpr_builder.io.columns import ROLLOUT_SCHEMA as ROLLOUT_SCHEMA
from mmpr_builder.io.columns import SEED_SCHEMA as SEED_SCHEMA
from mmpr_builder.io.columns import fits, groups_of, lists_array, rollout_schema, values_array
from mmpr_builder.io.columns import optional_columns as optional_columns
from mmpr_builder.io.columns import plain as plain
from mmpr_builder.io.columns import storable as storable
from mmpr_builder.io.stores import is_local, names_in, patiently, publish, read_bytes, resolve
from mmpr_builder.records import Continuation, Drop, ImageRef, Response, Rollout, Seed

_READERS, _LOCAL_READERS = 16, 4  # On an object store it is all waiting.
_FOOTER_BYTES = 64 * 2**10  # Those of our parts are smaller.
_ROWS_PER_BATCH = 256  # Bounds one string array far below Arrow's 2 GiB of offsets.


class ParquetFile:
    """An open Parquet file, read with retries (see `stores.patience`). A context manager.

    Arrow's own threads must not hold a Python file: a thread that still does when the interpreter
    ends aborts the process (pyarrow 26, about once in a hundred runs). So they are never used.
    """

    def __init__(
        self, uri: str | Path, *, buffer_bytes: int = 0, fix: str = "remove it and run again"
    ) -> None:
        """Raises `InputError`, ending in `fix`, for a file that is missing or not Parquet.

        With `buffer_bytes` columns are read in pieces of that size instead of whole row groups.
        """
        self._uri, self._fix = uri, fix
        fs, path = resolve(uri)
        # Arrow reads a local file faster by itself.
        self._handle = self._tried(lambda: pa.OSFile(path) if is_local(fs) else fs.open(path))
        try:
            self._file = self._tried(lambda: pq.ParquetFile(self._handle, buffer_size=buffer_bytes))
        except BaseException:
            self.close()
            raise
        self.metadata: pq.FileMetaData = self._file.metadata
        self.schema: pa.Schema = self._file.schema_arrow

    def read(self, columns: Sequence[str] | None = None, group: int | None = None) -> pa.Table:
        """Some columns, or all, of one row group, or of all. Raises `InputError`."""
        names = None if columns is None else list(columns)
        if group is None:
            return self._tried(lambda: self._file.read(names, use_threads=False))
        return self._tried(lambda: self._file.read_row_group(group, names, use_threads=False))

    def batches(
        self, rows: int, columns: Sequence[str] | None = None, group: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The same, at most so many rows at a time."""
        groups = None if group is None else [group]
        names = None if columns is None else list(columns)
        given, batches = 0, iter(())

        def following() -> pa.RecordBatch | None:
            nonlocal batches
            try:
                return next(batches, None)
            except BaseException:  # A generator that raised gives nothing more.
                batches = fresh()
                raise

        def fresh() -> Iterator[pa.RecordBatch]:
            found = self._file.iter_batches(rows, groups, names, use_threads=False)
            return islice(found, given, None)

        batches = fresh()
        while (batch := patiently(following, self._uri)) is not None:
            given += 1
            yield batch

    def close(self) -> None:
        self._handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tried(self, read: Callable[[], Any]) -> Any:
        try:
            return patiently(read, self._uri)
        except StorageError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"{self._uri}: not a readable Parquet file ({error}): {self._fix}"
            ) from error


def read_parquet(uri: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one part. Raises `InputError` when it is missing or not a complete Parquet file."""
    with ParquetFile(uri) as file:
        return file.read(columns)


def read_groups(uri: str | Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Some columns of one part, a row group at a time."""
    with ParquetFile(uri) as file:
        for group in range(file.metadata.num_row_groups):
            yield file.read(columns, group)


def read_footer(uri: str | Path) -> pq.FileMetaData | None:
    """The footer of a Parquet file, in one request; None when there is no file or it is torn. A
    storage that does not answer is an error, never taken for a missing file."""
    try:
        data = read_bytes(uri, last=_FOOTER_BYTES)
        if data[-4:] != b"PAR1":
            return None
        length = int.from_bytes(data[-8:-4], "little") + 8
        if length > len(data):
            data = read_bytes(uri, last=length)
        return pq.read_metadata(pa.BufferReader(data))
    except StorageError:
        raise
    # S3 has no last bytes of an empty object, and says so as an invalid argument.
    except (OSError, pa.ArrowException):
        return None


def other_schemas(uris: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Files whose columns are not those of the first one, with the names of those that differ; none
    where only their order does."""
    first: pa.Schema | None = None
    for uri in uris:
        with ParquetFile(uri) as file:
            schema = file.schema
        first = schema if first is None else first
        if not schema.equals(first, check_metadata=False):
            mine, theirs = ({(c.name, str(c.type)) for c in one} for one in (schema, first))
            yield uri, sorted({name for name, _ in mine ^ theirs})


def column_names(uri: str | Path) -> list[str]:
    """The top-level columns of a file; none if it is not complete."""
    footer = read_footer(uri)
    return [] if footer is None else list(footer.schema.to_arrow_schema().names)


def readers(uri: str | Path) -> int:
    """Threads that read footers at once; each keeps some memory for good, so no more than help."""
    return _LOCAL_READERS if is_local(resolve(uri)[0]) else _READERS


def is_complete(uri: str | Path, schema: pa.Schema | None = None) -> bool:
    """Whether `uri` is a Parquet file with an intact footer that, if given, `fits` this schema."""
    footer = read_footer(uri)
    if footer is None or schema is None:
        return footer is not None
    return fits(footer.schema.to_arrow_schema(), schema)


def list_parts(folder_uri: str | Path, schema: pa.Schema | None = None) -> list[str]:
    """The complete `*.parquet` parts of a folder, sorted; none if the folder does not exist.

    Hidden names (parts being written), torn files, and with `schema` files of another one are left
    out; `broken_parts` names the latter two.
    """
    return [uri for uri, complete in _checked(folder_uri, schema) if complete]


def broken_parts(folder_uri: str | Path, schema: pa.Schema | None = None) -> list[str]:
    """The `*.parquet` files of a folder that `list_parts` does not take for finished parts."""
    return [uri for uri, complete in _checked(folder_uri, schema) if not complete]


def _checked(folder_uri: str | Path, schema: pa.Schema | None) -> list[tuple[str, bool]]:
    base = os.fspath(folder_uri).rstrip("/")
    names = [n for n in names_in(folder_uri) if n.endswith(".parquet") and n[0] not in "._"]
    uris = [f"{base}/{name}" for name in names]
    with ThreadPoolExecutor(readers(folder_uri)) as pool:
        return list(zip(uris, pool.map(lambda uri: is_complete(uri, schema), uris), strict=True))


def write_parquet(table: pa.Table, uri: str | Path, *, row_group_bytes: int = 64 * 2**20) -> None:
    """Write `table` under `uri` (a path or any fsspec URL), whole or not at all, in row groups of
    at most `row_group_bytes` in memory, or a single row."""

    def write(path: Path) -> None:
        with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
            for group in row_groups(table, row_group_bytes):
                writer.write_table(group, row_group_size=max(1, group.num_rows))

    publish(write, uri)


def put_text(text: str, uri: str | Path) -> None:
    """Publish a text file (UTF-8) under `uri`, whole or not at all."""
    found = storable(text)
    publish(lambda path: path.write_text(found, encoding="utf-8", newline="\n"), uri)


def row_groups(table: pa.Table, limit: int) -> Iterator[pa.Table]:
    """Consecutive slices of at most `limit` bytes (halved until they are, or are one row)."""
    if table.num_rows <= 1 or table.nbytes <= limit:
        # One chunk per column: how rows came together must not show in the file.
        yield table.combine_chunks()
        return
    half = table.num_rows // 2
    yield from row_groups(table.slice(0, half), limit)
    yield from row_groups(table.slice(half), limit)


def warm_up() -> None:
    """Have pyarrow import what it wants with its first array (pandas, where that is installed)."""
    pa.array([""])


def seeds_to_table(seeds: Iterable[tuple[int, Seed]]) -> pa.Table:
    """(position in the build's input order, seed) pairs as one table of `SEED_SCHEMA`."""
    batches = [
        _batch(_seed_columns(*zip(*chunk, strict=True)), SEED_SCHEMA)
        for chunk in _chunks(seeds, _ROWS_PER_BATCH)
    ]
    return pa.Table.from_batches(batches, schema=SEED_SCHEMA)


def seeds_from_table(table: pa.Table) -> list[tuple[int, Seed]]:
    """The inverse of `seeds_to_table`."""
    return [(row["index"], _seed(row)) for row in table.to_pylist()]


def rollouts_to_table(rollouts: Iterable[Rollout], optional: Sequence[str] = ()) -> pa.Table:
    """Rollouts as one table of `ROLLOUT_SCHEMA` with the `OPTIONAL_COLUMNS` that are named, and
    those in which a rollout has something."""
    rows = list(rollouts)
    schema = rollout_schema({*optional, *_filled(rows)})
    batches = [
        _batch(_rollout_columns(chunk, schema), schema) for chunk in _chunks(rows, _ROWS_PER_BATCH)
    ]
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
        columns = {f.name: pa.array([row[f.name] for row in chunk], type=f.type) for f in schema}
        batches.append(_batch(columns, schema))
    return pa.Table.from_batches(batches, schema=schema)


def _batch(columns: Mapping[str, pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([columns[field.name] for field in schema], schema=schema)


def _chunks(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    left = iter(rows)
    while chunk := list(islice(left, size)):
        yield chunk


def _seed_columns(indices: Sequence[int], seeds: Sequence[Seed]) -> dict[str, pa.Array]:
    columns = {
        field.name: values_array([getattr(seed, field.name) for seed in seeds], field.type)
        for field in SEED_SCHEMA
        if field.name not in ("index", "images")
    }
    images = lists_array([seed.images for seed in seeds], SEED_SCHEMA.field("images").type)
    return {**columns, "index": pa.array(indices, pa.int64()), "images": images}


def _filled(rollouts: Sequence[Rollout]) -> Iterator[str]:
    """Optional columns in which a rollout has something."""
    if any(rollout.blind for rollout in rollouts):
        yield BLIND
    if any(response.further for rollout in rollouts for response in rollout.responses):
        yield FURTHER


def _rollout_columns(rollouts: Sequence[Rollout], schema: pa.Schema) -> dict[str, pa.Array]:
    columns = _seed_columns([r.index for r in rollouts], [r.seed for r in rollouts])
    special: dict[str, Callable[[Any], pa.Array]] = {
        "responses": lambda kind: lists_array([r.responses for r in rollouts], kind),
        "error": lambda kind: values_array([_error(r.error) for r in rollouts], kind),
        BLIND: lambda kind: lists_array([r.blind for r in rollouts], kind),
        FURTHER: lambda kind: _further_array(rollouts, kind),
    }
    for name, kind in zip(schema.names, schema.types, strict=True):
        if name in special:
            columns[name] = special[name](kind)
        elif name not in columns:
            columns[name] = values_array([getattr(r, name) for r in rollouts], kind)
    return columns


def _error(error: tuple[str, str] | None) -> dict[str, str] | None:
    return None if error is None else {"reason": error[0], "detail": error[1]}


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


_SEED_VALUES = [name for name in SEED_SCHEMA.names if name not in ("index", "images")]


def _seed(row: Mapping[str, Any]) -> Seed:
    values = {name: row[name] for name in _SEED_VALUES}
    lists = {name: tuple(values[name]) for name in ("answers", "choices")}
    return Seed(**{**values, **lists, "images": tuple(ImageRef(**ref) for ref in row["images"])})


def _rollout(
    row: Mapping[str, Any], responses: tuple[Response, ...], blind: tuple[Response, ...]
) -> Rollout:
    error = row["error"]
    names = ("prompt", "template", "style", "model", "prompt_tokens", "index")
    return Rollout(
        seed=_seed(row),
        image_sha256=tuple(row["image_sha256"]),
        responses=responses,
        error=None if error is None else (error["reason"], error["detail"]),
        stop=row.get("stop") or "",
        blind=blind,
        **{name: row[name] for name in names},
    )
