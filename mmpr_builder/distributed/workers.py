"""Where the second half runs: here, in processes of this machine, or on the CPUs of a cluster.

All three call the same pure function on one part after the other and hand the results back in
the order of the parts, a bounded number of them ahead of the writer.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing.util import Finalize
from typing import Any

from mmpr_builder import pairing
from mmpr_builder.config import Config
from mmpr_builder.distributed.cluster import has_ray_at_hand
from mmpr_builder.records import Drop, Pair, Rollout, Verdict
from mmpr_builder.tables import read_parquet, rollouts_from_table

Judged = tuple[Rollout, list[Verdict], list[Pair], list[Drop]]
"""One seed's way to the end: its rollout, what scoring says, its pairs or its drop."""

_AHEAD = 2  # Results per worker that may wait for their turn to be written.
_RESPONSES_WORTH_A_PROCESS = 4_000  # About what one core judges while a process starts.
_CLUSTER_WORKERS = 64  # One writer takes the results; more could not be kept busy.


class PartJudge:
    """Holds one judge (with its killable processes) and pairs whole parts with it."""

    def __init__(self, config: Config) -> None:
        from mmpr_builder import scoring  # Not wanted where engines run, which import this folder.

        self._config = config
        self._held = ExitStack()
        self._judge = self._held.enter_context(scoring.Judge(config.scoring))

    def pair(self, uri: str) -> list[Judged]:
        """All rollouts of one part with their verdicts, pairs and drops, in order."""
        rollouts = rollouts_from_table(read_parquet(uri))
        rollouts.sort(key=lambda rollout: rollout.index)
        return [
            (rollout, *pairing.judge_and_pair(rollout, self._config, self._judge))
            for rollout in rollouts
        ]

    def close(self) -> None:
        self._held.close()


def pair_parts(config: Config, parts: Sequence[str], responses: int) -> Iterator[list[Judged]]:
    """The results for `parts` in their order; `responses` is about how many there are in all."""
    if has_ray_at_hand(config):
        yield from _on_cluster(config, parts)
        return
    workers = min(local_workers(config), len(parts), 1 + responses // _RESPONSES_WORTH_A_PROCESS)
    yield from _here(config, parts) if workers <= 1 else _in_processes(config, parts, workers)


def local_workers(config: Config) -> int:
    """Scoring processes on this machine: as set, else one per core that we may use."""
    asked = config.distributed.scoring_workers
    return len(os.sched_getaffinity(0)) if asked == "auto" else asked


def _here(config: Config, parts: Sequence[str]) -> Iterator[list[Judged]]:
    judge = PartJudge(config)
    try:
        for uri in parts:
            yield judge.pair(uri)
    finally:
        judge.close()


def _in_processes(config: Config, parts: Sequence[str], workers: int) -> Iterator[list[Judged]]:
    pool = ProcessPoolExecutor(
        workers,
        # A fork would copy locks held by other threads (the display's, Arrow's).
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_open_judge,
        initargs=(config,),
    )
    try:
        futures = _ahead(parts, workers * _AHEAD, lambda uri: pool.submit(_pair_in_process, uri))
        for future in futures:
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


_in_this_process: list[PartJudge] = []  # Of a worker process: exactly one, for all its parts.


def _open_judge(config: Config) -> None:
    judge = PartJudge(config)
    _in_this_process.append(judge)
    Finalize(None, judge.close, exitpriority=10)  # Worker processes run these, and no atexit.


def _pair_in_process(uri: str) -> list[Judged]:
    return _in_this_process[0].pair(uri)


def _on_cluster(config: Config, parts: Sequence[str]) -> Iterator[list[Judged]]:
    import ray

    asked = config.distributed.scoring_workers
    cpus = int(ray.cluster_resources().get("CPU", 1))
    count = max(1, min(cpus, _CLUSTER_WORKERS, len(parts)) if asked == "auto" else asked)
    # Pairing is a pure function: a worker whose machine goes is started again, its part repeated.
    remote = ray.remote(PartJudge).options(num_cpus=1, max_restarts=-1, max_task_retries=3)
    actors = [remote.remote(config) for _ in range(count)]
    try:
        turns = itertools.cycle(actors)
        for ref in _ahead(parts, count * _AHEAD, lambda uri: next(turns).pair.remote(uri)):
            yield ray.get(ref)
    finally:
        for actor in actors:
            ray.kill(actor)


def _ahead(parts: Sequence[str], limit: int, submit: Callable[[str], Any]) -> Iterator[Any]:
    """What `submit` gives for each part, in order, with at most `limit` of them under way."""
    waiting: deque[Any] = deque()
    for uri in parts:
        waiting.append(submit(uri))
        if len(waiting) >= limit:
            yield waiting.popleft()
    yield from waiting
