"""Seeds that nearly repeat an earlier one: sources often share their questions.

    same pictures (resized, re-encoded), same words, same truth     near-duplicates
    no picture, nearly the same long text, same numbers and truth   near-duplicates

"The same words" ignores case, blanks and punctuation only: next to one picture "How many red ones?"
and "How many blue ones?" are two questions. The truth counts because two drawings can differ in one
small label. Reading drops exact repetitions as `duplicate_seed`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Literal

from mmpr_builder.errors import RowError
from mmpr_builder.io.access import Access
from mmpr_builder.io.images import NO_NETWORK
from mmpr_builder.io.keyed import Keyed
from mmpr_builder.quality.likeness import (
    in_order,
    likeness,
    ngrams,
    numbers,
    opened,
    picture_hash,
    weight,
    words,
)
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

Images = tuple[ImageRef, ...]
Comparison = tuple[Images, tuple[Images, ...]]
"""The pictures of one seed, and those of seeds that may be the same."""


@dataclass(frozen=True, slots=True)
class Print:
    """What a seed is compared by. `hashes` has one per picture; seeds that are nearly the same
    share one of `keys`."""

    words: tuple[str, ...]
    truth: tuple[str, ...]
    hashes: tuple[int, ...]
    images: Images
    keys: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Earlier:
    """A seed before this one that has the same words, truth and about the same picture hashes."""

    number: int
    id: str
    images: Images


@dataclass(frozen=True, slots=True)
class Note:
    """A seed that was remembered, and which earlier ones it may repeat, in order."""

    number: int
    found: Print
    alike: tuple[Earlier, ...]

    @property
    def comparison(self) -> Comparison | None:
        """What the pictures must tell; None where there is nothing to look at."""
        if not self.alike or self.alike[0].images == self.found.images:
            return None
        return self.found.images, tuple(one.images for one in self.alike)


def print_of(seed: Seed, access: Access = NO_NETWORK) -> Print | None:
    """The print of a seed; None if a picture cannot be opened (sampling drops such a seed)."""
    try:
        hashes = tuple(picture_hash(opened(ref, access)) for ref in seed.images)
    except RowError:
        return None
    truth = words(seed.answers[0]) or (seed.answers[0],) if seed.answers else ()
    asked = words(seed.question)
    return Print(asked, truth, hashes, seed.images, tuple(_keys(asked, truth, hashes)))


def first_same(access: Access, asked: Comparison) -> int:
    """The place of the first of the other seeds with the same pictures; their number if none."""
    images, others = asked
    same = (at for at, other in enumerate(others) if _same_pictures(images, other, access))
    return next(same, len(others))


class NearDuplicates:
    """The seeds so far; holds a temporary file. About 0.5 KB of disk per seed, no memory.

    Each seed is noted, in order, then settled, in order: others may be noted in between.
    """

    def __init__(self, access: Access = NO_NETWORK) -> None:
        # Numbers of seeds under their keys, and under each number as text the seed.
        self._earlier = Keyed()
        self._count = 0
        self._access = access

    def note(self, name: str, found: Print) -> Note:
        """Remember a seed and find those that it may repeat."""
        alike = []
        for number in self._earlier.numbers(found.keys):
            earlier, other = _from_json(number, self._earlier.get(str(number)) or "")
            if _alike(found, other):
                alike.append(earlier)
        stored = [name, found.words, found.truth, found.hashes, [asdict(r) for r in found.images]]
        number, self._count = self._count, self._count + 1
        self._earlier.add(str(number), json.dumps(stored, ensure_ascii=True))
        for key in found.keys:
            self._earlier.add(key, number=number)
        return Note(number, found, tuple(alike))

    def settle(self, note: Note, same: int | None) -> str | None:
        """The id of the first seed that this one repeats, if any; a repetition is forgotten.
        `same` is what `first_same` says of the note's comparison."""
        start = 0 if note.comparison is None else same
        if start is None:
            return None
        for place, earlier in enumerate(note.alike[start:], start):
            if self._earlier.get(str(earlier.number)) is None:
                continue  # It was a repetition itself.
            images = (note.found.images, earlier.images)
            if place == start or _same_pictures(*images, self._access):
                self.forget(note)
                return earlier.id
        return None

    def forget(self, note: Note) -> None:
        """Nothing is to be dropped for repeating this seed, which is dropped itself."""
        self._earlier.remove(note.found.keys, note.number)
        self._earlier.remove([str(note.number)])

    def close(self) -> None:
        self._earlier.close()


def _alike(one: Print, other: Print) -> bool:
    """Whether only the pictures can tell the two apart."""
    if one.truth != other.truth or len(one.hashes) != len(other.hashes):
        return False
    if one.words != other.words:
        # Nearly the same words will do for long texts without a picture and with the same numbers.
        return (
            not one.hashes
            and min(weight(one.words), weight(other.words)) >= LONG_TEXT
            and numbers(one.words) == numbers(other.words)
            and in_order(one.words, other.words, TEXT_SIMILARITY) >= TEXT_SIMILARITY
        )
    hashes = zip(one.hashes, other.hashes, strict=True)
    return all((a ^ b).bit_count() <= _RADIUS for a, b in hashes)


def _same_pictures(ones: Images, others: Images, access: Access) -> bool:
    return all(_same_picture(a, b, access) for a, b in zip(ones, others, strict=True))


def _same_picture(one: ImageRef, other: ImageRef, access: Access) -> bool:
    if one == other:
        return True
    try:
        found = likeness(opened(one, access), opened(other, access))
    except RowError:  # It was there a moment ago.
        return False
    return found.correlation >= _CORRELATION and found.worst <= _WORST


def _keys(asked: Sequence[str], truth: Sequence[str], hashes: Sequence[int]) -> Iterator[int]:
    if hashes:
        for band in range(_BANDS):
            bits = (hashes[0] >> (16 * band)) & 0xFFFF
            yield _key(f"picture {band} {bits} {len(hashes)}", *asked, "", *truth)
        return
    yield _key("text", *asked, "", *truth)
    if weight(asked) >= LONG_TEXT:
        signature = _signature(asked)
        for start in range(0, _PERMUTATIONS, _ROWS):
            part = ",".join(map(str, signature[start : start + _ROWS]))
            # With the numbers: questions made from one template share all else by the thousand.
            yield _key(f"band {start} {part}", *numbers(asked), "", *truth)


def _signature(of: Sequence[str]) -> list[int]:
    """The MinHash of its runs of three words (Broder 1997)."""
    found = _empty_minhash().copy()
    found.update_batch(sorted(run.encode("utf-8", "surrogatepass") for run in ngrams(of, 3)))
    return [int(value) for value in found.hashvalues]


@functools.cache
def _empty_minhash() -> Any:
    """Made once: drawing its permutations takes longer than using them."""
    from datasketch import MinHash

    return MinHash(num_perm=_PERMUTATIONS, scheme=_SCHEME)


def _key(*parts: str) -> int:
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest()) >> 1


def _from_json(number: int, body: str) -> tuple[Earlier, Print]:
    name, asked, truth, hashes, refs = json.loads(body)
    images = tuple(ImageRef(**ref) for ref in refs)
    found = Print(tuple(asked), tuple(truth), tuple(hashes), images, ())
    return Earlier(number, name, images), found
