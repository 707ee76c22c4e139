"""Seeds into units: some at a time, and no more than so many bytes of images in each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mmpr_builder.records import ImageRef, Seed

ASSUMED_IMAGE_BYTES = 512 * 2**10
"""For an image whose size would cost a request or a decoded row; photographs are about that."""


@dataclass(slots=True)
class _Open:
    """The unit being filled."""

    rows: list[tuple[int, Seed]]
    image_bytes: int = 0


def cut(
    rows: Iterable[tuple[int, Seed]], max_rows: int, max_bytes: int
) -> Iterator[tuple[list[tuple[int, Seed]], int]]:
    """Consecutive slices within both bounds (or of one row), each with its image bytes."""
    unit = _Open([])
    for index, seed in rows:
        size = sum(map(image_size, seed.images))
        if unit.rows and (len(unit.rows) >= max_rows or unit.image_bytes + size > max_bytes):
            yield unit.rows, unit.image_bytes
            unit = _Open([])
        unit.rows.append((index, seed))
        unit.image_bytes += size
    if unit.rows:
        yield unit.rows, unit.image_bytes


def image_size(ref: ImageRef) -> int:
    """Bytes of an image as far as a look at the file tells, else `ASSUMED_IMAGE_BYTES`."""
    if ref.row is not None or "://" in ref.uri:
        return ASSUMED_IMAGE_BYTES
    try:
        return os.stat(ref.uri).st_size
    except (OSError, ValueError):  # A name that no file can have.
        return ASSUMED_IMAGE_BYTES
