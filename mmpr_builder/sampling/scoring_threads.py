"""Scoring while sampling: a judge in threads, so that the event loop never waits for it.

    judge -> "only sympy can tell whether x^2-1 is (x-1)(x+1)" -> a process -> judge again

Where strings decide, a thread is done in a millisecond. What sympy has to decide is left to
killable processes, and the rollout is judged again when it is known: an answer that takes its full
two seconds holds up its own seed, and those that wait for the same processes, and nobody else.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from mmpr_builder import pairing
from mmpr_builder.config import Config
from mmpr_builder.records import Response, Rollout, Verdict

if TYPE_CHECKING:
    from mmpr_builder.scoring.decision import Decision, Query

_PROCESSES = 4  # At most. One core judges what dozens of GPUs write; the rest is for slow answers.
_JUDGING = 2
"""Threads that judge: they share the interpreter with the event loop, which would hardly get its
turn among many."""

_Judged = tuple[Sequence[Verdict], Sequence[Response]]


class _OnlyAProcessKnows(Exception):
    """Ends a judgement that needs the answer to a query."""

    def __init__(self, query: Query) -> None:
        super().__init__(query)
        self.query = query


class ScoringThreads:
    """Holds a judge, its worker processes, and threads for both; close it."""

    def __init__(self, config: Config) -> None:
        from mmpr_builder.scoring import Judge  # Not wanted where nothing is scored.
        from mmpr_builder.scoring.pool import WorkerPool

        processes = min(_PROCESSES, max(2, os.cpu_count() or 1))
        scoring = config.scoring
        self._config = config
        self._judge = Judge(scoring, symbolic=self._known_or_asked)
        self._pool = WorkerPool(scoring.timeout_s, scoring.memory_mb, processes)
        self._judging = ThreadPoolExecutor(_JUDGING, thread_name_prefix="judging")
        self._asking = ThreadPoolExecutor(processes, thread_name_prefix="asking")
        self._known = threading.local()

    async def __call__(self, rollout: Rollout) -> _Judged:
        """Verdicts for the responses of a rollout, and the responses as pairing may use them."""
        if not rollout.seed.has_truth:
            return pairing.judge_responses(rollout, self._config, self._judge)
        loop = asyncio.get_running_loop()
        known: dict[Query, Decision] = {}
        while True:
            try:
                return await loop.run_in_executor(self._judging, self._judged, rollout, known)
            except _OnlyAProcessKnows as asked:
                query = asked.query
            known[query] = await loop.run_in_executor(self._asking, self._pool, query)

    def close(self) -> None:
        """End threads and processes; what is being scored is given up."""
        for threads in (self._judging, self._asking):
            threads.shutdown(wait=False, cancel_futures=True)
        self._pool.close()
        self._judge.close()

    def _judged(self, rollout: Rollout, known: Mapping[Query, Decision]) -> _Judged:
        self._known.decisions = known
        return pairing.judge_responses(rollout, self._config, self._judge)

    def _known_or_asked(self, query: Query) -> Decision:
        decision: Decision | None = self._known.decisions.get(query)
        if decision is None:
            raise _OnlyAProcessKnows(query)
        return decision
