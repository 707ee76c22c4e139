"""The data card (`README.md`) of a build, in the Hugging Face hub's format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def render_card(run: Mapping[str, Any]) -> str:
    """The card of a build from the content of its run.json (times and versions are not used)."""
    counts = run["counts"]
    header = {
        "pretty_name": run["name"],
        "license": "other",
        "license_name": "see-sources",
        "task_categories": ["image-text-to-text", "visual-question-answering"],
        "tags": ["preference", "dpo", "mpo", "multimodal", "chain-of-thought", "synthetic"],
        "size_categories": [_size(counts["pairs"]["total"])],
        # Only the pairs: without this the hub would take rollouts and drops for data as well.
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "pairs/*.parquet"}],
            }
        ],
    }
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    environment.filters["cell"] = _cell
    template = environment.from_string(
        Path(__file__).with_name("card.md.j2").read_text(encoding="utf-8")
    )
    yaml_header = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    body = template.render(
        name=run["name"], config=run["config"], counts=counts, drops=_drop_rows(counts["drops"])
    )
    return f"---\n{yaml_header}---\n\n{body}"


def _drop_rows(drops: Mapping[str, Mapping[str, int]]) -> list[tuple[str, str, int]]:
    rows = [(stage, reason, n) for stage, by in drops.items() for reason, n in by.items()]
    return sorted(rows, key=lambda row: (-row[2], row[0], row[1]))


def _size(pairs: int) -> str:
    return next((name for limit, name in _SIZES if pairs < limit), "n>1M")


def _cell(value: object) -> str:
    """Any value as the content of one table cell or code span of Markdown."""
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return " ".join(text.split()).replace("|", "\\|").replace("`", "'")
