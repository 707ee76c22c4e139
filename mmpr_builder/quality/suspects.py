"""Suspect truths: seeds whose samples agree with one another and not with the truth.

    truth "12", 27 of 32 answers say 15, one says 12   ->  suspect_truth
    truth "B",  7 of 8 answers say A, none says B      ->  nothing: eight guesses may do that

Independent samples seldom make the same mistake, so a clear majority for another answer says that
the truth is wrong at least as often as that the model is. As a control (`quality.suspect_truths`)
this drops seeds that nobody has looked at, so it asks for more than a list to look through:

- at least 60 % of the answers agree on one that is known to be wrong, and at most 10 % are right;
- at least half of all responses have a final answer: with fewer, those that do are no fair sample;
- so many votes would come by luck once in a thousand times at most, if every response had just
  drawn its answer. With few responses that is what decides: 60 % of 4 is soon reached. A draw
  between options, yes and no among them, is taken to fall on the same one half of the time, not
  once in four: models prefer a position, and a preference of that size alone must not look like
  knowledge. So at least 10 of 10, 15 of 16, 26 of 32. A free answer is taken to be drawn one time
  in four (small counts, the number that stands in the picture): 5 of 5, 7 of 8, 20 of 32.

A model that says A nearly always, or is wrong in one way about one kind of question, still looks
sure: the drops say which answer it was, and by how many.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, exp, lgamma, log, log1p
from typing import Protocol

from mmpr_builder.records import Drop, Outcome, Seed, Verdict

SUSPECT_TRUTH = "suspect_truth"
"""Reason of the `Drop`."""
MAX_DISTINCT = 24
"""Distinct answers of a seed that are grouped, the most frequent first."""
MAX_GROUPS = 6
"""Groups that an answer is compared with; a majority is among the first."""
_CLOSED, _FREE = 0.5, 0.25  # How often a draw is taken to fall on one and the same answer.
_SHOWN = 80


class Compares(Protocol):
    """What it takes to tell whether two answers are the same (`scoring.Judge` can)."""

    def score_answer(
        self,
        predicted: str | None,
        gold: str | Sequence[str],
        *,
        scorer: str = "auto",
        choices: Sequence[str] | None = None,
        question: str | None = None,
    ) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """From where on a seed is suspect; shares are of the responses with a final answer."""

    majority: float = 0.6
    """That agree on another answer, at least."""
    truth_share: float = 0.1
    """That are right, at most."""
    min_answered: int = 4
    """Responses with a final answer, at least."""
    answering: float = 0.5
    """Share of all responses that have one, at least."""
    chance: float = 0.001
    """At most, that draws alone would give such a majority; 1: not asked."""

    def votes(self, answered: int, *, closed: bool) -> int:
        """Votes that make a majority among so many answers; more than there are if none can."""
        drawn = _votes_beyond_chance(answered, _CLOSED if closed else _FREE, self.chance)
        return max(ceil(self.majority * answered - 1e-9), drawn)


CONTROL = Bounds()
"""What `quality.suspect_truths` takes."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Another answer than the truth, and how many agree on it."""

    answer: str
    """Its most frequent spelling."""
    votes: int
    right: int
    answered: int
    """Responses with a final answer."""


def suspicion(seed: Seed, verdicts: Sequence[Verdict], judge: Compares, scorer: str) -> Drop | None:
    """The drop of a seed whose responses agree on another answer; None for all others.

    `verdicts` are those of its responses. Only seeds of which too few are right, and enough wrong,
    cost comparisons. Does not depend on the order of the responses.
    """
    said = Counter(v.answer for v in verdicts if v.answer is not None and v.outcome != "no_answer")
    outcomes = {v.answer: v.outcome for v in verdicts if v.answer is not None}
    found = agreement(seed, said, len(verdicts), outcomes.__getitem__, judge, scorer, CONTROL)
    if found is None:
        return None
    truths = " | ".join(seed.answers)[:_SHOWN]
    detail = (
        f"{found.votes} of {found.answered} answers agree on {found.answer[:_SHOWN]!r},"
        f" {found.right} on the truth {truths!r} ({seed.origin or 'origin unknown'})"
    )
    return Drop(seed.id, "quality", SUSPECT_TRUTH, detail)


