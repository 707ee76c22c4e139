"""The image bytes that go into a pair: what a trainer decodes is what the model saw.

A PNG or JPEG that every reader decodes upright and in colour stays as it is, byte by byte.
Anything else (transparency, CMYK, palettes, 16 bits, an EXIF turn, animations, TIFF, WebP, …) is
stored as a PNG of the very picture the sampler was given: readers differ on all of these.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence

from PIL import Image

from mmpr_builder.errors import RowError
from mmpr_builder.io import images
from mmpr_builder.io.access import Access
from mmpr_builder.io.images import NO_NETWORK
from mmpr_builder.records import Rollout

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = (None, 1)
# Where a PNG can say how it is turned: names of a chunk and of two texts, never compressed.
_PNG_TURNS = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")


def load_images(rollout: Rollout, access: Access = NO_NETWORK) -> list[bytes]:
    """The bytes to store for each image of a rollout, in order.

    `access` says which URLs may be asked. Raises `RowError` as `images.read_bytes` does, and
    "image_changed" when a file is not the one that was sampled from.
    """
    stored = []
    for i, ref in enumerate(rollout.seed.images):
        if i >= len(rollout.image_sha256):
            raise RowError("image_changed", f"{ref.uri}: no hash says what was sampled from")
        data = images.read_bytes(ref, access)
        found, sampled = hashlib.sha256(data).hexdigest(), rollout.image_sha256[i]
        if found != sampled:
            raise RowError(
                "image_changed",
                f"{ref.uri}: its SHA-256 is {found[:12]}…, {sampled[:12]}… when it was sampled",
            )
        stored.append(as_stored(data, formats=(*images.FORMATS, *images.EARLIER)))
    return stored


def as_stored(
    data: bytes, opened: Image.Image | None = None, formats: Sequence[str] = images.FORMATS
) -> bytes:
    """`data` itself where all readers agree on it, else an RGB PNG of the opened picture."""
    if _reads_the_same_everywhere(data):
        return data
    buffer = io.BytesIO()
    (opened or images.open_image(data, formats)).save(buffer, format="PNG")
    return buffer.getvalue()


def _reads_the_same_everywhere(data: bytes) -> bool:
    try:
        with Image.open(images.Paced(data), formats=("PNG", "JPEG")) as image:
            return (
                image.format != "MPO"
                # Grey is stored as grey: the `images` column asks for RGB when it is decoded.
                and image.mode in ("RGB", "L")
                and getattr(image, "n_frames", 1) == 1
                and "transparency" not in image.info
                and _is_upright(image, data)
            )
    # Decoders of broken headers and EXIF blocks raise anything; then `open_image` decides.
    except Exception:  # noqa: BLE001
        return False


def _is_upright(image: Image.Image, data: bytes) -> bool:
    # Such a chunk can follow the pixels, so Pillow decodes all of them to look for it.
    if image.format == "PNG" and not any(mark in data for mark in _PNG_TURNS):
        return True
    return image.getexif().get(_EXIF_ORIENTATION) in _UPRIGHT
