"""Opens any real image safely: bytes in, an upright RGB picture out, or a `RowError`.

The bytes decide what an image is, not its name. Only raster formats with a known signature are
tried: nothing runs Ghostscript, nothing guesses.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import os
import re
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from PIL import Image, UnidentifiedImageError

from mmpr_builder.errors import MissingExtraError, RowError, SetupError
from mmpr_builder.io.access import Access, Places, check_url
from mmpr_builder.io.embedded import DATASET_SCHEME, read_embedded
from mmpr_builder.io.stores import is_passing, is_url, resolve
from mmpr_builder.records import ImageRef

MAX_BYTES = 128 * 2**20  # A photograph has 1-30 MB, an uncompressed 40-megapixel TIFF 120.
MAX_ROW_BYTES = 512 * 2**20  # All images of one row, which are in memory together.
MAX_PIXELS = 178_956_970  # Where Pillow itself speaks of a decompression bomb.
MAX_DECODED = 2**30  # Bytes that decodes take together: one colour picture of 134 megapixels.
_NEARLY_WHITE = 250
MAX_ASPECT = 200  # Vision processors that keep the ratio of the sides (Qwen2-VL) refuse more.
FORMATS = (
    "PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "DIB", "PPM", "AVIF",
)  # fmt: skip
# Rare in data sets and dear to decode; builds of earlier versions may hold them.
EARLIER = {"JPEG2000": b"\0\0\0\x0cjP", "ICO": b"\0\0\1\0", "QOI": b"qoif", "SUN": b"Y\xa6j\x95"}
REMOTE_TRIES = 3
_MAX_WORK = 2**32  # Pixels times scans.
_MAX_UNCOMPILED = 4 * 2**20  # Bytes.

NO_NETWORK = Access()

_STRIP = 256  # Rows that are converted at a time.
_TILE_SIZE = (322, 323)  # TIFF tags of a tile's width and length.
_EXIF_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_bytes(ref: ImageRef, access: Access = NO_NETWORK) -> bytes:
    """The encoded bytes of an image: a file, a URL, a `data:` URL, or a cell of a table.

    `access` says which URLs may be asked, by default none (see `access`). Raises `RowError`:
    "image_missing", "image_not_allowed", "image_too_large" (over `MAX_BYTES`), "image_unreadable".
    """
    if ref.row is not None:
        return _from_table(ref, access)
    if ref.uri.startswith("data:"):
        return _data_url(ref.uri)
    remote = is_url(ref.uri)
    for last in range(REMOTE_TRIES):
        try:
            return _bounded(_from_url(ref.uri, access) if remote else _from_disk(ref.uri), ref.uri)
        except FileNotFoundError:
            raise RowError("image_missing", f"{ref.uri}: no such file") from None
        except MissingExtraError as error:
            raise RowError("image_missing", str(error)) from None
        except RowError:
            raise
        except (SetupError, IsADirectoryError, PermissionError, ValueError) as error:
            raise RowError("image_unreadable", f"{ref.uri}: {error}"[:500]) from None
        # Each fsspec back end raises its own types (botocore, google …).
        except Exception as error:  # noqa: BLE001
            if last == REMOTE_TRIES - 1 or not (remote or is_passing(error)):
                raise RowError("image_unreadable", f"{ref.uri}: {error!r}"[:500]) from None
            time.sleep(0.5 * 2**last)
    raise AssertionError("unreachable")


def _from_table(ref: ImageRef, access: Access) -> bytes:
    """A cell that holds the bytes, or the path of a file below the folder of its table.

    Planning turns other paths into references of their own, where the source opens their places.
    """
    uri = access.real(ref.uri)
    data, path = read_embedded(replace(ref, uri=uri))
    if data is not None:
        return _bounded(data, ref.uri)
    if not path:
        raise RowError("image_missing", f"{ref.uri} row {ref.row}: {ref.column!r} is empty")
    folder = uri.removeprefix(DATASET_SCHEME).rpartition("?split=")[0] or uri.rpartition("/")[0]
    return read_bytes(Places(NO_NETWORK).ref(path, folder if folder.startswith("/") else ""))


def _from_disk(path: str) -> bytes:
    """A regular file. A pipe would never end, and a device is no picture."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise RowError("image_unreadable", f"{path}: not a regular file")
        return file.read(MAX_BYTES + 1)


def _from_url(url: str, access: Access) -> bytes:
    if url.startswith(("http://", "https://")):
        from mmpr_builder.io.fetching import fetch

        return fetch(url, access, MAX_BYTES)
    check_url(url, access)
    fs, inside = resolve(access.real(url))
    data = bytearray()
    with fs.open(inside, "rb") as handle:
        # One read may give less than there is.
        while len(data) <= MAX_BYTES and (more := handle.read(MAX_BYTES + 1 - len(data))):
            data += more
    return bytes(data)


