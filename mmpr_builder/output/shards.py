"""Folders of Parquet parts that appear all at once.

    out/.new/pairs/part-00000.parquet     while a build is being written
    out/pairs/part-00000.parquet          after `publish`

A reader never sees half a build, a crash leaves the old one, and no part of an older, longer
build stays behind.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmpr_builder.errors import InputError
from mmpr_builder.io import stores, tables

Sizes = npt.NDArray[np.int64]


def row_bytes(table: pa.Table) -> Sizes:
    """Bytes that each row takes in Arrow, near enough to bound a row group; shape (rows,).

    A row's size depends on its values alone, never on the rows beside it.
    """
    if not table.num_rows:
        return np.zeros(0, np.int64)
    batches = table.to_batches()
    return np.concatenate([sum(map(_sizes, batch.columns)) for batch in batches])


def _sizes(array: pa.Array) -> Sizes:
    kind = array.type
    if pa.types.is_struct(kind):
        return np.asarray(sum(_sizes(array.field(i)) for i in range(kind.num_fields)))
    if pa.types.is_list(kind):
        before = np.concatenate([[0], np.cumsum(_sizes(array.values))])
        offsets = array.offsets.to_numpy()
        return np.asarray(4 + before[offsets[1:]] - before[offsets[:-1]], np.int64)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        lengths = pc.binary_length(array).fill_null(0)
        return np.asarray(4 + lengths.to_numpy(zero_copy_only=False), np.int64)
    return np.full(len(array), 8, np.int64)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows on their way into a file, and the images they show.

    Memory holds an image once for all pairs of its seed, and a file stores it as an entry of a
    dictionary. `pictures` has the images of each seed, `picture_of` for each row its place there,
    which never falls; None: rows without a column of images.
    """

    data: pa.Table
    pictures: tuple[tuple[bytes, ...], ...] = ()
    picture_of: tuple[int, ...] | None = None

    def weights(self) -> list[int]:
        """Bytes that each row takes in Arrow, its images included; depends on the row alone."""
        sizes: list[int] = row_bytes(self.data).tolist()
        if self.picture_of is None:
            return sizes
        images = [sum(map(len, pictures)) for pictures in self.pictures]
        return [size + images[at] for size, at in zip(sizes, self.picture_of, strict=True)]

    def part(self, start: int, stop: int) -> Rows:
        """The rows from `start` up to `stop`."""
        return self._with_images(self.data.slice(start, stop - start), range(start, stop))

    def only(self, rows: Sequence[int]) -> Rows:
        """The rows with these numbers, which rise."""
        return self._with_images(self.data.take(pa.array(rows, pa.int64())), rows)

    def _with_images(self, data: pa.Table, rows: Sequence[int]) -> Rows:
        """`data` has these rows; beside it the images that they show."""
        if self.picture_of is None:
            return Rows(data)
        shown = [self.picture_of[row] for row in rows]
        places = {at: place for place, at in enumerate(dict.fromkeys(shown))}
        pictures = tuple(self.pictures[at] for at in places)
        return Rows(data, pictures, tuple(places[at] for at in shown))

    def table(self) -> pa.Table:
        """All rows, one chunk per column: how they came together must not show in a file.

        `images.bytes` is a dictionary, which Parquet stores as plain bytes.
        """
        table = self.data.combine_chunks()
        return table if self.picture_of is None else table.add_column(0, "images", self._images())

    def _images(self) -> pa.Array:
        numbers: dict[bytes, int] = {}
        shown = [
            [numbers.setdefault(data, len(numbers)) for data in pictures]
            for pictures in self.pictures
        ]
        of_row = [shown[at] for at in self.picture_of or ()]
        ends = np.cumsum([0, *map(len, of_row)], dtype=np.int32)
        indices = pa.array([number for row in of_row for number in row], type=pa.int32())
        data = pa.DictionaryArray.from_arrays(indices, pa.array(list(numbers), type=pa.binary()))
        paths = pa.nulls(len(indices), pa.string())
        images = pa.StructArray.from_arrays([data, paths], names=["bytes", "path"])
        return pa.ListArray.from_arrays(pa.array(ends), images)


def joined(pieces: Sequence[Rows]) -> Rows:
    """The rows of several pieces of one kind, one after the other."""
    data = pa.concat_tables([rows.data for rows in pieces])
    if pieces[0].picture_of is None:
        return Rows(data)
    starts = accumulate((len(rows.pictures) for rows in pieces), initial=0)
    places = [
        start + at
        for rows, start in zip(pieces, starts, strict=False)
        for at in rows.picture_of or ()
    ]
    return Rows(data, tuple(chain.from_iterable(rows.pictures for rows in pieces)), tuple(places))


STAGED = ".new"  # Hidden folder inside a build's folder where a new set of parts grows.
_REPLACED = ".old"
_INCOMPLETE = ".incomplete"
_PIECES = 1024  # Buffered apart; more small ones would weigh more than their rows.


