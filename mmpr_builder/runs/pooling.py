"""Several builds read as one: brings the rollouts of the same seed together.

    out/a   q1 q2 q3        q1 (a, b)   q2 (a)   q3 (a, b)   q9 (b)
    out/b   q3 q9 q1   ->   in the order of the first build that has the seed

Seeds are the same if question, options, truths and pictures (by SHA-256) are, whatever their ids
and wherever the pictures lie. A seed keeps its id in the first build; another seed with this id in
a later build becomes `ID#2`. Seeds of one id that ask the same with *other truths* are dropped as
`truths_differ`: it is not known which are right. Planning's drops have no content, only their id.

The join is a table in a temporary file, some 200 bytes for each rollout; in memory are the parts'
names, and the seeds of the slices under way.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass, replace
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mmpr_builder.config import Config, SourceConfig, comes_from
from mmpr_builder.folder.order import Slice
from mmpr_builder.io.keyed import Keyed, temporary_database
from mmpr_builder.io.tables import read_parquet, rollouts_from_table
from mmpr_builder.pairing.pooled import PooledRollout, pool
from mmpr_builder.records import Drop, Rollout, Seed, content_id
from mmpr_builder.runs.builds import Build, pooled_build
from mmpr_builder.runs.planning import cut

_SHOWN = 80


@dataclass(frozen=True, slots=True)
class PooledSeed:
    """A seed under its id in the pool, its place in the order of the pool, and its rollouts: each
    the number of its build, of its part, and its index there."""

    id: str
    place: int
    members: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class PooledSlice:
    """Seeds that follow each other in the order of the pool.

    PooledSlice("pool-00003", (PooledSeed("q1", 0, ((0, 0, 17), (1, 1, 4))), …),
                {0: "out/a/rollouts/unit-00000.parquet", 1: "out/b/rollouts/…"}, …)
    """

    name: str
    seeds: tuple[PooledSeed, ...]
    uris: dict[int, str]
    """The parts that hold their rollouts, by number."""
    folders: tuple[str, ...]
    settings: tuple[Config, ...]
    """By build: what its rollouts were sampled with."""
    image_bytes: int = 0
    reading: str = ""
    """The pool that it belongs to: parts that another pool read are read again."""

    def read(self) -> list[Rollout]:
        """The pooled rollouts, in order."""
        wanted: dict[int, list[int]] = {}
        for _, part, number in (member for seed in self.seeds for member in seed.members):
            wanted.setdefault(part, []).append(number)
        found = {
            (part, rollout.index): rollout
            for part, numbers in wanted.items()
            for rollout in _rollouts(self.uris[part], numbers, self.reading)
        }
        return [self._pooled(seed, found) for seed in self.seeds]

    def _pooled(self, seed: PooledSeed, found: Mapping[tuple[int, int], Rollout]) -> PooledRollout:
        members = [found[part, number] for _, part, number in seed.members]
        first = replace(members[0].seed, id=seed.id)
        pooled = pool(
            [replace(member, seed=first, index=seed.place) for member in members],
            [self.settings[build] for build, _, _ in seed.members],
        )
        truths = [member.seed.answers for member in members]
        return replace(pooled, drop=self._disputed(seed, truths) or _unlicensed(pooled))

    def _disputed(self, seed: PooledSeed, truths: Sequence[tuple[str, ...]]) -> Drop | None:
        if len(set(truths)) == 1:
            return None
        said = "; ".join(
            f"{list(answers)!r}"[:_SHOWN] + f" in {self.folders[build]}"
            for (build, _, _), answers in zip(seed.members, truths, strict=True)
        )
        return Drop(seed.id, "pairing", "truths_differ", said)


def _unlicensed(pooled: PooledRollout) -> Drop | None:
    """The drop of a seed whose source `licenses` leaves out, or the recipe does not have: the
    builds may have other sources."""
    config, seed = pooled.settings[0], pooled.seed
    if config.licenses == "any" or any(_is_of(seed, source) for source in config.seeds):
        return None
    known = {source.name: source.reason for source in config.left_out}
    why = known.get(seed.source, "the recipe has no such source, so no licence is known")
    return Drop(seed.id, "quality", "licence_not_allowed", f"{seed.source or 'unnamed'}: {why}")


def _is_of(seed: Seed, source: SourceConfig) -> bool:
    """Whether a seed is of this source: by the source's name if it has one, since several sources
    can have a file of the same name (`train.jsonl`)."""
    if seed.source and source.name:
        return seed.source == source.name
    return comes_from(seed, source)


def _rollouts(uri: str, numbers: Iterable[int], reading: str) -> Sequence[Rollout]:
    """The rollouts of these indices in one part."""
    table = _part(uri, reading)
    rows = pc.is_in(table["index"], value_set=pa.array(numbers, pa.int64()))
    return rollouts_from_table(table.filter(rows).combine_chunks())


@lru_cache(maxsize=4)  # Slices and parts begin at different seeds, so neighbours share parts.
def _part(uri: str, reading: str) -> pa.Table:
    return read_parquet(uri)


_COLUMNS = ("index", "id", "question", "images", "answers", "choices", "image_sha256")
_BUILD_STEP = 2**44
"""Places of one build before those of the next begin: an order over all of them."""

_ROWS = """
CREATE TABLE rows (
    place INTEGER PRIMARY KEY, build INT, part INT, number INT, id TEXT,
    said BLOB, truths BLOB, has_truth INT, pictures BLOB
)"""
# A seed whose picture was not opened has no hashes: it equals the one that asks the same under the
# same id elsewhere, else none.
_FIND_PICTURES = """
UPDATE rows SET pictures = (
    SELECT r.pictures FROM rows r
    WHERE r.id = rows.id AND r.said = rows.said AND r.truths = rows.truths
      AND r.pictures IS NOT NULL
    ORDER BY r.place LIMIT 1
) WHERE pictures IS NULL"""
_UNKNOWN_PICTURES = "UPDATE rows SET pictures = CAST(id AS BLOB) WHERE pictures IS NULL"
# The same id, the same question, other truths: one seed, which pairing drops.
_DISPUTED = """
CREATE TABLE disputed AS
SELECT DISTINCT a.id, a.said, a.pictures FROM rows a JOIN rows b ON a.id = b.id
WHERE a.build < b.build AND a.said = b.said AND a.pictures = b.pictures
  AND a.truths <> b.truths AND a.has_truth AND b.has_truth"""
_JOIN_DISPUTED = """
UPDATE rows SET truths = x''
WHERE has_truth AND (id, said, pictures) IN (SELECT id, said, pictures FROM disputed)"""
# Copies of a picture make seeds of one build that ask the same; they stay apart.
_NUMBERED = """
CREATE TABLE numbered AS
SELECT place, said || truths || pictures AS asks, ROW_NUMBER() OVER (
    PARTITION BY build, said || truths || pictures ORDER BY id, place
) AS nth FROM rows"""
_POOLED = """
CREATE TABLE pooled AS
SELECT place, MIN(place) OVER (PARTITION BY asks, nth) AS first FROM numbered"""
_SHARED = "SELECT COUNT(DISTINCT first) FROM pooled WHERE place <> first"
_IN_ORDER = """
SELECT pooled.first, rows.id, rows.build, rows.part, rows.number
FROM pooled JOIN rows ON rows.place = pooled.place ORDER BY pooled.first, pooled.place"""


_STEPS = (
    "CREATE INDEX by_id ON rows (id)",
    *(_FIND_PICTURES, _UNKNOWN_PICTURES, _DISPUTED, _JOIN_DISPUTED, _NUMBERED, _POOLED),
)


class Pool:
    """The joined seeds of several builds, in a temporary file until it is closed."""

    def __init__(self, builds: Sequence[Build], config: Config) -> None:
        """Read the rollouts' questions; the responses stay where they are."""
        self._builds = builds
        self._config = config
        self._reading = uuid.uuid4().hex
        self._uris: list[str] = []
        self._image_bytes: list[float] = []  # By part: of one of its rows, on average.
        self._db = temporary_database()
        self._db.execute(_ROWS)
        for number, build in enumerate(builds):
            self._read(number, build)
        for step in _STEPS:
            self._db.execute(step)
        (self.seeds,) = self._db.execute("SELECT COUNT(DISTINCT first) FROM pooled").fetchone()
        (self.shared,) = self._db.execute(_SHARED).fetchone()
        self._take_drops()
        (self.dropped,) = self._db.execute("SELECT COUNT(*) FROM drops").fetchone()

    def close(self) -> None:
        """Remove the file."""
        self._db.close()

    @property
    def count(self) -> int:
        """About how many pieces there are."""
        return 1 + int(self.seeds) // self._config.distributed.unit_queries

    def drops(self) -> Iterator[tuple[int, Drop]]:
        """(place, drop) of what planning dropped in some build and no build sampled, in order."""
        for place, row in self._db.execute("SELECT place, row FROM drops ORDER BY place"):
            yield place, Drop(*json.loads(row))

    def pieces(self) -> Iterator[PooledSlice]:
        """All seeds in slices, cut as planning cuts units."""
        limits = self._config.distributed
        slices = cut(self._seeds(), self._size, limits.unit_queries, limits.unit_bytes)
        for number, (seeds, image_bytes) in enumerate(slices):
            parts = sorted({part for seed in seeds for _, part, _ in seed.members})
            yield PooledSlice(
                name=f"pool-{number:05}",
                seeds=tuple(seeds),
                uris={part: self._uris[part] for part in parts},
                folders=tuple(build.folder for build in self._builds),
                settings=tuple(build.config for build in self._builds),
                image_bytes=image_bytes,
                reading=self._reading,
            )

    def _size(self, seed: PooledSeed) -> float:
        return self._image_bytes[seed.members[0][1]]

    def _seeds(self) -> Iterator[PooledSeed]:
        with closing(Keyed()) as taken:
            rows = self._db.execute(_IN_ORDER)
            for first, group in groupby(rows, key=itemgetter(0)):
                members = list(group)
                name = self._unique(members[0][1], taken)
                yield PooledSeed(name, first, tuple((b, p, index) for *_, b, p, index in members))

    def _unique(self, wanted: str, taken: Keyed) -> str:
        name, number = wanted, 1
        while (number > 1 and self._is_known(name)) or not taken.add(name):
            number += 1
            name = f"{wanted}#{number}"
        return name

    def _is_known(self, name: str) -> bool:
        query = "SELECT 1 FROM rows WHERE id = ? UNION ALL SELECT 1 FROM drops WHERE id = ? LIMIT 1"
        return self._db.execute(query, (name, name)).fetchone() is not None

    def _take_drops(self) -> None:
        self._db.execute("CREATE TABLE drops (place INTEGER PRIMARY KEY, id TEXT UNIQUE, row TEXT)")
        for number, build in enumerate(self._builds):
            self._db.executemany(
                "INSERT OR IGNORE INTO drops SELECT ?1, ?2, ?3"
                " WHERE NOT EXISTS (SELECT 1 FROM rows WHERE id = ?2)",
                (
                    (number * _BUILD_STEP + place, drop.item_id, json.dumps(astuple(drop)))
                    for place, drop in build.drops
                ),
            )

    def _read(self, number: int, build: Build) -> None:
        slices: dict[str, list[Slice]] = {}
        for piece in build.slices:
            slices.setdefault(piece.uri, []).append(piece)
        start = number * _BUILD_STEP
        for uri, pieces in slices.items():
            part = len(self._uris)
            self._uris.append(uri)
            rows = sorted(read_parquet(uri, _COLUMNS).to_pylist(), key=itemgetter("index"))
            self._image_bytes.append(pieces[0].image_bytes / max(1, len(rows)))
            places = (
                (number * _BUILD_STEP + _place(row["index"], pieces) for row in rows)
                if build.has_plan
                else range(start, start + len(rows))
            )
            self._db.executemany(
                "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (place, number, part, row["index"], *_asks(row))
                    for place, row in zip(places, rows, strict=True)
                ),
            )
            start += len(rows)


def pooled_rollouts(config: Config) -> Iterator[Rollout]:
    """The rollouts of `config.rollouts`, seed by seed; raises as `pooled_build` does."""
    builds = [pooled_build(folder, config) for folder in config.rollouts]
    with closing(Pool(builds, config)) as pool:
        for piece in pool.pieces():
            yield from piece.read()


def _place(index: int, pieces: Sequence[Slice]) -> int:
    return next(index + piece.shift for piece in pieces if piece.holds(index))


def _asks(row: dict[str, Any]) -> tuple[str, bytes, bytes, bool, bytes | None]:
    """(id, hash of question and options, hash of truths, has some, hash of pictures if known)."""
    images, hashes = row["images"], row["image_sha256"]
    said = content_id(row["question"], str(len(images)), *row["choices"])
    known = len(hashes) == len(images)
    return (
        row["id"],
        bytes.fromhex(said),
        bytes.fromhex(content_id(*row["answers"])),
        bool(row["answers"]),
        bytes.fromhex(content_id(*hashes)) if known else None,
    )
