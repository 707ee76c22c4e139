"""The pass rate of a seed: right responses over decided ones, without the bias of stopping early.

    fixed n             4 right of 32 decided                      4/32
    adaptive            2 right of 12, stopped at the second       about 0.13, not 2/12
                        the same seed alone                        2.5/13

Two estimates, as no one is best for both. `pass_rate` is right on average: for means over seeds.
`shown_rate` is as near as can be for one seed: for bands, the curriculum and what a pair says.

Sampling that stops at a success counts too many successes. The rate of the first round is unbiased,
but coarse; its mean over all orders of the same responses in which the rule would have stopped at
the same place is, too, with most of the noise gone (Girshick, Mosteller, Savage 1946, Ann. Math.
Stat. 17, "Unbiased estimates for certain binomial sampling problems"; Blackwell 1947, Ann. Math.
Stat. 18, "Conditional expectation and unbiased sequential estimation"). A fixed number of shuffles,
drawn from the seed's id, stands for all orders. Judged by another scorer than sampling used,
responses may not stop where they did; then the rate of the first round counts as it is.
`shown_rate` is the mean of the rate given what was seen, with the reference prior Beta(1/2, 1/2)
(Jeffreys 1946, Proc. R. Soc. A 186), whatever made sampling stop.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from mmpr_builder.config import Config, QualityConfig
from mmpr_builder.pairing.need import Mark, Rule, Tally, marks, rule_for
from mmpr_builder.records import Drop, Response, Seed, Verdict, derived_seed

_SHUFFLES = 32  # Of one seed about a third of them stop where it did; more change little.
_ROUNDING = 1e-9  # A mean of rates of 4/5 can be 0.8000000000000002.

_Item = tuple[Mark, bool | None]
"""What a response can give, and whether it is right (None: undecided)."""


def pass_rate(
    seed: Seed, responses: Sequence[Response], verdicts: Sequence[Verdict], config: Config
) -> float | None:
    """Between 0 and 1, those cut at max_tokens counted; None without a truth or a decided one.

    With `sampling.policy` "adaptive" the `responses` are in the order in which they were sampled.
    """
    right = [None if v.outcome == "undecided" else v.outcome == "correct" for v in verdicts]
    naive = _share(right)
    if not seed.has_truth or naive is None:
        return None
    if config.sampling.policy == "fixed" or naive in (0.0, 1.0):
        return naive
    rule = rule_for(seed, config)
    if len(responses) <= rule.first:
        return naive
    items = list(zip(marks(seed, responses, verdicts, rule), right, strict=True))
    return _unbiased(items, rule, derived_seed(0, seed.id, "pass_rate"))


def shown_rate(
    seed: Seed, responses: Sequence[Response], verdicts: Sequence[Verdict], config: Config
) -> float | None:
    """The pass rate of one seed on its own; as `pass_rate`, but smoothed where sampling stopped
    early and there are right and wrong ones."""
    decided = [v.outcome == "correct" for v in verdicts if v.outcome != "undecided"]
    naive = _share(decided)
    if not seed.has_truth or naive in (None, 0.0, 1.0) or config.sampling.policy == "fixed":
        return naive if seed.has_truth else None
    return (sum(decided) + 0.5) / (len(decided) + 1)


def outside_band(seed: Seed, rate: float | None, n: int, quality: QualityConfig) -> Drop | None:
    """The drop of a seed whose pass rate is not within `quality.pass_rate`,
    both included; None if it is, or is not known. `n` is its number of responses."""
    low, high = quality.min_pass_rate, quality.max_pass_rate
    if rate is None or low - _ROUNDING <= rate <= high + _ROUNDING:
        return None
    detail = f"pass rate {rate:.3f} over {n} responses, wanted {low:g} to {high:g}"
    return Drop(seed.id, "quality", "pass_rate_outside", detail)


def curriculum(seed_id: str, rate: float | None) -> float:
    """The place of a seed's pairs in a course from easy to hard (`pairs.sort(["curriculum",
    "id"])`), between 0 and 1: 1 - pass rate, or without one drawn by a hash."""
    return derived_seed(0, seed_id, "curriculum") / 2**32 if rate is None else 1.0 - rate


def _unbiased(items: list[_Item], rule: Rule, random_seed: int) -> float:
    own = _beginning(items, rule)
    if not _stops_at_the_end(items, rule):
        return own
    # Sorted first: the estimate must not depend on the order that happened.
    order = sorted(items, key=repr)
    rates = []
    shuffle = random.Random(random_seed).shuffle
    for _ in range(_SHUFFLES):
        shuffle(order)
        if _stops_at_the_end(order, rule):
            rates.append(_beginning(order, rule))
    return sum(rates) / len(rates) if rates else own


def _stops_at_the_end(items: Sequence[_Item], rule: Rule) -> bool:
    """Whether the rule, given the responses in this order, takes all of them and no more."""
    tally, size = Tally(rule), rule.first
    for number, (mark, _) in enumerate(items, start=1):
        tally.add(mark)
        size -= 1
        if size == 0:
            stop, size = tally.next_round()
            if stop is not None:
                return number == len(items)
    return False


def _beginning(items: Sequence[_Item], rule: Rule) -> float:
    """The rate of the first round; if nothing in it was decided, the first decided response."""
    rate = _share([right for _, right in items[: rule.first]])
    if rate is None:
        return next(float(right) for _, right in items if right is not None)
    return rate


def _share(right: Sequence[bool | None]) -> float | None:
    decided = [value for value in right if value is not None]
    return sum(decided) / len(decided) if decided else None
