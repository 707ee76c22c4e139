"""Records <-> Arrow <-> Parquet: what stands between two steps on disk.

    seeds/unit-00003.parquet      index, id, question, images, answers, choices, …
    rollouts/unit-00003.parquet   the same, plus prompt, model, responses: list<struct<text, …>>
    drops/part-00000.parquet      item_id, stage, reason, detail

One explicit schema for each and plain Python values in between: a detour over pandas or numpy
turns nested columns into pickles. The same records always give the same bytes, and a part is
there completely or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmpr_builder.columns import groups_of, lists_array
from mmpr_builder.columns import storable as storable
from mmpr_builder.errors import InputError, StorageError
from mmpr_builder.records import Continuation, Drop, ImageRef, Response, Rollout, Seed
from mmpr_builder.stores import is_local as is_local
from mmpr_builder.stores import names_in, patiently, read_bytes, scratch_folder
from mmpr_builder.stores import put_file as put_file
from mmpr_builder.stores import resolve as resolve
from mmpr_builder.stores import sync as sync

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
_RESPONSE = pa.struct(
    [
        ("text", pa.string()),
        ("tokens", pa.int64()),
        ("finish_reason", pa.string()),
        ("seed", pa.int64()),
        ("logprob", pa.float64()),
        ("continuation", _CONTINUATION),
    ]
)
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

_ADDED = ("stop",)  # Columns that rollouts of earlier versions do not have.

DROP_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
"""One row per seed (or input row) that ended without a pair."""

_READERS, _LOCAL_READERS = 16, 4  # On an object store it is all waiting.
_FOOTER_BYTES = 64 * 2**10  # Those of our parts are smaller.
_ROWS_PER_BATCH = 256  # Bounds one string array far below Arrow's 2 GiB of offsets.


def seeds_to_table(seeds: Iterable[tuple[int, Seed]]) -> pa.Table:
    """(position in the build's input order, seed) pairs as one table of `SEED_SCHEMA`."""
    return to_table(({"index": index, **plain(seed)} for index, seed in seeds), SEED_SCHEMA)


def seeds_from_table(table: pa.Table) -> list[tuple[int, Seed]]:
    """The inverse of `seeds_to_table`."""
    return [(row["index"], _seed(row)) for row in table.to_pylist()]


def rollouts_to_table(rollouts: Iterable[Rollout]) -> pa.Table:
    """Rollouts as one table of `ROLLOUT_SCHEMA`."""
    batches = [_rollout_batch(chunk) for chunk in _chunks(rollouts, _ROWS_PER_BATCH)]
    return pa.Table.from_batches(batches, schema=ROLLOUT_SCHEMA)


def rollouts_from_table(table: pa.Table) -> list[Rollout]:
    """The inverse of `rollouts_to_table`."""
    responses = (
        group
        for chunk in table.column("responses").chunks
        for group in groups_of(chunk, Response, continuation=Continuation)
    )
    rows = table.drop_columns(["responses"]).to_pylist()
    return [_rollout(row, group) for row, group in zip(rows, responses, strict=True)]


def drops_to_table(drops: Iterable[Drop]) -> pa.Table:
    """Drops as one table of `DROP_SCHEMA`."""
    return to_table((plain(drop) for drop in drops), DROP_SCHEMA)


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


def write_parquet(table: pa.Table, uri: str | Path, *, row_group_bytes: int = 64 * 2**20) -> None:
    """Write `table` under `uri` (a path or any fsspec URL) completely or not at all.

    The same table gives the same bytes (for one version of pyarrow). Row groups hold at most
    `row_group_bytes` in memory, or a single row. On a local disk the file appears by rename; an
    object store sees one upload under the final name.
    """
    with scratch_folder() as folder:
        local = folder / "part.parquet"
        _write_file(table, local, row_group_bytes)
        put_file(local, uri)


def put_text(text: str, uri: str | Path) -> None:
    """Publish a text file (UTF-8) under `uri`, completely or not at all."""
    with scratch_folder() as folder:
        local = folder / "text"
        local.write_text(storable(text), encoding="utf-8", newline="\n")
        put_file(local, uri)


def read_parquet(uri: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one part. Raises `InputError` when it is missing or not a complete Parquet file."""
    fs, path = resolve(uri)

    def read() -> pa.Table:
        with fs.open(path, "rb") as file:
            names = None if columns is None else list(columns)
            # Arrow's own threads must not hold a Python file: one that still does when the
            # interpreter ends aborts the process (pyarrow 26, about once in a hundred runs).
            return pq.ParquetFile(file).read(columns=names, use_threads=False)

    try:
        return patiently(read, uri)
    except StorageError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{uri}: not a readable Parquet file ({error}): remove it and run again"
        ) from error


def read_groups(uri: str | Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Some columns of one part, a row group at a time."""
    fs, path = resolve(uri)
    with fs.open(path, "rb") as file:
        parquet = pq.ParquetFile(file)
        for group in range(parquet.num_row_groups):
            # See read_parquet.
            yield parquet.read_row_group(group, columns=list(columns), use_threads=False)


def read_footer(uri: str | Path) -> pq.FileMetaData | None:
    """The footer of a Parquet file; None when there is no file or it is torn.

    Asked for without the rest: on an object store the last bytes are one request. A storage that
    does not answer is an error and never taken for a missing file.
    """
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


def readers(uri: str | Path) -> int:
    """Threads that read footers at once; each keeps some memory for good, so no more than help."""
    return _LOCAL_READERS if is_local(resolve(uri)[0]) else _READERS


def is_complete(uri: str | Path, schema: pa.Schema | None = None) -> bool:
    """Whether `uri` is a Parquet file with an intact footer and, if given, exactly this schema.

    A file of an earlier version, written before a column was added, counts as complete.
    """
    footer = read_footer(uri)
    if footer is None or schema is None:
        return footer is not None
    found = footer.schema.to_arrow_schema()
    added = {name for name in _ADDED if name not in found.names}
    expected = pa.schema([column for column in schema if column.name not in added])
    return bool(found.equals(expected, check_metadata=False))


def list_parts(folder_uri: str | Path, schema: pa.Schema | None = None) -> list[str]:
    """The complete `*.parquet` parts of a folder, sorted; none if the folder is not there.

    Hidden names (parts being written) are passed over. Torn files, and with `schema` those of
    another one, are left out too: `broken_parts` names them.
    """
    return [uri for uri, complete in _checked(folder_uri, schema) if complete]


def broken_parts(folder_uri: str | Path, schema: pa.Schema | None = None) -> list[str]:
    """The `*.parquet` files of a folder that `list_parts` does not take for finished parts."""
    return [uri for uri, complete in _checked(folder_uri, schema) if not complete]


def row_groups(table: pa.Table, limit: int) -> Iterator[pa.Table]:
    """Consecutive slices of at most `limit` bytes (halved until they are, or are one row)."""
    if table.num_rows <= 1 or table.nbytes <= limit:
        # One chunk per column: how rows came together must not show in the file.
        yield table.combine_chunks()
        return
    half = table.num_rows // 2
    yield from row_groups(table.slice(0, half), limit)
    yield from row_groups(table.slice(half), limit)


def _write_file(table: pa.Table, path: Path, row_group_bytes: int) -> None:
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for group in row_groups(table, row_group_bytes):
            writer.write_table(group, row_group_size=max(1, group.num_rows))


def _checked(folder_uri: str | Path, schema: pa.Schema | None) -> list[tuple[str, bool]]:
    uris = _parquet_names(folder_uri)
    with ThreadPoolExecutor(readers(folder_uri)) as pool:
        return list(zip(uris, pool.map(lambda uri: is_complete(uri, schema), uris), strict=True))


def _parquet_names(folder_uri: str | Path) -> list[str]:
    base = os.fspath(folder_uri).rstrip("/")
    names = names_in(folder_uri)
    return [f"{base}/{n}" for n in names if n.endswith(".parquet") and n[0] not in "._"]


def _chunks(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _rollout_batch(rollouts: Sequence[Rollout]) -> pa.RecordBatch:
    rows = [_rollout_row(rollout) for rollout in rollouts]
    columns = [
        lists_array([rollout.responses for rollout in rollouts], field.type)
        if field.name == "responses"
        else pa.array([row[field.name] for row in rows], type=field.type)
        for field in ROLLOUT_SCHEMA
    ]
    return pa.RecordBatch.from_arrays(columns, schema=ROLLOUT_SCHEMA)


def _rollout_row(rollout: Rollout) -> dict[str, Any]:
    row = plain(replace(rollout, responses=()))
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


def _rollout(row: Mapping[str, Any], responses: tuple[Response, ...]) -> Rollout:
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
    )
