"""Which responses of a seed may stand on which side of a pair, by the controls that are on."""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mmpr_builder.config import QualityConfig
from mmpr_builder.quality.gate import Fault, continuation_fault, distinct_responses
from mmpr_builder.quality.hygiene import NEVER_REJECTED, response_fault
from mmpr_builder.records import Continuation, Drop, Outcome, Response, Seed, Verdict


@dataclass(frozen=True, slots=True)
class Bars:
    """What pairing leaves aside. `chosen` and `rejected` are texts; `reasons` counts responses and
    continuations."""

    chosen: frozenset[str] = frozenset()
    rejected: frozenset[str] = frozenset()
    continuations: Mapping[tuple[int, float], str] = field(default_factory=dict)
    """(index of a response, ratio kept) -> why that continuation of it is not used."""
    reasons: Counter[str] = field(default_factory=Counter)

    def without_barred(self, index: int, response: Response) -> Response:
        """A response with those of its continuations that may be used."""
        if not self.continuations:
            return response
        return response.with_continuations(
            c for c in response.continuations if (index, c.keep) not in self.continuations
        )

    @property
    def detail(self) -> str:
        """`2 refusal, 1 continuation_missing_image`."""
        return ", ".join(f"{count} {reason}" for reason, count in sorted(self.reasons.items()))


def barred(
    seed: Seed,
    responses: Sequence[Response],
    verdicts: Sequence[Verdict],
    config: QualityConfig,
    may_stand: Callable[[int, Outcome], bool] | None = None,
) -> Bars:
    """What the controls find in the responses of one seed; does not depend on their order.

    A response with a fault is never chosen, nor continued; with one of `NEVER_REJECTED` it is not
    rejected either. Of near-copies with the same verdict one is left for either side: among those
    that may stand there at all, as `may_stand` says of index and outcome.
    """
    chosen: set[str] = set()
    rejected: set[str] = set()
    continuations: dict[tuple[int, float], str] = {}
    reasons: Counter[str] = Counter()

    def bar_all_of(index: int, reason: str) -> None:
        for continuation in responses[index].continuations:
            continuations[index, continuation.keep] = reason

    @functools.cache
    def fault_of(text: str, answer: str | None) -> Fault | None:
        return response_fault(text, question=seed.question, language=seed.language, answer=answer)

    for index, (response, verdict) in enumerate(zip(responses, verdicts, strict=True)):
        fault = fault_of(response.text, verdict.answer) if config.hygiene else None
        for continuation in response.continuations:
            reason = _continuation_reason(seed, response, continuation, config)
            if reason is not None:
                reasons[f"continuation_{reason}"] += 1
                continuations[index, continuation.keep] = reason
        if fault is not None:
            reasons[fault.reason] += 1
            chosen.add(response.text)
            bar_all_of(index, f"response_{fault.reason}")
            if fault.reason in NEVER_REJECTED:
                rejected.add(response.text)
    if config.distinct is not None:
        standing = [
            index
            for index, verdict in enumerate(verdicts)
            if may_stand is None or may_stand(index, verdict.outcome)
        ]
        for index in _copies(responses, verdicts, standing, chosen, config.distinct):
            reasons["near_copy"] += 1
            chosen.add(responses[index].text)
            rejected.add(responses[index].text)
            bar_all_of(index, "response_near_copy")
    return Bars(frozenset(chosen), frozenset(rejected), continuations, reasons)


def _continuation_reason(
    seed: Seed, response: Response, continuation: Continuation, config: QualityConfig
) -> str | None:
    if continuation.finish_reason != "stop":  # One that was cut is not used anyway.
        return None
    fault = continuation_fault(response, continuation) if config.dropout_gate else None
    if fault is None and config.hygiene:
        joined = continuation.prefix + continuation.text
        found = response_fault(joined, question=seed.question, language=seed.language)
        fault = found if found is not None and found.reason in NEVER_REJECTED else None
    return None if fault is None else fault.reason


