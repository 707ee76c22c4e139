"""The folder of an export: it appears whole or not at all, and its images are named by content.

DEST/export.json            what it is: format, counts, options, entries
DEST/drops.jsonl            rows the trainer could not use: row, id, reason, detail
DEST/images/3f/3f9a….png    written once, whatever the number of pairs that show it
DEST/pairs/part-00000.parquet  for trainers that read Parquet
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from mmpr_builder.errors import BuildConflictError, InputError, RowError
from mmpr_builder.export.items import digest_of
from mmpr_builder.io import images, stores, tables
from mmpr_builder.io.stores import is_url
from mmpr_builder.output.shards import Rows, ShardWriter

MARK = "export.json"
"""Marks a folder as a complete export."""

_BLOCK = 8 * 2**20
_ROWS = 64  # Made a table together: of images of a few hundred KB each.
_ROW_GROUP_BYTES = 64 * 2**20
_SHARD_BYTES = 512 * 2**20
_LINE_BREAKS = {ord(c): f"\\u{ord(c):04x}" for c in "\x85\u2028\u2029"}


@contextmanager
def staged(dest: str, *, overwrite: bool, mark: str = MARK) -> Iterator[tuple[Path, Path]]:
    """(hidden folder to write into, final folder): renamed when the block ends without an error.

    What is there is replaced only with `overwrite`, and only if it holds the file `mark`. Raises
    `InputError` for a URL or a place where no folder can be, `BuildConflictError` where something
    else is in the way.
    """
    if is_url(dest):
        raise InputError(f"{dest}: only a local folder can be written: give one, then copy it")
    target = Path(os.path.abspath(os.path.expanduser(dest)))
    _check_free(target, overwrite=overwrite, mark=mark)
    hidden = target.parent / f".{target.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}"
    growing = hidden / target.name  # Of its final name: some loaders go by the folder's.
    try:
        with stores.naming(target):
            growing.mkdir(parents=True)
    except (FileNotFoundError, NotADirectoryError, FileExistsError) as error:
        raise InputError(
            f"{target}: no folder can be made there ({error.strerror}): give another place"
        ) from None
    try:
        with stores.naming(target):
            yield growing, target
        # Hours may have passed, and another export may have come first.
        _check_free(target, overwrite=overwrite, mark=mark)
        replaced = hidden / "replaced"
        if target.exists():
            target.rename(replaced)
        try:
            growing.rename(target)
        except OSError:
            if replaced.exists():
                replaced.rename(target)
            raise
        stores.sync(target.parent)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _check_free(target: Path, *, overwrite: bool, mark: str) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise BuildConflictError(f"{target} is a file: give a folder that is not there yet")
    if (target / mark).exists():
        if not overwrite:
            raise BuildConflictError(
                f"{target} holds one already ({mark}): give another folder, or --overwrite"
            )
    elif any(target.iterdir()):
        raise BuildConflictError(
            f"{target} is not empty and has no {mark}: give a folder that is not there yet"
        )


def json_line(row: Mapping[str, Any]) -> str:
    """One line of JSON; no character in it ends a line for any reader."""
    return json.dumps(row, ensure_ascii=False).translate(_LINE_BREAKS) + "\n"


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


class JsonlFiles:
    """Rows for many files at once, appended in blocks: a release has hundreds of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: dict[str, list[str]] = {}
        self._size = 0
        self.rows: Counter[str] = Counter()

    def add(self, name: str, row: Mapping[str, Any]) -> None:
        """Append one row to `FOLDER/name`."""
        line = json_line(row)
        self._waiting.setdefault(name, []).append(line)
        self._size += len(line)
        self.rows[name] += 1
        if self._size >= _BLOCK:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        for name, lines in self._waiting.items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8", newline="\n") as file:
                file.writelines(lines)
        self._waiting, self._size = {}, 0


class ImageFiles:
    """Images of an export: `add` writes each once and says where it is, relative to `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[bytes, str] = {}

    def __len__(self) -> int:
        return len(self._names)

    def add(self, data: bytes) -> str:
        """`3f/3f9a….png`. Raises `RowError` "image_unreadable" where it is no known format."""
        digest = digest_of(data)
        name = self._names.get(digest)
        if name is None:
            whole = digest.hex()
            name = f"{whole[:2]}/{whole}.{suffix_of(data)}"
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            self._names[digest] = name
        return name


def suffix_of(data: bytes) -> str:
    """`png`, `jpg`, …: by what the bytes are. Raises `RowError` "image_unreadable"."""
    try:
        with Image.open(images.Paced(data), formats=images.FORMATS) as image:
            found = str(image.format).lower()
    # Decoders of broken headers raise anything.
    except Exception as error:  # noqa: BLE001
        raise RowError("image_unreadable", str(error)) from None
    return "jpg" if found == "jpeg" else found


class ParquetFiles:
    """Appends rows to `part-00000.parquet`, … of a folder; the first is there without rows, too."""

    def __init__(self, folder: Path, schema: pa.Schema, *, shard_bytes: int = _SHARD_BYTES) -> None:
        self._schema = schema
        self._held: list[Mapping[str, Any]] = []
        self._shards = ShardWriter(
            str(folder), schema, row_group_bytes=_ROW_GROUP_BYTES, shard_bytes=shard_bytes
        )

    def add(self, row: Mapping[str, Any]) -> None:
        """Append one row of plain values."""
        self._held.append(row)
        if len(self._held) == _ROWS:
            self._pass_on()

    def close(self) -> None:
        """Write what is held and finish the last file."""
        if self._held:
            self._pass_on()
        self._shards.close()

    def _pass_on(self) -> None:
        self._shards.add(Rows(tables.to_table(self._held, self._schema)))
        self._held = []
