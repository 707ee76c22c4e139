"""Pairs left out so that neither length nor answer tells chosen from rejected over a build, and
kinds have the shares that are asked for.

    kind, source            gaps 33 to 47                 after        pairs left out
    correctness, chartqa    900 chosen longer, 1,400 not  900 and 900  500
    yes -> no, vqa          5,100 and no -> yes 3,900     3,900 each   1,200

Two passes: `Balance.note` takes a few numbers of each pair, `decisions` tells from all of them
which stay. A hash of its id draws a pair, so the order of the input changes nothing. Until then a
pair takes 28 bytes of memory.

**Lengths.** Pairs of a kind and source are matched on the size of their gap (tokens of the chosen
less those of the rejected text): among gaps of about one size as many are to be positive as
negative, so that no rule on lengths tells the sides apart (coarsened exact matching: Iacus, King,
Porro 2012, Political Analysis 20, "Causal Inference without Balance Checking"). Gaps within the
tolerance are none. Sizes that occur with one sign only stay: there is nothing to match. What chance
explains stays, too (a chi-square over all sizes, beyond its mean by two standard deviations). No
more goes than makes "the shorter one is chosen" as often right as wrong over all pairs.

**Answers.** Over a source yes, no and letters are each to be chosen as often as rejected. Pairs go
whose chosen answer is ahead and whose rejected one is behind, if one of them is by more than chance
explains. Where more would have to go than the floor allows, none does.

**Kinds.** Those that are named keep the most pairs that have these shares. Where that were too few,
the kinds that lack some keep all, and the others as many as `floor` takes.

Easy, middling and hard questions lose equal shares of their pairs, as far as they have such pairs.
`floor` of the pairs stay. run.json tells what could not be reached.
"""

from __future__ import annotations

import functools
import math
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

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
    """What is counted of a pair: `answers` as `common_answers` gives them, `draw` (64 bits of its
    id), the pass rate of its question, the indices of both responses, the ratio that was kept."""

    kind: Kind
    chosen_tokens: int
    rejected_tokens: int
    answers: tuple[str, str] | None = None
    draw: int = 0
    rate: float | None = None
    chosen: int = 0
    rejected: int = 0
    keep: float | None = None

    @property
    def gap(self) -> int:
        """Tokens of the chosen text less those of the rejected one."""
        return self.chosen_tokens - self.rejected_tokens


def weigh(seed: Seed, pair: Pair) -> Weighed:
    """A pair of a seed, weighed."""
    return Weighed(
        pair.kind,
        pair.chosen_tokens,
        pair.rejected_tokens,
        common_answers(pair.chosen_answer, pair.rejected_answer, len(seed.choices)),
        int(pair.id[:16], 16),
        pair.pass_rate,
        pair.chosen_index,
        pair.rejected_index,
        pair.dropout_keep,
    )


Sums = Counter[tuple[str, ...]]
"""("lengths", kind, source, "pairs" | "chosen" | "rejected" | "longer" | "shorter") -> pairs,
tokens of both sides, pairs whose chosen text is the longer or the shorter one;
("answers", source, answer, "chosen" | "rejected") -> pairs."""


def sums(source: str, pairs: Iterable[Weighed]) -> Sums:
    """Pairs and tokens of both sides by kind, and answers by side, of one source."""
    found: Sums = Counter()
    for pair in pairs:
        cell = ("lengths", pair.kind, source)
        found[(*cell, "pairs")] += 1
        found[(*cell, "chosen")] += pair.chosen_tokens
        found[(*cell, "rejected")] += pair.rejected_tokens
        found[(*cell, "longer")] += pair.gap > 0
        found[(*cell, "shorter")] += pair.gap < 0
        if pair.answers is not None:
            chosen, rejected = pair.answers
            found["answers", source, chosen, "chosen"] += 1
            found["answers", source, rejected, "rejected"] += 1
    return found


def is_weighed(policy: PairingConfig, balance: BalanceConfig) -> bool:
    """Whether lengths or answers are controlled, so that run.json tells what becomes of them."""
    by_pair = policy.max_gap is not None or policy.partner == "like_length"
    return by_pair or balance.is_on


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
    signs = {name: part["lengths", kind, source, name] for name in ("longer", "shorter")}
    return {"pairs": n, "chosen": means[0], "rejected": means[1], "mean_gap": means[2], **signs}


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


