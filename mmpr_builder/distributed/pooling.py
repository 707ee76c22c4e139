"""Several builds read as one: the rollouts of the same seed come together, wherever they lie.

    out/a   q1 q2 q3        q1 (a, b)   q2 (a)   q3 (a, b)   q9 (b)
    out/b   q3 q9 q1   ->   in the order of the first build that has the seed

A seed is the same when it asks the same: question, options, truths and the pictures themselves (by
their SHA-256), whatever it is called and wherever the pictures lie. It goes on under the id it has
in the first build; another seed that has this id in a later build gets `ID#2`. Where one id asks
the same with *other truths*, nobody can say which are right: such seeds are dropped as
`truths_differ`. What planning dropped has no content and is told apart by its id alone.

The join is a table in a temporary file, some 200 bytes for each rollout; in memory are the parts'
names, and the seeds of the pieces under way.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from mmpr_builder.config import Config
from mmpr_builder.distributed.builds import Build, pooled_build
from mmpr_builder.distributed.order import Slice
from mmpr_builder.distributed.pool_pieces import Member, PooledSeed, PooledSlice
from mmpr_builder.records import Drop, Rollout, content_id
from mmpr_builder.seeds.keys import Keys, temporary_database
from mmpr_builder.tables import read_parquet

_COLUMNS = ("index", "id", "question", "images", "answers", "choices", "image_sha256")
_BUILD_STEP = 2**44
"""Places of one build before those of the next begin: an order over all of them."""

_ROWS = """
CREATE TABLE rows (
    place INTEGER PRIMARY KEY, build INT, part INT, number INT, id TEXT,
    said BLOB, truths BLOB, has_truth INT, pictures BLOB
)"""
# A seed whose picture was not opened has no hashes of them: it is the one that asks the same under
# the same id elsewhere, else nobody's.
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
    """The joined seeds of several builds; holds a temporary file until it is closed."""

    def __init__(self, builds: Sequence[Build], config: Config) -> None:
        """Read what the rollouts ask; the responses stay where they are."""
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
        """All seeds, cut as planning cuts units."""
        limits = self._config.distributed
        waiting: list[_Place] = []
        held, number = 0.0, 0
        for seed in self._places():
            size = sum(self._image_bytes[part] for _, part, _ in seed.rows[:1])
            full = len(waiting) >= limits.unit_queries or held + size > limits.unit_bytes
            if waiting and full:
                yield self._piece(number, waiting, held)
                waiting, held, number = [], 0.0, number + 1
            waiting.append(seed)
            held += size
        if waiting:
            yield self._piece(number, waiting, held)

    def _piece(self, number: int, seeds: Sequence[_Place], image_bytes: float) -> PooledSlice:
        parts = sorted({part for seed in seeds for _, part, _ in seed.rows})
        at = {part: position for position, part in enumerate(parts)}
        return PooledSlice(
            name=f"pool-{number:05}",
            seeds=tuple(
                PooledSeed(
                    seed.id, seed.first, tuple(Member(b, at[p], index) for b, p, index in seed.rows)
                )
                for seed in seeds
            ),
            uris=tuple(self._uris[part] for part in parts),
            folders=tuple(build.folder for build in self._builds),
            settings=tuple(build.config for build in self._builds),
            image_bytes=int(image_bytes),
            reading=self._reading,
        )

    def _places(self) -> Iterator[_Place]:
        with closing(Keys()) as taken:
            rows = self._db.execute(_IN_ORDER)
            for first, group in groupby(rows, key=itemgetter(0)):
                members = list(group)
                name = self._unique(members[0][1], taken)
                yield _Place(name, first, tuple((b, p, index) for *_, b, p, index in members))

    def _unique(self, wanted: str, taken: Keys) -> str:
        name, number = wanted, 1
        while (number > 1 and self._is_known(name)) or not taken.add(name.encode()):
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
    """The rollouts of the builds of `config.rollouts`, seed by seed; raises as `pooled_build`."""
    builds = [pooled_build(folder, config) for folder in config.rollouts]
    with closing(Pool(builds, config)) as pool:
        for piece in pool.pieces():
            yield from piece.read()


@dataclass(frozen=True, slots=True)
class _Place:
    """A seed of the pool: its id, its place, and (build, part, index) of its rollouts."""

    id: str
    first: int
    rows: tuple[tuple[int, int, int], ...]


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
