"""The columns of seeds, rollouts and drops on disk, one explicit schema for each."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from mmpr_builder.config import Config

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
images, and for each of `responses` its continuations after the first one. Other builds do not have
them, and the bytes that they had before there were any."""

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
    """Whether a file has exactly the columns of a schema.

    Rollouts of a version before a column was added, and those with optional columns, fit, too.
    """
    if expected.equals(ROLLOUT_SCHEMA):
        expected = rollout_schema(found.names)
    added = {name for name in _ADDED if name not in found.names}
    columns = [column for column in expected if column.name not in added]
    return bool(found.equals(pa.schema(columns), check_metadata=False))
