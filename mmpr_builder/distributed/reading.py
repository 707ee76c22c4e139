"""What a build is planned from: all rows of the inputs, screened, in order; says how far it is.

planning  detail "evaluation sets: 1,280 pictures"      before the first row
planning  done 25,600                                   rows that are screened
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from mmpr_builder import quality, seeds
from mmpr_builder.config import Config, SourceConfig
from mmpr_builder.distributed.spreading import spreading
from mmpr_builder.progress import Progress
from mmpr_builder.quality.spread import Answer, Asked, Item, Spread
from mmpr_builder.records import Drop, Seed

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
