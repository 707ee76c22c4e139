"""Which responses of a seed may stand on which side of a pair, by the filters that are on.

Filtered(chosen={"I'm sorry, but …"}, rejected={…}, reasons={"refusal": 1, "near_copy": 2}, …)
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields

from mmpr_builder.config import QualityConfig
from mmpr_builder.quality.hygiene import NEVER_REJECTED, continuation_fault, response_fault
from mmpr_builder.quality.likeness import in_order, words
from mmpr_builder.records import Continuation, Response, Seed, Verdict
from mmpr_builder.steps import MIDDLE, faithfulness


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
    on = config.hygiene or config.dropout_gate or config.min_faithful
    if not on and config.distinct is None:
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
        for one in response.with_image if config.hygiene else ():
            text, said = one.prefix + one.text, one.verdict
            if said and said.outcome == "correct" and fault_of(text, answer=said.answer):
                chosen.add(text)
        faith = faithfulness(response) if verdict.outcome == "correct" else None
        if faith is not None and faith < config.min_faithful:
            leave_out(index, "unfaithful")
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


def distinct_responses(texts: Sequence[str], least: float = 0.95) -> list[int]:
    """For each text the index of the one that stands for it; its own where nothing is like it.

        "There are 3 red and 2 blue ones, 5 in all."
        "There are 3 red and 2 blue ones: 5 in total."     near-copies at `least` = 0.7

    Near-copies share `least` of their words (`in_order`). Texts are taken in alphabetical order and
    join the first earlier one that they are near to, so groups do not depend on the order of
    `texts`. Quadratic in the number of distinct texts.
    """
    of_text: dict[str, int] = {}
    for index, text in enumerate(texts):
        of_text.setdefault(text, index)
    leaders: list[tuple[tuple[str, ...], int]] = []
    stands_for: dict[str, int] = {}
    for text in sorted(of_text):
        mine, own = words(text), of_text[text]
        near = (index for theirs, index in leaders if in_order(mine, theirs, least) >= least)
        stands_for[text] = next(near, own)
        if stands_for[text] == own:
            leaders.append((mine, own))
    return [stands_for[text] for text in texts]


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
    steps: Counter[tuple[str, str]] = field(default_factory=Counter)
    """("continuations", what they come to), ("first_wrong", steps before it) -> how many."""
    majority: Counter[str] = field(default_factory=Counter)
    """`Seed.truth_source` -> questions without a truth that were asked for an answer."""
    judged: Counter[tuple[str, str]] = field(default_factory=Counter)
    """("seeds", "compared" or not), ("comparisons", what a judge found) -> how many."""
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

    def count_steps(self, judged: Sequence[Response], verdicts: Sequence[Verdict]) -> None:
        """Count the responses whose steps were tried by the first wrong one, and where what went on
        from them got."""
        for response, verdict in zip(judged, verdicts, strict=True):
            if any(c.keep >= 1 for c in response.with_image):
                found = "none" if verdict.outcome == "correct" else "not_certain"
                found = found if response.first_wrong is None else str(response.first_wrong)
                self.steps["first_wrong", found] += 1
            for one in response.with_image:
                place = "middle" if one.keep == MIDDLE else "continuations"
                if one.verdict is not None:
                    self.steps[place, one.verdict.outcome] += 1

    def count_compared(self, judged: Sequence[Response], *, asked: bool) -> None:
        """Count what a judge found of the responses to an open question."""
        outcomes = [one.outcome for response in judged for one in response.compared]
        self.judged.update(("comparisons", outcome) for outcome in outcomes)
        if asked or outcomes:
            self.judged["seeds", "compared" if outcomes else "not_compared"] += 1

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
