"""One function over many items, in their order, some of them ahead.

    ahead(items, start, full)         -> (item, what `start` gave for it), item by item
    spread(open_work, items, ask)     -> (item, answer of the work or None), item by item

`ask` gives what the work needs of an item, None where there is nothing to do. `open_work` makes the
function that does it, once for each process. Planning passes a `Spread` that uses the cores of all
nodes where that is worth it (cluster/parallel.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

_THREADS = 8  # Opening pictures waits for storage, and Pillow works outside the interpreter's lock.
_AHEAD = 64  # Items whose pictures are being opened; one takes up to a few 100 MB there.

Item = TypeVar("Item")
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
Handle = TypeVar("Handle")


def ahead(
    items: Iterable[Item],
    start: Callable[[Item], Handle],
    full: Callable[[Sequence[tuple[Item, Handle]], Item], bool],
) -> Iterator[tuple[Item, Handle]]:
    """Each item with what `start` gave for it, in order; `start` runs ahead while there is room.

    `full(waiting, item)` says whether one of those waiting (at least one) must be taken before
    `item` may start.
    """
    waiting: deque[tuple[Item, Handle]] = deque()
    for item in items:
        while waiting and full(waiting, item):
            yield waiting.popleft()
        waiting.append((item, start(item)))
    while waiting:
        yield waiting.popleft()


class Spread(Protocol):
    """Runs a function over items somewhere. The function must not depend on the place or the order;
    its maker and what it is asked are pickled on the way."""

    def __call__(
        self,
        open_work: Callable[[], Callable[[Asked], Answer]],
        items: Iterable[Item],
        ask: Callable[[Item], Asked | None],
    ) -> Iterator[tuple[Item, Answer | None]]:
        """Each item in order, with its answer; None where `ask` gave None, and where the work ended
        every process that tried it, if only for want of memory."""
        ...


def in_threads(
    open_work: Callable[[], Callable[[Asked], Answer]],
    items: Iterable[Item],
    ask: Callable[[Item], Asked | None],
) -> Iterator[tuple[Item, Answer | None]]:
    """A `Spread` that stays in this process."""
    work = open_work()

    def start(item: Item) -> Future[Answer] | None:
        asked = ask(item)
        return None if asked is None else pool.submit(work, asked)

    with ThreadPoolExecutor(_THREADS) as pool:
        for item, future in ahead(items, start, lambda waiting, _: len(waiting) >= _AHEAD):
            yield item, None if future is None else future.result()
