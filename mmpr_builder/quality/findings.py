"""What judging and pairing see of seeds beside their pairs, to be counted in run.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from mmpr_builder.records import Response


@dataclass
class Findings:
    """Sums over seeds; workers fill one for each part and hand it on with the part's counts."""

    continuations: Counter[tuple[float, str]] = field(default_factory=Counter)
    """(ratio kept, why it is not fit to be rejected; "" if it is) -> continuations."""
    not_made: Counter[float] = field(default_factory=Counter)
    """Ratio asked for -> responses that were to be continued there and were not; 0 where all were.
    """
    blind: Counter[tuple[str, str]] = field(default_factory=Counter)
    """("seeds", what came of them without images), ("responses", outcome) and ("pass_rates",
    rate) -> seeds, responses, seeds."""

    uncontrolled: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """Of the pairs as they would be without controls of lengths and answers, where one is on:
    `pairing.weighing.sums`."""

    def clear(self) -> None:
        """Forget everything, for another pass over the same seeds."""
        for entry in fields(self):
            getattr(self, entry.name).clear()

    def add(self, other: Findings) -> None:
        """Add the sums over other seeds."""
        for entry in fields(self):
            getattr(self, entry.name).update(getattr(other, entry.name))

    def asked(self, responses: Sequence[Response], ratios: Sequence[float]) -> None:
        """Count what responses that were to be continued at each of these ratios lack."""
        for keep in ratios:
            made = sum(any(c.keep == keep for c in r.continuations) for r in responses)
            self.not_made[keep] += len(responses) - made

    def set_aside(self, responses: Sequence[Response], reason: str) -> None:
        """Count the continuations of a seed of which nothing is used, whatever they are worth."""
        for response in responses:
            for continuation in response.continuations:
                self.continuations[continuation.keep, reason] += 1

    def not_wrong(self, stored: Sequence[Response], usable: Sequence[Response]) -> None:
        """Count continuations that judging took away: right, or not known to be wrong."""
        for before, after in zip(stored, usable, strict=True):
            if before is after:
                continue
            kept = {continuation.keep for continuation in after.continuations}
            for continuation in before.continuations:
                if continuation.keep not in kept:
                    self.continuations[continuation.keep, "not_wrong"] += 1
