"""More seeds for a build that is there: a new source, more rows, a higher limit.

Shards and parts keep their bytes; new seeds become further shards. Every seed of the build must
still be in the inputs, unchanged, wherever. The pairs are those of a fresh build of the same
inputs, except that seeds keep their id, where a fresh build might number rows of one id otherwise.

    out/seeds/unit-00012.parquet   the first shard of new seeds, their indices behind all old ones
    out/seeds/drops-1.parquet      what is dropped while reading the inputs as they are now
    out/seeds/order-1.parquet      where each seed stands in them (folder/order.py)
    out/manifest.json              replaced last: until then the build is the old one
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import PurePosixPath

from mmpr_builder.errors import BuildConflictError
from mmpr_builder.folder import join
from mmpr_builder.folder.manifest import Identity, Manifest, Unit
from mmpr_builder.folder.order import Shift, shifts_of
from mmpr_builder.io.stores import names_in, remove_file
from mmpr_builder.records import Drop, Seed
from mmpr_builder.seeds import Taken, asked

_READERS = 16  # Small files; object stores answer slowly.
_NAMED = 5  # Missing seeds in the message, and seeds that are checked for the cause.
_PLANNED = re.compile(r"(unit|drops|order)-(\d+)\.parquet")
_NUMBERED = re.compile(r"(.+)#\d+")

ReadSeeds = Callable[[Unit], list[tuple[int, Seed]]]


class Known(Taken):
    """The seeds of a build while its inputs are read again, some 400 bytes each on disk."""

    def __init__(self, units: Sequence[Unit], read: ReadSeeds) -> None:
        self._units = units
        self._read = read
        self._missing = bytearray()
        super().__init__(self._noted(_rows(units, read)))

    def _noted(self, rows: Iterable[tuple[int, Seed]]) -> Iterator[tuple[int, Seed]]:
        for index, seed in rows:
            self._missing.extend(bytes(max(0, index + 1 - len(self._missing))))
            self._missing[index] = 1
            yield index, seed

    @property
    def next_index(self) -> int:
        return len(self._missing)

    def seed(self, index: int) -> Seed:
        """The seed of that index, read from its unit."""
        unit = max((u for u in self._units if u.first <= index), key=lambda unit: unit.first)
        return dict(self._read(unit))[index]

    def met(self, index: int) -> bool:
        """Note that the inputs still have this seed; returns whether that was unknown."""
        was_missing = bool(self._missing[index])
        self._missing[index] = 0
        return was_missing

    def is_missing(self, index: int) -> bool:
        return bool(self._missing[index])

    def missing(self) -> tuple[int, list[str]]:
        """How many seeds the inputs do not have, and the ids of some."""
        count, at = self._missing.count(1), -1
        names: list[str] = []
        while len(names) < min(count, _NAMED):
            at = self._missing.index(1, at + 1)
            names.append(self.id_of(at))
        return count, names


@dataclass(slots=True)
class Found:
    """Where the inputs have the seeds now; complete once `new_seeds` is exhausted."""

    indices: array[int] = field(default_factory=lambda: array("q"))
    places: array[int] = field(default_factory=lambda: array("q"))
    """The place in the input of each of `indices`."""

    def add(self, index: int, place: int) -> None:
        self.indices.append(index)
        self.places.append(place)

    def shifts(self) -> list[Shift]:
        return shifts_of(zip(self.indices, self.places, strict=True))


def _rows(units: Sequence[Unit], read: ReadSeeds) -> Iterator[tuple[int, Seed]]:
    with ThreadPoolExecutor(_READERS) as pool:
        for start in range(0, len(units), _READERS):  # The pool would read them all ahead.
            for rows in pool.map(read, units[start : start + _READERS]):
                yield from rows


def new_seeds(
    out: str, items: Iterable[Seed | Drop], known: Known, found: Found
) -> Iterator[tuple[int, Seed | Drop]]:
    """Seeds that the build does not have, with new indices, and all drops with their place.

    `items` are the inputs of now, read with `known`. Raises `BuildConflictError` at their
    end, naming some, when seeds of the build are gone, changed, or without a usable truth by the
    scorers of now.
    """
    dropped: list[Drop] = []
    namesakes: list[tuple[int, Seed]] = []
    index, number_of = known.next_index, known.number_of
    for place, item in enumerate(items):
        if isinstance(item, Drop):
            yield place, item
            before = number_of(item.item_id) if item.stage == "audit" else None
            if before is not None and known.met(before):
                dropped.append(item)
            continue
        before = number_of(item.id)
        if before is None:
            same_id = _NUMBERED.fullmatch(item.id) if len(namesakes) < _NAMED else None
            if same_id and (other := number_of(same_id[1])) is not None:
                namesakes.append((other, item))
            found.add(index, place)
            yield index, item
            index += 1
        else:
            found.add(before, place)
            if known.asks(before, item):
                known.met(before)
    missing, named = known.missing()
    if dropped:
        raise BuildConflictError(
            f"{out}: {len(dropped):,} seeds of this build have no usable truth any more, say"
            f" {dropped[0].item_id!r} ({dropped[0].detail}): extend with the scorers, and the"
            " version of this package, that the build was planned with; `mmpr pair` takes others"
        )
    if missing:
        names = ", ".join(map(repr, named))
        more = f" and {missing - len(named):,} more" if missing > len(named) else ""
        raise BuildConflictError(
            f"{out}: {missing:,} seeds of this build are no longer in the inputs as they were:"
            f" {names}{more}. "
            + (
                _moved(known, namesakes)
                or "A build can grow, not change: restore them (and scorers that can use their"
                " truths), or give another out="
            )
        )


def _moved(known: Known, namesakes: Iterable[tuple[int, Seed]]) -> str:
    """The fix if rows that count as new are seeds of the build whose pictures lie elsewhere now,
    else "". `namesakes` are such rows with the index of the seed of that id."""
    for index, item in namesakes:
        if known.is_missing(index) and (folders := _other_folders(known.seed(index), item)):
            before, now = folders
            return (
                f"Their images were in {before} when the build was planned and are in {now} now:"
                " the folder was moved or copied, or is reached by another path. Extend the build"
                f" where it was, by its old path (a link from {before} to {now} will do), or give"
                " another out="
            )
    return ""


def _other_folders(planned: Seed, now: Seed) -> tuple[str, str] | None:
    """The image folders of two seeds that differ in nothing else; None if they do."""
    there = replace(now, images=planned.images)
    if asked(there, now.answers) != asked(planned, planned.answers):
        return None
    if len(planned.images) != len(now.images):
        return None
    pairs = [(a, b) for a, b in zip(planned.images, now.images, strict=True) if a != b]
    if not pairs or any(PurePosixPath(a.uri).name != PurePosixPath(b.uri).name for a, b in pairs):
        return None
    before, after = pairs[0]
    paths = (reversed(PurePosixPath(ref.uri).parts) for ref in (before, after))
    same = takewhile(lambda names: names[0] == names[1], zip(*paths, strict=False))
    end = "/".join(reversed([name for name, _ in same]))
    folders = [ref.uri.removesuffix(end).rstrip("/") or "/" for ref in (before, after)]
    return None if folders[0] == folders[1] else (folders[0], folders[1])


def remove_unplanned(out: str, manifest: Manifest) -> None:
    """Remove what an unfinished extension left in seeds/; for the holder of the folder's lock."""
    units = {f"{unit.name}.parquet" for unit in manifest.units}
    for name in names_in(join(out, "seeds")):
        match = _PLANNED.fullmatch(name)
        if match is None or name in units:
            continue
        if match[1] == "unit" or int(match[2]) > manifest.extensions:
            remove_file(join(out, "seeds", name))


def extended(manifest: Manifest, identity: Identity, units: Iterable[Unit], drops: int) -> Manifest:
    """The manifest of the grown build."""
    return replace(
        manifest,
        identity=identity,
        units=(*manifest.units, *units),
        drops=drops,
        extensions=manifest.extensions + 1,
    )
