"""What the samples of a seed say against the seed itself.

    truth "12", 27 of 32 answers say 15, one says 12       suspect_truth
    truth "B",  7 of 8 answers say A, none says B          nothing: eight guesses may do that
    8 of 8 right without the image, a free answer          solved_blind
    3 of 8 right without it, one of four options           nothing: a quarter is luck

**Suspect truths.** Independent samples seldom make the same mistake, so a clear majority for
another answer is at least as often a wrong truth as a wrong model; what it takes, say `Bounds`. A
draw between options (yes and no among them) is taken to fall on the same one half of the time,
because models prefer a position, that of a free answer (small counts, the number in the picture) a
quarter; the chance is that of any answer (of one, times their number: Bonferroni 1936). So draws
alone flag one seed in a thousand. None of it knows a model that is wrong and sure.

**Solved without the image.** A model answers a share of all questions from what it knows, or
guesses (Chen et al. 2024, "Are We on the Right Way for Evaluating Large Vision-Language Models?",
arXiv 2403.20330). The scale of the threshold leaves luck out: 0 is guessing, 1 is always right
(Frary 1988, "Formula Scoring of Multiple-Choice Tests (Correction for Guessing)"). A seed counts as
solved if at most 5 % of the seeds just at that rate had so many right samples by luck (one-sided
exact binomial test). Seeds with fewer samples stay.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mmpr_builder.records import Drop, Seed, Verdict

SUSPECT_TRUTH, SOLVED_BLIND = "suspect_truth", "solved_blind"
MAX_DISTINCT = 24
"""Distinct answers of a seed that are grouped, the most frequent first."""
MAX_GROUPS = 6
"""Groups that an answer is compared with; a majority is among the first."""
_CLOSED, _FREE = 0.5, 0.25  # How often a draw is taken to fall on one of 2 or 4 answers.
_SHOWN = 80
SURE = 0.05
"""Share of the seeds just at the threshold that may be taken for solved."""
_UNKNOWN_OPTIONS = 4  # Of a question whose truth is a letter and whose options are in the picture.
_LETTER = re.compile(r"\(?[A-H]\)?\.?")


@functools.lru_cache(maxsize=4096)
def at_least(hits: int, draws: int, rate: float) -> float:
    """P(X >= hits) for X binomial(draws, rate), rounded so that 1 of 1 at 0.05 is 0.05."""
    from scipy.special import bdtrc

    return round(float(bdtrc(hits - 1, draws, rate)), 12) if hits > 0 else 1.0


def chance_of(votes: int, answered: int, *, closed: bool) -> float:
    """At most with what probability draws alone give any answer so many votes."""
    share = _CLOSED if closed else _FREE
    return min(1.0, at_least(votes, answered, share) / share)


@dataclass(frozen=True, slots=True)
class Bounds:
    """From where on a seed is suspect.

    Of the responses with a final answer at least `majority` agree on another one and at most
    `truth_share` are right. At least `min_answered` responses, and the share `answering` of all,
    have one. Draws alone would give such a majority with `chance` at most; 1: not asked.
    """

    majority: float = 0.6
    truth_share: float = 0.1
    min_answered: int = 4
    answering: float = 0.5
    chance: float = 0.001

    def votes(self, answered: int, *, closed: bool) -> int:
        """Votes that make a majority among so many answers; more than there are if none can."""
        enough = (
            n for n in range(answered + 1) if chance_of(n, answered, closed=closed) <= self.chance
        )
        return max(math.ceil(self.majority * answered - 1e-9), next(enough, answered + 1))


CONTROL = Bounds()
"""What `quality.suspect_truths` takes."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Another answer than the truth, in its most frequent spelling, and how many agree on it;
    `answered`: responses with a final answer; `chance`: that draws alone would agree so."""

    answer: str
    votes: int
    right: int
    answered: int
    chance: float = 1.0


def suspicion(
    seed: Seed, verdicts: Sequence[Verdict], is_right: Callable[[str, str], bool]
) -> Drop | None:
    """The drop of a seed whose responses agree on another answer; None for all others.

    `verdicts` are of its responses in any order, `is_right` is as in `agreement`.
    """
    found = agreement(seed, verdicts, is_right, CONTROL)
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
    verdicts: Sequence[Verdict],
    is_right: Callable[[str, str], bool],
    bounds: Bounds,
) -> Agreement | None:
    """On which wrong answer a clear majority agrees; None where none does.

    `verdicts` are of all responses in any order; an undecided answer is neither right nor wrong.
    Answers belong together if each `is_right` with the other as the truth. Costs at most
    `2 * MAX_DISTINCT * MAX_GROUPS` comparisons.
    """
    outcomes = {v.answer: v.outcome for v in verdicts if v.answer and v.outcome != "no_answer"}
    said = Counter(v.answer for v in verdicts if v.answer in outcomes)
    answered = said.total()
    if not seed.has_truth or answered < bounds.min_answered:
        return None
    if answered < bounds.answering * len(verdicts):
        return None
    closed = _is_closed(seed)
    needed = bounds.votes(answered, closed=closed)
    # Most frequent first, and by text where that is equal: the order of responses says nothing.
    ranked = sorted(said, key=lambda answer: (-said[answer], answer))[:MAX_DISTINCT]
    right = sum(said[answer] for answer in ranked if outcomes[answer] == "correct")
    wrong = [answer for answer in ranked if outcomes[answer] == "incorrect"]
    if right > bounds.truth_share * answered or sum(said[answer] for answer in wrong) < needed:
        return None
    spelling, votes = _largest_group(
        wrong, said, lambda one, other: is_right(one, other) and is_right(other, one)
    )
    chance = chance_of(votes, answered, closed=closed)
    return Agreement(spelling, votes, right, answered, chance) if votes >= needed else None


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
    from mmpr_builder.scoring.words.text import is_yes_no

    def offered(truth: str) -> bool:
        text = clean(truth[:_SHOWN])
        return kind_of(text, seed.choices) == "choice" or is_yes_no(text)

    return bool(seed.choices) or any(offered(truth) for truth in seed.answers)


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
        at = _rate_at(most, self.chance)
        return self.decided > 0 and at_least(self.right, self.decided, at) <= SURE

    def drop(self, seed: Seed, most: float) -> Drop | None:
        """The seed's drop if it is solved, with the figures behind it."""
        if not self.is_solved(most):
            return None
        detail = (
            f"{self.right} of {self.decided} right without the image; a guess is right with"
            f" {self.chance:.2f}, the limit is {_rate_at(most, self.chance):.2f}"
        )
        return Drop(seed.id, "quality", SOLVED_BLIND, detail)


def blind_result(seed: Seed, verdicts: Sequence[Verdict]) -> BlindResult:
    """What the verdicts on a seed's samples without images come to; undecided ones do not count."""
    decided = [verdict for verdict in verdicts if verdict.outcome != "undecided"]
    right = sum(verdict.outcome == "correct" for verdict in decided)
    return BlindResult(right, len(decided), _chance(seed))


def least_samples(most: float, chance: float = 0.0) -> int:
    """The fewest samples that can show a seed as solved, by all being right."""
    at = _rate_at(most, chance)
    return 1 if at <= SURE else math.ceil(math.log(SURE) / math.log(at) - 1e-9)


def _chance(seed: Seed) -> float:
    """The rate at which a guess is right: 1 of the options, 1 of yes and no, else 0."""
    from mmpr_builder.scoring.words.text import is_yes_no  # Not wanted where engines run.

    if seed.choices:
        return 1 / len(seed.choices)
    if any(is_yes_no(answer.strip()) for answer in seed.answers):
        return 0.5
    if seed.answers and _LETTER.fullmatch(seed.answers[0].strip()):
        return 1 / _UNKNOWN_OPTIONS
    return 0.0


def _rate_at(most: float, chance: float) -> float:
    return chance + most * (1 - chance)
