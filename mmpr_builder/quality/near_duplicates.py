"""Seeds that nearly repeat an earlier one: sources often share their questions.

    same pictures (resized, re-encoded), same words, same truth     near-duplicates
    no picture, nearly the same long text, same numbers and truth   near-duplicates

"The same words" leaves case, blanks and punctuation aside, nothing else: next to one picture "How
many red ones?" and "How many blue ones?" are two questions. The truth is compared because two
drawings can differ in one small label only. Seeds that repeat another one exactly never come here:
reading drops them as `duplicate_seed`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Literal

from mmpr_builder.errors import RowError
from mmpr_builder.images import open_image, read_bytes
from mmpr_builder.quality.buckets import Buckets
from mmpr_builder.quality.pictures import likeness, picture_hash, shrink
from mmpr_builder.quality.words import ngrams, numbers, weight, words
from mmpr_builder.records import ImageRef, Seed

NEAR_DUPLICATE = "near_duplicate"
TEXT_SIMILARITY = 0.9
"""Share of words, in order, that two texts without a picture have in common at least."""
LONG_TEXT = 12
"""Words from which a text may differ a little; a shorter one must have the very same words."""

_RADIUS = 6  # Bits of 64; resized and re-encoded pictures differ in 2 (95 %).
_BANDS = 4  # Of 16 bits: two hashes that differ in less than 4 bits share one for certain.
_CORRELATION, _WORST = 0.96, 16.0
_SCHEME: Literal["affine32"] = "affine32"
_PERMUTATIONS, _ROWS = 32, 4  # 8 bands of 4: texts 0.8 alike meet in one with 98.5 %.


@dataclass(frozen=True, slots=True)
class Print:
    """What a seed is compared by. `hashes` has one per picture."""

    words: tuple[str, ...]
    truth: tuple[str, ...]
    hashes: tuple[int, ...]
    images: tuple[ImageRef, ...]


def print_of(seed: Seed) -> Print | None:
    """The print of a seed; None if a picture cannot be opened (sampling drops such a seed)."""
    try:
        hashes = tuple(picture_hash(shrink(open_image(read_bytes(ref)))) for ref in seed.images)
    except RowError:
        return None
    truth = words(seed.answers[0]) or (seed.answers[0],) if seed.answers else ()
    return Print(words(seed.question), truth, hashes, seed.images)


class NearDuplicates:
    """The seeds so far; holds a temporary file. About 0.5 KB of disk per seed, no memory."""

    def __init__(self) -> None:
        self._buckets = Buckets()

    def first_like(self, seed: Seed, found: Print) -> str | None:
        """The id of the first seed that this one repeats; a seed that repeats none is kept."""
        keys = list(_keys(found))
        for body in self._buckets.find(keys):
            name, other = _from_json(body)
            if _same(found, other):
                return name
        self._buckets.add(keys, json.dumps([seed.id, asdict(found)], ensure_ascii=True))
        return None

    def bytes_on_disk(self) -> int:
        return self._buckets.bytes_on_disk()

    def close(self) -> None:
        self._buckets.close()


def _same(one: Print, other: Print) -> bool:
    if one.truth != other.truth or len(one.hashes) != len(other.hashes):
        return False
    if not one.hashes:
        return one.words == other.words or _same_text(one.words, other.words)
    if one.words != other.words:
        return False
    hashes = zip(one.hashes, other.hashes, strict=True)
    if any((a ^ b).bit_count() > _RADIUS for a, b in hashes):
        return False
    return all(_same_picture(a, b) for a, b in zip(one.images, other.images, strict=True))


def _same_text(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    from rapidfuzz.distance import Indel

    if min(weight(one), weight(other)) < LONG_TEXT or numbers(one) != numbers(other):
        return False
    return Indel.normalized_similarity(one, other) >= TEXT_SIMILARITY


def _same_picture(one: ImageRef, other: ImageRef) -> bool:
    if one == other:
        return True
    try:
        pictures = [shrink(open_image(read_bytes(ref))) for ref in (one, other)]
    except RowError:  # It was there a moment ago.
        return False
    found = likeness(*pictures)
    return found.correlation >= _CORRELATION and found.worst <= _WORST


def _keys(of: Print) -> Iterator[int]:
    if of.hashes:
        for band in range(_BANDS):
            bits = (of.hashes[0] >> (16 * band)) & 0xFFFF
            yield _key(f"picture {band} {bits} {len(of.hashes)}", *of.words, "", *of.truth)
        return
    yield _key("text", *of.words, "", *of.truth)
    if weight(of.words) >= LONG_TEXT:
        signature = _signature(of.words)
        for start in range(0, _PERMUTATIONS, _ROWS):
            part = ",".join(map(str, signature[start : start + _ROWS]))
            yield _key(f"band {start} {part}", *of.truth)


def _signature(of: tuple[str, ...]) -> list[int]:
    """The MinHash of its runs of three words (Broder 1997)."""
    from datasketch import MinHash

    found = MinHash(num_perm=_PERMUTATIONS, permutations=_permutations(), scheme=_SCHEME)
    found.update_batch(sorted(run.encode("utf-8", "surrogatepass") for run in ngrams(of, 3)))
    return [int(value) for value in found.hashvalues]


@functools.cache
def _permutations() -> Any:
    """Drawn once: drawing them takes longer than using them."""
    from datasketch import MinHash

    return MinHash(num_perm=_PERMUTATIONS, scheme=_SCHEME).permutations


def _key(*parts: str) -> int:
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest()) >> 1


def _from_json(body: str) -> tuple[str, Print]:
    name, stored = json.loads(body)
    images = tuple(ImageRef(**ref) for ref in stored["images"])
    texts = tuple(stored["words"]), tuple(stored["truth"])
    return name, Print(*texts, tuple(stored["hashes"]), images)
