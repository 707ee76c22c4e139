"""Compares chosen and rejected over all pairs: lengths, and answers that one side has more often.

A trainer learns whatever tells the two sides apart. Where the chosen ones are longer, or say "yes"
more often, it learns that too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmpr_builder.io import tables
from mmpr_builder.pairing.balance import common_answers, is_letter
from mmpr_builder.records import Kind

_BINS = 20
_WIDTHS = [step * 10**power for power in range(9) for step in (1, 2, 5)]
BARE_TOKENS = 12
"""A response of so few tokens states an answer and nothing that leads to it."""
_COLUMNS = (
    *("kind", "source", "chosen_tokens", "rejected_tokens"),
    *("chosen_answer", "rejected_answer", "choices"),
)
_YES_NO = ("yes", "no", "true", "false")


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of the chosen and rejected texts of one kind.

    `bins` are (first, last token count, chosen, rejected, their shares of the highest); the last
    one has all that is longer. `bare`: chosen texts of `BARE_TOKENS` or fewer.
    """

    kind: str
    pairs: int
    chosen_mean: float
    rejected_mean: float
    bins: tuple[tuple[int, int, int, int, float, float], ...]
    bare: int


@dataclass(frozen=True, slots=True)
class Bias:
    """Mean lengths in tokens; `share` is `chosen - rejected` over the longer of the two (-1 to 1).

    `chosen_longer` is the share of pairs whose chosen text is the longer one, `tied` of those with
    texts of one length.
    """

    kind: str
    source: str
    pairs: int
    chosen: float
    rejected: float
    share: float
    chosen_longer: float
    tied: float


@dataclass(frozen=True, slots=True)
class Prior:
    """How often an answer stands on each side, among the `pairs` with answers of its family on both
    (0 to 1)."""

    answer: str
    chosen: float
    rejected: float
    chosen_count: int
    rejected_count: int
    pairs: int


@dataclass(frozen=True, slots=True)
class Sides:
    """Everything that is compared."""

    lengths: tuple[Lengths, ...]
    biases: tuple[Bias, ...]
    priors: tuple[tuple[Prior, ...], ...]
    """A group for yes and no, one for letters; empty where no answer is one."""


@dataclass
class _Tally:
    """What is counted of the pairs of one kind and source; no larger for more of them."""

    chosen: Counter[int] = field(default_factory=Counter)
    """Tokens of a chosen text -> pairs."""
    rejected: Counter[int] = field(default_factory=Counter)
    chosen_longer: int = 0
    tied: int = 0

    def add(self, rows: pa.Table) -> None:
        chosen, rejected = (rows[f"{side}_tokens"].to_numpy() for side in ("chosen", "rejected"))
        for counts, lengths in ((self.chosen, chosen), (self.rejected, rejected)):
            values, numbers = np.unique(lengths, return_counts=True)
            counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
        self.chosen_longer += int((chosen > rejected).sum())
        self.tied += int((chosen == rejected).sum())

    @property
    def pairs(self) -> int:
        return self.chosen.total()


_Tallies = dict[str, dict[str, _Tally]]
"""Kind -> source -> what was counted."""


def read_sides(parts: Sequence[str]) -> Sides:
    """Compare the two sides over all pairs of these parts; images and texts are not read."""
    tallies: _Tallies = {}
    answers: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for part in parts:
        for rows in tables.read_groups(part, _COLUMNS):
            _count(rows, tallies)
            _count_answers(rows, answers)
    kinds = [kind for kind in get_args(Kind) if kind in tallies]
    return Sides(
        lengths=tuple(_lengths(kind, _together(tallies[kind])) for kind in kinds),
        biases=tuple(bias for kind in kinds for bias in _biases(kind, tallies[kind])),
        priors=_priors(answers),
    )


def _count(rows: pa.Table, tallies: _Tallies) -> None:
    for kind in pc.unique(rows["kind"]).to_pylist():
        of_kind = rows.filter(pc.equal(rows["kind"], kind))
        for source in pc.unique(of_kind["source"]).to_pylist():
            mine = of_kind.filter(pc.equal(of_kind["source"], source))
            tallies.setdefault(kind, {}).setdefault(source, _Tally()).add(mine)