def agreement(
    seed: Seed,
    said: Mapping[str, int],
    responses: int,
    outcome_of: Callable[[str], Outcome],
    judge: Compares,
    scorer: str,
    bounds: Bounds,
) -> Agreement | None:
    """On which wrong answer a clear majority agrees; None where none does.

    `said` counts the final answers of `responses` responses, `outcome_of` says what each is
    against the truth; an undecided one counts as an answer and as neither right nor wrong. Answers
    belong together if each is right with the other as the truth, under the seed's own scorer. Costs
    at most `MAX_DISTINCT` verdicts and `2 * MAX_DISTINCT * MAX_GROUPS` comparisons.
    """
    answered = sum(said.values())
    if not seed.has_truth or answered < bounds.min_answered:
        return None
    if answered < bounds.answering * responses:
        return None
    needed = bounds.votes(answered, closed=_is_closed(seed))
    # Most frequent first, and by text where that is equal: the order of responses says nothing.
    ranked = sorted(said, key=lambda answer: (-said[answer], answer))[:MAX_DISTINCT]
    outcomes = {answer: outcome_of(answer) for answer in ranked}
    right = sum(said[answer] for answer in ranked if outcomes[answer] == "correct")
    wrong = [answer for answer in ranked if outcomes[answer] == "incorrect"]
    if right > bounds.truth_share * answered or sum(said[answer] for answer in wrong) < needed:
        return None
    spelling, votes = _largest_group(wrong, said, _comparer(seed, judge, scorer))
    return Agreement(spelling, votes, right, answered) if votes >= needed else None


def _comparer(seed: Seed, judge: Compares, scorer: str) -> Callable[[str, str], bool]:
    def right(answer: str, truth: str) -> bool:
        verdict = judge.score_answer(
            answer,
            [truth],
            scorer=scorer,
            choices=list(seed.choices) or None,
            question=seed.question,
        )
        return verdict.outcome == "correct"

    return lambda left, other: right(left, other) and right(other, left)


def _largest_group(
    answers: Sequence[str], said: Mapping[str, int], same: Callable[[str, str], bool]
) -> tuple[str, int]:
    """(its most frequent spelling, its votes) of the largest group of equal answers."""
    votes: dict[str, int] = {}
    for answer in answers:
        home = next((first for first in votes if same(answer, first)), None)
        if home is not None:
            votes[home] += said[answer]
        elif len(votes) < MAX_GROUPS:
            votes[answer] = said[answer]
    return max(votes.items(), key=lambda item: item[1])


def _is_closed(seed: Seed) -> bool:
    """Whether the question offers its answers: options, a letter, yes or no."""
    from mmpr_builder.scoring.auto import kind_of
    from mmpr_builder.scoring.clean import clean
    from mmpr_builder.scoring.yes_no import is_yes_no

    def offered(truth: str) -> bool:
        text = clean(truth[:_SHOWN])
        return kind_of(text, seed.choices) == "choice" or is_yes_no(text)

    return bool(seed.choices) or any(offered(truth) for truth in seed.answers)


@functools.lru_cache(maxsize=4096)
def _votes_beyond_chance(drawn: int, share: float, chance: float) -> int:
    """The fewest of so many draws on one answer that have at most this probability."""
    if chance >= 1:
        return 0
    return next((votes for votes, tail in _tails(drawn, share) if tail > chance), -1) + 1


def _tails(drawn: int, share: float) -> Iterator[tuple[int, float]]:
    """(votes, probability of at least so many), from all down to none: a binomial law."""
    tail = 0.0
    for votes in range(drawn, -1, -1):
        ways = lgamma(drawn + 1) - lgamma(votes + 1) - lgamma(drawn - votes + 1)
        tail += exp(ways + votes * log(share) + (drawn - votes) * log1p(-share))
        yield votes, tail
