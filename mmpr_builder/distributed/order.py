"""In which order the second half goes through the rollouts.

A build that never grew is read part after part. One that was extended keeps its parts, and what
came later can stand between what was there: its seeds carry the index they were given when they
came, and seeds/order-N.parquet tells by how much each differs from its place in the input now.

    first  shift          index 0–99 at place 0–99, 100–149 (the second file) moved behind 20 new
        0      0          rows of the first one, which got the indices 150–169
      100     20
      150    -50
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath

import pyarrow as pa

from mmpr_builder.distributed.manifest import Manifest, Unit
from mmpr_builder.distributed.storage import join
from mmpr_builder.tables import read_parquet, write_parquet

Shift = tuple[int, int]
"""(first index, what to add to it and to those after it for their place in the input)."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Rollouts of one part that stand together in the order of the input."""

    uri: str
    first: int = 0
    """Index of the first one."""
    stop: int | None = None
    """Index behind the last one; None: all that follow."""
    shift: int = 0
    """Place in the input less index."""
    is_head: bool = True
    """Whether it begins where its part begins."""

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its part, as in a build that never grew."""
        return self.is_head and self.stop is None

    @property
    def name(self) -> str:
        """`unit-00003`, or `unit-00003-150` for a later piece of it."""
        stem = PurePosixPath(self.uri).stem
        return stem if self.is_head else f"{stem}-{self.first}"

    def holds(self, index: int) -> bool:
        return index >= self.first and (self.stop is None or index < self.stop)


def shifts_of(places: Iterable[tuple[int, int]]) -> list[Shift]:
    """The shifts from (index, place in the input) of all seeds.

    One ends where the next seed by index is not the next one in the input, too: into a gap that a
    dropped row left among the indices, others can have come.
    """
    rows = sorted(places)
    by_place = sorted(place for _, place in rows)
    next_place = dict(pairwise(by_place))
    shifts: list[Shift] = []
    before = None
    for index, place in rows:
        follows = before is not None and next_place.get(before) == place
        if not follows or shifts[-1][1] != place - index:
            shifts.append((index, place - index))
        before = place
    return shifts


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
    """The shifts of a build; none are needed for one that never grew."""
    if not manifest.extensions:
        return []
    table = read_parquet(order_uri(out, manifest.extensions))
    return list(zip(table["first"].to_pylist(), table["shift"].to_pylist(), strict=True))


def in_order(units: Sequence[tuple[Unit, str]], shifts: Sequence[Shift]) -> list[Slice]:
    """The parts (unit, uri) cut and sorted so that the rollouts come in the order of the input."""
    if not shifts:
        return [Slice(uri) for _, uri in units]
    units = sorted(units, key=lambda pair: pair[0].first)
    last = 2**62
    ends = [*(after.first for (_, _), (after, _) in pairwise(units)), last]
    slices = [
        piece
        for (unit, uri), end in zip(units, ends, strict=True)
        for piece in _pieces(unit.first, end, uri, shifts)
    ]
    return sorted(slices, key=lambda piece: piece.first + piece.shift)


def _pieces(first: int, end: int, uri: str, shifts: Sequence[Shift]) -> Iterator[Slice]:
    """One part, whose indices are from `first` up to `end`, in pieces of one shift each."""
    at = bisect_right(shifts, first, key=lambda shift: shift[0]) - 1
    stop = bisect_left(shifts, end, key=lambda shift: shift[0])
    for number in range(at, stop):
        start, shift = shifts[number]
        until = shifts[number + 1][0] if number + 1 < len(shifts) else end
        yield Slice(uri, max(first, start), min(until, end), shift, start <= first)
