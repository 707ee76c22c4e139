"""The controls that work on seeds, in one pass while a build is planned, in the order of the input.

    look        pictures opened: a leak, or a print of the seed      wherever there are cores
    note        which earlier seeds may be the same                  here, in order
    compare     the pictures of those                                wherever there are cores
    settle      the first that is the same and was kept              here, in order

Expensive steps are pure functions of one seed and run some seeds ahead (io/ordered_map.py). What
depends on earlier seeds is decided here, in order: the same input gives the same drops with any
number of workers. A seed whose look fails could be anything, so it is dropped, too.

    same pictures (resized, re-encoded), same words, same truth     near-duplicates
    no picture, the same long text but for articles and plurals,
      same numbers and truth                                        near-duplicates

"The same words" ignores case, blanks and punctuation only: next to one picture "How many red ones?"
and "How many blue ones?" are two questions. The truth counts because two drawings can differ in one
small label, and pictures that look alike are compared patch by patch. Reading drops exact
repetitions as `duplicate_seed`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Literal

from mmpr_builder import seeds
from mmpr_builder.config import Config, DecontaminateConfig, SourceConfig
from mmpr_builder.errors import RowError
from mmpr_builder.io.access import Access, access_of
from mmpr_builder.io.images import NO_NETWORK
from mmpr_builder.io.keyed import Keyed
from mmpr_builder.io.ordered_map import Spread, in_threads
from mmpr_builder.quality.contamination import (
    CONTAMINATED,
    Decontaminator,
    EvaluationIndex,
    index_evaluation,
)
from mmpr_builder.quality.likeness import (
    in_order,
    likeness,
    ngrams,
    numbers,
    only_forms_differ,
    opened,
    picture_hash,
    same_details,
    squared,
    weight,
    whole,
    words,
)
from mmpr_builder.records import Drop, ImageRef, Seed

NOT_SCREENED, NEAR_DUPLICATE = "not_screened", "near_duplicate"
_LOST = "ends every process that tries it, or asks for more memory than there is"

TEXT_SIMILARITY = 0.9
"""Share of words, in order, that two texts without a picture have in common at least."""
LONG_TEXT = 12
"""Words from which a text may differ a little; a shorter one must have the very same words."""

_RADIUS = 6  # Bits of 64; resized and re-encoded pictures differ in 2 (95 %).
_BANDS = 8  # Of 8 bits: two hashes that differ in less than 8 bits share one for certain.
_CORRELATION, _WORST = 0.88, 16.0
_SCHEME: Literal["affine32"] = "affine32"
_PERMUTATIONS, _ROWS = 32, 4  # 8 bands of 4: texts with 0.8 of their runs meet with 98.5 %.

Images = tuple[ImageRef, ...]
Comparison = tuple[Images, tuple[Images, ...]]
"""The pictures of one seed, and those of seeds that may be the same."""


@dataclass(frozen=True, slots=True)
class Print:
    """What a seed is compared by: `hashes` one per picture; near-duplicates share one of `keys`."""

    words: tuple[str, ...]
    truth: tuple[str, ...]
    hashes: tuple[int, ...]
    images: Images
    keys: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at one seed says: why it counts as part of an evaluation set, and what it is
    compared with other seeds by, None where nothing can be compared."""

    leak: str | None
    found: Print | None


def screen_seeds(
    items: Iterable[Seed | Drop], config: Config, spread: Spread = in_threads
) -> Iterator[Seed | Drop]:
    """Seeds that are contaminated or near-duplicates become drops; all else passes unchanged.

    `spread` says where pictures are opened. Raises `InputError` when an evaluation set cannot be
    read.
    """
    settings, near = config.quality.decontaminate, config.quality.near_duplicates
    if not settings.against and not near:
        yield from items
        return
    access = access_of([*config.seeds, *_evaluation_sources(settings)])
    index = None
    if settings.against:
        index = index_evaluation(_evaluation_sets(config), settings, spread, access)
    look = functools.partial(_open_look, index, settings, near, access)
    looked = spread(look, items, lambda item: item if isinstance(item, Seed) else None)
    clean = (_without_leak(item, found) for item, found in looked)
    if near:
        yield from _without_near_duplicates(clean, spread, access)
    else:
        yield from (item for item, _ in clean)