def _copies(
    responses: Sequence[Response],
    verdicts: Sequence[Verdict],
    standing: Sequence[int],
    faulty: set[str],
    least: float,
) -> list[int]:
    """Of these indices, those of different texts that repeat another one of the same verdict and
    finish."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index in standing:
        response, verdict = responses[index], verdicts[index]
        if response.text not in faulty:
            groups.setdefault((verdict.outcome, response.finish_reason), []).append(index)
    found = []
    for indices in groups.values():
        texts = [responses[index].text for index in indices]
        leaders = distinct_responses(texts, least)
        found += [
            index
            for index, text, leader in zip(indices, texts, leaders, strict=True)
            if texts[leader] != text
        ]
    return found


# ---- blind
# Questions that are solved without their image: their pairs do not teach to look.
#
#     "What is the capital of France?" over a map of Europe   8 of 8 right without it    solved
#     "How many red shapes are there?"                        2 of 8                     not solved
#     "Which shape is left of it?  A. …  B. …  C. …  D. …"    3 of 8, a quarter is luck  not solved
#
# A model answers a share of all questions out of what it knows, or guesses (Chen et al. 2024, "Are
# We
# on the Right Way for Evaluating Large Vision-Language Models?", arXiv 2403.20330).
# `sampling.blind`
# samples every question some times without its images; here it is decided which are solved so.
#
# **The threshold** is on a scale from which luck is taken off: 0 is guessing, 1 is always right
# (Frary 1988, "Formula Scoring of Multiple-Choice Tests (Correction for Guessing)"). A question
# whose answer can be guessed with chance c is as far above it at the rate c + threshold x (1 - c):
# with a threshold of 0.3 these are 0.3 for a free answer, 0.475 for one of four options, 0.65 for
# yes
# or no.
#
# **Enough samples.** A few samples say little about a rate, so a seed counts as solved only if so
# many right ones would come by luck in at most 5 % of the seeds that are just at that rate (one-
# sided
# exact binomial test). All of 3 right are enough for a free answer at a threshold of 0.3, all of 5
# for four options, all of 7 for yes or no: with 8 samples each kind can be told. At 0.5 it takes 5,
# 7
# and 11. Seeds with fewer are never dropped, whatever they say.
#
# **What it cannot tell.** A model that always says yes solves half of all yes/no questions without
# looking, although they do need the picture. Dropping those would leave the questions to which the
# answer is no; where yes/no questions are many, look at the answers of both sides in the report.


SOLVED_BLIND = "solved_blind"
SURE = 0.05
"""Share of the seeds just at the threshold that may be taken for solved."""

_UNKNOWN_OPTIONS = 4
"""Options of a question whose truth is a letter and whose options stand in the picture."""
_LETTER = re.compile(r"\(?[A-H]\)?\.?")


@dataclass(frozen=True, slots=True)
class BlindResult:
    """`right` of `decided` samples without the images; `chance` is the rate of a mere guess."""

    right: int
    decided: int
    chance: float

    @property
    def rate(self) -> float | None:
        """The pass rate without the images, luck included; None if no sample was decided."""
        return self.right / self.decided if self.decided else None

    def is_solved(self, most: float) -> bool:
        """Whether the question is surely solved more often than `most` (0 to 1) above chance."""
        if not self.decided:
            return False
        return _tail(self.right, self.decided, _rate_at(most, self.chance)) <= SURE

    def drop(self, seed: Seed, most: float) -> Drop | None:
        """The seed's drop if it is solved, with the figures behind it."""
        if not self.is_solved(most):
            return None
        at = _rate_at(most, self.chance)
        detail = (
            f"{self.right} of {self.decided} right without the image;"
            f" a guess is right with {self.chance:.2f}, the limit is {at:.2f}"
        )
        return Drop(seed.id, "quality", SOLVED_BLIND, detail)


def blind_result(seed: Seed, verdicts: Sequence[Verdict]) -> BlindResult:
    """What the verdicts on a seed's samples without images come to; undecided ones do not count."""
    decided = [verdict for verdict in verdicts if verdict.outcome != "undecided"]
    right = sum(verdict.outcome == "correct" for verdict in decided)
    return BlindResult(right, len(decided), chance(seed))


def chance(seed: Seed) -> float:
    """The rate at which a guess is right: 1 of the options, 1 of yes and no, else 0."""
    from mmpr_builder.scoring.yes_no import is_yes_no  # Not wanted where engines run.

    if seed.choices:
        return 1 / len(seed.choices)
    if any(is_yes_no(answer.strip()) for answer in seed.answers):
        return 0.5
    if seed.answers and _LETTER.fullmatch(seed.answers[0].strip()):
        return 1 / _UNKNOWN_OPTIONS
    return 0.0


def least_samples(most: float, chance: float = 0.0) -> int:
    """The fewest samples that can show a seed as solved, by all being right."""
    at = _rate_at(most, chance)
    return 1 if at <= SURE else math.ceil(math.log(SURE) / math.log(at) - 1e-9)


def _rate_at(most: float, chance: float) -> float:
    return chance + most * (1 - chance)


def _tail(right: int, n: int, rate: float) -> float:
    """P(X >= right) for X binomial(n, rate)."""
    terms = (math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(right, n + 1))
    return math.fsum(terms)
