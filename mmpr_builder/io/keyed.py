"""Remembers a key for every row of a build without holding them in memory.

A Python set of a million keys takes 90 MB; this stays below 5 at any number, for 5 µs a key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

_CACHE_KIB = 4_000


def temporary_database() -> sqlite3.Connection:
    """An empty database in a private file in the temporary folder, which goes when it is closed.

    What it holds is worth nothing after a crash, so nothing is spent on surviving one.
    """
    found = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    for setting in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}"):
        found.execute(f"PRAGMA {setting}")
    found.execute("BEGIN")
    return found


class Keys:
    """Keys (bytes) with a text each, in a temporary file that goes when this is closed."""

    def __init__(self) -> None:
        self._db = temporary_database()
        self._db.execute("CREATE TABLE keys (key BLOB PRIMARY KEY, text TEXT) WITHOUT ROWID")

    def add(self, key: bytes, text: str = "") -> bool:
        """Whether the key is new; an old one keeps its text."""
        added = self._db.execute("INSERT OR IGNORE INTO keys VALUES (?, ?)", (key, text))
        return added.rowcount > 0

    def get(self, key: bytes) -> str | None:
        """The text of a key, None if it was not added."""
        row = self._db.execute("SELECT text FROM keys WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def close(self) -> None:
        """Remove the file."""
        self._db.close()


# ---- buckets
# Remembers rows under several keys each without holding them in memory.
#
# A million seeds have some eight million keys; in a Python dict that is a gigabyte, in SQLite's
# temporary file it is disk.


_CACHE_KIB_buckets = 16_000


class Buckets:
    """Rows (a text each), found again by any of their keys; in a temporary file that goes when
    this is closed. Keys are whole numbers below 2**63."""

    def __init__(self) -> None:
        # "" is SQLite's name for a private file in the temporary folder. What it holds is worth
        # nothing after a crash, so nothing is spent on surviving one.
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for setting in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB_buckets}"):
            self._db.execute(f"PRAGMA {setting}")
        self._db.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, body TEXT)")
        self._db.execute(
            "CREATE TABLE keys (key INTEGER, number INTEGER, PRIMARY KEY (key, number))"
            " WITHOUT ROWID"
        )
        self._db.execute("BEGIN")
        self._count = 0

    def add(self, keys: Iterable[int], body: str) -> int:
        """Remember a row; returns its number, which is above those of all before it."""
        number = self._count
        self._db.execute("INSERT INTO rows VALUES (?, ?)", (number, body))
        rows = [(key, number) for key in sorted(set(keys))]
        self._db.executemany("INSERT INTO keys VALUES (?, ?)", rows)
        self._count += 1
        return number

    def find(self, keys: Iterable[int]) -> list[tuple[int, str]]:
        """(number, row) of those that have any of the keys, each once, in the order of adding."""
        wanted = sorted(set(keys))
        marks = ",".join("?" * len(wanted))
        return self._db.execute(
            "SELECT number, body FROM rows WHERE number IN"
            f" (SELECT number FROM keys WHERE key IN ({marks})) ORDER BY number",
            wanted,
        ).fetchall()

    def has(self, number: int) -> bool:
        """Whether the row of that number is still there."""
        found = self._db.execute("SELECT 1 FROM rows WHERE number = ?", (number,))
        return found.fetchone() is not None

    def remove(self, number: int, keys: Iterable[int]) -> None:
        """Forget a row that was added under these keys."""
        self._db.execute("DELETE FROM rows WHERE number = ?", (number,))
        gone = [(key, number) for key in sorted(set(keys))]
        self._db.executemany("DELETE FROM keys WHERE key = ? AND number = ?", gone)

    def bytes_on_disk(self) -> int:
        """Size of the temporary file."""
        pages = self._db.execute("PRAGMA page_count").fetchone()[0]
        return int(pages) * int(self._db.execute("PRAGMA page_size").fetchone()[0])

    def close(self) -> None:
        """Remove the file."""
        self._db.close()
