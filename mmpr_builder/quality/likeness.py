"""How alike two pictures are, and two texts.

    hash         64 bits of a perceptual hash: finds candidates quickly
    likeness     both pictures laid upon each other: decides whether they look alike
    same_details patch by patch where their values can be read: tells forms of one template apart
    words        "How many  shapes are BLUE?" -> ("how", "many", "shapes", "are", "blue")
                 "有多少个三角形？"             -> ("有", "多", "少", "个", …)
    similarity   the share of words that two texts have in common

Pictures count as the same after resizing, another encoding or a small crop. Perceptual hashes of
charts, scans and drawings collide, and a crop of 5 % moves a third of the bits. So a picture to be
found is hashed under 25 crops, and a candidate counts only if the two agree once they are laid upon
each other: overall (correlation of brightness) and in every eighth of both sides (colour). Pictures
with hardly anything on them equal no other. Forms, tables and figures of one template look alike
with all values different, so of pictures that do each patch is compared, too, at the lower one's
resolution: moved by some pixels until it fits best (block matching: Jain, Jain 1981, IEEE Trans.
Commun. 29), what is left over must be noise.

Chinese and Japanese have no blanks between words, so there a character is a word. Operators stay,
because 3 + 2 and 3 - 2 are different questions; punctuation goes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mmpr_builder.io.access import Access
from mmpr_builder.io.images import open_image, read_bytes
from mmpr_builder.records import IMAGE_PLACEHOLDER, ImageRef

if TYPE_CHECKING:
    from PIL.Image import Image


SIDE = 256  # Pixels of the square that every picture is brought to first.
RADIUS = 12
"""Bits of 64 by which the hashes of candidates may differ."""
MAX_CROP = 0.075  # Part of one side that a crop may have taken, at most.
_FINE = 64
_BLOCKS = 8
_BLANK = 3.0  # Standard deviation of brightness (0-255) below which there is nothing to compare.
_STEPS = (4.0, 2.0, 1.0, 0.5)  # Pixels of SIDE, coarse to fine.
_CUTS = ((0.0, 0.0), (0.0, 0.05), (0.05, 0.0), (0.025, 0.025), (0.05, 0.05))
_CROPS = tuple((left, top, right, bottom) for left, right in _CUTS for top, bottom in _CUTS)

_DETAIL = 768  # Pixels of the longer side at which details are compared, at most.
_PATCH, _SHIFT = 32, 3  # Pixels of a patch, and by which it may have moved.
_NOISE = 10.0  # Root mean square of brightness (0-255) that an encoder may leave over.
_OTHER = 0.15  # Of a patch's variance; another value leaves over more.

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Likeness:
    """How well two pictures agree: `correlation` of brightness (-1 to 1), and `worst` difference
    of the mean colour (0 to 255) in any of 64 parts."""

    correlation: float
    worst: float

    def is_same(self, *, strict: bool) -> bool:
        """Whether details are worth a look: fine lines lose a tenth of the correlation to an
        encoder."""
        least, most = (0.88, 20) if strict else (0.85, 32)
        return self.correlation >= least and self.worst <= most


EQUAL = Likeness(1.0, 0.0)


def whole(ref: ImageRef, access: Access) -> Image:
    """A picture as it is. Raises `RowError` where it cannot be read."""
    return open_image(read_bytes(ref, access))


def squared(image: Image) -> Image:
    """An RGB square of `SIDE` pixels."""
    from PIL.Image import Resampling

    how = Resampling.BOX if min(image.size) >= SIDE else Resampling.BILINEAR
    return image.convert("RGB").resize((SIDE, SIDE), how)


def hashes_with_crops(picture: Image) -> tuple[int, ...]:
    """The perceptual hash of a picture, then those that it would have with up to 5 %
    cut off either side: pictures that look alike differ in few of 64 bits.

    A bit says whether one of the lowest 8 x 8 frequencies of the brightness at 32 x 32 pixels is
    above their median (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash
    Functions").
    """
    from PIL.Image import Resampling
    from scipy.fft import dctn

    grey = (
        squared(picture).convert("L").reduce(SIDE // _FINE)
    )  # Crops of it are as good, and much faster.
    edges = ([_FINE * part for part in crop] for crop in _CROPS)
    boxes = ((left, top, _FINE - right, _FINE - bottom) for left, top, right, bottom in edges)
    small = [grey.resize((32, 32), Resampling.BOX, box=box) for box in boxes]
    low = dctn(np.array(small, np.float64), axes=(1, 2))[:, :8, :8].reshape(-1, 64)
    bits = np.packbits(low > np.median(low, 1, keepdims=True), 1, "little")
    return tuple(bits.view("<u8")[:, 0].tolist())


def near(mine: Any, theirs: Any, radius: int) -> Any:
    """Which pictures may show the same, whole or as a crop of one another.

    Arrays of `hashes_with_crops`, uint64 of shape (25,) and (n, 25), or (pictures, 25) and
    (n, pictures, 25); bool of shape (n,) or (n, pictures).
    """
    of_theirs = np.bitwise_count(theirs ^ mine[..., :1]).min(-1)
    return np.minimum(of_theirs, np.bitwise_count(theirs[..., :1] ^ mine).min(-1)) <= radius


def same_picture(one: Image, other: Image, *, strict: bool) -> Likeness | None:
    """How alike two whole pictures are that show the same, or of which one is a crop of the other;
    None for all others. `strict` is for a verdict without the help of a question."""
    for part, all_of_it in ((one, other), (other, one)):
        small = squared(part), squared(all_of_it)
        box = best_box(*small)
        found = likeness(*small, box)
        if found.is_same(strict=strict) and same_details(part, all_of_it, box):
            return found
    return None


def likeness(one: Image, other: Image, box: Box) -> Likeness:
    """How well two squares agree; `one` is compared with the `box` of `other`."""
    from PIL.Image import Resampling

    a = np.asarray(one.resize((_FINE, _FINE), Resampling.BOX), np.float32)
    b = np.asarray(other.resize((_FINE, _FINE), Resampling.BILINEAR, box=box), np.float32)
    grey_a, grey_b = a.mean(2) - a.mean(), b.mean(2) - b.mean()
    if min(grey_a.std(), grey_b.std()) < _BLANK:
        return Likeness(-1.0, 255.0)
    norm = float(np.sqrt((grey_a**2).sum() * (grey_b**2).sum()))
    part = _FINE // _BLOCKS
    parts = (a - b).reshape(_BLOCKS, part, _BLOCKS, part, 3).mean((1, 3))
    return Likeness(float((grey_a * grey_b).sum()) / norm, float(np.abs(parts).max()))


def same_details(one: Image, other: Image, box: Box) -> bool:
    """Whether two whole pictures that look alike agree in every patch, edges left out; `one` is
    compared with the `box` of `other`, in pixels of `SIDE`."""
    from PIL import ImageFilter
    from PIL.Image import Resampling

    part = [edge / SIDE * side for edge, side in zip(box, other.size * 2, strict=True)]
    width, height = min(one.width, part[2] - part[0]), min(one.height, part[3] - part[1])
    scale = min(1.0, _DETAIL / max(width, height))
    size = round(width * scale), round(height * scale)
    if min(size) < _PATCH + 2 * _SHIFT:
        return True

    def grey(image: Image, area: Any = None) -> Any:
        small = image.convert("L").resize(size, Resampling.LANCZOS, box=area)
        return np.asarray(small.filter(ImageFilter.GaussianBlur(1)), np.float32)

    a, b = grey(one)[_SHIFT:-_SHIFT, _SHIFT:-_SHIFT], grey(other, part)
    rows, columns = a.shape

    def moved(down: int, right: int) -> Any:
        return _patches(b[down : down + rows, right : right + columns])

    target, steps = _patches(a), range(2 * _SHIFT + 1)
    left = np.min([((target - moved(y, x)) ** 2).mean(1) for y in steps for x in steps], axis=0)
    variance = np.maximum((target**2).mean(1), (moved(_SHIFT, _SHIFT) ** 2).mean(1))
    return not bool(((left > _NOISE**2) & (left > _OTHER * variance)).any())


def _patches(grey: Any) -> Any:
    """Patch by patch the brightness less its mean; shape (patches, pixels of one)."""
    rows, columns = (side // _PATCH for side in grey.shape)
    tiled = grey[: rows * _PATCH, : columns * _PATCH].reshape(rows, _PATCH, columns, _PATCH)
    found = tiled.transpose(0, 2, 1, 3).reshape(rows * columns, -1)
    return found - found.mean(1, keepdims=True)


def best_box(one: Image, other: Image) -> Box:
    """The part of `other` that looks most like `one`: the best of 25 crops, then downhill."""
    from PIL.Image import Resampling

    target = np.asarray(one.convert("L").resize((_FINE, _FINE), Resampling.BILINEAR), np.float32)
    grey = other.convert("L")

    def difference(cut: tuple[float, ...]) -> float:
        left, top, right, bottom = cut
        box = (left, top, SIDE - right, SIDE - bottom)
        part: Any = grey.resize((_FINE, _FINE), Resampling.BILINEAR, box=box)
        return float(np.abs(np.asarray(part, np.float32) - target).mean())

    starts = [tuple(SIDE * part for part in crop) for crop in _CROPS]
    best, cut = min((difference(start), start) for start in starts)
    for step in _STEPS:
        for _ in range(3):  # Turns at one step; it is there after one or two.
            before = best
            for side in range(4):
                for move in (-step, step):
                    moved = min(SIDE * MAX_CROP, max(0.0, cut[side] + move))
                    tried = (*cut[:side], moved, *cut[side + 1 :])
                    best, cut = min((best, cut), (difference(tried), tried))
            if best == before:
                break
    return cut[0], cut[1], SIDE - cut[2], SIDE - cut[3]


_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_PUNCTUATION = r".,;:!?'\"“”‘’()\[\]{}<>《》【】「」，。；：！？、…—–_$\\|&~`#@·"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+|[<>](?=\s*[\w(])|[^\w\s{_PUNCTUATION}]")
_MINUS = str.maketrans({"−": "-", "－": "-", "﹣": "-"})
_ARTICLES = frozenset({"a", "an", "the"})
_ONE_CJK = re.compile(rf"[{_CJK}]")


def words(text: str) -> tuple[str, ...]:
    """The words of a text: Unicode forms, case, blanks, punctuation and `<image>` made alike."""
    plain = unicodedata.normalize("NFKC", text.replace(IMAGE_PLACEHOLDER, " ").translate(_MINUS))
    return tuple(_WORD.findall(plain.casefold()))


def content(of: Sequence[str]) -> list[str]:
    """The words in any order, without articles and a final s: texts that have the same differ in
    no number, name, colour or "not"."""
    return sorted(word.removesuffix("s") for word in of if word not in _ARTICLES)


def weight(of: Sequence[str]) -> float:
    """How long a text of these words is, in words: two Chinese characters are about one."""
    chinese = sum(bool(_ONE_CJK.match(word)) for word in of)
    return len(of) - chinese / 2


def ngrams(of: Sequence[str], n: int) -> set[str]:
    """All runs of n words; a text of fewer words is one run."""
    return {" ".join(of[i : i + n]) for i in range(max(1, len(of) - n + 1))} if of else set()


def in_order(one: Sequence[str], other: Sequence[str], least: float = 0.0) -> float:
    """Share of words that two texts have in common, in order, by insertions and deletions of whole
    words over both lengths; 0 where it is below `least`, which is faster."""
    from rapidfuzz.distance import Indel

    return float(Indel.normalized_similarity(one, other, score_cutoff=least))


def similarity(one: Sequence[str], other: Sequence[str], least: float = 0.0) -> float:
    """Share of words that two texts have in common, 0 to 1: `in_order`, or in any order if that is
    more; 0 where it is below `least`."""
    found = in_order(one, other, least)
    return found if found == 1 else max(found, in_order(sorted(one), sorted(other), least))
