"""Pairs left out so that neither length nor answer tells chosen from rejected over a build.

    kind, source            pairs   mean gap        after    pairs left out
    correctness, chartqa    9,000   -38.2 tokens    -1.1     700
    yes -> no, vqa          5,100   and no -> yes 3,900      1,100

`Balance` decides on one pair after the other, in the order of the seeds, from sums over those
before it: a few numbers for each kind and source.

**Lengths.** Over all pairs of a kind and source the gaps (tokens of the chosen less those of the
rejected text) are to cancel. The pairs that lean farthest are left out, which takes the fewest: a
histogram of the gaps seen so far says beyond which gap. A pair goes only while it leans at least
twice as far as the mean of those that stay: where all lean alike, nothing would be mended.

**Answers.** A pair "yes" over "no" adds one to yes and takes one from no; so do pairs of letters.
A pair goes that would take these sums further from zero, if its answer is ahead by more than chance
explains. Where more would have to go than the floor allows, none does.

`floor` of the pairs stay in any case. run.json tells what could not be reached.
"""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from mmpr_builder.config import BalanceConfig, PairingConfig
from mmpr_builder.records import Kind, Pair, Seed
from mmpr_builder.scoring.clean import MAX_CHARS
from mmpr_builder.scoring.words.choice import LETTERS, read_letters
from mmpr_builder.scoring.words.text import polarity

_OPTIONS = 8
"""Letters that count where the number of options is not known: A to H."""


@functools.lru_cache(maxsize=65536)
def common_answer(answer: str | None, options: int = 0) -> str | None:
    """ "yes", "no", "true", "false", the letter of an option, or None for any other answer.

    "是的" is "yes", "B. 12 cm" is "B"; "yes and no" is None. `options` is how many the question
    has; 0: not known.
    """
    if not answer or len(answer) > MAX_CHARS:
        return None
    said = polarity(answer.strip())
    if said is not None:
        return said
    reading = read_letters(answer.strip())
    if len(reading.letters) != 1 or not reading.dressed:
        return None
    (number,) = reading.letters
    return LETTERS[number] if number < (options or _OPTIONS) else None


def common_answers(
    chosen: str | None, rejected: str | None, options: int = 0
) -> tuple[str, str] | None:
    """Both answers of a pair if they are of the same family, yes and no or letters; else None."""
    names = common_answer(chosen, options), common_answer(rejected, options)
    if names[0] is None or names[1] is None or is_letter(names[0]) != is_letter(names[1]):
        return None
    return names[0], names[1]


def is_letter(name: str) -> bool:
    """Whether a common answer is a letter, not yes or no."""
    return len(name) == 1


@dataclass(frozen=True, slots=True)
class Weighed:
    """What a pair puts on the scales; `answers` as `common_answers` gives them."""

    kind: Kind
    chosen_tokens: int
    rejected_tokens: int
    answers: tuple[str, str] | None = None

    @property
    def gap(self) -> int:
        """Tokens of the chosen text less those of the rejected one."""
        return self.chosen_tokens - self.rejected_tokens


def weigh(seed: Seed, pair: Pair) -> Weighed:
    """A pair of a seed, weighed."""
    answers = common_answers(pair.chosen_answer, pair.rejected_answer, len(seed.choices))
    return Weighed(pair.kind, pair.chosen_tokens, pair.rejected_tokens, answers)


Sums = Counter[tuple[str, ...]]
"""("lengths", kind, source, "pairs" | "chosen" | "rejected") -> pairs, tokens, tokens;
("answers", source, answer, "chosen" | "rejected") -> pairs."""


def sums(source: str, pairs: Iterable[Weighed]) -> Sums:
    """Pairs and tokens of both sides by kind, and answers by side, of one source."""
    found: Sums = Counter()
    for pair in pairs:
        cell = ("lengths", pair.kind, source)
        found[(*cell, "pairs")] += 1
        found[(*cell, "chosen")] += pair.chosen_tokens
        found[(*cell, "rejected")] += pair.rejected_tokens
        if pair.answers is not None:
            chosen, rejected = pair.answers
            found["answers", source, chosen, "chosen"] += 1
            found["answers", source, rejected, "rejected"] += 1
    return found