Reason = Literal["length_balance", "answer_balance", "kind_shares"]
_REASONS: tuple[Reason | None, ...] = (None, *get_args(Reason))

_PAIRS_OF_A_SEED = 15
"""All pairs of a seed have the same truth, so many of one answer may come at once, and sums over n
pairs wander by chance up to the root of that many times n."""
_SIZES = 2  # Sizes of gaps to each doubling.
_LEAST = 32  # Pairs of about one size; rarer ones join the next size.
_APART = 100  # How many times as frequent one sign is at most where gaps still overlap.
_LEVELS = 4  # Easy, middling, hard, and without a pass rate.

_Ints = npt.NDArray[np.int64]


class Balance:
    """Takes all pairs of a build, then tells for each in the same order whether it stays."""

    def __init__(self, config: BalanceConfig) -> None:
        self._config = config
        self._cells: dict[tuple[str, str], int] = {}
        self._answers: dict[tuple[str, str, str] | None, int] = {None: 0}
        self._columns = [array(code) for code in "iiiqQ"]

    def note(self, source: str, pair: Weighed) -> None:
        """The next pair of a source."""
        answers = None if pair.answers is None else (source, *pair.answers)
        level = _LEVELS - 1 if pair.rate is None else min(2, int(pair.rate * 3))
        values = (
            self._cells.setdefault((pair.kind, source), len(self._cells)) * _LEVELS + level,
            self._answers.setdefault(answers, len(self._answers)),
            pair.chosen_tokens,
            pair.gap,
            pair.draw,
        )
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)

    def decisions(self) -> Iterator[Reason | None]:
        """Why each pair is left out, in the order of `note`; None if it stays."""
        cells, answers, tokens, gaps, draws = (np.asarray(column) for column in self._columns)
        cells, levels = cells // _LEVELS, cells % _LEVELS
        gone = np.zeros(len(gaps), np.int8)
        if self._config.answers:
            for edges in self._families().values():
                pairs = np.flatnonzero(np.isin(answers, list(edges)))
                counts = {edge: int((answers[pairs] == at).sum()) for at, edge in edges.items()}
                ahead = _ahead(counts, len(pairs) * (1 - self._config.floor))
                groups = [(pairs[answers[pairs] == at], ahead[edge]) for at, edge in edges.items()]
                gone[_thinned(groups, levels, draws, pairs)] = 2
        if self._config.lengths:
            for cell in range(len(self._cells)):
                pairs = np.flatnonzero(cells == cell)
                most = math.floor((1 - self._config.floor) * len(pairs)) - int(
                    (gone[pairs] > 0).sum()
                )
                room = self._config.tolerance * float(tokens[pairs].mean())
                left = pairs[gone[pairs] == 0]
                leaning = _leaning(gaps[left], room, max(0, most))
                groups = [(left[members], count) for members, count in leaning]
                gone[_thinned(groups, levels, draws, pairs)] = 1
        of_cell = np.array([kind for kind, _ in self._cells])
        kinds, places = of_cell[cells] if len(cells) else of_cell, np.flatnonzero(gone == 0)
        left = Counter(kinds[places].tolist())
        for kind, count in _over_their_share(left, self._config).items():
            members = places[kinds[places] == kind]
            gone[_thinned([(members, count)], levels, draws, members)] = 3
        return (_REASONS[why] for why in gone.tolist())

    def _families(self) -> dict[tuple[str, bool], dict[int, tuple[str, str]]]:
        """The numbers of answers by source and family: letters, or yes and no."""
        found: dict[tuple[str, bool], dict[int, tuple[str, str]]] = {}
        for edge, at in self._answers.items():
            if edge is not None:
                source, chosen, rejected = edge
                found.setdefault((source, is_letter(chosen)), {})[at] = chosen, rejected
        return found


def _over_their_share(counts: Mapping[str, int], config: BalanceConfig) -> dict[str, int]:
    """How many pairs of each kind that is named have to go."""
    total = sum(config.shares.values())
    shares = {kind: share / total for kind, share in config.shares.items()} if total else {}
    named = sum(counts[kind] for kind in shares)
    # As many pairs in all as each kind alone would allow.
    sizes = [counts[kind] / share for kind, share in shares.items() if share]

    def kept(size: float) -> dict[str, int]:
        return {k: min(counts[k], math.floor(size * s + 1e-9)) for k, s in shares.items()}

    least = bisect_left(
        range(math.ceil(max(sizes, default=0))),
        math.ceil(config.floor * named),
        key=lambda size: sum(kept(size).values()),
    )
    stay = kept(max(least, min(sizes, default=0)))
    return {kind: counts[kind] - stay[kind] for kind in shares}


