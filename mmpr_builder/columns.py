"""Records <-> Arrow by columns: many small records at once, field by field.

    [Response("3", 7, …), Response("4", 9, …)]  <->  struct<text: ["3", "4"], tokens: [7, 9], …>

A dict per record and a look at the type of each of its values cost several times as much as
everything else that is done with a response on its way to disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

T = TypeVar("T")


def storable(text: str) -> str:
    """Text that UTF-8 can hold: a surrogate pair becomes its character, a lone half U+FFFD.

    Servers that cut JSON inside an emoji hand out such halves; Arrow refuses them.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def values_array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Plain values of one type, None for null; texts as `storable` has them."""
    try:
        return pa.array(values, type=kind)
    except UnicodeEncodeError:
        return pa.array([storable(v) if isinstance(v, str) else v for v in values], type=kind)


def records_array(records: Sequence[Any], kind: pa.StructType) -> pa.StructArray:
    """Records, or None, as a struct array whose fields are attributes of theirs."""
    columns = []
    for field in kind:
        values = [None if record is None else getattr(record, field.name) for record in records]
        is_struct = pa.types.is_struct(field.type)
        columns.append((records_array if is_struct else values_array)(values, field.type))
    missing = [record is None for record in records]
    mask = pa.array(missing, type=pa.bool_()) if any(missing) else None
    return pa.StructArray.from_arrays(columns, fields=list(kind), mask=mask)


def lists_array(groups: Sequence[Sequence[Any]], kind: pa.ListType) -> pa.ListArray:
    """Groups of records as an array of lists of structs."""
    ends = np.cumsum([0, *map(len, groups)], dtype=np.int32)
    flat = [record for group in groups for record in group]
    items = records_array(flat, kind.value_type)
    return pa.ListArray.from_arrays(pa.array(ends), items, type=kind)


def records_of(
    array: pa.StructArray, make: Callable[..., T], **nested: Callable[..., Any]
) -> list[T | None]:
    """The inverse of `records_array`: `make` gets the fields in their order, `nested` makes the
    records in fields of that name."""
    if not len(array):
        return []
    columns = [
        records_of(column, nested[field.name]) if field.name in nested else column.to_pylist()
        for field, column in zip(array.type, array.flatten(), strict=True)
    ]
    rows = zip(*columns, strict=True)
    if not array.null_count:
        return [make(*row) for row in rows]
    there = array.is_valid().to_pylist()
    return [make(*row) if valid else None for valid, row in zip(there, rows, strict=True)]


def groups_of(
    array: pa.ListArray, make: Callable[..., T], **nested: Callable[..., Any]
) -> list[tuple[T, ...]]:
    """The inverse of `lists_array`."""
    starts = array.offsets.to_pylist()
    first = starts[0]
    items: list[Any] = records_of(array.flatten(), make, **nested)
    return [tuple(items[start - first : stop - first]) for start, stop in pairwise(starts)]
