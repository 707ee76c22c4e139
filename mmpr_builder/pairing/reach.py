"""How many pairs some texts can give where a text may not be used at will.

    3 chosen x 8 rejected, each in 4 pairs at most            min(3 x 4, 8 x 3) = 12, not 24
    lengths 10 20 30 x 12 29 90, at most 5 tokens apart       10-12, 30-29: 2 pairs, not 9

Counting each side's possible uses and taking the smaller sum is exact for either limit alone; with
both it can be a few pairs too many, where lengths make some texts wait for the same partners.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reach:
    """For each text of either side how many pairs it can stand in, as a sum and one by one."""

    chosen: Mapping[str, int]
    rejected: Mapping[str, int]

    @property
    def pairs(self) -> int:
        """Different pairs."""
        return min(sum(self.chosen.values()), sum(self.rejected.values()))

    def depends_on(self, chosen: Iterable[str], rejected: Iterable[str]) -> bool:
        """Whether there would be fewer pairs without one of these texts."""
        sums = sum(self.chosen.values()), sum(self.rejected.values())
        if sums[0] <= sums[1] and any(self.chosen[text] for text in chosen):
            return True
        return sums[1] <= sums[0] and any(self.rejected[text] for text in rejected)


def reach(
    chosen: Mapping[str, int], rejected: Mapping[str, int], most: int | None, gap: int | None
) -> Reach:
    """`chosen` and `rejected` are texts with their tokens; `most` pairs for each text on its side;
    a pair's texts differ by at most `gap` tokens. None: no limit."""
    return Reach(
        _uses(chosen, sorted(rejected.values()), most, gap),
        _uses(rejected, sorted(chosen.values()), most, gap),
    )


def crossed(chosen: int, rejected: int, most: int | None) -> int:
    """Pairs of so many texts if their lengths do not matter."""
    if most is None:
        return chosen * rejected
    return min(chosen * min(most, rejected), rejected * min(most, chosen))


def _uses(
    texts: Mapping[str, int], others: Sequence[int], most: int | None, gap: int | None
) -> dict[str, int]:
    def partners(tokens: int) -> int:
        if gap is None:
            return len(others)
        return bisect_right(others, tokens + gap) - bisect_left(others, tokens - gap)

    found = {text: partners(tokens) for text, tokens in texts.items()}
    return found if most is None else {text: min(most, n) for text, n in found.items()}
