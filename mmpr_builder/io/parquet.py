"""Parquet files: written whole or not at all, read back, listed; on disks and object stores.

The same table always gives the same bytes, and a part is there completely or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmpr_builder.errors import InputError, StorageError
from mmpr_builder.io.columns import fits, storable
from mmpr_builder.io.stores import (
    is_local,
    names_in,
    patiently,
    put_file,
    read_bytes,
    resolve,
    scratch_folder,
)

_READERS, _LOCAL_READERS = 16, 4  # On an object store it is all waiting.
_FOOTER_BYTES = 64 * 2**10  # Those of our parts are smaller.


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


def column_names(uri: str | Path) -> list[str]:
    """The top-level columns of a file; none if it is not complete."""
    footer = read_footer(uri)
    return [] if footer is None else list(footer.schema.to_arrow_schema().names)


def readers(uri: str | Path) -> int:
    """Threads that read footers at once; each keeps some memory for good, so no more than help."""
    return _LOCAL_READERS if is_local(resolve(uri)[0]) else _READERS


def is_complete(uri: str | Path, schema: pa.Schema | None = None) -> bool:
    """Whether `uri` is a Parquet file with an intact footer and, if given, exactly this schema.

    See `schemas.fits` for what counts as this schema.
    """
    footer = read_footer(uri)
    if footer is None or schema is None:
        return footer is not None
    return fits(footer.schema.to_arrow_schema(), schema)


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
