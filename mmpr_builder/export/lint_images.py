"""Every image of a data set, opened once: what a trainer's workers would stumble over hours in."""

from __future__ import annotations

from pathlib import Path

from mmpr_builder import images
from mmpr_builder.errors import RowError
from mmpr_builder.export.digests import Digests
from mmpr_builder.export.faults import Fault
from mmpr_builder.export.items import Picture

Size = tuple[int, int]
"""Height and width in pixels."""


class ImageChecker:
    """Remembers what it has seen: 32 bytes and a verdict per distinct image, never the image."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._seen: dict[bytes, tuple[Size | None, Fault | None]] = {}
        self._files: dict[Path, tuple[Size | None, Fault | None]] = {}
        self._digests = Digests()

    def __len__(self) -> int:
        return len(self._seen)

    def check(self, picture: Picture) -> tuple[Size | None, Fault | None]:
        """Its size, if it opens, and what is wrong with it."""
        if picture.path is not None and picture.path in self._files:
            return self._files[picture.path]
        try:
            data = picture.read()
        except RowError as error:
            found: tuple[Size | None, Fault | None] = None, Fault(error.reason, error.detail)
        else:
            digest = self._digests.of(data)
            if digest not in self._seen:
                self._seen[digest] = self._open(data)
            found = self._seen[digest]
        if picture.path is not None:
            self._files[picture.path] = found
        return found

    def _open(self, data: bytes) -> tuple[Size | None, Fault | None]:
        try:
            width, height = images.open_image(data).size
        except RowError as error:
            return None, Fault(error.reason, error.detail)
        if width * height > self._max_pixels:
            return (height, width), Fault(
                "image_large", f"{width} x {height} pixels, over {self._max_pixels:,}"
            )
        return (height, width), None
