"""What a test puts into files, and what it finds in those of a build."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmpr_builder.io.tables import drops_from_table, list_parts, read_parquet, rollouts_from_table
from mmpr_builder.records import Drop, Rollout


def write_jsonl(path: Path, rows: Iterable[Any]) -> Path:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def rows_in(folder: str | Path, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The rows of all parts, in order."""
    tables = [read_parquet(part, columns) for part in list_parts(str(folder))]
    return [row for table in tables for row in table.to_pylist()]


def drops_in(out: str | Path) -> list[Drop]:
    parts = list_parts(f"{out}/drops")
    return [drop for part in parts for drop in drops_from_table(read_parquet(part))]


def rollouts_in(out: str | Path) -> list[Rollout]:
    parts = list_parts(f"{out}/rollouts")
    return [rollout for part in parts for rollout in rollouts_from_table(read_parquet(part))]


def files_in(folder: str | Path, *names: str) -> dict[str, bytes]:
    """Path below `folder` -> bytes, of every file, hidden ones too, or of those below `names`."""
    root = Path(folder)
    tops = [root / name for name in names] or [root]
    files = sorted(path for top in tops for path in top.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}
