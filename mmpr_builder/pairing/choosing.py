"""Which of all couples of a seed become pairs where the recipe has wishes (`pairing.*`).

    positives 3 x negatives 4 = 12 couples, and 2 of the DropoutNTP branch

One couple after the other is taken. Each time these decide, the first that tells two couples apart:

    1. the kind that lacks most of its share; without shares kinds take turns
    2. frequent_answer: the wrong answer that most responses gave
    3. no text more often than the others (by one at most, where lengths are to be balanced)
    4. distinct_answers: the wrong answer taken least often so far
    5. balanced lengths: what brings the seed's sum of gaps nearest to zero, within the tolerance
    6. the partner: the longest common beginning, or the nearest length
    7. the order that the hash drew

Couples over `max_gap`, and texts that stand in `max_per_response` pairs already, are passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice, zip_longest
from math import lcm
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from mmpr_builder.config import PairingConfig
from mmpr_builder.pairing.candidates import (
    ALL,
    Eligible,
    Side,
    continued,
    normal,
    two_sides,
    unusable_with,
)
from mmpr_builder.quality import Bars
from mmpr_builder.records import Kind, Response, Seed, Verdict

_KINDS: tuple[Kind, ...] = get_args(Kind)
_DROPOUT = _KINDS.index("dropout_ntp")
_Ints = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Offer:
    """All couples of a seed, by number: each negative with every positive, then those of the
    DropoutNTP branch. Arrays are parallel to the couples unless they say otherwise."""

    positives: Sequence[Side]
    negatives: Sequence[Side]
    alone: Sequence[Couple]
    chosen: _Ints
    """Number of the chosen text."""
    rejected: _Ints
    """Number of the rejected one; in the DropoutNTP branch, of the couple."""
    rejected_text: _Ints
    """Number of the rejected text: several responses may have gone on to the same."""
    kind: _Ints
    gap: _Ints
    """Tokens of the chosen text less those of the rejected one."""
    answer: _Ints
    """Number of the wrong answer, the most frequent one first; those of the DropoutNTP
    branch have one number, their own."""
    texts: _Ints
    """For each kind: how many different rejected texts."""
    tokens: float
    """Mean length of the chosen texts."""

    def couple(self, number: int) -> Couple:
        crossed = len(self.positives) * len(self.negatives)
        if number >= crossed:
            return self.alone[number - crossed]
        row, column = divmod(number, len(self.positives))
        return self.positives[column], self.negatives[row]


def choose(
    positives: Sequence[Side],
    negatives: Sequence[Side],
    alone: Sequence[Couple],
    votes: Mapping[str, int],
    policy: PairingConfig,
    even: float | None,
) -> list[Couple]:
    """At most `max_per_seed` couples, best first.

    `votes` says how many responses gave each wrong answer (`normal_answer`). `even` is the
    tolerance within which lengths are balanced, as a share of their mean; None: they are not.
    """
    offer = _offer(positives, negatives, alone, votes)
    taking = _Taking(offer, policy, even)
    taken: list[Couple] = []
    while len(taken) < policy.max_per_seed:
        number = taking.next()
        if number is None:
            break
        taken.append(offer.couple(number))
    return taken


def normal_answer(answer: str | None) -> str:
    """An answer with case and blanks alike; "" for none."""
    return normal(answer).casefold() if answer else ""


def _offer(
    positives: Sequence[Side],
    negatives: Sequence[Side],
    alone: Sequence[Couple],
    votes: Mapping[str, int],
) -> Offer:
    numbers: dict[str, int] = {}
    columns = _numbered([side.text for side in positives], numbers)
    own = _numbered([chosen.text for chosen, _ in alone], numbers)
    rows = _ints(range(len(negatives)))
    unlike: dict[str, int] = {}
    lines = _numbered([side.text for side in negatives], unlike)
    ends = _numbered([rejected.text for _, rejected in alone], unlike)
    said = [normal_answer(side.answer) for side in negatives]
    ranked = sorted(set(said), key=lambda answer: (-votes.get(answer, 0), answer))
    rank = {answer: place for place, answer in enumerate(ranked)}
    kinds = [_KINDS.index(side.kind) for side in negatives]
    gaps = np.subtract.outer(-_tokens(negatives), -_tokens(positives)).ravel()
    mean = [side.tokens for side in (*positives, *(chosen for chosen, _ in alone))]
    n, m = len(positives), len(alone)
    chosen, rejected = [_tokens([couple[i] for couple in alone]) for i in (0, 1)]
    return Offer(
        positives,
        negatives,
        alone,
        chosen=np.concatenate([np.tile(columns, len(negatives)), own]),
        rejected=np.concatenate([np.repeat(rows, n), len(negatives) + _ints(range(m))]),
        rejected_text=np.concatenate([np.repeat(lines, n), ends]),
        kind=np.concatenate([np.repeat(_ints(kinds), n), np.full(m, _DROPOUT, np.int64)]),
        gap=np.concatenate([gaps, chosen - rejected]),
        answer=np.concatenate(
            [np.repeat(_ints([rank[a] for a in said]), n), np.full(m, len(rank), np.int64)]
        ),
        texts=np.bincount([*kinds, *[_DROPOUT] * m], minlength=len(_KINDS)),
        tokens=sum(mean) / max(1, len(mean)),
    )


class _Taking:
    """The state of going through one seed's offer."""

    def __init__(self, offer: Offer, policy: PairingConfig, even: float | None) -> None:
        self._offer, self._policy, self._even = offer, policy, even
        self._open: _Mask = np.ones(len(offer.gap), np.bool_)
        if policy.max_gap is not None:
            self._open &= np.abs(offer.gap) <= policy.max_gap
        self._chosen_uses = np.zeros(1 + max(offer.chosen, default=0), np.int64)
        self._rejected_uses = np.zeros(1 + max(offer.rejected, default=0), np.int64)
        self._text_uses = np.zeros(1 + max(offer.rejected_text, default=0), np.int64)
        self._answer_uses = np.zeros(1 + max(offer.answer, default=0), np.int64)
        self._gaps = np.zeros(len(_KINDS), np.int64)
        self._taken = np.zeros(len(_KINDS), np.int64)
        self._likeness = _likeness(offer, policy)

    def next(self) -> int | None:
        """The number of the couple to take now, which then is taken; None if none is left."""
        offer, policy = self._offer, self._policy
        kind = self._kind()
        if kind is None:
            return None
        found = self._open & (offer.kind == kind)
        if policy.rejected_first == "frequent_answer":
            found = _least(found, offer.answer)
        slack = 0 if self._even is None else 1
        found = _least(found, self._rejected_uses[offer.rejected], slack)
        found = _least(found, self._chosen_uses[offer.chosen], slack)
        if policy.rejected_first == "distinct_answers":
            found = _least(found, self._answer_uses[offer.answer])
        if self._even is not None:
            # The more pairs there are, the farther their sum may be from zero.
            room = self._even * offer.tokens * (1 + self._taken[kind])
            found = _least(found, np.maximum(0, np.abs(self._gaps[kind] + offer.gap) - int(room)))
        if self._likeness is not None:
            found = _least(found, self._likeness)
        number = int(np.argmax(found))
        self._take(number)
        return number

    def _take(self, number: int) -> None:
        offer, most = self._offer, self._policy.max_per_response
        kind = offer.kind[number]
        self._taken[kind] += 1
        self._gaps[kind] += offer.gap[number]
        self._answer_uses[offer.answer[number]] += 1
        self._open[number] = False
        for uses, texts in (
            (self._chosen_uses, offer.chosen),
            (self._rejected_uses, offer.rejected),
            (self._text_uses, offer.rejected_text),
        ):
            uses[texts[number]] += 1
            if most is not None and uses[texts[number]] >= most:
                self._open &= texts != texts[number]

    def _kind(self) -> int | None:
        """Of which kind the next pair is to be."""
        counts = np.bincount(self._offer.kind[self._open], minlength=len(_KINDS))
        left: list[int] = counts.nonzero()[0].tolist()
        shares = self._policy.shares
        lacking = {k: shares.get(_KINDS[k], 0.0) for k in left}
        wanted = [k for k, share in lacking.items() if share > 0]
        if wanted:
            total = sum(shares.values())
            after = 1 + int(self._taken.sum())
            return max(wanted, key=lambda k: lacking[k] / total * after - int(self._taken[k]))
        return self._by_turns(left)

    def _by_turns(self, left: Sequence[int]) -> int | None:
        """The two branches in turn; among kinds in turn, too, but one with few texts only as
        often as each of them stands in a pair, so that none of them fills all."""
        crossed = [kind for kind in left if kind != _DROPOUT]
        first = self._taken.sum() - self._taken[_DROPOUT] <= self._taken[_DROPOUT]
        if not crossed or (_DROPOUT in left and not first):
            return _DROPOUT if _DROPOUT in left else None

        def turn(kind: int) -> tuple[int, int]:
            laps, rest = divmod(int(self._taken[kind]), int(self._offer.texts[kind]))
            return laps, rest

        return min(crossed, key=turn)


