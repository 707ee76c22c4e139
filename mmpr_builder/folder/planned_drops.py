"""What planning drops, kept on disk: a source of a million rows can lose most of them.

with DropFile() as drops:
    drops.add(7, Drop("q7", "seeds", "empty_question"))
    drops.publish("out/seeds/drops.parquet")
for index, drop in PlannedDrops("out/seeds/drops.parquet", 1): …
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from mmpr_builder.io.stores import put_file, scratch_folder
from mmpr_builder.io.tables import DROP_SCHEMA, ParquetFile, drops_from_table, plain, to_table
from mmpr_builder.records import Drop

NUMBERED_DROPS = pa.schema([pa.field("index", pa.int64()), *DROP_SCHEMA])
_AT_ONCE = 4096  # Drops held at a time, writing and reading: some 2 MB.


class DropFile:
    """Takes drops with their index, in that order; holds a file on this machine's disk."""

    def __init__(self) -> None:
        self._held = ExitStack()
        self._rows: list[dict[str, object]] = []
        self.count = 0

    def __enter__(self) -> Self:
        self._local = self._held.enter_context(scratch_folder()) / "drops.parquet"
        self._writer = pq.ParquetWriter(self._local, NUMBERED_DROPS, compression="zstd")
        self._held.callback(self._writer.close)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.close()

    def add(self, index: int, drop: Drop) -> None:
        """Keep the drop of the input row of that index."""
        self._rows.append({"index": index, **plain(drop)})
        self.count += 1
        if len(self._rows) >= _AT_ONCE:
            self._flush()

    def publish(self, uri: str) -> None:
        """Put all of them under `uri`; no more can be added."""
        self._flush()
        self._writer.close()
        put_file(self._local, uri)

    def _flush(self) -> None:
        if self._rows:
            table = to_table(self._rows, NUMBERED_DROPS).combine_chunks()
            self._writer.write_table(table, row_group_size=_AT_ONCE)
        self._rows = []


@dataclass(frozen=True, slots=True)
class PlannedDrops:
    """(index, drop) of all that was dropped, in order; read anew, piece by piece, each time."""

    uri: str = ""
    count: int = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[int, Drop]]:
        if not self.count:
            return
        with self._open() as file:
            groups = file.metadata.num_row_groups
        for group in range(groups):
            with self._open() as file:  # Each time: pairing takes hours in between.
                table = file.read(group=group)
            for start in range(0, table.num_rows, _AT_ONCE):
                rows = table.slice(start, _AT_ONCE)
                drops = drops_from_table(rows.drop_columns(["index"]))
                yield from zip(rows["index"].to_pylist(), drops, strict=True)

    def _open(self) -> ParquetFile:
        return ParquetFile(self.uri, fix="restore it, or start again with another out=")
