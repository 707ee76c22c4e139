"""Scoring while sampling, in threads: the event loop never waits for it.

    judge -> "only sympy can tell whether x^2-1 is (x-1)(x+1)" -> a process -> judge again

Where strings decide, a thread takes a millisecond. Killable processes decide what needs sympy, and
a thread judges the rollout again once the result is there.
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
"""Threads that judge: they share the interpreter with the event loop, which would hardly get its
turn among many."""

_Judged = tuple[Sequence[Verdict], Sequence[Response]]
_Known = dict["Query", "Decision | Exception"]
"""What the processes said of each query, or what asking them ended in."""


class _OnlyAProcessKnows(BaseException):
    """Ends a judgement that needs the answer to a query; no `Exception`, as the judge turns these
    into verdicts."""

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
        known: _Known = {}
        while True:
            try:
                return await loop.run_in_executor(self._judging, self._judged, rollout, known)
            except _OnlyAProcessKnows as asked:
                query = asked.query
            try:
                known[query] = await loop.run_in_executor(self._asking, self._pool, query)
            except Exception as error:  # noqa: BLE001 - raised again where the judge asks for it
                known[query] = error

    def close(self) -> None:
        """End threads and processes; what is being scored is given up."""
        for threads in (self._judging, self._asking):
            threads.shutdown(wait=False, cancel_futures=True)
        self._pool.close()
        self._judge.close()

    def _judged(self, rollout: Rollout, known: _Known) -> _Judged:
        self._known.decisions = known
        return pairing.judge_responses(rollout, self._config, self._judge)

    def _known_or_asked(self, query: Query) -> Decision:
        answer: Decision | Exception | None = self._known.decisions.get(query)
        if answer is None:
            raise _OnlyAProcessKnows(query)
        if isinstance(answer, Exception):
            raise answer
        return answer