def _likeness(offer: Offer, policy: PairingConfig) -> _Ints | None:
    """The smaller, the better two texts go together; None if that does not matter. A common
    beginning counts in characters."""
    if policy.partner == "like_length":
        gaps: _Ints = np.abs(offer.gap)
        return gaps
    if policy.partner == "shared_prefix":
        from rapidfuzz.distance import Prefix
        from rapidfuzz.process import cdist

        texts = [[side.text for side in sides] for sides in (offer.negatives, offer.positives)]
        shared = cdist(*texts, scorer=Prefix.similarity, dtype=np.int64).ravel()
        likeness: _Ints = -np.concatenate([shared, np.zeros(len(offer.alone), np.int64)])
        return likeness
    return None


def _least(among: _Mask, values: npt.NDArray[Any], slack: int = 0) -> _Mask:
    """Of these couples those with the least value, or up to `slack` more."""
    found: _Mask = among & (values <= values[among].min() + slack)
    return found


def _numbered(texts: Sequence[str], numbers: dict[str, int]) -> _Ints:
    """A number for each text (blanks aside), the same for equal ones."""
    return _ints([numbers.setdefault(normal(text), len(numbers)) for text in texts])


def _tokens(sides: Sequence[Side]) -> _Ints:
    return _ints([side.tokens for side in sides])


def _ints(values: Sequence[int]) -> _Ints:
    return np.array(values, dtype=np.int64)


# ---- couples
# Which two responses meet, and in which order: the pairs to make of one seed, best first.


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
