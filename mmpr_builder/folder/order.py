"""The order in which pairing reads the rollouts: that of the input.

A build that never grew is read part after part. An extended build keeps its parts, but new rows can
stand between old ones: seeds keep the index that they got when they came, and
seeds/order-N.parquet has the difference to their place in the input now.

    first  shift          index 0–99 at place 0–99, 100–149 (the second file) moved behind 20 new
        0      0          rows of the first one, which got the indices 150–169
      100     20
      150    -50
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa

from mmpr_builder.folder import join
from mmpr_builder.folder.manifest import Manifest, Unit
from mmpr_builder.io.tables import read_parquet, rollouts_from_table, write_parquet
from mmpr_builder.records import Rollout

Shift = tuple[int, int]
"""(first index, what to add to it and to later ones for their place in the input)."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Rollouts of one part that stand together in the order of the input."""

    uri: str
    first: int = 0
    stop: int | None = None
    """Index behind the last one; None: to the end of the part."""
    shift: int = 0
    """Place in the input less index."""
    is_head: bool = True
    """Whether it begins where its part begins."""
    image_bytes: int = 0
    """Of all images of the part, if known."""
    kept: Callable[[], list[Rollout]] | None = None
    """Reads the part where it is not there as a whole yet."""

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole part, as in a build that never grew."""
        return self.is_head and self.stop is None

    @property
    def name(self) -> str:
        """`unit-00003`, or `unit-00003-150` for a later slice of it."""
        return self.stem if self.is_head else f"{self.stem}-{self.first}"

    @property
    def stem(self) -> str:
        """The name of its part."""
        return PurePosixPath(self.uri).stem

    def holds(self, index: int) -> bool:
        return index >= self.first and (self.stop is None or index < self.stop)

    def read(self) -> list[Rollout]:
        """Its rollouts, each with its place in the input as index, in order."""
        read = self.kept() if self.kept else rollouts_from_table(read_parquet(self.uri))
        placed = [replace(r, index=r.index + self.shift) for r in read if self.holds(r.index)]
        return sorted(placed, key=lambda rollout: rollout.index)


def shifts_of(places: Iterable[tuple[int, int]]) -> list[Shift]:
    """The shifts from (index, place in the input) of all seeds.

    One ends where the next seed by index is not the next one in the input, too: new rows can have
    come into the gap that a dropped row left among the indices.
    """
    kind = np.dtype([("index", np.int64), ("place", np.int64)])
    rows = np.sort(np.fromiter(places, kind), order="index")
    index, place = rows["index"], rows["place"]
    rank = np.empty(len(rows), np.int64)
    rank[np.argsort(place)] = np.arange(len(rows))
    shift = place - index
    begins = np.ones(len(rows), bool)
    begins[1:] = (np.diff(rank) != 1) | (np.diff(shift) != 0)
    return list(zip(index[begins].tolist(), shift[begins].tolist(), strict=True))


def order_uri(out: str, extensions: int) -> str:
    return join(out, "seeds", f"order-{extensions}.parquet")


def write_order(out: str, extensions: int, shifts: Sequence[Shift]) -> None:
    table = pa.table(
        {
            "first": pa.array([first for first, _ in shifts], pa.int64()),
            "shift": pa.array([shift for _, shift in shifts], pa.int64()),
        }
    )
    write_parquet(table, order_uri(out, extensions))


def read_order(out: str, manifest: Manifest) -> list[Shift]:
    """The shifts of a build; [] for one that never grew."""
    if not manifest.extensions:
        return []
    table = read_parquet(order_uri(out, manifest.extensions))
    return list(zip(table["first"].to_pylist(), table["shift"].to_pylist(), strict=True))


def in_order(parts: Sequence[tuple[Unit, Slice]], shifts: Sequence[Shift]) -> list[Slice]:
    """The units' parts, cut and sorted into the order of the input."""
    if not shifts:
        return [part for _, part in parts]
    parts = sorted(parts, key=lambda pair: pair[0].first)
    ends = [*(after.first for _, (after, _) in pairwise(parts)), 2**62]
    slices = [
        piece
        for (unit, part), end in zip(parts, ends, strict=True)
        for piece in _pieces(unit.first, end, part, shifts)
    ]
    return sorted(slices, key=lambda piece: piece.first + piece.shift)


def _pieces(first: int, end: int, part: Slice, shifts: Sequence[Shift]) -> Iterator[Slice]:
    """One part, with indices from `first` up to `end`, in slices of one shift each."""
    at = bisect_right(shifts, first, key=lambda shift: shift[0]) - 1
    stop = bisect_left(shifts, end, key=lambda shift: shift[0])
    for number in range(at, stop):
        start, shift = shifts[number]
        until = shifts[number + 1][0] if number + 1 < len(shifts) else end
        yield replace(
            part,
            first=max(first, start),
            stop=min(until, end),
            shift=shift,
            is_head=start <= first,
        )
