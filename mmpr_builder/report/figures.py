"""The figures of the report, reduced to the bars that the page draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmpr_builder import tables
from mmpr_builder.records import Kind

BINS = 24


@dataclass(frozen=True, slots=True)
class Bar:
    """A labelled bar; `share` (0 to 1) is its length beside the longest one."""

    label: str
    count: int
    share: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of the chosen and rejected texts of one kind.

    The curves are points "x,y x,y …" of a drawing 240 wide and 60 high, `longest` tokens wide.
    """

    kind: str
    pairs: int
    chosen_mean: float
    rejected_mean: float
    longest: int
    chosen_curve: str
    rejected_curve: str


def drop_bars(drops: Mapping[str, Mapping[str, int]]) -> list[Bar]:
    """Reasons why seeds gave no pair, the most frequent first."""
    rows = [(n, reason, stage) for stage, by in drops.items() for reason, n in by.items()]
    most = max((n for n, _, _ in rows), default=1)
    return [
        Bar(label=reason, count=n, share=n / most, note=stage)
        for n, reason, stage in sorted(rows, key=lambda row: (-row[0], row[1], row[2]))
    ]


def pass_rate_bars(rates: Mapping[str, int]) -> list[Bar]:
    """Seeds by their share of right responses: none, nine tenths in between, all.

    Pairs come from what lies between none and all.
    """
    labels = ["0", *(f"–{upper}" for upper in range(10, 100, 10)), "–99", "100"]
    counts = [0] * len(labels)
    for text, n in rates.items():
        rate = float(text)
        place = 0 if rate == 0 else len(labels) - 1 if rate >= 1 else 1 + int(rate * 10 - 1e-9)
        counts[place] += n
    most = max(1, *counts)
    return [Bar(label, n, n / most) for label, n in zip(labels, counts, strict=True)]


def read_lengths(parts: Sequence[str]) -> list[Lengths]:
    """Length distributions by kind, for the kinds that occur."""
    columns = ("kind", "chosen_tokens", "rejected_tokens")
    table = pa.concat_tables([t for part in parts for t in _groups(part, columns)])
    found = []
    for kind in get_args(Kind):
        rows = table.filter(pa.compute.equal(table["kind"], kind))
        if rows.num_rows:
            chosen, rejected = (rows[name].to_numpy() for name in columns[1:])
            found.append(_lengths(kind, chosen, rejected))
    return found


def _lengths(kind: str, chosen: Any, rejected: Any) -> Lengths:
    # The longest of a thousand hardly shows, but would squeeze all others to the left.
    longest = max(1, int(np.ceil(np.quantile(np.concatenate([chosen, rejected]), 0.995))))
    edges = np.linspace(0, longest, BINS + 1)
    heights = [np.histogram(np.minimum(side, longest), edges)[0] for side in (chosen, rejected)]
    top = max(1, *(int(h.max()) for h in heights))
    return Lengths(
        kind=kind,
        pairs=len(chosen),
        chosen_mean=float(chosen.mean()),
        rejected_mean=float(rejected.mean()),
        longest=longest,
        chosen_curve=_curve(heights[0] / top),
        rejected_curve=_curve(heights[1] / top),
    )


def _curve(heights: Any) -> str:
    step = 240 / BINS
    points = [(0.0, 60.0)]
    for i, height in enumerate(heights):
        y = 60 - 56 * float(height)
        points += [(i * step, y), ((i + 1) * step, y)]
    points.append((240.0, 60.0))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _groups(part: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    fs, path = tables.resolve(part)
    with fs.open(path, "rb") as file:
        parquet = pq.ParquetFile(file)
        yield parquet.schema_arrow.empty_table().select(list(columns))
        for group in range(parquet.num_row_groups):
            yield parquet.read_row_group(group, columns=list(columns))
