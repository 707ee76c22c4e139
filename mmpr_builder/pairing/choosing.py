"""Which candidate pairs of a seed become pairs, and in which order.

    positives 3 x negatives 4 = 12 candidates, and 2 of responses with their own continuations

With `pairing.*` at its defaults a walk over both sides uses all texts equally often. Else one
candidate after the other is taken, each time by the first of these that tells two apart:

    1. the kind that lacks most of its share; without shares kinds take turns
    2. frequent_answer: the wrong answer that most responses gave
    3. no text more often than the others (by one at most, where lengths are to be balanced)
    4. distinct_answers: the wrong answer taken least often so far
    5. balanced lengths: what brings the seed's sum of gaps nearest to zero, within the tolerance
    6. the partner: the longest common beginning, the nearest length, or the most faithful
    7. the order that the hash drew

Both pass over candidates beyond `max_gap`, and texts that are in `max_per_response` pairs already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, zip_longest
from math import lcm
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from mmpr_builder.config import PairingConfig
from mmpr_builder.pairing.candidates import Candidate, Material, Side, normal, sides_of
from mmpr_builder.records import Kind

_KINDS: tuple[Kind, ...] = get_args(Kind)
_ALONE = [_KINDS.index(kind) for kind in ("dropout_ntp", "step", "judged")]
"""Kinds whose two sides are known together."""
_Ints = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]


def choose(material: Material) -> list[Candidate]:
    """The candidates that become pairs, best first, `max_per_seed` at most."""
    policy = material.policy
    sides = sides_of(material)
    if not _has_wishes(material):
        return _walk(*sides, policy)
    taking = _Taking(*sides, material)
    taken = list(islice(iter(taking.next, None), policy.max_per_seed))
    if policy.max_per_response is None or len(taken) == policy.max_per_seed:
        return taken
    # Taken in the order of the policy, the last texts may find only partners they already have.
    return max(taken, _walk(*sides, policy), key=len)


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
    positives: Sequence[Side],
    negatives: Sequence[Side],
    alone: Sequence[Candidate],
    policy: PairingConfig,
) -> list[Candidate]:
    """As evenly as possible over all texts; the two branches take turns on one seed."""
    crossed = _spread(positives, _by_turns(negatives))
    turns = (one for turn in zip_longest(crossed, alone) for one in turn if one is not None)
    return list(islice(_within(turns, policy), policy.max_per_seed))


def _within(candidates: Iterable[Candidate], policy: PairingConfig) -> Iterator[Candidate]:
    """Without those beyond `max_gap`, and those of a text that has been in enough of them."""
    most, gap = policy.max_per_response, policy.max_gap
    uses: Counter[tuple[int, str]] = Counter()
    for sides in candidates:
        if gap is not None and abs(sides[0].tokens - sides[1].tokens) > gap:
            continue
        if most is not None:
            texts = [(place, side.normal) for place, side in enumerate(sides)]
            if any(uses[text] >= most for text in texts):
                continue
            uses.update(texts)
        yield sides


def _by_turns(negatives: Sequence[Side]) -> list[Side]:
    """Kinds take turns, so that none crowds out another."""
    kinds: tuple[Kind, ...] = ("correctness", "format", "truncated")
    lanes = [[side for side in negatives if side.kind == kind] for kind in kinds]
    return [side for side in chain.from_iterable(zip_longest(*lanes)) if side is not None]


def _spread(positives: Sequence[Side], negatives: Sequence[Side]) -> Iterator[Candidate]:
    """All positive x negative candidates; after any number of them the use counts of two positives
    differ by at most one, and so do those of two negatives."""
    rows, columns = len(positives), len(negatives)
    if not rows or not columns:
        return
    lap = lcm(rows, columns)  # After it the walk would repeat itself: the negatives move on.
    for step in range(rows * columns):
        yield positives[step % rows], negatives[(step + step // lap) % columns]


class _Taking:
    """The candidates of one seed, by number, and what was taken of them so far."""

    def __init__(
        self,
        positives: Sequence[Side],
        negatives: Sequence[Side],
        alone: Sequence[Candidate],
        material: Material,
    ) -> None:
        self._policy, self._even = material.policy, material.even
        crossed = [(chosen, rejected) for rejected in negatives for chosen in positives]
        self.candidates = [*crossed, *alone]
        wholes = [chosen for chosen, _ in self.candidates]
        ends = [rejected for _, rejected in self.candidates]
        self._kind = _ints([_KINDS.index(side.kind) for side in ends])
        self._chosen = _numbered(side.normal for side in wholes)
        self._rejected_text = _numbered(side.normal for side in ends)
        # Several responses may have gone on to the same text: of these each counts for itself.
        own = [side.normal for _, side in crossed], range(len(alone))
        self._rejected = _numbered(chain(*own))
        # The most frequent wrong answer first; all continuations have one number, their own.
        votes = _votes(material)
        said = {_normal_answer(side.answer) for side in negatives}
        ranked = sorted(said, key=lambda answer: (-votes.get(answer, 0), answer))
        rank = {answer: place for place, answer in enumerate(ranked)}
        answers = [rank[_normal_answer(side.answer)] for _, side in crossed]
        self._answer = _ints([*answers, *[len(rank)] * len(alone)])
        self._gap = _ints([one.tokens - other.tokens for one, other in self.candidates])
        lengths = [side.tokens for side in (*positives, *(chosen for chosen, _ in alone))]
        self._mean_tokens = sum(lengths) / max(1, len(lengths))
        self._texts = Counter(_KINDS.index(side.kind) for side in negatives)
        self._likeness = self._likenesses()
        self._open: _Mask = np.ones(len(self.candidates), np.bool_)
        if self._policy.max_gap is not None:
            self._open &= np.abs(self._gap) <= self._policy.max_gap
        self._chosen_uses, self._rejected_uses, self._text_uses, self._answer_uses = (
            np.zeros(1 + max(numbers, default=0), np.int64)
            for numbers in (self._chosen, self._rejected, self._rejected_text, self._answer)
        )
        self._gaps = np.zeros(len(_KINDS), np.int64)
        self._taken = np.zeros(len(_KINDS), np.int64)

    def next(self) -> Candidate | None:
        """The candidate to take now, which then is taken; None if none is left."""
        policy, kind = self._policy, self._next_kind()
        if kind is None:
            return None
        found = self._open & (self._kind == kind)
        if policy.rejected_first == "frequent_answer":
            found = _least(found, self._answer)
        slack = 0 if self._even is None else 1
        found = _least(found, self._rejected_uses[self._rejected], slack)
        found = _least(found, self._chosen_uses[self._chosen], slack)
        if policy.rejected_first == "distinct_answers":
            found = _least(found, self._answer_uses[self._answer])
        if self._even is not None:
            # The more pairs there are, the farther their sum may be from zero.
            room = self._even * self._mean_tokens * (1 + self._taken[kind])
            found = _least(found, np.maximum(0, np.abs(self._gaps[kind] + self._gap) - int(room)))
        if self._likeness is not None:
            found = _least(found, self._likeness)
        number = int(np.argmax(found))
        self._take(number)
        return self.candidates[number]

    def _take(self, number: int) -> None:
        most, kind = self._policy.max_per_response, self._kind[number]
        self._taken[kind] += 1
        self._gaps[kind] += self._gap[number]
        self._answer_uses[self._answer[number]] += 1
        self._open[number] = False
        for uses, texts in (
            (self._chosen_uses, self._chosen),
            (self._rejected_uses, self._rejected),
            (self._text_uses, self._rejected_text),
        ):
            uses[texts[number]] += 1
            if most is not None and uses[texts[number]] >= most:
                self._open &= texts != texts[number]

    def _next_kind(self) -> int | None:
        """Of which kind the next pair is to be."""
        counts = np.bincount(self._kind[self._open], minlength=len(_KINDS))
        left: list[int] = counts.nonzero()[0].tolist()
        shares = self._policy.shares
        lacking = {k: shares.get(_KINDS[k], 0.0) for k in left}
        wanted = [k for k, share in lacking.items() if share > 0]
        if wanted:
            total = sum(shares.values())
            after = 1 + int(self._taken.sum())
            return max(wanted, key=lambda k: lacking[k] / total * after - int(self._taken[k]))
        return self._in_turn(left)

    def _in_turn(self, left: Sequence[int]) -> int | None:
        """The two branches in turn; among kinds in turn, too, but one with few texts only as
        often as each of them stands in a pair, so that none of them fills all."""
        crossed = [kind for kind in left if kind not in _ALONE]
        alone = [kind for kind in left if kind in _ALONE]
        first = self._taken.sum() <= 2 * self._taken[_ALONE].sum()
        if not crossed or (alone and not first):
            return min(alone, key=lambda k: self._taken[k], default=None)
        return min(crossed, key=lambda k: divmod(int(self._taken[k]), self._texts[k]))

    def _likenesses(self) -> _Ints | None:
        """The smaller, the better two texts go together; None if that does not matter. A common
        beginning counts in characters."""
        if self._policy.partner == "like_length":
            gaps: _Ints = np.abs(self._gap)
            return gaps
        if self._policy.partner == "shared_prefix":
            from rapidfuzz.distance import Prefix

            texts = ((one.text, other.text, other.kind) for one, other in self.candidates)
            shared = (Prefix.similarity(a, b) if k != "dropout_ntp" else 0 for a, b, k in texts)
            return _ints([-length for length in shared])
        if self._policy.partner == "faithful":
            return _ints([-round(1e6 * (one.faithfulness or 0)) for one, _ in self.candidates])
        return None


def _votes(material: Material) -> Mapping[str, int]:
    """How many finished responses gave each wrong answer."""
    return Counter(
        _normal_answer(verdict.answer)
        for _, response, verdict in material.judged()
        if verdict.outcome == "incorrect" and response.finish_reason == "stop"
    )


def _normal_answer(answer: str | None) -> str:
    """An answer with case and blanks alike; "" for none."""
    return normal(answer).casefold() if answer else ""


def _least(among: _Mask, values: npt.NDArray[Any], slack: int = 0) -> _Mask:
    """Of these candidates those with the least value, or at most `slack` more."""
    found: _Mask = among & (values <= values[among].min() + slack)
    return found


def _numbered(values: Iterable[Hashable]) -> _Ints:
    """A number for each value, the same for equal ones."""
    numbers: dict[Hashable, int] = {}
    return _ints([numbers.setdefault(value, len(numbers)) for value in values])


def _ints(values: Sequence[int]) -> _Ints:
    return np.array(values, dtype=np.int64)
