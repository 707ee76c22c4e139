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
variety back. A response that is continued at several ratios gives a couple with each of them, so
five responses give 15 couples at three ratios; `min_distinct` then counts responses, too. Where
pairing uses a text a limited number of times, or only texts of like length against each other,
`target_per_response` and `target_gap` make the rule count as it does (reach.py).

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
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mmpr_builder.config import Config
from mmpr_builder.dropout import wants_continuation
from mmpr_builder.pairing.candidates import (
    is_positive,
    joined_tokens,
    negative_kind,
    normal,
    usable_continuations,
)
from mmpr_builder.records import Kind, Response, Seed, Verdict

# ---- patience
# How many useless responses of a seed it takes to give it up; `need.py` says why so many.


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


# ---- reach
# How many pairs some texts can give where a text may not be used at will.
#
#     3 chosen x 8 rejected, each in 4 pairs at most            min(3 x 4, 8 x 3) = 12, not 24
#     lengths 10 20 30 x 12 29 90, at most 5 tokens apart       10-12, 30-29: 2 pairs, not 9
#
# Counting each side's possible uses and taking the smaller sum is exact for either limit alone;
# with
# both it can be a few pairs too many, where lengths make some texts wait for the same partners.


@dataclass(frozen=True, slots=True)
class Reach:
    """For each text of either side how many pairs it can stand in, as a sum and one by one."""

    chosen: Mapping[str, int]
    rejected: Mapping[str, int]

    @property
    def pairs(self) -> int:
        """Different pairs."""
        return min(sum(self.chosen.values()), sum(self.rejected.values()))

    def depends_on(self, chosen: Iterable[str], rejected: Iterable[str]) -> bool:
        """Whether there would be fewer pairs without one of these texts."""
        sums = sum(self.chosen.values()), sum(self.rejected.values())
        if sums[0] <= sums[1] and any(self.chosen[text] for text in chosen):
            return True
        return sums[1] <= sums[0] and any(self.rejected[text] for text in rejected)


def reach(
    chosen: Mapping[str, int], rejected: Mapping[str, int], most: int | None, gap: int | None
) -> Reach:
    """`chosen` and `rejected` are texts with their tokens; `most` pairs for each text on its side;
    a pair's texts differ by at most `gap` tokens. None: no limit."""
    return Reach(
        _uses(chosen, sorted(rejected.values()), most, gap),
        _uses(rejected, sorted(chosen.values()), most, gap),
    )


def crossed(chosen: int, rejected: int, most: int | None) -> int:
    """Pairs of so many texts if their lengths do not matter."""
    if most is None:
        return chosen * rejected
    return min(chosen * min(most, rejected), rejected * min(most, chosen))


def _uses(
    texts: Mapping[str, int], others: Sequence[int], most: int | None, gap: int | None
) -> dict[str, int]:
    def partners(tokens: int) -> int:
        if gap is None:
            return len(others)
        return bisect_right(others, tokens + gap) - bisect_left(others, tokens - gap)

    found = {text: partners(tokens) for text, tokens in texts.items()}
    return found if most is None else {text: min(most, n) for text, n in found.items()}


Stop = Literal["enough", "hopeless", "n"]