def read_all(refs: Sequence[ImageRef], access: Access = NO_NETWORK) -> tuple[bytes, ...]:
    """The images of one row, together of a bounded size. Raises `RowError` as `read_bytes` does."""
    found: list[bytes] = []
    for ref in refs:
        found.append(read_bytes(ref, access))
        if sum(map(len, found)) > MAX_ROW_BYTES:
            size = MAX_ROW_BYTES // 2**20
            raise RowError("image_too_large", f"over {size} MiB in all images of the row")
    return tuple(found)


def _bounded(data: bytes, uri: str) -> bytes:
    if len(data) > MAX_BYTES:
        raise RowError("image_too_large", f"{uri}: over {MAX_BYTES // 2**20} MiB")
    return data


def _data_url(url: str) -> bytes:
    head, comma, body = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise RowError("image_unreadable", f"not a base64 data URL: {url[:60]!r}")
    if len(body) > MAX_BYTES * 4 // 3 + 4:
        raise RowError("image_too_large", f"data URL of {len(body)} characters")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RowError("image_unreadable", f"bad base64 in {url[:60]!r}: {error}") from None


class _Budget:
    """Bytes that threads share: who wants more than is left waits."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._freed = threading.Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        with self._freed:
            self._freed.wait_for(lambda: size <= self._left)
            self._left -= size
        try:
            yield
        finally:
            with self._freed:
                self._left += size
                self._freed.notify_all()


_budget = _Budget(MAX_DECODED)


_BASE64 = re.compile(
    r"\s*(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR|Qk[0-3]|SUkq|TU0A)[A-Za-z0-9+/\s]{40,}={0,2}\s*"
)


def data_url(text: str) -> str | None:
    """A picture that is written as base64 alone, as a `data:` URL; None for other text."""
    if len(text) < 40:
        return None
    if text.startswith("data:image/"):
        return text
    return f"data:image;base64,{''.join(text.split())}" if _BASE64.fullmatch(text) else None


def open_image(data: bytes, formats: Sequence[str] = FORMATS) -> Image.Image:
    """Decode to a loaded RGB image, upright by its EXIF tag, transparency on white (a white
    drawing on black), first frame.

    Decodes in other threads are waited for where all would take over `MAX_DECODED` bytes.
    Raises `RowError`: "image_unreadable" (unknown format, truncated, corrupt), "image_too_large"
    (judged from the header, before decoding), "image_bad_aspect" (sides over 200:1).
    """
    if not data:
        raise RowError("image_unreadable", "the file is empty")
    try:
        try:
            return _opened(data, formats)
        except (ValueError, OverflowError):  # Of over 1 MB of text or profile one is made.
            if not data.startswith(_PNG):
                raise
            return _opened(_without_notes(data), formats)
    except RowError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RowError("image_too_large", str(error)) from None
    except UnidentifiedImageError:
        found = next((name for name, mark in EARLIER.items() if data.startswith(mark)), None)
        raise RowError(
            "image_unreadable",
            f"{found} is not decoded: convert it to PNG" if found else "no known image format",
        ) from None
    # Decoders of hostile bytes raise anything: OSError, SyntaxError, struct.error, IndexError …
    except Exception as error:  # noqa: BLE001
        # Some quote the bytes that they stumble over, and messages are published.
        what = "it is truncated" if "truncated" in str(error) else type(error).__name__
        raise RowError("image_unreadable", f"damaged or of an unknown kind ({what})") from None


class Paced(io.BytesIO):
    """Reads to a limit. Pillow takes files apart piece by piece, and joins some pieces again."""

    left = 2**23  # Bytes, and 1 KiB for each reading, of all that stands before the picture.

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.left -= 1024 + (len(found) if size is not None and size >= 0 else 0)
        if self.left < 0:
            raise OverflowError
        return found


def _opened(data: bytes, formats: Sequence[str]) -> Image.Image:
    file = Paced(data)
    with Image.open(file, formats=tuple(formats)) as image:
        _check_size(image.size)
        _check_work(image, data)
        with _budget.taken(_cost(image)):
            file.left = 2 * MAX_BYTES
            image.load()
            _check_size(image.size)  # what is inside an icon can differ from its header
            turn = _TURNS.get(_orientation(image))
            opened = _to_rgb(image)
            image.close()
            return opened.transpose(turn) if turn is not None else opened


def _cost(image: Image.Image) -> int:
    """Bytes that opening a picture takes at most. Raises `RowError` if over `MAX_DECODED`."""
    per_pixel = 16 if image.format in ("WEBP", "AVIF") else 8
    per_pixel = 24 if _is_deep(image) or image.format in EARLIER else per_pixel
    # A tile is decoded as a whole, however little of it is in the picture.
    tags = getattr(image, "tag_v2", {})
    tile = math.prod(int(tags.get(tag, 0)) for tag in _TILE_SIZE)
    cost = per_pixel * max(math.prod(image.size), tile)
    if cost > MAX_DECODED:
        raise RowError(
            "image_too_large",
            f"{image.width} x {image.height} pixels, decoded over {MAX_DECODED // 2**20} MiB",
        )
    return cost


_PNG = b"\x89PNG\r\n\x1a\n"
_NOTES = (b"zTXt", b"iTXt", b"tEXt", b"iCCP")


def _without_notes(data: bytes) -> bytes:
    """A PNG without texts and colour profile, which are no part of the picture. Its chunks are
    those of the PNG specification: length, four letters, content, check sum."""
    kept, at = [_PNG], len(_PNG)
    for _ in range(min(2**16, len(data) // 12)):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] not in _NOTES:
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise RowError("image_unreadable", f"{width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise RowError(
            "image_too_large", f"{width} x {height} pixels, over {MAX_PIXELS // 10**6} million"
        )
    if max(size) > MAX_ASPECT * min(size):
        raise RowError("image_bad_aspect", f"{width} x {height} pixels, over {MAX_ASPECT}:1")


def _check_work(image: Image.Image, data: bytes) -> None:
    """A progressive JPEG is gone through once for each scan; ten are usual. Some decoders of Pillow
    are not compiled: plain PPM, run lengths in BMP."""
    scans = data.count(b"\xff\xda") if "progressive" in image.info else 1
    if scans * math.prod(image.size) > _MAX_WORK:
        raise RowError("image_too_large", f"{image.width} x {image.height} pixels, {scans} times")
    uncompiled = any(tile[0] in Image.DECODERS for tile in getattr(image, "tile", ()))
    if uncompiled and image.format not in EARLIER and len(data) > _MAX_UNCOMPILED:
        raise RowError("image_too_large", f"{len(data)} bytes of {image.format}: make it PNG")


def _orientation(image: Image.Image) -> int:
    """The EXIF turn still to be applied. Asked after loading: Pillow turns TIFF itself."""
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    # Broken EXIF blocks raise anything; the picture itself is fine.
    except Exception:  # noqa: BLE001
        return 1


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.copy()
    if _is_deep(image):
        return _to_8_bits(image).convert("RGB")
    found = _flat(image, "white")
    if min(low for low, _ in _extrema(found)) < _NEARLY_WHITE:
        return found
    # A white drawing on transparency shows on black only; one colour on both is no drawing.
    black = _flat(image, "black")
    lows, highs = zip(*_extrema(black), strict=True)
    return black if min(lows) < _NEARLY_WHITE and lows != highs else found


def _extrema(image: Image.Image) -> tuple[tuple[int, int], ...]:
    found: Any = image.getextrema()
    return tuple(found)


def _flat(image: Image.Image, background: str) -> Image.Image:
    """By strips: each step of the way would hold the whole picture once more."""
    found = Image.new("RGB", image.size)
    for top in range(0, image.height, _STRIP):
        box = (0, top, image.width, min(top + _STRIP, image.height))
        found.paste(_on(background, image.crop(box)), box)
    return found


def _on(background: str, image: Image.Image) -> Image.Image:
    if image.mode in ("La", "RGBa"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        below = Image.new("RGBA", rgba.size, background)
        below.alpha_composite(rgba)
        return below.convert("RGB")
    return image.convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Whole numbers by the bit depth they really use (8, 10, 12, 14, 16), the rest by its range.
    With the upper byte alone, as `Image.convert` has it, a 12-bit X-ray in 16 bits is black."""
    import numpy as np

    kind = image.mode
    values: Any = np.asarray(image).astype(np.float64)
    np.nan_to_num(values, copy=False, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if kind == "F" and low >= 0 and high <= 1:
        low, top = 0.0, 1.0
    elif low >= 0 and high < 2**16:
        depth = next(bits for bits in (8, 10, 12, 14, 16) if high < 2**bits)
        low, top = 0.0, float(2**depth - 1)
    else:
        top = high
    values -= low
    values *= 255.0 / max(top - low, 1e-300)
    np.clip(np.rint(values, out=values), 0, 255, out=values)
    return Image.fromarray(values.astype(np.uint8))
