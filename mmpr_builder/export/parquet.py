"""Plain rows, one at a time, into Parquet files like those of a build, in a local folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmpr_builder import tables
from mmpr_builder.output.pieces import TableRows
from mmpr_builder.output.shards import ShardWriter

_ROWS = 64  # Made a table together: of images of a few hundred KB each.
_ROW_GROUP_BYTES = 64 * 2**20
_SHARD_BYTES = 512 * 2**20


class ParquetFiles:
    """Appends rows to `part-00000.parquet`, `part-00001.parquet`, … of a folder.

    There is always a first file, so that no rows keep their schema.
    """

    def __init__(self, folder: Path, schema: pa.Schema, *, shard_bytes: int = _SHARD_BYTES) -> None:
        self._schema = schema
        self._held: list[Mapping[str, Any]] = []
        self._shards: ShardWriter[TableRows] = ShardWriter(
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
        self._shards.add(TableRows(tables.to_table(self._held, self._schema)))
        self._held = []
