"""More seeds for a build that is there: a new source, more rows, a higher limit.

Units and parts keep their bytes, and their seeds are not sampled again, wherever the inputs have
them now; what is new becomes further units. Every seed of the build must still be found in the
inputs, unchanged. The pairs are those of a fresh build of the same inputs, with one exception: a
seed keeps the id it has, where a fresh build would number rows under one id in another order.

    out/seeds/unit-00012.parquet   the first unit of new seeds, their indices behind all old ones
    out/seeds/drops-1.parquet      what is dropped while reading the inputs as they are now
    out/seeds/order-1.parquet      where each seed stands in them (order.py)
    out/manifest.json              replaced last: until then the build is the old one
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from mmpr_builder.distributed.manifest import Identity, Manifest, Unit
from mmpr_builder.distributed.order import Shift, shifts_of
from mmpr_builder.errors import BuildConflictError
from mmpr_builder.records import Drop, Seed
from mmpr_builder.seeds import Taken, asked

_READERS = 16  # Small files; on an object store it is all waiting.
_NAMED = 5  # Missing seeds in the message.

ReadSeeds = Callable[[Unit], list[tuple[int, Seed]]]


@dataclass(slots=True)
class Known:
    """The seeds of a build: some hundred bytes for each while the inputs are read again."""

    taken: Taken
    places: dict[str, tuple[int, bytes]]
    """id -> (index, what it asks)."""
    next_index: int


@dataclass(slots=True)
class Found:
    """What the inputs have now; complete once `new_seeds` has run out."""

    places: list[tuple[int, int]] = field(default_factory=list)
    """(index, place in the input) of all seeds."""
    drops: list[tuple[int, Drop]] = field(default_factory=list)
    """(place, drop)."""

    def shifts(self) -> list[Shift]:
        return shifts_of(self.places)


def known_seeds(manifest: Manifest, read: ReadSeeds) -> Known:
    """The seeds of all units, whether they are sampled or not."""
    with ThreadPoolExecutor(_READERS) as pool:
        rows = [row for unit in pool.map(read, manifest.units) for row in unit]
    return Known(
        taken=Taken(seed for _, seed in rows),
        places={seed.id: (index, asked(seed, truths=True)) for index, seed in rows},
        next_index=max((index for index, _ in rows), default=-1) + 1,
    )


def new_seeds(
    out: str, items: Iterable[Seed | Drop], known: Known, found: Found
) -> Iterator[tuple[int, Seed]]:
    """The seeds that the build does not have, with new indices.

    `items` are the inputs as they are now, read with `known.taken`. Raises `BuildConflictError`
    at their end when seeds of the build are gone, changed, or without a usable truth by the
    scorers of now, naming some.
    """
    missing = dict(known.places)
    dropped: list[Drop] = []
    index = known.next_index
    for place, item in enumerate(items):
        if isinstance(item, Drop):
            found.drops.append((place, item))
            if item.stage == "audit" and missing.pop(item.item_id, None) is not None:
                dropped.append(item)
        elif item.id in known.places:
            old_index, content = known.places[item.id]
            if content == asked(item, truths=True):
                del missing[item.id]
            found.places.append((old_index, place))
        else:
            found.places.append((index, place))
            yield index, item
            index += 1
    if dropped:
        raise BuildConflictError(
            f"{out}: {len(dropped):,} seeds of this build have no usable truth any more, say"
            f" {dropped[0].item_id!r} ({dropped[0].detail}): extend with the scorers, and the"
            " version of this package, that the build was planned with; `mmpr pair` takes others"
        )
    if missing:
        names = ", ".join(map(repr, list(missing)[:_NAMED]))
        more = f" and {len(missing) - _NAMED:,} more" if len(missing) > _NAMED else ""
        raise BuildConflictError(
            f"{out}: {len(missing):,} seeds of this build are no longer in the inputs as they were:"
            f" {names}{more}. A build can grow, not change: restore them (and scorers that can use"
            " their truths), or give another out="
        )


def extended(manifest: Manifest, identity: Identity, units: Iterable[Unit], drops: int) -> Manifest:
    """The manifest of the grown build."""
    return replace(
        manifest,
        identity=identity,
        units=(*manifest.units, *units),
        drops=drops,
        extensions=manifest.extensions + 1,
    )
