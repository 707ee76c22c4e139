"""Parallel maps on Ray: over the cores of this machine, or over those of a cluster.

    here, in threads ── after 20 s, if there is more ──▶ batches as Ray tasks, in order, some ahead

The driver reads, decides and writes; tasks do the expensive part (pictures and their hashes).
Ray spreads them over the nodes that are there and repeats the work of a lost one. A picture that
ends every process which opens it, or that never finds enough memory, is tried alone and then has no
answer; callers must not take it for a clean one.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

from mmpr_builder.cluster.session import has_ray_at_hand, ray_session
from mmpr_builder.config import Config
from mmpr_builder.errors import SetupError
from mmpr_builder.io.ordered_map import Answer, Asked, Item, Spread, ahead, in_threads
from mmpr_builder.progress import Progress

WORTH_RAY_S = 20.0
"""Seconds of work in this process before Ray starts, which takes some 5, and its workers' imports
some 3 more."""

_BATCH = 64  # Items of one task, about a second of work; handing it out takes milliseconds.
_BATCH_SPAN = 256  # Items that a batch may cover, where only some of them need work.
_AHEAD = 4  # Batches per core under way or waiting for their turn.
_MOST_AHEAD = 128  # Batches in all; one driver cannot keep more busy.
_THREADS = 4  # In each task: reading waits for storage.
_TRIES = 3  # Of a task whose process ends, perhaps for want of memory or with its node.
_NODES_LOST = 10  # Nodes that may be lost with the same item; the functions end no process.
_KEPT_WORKS = 4  # Functions that a worker process holds ready.

_Batch = list[tuple[Any, Any]]  # Consecutive items, each with what is asked of it, if anything.


@contextmanager
def spreading(
    config: Config, progress: Progress, *, after_s: float = WORTH_RAY_S
) -> Iterator[Spread]:
    """A `Spread` whose calls all move to Ray after `after_s` seconds.

    Ray is connected, or started on this machine, until the block ends. On a single core without a
    cluster, and where Ray does not start, everything stays in this process.
    """
    deadline = time.monotonic() + after_s
    several = has_ray_at_hand(config) or len(os.sched_getaffinity(0)) > 1
    with ExitStack() as held:
        connected: list[bool] = []

        def spread(
            open_work: Callable[[], Callable[[Asked], Answer]],
            items: Iterable[Item],
            ask: Callable[[Item], Asked | None],
        ) -> Iterator[tuple[Item, Answer | None]]:
            rest = iter(items)
            first = _until(rest, deadline) if several else rest
            yield from in_threads(open_work, first, ask)
            for item in rest:
                if not connected:
                    connected.append(_connect(config, progress, held))
                go_on = on_ray if connected[0] else in_threads
                yield from go_on(open_work, chain([item], rest), ask)

        yield spread


def _connect(config: Config, progress: Progress, held: ExitStack) -> bool:
    before = signal.getsignal(signal.SIGTERM)
    try:
        held.enter_context(ray_session(config, progress))
    except SetupError as error:  # Slower is better than not at all.
        progress.note(f"pictures are opened by this process alone: {error}")
        return False
    if threading.current_thread() is threading.main_thread():
        # Ray's own handler would end us with another exit code than without it.
        signal.signal(signal.SIGTERM, before)
    return True


def _until(items: Iterator[Item], deadline: float) -> Iterator[Item]:
    while time.monotonic() < deadline:
        try:
            yield next(items)
        except StopIteration:
            return


def on_ray(
    open_work: Callable[[], Callable[[Asked], Answer]],
    items: Iterable[Item],
    ask: Callable[[Item], Asked | None],
) -> Iterator[tuple[Item, Answer | None]]:
    """A `Spread` over the Ray that is connected."""
    import ray

    shared = ray.put(open_work)
    task = ray.remote(_answers).options(
        num_cpus=1, scheduling_strategy="SPREAD", max_retries=_TRIES
    )

    def submit(asked: list[Asked]) -> Any:
        # In a list it is fetched only by processes that do not have it yet.
        return task.remote(shared.hex(), [shared], asked)

    def start(batch: _Batch) -> Any:
        asked = _asked(batch)
        return submit(asked) if asked else None

    def full(waiting: Sequence[tuple[_Batch, Any]], _: object) -> bool:
        cores = int(ray.cluster_resources().get("CPU", 1))
        return waiting[0][1] is None or len(waiting) >= min(_MOST_AHEAD, _AHEAD * cores)

    for batch, ref in ahead(_batches(items, ask), start, full):
        answers = iter([] if ref is None else _fetched(_asked(batch), ref, submit))
        for item, asked in batch:
            yield item, None if asked is None else next(answers)


def in_tasks(
    function: Callable[..., Answer],
    first: Any,
    items: Iterable[Item],
    full: Callable[[Sequence[tuple[Item, Any]], Item], bool],
) -> Iterator[Answer]:
    """`function(first, item)` for each item, in order, as tasks of the connected Ray.

    Unlike actors, tasks run on whatever nodes are there, and Ray repeats the work of a lost node,
    results not yet fetched included. For `full` see `ahead`.
    """
    import ray

    task = ray.remote(function).options(
        num_cpus=1, scheduling_strategy="SPREAD", max_retries=_NODES_LOST
    )
    for _, ref in ahead(items, lambda item: task.remote(first, item), full):
        yield ray.get(ref)


def _batches(items: Iterable[Any], ask: Callable[[Any], Any]) -> Iterator[_Batch]:
    batch: _Batch = []
    wanted = 0
    for item in items:
        batch.append((item, ask(item)))
        wanted += batch[-1][1] is not None
        if wanted >= _BATCH or len(batch) >= _BATCH_SPAN:
            yield batch
            batch, wanted = [], 0
    if batch:
        yield batch


def _asked(batch: _Batch) -> list[Any]:
    return [asked for _, asked in batch if asked is not None]


def _fetched(asked: list[Asked], ref: Any, submit: Callable[[list[Asked]], Any]) -> list[Any]:
    """The answers of a task; if it ended every process, those of its items one by one."""
    import ray
    from ray.exceptions import NodeDiedError, OutOfMemoryError, WorkerCrashedError

    while True:
        try:
            return list(ray.get(ref))
        except NodeDiedError:  # Lost nodes are not the task's fault, however often.
            ref = submit(asked)
        except (WorkerCrashedError, OutOfMemoryError):
            if len(asked) == 1:
                return [None]
            break
    alone = [(one, submit([one])) for one in asked]
    return [_fetched([one], again, submit)[0] for one, again in alone]


_works: dict[str, Callable[[Any], Any]] = {}  # Of a worker process, which does task after task.


def _answers(key: str, maker: list[Any], asked: list[Any]) -> list[Any]:
    """One task: the work, made once in each process, over some items."""
    import ray

    if key not in _works:
        while len(_works) >= _KEPT_WORKS:
            del _works[next(iter(_works))]
        _works[key] = ray.get(maker[0])()
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(_works[key], asked))