class ShardWriter:
    """Appends rows to `part-00000.parquet`, `part-00001.parquet`, … of one folder.

    It buffers rows up to `row_group_bytes`; a new part begins once one holds `shard_bytes`. Where
    they end depends on the rows alone. There is always a first part, which keeps the schema.
    """

    def __init__(
        self, folder: str, schema: pa.Schema, *, row_group_bytes: int, shard_bytes: int
    ) -> None:
        self._folder = folder
        self._schema = schema
        self._row_group_bytes = row_group_bytes
        self._shard_bytes = shard_bytes
        fs, path = stores.resolve(folder)
        self._is_local = stores.is_local(fs)
        # What is staged is hidden already: on a local disk parts grow where they will stay.
        self._scratch = Path(path if self._is_local else tempfile.mkdtemp(prefix="mmpr-shard-"))
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._pieces: list[Rows] = []
        self._buffered = 0
        self._parts = 0
        self._part: pq.ParquetWriter | None = None
        self._sink: Any = None

    def add(self, rows: Rows) -> None:
        """Append rows of the schema's columns."""
        first = at = 0
        for at, weight in enumerate(rows.weights(), start=1):
            if self._buffered and self._buffered + weight > self._row_group_bytes:
                self._keep(rows, first, at - 1)
                first = at - 1
                self._flush()
            self._buffered += weight
        self._keep(rows, first, at)

    def close(self) -> None:
        """Write what is buffered and finish the last part."""
        if self._pieces:
            self._flush(last=True)
        if self._part is None and not self._parts:
            self._open_part(self._schema)
        if self._part is not None:
            self._finish_part()
        self._leave()

    def abandon(self) -> None:
        """Let go of everything not yet finished."""
        if self._part is not None:
            self._part.close()
            self._sink.close()
        self._leave()

    def _keep(self, rows: Rows, start: int, stop: int) -> None:
        if start < stop:
            self._pieces.append(rows.part(start, stop))
        if len(self._pieces) >= _PIECES:
            self._pieces = [joined(self._pieces)]

    def _flush(self, *, last: bool = False) -> None:
        table = joined(self._pieces).table()
        if self._part is None:
            self._open_part(table.schema)
        assert self._part is not None
        self._part.write_table(table, row_group_size=max(1, table.num_rows))
        self._pieces, self._buffered = [], 0
        if self._sink.tell() >= self._shard_bytes and not last:
            self._finish_part()

    def _open_part(self, held: pa.Schema) -> None:
        """`held` is the schema of the tables to come, in which columns can be dictionaries."""
        self._sink = pa.OSFile(str(self._scratch / self._name()), "wb")
        self._part = pq.ParquetWriter(
            self._sink,
            held.remove_metadata(),
            compression="zstd",
            # A dictionary page that may hold a whole row group: the pairs of one seed share image
            # and prompt, and each of these is stored once.
            dictionary_pagesize_limit=self._row_group_bytes,
            store_schema=False,
        )
        # Of the schema only what Parquet's own types do not tell: how `datasets` reads the columns.
        self._part.add_key_value_metadata(self._schema.metadata or {})

    def _finish_part(self) -> None:
        assert self._part is not None
        self._part.close()
        self._sink.close()
        part = self._scratch / self._name()
        if self._is_local:
            stores.sync(part)
        else:
            stores.put_file(part, f"{self._folder}/{self._name()}")
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
    for name in (STAGED, _REPLACED):
        stores.remove_folder(f"{out}/{name}")


def publish(out: str, names: Sequence[str]) -> None:
    """Put the staged folders in the place of the published ones.

    On a local disk each folder appears by rename, and if that fails the old ones come back. In an
    object store the parts appear one by one, beside a mark that not all are there (`check_whole`).
    """
    fs, root = stores.resolve(out)
    if stores.is_local(fs):
        _swap(Path(root), names)
    else:
        for name in names:
            tables.put_text("", f"{out}/{name}/{_INCOMPLETE}")
        for name in names:
            _copy_in(fs, f"{out}/{STAGED}/{name}", f"{out}/{name}")
        for name in names:
            stores.remove_file(f"{out}/{name}/{_INCOMPLETE}")
    discard(out)


def check_whole(folder: str) -> None:
    """Raise `InputError` for a folder in which `publish` has not come to its end."""
    fs, _ = stores.resolve(folder)
    if not stores.is_local(fs) and stores.is_there(f"{folder}/{_INCOMPLETE}"):
        raise InputError(
            f"{folder}: not all parts are there: a run is publishing them now, or died while it"
            " did: wait for it, or run `mmpr pair` again"
        )


def _copy_in(fs: Any, staged: str, folder: str) -> None:
    new, old = stores.names_in(staged), stores.names_in(folder)
    for name in new:
        source, target = (stores.resolve(f"{place}/{name}")[1] for place in (staged, folder))
        stores.patiently(partial(fs.cp_file, source, target), f"{folder}/{name}")
    for name in set(old) - {*new, _INCOMPLETE}:
        stores.remove_file(f"{folder}/{name}")


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
    stores.sync(root)
