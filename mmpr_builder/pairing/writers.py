"""Who may write which side of a pair: `pairing.chosen_from` and `pairing.rejected_from`.

    chosen_from: [strong]   rejected_from: [weak]   a right response of strong, a wrong one of weak

DropoutNTP pairs stay within one response, whose model is then both: `chosen_from` decides there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mmpr_builder.config import PairingConfig
from mmpr_builder.records import Drop, Outcome, Seed, Verdict


@dataclass(frozen=True, slots=True)
class Eligible:
    """Indices of the responses that may stand on a side; None: all may."""

    chosen: frozenset[int] | None = None
    rejected: frozenset[int] | None = None

    def may_be_chosen(self, index: int) -> bool:
        return self.chosen is None or index in self.chosen

    def may_be_rejected(self, index: int) -> bool:
        return self.rejected is None or index in self.rejected

    def may_stand(self, index: int, outcome: Outcome) -> bool:
        """Whether a response may stand where its verdict puts it."""
        if outcome in ("incorrect", "no_answer"):
            return self.may_be_rejected(index)
        return self.may_be_chosen(index)


ALL = Eligible()


def eligible(models: Sequence[str] | None, policy: PairingConfig, seed: Seed) -> Eligible:
    """Who may stand where by `pairing.chosen_from` and `pairing.rejected_from`.

    Raises `ValueError` when these are set and nobody says who wrote the responses.
    """
    if not policy.chosen_from and not policy.rejected_from:
        return ALL
    if models is None:
        raise ValueError(
            f"seed {seed.id!r}: pairing.chosen_from or rejected_from is set, and the models that"
            " wrote the responses are not given: pass models=[…], one for each response"
        )
    sides = (
        frozenset(i for i, model in enumerate(models) if model in wanted) if wanted else None
        for wanted in (policy.chosen_from, policy.rejected_from)
    )
    return Eligible(*sides)


def not_wanted(seed: Seed, models: Sequence[str], verdicts: Sequence[Verdict]) -> Drop:
    """The drop of a seed whose pairs would all have a side by another model than asked for."""
    counts = Counter(
        (model, verdict.outcome) for model, verdict in zip(models, verdicts, strict=True)
    )
    said = ", ".join(
        f"{model}: {n} {outcome}" if seed.has_truth else f"{model}: {n}"
        for (model, outcome), n in sorted(counts.items())
    )
    return Drop(seed.id, "pairing", "model_not_wanted", f"{len(models)} responses: {said}")
