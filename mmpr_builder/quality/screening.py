"""The controls that work on seeds, in one pass while a build is planned, in the order of the input.

    look        pictures opened: a leak, or a print of the seed      wherever there are cores
    note        which earlier seeds may be the same                  here, in order
    compare     the pictures of those                                wherever there are cores
    settle      the first that is the same and was kept              here, in order

Expensive steps are pure functions of one seed and run some seeds ahead (io/ordered_map.py). What
depends on earlier seeds is decided here, in order: the same input gives the same drops with any
number of workers. A seed whose look fails could be anything, so it is dropped, too.

    same pictures (resized, re-encoded, cropped by some 5 %), same words and truth   near-duplicates
    no picture, the same long text but for articles and plurals, same truth          near-duplicates

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

import numpy as np

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
    content,
    hashes_with_crops,
    in_order,
    near,
    same_picture,
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

_RADIUS = 8
"""Bits of 64 between a picture and the nearest of 25 crops of the other. Of 200 real pictures that
were resized, re-encoded or cropped by 2 to 8 % some 97 % or more are within, of others 0.3 %."""

Images = tuple[ImageRef, ...]
Comparison = tuple[Images, tuple[Images, ...]]
"""The pictures of one seed, and those of seeds that may be the same."""


@dataclass(frozen=True, slots=True)
class Print:
    """What a seed is compared by: near-duplicates have the same `key`, and near `hashes` of each
    picture and its crops, or near `words` of a text without any."""

    key: bytes
    words: tuple[str, ...]
    hashes: tuple[tuple[int, ...], ...]
    images: Images


Look = tuple[str | None, Print | None]
"""Why a seed counts as part of an evaluation set, and what it is compared with other seeds by; None
where nothing can be compared."""


def screen_seeds(
    items: Iterable[Seed | Drop],
    config: Config,
    spread: Spread = in_threads,
    told: Callable[[int], object] = lambda _: None,
) -> Iterator[Seed | Drop]:
    """Seeds that are contaminated or near-duplicates become drops; all else passes unchanged.

    `spread` says where pictures are opened; `told` gets the number of each picture of evaluation
    sets, which come first. Raises `InputError` when an evaluation set cannot be
    read.
    """
    settings, near = config.quality.decontaminate, config.quality.near_duplicates
    if not settings.against and not near:
        yield from items
        return
    access = access_of([*config.seeds, *_evaluation_sources(settings)])
    index = None
    if settings.against:
        index = index_evaluation(_evaluation_sets(config), settings, spread, access, told)
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
        for item in seeds.read_source(source.model_copy(update={"roots": local, "allow": allow})):
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
            return leak, None
        return None, print_of(seed, access) if near else None

    return look


def _without_leak(item: Seed | Drop, look: Look | None) -> tuple[Seed | Drop, Print | None]:
    if isinstance(item, Drop):
        return item, None
    if look is None:
        return _not_screened(item, "opening its pictures"), None
    leak, found = look
    if leak is not None:
        return Drop(item.id, "quality", CONTAMINATED, f"{item.origin}: {leak}"), None
    return item, found


def _without_near_duplicates(
    items: Iterable[tuple[Seed | Drop, Print | None]], spread: Spread, access: Access
) -> Iterator[Seed | Drop]:
    with closing(NearDuplicates()) as earlier:
        noted = (
            (item, earlier.note(item.id, found) if found and isinstance(item, Seed) else None)
            for item, found in items
        )
        open_compare = functools.partial(functools.partial, same_places, access)
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
        if all(one.images == self.found.images for one in self.alike):
            return None
        return self.found.images, tuple(one.images for one in self.alike)


def print_of(seed: Seed, access: Access = NO_NETWORK) -> Print | None:
    """The print of a seed; None if a picture cannot be opened (sampling drops such a seed)."""
    try:
        hashes = tuple(hashes_with_crops(whole(ref, access)) for ref in seed.images)
    except RowError:
        return None
    truth = words(seed.answers[0]) or (seed.answers[0],) if seed.answers else ()
    asked = words(seed.question)
    loose = not hashes and weight(asked) >= LONG_TEXT
    parts = [str(len(hashes)), *(content(asked) if loose else asked), "", *truth]
    key = blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return Print(key, () if hashes else asked, hashes, seed.images)


def same_places(access: Access, asked: Comparison) -> tuple[int, ...]:
    """The places of the other seeds with the same pictures."""
    images, others = asked
    return tuple(
        place
        for place, other in enumerate(others)
        if all(_same_picture(a, b, access) for a, b in zip(images, other, strict=True))
    )


class NearDuplicates:
    """The seeds so far; holds a temporary file. About 1 KB of disk per seed, no memory.

    Each seed is noted, in order, then settled, in order: others may be noted in between.
    """

    def __init__(self) -> None:
        # Under each key the hashes of seeds by number, and under the number as text the seed.
        self._earlier = Keyed()
        self._count = 0

    def note(self, name: str, found: Print) -> Note:
        """Remember a seed and find those that it may repeat."""
        alike = []
        for number in _near(found.hashes, self._earlier.entries(found.key)):
            first, asked, refs = json.loads(self._earlier.get(str(number)) or "")
            if in_order(asked, found.words, TEXT_SIMILARITY) >= TEXT_SIMILARITY:
                images = tuple(ImageRef(**ref) for ref in refs)
                alike.append(Earlier(number, first, images))
        number, self._count = self._count, self._count + 1
        stored = json.dumps([name, found.words, [asdict(ref) for ref in found.images]])
        self._earlier.add(str(number), stored)
        hashes = np.array(found.hashes, np.uint64).tobytes().hex()
        self._earlier.add(found.key, hashes, number)
        return Note(number, found, tuple(alike))

    def settle(self, note: Note, same: Sequence[int] | None) -> str | None:
        """The id of the first seed that this one repeats, if any; a repetition is forgotten.
        `same` is what `same_places` says of the note's comparison."""
        places = range(len(note.alike)) if note.comparison is None else same or ()
        for earlier in (note.alike[place] for place in places):
            if self._earlier.get(str(earlier.number)) is not None:  # Else a repetition itself.
                self.forget(note)
                return earlier.id
        return None

    def forget(self, note: Note) -> None:
        """Nothing is to be dropped for repeating this seed, which is dropped itself."""
        self._earlier.remove([note.found.key], note.number)
        self._earlier.remove([str(note.number)])

    def close(self) -> None:
        self._earlier.close()


def _near(hashes: Sequence[Sequence[int]], entries: Sequence[tuple[int, str]]) -> Iterable[int]:
    """Which of these (number, hashes of another seed) may show the same pictures."""
    if not hashes or not entries:
        return [number for number, _ in entries]
    mine = np.array(hashes, np.uint64)
    stored = bytes.fromhex("".join(text for _, text in entries))
    theirs = np.frombuffer(stored, np.uint64).reshape(len(entries), *mine.shape)
    places = np.flatnonzero(near(mine, theirs, _RADIUS).all(1)).tolist()
    return [entries[place][0] for place in places]


def _same_picture(one: ImageRef, other: ImageRef, access: Access) -> bool:
    if one == other:
        return True
    try:
        mine, theirs = whole(one, access), whole(other, access)
    except RowError:  # It was there a moment ago.
        return False
    return same_picture(mine, theirs, strict=True) is not None
