"""Suspect truths: seeds whose samples agree with one another and not with the truth.

    SuspectTruth("q7", …, truths=("12",), majority="15", majority_share=0.81, truth_share=0.03, …)

Many independent samples seldom make the same mistake, so a clear majority for another answer may
well be right. This list is for a person to read. The control `quality.suspect_truths` finds such
seeds in the same way, asks for more evidence, and drops them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mmpr_builder.pairing.verdicts import Scores, asked_of, judge_text, right_with
from mmpr_builder.quality.suspects import Agreement, Bounds, agreement
from mmpr_builder.records import Rollout, Seed


@dataclass(frozen=True, slots=True)
class SuspectTruth:
    """A seed whose responses agree on another answer. Shares are of the `answered` responses."""

    seed_id: str
    origin: str
    source: str
    question: str
    truths: tuple[str, ...]
    majority: str
    """The most frequent spelling of the answer that the responses agree on."""
    majority_share: float
    truth_share: float
    answered: int
    """Responses with a final answer."""
    responses: int
    false_discovery: float
    """Share of this seed and all clearer ones that draws alone would put on the list, at most."""


def suspect_truths(
    rollouts: Iterable[Rollout],
    judge: Scores,
    *,
    scorer_of: Callable[[Seed], str] = lambda seed: seed.scorer,
    majority: float = 0.6,
    min_answered: int = 4,
    truth_share: float = 0.1,
) -> Iterator[SuspectTruth]:
    """Seeds where at least `majority` of the answers agree on one that is known to be wrong.

    A seed counts with a truth, at least `min_answered` final answers, and at most `truth_share` of
    them right (`quality.suspects.agreement`).
    """
    bounds = Bounds(majority, truth_share, min_answered, answering=0.0, chance=1.0)
    seeds = 0
    suspects: list[tuple[Seed, int, Agreement]] = []
    for rollout in rollouts:
        seed = rollout.seed
        if not seed.has_truth or len(rollout.responses) < min_answered:
            continue
        seeds += 1
        asked = asked_of(seed, scorer_of(seed), rollout.style)
        score = functools.cache(functools.partial(judge_text, judge, asked=asked))
        verdicts = [score(response.text) for response in rollout.responses]
        found = agreement(seed, verdicts, right_with(judge, asked), bounds)
        if found is not None:
            suspects.append((rollout.seed, len(rollout.responses), found))
    rates = _false_discovery([found.chance for _, _, found in suspects], seeds)
    for (seed, responses, found), rate in zip(suspects, rates, strict=True):
        yield SuspectTruth(
            seed_id=seed.id,
            origin=seed.origin,
            source=seed.source,
            question=seed.question,
            truths=seed.answers,
            majority=found.answer,
            majority_share=found.votes / found.answered,
            truth_share=found.right / found.answered,
            answered=found.answered,
            responses=responses,
            false_discovery=rate,
        )


def _false_discovery(chances: Sequence[float], tests: int) -> list[float]:
    """The rate for each of the clearest `chances` among so many tests (Benjamini, Hochberg)."""
    rates, rate = [0.0] * len(chances), 1.0
    places = sorted(range(len(chances)), key=chances.__getitem__)
    for rank, place in zip(range(len(places), 0, -1), reversed(places), strict=True):
        rate = min(rate, chances[place] * tests / rank)
        rates[place] = rate
    return rates