_CROSSED: frozenset[Kind] = frozenset({"correctness", "format", "truncated"})
"""Kinds of pairs that a right response makes with a wrong one."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What one response can give: texts (blanks aside) for either side, couples of its own."""

    chosen: str | None = None
    rejected: str | None = None
    couples: tuple[tuple[str, str], ...] = ()
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """When a seed is done. `crosses`: right ones can meet wrong ones; `continues`: how many
    continuations that count each response gets."""

    n: int
    pairs: int
    distinct: int
    least: int
    patience: int
    kinds: tuple[Kind, ...]
    crosses: bool
    continues: int
    most: int | None = None
    """Pairs that one text counts for on a side."""
    gap: int | None = None
    """Tokens by which the two sides of a pair may differ."""

    @property
    def first(self) -> int:
        """Responses in the first round: as many as are needed at the very least."""
        return min(self.n, max(self._needed(0, 0, 0), self._own_distinct))

    @property
    def _own_distinct(self) -> int:
        """So many different texts the couples need. With one continuation each they have as many
        as there are couples."""
        return self.distinct if self.continues > 1 and not self.crosses else 0

    def _needed(self, chosen: int, rejected: int, couples: int) -> int:
        own = self.continues if self.most is None else min(self.continues, self.most)
        ways = (self.crosses, own, self.most)
        return _needed(chosen, rejected, couples, self.pairs, self.distinct, ways)


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
            len(config.dropout.keep)
            if "dropout_ntp" in sampling.target_kinds and wants_continuation(seed, config.dropout)
            else 0
        ),
        most=sampling.target_per_response,
        gap=sampling.target_gap,
    )


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
        self._tokens: dict[str, int] = {}

    def add(self, mark: Mark) -> None:
        """Count one more response."""
        self.seen += 1
        if mark.chosen is not None:
            self._chosen[mark.chosen] += 1
        if mark.rejected is not None:
            self._rejected[mark.rejected] += 1
        if self.rule.gap is not None:
            for text in (mark.chosen, mark.rejected):
                if text is not None:  # Of texts that differ in blanks only, whatever their order.
                    self._tokens[text] = min(mark.tokens, self._tokens.get(text, mark.tokens))
        self._couples.update(mark.couples)

    @property
    def pairs(self) -> int:
        """Different pairs that can be made of them; with both limits, at most (see reach.py)."""
        rule = self.rule
        if rule.gap is None:
            made = crossed(len(self._chosen), len(self._rejected), rule.most)
        else:
            made = self._reach().pairs
        if rule.most is None:
            return made + len(self._couples)
        own = Counter(chosen for chosen, _ in self._couples)
        alone = sum(min(rule.most, count) for count in own.values())
        return min(made + alone, rule.most * len({*own, *self._chosen}))

    def _reach(self) -> Reach:
        chosen, rejected = (
            {text: self._tokens.get(text, 0) for text in side}
            for side in (self._chosen, self._rejected)
        )
        return reach(chosen, rejected, self.rule.most, self.rule.gap)

    def next_round(self) -> tuple[Stop | None, int]:
        """Why to stop now, or None and how many responses to ask for next."""
        rule, sides = self.rule, (len(self._chosen), len(self._rejected))
        lacking = rule._own_distinct - len({chosen for chosen, _ in self._couples})
        varied = lacking <= 0 and (0 in sides or min(sides) >= rule.distinct)
        if self.pairs >= rule.pairs and varied:
            return "enough", 0
        if self.seen >= rule.n:
            return "n", 0
        if not (rule.crosses or rule.continues):
            return "hopeless", 0  # No number of them gives a pair.
        useless = not self._added_something()
        if useless and self.seen >= rule.patience:
            return "hopeless", 0
        needed = max(rule._needed(*sides, len(self._couples)), lacking)
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

    def _once(self) -> float:
        """Texts and couples drawn once so far: their share of all is that of new ones to come."""
        sides = (self._chosen, self._rejected)
        texts = sum(count == 1 for side in sides for count in side.values())
        couples = sum(count == 1 for count in self._couples.values())
        return texts + couples / max(1, self.rule.continues)  # A response draws several at once.

    def _added_something(self) -> bool:
        """Whether any response so far would have added a pair had it come last."""
        if 1 in self._couples.values():
            return True
        if not self._chosen or not self._rejected:
            return False
        once = [
            [text for text, count in side.items() if count == 1]
            for side in (self._chosen, self._rejected)
        ]
        if self.rule.gap is None and self.rule.most is None:
            return any(once)
        return self._reach().depends_on(*once)


@functools.lru_cache(maxsize=65536)
def _needed(
    chosen: int,
    rejected: int,
    couples: int,
    pairs: int,
    distinct: int,
    ways: tuple[bool, int, int | None],
) -> int:
    """The fewest further responses with which there can be enough; asking for them wastes none."""
    crosses, continues, most = ways
    if not crosses:
        return max(1, math.ceil((pairs - couples) / max(1, continues)))
    more = 1
    while True:
        for right in range(more + 1):
            sides = (chosen + right, rejected + more - right)
            own = couples + right * continues
            spread = min(sides) >= distinct or 0 in sides
            if spread and crossed(*sides, most) + own >= pairs:
                return more
        more += 1


def _mark(seed: Seed, response: Response, verdict: Verdict, rule: Rule) -> Mark:
    text = normal(response.text)
    couples: tuple[tuple[str, str], ...] = ()
    if rule.continues:
        found = [
            continuation
            for continuation in usable_continuations(seed, response, verdict)
            if _is_near(response.tokens, joined_tokens(response, continuation), rule)
        ]
        couples = tuple(dict.fromkeys((text, normal(c.prefix + c.text)) for c in found))
    if not rule.crosses:
        return Mark(couples=couples)
    if is_positive(response, verdict):
        return Mark(chosen=text, couples=couples, tokens=response.tokens)
    wanted = negative_kind(response, verdict) in rule.kinds
    rejected = text if wanted else None
    return Mark(rejected=rejected, couples=couples, tokens=response.tokens)


def _is_near(chosen: int, rejected: int, rule: Rule) -> bool:
    return rule.gap is None or abs(chosen - rejected) <= rule.gap


# ---- aims
# What pairing is set to make that adaptive sampling does not care for.


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
    if _stricter(policy.max_per_response, sampling.target_per_response):
        said.append(
            f"pairing.max_per_response = {policy.max_per_response}, but"
            f" sampling.target_per_response = {_shown(sampling.target_per_response)}, as planned"
        )
    if _stricter(policy.max_gap, sampling.target_gap):
        said.append(
            f"pairing.max_gap = {policy.max_gap}, but sampling.target_gap ="
            f" {_shown(sampling.target_gap)}, as planned"
        )
    unmade = [kind for kind in sampling.target_kinds if kind not in policy.kinds]
    if unmade:
        said.append(
            f"pairing.kinds makes no {', '.join(unmade)}, but sampling.target_kinds counts them"
        )
    return "; ".join(said)


def _stricter(limit: int | None, aim: int | None) -> bool:
    return limit is not None and (aim is None or limit < aim)


def _shown(limit: int | None) -> str:
    return "no limit" if limit is None else str(limit)
