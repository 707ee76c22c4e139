"""What a seed's pairs still need: when adaptive sampling has enough, and when to give up.

    8 responses, 4 right and 4 wrong   4 x 4 = 16 pairs, 15 are wanted   enough
    8 responses, 6 right and 2 wrong   12 pairs                          2 more
    8 responses, all right             0 pairs                           8 more, 4, 3, hopeless

A round is as many responses as are needed at the least, so that it is seldom in vain, and some more
where texts repeat.

The rule looks at what each response can give (a text that may be chosen, one that may be rejected,
a couple with its own continuation) and at nothing else: not at time, not at other seeds. Equal
texts count once, as in pairing itself; undecided responses count on neither side.

**Enough** is `target_pairs` pairs with at least `min_distinct` texts on each side. 15 pairs of
8 responses (3 x 5, 4 x 4) use each text about four times, where 32 responses of an even question
would give 15 pairs without a repetition: that is what the saved tokens cost. `min_distinct` buys
variety back.

**Hopeless**: after `patience` responses none of them would have added a pair had it come last.
That is so when one side is empty, and when all texts were drawn twice (the share of texts drawn
once estimates the share not drawn yet: Good 1953, Biometrika 40, "The population frequencies of
species"). `patience` is the smallest number at which the stop costs at most `stop_error` of the
seeds that n responses would have split into right and wrong, for pass rates spread as
Beta(1/2, 1/2). This is the reference prior of a rate (Jeffreys 1946, Proc. R. Soc. A 186), and as
pass rates are, it has most of its weight at the ends; for evenly spread rates the loss is about
half of it. The number of right ones is then beta-binomial, and all s responses are wrong with
probability A(s) = C(2s, s) / 4^s, all right with the same: a stop at s loses
2 (A(s) - A(n)) of 1 - 2 A(n).
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mmpr_builder.config import Config
from mmpr_builder.dropout import wants_continuation
from mmpr_builder.pairing.candidates import is_positive, negative_kind, normal, unusable
from mmpr_builder.records import Kind, Response, Seed, Verdict

Stop = Literal["enough", "hopeless", "n"]

_CROSSED: frozenset[Kind] = frozenset({"correctness", "format", "truncated"})
"""Kinds of pairs that a right response makes with a wrong one."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What one response can give: texts (blanks aside) for either side, a couple of its own."""

    chosen: str | None = None
    rejected: str | None = None
    couple: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """When a seed is done. `crosses`: right ones can meet wrong ones; `continues`: responses get
    continuations that count."""

    n: int
    pairs: int
    distinct: int
    least: int
    patience: int
    kinds: tuple[Kind, ...]
    crosses: bool
    continues: bool

    @property
    def first(self) -> int:
        """Responses in the first round: as many as are needed at the very least."""
        return min(self.n, self._needed(0, 0, 0))

    def _needed(self, chosen: int, rejected: int, couples: int) -> int:
        flags = (self.crosses, self.continues)
        return _needed(chosen, rejected, couples, self.pairs, self.distinct, flags)


def rule_for(seed: Seed, config: Config) -> Rule:
    """The rule of one seed, from `config.sampling` alone and from who gets continuations."""
    sampling = config.sampling
    return Rule(
        n=sampling.n,
        pairs=sampling.target_pairs,
        distinct=sampling.min_distinct,
        least=sampling.round,
        patience=patience(sampling.n, sampling.stop_error),
        kinds=sampling.target_kinds,
        crosses=seed.has_truth and bool(_CROSSED & {*sampling.target_kinds}),
        continues=(
            "dropout_ntp" in sampling.target_kinds and wants_continuation(seed, config.dropout)
        ),
    )


def missed_aims(config: Config) -> str:
    """What pairing is set to make that adaptive sampling does not care for; "" if nothing."""
    sampling, policy = config.sampling, config.pairing
    if sampling.policy != "adaptive":
        return ""
    said = []
    if policy.max_per_seed > sampling.target_pairs:
        said.append(
            f"pairing.max_per_seed = {policy.max_per_seed}, but a seed is done when it can give"
            f" sampling.target_pairs = {sampling.target_pairs}"
        )
    unmade = [kind for kind in sampling.target_kinds if kind not in policy.kinds]
    if unmade:
        said.append(
            f"pairing.kinds makes no {', '.join(unmade)}, but sampling.target_kinds counts them"
        )
    return "; ".join(said)


def marks(
    seed: Seed, responses: Sequence[Response], verdicts: Sequence[Verdict], rule: Rule
) -> list[Mark]:
    """What each response can give, as `build_pairs` would use it with the kinds of the rule."""
    return [
        _mark(seed, response, verdict, rule)
        for response, verdict in zip(responses, verdicts, strict=True)
    ]


