"""How many useless responses of a seed it takes to give it up; `need.py` says why so many."""

from __future__ import annotations

import functools


@functools.lru_cache(maxsize=1024)
def patience(n: int, error: float) -> int:
    """Useless responses after which a seed is given up (see the module's text); n at most."""
    return next((seen for seen in range(1, n) if given_up(seen, n) <= error), n)


def given_up(seen: int, n: int) -> float:
    """Share of the seeds that n responses would split which a stop at `seen` equal ones loses.

    For pass rates spread as Beta(1/2, 1/2); 0 where n responses split none.
    """
    split = 1 - 2 * _all_wrong(n)
    return 2 * (_all_wrong(seen) - _all_wrong(n)) / split if split > 0 else 0.0


@functools.lru_cache(maxsize=8192)
def _all_wrong(seen: int) -> float:
    """A(s) = C(2s, s) / 4^s, as a product that neither overflows nor recurses."""
    value = 1.0
    for i in range(1, seen + 1):
        value *= 1 - 1 / (2 * i)
    return value
