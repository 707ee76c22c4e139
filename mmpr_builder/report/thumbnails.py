"""Small pictures for the report, of bounded size and the same bytes each time."""

from __future__ import annotations

import base64
import io

from PIL import Image

from mmpr_builder import images

MOST_CHARACTERS = 48_000
"""Of the data URL."""

_STEPS = ((640, 82), (640, 60), (480, 60), (480, 40), (360, 40), (240, 30))
"""(longest side in px, JPEG quality), tried until the file is small enough."""


def thumbnail(data: bytes) -> str:
    """A small JPEG of an image as a data URL of at most `MOST_CHARACTERS`."""
    picture = images.open_image(data)
    encoded = b""
    for side, quality in _STEPS:
        small = picture.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        small.save(buffer, format="JPEG", quality=quality, optimize=True)
        encoded = base64.b64encode(buffer.getvalue())
        if len(encoded) <= MOST_CHARACTERS - 40:
            break
    return "data:image/jpeg;base64," + encoded.decode("ascii")
