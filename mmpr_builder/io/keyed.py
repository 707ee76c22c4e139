"""Remembers what a build has seen, on disk: a row of a build costs no memory.

    seen = Keyed()
    seen.add("q7", number=3)          True, and False the next time
    seen.add(b"\\x9f…", "first id")    keys are text, bytes or whole numbers below 2**63
    seen.numbers(["q7", 17])          [3]

A Python set of a million keys takes 90 MB; this stays below 20 at any number, for 5 µs a key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

Key = str | bytes | int

_CACHE_KIB = 16_000


def temporary_database() -> sqlite3.Connection:
    """An empty database in a private file in the temporary folder, removed when it is closed. Its
    content is worth nothing after a crash, so nothing is spent on surviving one."""
    found = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    for setting in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}"):
        found.execute(f"PRAGMA {setting}")
    found.execute("BEGIN")
    return found


class Keyed:
    """Entries under a key and a number, each with a text, in a temporary file that goes when this
    is closed. Keys of different types never meet."""

    def __init__(self) -> None:
        self._db = temporary_database()
        self._db.execute(
            "CREATE TABLE entries (key, number INTEGER, text TEXT, PRIMARY KEY (key, number))"
            " WITHOUT ROWID"
        )

    def add(self, key: Key, text: str = "", number: int = 0) -> bool:
        """Whether the entry is new; an old one keeps its text."""
        row = (key, number, text)
        return self._db.execute("INSERT OR IGNORE INTO entries VALUES (?, ?, ?)", row).rowcount > 0

    def get(self, key: Key) -> str | None:
        """The text of a key's entry, the one of the lowest number; None if there is none."""
        found = self._db.execute(
            "SELECT text FROM entries WHERE key = ? ORDER BY number LIMIT 1", (key,)
        ).fetchone()
        return None if found is None else str(found[0])

    def numbers(self, keys: Iterable[Key]) -> list[int]:
        """The numbers of all entries under any of the keys, each once, rising."""
        wanted = list(keys)
        marks = ",".join("?" * len(wanted))
        query = f"SELECT DISTINCT number FROM entries WHERE key IN ({marks}) ORDER BY number"
        return [number for (number,) in self._db.execute(query, wanted)]

    def entries(self, key: Key) -> list[tuple[int, str]]:
        """(number, text) of all entries under a key, by rising number."""
        query = "SELECT number, text FROM entries WHERE key = ? ORDER BY number"
        return self._db.execute(query, (key,)).fetchall()

    def remove(self, keys: Iterable[Key], number: int = 0) -> None:
        """Forget the entries of that number under these keys."""
        gone = [(key, number) for key in keys]
        self._db.executemany("DELETE FROM entries WHERE key = ? AND number = ?", gone)

    def close(self) -> None:
        """Remove the file."""
        self._db.close()
