"""The figures of the report that come from a build's counts (`run.json`), ready to be drawn.

A flow diagram shows at the left what came in and at the right what became of it. Every column of
nodes stands for the same items, so their heights compare.

    read 240 ─┬─ truth known 163 ─┬─ gave pairs 233
              └─ not known    77 ─┴─ all_incorrect 5 …
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from mmpr_builder.pairing.unpaired import WHY
from mmpr_builder.records import Kind, Outcome

WIDTH = 860
_HEIGHT = 180
_GAP = 14
LABEL = 180
_LEAST = 1.5
"""What is there is drawn, however little it is."""
_TWO_LINES = 18.0
"""A label is as high as two lines of small print."""
_MOST_REASONS = 6

_LABELS = {
    "read": "questions read",
    "with_truth": "truth known",
    "without_truth": "truth not known",
    "unreadable": "not sampled",
    "with_pairs": "gave pairs",
    "other": "other reasons",
    "sampled": "responses sampled",
    "no_answer": "no final answer",
    "no_truth": "truth not known",
    "chosen": "chosen in a pair",
    "rejected": "rejected in a pair",
    "unused": "in no pair",
}
TONES = {
    "correct": "good",
    "incorrect": "bad",
    "no_answer": "third",
    "undecided": "none",
    "no_truth": "fourth",
    "correctness": "first",
    "format": "third",
    "truncated": "none",
    "dropout_ntp": "fourth",
    "step": "good",
    "judged": "second",
    "stop": "good",
    "length": "bad",
    "abort": "third",
    "read": "first",
    "sampled": "first",
    "with_truth": "first",
    "without_truth": "fourth",
    "with_pairs": "good",
    "chosen": "good",
    "unused": "none",
}
"""The colour of an outcome, kind, finish reason or node; what is not listed is a reason: "bad"."""


@dataclass(frozen=True, slots=True)
class Node:
    """A bar of one column; `tone` picks its colour."""

    label: str
    count: int
    tone: str
    x: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Ribbon:
    """What flows from one node into one of the next column; `path` is an SVG outline."""

    title: str
    tone: str
    path: str


@dataclass(frozen=True, slots=True)
class Flow:
    """A whole diagram, `WIDTH` wide and `height` high."""

    nodes: tuple[Node, ...]
    ribbons: tuple[Ribbon, ...]
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """A labelled bar, or a part of a stacked one; `share` (0 to 1) of the longest, or of all."""

    label: str
    count: int
    share: float
    note: str = ""
    tone: str = "first"


Links = Mapping[tuple[str, str], int]
"""(name of a node, name of a node in the next column) -> items."""


def seed_flow(counts: Mapping[str, Any]) -> Flow:
    """Questions: read -> is the truth known -> gave pairs, or the reason why not."""
    fates = counts["fates"]
    groups = [g for g in ("with_truth", "without_truth", "unreadable") if g in fates]
    reasons: Counter[str] = Counter()
    for group in groups:
        reasons.update({r: n for r, n in fates[group].items() if r != "with_pairs"})
    named = {"with_pairs", *(reason for reason, _ in reasons.most_common(_MOST_REASONS))}
    first = {("read", group): sum(fates[group].values()) for group in groups}
    second: Counter[tuple[str, str]] = Counter()
    for end in ("with_pairs", *(reason for reason, _ in reasons.most_common())):
        for group in groups:
            if end in fates[group]:
                second[group, end if end in named else "other"] += fates[group][end]
    return layout([first, second], counts["seeds"]["read"])


def response_flow(counts: Mapping[str, Any]) -> Flow:
    """Responses: sampled -> verdict -> the side they stand on in a pair."""
    uses = counts["uses"]
    outcomes = [outcome for outcome in (*get_args(Outcome), "no_truth") if outcome in uses]
    first = {("sampled", outcome): sum(uses[outcome].values()) for outcome in outcomes}
    second = {
        (outcome, side): uses[outcome][side]
        for side in ("chosen", "rejected", "unused")
        for outcome in outcomes
        if uses[outcome].get(side)
    }
    return layout([first, second], counts["responses"]["sampled"])


def layout(links: Sequence[Links], total: int) -> Flow:
    """Place the nodes of `len(links) + 1` columns, in the order in which links name them."""
    columns: list[Counter[str]] = [Counter() for _ in range(len(links) + 1)]
    for i, between in enumerate(links):
        for (left, right), count in between.items():
            if i == 0:
                columns[0][left] += count
            columns[i + 1][right] += count
    scale = _HEIGHT / max(1, total)
    step = (WIDTH - LABEL) / max(1, len(columns) - 1)
    nodes: dict[tuple[int, str], Node] = {}
    for i, column in enumerate(columns):
        y = 0.0
        for name, count in column.items():
            height = max(_LEAST, count * scale)
            label, tone = _LABELS.get(name, name), TONES.get(name, "bad")
            nodes[i, name] = Node(label, count, tone, i * step, y, height)
            y += max(height, _TWO_LINES) + _GAP
    ribbons = [
        ribbon for i, between in enumerate(links) for ribbon in _ribbons(i, between, nodes, scale)
    ]
    height = max((node.y + max(node.height, _TWO_LINES) for node in nodes.values()), default=0.0)
    return Flow(tuple(nodes.values()), tuple(ribbons), height)


def _ribbons(
    column: int, between: Links, nodes: Mapping[tuple[int, str], Node], scale: float
) -> list[Ribbon]:
    used: Counter[tuple[int, str]] = Counter()
    found = []
    for (left, right), count in between.items():
        ends = (column, left), (column + 1, right)
        a, b = (nodes[end] for end in ends)
        y1, y2 = (nodes[end].y + used[end] * scale for end in ends)
        used.update(dict.fromkeys(ends, count))
        thick = max(_LEAST, count * scale)
        x1, x2 = a.x + LABEL, b.x  # Behind the label, which is then clear of what flows.
        bend = (x1 + x2) / 2
        path = (
            f"M{x1:.1f},{y1:.1f} C{bend:.1f},{y1:.1f} {bend:.1f},{y2:.1f} {x2:.1f},{y2:.1f}"
            f" V{y2 + thick:.1f} C{bend:.1f},{y2 + thick:.1f} {bend:.1f},{y1 + thick:.1f}"
            f" {x1:.1f},{y1 + thick:.1f} Z"
        )
        found.append(Ribbon(f"{a.label} → {b.label}: {count:,}", b.tone, path))
    return found


def drop_bars(drops: Mapping[str, Mapping[str, int]]) -> list[Bar]:
    """Reasons why seeds gave no pair, the most frequent first; `note` says it in words, or
    names the stage."""
    rows = [(n, reason, stage) for stage, by in drops.items() for reason, n in by.items()]
    most = max((n for n, _, _ in rows), default=1)
    return [
        Bar(reason, n, n / most, WHY.get(reason, stage), "bad")
        for n, reason, stage in sorted(rows, key=lambda row: (-row[0], row[1], row[2]))
    ]


def rule_bars(rules: Mapping[str, Mapping[str, int]]) -> list[Bar]:
    """Which rule decided how many responses, outcome by outcome; `note` is the outcome."""
    most = max((n for by in rules.values() for n in by.values()), default=1)
    return [
        Bar(rule or "(none)", n, n / most, outcome.replace("_", " "), TONES[outcome])
        for outcome in get_args(Outcome)
        for rule, n in rules.get(outcome, {}).items()
    ]


def pass_rate_bars(rates: Mapping[str, int], samples: int = 0) -> list[Bar]:
    """Seeds by their share of right responses: none, equal parts in between, all.

    Pairs come from what lies between none and all. With `samples` decided responses each, the parts
    hold equally many of the shares that there can be (of 8: each its own), so that none is empty
    by the way it is cut; otherwise they are tenths.
    """
    parts = next((k for k in range(10, 4, -1) if samples % k == 0), 10) if samples else 10
    alone = samples == parts or 1 < samples < 5
    parts = samples - 1 if alone else parts
    uppers = [i / samples if alone else i / parts for i in range(1, parts + 1)]
    labels = ["0", *("<100" if u == 1 else f"≤{100 * u:.3g}" for u in uppers), "100"]
    counts = [0] * len(labels)
    for text, n in rates.items():
        rate = float(text)
        # Rates are rounded to thousandths.
        inner = sum(rate > upper + 0.0006 for upper in uppers[:-1])
        counts[0 if rate == 0 else len(labels) - 1 if rate >= 1 else 1 + inner] += n
    most = max(1, *counts)
    return [Bar(label, n, n / most) for label, n in zip(labels, counts, strict=True)]


STACKED: Mapping[str, tuple[str, ...]] = {
    "outcomes": get_args(Outcome),
    "kinds": get_args(Kind),
    "finish_reasons": ("stop", "length", "abort"),
}
"""Counts by source that are drawn as divided bars, and which of their names come first."""


def stacks(counts: Mapping[str, Any], table: str) -> list[tuple[str, list[Bar]]]:
    """A divided bar for all sources together, and one for each source that has any of `table`."""
    rows = [
        (name or "(unnamed)", numbers[table])
        for name, numbers in counts["sources"].items()
        if sum(numbers[table].values())
    ]
    if len(rows) > 1:
        whole: Counter[str] = Counter()
        for _, numbers in rows:
            whole.update(numbers)
        rows.insert(0, ("all sources", whole))
    return [(label, _divided(numbers, STACKED[table])) for label, numbers in rows]


def _divided(numbers: Mapping[str, int], order: Sequence[str]) -> list[Bar]:
    total = sum(numbers.values())
    return [
        Bar(name.replace("_", " "), n, n / total, tone=TONES.get(name, "none"))
        for name in (*order, *sorted(numbers.keys() - set(order)))
        if (n := numbers.get(name, 0))
    ]
