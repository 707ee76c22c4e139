"""Reads what a build left: its pairs, and its run.json."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmpr_builder import tables
from mmpr_builder.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset


def read_run(out: str | Path) -> dict[str, Any]:
    """The content of a build's run.json. Raises `InputError` when there is none."""
    uri = f"{os.fspath(out).rstrip('/')}/run.json"
    fs, path = tables.resolve(uri)
    try:
        run: dict[str, Any] = json.loads(fs.cat_file(path))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{uri}: no finished build here ({error}): run `mmpr build` or `mmpr pair` first"
        ) from None
    return run


def pair_parts(path: str | Path) -> list[str]:
    """The Parquet parts of a build folder, a pairs folder, or a single file.

    Raises `InputError` when there is none.
    """
    base = os.fspath(path).rstrip("/")
    if base.endswith(".parquet"):
        parts = [base] if tables.is_complete(base) else []
    else:
        parts = tables.list_parts(f"{base}/pairs") or tables.list_parts(base)
    if not parts:
        raise InputError(
            f"{base}: no pairs here: give a build's folder, its pairs folder or a Parquet file"
        )
    return parts


def load_pairs(path: str | Path) -> Dataset:
    """The pairs of a build as a `datasets.Dataset`, images decoded when a row is read.

    `path` is a build's folder, its `pairs` folder or one Parquet file. The result goes into TRL's
    `DPOTrainer` as it is. Raises `InputError` when there are no pairs.
    """
    from datasets import load_dataset

    return load_dataset("parquet", data_files=pair_parts(path), split="train")