def is_weighed(policy: PairingConfig, balance: BalanceConfig) -> bool:
    """Whether lengths or answers are controlled, so that run.json tells what becomes of them."""
    by_pair = policy.max_gap is not None or policy.partner == "like_length"
    return by_pair or balance.lengths or balance.answers


def before_and_after(before: Sums, after: Sums, tolerance: float) -> dict[str, Any]:
    """What run.json tells of the balance: each kind and source, each family and source, without
    any control of lengths or answers (`before`) and with it; `reached`: within the tolerance."""
    cells = sorted({key[1:3] for key in before | after if key[0] == "lengths"})
    lengths: dict[str, Any] = {}
    for kind, source in cells:
        one, other = (_lengths(part, kind, source) for part in (before, after))
        reached = abs(other["mean_gap"]) <= tolerance * other["chosen"]
        found = {"before": one, "after": other, "reached": reached}
        lengths.setdefault(kind, {})[source] = found
    named = sorted({key[1:3] for key in before | after if key[0] == "answers"})
    families: dict[tuple[str, bool], list[str]] = {}
    for source, name in named:
        families.setdefault((source, is_letter(name)), []).append(name)
    answers: dict[str, Any] = {}
    for (source, letters), names in sorted(families.items()):
        one, other = (_answers(part, source, names) for part in (before, after))
        found = {"before": one, "after": other, "reached": other["surplus"] <= tolerance}
        answers.setdefault(source, {})["letters" if letters else "yes_no"] = found
    return {"lengths": lengths, "answers": answers}


def _lengths(part: Sums, kind: str, source: str) -> dict[str, float]:
    """Means in tokens, to a hundredth."""
    n, chosen, rejected = (
        part["lengths", kind, source, name] for name in ("pairs", "chosen", "rejected")
    )
    means = [round(value / max(1, n), 2) for value in (chosen, rejected, chosen - rejected)]
    return {"pairs": n, "chosen": means[0], "rejected": means[1], "mean_gap": means[2]}


def _answers(part: Sums, source: str, names: list[str]) -> dict[str, Any]:
    """`surplus`: the share of the pairs without which each answer would be chosen as often as
    rejected, at the least."""
    sides = {
        name: {side: part["answers", source, name, side] for side in ("chosen", "rejected")}
        for name in names
    }
    pairs = sum(counts["chosen"] for counts in sides.values())
    ahead = sum(max(0, counts["chosen"] - counts["rejected"]) for counts in sides.values())
    return {"pairs": pairs, "surplus": round(ahead / max(1, pairs), 4), "answers": sides}


Reason = Literal["length_balance", "answer_balance"]

_FIRST_LOOK = 8  # Pairs of a kind and source; then after each sixteenth more.
_PAIRS_OF_A_SEED = 15
"""All pairs of a seed have the same truth, so many of one answer may come at once, and sums over n
pairs wander by chance up to the root of that many times n."""
_EXACT = 8
_TOP = 79  # Of gaps over two million tokens.
_WORTH = 2.0  # How many times as far as the others a pair leans, at least, that is left out.


class Balance:
    """Decides pair by pair; holds the sums of one build."""

    def __init__(self, config: BalanceConfig) -> None:
        self._config = config
        self._lengths = defaultdict[tuple[str, str], _Lengths](lambda: _Lengths(config))
        self._answers = defaultdict[tuple[str, bool], _Answers](lambda: _Answers(config))

    def decide(self, source: str, pair: Weighed) -> Reason | None:
        """Why the next pair of a source is left out; None if it stays."""
        scales: dict[Reason, _Answers | _Lengths] = {}
        if self._config.answers and pair.answers is not None:
            scales["answer_balance"] = self._answers[source, is_letter(pair.answers[0])]
        if self._config.lengths:
            scales["length_balance"] = self._lengths[pair.kind, source]
        # Both see every pair, so that each knows what there is.
        against = [reason for reason, scale in scales.items() if not scale.admits(pair)]
        if not against:
            for scale in scales.values():
                scale.keep(pair)
        return against[0] if against else None


