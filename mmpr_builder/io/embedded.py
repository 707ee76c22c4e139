"""Images embedded in tables (Parquet files, Hugging Face data sets), read by random access.

    ImageRef("/data/train.parquet", row=70412, column="image")             -> its bytes
    ImageRef("hf-dataset:org/name?split=train", row=5, column="images", index=1)

Requests come roughly in row order, from several shards at once. So a Parquet column is decoded in
small batches, forward, and the last few are kept. Memory is bounded by the file's pages (1,024 rows
by default), not by its row groups (pandas often writes a single one).
"""

from __future__ import annotations

import json
import posixpath
import re
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmpr_builder.errors import InputError, RowError
from mmpr_builder.io.members import ARCHIVES, read_member
from mmpr_builder.io.stores import absolute, is_url, resolve
from mmpr_builder.io.tables import ParquetFile
from mmpr_builder.records import ImageRef

DATASET_SCHEME = "hf-dataset:"
MAX_MEMBER_BYTES = 128 * 2**20  # Of an image in an archive, whatever it says of its size.
BATCH_BYTES = 8 * 2**20  # Aimed at, for one decoded batch.
BATCH_ROWS = 64  # At most: the footer understates images that repeat (dictionary encoding).
KEPT_BYTES = 96 * 2**20  # Decoded batches per open column, for several shards in flight.


def dataset_uri(path_or_id: str, split: str) -> str:
    """`hf-dataset:PATH_OR_ID?split=train`: the uri of images inside a data set."""
    return f"{DATASET_SCHEME}{path_or_id}?split={split}"


def read_embedded(ref: ImageRef) -> tuple[bytes | None, str | None]:
    """(bytes, path) of the image at `ref`; either may be None.

    Raises `RowError("image_missing")` when the table, the row or the column does not exist.
    """
    if ref.row is None or ref.column is None:
        raise ValueError(f"not a reference into a table: {ref}")
    if ref.uri.lower().endswith(ARCHIVES):
        return read_member(ref, MAX_MEMBER_BYTES), None
    try:
        if ref.uri.startswith(DATASET_SCHEME):
            place, _, split = ref.uri.removeprefix(DATASET_SCHEME).rpartition("?split=")
            value = _dataset_column(place, split, ref.column)[ref.row].column(0)[0].as_py()
        else:
            value = _parquet_column(ref.uri, ref.column).value(ref.row)
        if ref.index is not None:
            value = value[ref.index]
    except (OSError, KeyError, IndexError, TypeError, InputError, ValueError) as error:
        raise RowError("image_missing", f"{_place(ref)}: {error or type(error).__name__}") from None
    data, path = value, None
    if isinstance(value, dict):
        data, path = value.get("bytes"), value.get("path")
    for found, kind in ((data, bytes), (path, str)):
        if found is not None and not isinstance(found, kind):
            what = type(found).__name__
            raise RowError("image_missing", f"{_place(ref)}: holds {what}, not an image")
    return data, path


def _place(ref: ImageRef) -> str:
    index = "" if ref.index is None else f"[{ref.index}]"
    return f"{ref.uri} row {ref.row} column {ref.column!r}{index}"


def open_dataset(path_or_id: str, split: str) -> Any:
    """A `datasets.Dataset` with images undecoded: a `save_to_disk` folder or a hub id.

    Raises `InputError` naming what could not be reached, and the splits there are.
    """
    import datasets

    loaded: Any
    is_local = is_url(path_or_id) or path_or_id.startswith("/")
    try:
        if is_local:
            _refuse_foreign_files(path_or_id)
            one_file = path_or_id.endswith(".arrow")
            loaded = (_arrow_file if one_file else datasets.load_from_disk)(path_or_id)
        else:
            name, revision, subset = hub_parts(path_or_id)
            loaded = datasets.load_dataset(name, subset, split=split, revision=revision)
    # The hub's clients raise a dozen unrelated types (offline, 401, unknown split, bad script …).
    except Exception as error:  # noqa: BLE001
        raise InputError(
            f"data set {path_or_id!r} (split {split!r}) cannot be loaded: {error}."
            " Check its name and split; without a network it must be in the local cache"
        ) from None
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            raise InputError(
                f"data set {path_or_id!r} has no split {split!r}; there are"
                f" {', '.join(sorted(loaded))}: set the source's `split`"
            )
        loaded = loaded[split]
    if is_local:
        _check_offsets(loaded, path_or_id)
    return plain(loaded)


def _check_offsets(dataset: Any, path: str) -> None:
    """Raise `InputError` for a damaged or hostile Arrow file, whose offsets lead anywhere: Arrow
    maps it into memory and follows them, which ends the process."""
    import pyarrow as pa

    try:
        for batch in dataset.data.table.to_batches():
            batch.validate(full=True)
    except pa.ArrowInvalid as error:
        raise InputError(f"data set {path!r} is damaged: {error}: get it anew") from None


