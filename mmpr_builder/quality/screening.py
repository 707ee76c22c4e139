"""The controls that work on seeds, in one pass while a build is planned, in the order of the input.

    look        pictures opened: a leak, or a print of the seed      wherever there are cores
    note        which earlier seeds may be the same                  here, in order
    compare     the pictures of those                                wherever there are cores
    settle      the first that is the same and was kept              here, in order

The dear steps are pure functions of one seed and run some seeds ahead (io/ordered_map.py). What
depends on earlier seeds is decided here, in order: the same input gives the same drops with any
number of workers. A seed whose look fails could be anything, so it is dropped, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from mmpr_builder import seeds
from mmpr_builder.config import Config, DecontaminateConfig, SourceConfig
from mmpr_builder.io.access import Access, access_of
from mmpr_builder.io.ordered_map import Spread, in_threads
from mmpr_builder.quality.contamination import (
    CONTAMINATED,
    Decontaminator,
    EvaluationIndex,
    index_evaluation,
)
from mmpr_builder.quality.near_duplicates import (
    NEAR_DUPLICATE,
    NearDuplicates,
    Print,
    first_same,
    print_of,
)
from mmpr_builder.records import Drop, Seed

NOT_SCREENED = "not_screened"

_LOST = "ends every process that tries it, or asks for more memory than there is"


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at one seed says. `leak` is why it counts as part of an evaluation set; `found`
    what it is compared with other seeds by, None where nothing can be compared."""

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
    look = partial(_open_look, index, settings, near, access)
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
        open_compare = partial(partial, first_same, access)
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
