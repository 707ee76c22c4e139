"""Folders of Parquet parts that appear all at once.

    out/.new/pairs/part-00000.parquet     while a build is being written
    out/pairs/part-00000.parquet          after `publish`

A reader never sees half a build, a crash leaves the old one, and no part of an older, longer
build stays behind.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmpr_builder import tables

STAGED = ".new"
"""Hidden folder inside a build's folder where a new set of parts grows."""

_REPLACED = ".old"


class ShardWriter:
    """Appends rows to `part-00000.parquet`, `part-00001.parquet`, … of one folder.

    Rows are buffered up to `row_group_bytes`; a new part begins once one holds `shard_bytes`.
    There is always a first part, so that an empty result keeps its schema.
    """

    def __init__(
        self, folder: str, schema: pa.Schema, *, row_group_bytes: int, shard_bytes: int
    ) -> None:
        self._folder = folder
        self._schema = schema
        self._row_group_bytes = row_group_bytes
        self._shard_bytes = shard_bytes
        fs, path = tables.resolve(folder)
        self._is_local = tables.is_local(fs)
        # What is staged is hidden already: on a local disk parts grow where they will stay.
        self._scratch = Path(path if self._is_local else tempfile.mkdtemp(prefix="mmpr-shard-"))
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._rows: list[Mapping[str, Any]] = []
        self._buffered = 0
        self._parts = 0
        self._part: pq.ParquetWriter | None = None
        self._sink: Any = None

    def add(self, row: Mapping[str, Any]) -> None:
        """Append one row of plain values (see `tables.plain`)."""
        size = _weight(row)
        if self._rows and self._buffered + size > self._row_group_bytes:
            self._flush()
        self._rows.append(row)
        self._buffered += size

    def close(self) -> None:
        """Write what is buffered and finish the last part."""
        if self._rows or not self._parts:
            self._flush(last=True)
        if self._part is not None:
            self._finish_part()
        self._leave()

    def abandon(self) -> None:
        """Let go of everything not yet finished."""
        if self._part is not None:
            self._part.close()
            self._sink.close()
        self._leave()

    def _flush(self, *, last: bool = False) -> None:
        if self._part is None:
            self._open_part()
        assert self._part is not None
        table = tables.to_table(self._rows, self._schema).combine_chunks()
        self._part.write_table(table, row_group_size=max(1, table.num_rows))
        self._rows, self._buffered = [], 0
        if self._sink.tell() >= self._shard_bytes and not last:
            self._finish_part()

    def _open_part(self) -> None:
        self._sink = pa.OSFile(str(self._scratch / self._name()), "wb")
        # The pairs of one seed share image and prompt: a dictionary page that may hold a whole
        # row group stores each of them once.
        self._part = pq.ParquetWriter(
            self._sink,
            self._schema,
            compression="zstd",
            dictionary_pagesize_limit=self._row_group_bytes,
        )

    def _finish_part(self) -> None:
        assert self._part is not None
        self._part.close()
        self._sink.close()
        part = self._scratch / self._name()
        if self._is_local:
            tables.sync(part)
        else:
            tables.put_file(part, f"{self._folder}/{self._name()}")
            part.unlink()
        self._part = None
        self._parts += 1

    def _leave(self) -> None:
        if not self._is_local:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _name(self) -> str:
        return f"part-{self._parts:05d}.parquet"


def discard(out: str) -> None:
    """Remove what an interrupted run left staged in a build's folder."""
    fs, root = tables.resolve(out)
    for name in (STAGED, _REPLACED):
        if fs.exists(f"{root}/{name}"):
            fs.rm(f"{root}/{name}", recursive=True)


def publish(out: str, names: Sequence[str]) -> None:
    """Put the staged folders in the place of the published ones.

    On a local disk each folder appears by rename, and if that fails the old ones come back. An
    object store has no rename: there the old parts are removed and the new ones moved.
    """
    fs, root = tables.resolve(out)
    if tables.is_local(fs):
        _swap(Path(root), names)
    else:
        for name in names:
            if fs.exists(f"{root}/{name}"):
                fs.rm(f"{root}/{name}", recursive=True)
            for part in sorted(fs.ls(f"{root}/{STAGED}/{name}", detail=False)):
                fs.mv(part, f"{root}/{name}/{part.rsplit('/', 1)[-1]}")
    discard(out)


def _swap(root: Path, names: Sequence[str]) -> None:
    (root / _REPLACED).mkdir(exist_ok=True)
    moved: list[str] = []
    try:
        for name in names:
            if (root / name).exists():
                (root / name).rename(root / _REPLACED / name)
                moved.append(name)
            (root / STAGED / name).rename(root / name)
    except OSError:
        for name in moved:
            if (root / name).exists():
                (root / name).rename(root / STAGED / name)
            (root / _REPLACED / name).rename(root / name)
        raise
    tables.sync(root)


def _weight(value: Any) -> int:
    """Bytes a plain value takes in Arrow, near enough to bound a row group."""
    kind = type(value)  # Half of all pairing went into isinstance with an abstract class here.
    if kind is str:
        return 4 + (len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass")))
    if kind is bytes:
        return 4 + len(value)
    if kind is dict:
        return sum(map(_weight, value.values()))
    if kind is list:
        return 4 + sum(map(_weight, value))
    return 8