class Tally:
    """What the responses so far can give together; one seed's, added to in their order."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.seen = 0
        self._chosen: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._couples: Counter[tuple[str, str]] = Counter()

    def add(self, mark: Mark) -> None:
        """Count one more response."""
        self.seen += 1
        if mark.chosen is not None:
            self._chosen[mark.chosen] += 1
        if mark.rejected is not None:
            self._rejected[mark.rejected] += 1
        if mark.couple is not None:
            self._couples[mark.couple] += 1

    @property
    def pairs(self) -> int:
        """Different pairs that can be made of them."""
        return len(self._chosen) * len(self._rejected) + len(self._couples)

    def next_round(self) -> tuple[Stop | None, int]:
        """Why to stop now, or None and how many responses to ask for next."""
        rule, sides = self.rule, (len(self._chosen), len(self._rejected))
        if self.pairs >= rule.pairs and (0 in sides or min(sides) >= rule.distinct):
            return "enough", 0
        if self.seen >= rule.n:
            return "n", 0
        if not (rule.crosses or rule.continues):
            return "hopeless", 0  # No number of them gives a pair.
        useless = not self._added_something()
        if useless and self.seen >= rule.patience:
            return "hopeless", 0
        needed = rule._needed(*sides, len(self._couples))
        if useless:
            # One odd response may never come, and if it does the others are its partners: straight
            # to as many as it would need, then by quarters, but never past the point of giving up.
            needed = max(needed, rule.pairs + 1 - self.seen, self.seen // 4)
            needed = min(needed, rule.patience - self.seen)
        else:
            # Where texts repeat, more responses are needed for as many new ones.
            needed = math.ceil(needed * self.seen / max(1, self._once()))
            needed = min(needed, self.seen // 2)
        return None, min(max(rule.least, needed), rule.n - self.seen)

    def _once(self) -> int:
        """Texts and couples drawn once so far: their share of all is that of new ones to come."""
        found = (self._chosen, self._rejected, self._couples)
        return sum(count == 1 for side in found for count in side.values())

    def _added_something(self) -> bool:
        """Whether any response so far would have added a pair had it come last."""
        if 1 in self._couples.values():
            return True
        if not self._chosen or not self._rejected:
            return False
        return 1 in self._chosen.values() or 1 in self._rejected.values()


@functools.lru_cache(maxsize=1024)
def patience(n: int, error: float) -> int:
    """Useless responses after which a seed is given up (see the module's text); n at most."""
    return next((seen for seen in range(1, n) if given_up(seen, n) <= error), n)


def given_up(seen: int, n: int) -> float:
    """Share of the seeds that n responses would split which a stop at `seen` equal ones loses.

    For pass rates spread as Beta(1/2, 1/2); 0 where n responses split none.
    """
    split = 1 - 2 * _all_wrong(n)
    return 2 * (_all_wrong(seen) - _all_wrong(n)) / split if split > 0 else 0.0


@functools.lru_cache(maxsize=8192)
def _all_wrong(seen: int) -> float:
    """A(s) = C(2s, s) / 4^s, as a product that neither overflows nor recurses."""
    value = 1.0
    for i in range(1, seen + 1):
        value *= 1 - 1 / (2 * i)
    return value


@functools.lru_cache(maxsize=65536)
def _needed(
    chosen: int, rejected: int, couples: int, pairs: int, distinct: int, flags: tuple[bool, bool]
) -> int:
    """The fewest further responses with which there can be enough; asking for them wastes none."""
    crosses, continues = flags
    if not crosses:
        return max(1, pairs - couples)
    more = 1
    while True:
        for right in range(more + 1):
            sides = (chosen + right, rejected + more - right)
            own = couples + (right if continues else 0)
            spread = min(sides) >= distinct or 0 in sides
            if spread and sides[0] * sides[1] + own >= pairs:
                return more
        more += 1


def _mark(seed: Seed, response: Response, verdict: Verdict, rule: Rule) -> Mark:
    couple = None
    continuation = response.continuation
    if rule.continues and continuation is not None and unusable(seed, response, verdict) is None:
        couple = (normal(response.text), normal(continuation.prefix + continuation.text))
    if not rule.crosses:
        return Mark(couple=couple)
    text = normal(response.text)
    if is_positive(response, verdict):
        return Mark(chosen=text, couple=couple)
    wanted = negative_kind(response, verdict) in rule.kinds
    return Mark(rejected=text if wanted else None, couple=couple)
