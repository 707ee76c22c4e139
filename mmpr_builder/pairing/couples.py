"""Which two responses meet, and in which order: the pairs to make of one seed, best first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice, zip_longest
from math import lcm

from mmpr_builder.config import PairingConfig
from mmpr_builder.pairing.candidates import Side, continued, normal, two_sides, unusable_with
from mmpr_builder.pairing.choosing import choose, normal_answer
from mmpr_builder.pairing.writers import ALL, Eligible
from mmpr_builder.quality import Bars
from mmpr_builder.records import Kind, Response, Seed, Verdict

Couple = tuple[Side, Side]
"""(chosen, rejected)"""


@dataclass(frozen=True, slots=True)
class Material:
    """What the pairs of one seed are made of."""

    seed: Seed
    responses: Sequence[Response]
    verdicts: Sequence[Verdict]
    policy: PairingConfig
    rng_seed: int = 0
    bars: Bars = field(default_factory=Bars)
    writers: Eligible = ALL
    even: float | None = None
    """Tolerance within which the two sides are to be equally long; None: they need not."""

    def uncontrolled(self) -> Material:
        """The same without any wish about lengths."""
        partner = "spread" if self.policy.partner == "like_length" else self.policy.partner
        free = self.policy.model_copy(update={"max_gap": None, "partner": partner})
        return replace(self, policy=free, even=None)


def couples_of(material: Material) -> list[Couple]:
    """The pairs to make, best first, `max_per_seed` at most.

    As long as the recipe wishes for nothing else, no text stands in two pairs more than another
    one, kinds take turns, and so do the two branches on one seed (dropout.apply=all).
    """
    policy = material.policy
    positives, negatives, alone = sides_of(material)
    if not _has_wishes(material):
        return _walk(positives, negatives, alone, policy)
    votes = _votes(material)
    couples = choose(positives, negatives, alone, votes, policy, material.even)
    if policy.max_per_response is None or len(couples) == policy.max_per_seed:
        return couples
    # Taken as wished, the last texts can be left without partners whom they have not met.
    return max(couples, _walk(positives, negatives, alone, policy), key=len)


def sides_of(material: Material) -> tuple[list[Side], list[Side], list[Couple]]:
    """Who may be chosen and rejected against each other, and the DropoutNTP couples."""
    seed, policy, bars = material.seed, material.policy, material.bars
    verdicts, rng_seed, writers = material.verdicts, material.rng_seed, material.writers
    positives, negatives = two_sides(seed, material.responses, verdicts, rng_seed, writers)
    positives = [side for side in positives if side.text not in bars.chosen]
    negatives = [
        side for side in negatives if side.kind in policy.kinds and side.text not in bars.rejected
    ]
    if "dropout_ntp" not in policy.kinds:
        return positives, negatives, []
    used = [bars.without_barred(index, one) for index, one in enumerate(material.responses)]
    alone = continued(seed, used, verdicts, rng_seed)
    return positives, negatives, [c for c in alone if writers.may_be_chosen(c[0].index)]


def _has_wishes(material: Material) -> bool:
    policy = material.policy
    return bool(
        policy.rejected_first != "spread"
        or policy.partner != "spread"
        or policy.max_gap is not None
        or policy.shares
        or material.even is not None
    )


def _walk(
    positives: list[Side], negatives: list[Side], alone: list[Couple], policy: PairingConfig
) -> list[Couple]:
    """As evenly as possible over all texts, within what the policy allows."""
    crossed = _spread(positives, _by_turns(negatives))
    turns = (c for turn in zip_longest(crossed, alone) for c in turn if c is not None)
    return list(islice(_within(turns, policy), policy.max_per_seed))


def _within(couples: Iterable[Couple], policy: PairingConfig) -> Iterator[Couple]:
    """Without those over `max_gap`, and those of a text that has been in enough of them."""
    most, gap = policy.max_per_response, policy.max_gap
    chosen_uses: Counter[str] = Counter()
    rejected_uses: Counter[str] = Counter()
    for chosen, rejected in couples:
        if gap is not None and abs(chosen.tokens - rejected.tokens) > gap:
            continue
        if most is not None:
            one, other = normal(chosen.text), normal(rejected.text)
            if chosen_uses[one] >= most or rejected_uses[other] >= most:
                continue
            chosen_uses[one] += 1
            rejected_uses[other] += 1
        yield chosen, rejected


def _votes(material: Material) -> dict[str, int]:
    """How many finished responses gave each wrong answer (see `choosing.normal_answer`)."""
    return Counter(
        normal_answer(verdict.answer)
        for response, verdict in zip(material.responses, material.verdicts, strict=True)
        if verdict.outcome == "incorrect" and response.finish_reason == "stop"
    )


def fates_of(
    seed: Seed, responses: Sequence[Response], verdicts: Sequence[Verdict], bars: Bars
) -> Iterator[tuple[float, str]]:
    """(ratio kept, why it may not be rejected; "" if it may) of each continuation."""
    for index, (response, verdict) in enumerate(zip(responses, verdicts, strict=True)):
        for continuation in response.continuations:
            own = unusable_with(seed, response, verdict, continuation)
            barred = bars.continuations.get((index, continuation.keep), "")
            yield continuation.keep, own or barred


def _by_turns(negatives: list[Side]) -> list[Side]:
    """Kinds take turns until one has no more texts, so that none crowds out another."""
    kinds: tuple[Kind, ...] = ("correctness", "format", "truncated")
    lanes = [[side for side in negatives if side.kind == kind] for kind in kinds]
    return [side for side in chain.from_iterable(zip_longest(*lanes)) if side is not None]


def _spread(positives: list[Side], negatives: list[Side]) -> Iterator[tuple[Side, Side]]:
    """All positive x negative couples, ordered so that every beginning of them is balanced.

    After any number of couples the use counts of two positives differ by at most one, and so do
    those of two negatives. Both sides are walked round and round; after each common multiple of
    their lengths, where the walk would repeat itself, the negatives move on by one.
    """
    rows, columns = len(positives), len(negatives)
    if not rows or not columns:
        return
    lap = lcm(rows, columns)
    for step in range(rows * columns):
        yield positives[step % rows], negatives[(step + step // lap) % columns]
