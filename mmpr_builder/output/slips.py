"""What is counted of the pairs of one seed; enough to leave some of them out again later.

A worker lays out and counts the pairs of a seed before anybody knows which of them a balance over
the whole build lets stand. Their slip travels with the rows, so that the one process that writes
can take out rows and correct the counts without a look at the rollout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmpr_builder.pairing.pooled import member_of
from mmpr_builder.pairing.weighing import Weighed, weigh
from mmpr_builder.records import Kind, Pair, Rollout, Verdict


@dataclass(frozen=True, slots=True)
class Entry:
    """One pair. Outcomes, models and indices are (chosen, rejected)."""

    kind: Kind
    indices: tuple[int, int]
    outcomes: tuple[str, str]
    models: tuple[str, str]
    keep: float | None
    weighed: Weighed | None


@dataclass(frozen=True, slots=True)
class Slip:
    """The pairs of one seed, in their order."""

    seed_id: str
    index: int
    """Position of the seed in the build's input order."""
    source: str
    truth: str
    """"with_truth" or "without_truth"."""
    entries: tuple[Entry, ...]


def slip_of(
    rollout: Rollout, verdicts: Sequence[Verdict], pairs: Sequence[Pair], *, weighed: bool = False
) -> Slip:
    """The slip of a seed; its pairs are weighed only where something depends on it."""
    seed = rollout.seed

    def outcome(index: int) -> str:
        return verdicts[index].outcome if seed.has_truth and verdicts else "no_truth"

    entries = []
    for pair in pairs:
        indices = (pair.chosen_index, pair.rejected_index)
        entries.append(
            Entry(
                kind=pair.kind,
                indices=indices,
                outcomes=(outcome(indices[0]), outcome(indices[1])),
                models=(member_of(rollout, indices[0]).model, member_of(rollout, indices[1]).model),
                keep=pair.dropout_keep,
                weighed=weigh(seed, pair) if weighed else None,
            )
        )
    truth = "with_truth" if seed.has_truth else "without_truth"
    return Slip(seed.id, rollout.index, seed.source, truth, tuple(entries))
