"""Records <-> Arrow by columns, and the columns of seeds, rollouts and drops on disk.

    [Response("3", 7, …), Response("4", 9, …)]  <->  struct<text: ["3", "4"], tokens: [7, 9], …>

A dict per record would cost several times as much as all else on a response's way to disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from mmpr_builder.config import Config

T = TypeVar("T")

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
_SAMPLE = pa.struct(
    [
        ("text", pa.string()),
        ("tokens", pa.int64()),
        ("finish_reason", pa.string()),
        ("seed", pa.int64()),
        ("logprob", pa.float64()),
    ]
)
_RESPONSE = pa.struct([*_SAMPLE, ("continuation", _CONTINUATION)])
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
        ("stop", pa.string()),
    ]
)
"""One row per seed with all its responses; the seed's own columns come first."""

BLIND, FURTHER = "blind", "further_continuations"
OPTIONAL_COLUMNS: dict[str, pa.DataType] = {
    BLIND: pa.list_(_SAMPLE),
    FURTHER: pa.list_(pa.list_(_CONTINUATION)),
}
"""Columns behind those of `ROLLOUT_SCHEMA` where a build asks for what is in them: samples without
images, and for each of `responses` its continuations after the first one."""

_ADDED = ("stop",)  # Columns that rollouts of earlier versions do not have.

DROP_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
"""One row per seed (or input row) that ended without a pair."""


def optional_columns(config: Config) -> tuple[str, ...]:
    """Names of the `OPTIONAL_COLUMNS` that all rollouts of a build have."""
    asked = {BLIND: config.sampling.blind > 0, FURTHER: len(config.dropout.keep) > 1}
    return tuple(name for name, is_asked in asked.items() if is_asked)


def rollout_schema(optional: Iterable[str]) -> pa.Schema:
    """`ROLLOUT_SCHEMA` with some of the `OPTIONAL_COLUMNS`."""
    named = set(optional)
    more = [pa.field(name, kind) for name, kind in OPTIONAL_COLUMNS.items() if name in named]
    return pa.schema([*ROLLOUT_SCHEMA, *more])


def fits(found: pa.Schema, expected: pa.Schema) -> bool:
    """Whether a file has exactly the columns of a schema; rollouts with optional columns, or of a
    version before a column was added, fit, too."""
    if expected.equals(ROLLOUT_SCHEMA):
        expected = rollout_schema(found.names)
    added = {name for name in _ADDED if name not in found.names}
    columns = [column for column in expected if column.name not in added]
    return bool(found.equals(pa.schema(columns), check_metadata=False))


def storable(text: str) -> str:
    """Text that UTF-8 can hold: a surrogate pair becomes its character, a lone half (from servers
    that cut JSON inside an emoji) U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def plain(value: Any) -> Any:
    """A record as dicts, lists and storable text."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value


def values_array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Values of one type, None for null; texts are made `storable`."""
    try:
        return pa.array(values, type=kind)
    except UnicodeEncodeError:
        return pa.array(plain(list(values)), type=kind)


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
