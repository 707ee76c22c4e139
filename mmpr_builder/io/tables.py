"""Parquet files: opened, written whole, listed; and records <-> tables.

    seeds/unit-00003.parquet      index, id, question, images, answers, choices, …
    rollouts/unit-00003.parquet   the same, plus prompt, model, responses: list<struct<text, …>>
    drops/part-00000.parquet      item_id, stage, reason, detail

Each has one explicit schema. The same records always give the same bytes. Records become columns
and back field by field: a dict per record would cost several times as much as all else on a
response's way to disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass, replace
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmpr_builder.config import Config
from mmpr_builder.errors import InputError, StorageError
from mmpr_builder.escaping import redacted
from mmpr_builder.io.stores import is_local, names_in, patiently, publish, read_bytes, resolve
from mmpr_builder.records import (
    Comparison,
    Continuation,
    Drop,
    ImageRef,
    Response,
    Rollout,
    Seed,
    Trace,
)

Make = Callable[..., Any]

_TEXTS = pa.list_(pa.string())

_IMAGE_REF = pa.struct(
    [("uri", pa.string()), ("row", pa.int64()), ("column", pa.string()), ("index", pa.int64())]
)
_CONTINUATION = pa.struct(
    [
        ("prefix", pa.string()),
        ("text", pa.string()),
        ("tokens", pa.int64()),
        ("finish_reason", pa.string()),
        ("seed", pa.int64()),
        ("keep", pa.float64()),
        ("image", pa.bool_()),
        ("prefix_tokens", pa.int64()),
    ]
)
_SAMPLE = pa.struct(
    [
        ("text", pa.string()),
        ("tokens", pa.int64()),
        ("finish_reason", pa.string()),
        ("seed", pa.int64()),
        ("logprob", pa.float64()),
    ]
)
_RESPONSE = pa.struct([*_SAMPLE, ("continuation", _CONTINUATION)])
_SEED_FIELDS = [
    ("index", pa.int64()),
    ("id", pa.string()),
    ("question", pa.string()),
    ("images", pa.list_(_IMAGE_REF)),
    ("answers", _TEXTS),
    ("choices", _TEXTS),
    ("source", pa.string()),
    ("language", pa.string()),
    ("scorer", pa.string()),
    ("origin", pa.string()),
]

SEED_SCHEMA = pa.schema(_SEED_FIELDS)
"""One row per seed; `index` is its position in the build's input order."""

ROLLOUT_SCHEMA = pa.schema(
    [
        *_SEED_FIELDS,
        ("prompt", pa.string()),
        ("template", pa.string()),
        ("style", pa.string()),
        ("model", pa.string()),
        ("image_sha256", _TEXTS),
        ("responses", pa.list_(_RESPONSE)),
        ("prompt_tokens", pa.int64()),
        ("error", pa.struct([("reason", pa.string()), ("detail", pa.string())])),
        ("stop", pa.string()),
    ]
)
"""One row per seed with all its responses; the seed's own columns come first."""

_TRACE = pa.struct(
    [
        ("token_ids", pa.list_(pa.int32())),
        ("logprob", pa.float64()),
        ("reference", pa.float64()),
        ("missing", pa.string()),
        ("by", pa.string()),
    ]
)
_REPLIES = [(name, pa.string()) for name in ("other", "first", "second", "rubric")]
_COMPARISON = pa.struct([*_REPLIES, ("tokens", pa.int64())])
BLIND, FURTHER, WITH_IMAGE = "blind", "further_continuations", "image_continuations"
TRACES, COMPARED = "traces", "comparisons"
OPTIONAL_COLUMNS: dict[str, pa.DataType] = {
    BLIND: pa.list_(_SAMPLE),
    FURTHER: pa.list_(pa.list_(_CONTINUATION)),
    WITH_IMAGE: pa.list_(pa.list_(_CONTINUATION)),
    TRACES: pa.list_(pa.list_(_TRACE)),
    COMPARED: pa.list_(pa.list_(_COMPARISON)),
}
"""Columns behind those of `ROLLOUT_SCHEMA` where a build asks for what is in them: samples without
images, and for each of `responses` its continuations after the first one, those that saw the image,
its `traces`, and its comparisons by a judge."""

_ADDED = ("stop",)  # Columns that rollouts of earlier versions do not have.

