"""Rows on their way into a file: weighed one by one, cut and joined, made a table at the end.

The pairs of a seed share its images, and neighbouring seeds may, too: an image is held once, and
goes into the file as an entry of a dictionary. Spread over its rows in memory, photographs made the
one process that writes the slowest of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol, Self

import numpy as np
import pyarrow as pa

from mmpr_builder.output.sizes import row_bytes


class Rows(Protocol):
    """What a `shards.ShardWriter` writes."""

    def weights(self) -> list[int]:
        """Bytes that each row takes in Arrow; must depend on the row alone."""
        ...

    def part(self, start: int, stop: int) -> Self:
        """The rows from `start` up to `stop`, at least one."""
        ...

    def followed_by(self, others: Sequence[Self]) -> Self:
        """These rows and then others."""
        ...

    def table(self) -> pa.Table:
        """All rows, one chunk per column: how they came together must not show in a file."""
        ...


@dataclass(frozen=True, slots=True)
class TableRows:
    """The rows of a table."""

    data: pa.Table

    def weights(self) -> list[int]:
        """See `Rows`."""
        sizes: list[int] = row_bytes(self.data).tolist()
        return sizes

    def part(self, start: int, stop: int) -> TableRows:
        """See `Rows`."""
        return TableRows(self.data.slice(start, stop - start))

    def followed_by(self, others: Sequence[TableRows]) -> TableRows:
        """See `Rows`."""
        return TableRows(pa.concat_tables([self.data, *(rows.data for rows in others)]))

    def table(self) -> pa.Table:
        """See `Rows`."""
        return self.data.combine_chunks()


@dataclass(frozen=True, slots=True)
class PairRows:
    """Rows of pairs, each image once."""

    texts: pa.Table
    """The rows without their images (`rows.TEXT_SCHEMA`)."""
    pictures: tuple[tuple[bytes, ...], ...] = ()
    """The images of each seed, in order."""
    picture_of: tuple[int, ...] = ()
    """For each row, its place in `pictures`; never falls."""

    def weights(self) -> list[int]:
        """See `Rows`; an image weighs in each of its rows."""
        images = [sum(map(len, pictures)) for pictures in self.pictures]
        texts: list[int] = row_bytes(self.texts).tolist()
        return [size + images[at] for size, at in zip(texts, self.picture_of, strict=True)]

    def part(self, start: int, stop: int) -> PairRows:
        """See `Rows`."""
        first, last = self.picture_of[start], self.picture_of[stop - 1]
        return PairRows(
            self.texts.slice(start, stop - start),
            self.pictures[first : last + 1],
            tuple(at - first for at in self.picture_of[start:stop]),
        )

    def only(self, rows: Sequence[int]) -> PairRows:
        """The rows with these numbers, which rise; images that none of them shows are let go."""
        shown = [self.picture_of[row] for row in rows]
        places = {at: place for place, at in enumerate(dict.fromkeys(shown))}
        return PairRows(
            self.texts.take(pa.array(rows, pa.int64())),
            tuple(self.pictures[at] for at in places),
            tuple(places[at] for at in shown),
        )

    def followed_by(self, others: Sequence[PairRows]) -> PairRows:
        """See `Rows`."""
        pieces = [self, *others]
        starts = accumulate((len(rows.pictures) for rows in pieces), initial=0)
        return PairRows(
            pa.concat_tables([rows.texts for rows in pieces]),
            tuple(pictures for rows in pieces for pictures in rows.pictures),
            tuple(
                start + at
                for rows, start in zip(pieces, starts, strict=False)
                for at in rows.picture_of
            ),
        )

    def table(self) -> pa.Table:
        """See `Rows`; `images.bytes` is a dictionary, which Parquet stores as plain bytes."""
        return self.texts.combine_chunks().add_column(0, "images", self._images())

    def _images(self) -> pa.Array:
        numbers: dict[bytes, int] = {}
        shown = [
            [numbers.setdefault(data, len(numbers)) for data in pictures]
            for pictures in self.pictures
        ]
        of_row = [shown[at] for at in self.picture_of]
        ends = np.cumsum([0, *map(len, of_row)], dtype=np.int32)
        indices = pa.array([number for row in of_row for number in row], type=pa.int32())
        data = pa.DictionaryArray.from_arrays(indices, pa.array(list(numbers), type=pa.binary()))
        paths = pa.nulls(len(indices), pa.string())
        images = pa.StructArray.from_arrays([data, paths], names=["bytes", "path"])
        return pa.ListArray.from_arrays(pa.array(ends), images)
