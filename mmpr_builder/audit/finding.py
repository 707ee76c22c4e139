"""What an audit finds, and what it needs of a judge.

Finding("q7", "seeds.jsonl:118", "maps", "choice", "not_an_option", unusable=True, value="E", …)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mmpr_builder.quality.suspects import Compares
from mmpr_builder.records import Seed, Style, Verdict

SHOWN = 200
"""Characters of a truth, or of a detail, that a finding keeps at most."""

REMEDIES = {
    "empty_truth": "write the answer, or leave the field out if it is not known",
    "truth_too_long": "give the answer alone, or leave it out: then the seed goes to DropoutNTP",
    "not_an_option": "give the letter or the text of one of the options, or mend the options",
    "undecided_truth": "write it in a simpler form, or fix another scorer for its source",
    "unequal_to_itself": "write it in a simpler form, or fix another scorer for its source",
    "contradicting_truths": "keep the truths that are right",
    "ambiguous_options": "make the options differ, or leave the seed out",
    "lost_in_extraction": "write the truth on one line without marks of its own, or use another"
    " prompts.style",
}
"""Reason of a finding -> what to do about it."""


class Scorer(Compares, Protocol):
    """What the checks need of a judge (`scoring.Judge` is one)."""

    def score_response(
        self,
        text: str,
        gold: str | Sequence[str],
        *,
        style: Style = "final_answer",
        scorer: str = "auto",
        choices: Sequence[str] | None = None,
        question: str | None = None,
    ) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a seed's truths. `value` is the truth or option concerned."""

    seed_id: str
    origin: str
    source: str
    kind: str
    """What the truth is compared as: the scorer fixed for it, or what "auto" takes it for."""
    reason: str
    """A key of `REMEDIES`."""
    unusable: bool
    """True: no response can be right. False: doubtful."""
    value: str
    detail: str

    @property
    def remedy(self) -> str:
        return REMEDIES[self.reason]


def finding_of(
    seed: Seed, kind: str, reason: str, detail: str, value: str, *, unusable: bool
) -> Finding:
    """A finding about `value`, a truth of this seed."""
    shown = value if len(value) <= SHOWN else f"{value[:SHOWN]}…"
    return Finding(seed.id, seed.origin, seed.source, kind, reason, unusable, shown, detail)
