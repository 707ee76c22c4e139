"""Which rows of an export are kept for validation, and which are drawn where not all are wanted.

    split_of(item, 0.01)          "train"; all rows of a picture are on one side
    Draw(items, 1000).takes(item)     True for 1,000 of them, as many of each source and kind

Both go by hashes: the same rows are chosen wherever and in whatever order they are read.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal

from mmpr_builder.export.items import Item

Stratum = tuple[str, str]
"""Source and kind of a row."""


def split_of(item: Item, share: float) -> Literal["train", "validation"] | None:
    """The side of a row by its pictures, by its text without any; None: by its pictures, on both.

    With several pictures some can be on one side and some on the other, where other rows show them.
    """
    shown = [picture.read() for picture in item.pictures] or [item.text.encode(errors="replace")]
    kept = {_number(data) < share * 2**64 for data in shown}
    return None if len(kept) == 2 else "validation" if kept.pop() else "train"


class Draw:
    """A number of rows, drawn evenly over sources and kinds; what a small one lacks others give."""

    def __init__(
        self, items: Iterable[Item], most: int | None, like: Mapping[Stratum, int] | None = None
    ) -> None:
        """All of them if `most` is None. `like`: so many of each first, as far as there are any."""
        ranks: dict[Stratum, list[int]] = defaultdict(list)
        for item in items:
            ranks[item.source, item.kind].append(_rank(item))
        sizes = Counter({stratum: len(found) for stratum, found in ranks.items()})
        counts = Counter({s: min((like or {}).get(s, 0), n) for s, n in sizes.items()})
        more = (sizes.total() if most is None else most) - counts.total()
        self.counts = counts + _even({s: n - counts[s] for s, n in sizes.items()}, more)
        self._wanted = Counter(
            r for s, found in ranks.items() for r in sorted(found)[: self.counts[s]]
        )

    def takes(self, item: Item) -> bool:
        """Whether it is one of them; each is taken once."""
        rank = _rank(item)
        self._wanted[rank] -= 1
        return self._wanted[rank] >= 0


def _even(sizes: Mapping[Stratum, int], most: int) -> Counter[Stratum]:
    """How many of each, smallest first: what it does not use the others share."""
    counts: Counter[Stratum] = Counter()
    for done, stratum in enumerate(sorted(sizes, key=lambda one: (sizes[one], one))):
        counts[stratum] = min(sizes[stratum], most // (len(sizes) - done))
        most -= counts[stratum]
    return counts


def _rank(item: Item) -> int:
    return _number("\0".join((item.source, item.kind, item.id or item.where)).encode())


def _number(data: bytes) -> int:
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
