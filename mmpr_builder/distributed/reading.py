"""What a build is planned from: all rows of the inputs, screened, in order; says how far it is.

planning  detail "evaluation sets: 1,280 pictures"      before the first row
planning  done 25,600                                   rows that are screened
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from mmpr_builder import quality, seeds
from mmpr_builder.config import Config, SourceConfig
from mmpr_builder.distributed.spreading import spreading
from mmpr_builder.dropout import may_pair
from mmpr_builder.errors import NothingUsableError
from mmpr_builder.progress import Progress
from mmpr_builder.quality.spread import Answer, Asked, Item, Spread
from mmpr_builder.records import Drop, Seed
from mmpr_builder.seeds.formats import ALIASES

_TOLD_EVERY = 256


def read_rows(
    config: Config,
    sources: Sequence[SourceConfig],
    progress: Progress,
    taken: seeds.Taken | None = None,
) -> Iterator[Seed | Drop]:
    """The rows of the sources (with `demo` replaced by its file) as a build would plan for them."""
    from mmpr_builder.audit import screen  # Imports the scorers, which engines do without.

    rows = screen(seeds.read_sources(sources, limit=config.limit, taken=taken), config)
    with spreading(config, progress) as spread:
        if config.quality.decontaminate.against:
            progress.update(detail="evaluation sets")
            sets = _EvaluationSets(progress)
            rows, spread = sets.until(rows), sets.counted(spread)
        screened = quality.screen_seeds(rows, config, spread)
        for number, item in enumerate(screened):
            if number % _TOLD_EVERY == 0:
                progress.update(done=number)
            yield item


class Usable:
    """Counts what the rows of a build are good for, while they pass by."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._drops: Counter[str] = Counter()
        self._first = ""
        self.seeds = 0
        self.pairable = 0
        """Seeds of which pairs can come."""

    def watch(self, items: Iterable[Seed | Drop]) -> Iterator[Seed | Drop]:
        """The same items."""
        for item in items:
            if isinstance(item, Drop):
                self._drops[item.reason] += 1
                self._first = self._first or f"{item.reason}: {item.detail}"
            else:
                self.seeds += 1
                self.pairable += may_pair(item, self._config.dropout)
            yield item

    def check(self) -> None:
        """Raise `NothingUsableError` unless pairs can come of some seed."""
        if self.pairable:
            return
        paths = ",".join(source.path for source in self._config.seeds)
        if self.seeds:
            raise NothingUsableError(
                f"seeds={paths}: no pair can come of {self.seeds:,} seeds: none has a truth, and"
                " none has images to leave out of a continuation (dropout.apply ="
                f" {self._config.dropout.apply}). Truths are read from {_fields('answer')}, images"
                f" from {_fields('image')}"
            )
        if not self._drops:
            raise NothingUsableError(f"seeds={paths}: no rows: give other seeds=")
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self._drops.most_common())
        raise NothingUsableError(
            f"seeds={paths}: none of {self._drops.total():,} rows can be used: {reasons}. The first"
            f" is {self._first}"
        )


def _fields(what: str) -> str:
    return ", ".join(ALIASES[what])


class _EvaluationSets:
    """Says how many pictures of evaluation sets were opened: all are, before the first row is."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._over = False

    def until(self, rows: Iterable[Seed | Drop]) -> Iterator[Seed | Drop]:
        """The rows, whose first one ends it."""
        for row in rows:
            if not self._over:
                self._over = True
                self._progress.update(detail="")
            yield row

    def counted(self, spread: Spread) -> Spread:
        """The same `Spread`, which counts until it is over."""

        def counting(
            open_work: Callable[[], Callable[[Asked], Answer]],
            items: Iterable[Item],
            ask: Callable[[Item], Asked | None],
        ) -> Iterator[tuple[Item, Answer | None]]:
            for number, found in enumerate(spread(open_work, items, ask), 1):
                if not self._over and number % _TOLD_EVERY == 0:
                    self._progress.update(detail=f"evaluation sets: {number:,} pictures")
                yield found

        return counting
