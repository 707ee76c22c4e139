"""Remembers rows under several keys each without holding them in memory.

A million seeds have some eight million keys; in a Python dict that is a gigabyte, in SQLite's
temporary file it is disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

_CACHE_KIB = 16_000


class Buckets:
    """Rows (a text each), found again by any of their keys; in a temporary file that goes when
    this is closed. Keys are whole numbers below 2**63."""

    def __init__(self) -> None:
        # "" is SQLite's name for a private file in the temporary folder. What it holds is worth
        # nothing after a crash, so nothing is spent on surviving one.
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for setting in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}"):
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
