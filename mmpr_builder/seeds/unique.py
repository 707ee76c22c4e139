"""Every seed of a build under an id of its own, and rows that ask the same only once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from mmpr_builder.columns import storable
from mmpr_builder.records import Drop, Seed, content_id
from mmpr_builder.seeds.keys import Keys, temporary_database


def asked(seed: Seed, *, truths: bool) -> bytes:
    """16 bytes that stand for what a seed asks: question, images and options, and its truths."""
    images = (f"{r.uri}\0{r.row}\0{r.column}\0{r.index}" for r in seed.images)
    answers = ("", *seed.answers) if truths else ()
    return bytes.fromhex(content_id(seed.question, *images, "", *seed.choices, *answers))


class Taken:
    """The ids that an earlier reading gave; rows that ask the same get them again.

    Holds a temporary file, no memory: some 200 bytes per seed.
    """

    def __init__(self, seeds: Iterable[Seed]) -> None:
        self._db = temporary_database()
        self._db.execute("CREATE TABLE seeds (number INTEGER PRIMARY KEY, id TEXT)")
        self._db.execute("CREATE TABLE asks (hash BLOB, number INTEGER)")
        for number, seed in enumerate(seeds):
            self._db.execute("INSERT INTO seeds VALUES (?, ?)", (number, storable(seed.id)))
            both = [(asked(seed, truths=truths), number) for truths in (True, False)]
            self._db.executemany("INSERT INTO asks VALUES (?, ?)", both)
        self._db.execute("CREATE INDEX by_id ON seeds (id)")
        self._db.execute("CREATE INDEX by_hash ON asks (hash, number)")

    def __contains__(self, name: str) -> bool:
        found = self._db.execute("SELECT 1 FROM seeds WHERE id = ?", (storable(name),))
        return found.fetchone() is not None

    def ids_for(self, seed: Seed) -> list[str]:
        """Ids given to a row that asked the same, the seed's own before others."""
        same = self._asking(asked(seed, truths=True))
        own = [seed.id, f"{seed.id}#"]
        # Truths can be dropped by a screen, or have changed, which only the caller can tell.
        alike = self._asking(asked(seed, truths=False))
        alike = [name for name in alike if name == own[0] or name.startswith(own[1])]
        return [*dict.fromkeys([*(name for name in same if name in alike), *same, *alike])]

    def _asking(self, what: bytes) -> list[str]:
        found = self._db.execute(
            "SELECT id FROM seeds JOIN asks USING (number) WHERE hash = ? ORDER BY number", (what,)
        )
        return [str(name) for (name,) in found]

    def close(self) -> None:
        """Remove the file."""
        self._db.close()


class UniqueIds:
    """Gives every item of a build an id of its own; keeps two hashes and an id per row, on disk."""

    def __init__(self, taken: Taken | None) -> None:
        self._ids = Keys()
        self._rows = Keys()
        self._counts: dict[str, int] = {}
        self._taken = taken

    def seed(self, seed: Seed, template: str | Mapping[str, Any] | None) -> Seed | Drop:
        how = json.dumps(template, sort_keys=True)
        row = bytes.fromhex(content_id(asked(seed, truths=True).hex(), seed.scorer, how))
        first = self._rows.get(row)
        if first is not None:
            detail = f"{seed.origin}: the same as {first!r}, which was read before"
            return Drop(self._unique(seed.id), "seeds", "duplicate_seed", detail)
        unique = self._given_before(seed) or self._unique(seed.id)
        self._rows.add(row, unique)
        return seed if unique == seed.id else replace(seed, id=unique)

    def drop(self, drop: Drop) -> Drop:
        unique = self._unique(drop.item_id)
        if unique == drop.item_id:
            return drop
        return Drop(unique, drop.stage, drop.reason, drop.detail)

    def _given_before(self, seed: Seed) -> str | None:
        for name in self._taken.ids_for(seed) if self._taken else ():
            if self._ids.add(_key(name)):
                return name
        return None

    def _unique(self, wanted: str) -> str:
        unique = wanted
        while (self._taken and unique in self._taken) or not self._ids.add(_key(unique)):
            number = self._counts.get(wanted, 1) + 1
            self._counts[wanted] = number
            unique = f"{wanted}#{number}"
        return unique

    def close(self) -> None:
        self._ids.close()
        self._rows.close()


def _key(name: str) -> bytes:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()
