"""Puts one fault into the pairs of a finished build, as a careless script would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mmpr_builder.io import tables


def plant(
    out: Path,
    number: int,
    *,
    chosen: str | None = None,
    rejected: str | None = None,
    prompt: list[str | None] | None = None,
    images: list[bytes | None] | None = None,
    **columns: Any,
) -> str:
    """Change row `number` of a build's only shard. Returns the pair's id.

    `prompt` has a text for each text and None for each image; `images` are encoded bytes.
    """
    (part,) = sorted((out / "pairs").glob("*.parquet"))
    table = pq.read_table(part)
    rows = table.to_pylist()
    row = rows[number]
    for side, text in (("chosen", chosen), ("rejected", rejected)):
        if text is not None:
            row[side] = [{"role": "assistant", "content": [{"type": "text", "text": text}]}]
            row[f"{side}_text"] = text
    if prompt is not None:
        parts = [{"type": "image" if text is None else "text", "text": text} for text in prompt]
        row["prompt"] = [{"role": "user", "content": parts}]
        row["prompt_text"] = "".join("<image>\n" if text is None else text for text in prompt)
    if images is not None:
        row["images"] = [{"bytes": data, "path": None} for data in images]
    row.update(columns)
    tables.write_parquet(tables.to_table(rows, table.schema), part)
    return str(row["id"])
