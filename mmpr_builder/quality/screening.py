"""The controls that work on seeds, in one pass while a build is planned, in the order of the input.

Pictures are opened by a few threads, ahead of where their results are needed; what is kept does
not depend on them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

from mmpr_builder import seeds
from mmpr_builder.config import Config, DecontaminateConfig, SourceConfig
from mmpr_builder.quality.contamination import CONTAMINATED, Decontaminator, index_evaluation
from mmpr_builder.quality.near_duplicates import NEAR_DUPLICATE, NearDuplicates, print_of
from mmpr_builder.records import Drop, Seed

_THREADS = 8
_AHEAD = 64  # Seeds whose pictures are being opened; a picture takes up to a few 100 MB there.

_Result = TypeVar("_Result")


def screen_seeds(items: Iterable[Seed | Drop], config: Config) -> Iterator[Seed | Drop]:
    """Seeds that are contaminated or near-duplicates become drops; all else passes unchanged.

    Raises `InputError` when an evaluation set cannot be read.
    """
    if config.quality.decontaminate.against:
        items = _decontaminated(items, config.quality.decontaminate)
    if config.quality.near_duplicates:
        items = _without_near_duplicates(items)
    yield from items


def evaluation_sets(config: DecontaminateConfig) -> Iterator[tuple[str, Seed | Drop]]:
    """(name, row) of every evaluation set, in order."""
    for path in config.against:
        for item in seeds.read_seeds(path, split=config.split):
            yield path, item


def fingerprint(config: DecontaminateConfig) -> dict[str, str]:
    """File of an evaluation set -> what changes when its content does."""
    found: dict[str, str] = {}
    for path in config.against:
        prints = seeds.fingerprint(SourceConfig(path=path, split=config.split))
        found.update({f"decontaminate:{name}": value for name, value in prints.items()})
    return found


def _decontaminated(
    items: Iterable[Seed | Drop], config: DecontaminateConfig
) -> Iterator[Seed | Drop]:
    checker = Decontaminator(index_evaluation(evaluation_sets(config), config), config)
    for item, leak in _with(checker.leak, items):
        if isinstance(item, Seed) and leak is not None:
            yield Drop(item.id, "quality", CONTAMINATED, f"{item.origin}: {leak.detail}")
        else:
            yield item


def _without_near_duplicates(items: Iterable[Seed | Drop]) -> Iterator[Seed | Drop]:
    with closing(NearDuplicates()) as kept:
        for item, found in _with(print_of, items):
            first = None
            if isinstance(item, Seed) and found is not None:
                first = kept.first_like(item, found)
            if isinstance(item, Drop) or first is None:
                yield item
            else:
                detail = f"{item.origin}: nearly the same as {first!r}, which was read before"
                yield Drop(item.id, "quality", NEAR_DUPLICATE, detail)


def _with(
    find: Callable[[Seed], _Result], items: Iterable[Seed | Drop]
) -> Iterator[tuple[Seed | Drop, _Result | None]]:
    """Each item with what `find` says of a seed, in order, some seeds ahead in threads."""
    waiting: deque[tuple[Seed | Drop, Future[_Result] | None]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        for item in items:
            waiting.append((item, pool.submit(find, item) if isinstance(item, Seed) else None))
            if len(waiting) > _AHEAD:
                first, future = waiting.popleft()
                yield first, None if future is None else future.result()
        for item, future in waiting:
            yield item, None if future is None else future.result()
