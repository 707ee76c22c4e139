"""A piece of pooled work: some seeds, and where the rollouts of each lie.

PooledSlice("pool-00003", (PooledSeed("q1", 0, (Member(0, 0, 17), Member(1, 1, 4))), …),
            ("out/a/rollouts/unit-00000.parquet", "out/b/rollouts/unit-00002.parquet"), …)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from mmpr_builder.config import Config, SourceConfig
from mmpr_builder.pairing.judging import comes_from
from mmpr_builder.pairing.pooled import PooledRollout, pool
from mmpr_builder.records import Drop, Rollout, Seed
from mmpr_builder.tables import read_parquet, rollouts_from_table

_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Member:
    """One rollout: number of its build, of its part among the piece's, and its index there."""

    build: int
    part: int
    number: int


@dataclass(frozen=True, slots=True)
class PooledSeed:
    """A seed under its id in the pool, its place in the order of the pool, and its rollouts."""

    id: str
    place: int
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class PooledSlice:
    """Seeds that follow each other in the order of the pool."""

    name: str
    seeds: tuple[PooledSeed, ...]
    uris: tuple[str, ...]
    """The parts that hold their rollouts."""
    folders: tuple[str, ...]
    settings: tuple[Config, ...]
    """By build: what its rollouts were sampled with."""
    image_bytes: int = 0
    reading: str = ""
    """Of which pool it is, so that what was read for another one is read again."""

    def read(self) -> list[Rollout]:
        """The pooled rollouts, in order."""
        wanted: dict[int, list[int]] = {}
        for member in (m for seed in self.seeds for m in seed.members):
            wanted.setdefault(member.part, []).append(member.number)
        found = {
            (part, rollout.index): rollout
            for part, numbers in wanted.items()
            for rollout in _rollouts(self.uris[part], numbers, self.reading)
        }
        return [self._pooled(seed, found) for seed in self.seeds]

    def _pooled(self, seed: PooledSeed, found: Mapping[tuple[int, int], Rollout]) -> PooledRollout:
        members = [found[m.part, m.number] for m in seed.members]
        first = replace(members[0].seed, id=seed.id)
        pooled = pool(
            [replace(member, seed=first, index=seed.place) for member in members],
            [self.settings[m.build] for m in seed.members],
        )
        truths = [member.seed.answers for member in members]
        return replace(pooled, drop=self._disputed(seed, truths) or _unlicensed(pooled))

    def _disputed(self, seed: PooledSeed, truths: Sequence[tuple[str, ...]]) -> Drop | None:
        if len(set(truths)) == 1:
            return None
        said = "; ".join(
            f"{list(answers)!r}"[:_SHOWN] + f" in {self.folders[member.build]}"
            for member, answers in zip(seed.members, truths, strict=True)
        )
        return Drop(seed.id, "pairing", "truths_differ", said)


def _unlicensed(pooled: PooledRollout) -> Drop | None:
    """The drop of a seed from a source that `licenses` leaves out, or that the recipe does not
    have: the builds may have been made with other sources."""
    config, seed = pooled.settings[0], pooled.seed
    if config.licenses == "any" or any(_is_of(seed, source) for source in config.seeds):
        return None
    known = {source.name: source.reason for source in config.left_out}
    why = known.get(seed.source, "the recipe has no such source, so no licence is known")
    return Drop(seed.id, "quality", "licence_not_allowed", f"{seed.source or 'unnamed'}: {why}")


def _is_of(seed: Seed, source: SourceConfig) -> bool:
    """Whether a seed is of this source. All seeds of a source with a name bear it, so a file of
    the same name (`train.jsonl`) says nothing."""
    if seed.source and source.name:
        return seed.source == source.name
    return comes_from(seed, source)


def _rollouts(uri: str, numbers: Iterable[int], reading: str) -> Sequence[Rollout]:
    """The rollouts of these indices in one part."""
    table = _part(uri, reading)
    rows = pc.is_in(table["index"], value_set=pa.array(numbers, pa.int64()))
    return rollouts_from_table(table.filter(rows).combine_chunks())


@lru_cache(maxsize=4)  # Pieces and parts do not begin at the same seeds: neighbours share some.
def _part(uri: str, reading: str) -> pa.Table:
    return read_parquet(uri)
