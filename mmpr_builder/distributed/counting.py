"""What was sampled, as sums that go from actors to the driver, its display and run.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from mmpr_builder.records import Outcome, Rollout, generated_tokens
from mmpr_builder.sampling import CacheHits


@dataclass(frozen=True, slots=True)
class Counts:
    """What was sampled; adds up."""

    seeds: int = 0
    responses: int = 0
    tokens: int = 0
    errors: int = 0
    """Seeds that could not be sampled; their rollout says why."""
    correct: int = 0
    """Responses that scoring found right while sampling (sampling.policy=adaptive); of `decided`.
    `undecided` ones are in neither."""
    decided: int = 0
    undecided: int = 0
    saved: int = 0
    """Responses that were not sampled because their seed had enough, or was hopeless."""
    prefix_queries: int = 0
    """Prompt tokens looked up in the engine's KV cache; `prefix_hits` were found there."""
    prefix_hits: int = 0
    image_queries: int = 0
    """Pictures whose processed form was looked up; `image_hits` were found."""
    image_hits: int = 0

    def __add__(self, other: Counts) -> Counts:
        sums = (getattr(self, f.name) + getattr(other, f.name) for f in fields(self))
        return Counts(*sums)


def count(rollout: Rollout, n: int, outcomes: Sequence[Outcome] = ()) -> Counts:
    """What one rollout adds; the tokens of its continuations and blind samples included.

    `n` is how many responses it could have had, `outcomes` what scoring said of them meanwhile.
    """
    stopped = rollout.stop in ("enough", "hopeless")
    return Counts(
        seeds=1,
        responses=len(rollout.responses),
        tokens=generated_tokens(rollout),
        errors=int(rollout.error is not None),
        correct=outcomes.count("correct"),
        decided=len(outcomes) - outcomes.count("undecided"),
        undecided=outcomes.count("undecided"),
        saved=n - len(rollout.responses) if stopped else 0,
    )


def new_hits(before: CacheHits, now: CacheHits) -> Counts:
    """What the engine's caches saved between two looks at their totals."""
    earlier = asdict(before)
    return Counts(**{name: total - earlier[name] for name, total in asdict(now).items()})
