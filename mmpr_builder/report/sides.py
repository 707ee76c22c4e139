"""Compares chosen and rejected over all pairs: lengths, and answers that one side has more often.

A trainer learns whatever tells the two sides apart. Where the chosen ones are longer, or say "yes"
more often, it learns that too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
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


Sums = Counter[tuple[str, str, int]]
"""(kind, source, a number of tokens or a sign) -> pairs."""


def read_sides(parts: Sequence[str]) -> Sides:
    """Compare the two sides over all pairs of these parts; images and texts are not read."""
    chosen, rejected, longer = Sums(), Sums(), Sums()
    answers: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for part in parts:
        for rows in tables.read_groups(part, _COLUMNS):
            sign = pc.sign(pc.subtract(rows["chosen_tokens"], rows["rejected_tokens"]))
            chosen.update(_counted(rows, "kind", "source", "chosen_tokens"))
            rejected.update(_counted(rows, "kind", "source", "rejected_tokens"))
            longer.update(_counted(rows.append_column("sign", sign), "kind", "source", "sign"))
            _count_answers(rows, answers)
    sources = sorted({key[:2] for key in chosen})
    kinds = [kind for kind in get_args(Kind) if any(kind == of for of, _ in sources)]
    lengths: list[Lengths] = []
    biases: list[Bias] = []
    for kind in kinds:
        named = [source for of, source in sources if of == kind]
        # All sources together first, where there are several.
        for source in [None, *named] if len(named) > 1 else named:
            counts = [_of(sums, kind, source) for sums in (chosen, rejected, longer)]
            biases.append(_bias(kind, source, *counts))
        lengths.append(_lengths(kind, _of(chosen, kind), _of(rejected, kind)))
    return Sides(tuple(lengths), tuple(biases), _priors(answers))


def _counted(rows: pa.Table, *names: str) -> Counter[Any]:
    """How often each combination of values of these columns is there."""
    same = rows.group_by(names, use_threads=False).aggregate([([], "count_all")]).to_pylist()
    return Counter({tuple(row[name] for name in names): row["count_all"] for row in same})


def _of(sums: Sums, kind: str, source: str | None = None) -> Counter[int]:
    """Number -> pairs of one kind, of one source or all."""
    found: Counter[int] = Counter()
    for (of, name, number), count in sums.items():
        if of == kind and source in (None, name):
            found[number] += count
    return found


def _lengths(kind: str, chosen: Counter[int], rejected: Counter[int]) -> Lengths:
    lengths, numbers = _weighted(chosen + rejected)
    # The longest of a thousand hardly shows, but would squeeze all others to the left.
    place = int(np.searchsorted(np.cumsum(numbers), 0.995 * numbers.sum()))
    longest = max(1, int(lengths[place]))
    width = next(w for w in _WIDTHS if w * _BINS > longest)
    edges = np.arange(0, longest + width + 1, width)
    left, right = (
        np.histogram(np.minimum(values, longest), edges, weights=counts)[0].astype(int).tolist()
        for values, counts in map(_weighted, (chosen, rejected))
    )
    top = max(1, *left, *right)
    return Lengths(
        kind=kind,
        pairs=chosen.total(),
        chosen_mean=_mean(chosen),
        rejected_mean=_mean(rejected),
        bins=tuple(
            (first, first + width - 1, a, b, a / top, b / top)
            for first, a, b in zip(edges.tolist(), left, right, strict=False)
        ),
        bare=sum(n for tokens, n in chosen.items() if tokens <= BARE_TOKENS),
    )


def _weighted(counts: Counter[int]) -> tuple[Any, Any]:
    """Values in ascending order, and how often each is there."""
    values = sorted(counts)
    return np.array(values), np.array([counts[value] for value in values])


def _mean(counts: Counter[int]) -> float:
    return sum(value * count for value, count in counts.items()) / max(1, counts.total())


def _bias(
    kind: str,
    source: str | None,
    chosen: Counter[int],
    rejected: Counter[int],
    signs: Counter[int],
) -> Bias:
    means, pairs = (_mean(chosen), _mean(rejected)), chosen.total()
    share = (means[0] - means[1]) / max(1.0, *means)
    name = "all sources" if source is None else source or "(unnamed)"
    return Bias(kind, name, pairs, *means, share, signs[1] / pairs, signs[0] / pairs)


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
    rows = pa.table(
        {
            "chosen": told["chosen_answer"],
            "rejected": told["rejected_answer"],
            "options": pc.list_value_length(told["choices"]),
        }
    )
    for (chosen, rejected, options), count in _counted(rows, *rows.column_names).items():
        names = common_answers(chosen, rejected, options or 0)
        if names is not None:
            for side, name in zip(counts, names, strict=True):
                side[name] += count
