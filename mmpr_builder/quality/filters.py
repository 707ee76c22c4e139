"""Which responses of a seed may stand on which side of a pair, by the filters that are on.

Filtered(chosen={"I'm sorry, but …"}, rejected={…}, reasons={"refusal": 1, "near_copy": 2}, …)
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields

from mmpr_builder.config import QualityConfig
from mmpr_builder.quality.gate import continuation_fault, distinct_responses
from mmpr_builder.quality.hygiene import NEVER_REJECTED, response_fault
from mmpr_builder.records import Continuation, Response, Seed, Verdict


@dataclass(frozen=True, slots=True)
class Filtered:
    """What pairing does not use: texts by side, continuations as (index of a response, ratio kept)
    -> why, and for which reasons how many."""

    chosen: frozenset[str] = frozenset()
    rejected: frozenset[str] = frozenset()
    continuations: Mapping[tuple[int, float], str] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)


def filtered(
    seed: Seed,
    responses: Sequence[Response],
    verdicts: Sequence[Verdict],
    config: QualityConfig,
    may_stand: Callable[[int], bool] = lambda index: True,
) -> Filtered:
    """What the filters find in the responses of one seed; does not depend on their order.

    A response with a fault is never chosen, nor continued; with one of `NEVER_REJECTED` it is not
    rejected either. Of near-copies with the same verdict one stays, among those that `may_stand`.
    """
    if not (config.hygiene or config.dropout_gate or config.distinct is not None):
        return Filtered()
    chosen: set[str] = set()
    rejected: set[str] = set()
    continuations: dict[tuple[int, float], str] = {}
    reasons: Counter[str] = Counter()

    def leave_out(index: int, reason: str) -> None:
        reasons[reason] += 1
        chosen.add(responses[index].text)
        for continuation in responses[index].continuations:
            continuations[index, continuation.keep] = f"response_{reason}"

    fault_of = functools.cache(
        functools.partial(
            response_fault,
            question=seed.question,
            language=seed.language,
            choices=seed.choices,
        )
    )
    for index, (response, verdict) in enumerate(zip(responses, verdicts, strict=True)):
        for continuation in response.continuations:
            reason = _continuation_reason(seed, response, continuation, config)
            if reason is not None:
                reasons[f"continuation_{reason}"] += 1
                continuations[index, continuation.keep] = reason
        fault = fault_of(response.text, answer=verdict.answer) if config.hygiene else None
        if fault is not None:
            leave_out(index, fault.reason)
            if fault.reason in NEVER_REJECTED:
                rejected.add(response.text)
    if config.distinct is not None:
        standing = [
            index
            for index, response in enumerate(responses)
            if response.text not in chosen and may_stand(index)
        ]
        for index in _near_copies(responses, verdicts, standing, config.distinct):
            leave_out(index, "near_copy")
            rejected.add(responses[index].text)
    return Filtered(frozenset(chosen), frozenset(rejected), continuations, reasons)


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


def _near_copies(
    responses: Sequence[Response], verdicts: Sequence[Verdict], standing: list[int], least: float
) -> list[int]:
    """Those of these indices whose text nearly repeats another one of the same verdict and end."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index in standing:
        key = (verdicts[index].outcome, responses[index].finish_reason)
        groups.setdefault(key, []).append(index)
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


@dataclass
class Findings:
    """Sums over seeds for run.json: what judging and pairing see beside the pairs."""

    filtered: Counter[str] = field(default_factory=Counter)
    """Reason -> responses and continuations (`Filtered.reasons`)."""
    continuations: Counter[tuple[float, str]] = field(default_factory=Counter)
    """(ratio kept, why it is not fit to be rejected; "" if it is) -> continuations."""
    not_made: Counter[float] = field(default_factory=Counter)
    """Ratio asked for -> responses that lack a continuation there; 0 where none does."""
    blind: Counter[tuple[str, str]] = field(default_factory=Counter)
    """("seeds", "measured" …), ("responses", outcome), ("pass_rates", rate) -> how many."""
    uncontrolled: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """`pairing.balance.sums` of the pairs as they would be without controls of lengths and answers,
    where one is on."""

    def clear(self) -> None:
        """Forget everything, for another pass over the same seeds."""
        for entry in fields(self):
            getattr(self, entry.name).clear()

    def add(self, other: Findings) -> None:
        """Add the sums over other seeds."""
        for entry in fields(self):
            getattr(self, entry.name).update(getattr(other, entry.name))

    def count_not_made(self, responses: Sequence[Response], ratios: Sequence[float]) -> None:
        """Count what responses that were to be continued at each of these ratios lack."""
        for keep in ratios:
            made = sum(any(c.keep == keep for c in r.continuations) for r in responses)
            self.not_made[keep] += len(responses) - made

    def count_unused(self, responses: Sequence[Response], reason: str) -> None:
        """Count the continuations of a seed of which nothing is used, whatever they are worth."""
        self.continuations.update((c.keep, reason) for r in responses for c in r.continuations)

    def count_not_wrong(self, stored: Sequence[Response], usable: Sequence[Response]) -> None:
        """Count continuations that judging took away: right, or not known to be wrong."""
        for before, after in zip(stored, usable, strict=True):
            if before is not after:
                kept = {continuation.keep for continuation in after.continuations}
                self.continuations.update(
                    (c.keep, "not_wrong") for c in before.continuations if c.keep not in kept
                )
