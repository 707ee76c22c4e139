"""What a seed's pairs still need: when adaptive sampling has enough, and when to give up.

    8 responses, 4 right and 4 wrong   4 x 4 = 16 pairs, 15 are wanted   enough
    8 responses, 6 right and 2 wrong   12 pairs                          2 more
    8 responses, all right             0 pairs                           8 more, 4, 5, 6, hopeless

A round is as many responses as are needed at the least, and some more where texts repeat. Equal
texts count once, as in pairing itself; undecided responses count on neither side, nor towards
giving up.

**Enough** is `target_pairs` pairs with at least `min_distinct` texts on each side, without which
few texts stand in all pairs. A response that is continued at several ratios gives a candidate with
each; `min_distinct` then counts responses, too.

**Hopeless**: after `patience` decided responses none of them would have added a pair had it come
last. That is so when one side is empty, and when all texts were drawn twice (the share of texts
drawn once estimates the share not drawn yet: Good 1953, Biometrika 40, "The population frequencies
of species"). `patience` is the smallest number at which the stop costs at most `stop_error` of the
seeds that n responses would have split into right and wrong, whatever their pass rates are. All
orders of n responses are equally likely, so the first one of the rarer side is among the last k
with a probability of at most k / n, which it is for a single one (exchangeability: de Finetti 1937,
Ann. Inst. H. Poincaré 7). A prior of pass rates would do with fewer, but a source of hard questions
would break it: the stop after 23 of 32 that costs 5 % where they are spread as Beta(1/2, 1/2) costs
21 % where one response in fifty is right. A seed with pairs is not lost, more pairs are: there
three quarters of n are enough.
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
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


def patience(n: int, error: float) -> int:
    """Useless decided responses after which a seed is given up (see the module's text), 1 to n."""
    return max(1, n - math.floor(n * error + 1e-9))


Stop = Literal["enough", "hopeless", "n"]

_CROSSED: frozenset[Kind] = frozenset({"correctness", "format", "truncated"})
"""Kinds of pairs that a right response makes with a wrong one."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What one response can give: texts (blanks aside) for either side, candidates of its own.
    `decided`: whether it says anything on what is to come."""

    chosen: str | None = None
    rejected: str | None = None
    own: tuple[tuple[str, str], ...] = ()
    tokens: int = 0
    decided: bool = True


@dataclass(frozen=True, slots=True)
class Rule:
    """When a seed is done. `crosses`: right ones can meet wrong ones; `continues`: how many
    continuations that count each response gets; `most`: pairs that one text counts for on a side;
    `gap`: tokens by which the two sides of a pair may differ."""

    n: int
    pairs: int
    distinct: int
    least: int
    patience: int
    kinds: tuple[Kind, ...]
    crosses: bool
    continues: int
    most: int | None = None
    gap: int | None = None

    @property
    def first(self) -> int:
        """Responses in the first round: as many as are needed at the very least."""
        return min(self.n, max(fewest_more(self, 0, 0, 0), self.own_distinct))

    @property
    def own_distinct(self) -> int:
        """Different continued responses that are needed, where each gives several candidates."""
        return self.distinct if self.continues > 1 and not self.crosses else 0


def rule_for(seed: Seed, config: Config) -> Rule:
    """The rule of one seed."""
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
    judged = zip(responses, verdicts, strict=True)
    return [_mark(seed, response, verdict, rule) for response, verdict in judged]


class Tally:
    """What the responses so far can give together; one seed's, added to in their order."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.seen = 0
        self.decided = 0
        self._chosen: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._own: Counter[tuple[str, str]] = Counter()
        self._tokens: dict[str, int] = {}

    def add(self, mark: Mark) -> None:
        """Count one more response."""
        self.seen += 1
        self.decided += mark.decided
        if mark.chosen is not None:
            self._chosen[mark.chosen] += 1
        if mark.rejected is not None:
            self._rejected[mark.rejected] += 1
        if self.rule.gap is not None:
            for text in (mark.chosen, mark.rejected):
                if text is not None:  # Of texts that differ in blanks only, whatever their order.
                    self._tokens[text] = min(mark.tokens, self._tokens.get(text, mark.tokens))
        self._own.update(mark.own)

    @property
    def pairs(self) -> int:
        """Different pairs that can be made of them; with both limits, at most (see `_uses`)."""
        rule = self.rule
        if rule.gap is None:
            made = _crossed(len(self._chosen), len(self._rejected), rule.most)
        else:
            made = min(sum(uses.values()) for uses in self._uses())
        if rule.most is None:
            return made + len(self._own)
        own = Counter(chosen for chosen, _ in self._own)
        alone = sum(min(rule.most, count) for count in own.values())
        return min(made + alone, rule.most * len({*own, *self._chosen}))

    def _uses(self) -> tuple[dict[str, int], dict[str, int]]:
        """For each text of either side, the pairs it can stand in by number and length of texts.

            lengths 10 20 30 x 12 29 90, at most 5 tokens apart       10-12, 30-29: 2 pairs, not 9

        The smaller of the two sums is exact for either limit alone; with both it is an upper bound.
        """
        most, gap = self.rule.most, self.rule.gap

        def uses(side: Iterable[str], other: Iterable[str]) -> dict[str, int]:
            partners = sorted(self._tokens.get(text, 0) for text in other)
            found = dict.fromkeys(side, len(partners))
            if gap is not None:
                for text in found:
                    low, high = self._tokens[text] - gap, self._tokens[text] + gap
                    found[text] = bisect_right(partners, high) - bisect_left(partners, low)
            return found if most is None else {text: min(most, n) for text, n in found.items()}

        return uses(self._chosen, self._rejected), uses(self._rejected, self._chosen)

    def next_round(self) -> tuple[Stop | None, int]:
        """Why to stop now, or None and how many responses to ask for next."""
        rule, sides = self.rule, (len(self._chosen), len(self._rejected))
        lacking = rule.own_distinct - len({chosen for chosen, _ in self._own})
        varied = lacking <= 0 and (0 in sides or min(sides) >= rule.distinct)
        if self.pairs >= rule.pairs and varied:
            return "enough", 0
        if self.seen >= rule.n:
            return "n", 0
        if not (rule.crosses or rule.continues):
            return "hopeless", 0  # No number of them gives a pair.
        useless = not self._added_something()
        enough = rule.patience
        if self.pairs:
            enough = min(enough, math.ceil(0.75 * rule.n))
        left = enough - self.decided
        if useless and left <= 0:
            return "hopeless", 0
        needed = max(fewest_more(rule, *sides, len(self._own)), lacking)
        if useless:
            # One odd response may never come, and if it does the others are its partners: straight
            # to as many as it would need, then by quarters, but never past the point of giving up.
            needed = max(needed, rule.pairs + 1 - self.seen, self.seen // 4)
            needed = min(needed, left)
        else:
            # Where texts repeat, more responses are needed for as many new ones.
            needed = math.ceil(needed * self.seen / max(1, self._once()))
            needed = min(needed, self.seen // 2)
        return None, min(max(rule.least, needed), rule.n - self.seen)

    def _once(self) -> float:
        """Texts and candidates drawn once: their share of all is that of new ones to come."""
        sides = (self._chosen, self._rejected)
        texts = sum(count == 1 for side in sides for count in side.values())
        own = sum(count == 1 for count in self._own.values())
        return texts + own / max(1, self.rule.continues)  # A response draws several at once.

    def _added_something(self) -> bool:
        """Whether any response so far would have added a pair had it come last."""
        if 1 in self._own.values():
            return True
        if not self._chosen or not self._rejected:
            return False
        sides = (self._chosen, self._rejected)
        once = [[text for text, count in side.items() if count == 1] for side in sides]
        if self.rule.gap is None and self.rule.most is None:
            return any(once)
        # Without a text there are fewer pairs only if its side is the one that limits them.
        uses = self._uses()
        fewest = min(sum(side.values()) for side in uses)
        return any(
            sum(side.values()) == fewest and any(side[text] for text in texts)
            for side, texts in zip(uses, once, strict=True)
        )


def _crossed(chosen: int, rejected: int, most: int | None) -> int:
    """Pairs of so many texts if their lengths do not matter; each in `most` pairs on its side."""
    if most is None:
        return chosen * rejected
    return min(chosen * min(most, rejected), rejected * min(most, chosen))


@functools.lru_cache(maxsize=65536)
def fewest_more(rule: Rule, chosen: int, rejected: int, own: int) -> int:
    """The fewest further responses with which there can be enough; asking for them wastes none."""
    each = rule.continues if rule.most is None else min(rule.continues, rule.most)
    if not rule.crosses:
        return max(1, math.ceil((rule.pairs - own) / max(1, each)))
    more = 1
    while True:
        for right in range(more + 1):
            sides = (chosen + right, rejected + more - right)
            varied = min(sides) >= rule.distinct or 0 in sides
            if varied and _crossed(*sides, rule.most) + own + right * each >= rule.pairs:
                return more
        more += 1


def _mark(seed: Seed, response: Response, verdict: Verdict, rule: Rule) -> Mark:
    text, tokens = normal(response.text), response.tokens
    own: tuple[tuple[str, str], ...] = ()
    if rule.continues:
        joined = (
            (text, normal(continuation.prefix + continuation.text))
            for continuation in usable_continuations(seed, response, verdict)
            if rule.gap is None or abs(tokens - joined_tokens(response, continuation)) <= rule.gap
        )
        own = tuple(dict.fromkeys(joined))
    if not rule.crosses:
        return Mark(own=own)
    if is_positive(response, verdict):
        return Mark(chosen=text, own=own, tokens=tokens)
    wanted = negative_kind(response, verdict) in rule.kinds
    decided = verdict.outcome != "undecided"
    return Mark(rejected=text if wanted else None, own=own, tokens=tokens, decided=decided)


def missed_aims(config: Config) -> str:
    """What pairing is set to make that adaptive sampling does not aim for; "" if nothing."""
    sampling, policy = config.sampling, config.pairing
    if sampling.policy != "adaptive":
        return ""
    said = []
    if policy.max_per_seed > sampling.target_pairs:
        said.append(
            f"pairing.max_per_seed = {policy.max_per_seed}, but a seed is done when it can give"
            f" sampling.target_pairs = {sampling.target_pairs}"
        )
    for name in ("per_response", "gap"):
        limit, aim = getattr(policy, f"max_{name}"), getattr(sampling, f"target_{name}")
        if limit is not None and (aim is None or limit < aim):
            shown = "no limit" if aim is None else aim
            said.append(
                f"pairing.max_{name} = {limit}, but sampling.target_{name} = {shown}, as planned"
            )
    unmade = [kind for kind in sampling.target_kinds if kind not in policy.kinds]
    if unmade:
        said.append(
            f"pairing.kinds makes no {', '.join(unmade)}, but sampling.target_kinds counts them"
        )
    return "; ".join(said)
