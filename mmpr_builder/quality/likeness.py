"""How alike two pictures are, and two texts.

    hash         64 bits of a perceptual hash (imagehash.phash): finds candidates quickly
    likeness     both pictures laid upon each other: decides
    words        "How many  shapes are BLUE?" -> ("how", "many", "shapes", "are", "blue")
                 "有多少个三角形？"             -> ("有", "多", "少", "个", …)
    similarity   the share of words that two texts have in common

Pictures count as the same after resizing, another encoding or a small crop. Perceptual hashes of
charts, scans and drawings collide, and a crop of 5 % moves a third of the bits. So a picture to be
found is hashed under 25 crops, and a candidate counts only if the two agree once they are laid upon
each other: overall (correlation of brightness) and in every eighth of both sides (colour). Pictures
with hardly anything on them equal no other.

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
"""Bits of 64 by which the hashes of candidates may differ. Of 248 real pictures that were resized,
re-encoded or cropped by 5 % some 98 % or more were within, of unrelated ones 0.4 %."""
MAX_CROP = 0.075  # Part of one side that a crop may have taken, at most.
_FINE = 64
_BLOCKS = 8
_BLANK = 3.0  # Standard deviation of brightness (0-255) below which there is nothing to compare.
_STEPS = (4.0, 2.0, 1.0, 0.5)  # Pixels of SIDE, coarse to fine.
_CUTS = ((0.0, 0.0), (0.0, 0.05), (0.05, 0.0), (0.025, 0.025), (0.05, 0.05))
_CROPS = tuple((left, top, right, bottom) for left, right in _CUTS for top, bottom in _CUTS)

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Likeness:
    """How well two pictures agree: `correlation` of brightness (-1 to 1), and `worst` difference
    of the mean colour (0 to 255) in any of 64 parts."""

    correlation: float
    worst: float

    def is_same(self, *, strict: bool = False) -> bool:
        """`strict` is for a verdict without the help of a question."""
        if strict:
            return self.correlation >= 0.955 and self.worst <= 20
        return self.correlation >= 0.93 and self.worst <= 32


UNLIKE = Likeness(-1.0, 255.0)
EQUAL = Likeness(1.0, 0.0)


def opened(ref: ImageRef, access: Access) -> Image:
    """A picture as an RGB square of `SIDE` pixels. Raises `RowError` where it cannot be read."""
    from PIL.Image import Resampling

    image = open_image(read_bytes(ref, access))
    how = Resampling.BOX if min(image.size) >= SIDE else Resampling.BILINEAR
    return image.convert("RGB").resize((SIDE, SIDE), how)


def picture_hash(shrunk: Image) -> int:
    """64 bits; pictures that look alike differ in few of them."""
    return _hash(shrunk.convert("L"), _CROPS[0])


def hashes_with_crops(shrunk: Image) -> tuple[int, ...]:
    """The hash of a picture, and those it would have with up to 5 % cut off either side."""
    grey = shrunk.convert("L")
    return tuple(_hash(grey, crop) for crop in _CROPS)


def likeness(one: Image, other: Image, *, cropped: bool = False) -> Likeness:
    """How well two pictures from `opened` agree; with `cropped`, `one` may be a part of `other`."""
    from PIL.Image import Resampling

    box = _best_box(one, other) if cropped else (0.0, 0.0, float(SIDE), float(SIDE))
    a = np.asarray(one.resize((_FINE, _FINE), Resampling.BOX), np.float32)
    b = np.asarray(other.resize((_FINE, _FINE), Resampling.BILINEAR, box=box), np.float32)
    grey_a, grey_b = a.mean(2) - a.mean(), b.mean(2) - b.mean()
    if min(grey_a.std(), grey_b.std()) < _BLANK:
        return UNLIKE
    norm = float(np.sqrt((grey_a**2).sum() * (grey_b**2).sum()))
    part = _FINE // _BLOCKS
    parts = (a - b).reshape(_BLOCKS, part, _BLOCKS, part, 3).mean((1, 3))
    return Likeness(float((grey_a * grey_b).sum()) / norm, float(np.abs(parts).max()))


def _hash(grey: Image, crop: Box) -> int:
    import imagehash
    from PIL.Image import Resampling

    left, top, right, bottom = (SIDE * part for part in crop)
    small = grey.resize((32, 32), Resampling.BOX, box=(left, top, SIDE - right, SIDE - bottom))
    bits = imagehash.phash(small).hash.flatten()
    return sum(1 << i for i, bit in enumerate(bits.tolist()) if bit)


def _best_box(one: Image, other: Image) -> Box:
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
_NUMBER = re.compile(r"\d+")
_MINUS = str.maketrans({"−": "-", "－": "-", "﹣": "-"})
_ONE_CJK = re.compile(rf"[{_CJK}]")


def words(text: str) -> tuple[str, ...]:
    """The words of a text: Unicode forms, case, blanks, punctuation and `<image>` made alike."""
    plain = unicodedata.normalize("NFKC", text.replace(IMAGE_PLACEHOLDER, " ").translate(_MINUS))
    return tuple(_WORD.findall(plain.casefold()))


def numbers(of: Sequence[str]) -> list[str]:
    """The digits among some words, sorted: "3 apples and 12 pears" -> ["12", "3"]."""
    return sorted(digits for word in of for digits in _NUMBER.findall(word))


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
