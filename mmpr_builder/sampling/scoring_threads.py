"""Scoring while sampling, in threads: the event loop never waits for it.

    judge -> "only sympy can tell whether x^2-1 is (x-1)(x+1)" -> a process -> judge on

Where strings decide, a thread takes a millisecond. Killable processes decide what needs sympy, and
a thread that waits for one leaves its turn to another.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from mmpr_builder import pairing
from mmpr_builder.config import Config
from mmpr_builder.records import Response, Rollout, Verdict

if TYPE_CHECKING:
    from mmpr_builder.scoring.decision import Decision, Query

_PROCESSES = 4  # At most. One core judges what dozens of GPUs write; the rest is for slow answers.
_JUDGING = 2
"""Threads that judge at a time: they share the interpreter with the event loop, which would hardly
get its turn among many."""
_THREADS = 1024  # At most, those that wait for a process among them.


class ScoringThreads:
    """Holds a judge, its worker processes, and threads for both; close it."""

    def __init__(self, config: Config) -> None:
        from mmpr_builder.scoring import Judge  # Not wanted where nothing is scored.
        from mmpr_builder.scoring.pool import WorkerPool

        processes = min(_PROCESSES, max(2, os.cpu_count() or 1))
        scoring = config.scoring
        self._config = config
        self._judge = Judge(scoring, symbolic=self._ask)
        self._pool = WorkerPool(scoring.timeout_s, scoring.memory_mb, processes)
        self._turns = threading.Semaphore(_JUDGING)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="scoring")

    async def __call__(self, rollout: Rollout) -> tuple[Sequence[Verdict], Sequence[Response]]:
        """Verdicts for the responses of a rollout, and the responses as pairing may use them."""
        if not rollout.seed.has_truth:
            return pairing.judge_responses(rollout, self._config, self._judge)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._judged, rollout)

    def close(self) -> None:
        """End threads and processes; what is being scored is given up."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._pool.close()
        self._judge.close()

    def _judged(self, rollout: Rollout) -> tuple[Sequence[Verdict], Sequence[Response]]:
        with self._turns:
            return pairing.judge_responses(rollout, self._config, self._judge)

    def _ask(self, query: Query) -> Decision:
        self._turns.release()
        try:
            return self._pool(query)
        finally:
            self._turns.acquire()
