"""How large rows are in memory, each for itself: where a file or a row group ends depends on it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Sizes = npt.NDArray[np.int64]


def row_bytes(table: pa.Table) -> Sizes:
    """Bytes that each row takes in Arrow, near enough to bound a row group; shape (rows,).

    A row's size depends on its values alone, never on the rows beside it.
    """
    if not table.num_rows:
        return np.zeros(0, np.int64)
    batches = table.to_batches()
    return np.concatenate([_sum(_sizes(column) for column in batch.columns) for batch in batches])


def _sizes(array: pa.Array) -> Sizes:
    kind = array.type
    if pa.types.is_struct(kind):
        return _sum(_sizes(array.field(i)) for i in range(kind.num_fields))
    if pa.types.is_list(kind):
        before = np.concatenate([[0], np.cumsum(_sizes(array.values))])
        offsets = array.offsets.to_numpy()
        return np.asarray(4 + before[offsets[1:]] - before[offsets[:-1]], np.int64)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        lengths = pc.binary_length(array).fill_null(0)
        return np.asarray(4 + lengths.to_numpy(zero_copy_only=False), np.int64)
    return np.full(len(array), 8, np.int64)


def _sum(sizes: Iterable[Sizes]) -> Sizes:
    return reduce(np.add, sizes)