def hub_parts(hub_id: str) -> tuple[str, str | None, str | None]:
    """`org/name@revision:subset` in its parts."""
    name, _, subset = hub_id.partition(":")
    name, _, revision = name.partition("@")
    return name, revision or None, subset or None


def hub_commit(hub_id: str) -> str | None:
    """The commit of a data set that was loaded from the hub, by its cache; None: unknown."""
    from huggingface_hub import constants

    name, revision, _ = hub_parts(hub_id)
    if revision and re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    cached = Path(constants.HF_HUB_CACHE, f"datasets--{name.replace('/', '--')}", "refs")
    try:
        return (cached / (revision or "main")).read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _arrow_file(path: str) -> Any:
    """A file of a data set's cache (a stream of batches), or one that other programs wrote."""
    import datasets
    import pyarrow as pa

    try:
        return datasets.Dataset.from_file(path)
    except pa.ArrowInvalid:
        table = pa.ipc.open_file(pa.memory_map(path)).read_all()
        return datasets.Dataset(datasets.table.InMemoryTable(table))


def plain(dataset: Any) -> Any:
    """The data set as Arrow tables: values as they are stored, where `datasets` would decode
    pictures, sounds and pages, and open the paths in their cells for that."""
    return dataset.with_format("arrow")


def _refuse_foreign_files(folder: str) -> None:
    """Raise `InputError` for a data set whose data files lie outside of its own folder."""
    fs, inside = resolve(absolute(folder))
    for state in fs.glob(f"{inside.rstrip('/')}/**/state.json"):
        named = [entry["filename"] for entry in json.loads(fs.cat_file(state))["_data_files"]]
        foreign = next((name for name in named if posixpath.basename(name) != name), None)
        if foreign is not None:
            raise InputError(f"{state}: names {foreign!r} as its data, outside of its own folder")


_dataset = lru_cache(maxsize=4)(open_dataset)


@lru_cache(maxsize=8)
def _dataset_column(path_or_id: str, split: str, column: str) -> Any:
    return _dataset(path_or_id, split).select_columns([column])


class _ParquetColumn:
    """One column of an open Parquet file; `value(row)` is cheap near the rows asked for before."""

    def __init__(self, uri: str, column: str) -> None:
        self._file = ParquetFile(absolute(uri), buffer_bytes=2**20)
        self._column = column
        self._lock = threading.Lock()
        self._batches: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._held = 0
        # group -> (batches still to come, number of the next one); one cursor is open at a time
        self._cursor: tuple[int, Iterator[Any], int] | None = None
        meta = self._file.metadata
        paths = [meta.schema.column(i).path for i in range(meta.num_columns)]
        leaves = [i for i, path in enumerate(paths) if path.split(".", 1)[0] == column]
        if not leaves:
            raise KeyError(f"no column {column!r}")
        self._starts, self._sizes, start = [], [], 0
        for g in range(meta.num_row_groups):
            group = meta.row_group(g)
            size = sum(group.column(i).total_uncompressed_size for i in leaves)
            per_row = max(1, size // max(1, group.num_rows))
            self._starts.append(start)
            self._sizes.append(max(1, min(BATCH_ROWS, BATCH_BYTES // per_row)))
            start += group.num_rows
        self._rows = start

    def value(self, row: int) -> Any:
        """The cell as Python objects. Raises `IndexError` past the last row."""
        if not 0 <= row < self._rows:
            raise IndexError(f"row {row} of {self._rows}")
        with self._lock:
            group = bisect_right(self._starts, row) - 1
            number, offset = divmod(row - self._starts[group], self._sizes[group])
            return self._batch(group, number).column(0)[offset].as_py()

    def _batch(self, group: int, number: int) -> Any:
        key = (group, number)
        if key in self._batches:
            self._batches.move_to_end(key)
            return self._batches[key]
        batches, first = self._file.batches(self._sizes[group], [self._column], group), 0
        if self._cursor and self._cursor[0] == group and self._cursor[2] <= number:
            _, batches, first = self._cursor
        for at, batch in enumerate(batches, start=first):
            if (group, at) not in self._batches:
                self._batches[group, at] = batch
                self._held += batch.nbytes
            while self._held > KEPT_BYTES and len(self._batches) > 1:
                self._held -= self._batches.popitem(last=False)[1].nbytes
            self._cursor = (group, batches, at + 1)
            if at == number:
                return batch
        raise IndexError(f"row group {group} ends before batch {number}")


_parquet_column = lru_cache(maxsize=8)(_ParquetColumn)
