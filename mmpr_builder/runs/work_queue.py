"""Which work is next, and what happens to work whose process died; without Ray or disks.

A first failure may be the machine's: the work is queued again. Work that was open at several
failures runs alone, so that the next one convicts or clears it. Convicted work is halved until the
single row that kills is found; that row is quarantined, all others are delivered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from mmpr_builder.folder.manifest import Unit

_TRIES_OF_ONE_ROW = 2  # Its unit has failed `max_tries` times by then; one more for bad luck.


@dataclass(frozen=True, slots=True)
class Work:
    """A unit, or some of its rows (by index; None: all), to be sampled by one actor."""

    unit: Unit
    rows: tuple[int, ...] | None = None
    tries: int = 0
    alone: bool = False
    """To run with nothing beside it, because it may be what kills engines."""


class WorkQueue:
    """Work not handed out yet, in order; what was open at a failure goes to the end."""

    def __init__(
        self, units: Iterable[Unit], max_tries: int, rows_of: Callable[[Unit], Sequence[int]]
    ) -> None:
        """`rows_of` gives the indices of a unit's seeds, to halve it."""
        self._waiting = deque(Work(unit) for unit in units)
        self._max_tries = max_tries
        self._rows_of = rows_of

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, beside: Sequence[Work], limit: int) -> Work | None:
        """The next work for an actor that has `beside` open and may have `limit`, if any."""
        if not self._waiting or len(beside) >= limit or any(work.alone for work in beside):
            return None
        if self._waiting[0].alone and beside:
            return None
        return self._waiting.popleft()

    def put_back(self, works: Iterable[Work]) -> None:
        """Queue work again that its actor never began."""
        self._waiting.extendleft(reversed(list(works)))

    def try_again(self, work: Work) -> bool:
        """Queue work again whose process lives (say, the disk is full); False if too often.

        It is next: while it fails, later work would be sampled in vain.
        """
        tried = replace(work, tries=work.tries + 1)
        if tried.tries >= self._max_tries:
            return False
        self._waiting.appendleft(tried)
        return True

    def died(self, open_works: Sequence[Work]) -> list[Work]:
        """Queue again what was open in a process that died; returns the rows that kill."""
        guilty_rows = []
        convicted = len(open_works) == 1
        for work in open_works:
            tried = replace(work, tries=work.tries + 1)
            if not convicted or tried.tries < self._tries_allowed(work):
                suspect = work.alone or tried.tries >= self._max_tries - 1
                self._waiting.append(replace(tried, alone=suspect))
            elif work.rows is not None and len(work.rows) == 1:
                guilty_rows.append(work)
            else:
                self._waiting.extend(self._halves(work))
        return guilty_rows

    def _tries_allowed(self, work: Work) -> int:
        if work.rows is None:
            return self._max_tries
        return min(_TRIES_OF_ONE_ROW, self._max_tries) if len(work.rows) == 1 else 1

    def _halves(self, work: Work) -> list[Work]:
        rows = tuple(self._rows_of(work.unit)) if work.rows is None else work.rows
        if len(rows) == 1:
            return [Work(work.unit, rows, alone=True)]
        middle = len(rows) // 2
        return [Work(work.unit, part, alone=True) for part in (rows[:middle], rows[middle:])]
