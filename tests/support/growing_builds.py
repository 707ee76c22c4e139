"""Builds whose inputs grow: sources by letter, a few questions each."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fake_samplers
from build_files import write_jsonl
from small_builds import SERVED, sample_here

from mmpr_builder.config import Config, load_config
from mmpr_builder.folder.manifest import Manifest

Row = dict[str, Any]


def question(number: int, **more: object) -> Row:
    return {"id": f"q{number}", "question": f"What is {number} + 1?", "answer": "1", **more}


FIRST = [question(i) for i in range(9)]
SECOND = [question(i) for i in range(20, 26)]


def write(tmp_path: Path, **files: Sequence[Row]) -> None:
    for name, rows in files.items():
        write_jsonl(tmp_path / f"{name}.jsonl", rows)


def make_config(tmp_path: Path, sources: str, *overrides: str, out: str = "out") -> Config:
    """Sources by letter, `a2` with a limit of 2 rows."""
    named = re.findall(r"([a-z])(\d*)", sources)
    tables = [{"path": f"{tmp_path}/{name}.jsonl", "limit": int(n or 99)} for name, n in named]
    return load_config(
        None,
        [
            *(*SERVED, "sampling.n=4", "model=fake", "distributed.unit_queries=4"),
            *(f"seeds={json.dumps(tables)}", f"out={tmp_path / out}"),
            "scoring.scorer=exact",
            *overrides,
        ],
    )


def sample(config: Config, *, extend: bool = False, planned: Manifest | None = None) -> list[str]:
    """The first half without Ray; returns the ids of the seeds that were asked."""
    noting = fake_samplers.Noting()
    sample_here(config, lambda _: noting, extend=extend, manifest=planned)
    return [request.id for request in noting.asked]
