"""Which responses of a seed may stand on which side of a pair, by the controls that are on."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mmpr_builder.config import QualityConfig
from mmpr_builder.quality.distinct import distinct_responses
from mmpr_builder.quality.gate import Fault, continuation_fault
from mmpr_builder.quality.hygiene import NEVER_REJECTED, response_fault
from mmpr_builder.records import Continuation, Outcome, Response, Seed, Verdict


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