def _together(sources: Mapping[str, _Tally]) -> _Tally:
    whole = _Tally()
    for tally in sources.values():
        whole.chosen.update(tally.chosen)
        whole.rejected.update(tally.rejected)
        whole.chosen_longer += tally.chosen_longer
        whole.tied += tally.tied
    return whole


def _lengths(kind: str, tally: _Tally) -> Lengths:
    sides = [_weighted(counts) for counts in (tally.chosen, tally.rejected)]
    lengths, numbers = _weighted(tally.chosen + tally.rejected)
    # The longest of a thousand hardly shows, but would squeeze all others to the left.
    place = int(np.searchsorted(np.cumsum(numbers), 0.995 * numbers.sum()))
    longest = max(1, int(lengths[place]))
    width = next(w for w in _WIDTHS if w * _BINS > longest)
    edges = np.arange(0, longest + width + 1, width)
    chosen, rejected = (
        np.histogram(np.minimum(values, longest), edges, weights=counts)[0].astype(int).tolist()
        for values, counts in sides
    )
    top = max(1, *chosen, *rejected)
    firsts = edges.tolist()
    return Lengths(
        kind=kind,
        pairs=tally.pairs,
        chosen_mean=_mean(tally.chosen),
        rejected_mean=_mean(tally.rejected),
        bins=tuple(
            (first, first + width - 1, a, b, a / top, b / top)
            for first, a, b in zip(firsts, chosen, rejected, strict=False)
        ),
        bare=sum(n for tokens, n in tally.chosen.items() if tokens <= BARE_TOKENS),
    )


def _weighted(counts: Counter[int]) -> tuple[Any, Any]:
    """Values in ascending order, and how often each is there."""
    values = sorted(counts)
    return np.array(values), np.array([counts[value] for value in values])


def _mean(counts: Counter[int]) -> float:
    return sum(value * count for value, count in counts.items()) / max(1, counts.total())


def _biases(kind: str, sources: Mapping[str, _Tally]) -> list[Bias]:
    """All sources together first, where there are several."""
    whole = [] if len(sources) == 1 else [_bias(kind, "all sources", _together(sources))]
    each = (_bias(kind, name or "(unnamed)", sources[name]) for name in sorted(sources))
    return [*whole, *each]


def _bias(kind: str, source: str, tally: _Tally) -> Bias:
    means = _mean(tally.chosen), _mean(tally.rejected)
    share = (means[0] - means[1]) / max(1.0, *means)
    longer, tied = (n / max(1, tally.pairs) for n in (tally.chosen_longer, tally.tied))
    return Bias(kind, source, tally.pairs, *means, share, longer, tied)


def _priors(counts: tuple[Counter[str], Counter[str]]) -> tuple[tuple[Prior, ...], ...]:
    chosen, rejected = counts
    letters = sorted(name for name in {*chosen, *rejected} if is_letter(name))
    found = []
    for family in (_YES_NO, letters):
        names = [name for name in family if chosen[name] or rejected[name]]
        pairs = sum(chosen[name] for name in names)
        if pairs:
            sides = ((name, chosen[name], rejected[name]) for name in names)
            found.append(tuple(Prior(n, a / pairs, b / pairs, a, b, pairs) for n, a, b in sides))
    return tuple(found)


def _count_answers(rows: pa.Table, counts: tuple[Counter[str], Counter[str]]) -> None:
    """Yes, no and letters, as the balance of answers has them; others have too many values."""
    told = rows.filter(
        pc.and_(pc.is_valid(rows["chosen_answer"]), pc.is_valid(rows["rejected_answer"]))
    )
    keys = {
        "chosen": told["chosen_answer"],
        "rejected": told["rejected_answer"],
        "options": pc.list_value_length(told["choices"]),
    }
    same = pa.table(keys).group_by([*keys], use_threads=False).aggregate([([], "count_all")])
    for row in same.to_pylist():
        names = common_answers(row["chosen"], row["rejected"], row["options"] or 0)
        if names is not None:
            for side, name in zip(counts, names, strict=True):
                side[name] += row["count_all"]
