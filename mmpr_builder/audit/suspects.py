"""Suspect truths: seeds whose samples agree with one another and not with the truth.

    SuspectTruth("q7", …, truths=("12",), majority="15", majority_share=0.81, truth_share=0.03, …)

Many independent samples seldom make the same mistake, so a clear majority for another answer says
that the truth is wrong at least as often as that the model is. Nothing is decided here: who uses
it sets such seeds aside, or looks at them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mmpr_builder.audit.finding import Scorer
from mmpr_builder.extraction import extract_answer
from mmpr_builder.records import Rollout, Seed

MAX_DISTINCT = 24
"""Distinct answers of a seed that are grouped, the most frequent first."""
MAX_GROUPS = 6
"""Groups that an answer is compared with; a majority is among the first."""


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


def suspect_truths(
    rollouts: Iterable[Rollout],
    judge: Scorer,
    *,
    scorer_of: Callable[[Seed], str] = lambda seed: seed.scorer,
    majority: float = 0.6,
    min_answered: int = 4,
    truth_share: float = 0.1,
) -> Iterator[SuspectTruth]:
    """Seeds of which at least `majority` of the answers agree on one that is known to be wrong.

    Looked at are seeds with a truth and at least `min_answered` responses with a final answer, of
    which at most `truth_share` are right. Answers belong together if each is right with the other
    as the truth, under the seed's own scorer. Costs at most `MAX_DISTINCT * (1 + 2 * MAX_GROUPS)`
    comparisons a seed, and for most seeds only the verdicts that pairing needs anyway.
    """
    for rollout in rollouts:
        found = _suspect(rollout, judge, scorer_of, majority, min_answered, truth_share)
        if found is not None:
            yield found


def _suspect(
    rollout: Rollout,
    judge: Scorer,
    scorer_of: Callable[[Seed], str],
    majority: float,
    min_answered: int,
    truth_share: float,
) -> SuspectTruth | None:
    seed = rollout.seed
    if not seed.has_truth or len(rollout.responses) < min_answered:
        return None
    said = Counter(_answers(rollout))
    answered = said.total()
    if answered < min_answered:
        return None
    equal = _comparer(seed, judge, scorer_of(seed))
    # Most frequent first, and by text where that is equal: the order of responses says nothing.
    ranked = sorted(said, key=lambda answer: (-said[answer], answer))
    verdicts = {answer: equal(answer, seed.answers) for answer in ranked[:MAX_DISTINCT]}
    right = sum(said[answer] for answer, verdict in verdicts.items() if verdict == "correct")
    wrong = [answer for answer, verdict in verdicts.items() if verdict == "incorrect"]
    needed = majority * answered
    if right > truth_share * answered or sum(said[answer] for answer in wrong) < needed:
        return None
    spelling, votes = _largest_group(wrong, said, equal)
    if votes < needed:
        return None
    return SuspectTruth(
        seed_id=seed.id,
        origin=seed.origin,
        source=seed.source,
        question=seed.question,
        truths=seed.answers,
        majority=spelling,
        majority_share=votes / answered,
        truth_share=right / answered,
        answered=answered,
        responses=len(rollout.responses),
    )


def _answers(rollout: Rollout) -> Iterator[str]:
    for text, count in Counter(response.text for response in rollout.responses).items():
        answer = extract_answer(text, rollout.style)
        if answer is not None:
            yield from [answer] * count


def _comparer(seed: Seed, judge: Scorer, scorer: str) -> Callable[[str, Sequence[str]], str]:
    choices = list(seed.choices) or None

    def outcome(answer: str, truths: Sequence[str]) -> str:
        return judge.score_answer(
            answer, list(truths), scorer=scorer, choices=choices, question=seed.question
        ).outcome

    return outcome


def _largest_group(
    answers: Sequence[str], said: Counter[str], equal: Callable[[str, Sequence[str]], str]
) -> tuple[str, int]:
    """(its most frequent spelling, its votes) of the largest group of equal answers."""
    votes: dict[str, int] = {}
    for answer in answers:
        same = (
            first
            for first in votes
            if equal(answer, [first]) == "correct" and equal(first, [answer]) == "correct"
        )
        home = next(same, None)
        if home is not None:
            votes[home] += said[answer]
        elif len(votes) < MAX_GROUPS:
            votes[answer] = said[answer]
    return max(votes.items(), key=lambda item: item[1])