@dataclass(slots=True)
class _Lengths:
    """The gaps of one kind and source."""

    config: BalanceConfig
    seen: int = 0
    kept: int = 0
    tokens: int = 0  # Of the chosen texts seen.
    sum_seen: int = 0
    sum_kept: int = 0
    look: int = _FIRST_LOOK
    lean: int = 0  # 1 where long chosen texts are left out, -1 where long rejected ones are.
    edge: int = 0  # The bin in which it depends; all beyond it go.
    counts: Counter[int] = field(default_factory=Counter)
    sums: Counter[int] = field(default_factory=Counter)

    def admits(self, pair: Weighed) -> bool:
        gap, place = pair.gap, _bin(pair.gap)
        self.seen += 1
        self.tokens += pair.chosen_tokens
        self.sum_seen += gap
        self.counts[place] += 1
        self.sums[place] += gap
        if self.seen >= self.look:
            self._look()
        if gap * self.lean <= 0 or abs(place) < self.edge:
            return True
        if self.kept < self.config.floor * self.seen:
            return True
        room = self.config.tolerance / 2 * self.tokens / self.seen * (self.kept + 1)
        return abs(place) == self.edge and (self.sum_kept + gap) * self.lean <= room

    def keep(self, pair: Weighed) -> None:
        self.kept += 1
        self.sum_kept += pair.gap

    def _look(self) -> None:
        """Find beyond which gap pairs have to go, as if as many were to come as have been seen."""
        self.look = self.seen + max(_FIRST_LOOK // 2, self.seen // 16)
        allowed = self.config.tolerance * self.tokens
        left = self.sum_seen + self.sum_kept
        self.lean = 0 if abs(left) <= allowed else 1 if left > 0 else -1
        may_go = (1 - self.config.floor) * self.seen
        stay, gone, own = self.seen, 0, self.sum_seen
        self.edge = _TOP + 1
        leaning = (place for place in self.counts if place * self.lean > 0)
        for place in sorted(leaning, key=abs, reverse=True):
            count, total = self.counts[place], self.sums[place]
            if gone + count > may_go and gone:
                return
            if abs(total) * stay < _WORTH * own * self.lean * count:
                return
            self.edge = abs(place)
            left, own = left - total, own - total
            gone, stay = gone + count, stay - count
            if left * self.lean <= allowed / 2 or not stay:
                return


@dataclass(slots=True)
class _Answers:
    """The answers of one family in one source."""

    config: BalanceConfig
    seen: int = 0
    kept: int = 0
    # How many times oftener an answer was chosen than rejected: over all pairs, and what stays.
    ahead_seen: Counter[str] = field(default_factory=Counter)
    ahead: Counter[str] = field(default_factory=Counter)

    def admits(self, pair: Weighed) -> bool:
        assert pair.answers is not None
        chosen, rejected = pair.answers
        self.seen += 1
        self.ahead_seen[chosen] += 1
        self.ahead_seen[rejected] -= 1
        more = (self.ahead[chosen] >= 0) - (self.ahead[rejected] > 0)
        room = max(_PAIRS_OF_A_SEED, self.config.tolerance * self.kept)
        if more <= 0 or surplus(self.ahead) + more <= room:
            return True
        # So far can chance take it where whole questions come down on one side or the other.
        if self.ahead_seen[chosen] ** 2 <= _PAIRS_OF_A_SEED * self.seen:
            return True
        may_go = (1 - self.config.floor) * self.seen
        return surplus(self.ahead_seen) > may_go or self.kept < self.config.floor * self.seen

    def keep(self, pair: Weighed) -> None:
        assert pair.answers is not None
        chosen, rejected = pair.answers
        self.kept += 1
        self.ahead[chosen] += 1
        self.ahead[rejected] -= 1


def surplus(ahead: Counter[str]) -> int:
    """Pairs without which, at the least, each answer would be chosen as often as rejected."""
    return sum(count for count in ahead.values() if count > 0)


def _bin(gap: int) -> int:
    """A number for gaps of about this size, four to each doubling; negative for negative gaps."""
    size = abs(gap)
    if size >= _EXACT:
        octave = size.bit_length() - _EXACT.bit_length()
        size = min(_TOP, _EXACT + 4 * octave + ((size >> (octave + 1)) & 3))
    return size if gap > 0 else -size