def _ahead(counts: dict[tuple[str, str], int], most: float) -> Counter[tuple[str, str]]:
    """How many pairs (chosen, rejected) have to go; none if they are more than `most`."""
    lead: Counter[str] = Counter()
    for (chosen, rejected), count in counts.items():
        lead[chosen] += count
        lead[rejected] -= count
    chance = _PAIRS_OF_A_SEED * sum(counts.values())
    sure = {answer for answer, count in lead.items() if count**2 > chance}
    found: Counter[tuple[str, str]] = Counter()
    for edge in sorted(counts, key=lambda edge: (lead[edge[1]] - lead[edge[0]], edge)):
        if sure & {*edge}:
            found[edge] = max(0, min(lead[edge[0]], -lead[edge[1]], counts[edge]))
            lead[edge[0]] -= found[edge]
            lead[edge[1]] += found[edge]
    return found if found.total() <= most else Counter()


def _leaning(gaps: _Ints, room: float, most: int) -> list[tuple[_Ints, int]]:
    """(places of the pairs of about one size of gap and the sign that is ahead there, how many of
    them have to go), the longest first; gaps within `room` are none."""
    counted = np.flatnonzero(np.abs(gaps) > room)
    if not len(counted):
        return []
    # Order by the size alone: within one size the sign must not play a part.
    sizes = np.floor(_SIZES * np.log2(np.abs(gaps[counted]))).astype(np.int64)
    groups: list[tuple[_Ints, int]] = []
    for members in _of_one_size(counted, sizes):
        signs = np.sign(gaps[members])
        excess = int(signs.sum())
        behind = (len(members) - abs(excess)) // 2
        if behind * _APART >= len(members) - behind:
            groups.append((members, excess))
    chi = sum(excess**2 / len(members) for members, excess in groups)
    if chi <= len(groups) + 2 * math.sqrt(2 * len(groups)):
        return []
    total, net = sum(abs(excess) for _, excess in groups), sum(excess for _, excess in groups)
    lead = int(np.sign(gaps[counted]).sum())
    share = min(1.0, most / total)
    if net:  # At most until one sign leads over all by what chance explains.
        ahead = lead if net > 0 else -lead
        share = min(share, max(0.0, math.sqrt(len(counted)) + ahead) / abs(net))
    return [
        (members[np.sign(gaps[members]) == np.sign(excess)], math.floor(abs(excess) * share))
        for members, excess in groups
    ]


def _of_one_size(places: _Ints, sizes: _Ints) -> Iterator[_Ints]:
    """The places by size, the longest gaps first, `_LEAST` at least where there are so many."""
    held: list[_Ints] = []
    left = len(places)
    for size in np.unique(sizes)[::-1]:
        held.append(places[sizes == size])
        left -= len(held[-1])
        if sum(map(len, held)) >= _LEAST <= left or not left:
            yield np.concatenate(held)
            held = []


def _thinned(
    groups: Sequence[tuple[_Ints, int]], levels: _Ints, draws: npt.NDArray[np.uint64], pairs: _Ints
) -> _Ints:
    """So many pairs of each group, drawn by hash: first from the level of difficulty that has lost
    the smallest share of all its `pairs` so far."""
    size = np.maximum(1, np.bincount(levels[pairs], minlength=_LEVELS))
    lost = np.zeros(_LEVELS, np.int64)
    found = [pairs[:0]]
    for members, count in groups:
        members = members[np.argsort(draws[members], kind="stable")]
        level = levels[members]
        rank = np.zeros(len(members), np.int64)
        for one in range(_LEVELS):
            rank[level == one] = np.arange((level == one).sum())
        share = (lost[level] + rank + 0.5) / size[level]
        found.append(members[np.argsort(share, kind="stable")[:count]])
        lost += np.bincount(levels[found[-1]], minlength=_LEVELS)
    return np.concatenate(found)
