"""The judge: holds the worker pool and the cache, and turns decisions into verdicts."""

from __future__ import annotations

import atexit
import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from pathlib import PurePath
from traceback import walk_tb
from types import TracebackType

from mmpr_builder.config import ScoringConfig
from mmpr_builder.errors import ConfigError, MmprError
from mmpr_builder.extraction import check_style, extract_answer
from mmpr_builder.records import Outcome, Style, Verdict
from mmpr_builder.scoring.auto import SCORERS, counted, decide
from mmpr_builder.scoring.clean import says_nothing
from mmpr_builder.scoring.decision import Decision, Symbolic
from mmpr_builder.scoring.pool import JudgeClosedError, WorkerPool

SCORER_VERSION = "10"
"""Changes whenever a verdict may change; part of every cache key."""

_CACHE_SIZE = 4096  # Answers repeat within a seed and hardly beyond; more is only memory.
_Key = tuple[str, str, tuple[str, ...], tuple[str, ...], str, str | None]
_NOT_THE_ANSWERS = (MmprError, OSError, JudgeClosedError)
"""Errors of the recipe, the machine or the caller; any other one is a rule that stumbled."""
_SHOWN = 200  # Characters of an error's message, which can quote the answer.


class Judge:
    """Scores answers; a context manager that ends its worker processes when it is left.

    Thread-safe. Verdicts are cached on (version, scorer, truths, options, answer, question), since
    the samples of a question repeat few answers. `workers` bounds the symbolic processes.

    An answer that a rule stumbles over is undecided by `error:NAME` (of the exception), wherever it
    is judged: one bad answer ends neither half of a build.
    """

    def __init__(
        self,
        config: ScoringConfig | None = None,
        *,
        workers: int = 1,
        symbolic: Symbolic | None = None,
    ) -> None:
        self._config = config or ScoringConfig()
        self._pool = WorkerPool(self._config.timeout_s, self._config.memory_mb, workers)
        self._symbolic = symbolic or self._pool
        self._cache: OrderedDict[_Key, Verdict] = OrderedDict()
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def __enter__(self) -> Judge:
        if self._symbolic is self._pool:
            self._pool.warm()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes; idempotent. Answers that need none can still be scored."""
        self._pool.close()

    def stats(self) -> dict[str, int]:
        """Counts so far: `verdicts`, `cached`, and one `rule.NAME` per rule that decided.

        `rule.timeout` and `rule.screened` are the answers that were left undecided for cost.
        """
        with self._lock:
            return dict(sorted(self._counts.items()))

    def score_answer(
        self,
        predicted: str | None,
        gold: str | Sequence[str],
        *,
        scorer: str = "auto",
        choices: Sequence[str] | None = None,
        question: str | None = None,
    ) -> Verdict:
        """Compare an extracted answer with the accepted truths.

        `choices` are the option texts of A, B, C, …; `question` tells counts from values where a
        scorer has a tolerance. Raises `ConfigError` for an unknown scorer.
        """
        if scorer == "auto":
            scorer = self._config.scorer
        golds = (gold,) if isinstance(gold, str) else tuple(gold)
        key = (SCORER_VERSION, scorer, golds, tuple(choices or ()), predicted or "", question)
        with self._lock:
            cached = self._cache.get(key)
            if cached is not None:
                self._cache.move_to_end(key)
                self._counts["verdicts"] += 1
                self._counts["cached"] += 1
                return cached
        try:
            verdict = self._judge(key)
        except _NOT_THE_ANSWERS:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a rule raises is an answer here
            verdict = _stumbled(predicted, error)
        with self._lock:
            self._counts["verdicts"] += 1
            self._counts[f"rule.{verdict.rule}"] += 1
            self._cache[key] = verdict
            if len(self._cache) > _CACHE_SIZE:
                self._cache.popitem(last=False)
        return verdict

    def _judge(self, key: _Key) -> Verdict:
        _, scorer, golds, choices, predicted, question = key
        if scorer not in SCORERS:
            raise ConfigError(f"scorer {scorer!r} is unknown: use one of {', '.join(SCORERS)}")
        bare = predicted.strip()
        empty = bare not in [gold.strip() for gold in golds] and says_nothing(predicted)
        if empty and counted(golds):
            answer = predicted if bare else None
            return Verdict("no_answer", answer, "empty", "there is no answer to compare")
        decision = decide(predicted, golds, scorer, choices, self._symbolic, question)
        return _verdict(decision, predicted)

    def score_response(
        self,
        text: str,
        gold: str | Sequence[str],
        *,
        style: Style = "final_answer",
        scorer: str = "auto",
        choices: Sequence[str] | None = None,
        question: str | None = None,
    ) -> Verdict:
        """Extract the final answer of a response and compare it; none is `no_answer`.

        Style "open" asks for no final answer, so there is nothing to judge: undecided. Raises
        `ConfigError` for an unknown style.
        """
        golds = (gold,) if isinstance(gold, str) else tuple(gold)
        check_style(style)
        try:
            if style == "open" or not counted(golds):
                reason = "there is no truth to compare with"
                return Verdict("undecided", None, "unusable_truth", reason)
            answer = extract_answer(text, style)
        except Exception as error:  # noqa: BLE001 - whatever a rule raises is an answer here
            return self._counted(_stumbled(None, error))
        if answer is None:
            reason = f"no final answer of style {style}"
            return self._counted(Verdict("no_answer", None, "extraction", reason))
        return self.score_answer(answer, golds, scorer=scorer, choices=choices, question=question)

    def _counted(self, verdict: Verdict) -> Verdict:
        with self._lock:
            self._counts["verdicts"] += 1
            self._counts[f"rule.{verdict.rule}"] += 1
        return verdict


def _stumbled(predicted: str | None, error: Exception) -> Verdict:
    """Undecided, with the error and the line that raised it: enough to find and mend the rule."""
    name = type(error).__name__
    *_, (frame, line) = walk_tb(error.__traceback__)
    place = f"{PurePath(frame.f_code.co_filename).name}:{line}"
    reason = f"{name}: {str(error)[:_SHOWN]} ({place})"
    return Verdict("undecided", predicted, f"error:{name}", reason)


def _verdict(decision: Decision, predicted: str) -> Verdict:
    if decision.equal is None:
        return Verdict("undecided", predicted, decision.rule, decision.reason)
    outcome: Outcome = "correct" if decision.equal else "incorrect"
    return Verdict(outcome, predicted, decision.rule, decision.reason)


_SHARED = Judge()
"""It starts a worker when the first formula needs one."""
atexit.register(_SHARED.close)
score_answer = _SHARED.score_answer
"""`Judge.score_answer` of a judge that the process shares."""
score_response = _SHARED.score_response
"""`Judge.score_response` of a judge that the process shares."""