DROP_SCHEMA = pa.schema([(name, pa.string()) for name in ("item_id", "stage", "reason", "detail")])
"""One row per seed (or input row) that ended without a pair."""

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
        file = self._file
        of = file.read if group is None else partial(file.read_row_group, group)

        def read() -> pa.Table:
            table = of(columns=names, use_threads=False)
            if table.column_names:  # What is no text would be an error where it is used.
                table.validate(full=True)
            return table

        return self._tried(read)

    def batches(
        self, rows: int, columns: Sequence[str] | None = None, group: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The same, at most so many rows at a time."""
        groups = None if group is None else [group]
        names = None if columns is None else list(columns)
        given = 0
        open_now: Iterator[pa.RecordBatch] | None = None

        def following() -> pa.RecordBatch | None:
            nonlocal open_now
            batches = open_now
            if batches is None:
                found = self._file.iter_batches(rows, groups, names, use_threads=False)
                batches = islice(found, given, None)
            open_now = None  # What raises now gives nothing more.
            batch = next(batches, None)
            open_now = batches
            return batch

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
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
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


def optional_columns(config: Config) -> tuple[str, ...]:
    """Names of the `OPTIONAL_COLUMNS` that all rollouts of a build have."""
    asked = {
        BLIND: config.sampling.blind > 0,
        FURTHER: len(config.dropout.keep) > 1,
        WITH_IMAGE: config.steps.is_on,
        TRACES: config.sampling.traced,
        COMPARED: config.scoring.judge.open > 0,
    }
    return tuple(name for name, is_asked in asked.items() if is_asked)


def rollout_schema(optional: Iterable[str]) -> pa.Schema:
    """`ROLLOUT_SCHEMA` with some of the `OPTIONAL_COLUMNS`."""
    named = set(optional)
    more = [pa.field(name, kind) for name, kind in OPTIONAL_COLUMNS.items() if name in named]
    return pa.schema([*ROLLOUT_SCHEMA, *more])


def fits(found: pa.Schema, expected: pa.Schema) -> bool:
    """Whether a file has exactly the columns of a schema; rollouts with optional columns, or of a
    version before a column was added, fit, too."""
    if expected.equals(ROLLOUT_SCHEMA):
        expected = rollout_schema(found.names)
    added = {name for name in _ADDED if name not in found.names}
    columns = [column for column in expected if column.name not in added]
    return bool(found.equals(pa.schema(columns), check_metadata=False))


def storable(text: str) -> str:
    """Text that UTF-8 can hold: a surrogate pair becomes its character, a lone half (from servers
    that cut JSON inside an emoji) U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def plain(value: Any) -> Any:
    """A record as dicts, lists and storable text."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value


def values_array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Values of one type, None for null: records by their attributes, groups of records as lists;
    texts are made `storable`."""
    if pa.types.is_list(kind) and pa.types.is_nested(kind.value_type):
        ends = np.cumsum([0, *map(len, values)], dtype=np.int32)
        items = values_array([item for group in values for item in group], kind.value_type)
        return pa.ListArray.from_arrays(pa.array(ends), items, type=kind)
    if pa.types.is_struct(kind):
        missing = [record is None for record in values]
        columns = [
            values_array([None if r is None else getattr(r, f.name) for r in values], f.type)
            for f in kind
        ]
        mask = pa.array(missing, type=pa.bool_()) if any(missing) else None
        return pa.StructArray.from_arrays(columns, fields=list(kind), mask=mask)
    try:
        return pa.array(values, type=kind)
    except UnicodeEncodeError:
        return pa.array(plain(list(values)), type=kind)


def records_of(
    array: pa.Array, make: Callable[..., Any], **nested: Callable[..., Any]
) -> list[Any]:
    """The inverse for records, None among them, and for groups of them as tuples: `make` gets the
    fields in their order, `nested` makes the records in fields of that name."""
    if not len(array):
        return []
    if pa.types.is_list(array.type):
        starts = array.offsets.to_pylist()
        items = records_of(array.flatten(), make, **nested)
        return [tuple(items[a - starts[0] : b - starts[0]]) for a, b in pairwise(starts)]
    columns = [
        records_of(column, nested[field.name]) if field.name in nested else column.to_pylist()
        for field, column in zip(array.type, array.flatten(), strict=True)
    ]
    rows = zip(*columns, strict=True)
    if not array.null_count:
        return [make(*row) for row in rows]
    there = array.is_valid().to_pylist()
    return [make(*row) if valid else None for valid, row in zip(there, rows, strict=True)]


def seeds_to_table(seeds: Iterable[tuple[int, Seed]]) -> pa.Table:
    """(position in the build's input order, seed) pairs as one table of `SEED_SCHEMA`."""

    def column(rows: Sequence[tuple[int, Seed]], field: pa.Field) -> pa.Array:
        name = field.name
        values = [index if name == "index" else getattr(seed, name) for index, seed in rows]
        return values_array(values, field.type)

    return _table(seeds, SEED_SCHEMA, column)


def seeds_from_table(table: pa.Table) -> list[tuple[int, Seed]]:
    """The inverse of `seeds_to_table`."""
    return [(row["index"], _seed(row)) for row in table.to_pylist()]


def rollouts_to_table(rollouts: Iterable[Rollout], optional: Sequence[str] = ()) -> pa.Table:
    """Rollouts as one table of `ROLLOUT_SCHEMA` with the `OPTIONAL_COLUMNS` that are named, and
    those in which a rollout has something."""
    rows = list(rollouts)
    filled = [BLIND] if any(rollout.blind for rollout in rows) else []
    filled += [
        name
        for name in _OF_RESPONSES
        if any(any(map(any, groups)) for groups in _values(rows, name))
    ]
    return _table(
        rows,
        rollout_schema({*optional, *filled}),
        lambda some, field: values_array(_values(some, field.name), field.type),
    )


def rollouts_from_table(table: pa.Table) -> list[Rollout]:
    """The inverse of `rollouts_to_table`."""
    found: list[Rollout] = []
    for batch in table.to_batches():
        records = {
            name: records_of(batch.column(name), make, continuation=Continuation)
            for name, make in _RECORDS.items()
            if name in batch.schema.names
        }
        rows = batch.drop_columns(list(records)).to_pylist()
        for row, *values in zip(rows, *records.values(), strict=True):
            found.append(_rollout(row | dict(zip(records, values, strict=True))))
    return found


def drops_to_table(drops: Iterable[Drop]) -> pa.Table:
    """Drops as one table of `DROP_SCHEMA`."""
    rows = (plain(replace(drop, detail=redacted(drop.detail))) for drop in drops)
    return to_table(rows, DROP_SCHEMA)


def drops_from_table(table: pa.Table) -> list[Drop]:
    """The inverse of `drops_to_table`."""
    return [Drop(**row) for row in table.to_pylist()]


def to_table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Plain rows (see `plain`) as a table of exactly this schema, its metadata included."""
    return _table(
        rows, schema, lambda some, field: pa.array([row[field.name] for row in some], field.type)
    )


def _table(
    rows: Iterable[Any], schema: pa.Schema, column: Callable[[list[Any], pa.Field], pa.Array]
) -> pa.Table:
    batches, left = [], iter(rows)
    while some := list(islice(left, _ROWS_PER_BATCH)):
        columns = [column(some, field) for field in schema]
        batches.append(pa.RecordBatch.from_arrays(columns, schema=schema))
    return pa.Table.from_batches(batches, schema=schema)


_SEED_VALUES = [name for name in SEED_SCHEMA.names if name != "index"]
_OF_RESPONSES = {
    **{FURTHER: "further", WITH_IMAGE: "with_image"},
    **{TRACES: "traces", COMPARED: "compared"},
}
"""Columns with a list for each response -> the field of the responses that they hold."""


def _values(rollouts: Sequence[Rollout], name: str) -> list[Any]:
    """What a column of rollouts holds."""
    if field := _OF_RESPONSES.get(name):
        return [[getattr(response, field) for response in r.responses] for r in rollouts]
    if name == "error":
        return [r.error and SimpleNamespace(reason=r.error[0], detail=r.error[1]) for r in rollouts]
    if name in _SEED_VALUES:
        return [getattr(r.seed, name) for r in rollouts]
    return [getattr(r, name) for r in rollouts]


def _trace(token_ids: Sequence[int], *rest: Any) -> Trace:
    return Trace(tuple(token_ids), *rest)


_RECORDS: Mapping[str, Callable[..., Any]] = {
    **{"responses": Response, BLIND: Response},
    **{FURTHER: Continuation, WITH_IMAGE: Continuation, TRACES: _trace, COMPARED: Comparison},
}


def _seed(row: Mapping[str, Any]) -> Seed:
    values = {name: row[name] for name in _SEED_VALUES}
    lists = {name: tuple(values[name]) for name in ("answers", "choices")}
    return Seed(**{**values, **lists, "images": tuple(ImageRef(**ref) for ref in row["images"])})


def _rollout(row: Mapping[str, Any]) -> Rollout:
    error = row["error"]
    names = ("prompt", "template", "style", "model", "prompt_tokens", "index")
    responses = row["responses"]
    if not _OF_RESPONSES.keys().isdisjoint(row):
        responses = tuple(_response(row, number) for number in range(len(responses)))
    return Rollout(
        seed=_seed(row),
        image_sha256=tuple(row["image_sha256"]),
        responses=responses,
        error=None if error is None else (error["reason"], error["detail"]),
        stop=row.get("stop") or "",
        blind=row.get(BLIND, ()),
        **{name: row[name] for name in names},
    )


def _response(row: Mapping[str, Any], number: int) -> Response:
    """One response with what columns of their own hold of it."""
    found: Response = row["responses"][number]
    for name in (FURTHER, WITH_IMAGE, COMPARED):
        if name in row and (more := row[name][number]):
            found = replace(found, **{_OF_RESPONSES[name]: more})
    if TRACES in row:
        own, *others = row[TRACES][number]
        pairs = zip(found.continuations, others, strict=True)
        found = replace(found, trace=own).with_continuations(
            replace(c, trace=trace) for c, trace in pairs
        )
    return found