def fingerprint(config: DecontaminateConfig) -> dict[str, str]:
    """File of an evaluation set -> what changes when its content does."""
    found: dict[str, str] = {}
    for source in _evaluation_sources(config):
        prints = seeds.fingerprint(source)
        found.update({f"decontaminate:{name}": value for name, value in prints.items()})
    return found


def _evaluation_sets(config: Config) -> Iterator[tuple[str, Seed | Drop]]:
    """(name, row) of every evaluation set, in order.

    Their rows may name what those of any source may, besides files beside them.
    """
    roots = [root for source in config.seeds for root in (source.root, *source.roots) if root]
    local = [root for root in roots if "://" not in root]
    allow = [entry for source in config.seeds for entry in source.allow]
    for source in _evaluation_sources(config.quality.decontaminate):
        for item in seeds.read_seeds(source.path, split=source.split, roots=local, allow=allow):
            yield source.path, item


def _evaluation_sources(config: DecontaminateConfig) -> list[SourceConfig]:
    return [SourceConfig(path=path, split=config.split) for path in config.against]


def _open_look(
    index: EvaluationIndex | None, config: DecontaminateConfig, near: bool, access: Access
) -> Callable[[Seed], Look]:
    checker = None if index is None else Decontaminator(index, config, access)

    def look(seed: Seed) -> Look:
        leak = None if checker is None else checker.leak(seed)
        if leak is not None:
            return Look(leak.detail, None)
        return Look(None, print_of(seed, access) if near else None)

    return look


def _without_leak(item: Seed | Drop, look: Look | None) -> tuple[Seed | Drop, Print | None]:
    if isinstance(item, Drop):
        return item, None
    if look is None:
        return _not_screened(item, "opening its pictures"), None
    if look.leak is not None:
        return Drop(item.id, "quality", CONTAMINATED, f"{item.origin}: {look.leak}"), None
    return item, look.found


def _without_near_duplicates(
    items: Iterable[tuple[Seed | Drop, Print | None]], spread: Spread, access: Access
) -> Iterator[Seed | Drop]:
    with closing(NearDuplicates(access)) as earlier:
        noted = (
            (item, earlier.note(item.id, found) if found and isinstance(item, Seed) else None)
            for item, found in items
        )
        open_compare = functools.partial(functools.partial, first_same, access)
        for (item, note), same in spread(
            open_compare, noted, lambda entry: entry[1] and entry[1].comparison
        ):
            first = None if note is None else earlier.settle(note, same)
            if isinstance(item, Drop) or note is None:
                yield item
            elif note.comparison is not None and same is None:
                earlier.forget(note)
                yield _not_screened(item, "comparing its pictures with those of other seeds")
            elif first is None:
                yield item
            else:
                detail = f"{item.origin}: nearly the same as {first!r}, which was read before"
                yield Drop(item.id, "quality", NEAR_DUPLICATE, detail)


def _not_screened(seed: Seed, what: str) -> Drop:
    return Drop(seed.id, "quality", NOT_SCREENED, f"{seed.origin}: {what} {_LOST}")


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
            and only_forms_differ(one.words, other.words)
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
        mine, theirs = whole(one, access), whole(other, access)
    except RowError:  # It was there a moment ago.
        return False
    found = likeness(squared(mine), squared(theirs))
    alike = found.correlation >= _CORRELATION and found.worst <= _WORST
    return alike and same_details(mine, theirs)


def _keys(asked: Sequence[str], truth: Sequence[str], hashes: Sequence[int]) -> Iterator[int]:
    if hashes:
        for band in range(_BANDS):
            bits = (hashes[0] >> (8 * band)) & 0xFF
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
