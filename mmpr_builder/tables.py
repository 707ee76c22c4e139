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
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from mmpr_builder.errors import InputError
from mmpr_builder.records import Continuation, Drop, ImageRef, Response, Rollout, Seed

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
    ]
)
"""One row per seed with all its responses; the seed's own columns come first."""

DROP_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
"""One row per seed (or input row) that ended without a pair."""

_ROWS_PER_BATCH = 256  # Bounds one string array far below Arrow's 2 GiB of offsets.


def seeds_to_table(seeds: Iterable[tuple[int, Seed]]) -> pa.Table:
    """(position in the build's input order, seed) pairs as one table of `SEED_SCHEMA`."""
    return to_table(({"index": index, **plain(seed)} for index, seed in seeds), SEED_SCHEMA)


def seeds_from_table(table: pa.Table) -> list[tuple[int, Seed]]:
    """The inverse of `seeds_to_table`."""
    return [(row["index"], _seed(row)) for row in table.to_pylist()]


def rollouts_to_table(rollouts: Iterable[Rollout]) -> pa.Table:
    """Rollouts as one table of `ROLLOUT_SCHEMA`."""
    return to_table((_rollout_row(rollout) for rollout in rollouts), ROLLOUT_SCHEMA)


def rollouts_from_table(table: pa.Table) -> list[Rollout]:
    """The inverse of `rollouts_to_table`."""
    return [_rollout(row) for row in table.to_pylist()]


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


def storable(text: str) -> str:
    """Text that UTF-8 can hold: a surrogate pair becomes its character, a lone half U+FFFD.

    Servers that cut JSON inside an emoji hand out such halves; Arrow refuses them.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def write_parquet(table: pa.Table, uri: str | Path, *, row_group_bytes: int = 64 * 2**20) -> None:
    """Write `table` under `uri` (a path or any fsspec URL) completely or not at all.

    The same table gives the same bytes (for one version of pyarrow). Row groups hold at most
    `row_group_bytes` in memory, or a single row. On a local disk the file appears by rename; an
    object store sees one upload under the final name.
    """
    with tempfile.TemporaryDirectory(prefix="mmpr-") as folder:
        local = Path(folder) / "part.parquet"
        _write_file(table, local, row_group_bytes)
        put_file(local, uri)


def put_file(source: Path, uri: str | Path) -> None:
    """Publish a finished local file under `uri`: it appears there completely or not at all.

    On a local disk by copy to a hidden name beside it, sync and rename; elsewhere by one upload.
    """
    fs, path = resolve(uri)
    if not is_local(fs):
        fs.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
        fs.put_file(str(source), path)
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    hidden = target.with_name(f".{target.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        shutil.copyfile(source, hidden)
        sync(hidden)
        os.replace(hidden, target)
        sync(target.parent)
    finally:
        hidden.unlink(missing_ok=True)


def put_text(text: str, uri: str | Path) -> None:
    """Publish a text file (UTF-8) under `uri`, completely or not at all."""
    with tempfile.TemporaryDirectory(prefix="mmpr-") as folder:
        local = Path(folder) / "text"
        local.write_text(storable(text), encoding="utf-8", newline="\n")
        put_file(local, uri)


def read_parquet(uri: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one part. Raises `InputError` when it is missing or not a complete Parquet file."""
    fs, path = resolve(uri)
    try:
        with fs.open(path, "rb") as file:
            return pq.ParquetFile(file).read(columns=None if columns is None else list(columns))
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{uri}: not a readable Parquet file ({error}): remove it and run again"
        ) from error


def is_complete(uri: str | Path, schema: pa.Schema | None = None) -> bool:
    """Whether `uri` is a Parquet file with an intact footer and, if given, exactly this schema."""
    fs, path = resolve(uri)
    try:
        with fs.open(path, "rb") as file:
            found = pq.read_schema(file)
    except (OSError, pa.ArrowException):
        return False
    return schema is None or bool(found.equals(schema, check_metadata=False))


def list_parts(folder_uri: str | Path, schema: pa.Schema | None = None) -> list[str]:
    """The complete `*.parquet` parts of a folder, sorted; none if the folder is not there.

    Hidden names (parts being written) are passed over. Torn files, and with `schema` those of
    another one, are left out too: `broken_parts` names them.
    """
    return [uri for uri in _parquet_names(folder_uri) if is_complete(uri, schema)]


def broken_parts(folder_uri: str | Path, schema: pa.Schema | None = None) -> list[str]:
    """The `*.parquet` files of a folder that `list_parts` does not take for finished parts."""
    return [uri for uri in _parquet_names(folder_uri) if not is_complete(uri, schema)]


def resolve(uri: str | Path) -> tuple[Any, str]:
    """The fsspec file system of a path or URL, and the path inside it.

    Raises `InputError` for a protocol that is unknown or whose package is not installed.
    """
    try:
        fs, path = fsspec.core.url_to_fs(os.fspath(uri))
    except (ValueError, ImportError) as error:
        raise InputError(
            f"{os.fspath(uri)!r}: {error}: give a path or install the file system"
        ) from None
    return fs, path


def is_local(fs: Any) -> bool:
    """Whether an fsspec file system is this machine's disk, where files appear by rename."""
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def sync(path: Path) -> None:
    """Push a file, or a folder's list of names, down to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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


def _parquet_names(folder_uri: str | Path) -> list[str]:
    fs, path = resolve(folder_uri)
    fs.invalidate_cache()  # Object stores keep listings; another process may have published.
    if not fs.isdir(path):
        return []
    names = sorted(PurePosixPath(found).name for found in fs.ls(path, detail=False))
    base = os.fspath(folder_uri).rstrip("/")
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


def _rollout_row(rollout: Rollout) -> dict[str, Any]:
    row = plain(rollout)
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


def _rollout(row: Mapping[str, Any]) -> Rollout:
    error = row["error"]
    return Rollout(
        seed=_seed(row),
        prompt=row["prompt"],
        template=row["template"],
        style=row["style"],
        model=row["model"],
        image_sha256=tuple(row["image_sha256"]),
        responses=tuple(_response(item) for item in row["responses"]),
        prompt_tokens=row["prompt_tokens"],
        error=None if error is None else (error["reason"], error["detail"]),
        index=row["index"],
    )


def _response(row: Mapping[str, Any]) -> Response:
    continuation = row["continuation"]
    return Response(
        **{**row, "continuation": None if continuation is None else Continuation(**continuation)}
    )
