"""Questions that are solved without their image: their pairs do not teach to look.

    "What is the capital of France?" over a map of Europe   8 of 8 right without it    solved
    "How many red shapes are there?"                        2 of 8                     not solved
    "Which shape is left of it?  A. …  B. …  C. …  D. …"    3 of 8, a quarter is luck  not solved

A model answers a share of all questions out of what it knows, or guesses (Chen et al. 2024, "Are We
on the Right Way for Evaluating Large Vision-Language Models?", arXiv 2403.20330). `sampling.blind`
samples every question some times without its images; here it is decided which are solved so.

**The threshold** is on a scale from which luck is taken off: 0 is guessing, 1 is always right
(Frary 1988, "Formula Scoring of Multiple-Choice Tests (Correction for Guessing)"). A question
whose answer can be guessed with chance c is as far above it at the rate c + threshold x (1 - c):
with a threshold of 0.3 these are 0.3 for a free answer, 0.475 for one of four options, 0.65 for yes
or no.

**Enough samples.** A few samples say little about a rate, so a seed counts as solved only if so
many right ones would come by luck in at most 5 % of the seeds that are just at that rate (one-sided
exact binomial test). All of 3 right are enough for a free answer at a threshold of 0.3, all of 5
for four options, all of 7 for yes or no: with 8 samples each kind can be told. At 0.5 it takes 5, 7
and 11. Seeds with fewer are never dropped, whatever they say.

**What it cannot tell.** A model that always says yes solves half of all yes/no questions without
looking, although they do need the picture. Dropping those would leave the questions to which the
answer is no; where yes/no questions are many, look at the answers of both sides in the report.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mmpr_builder.records import Drop, Seed, Verdict

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
