"""The figures of the report that come from a build's counts (`run.json`), ready to be drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from mmpr_builder.records import Kind, Outcome

# ---- flows
# A flow diagram of counts: what came in at the left, what became of it at the right.
#
#     read 240 ─┬─ truth known 163 ─┬─ gave pairs 233
#               └─ not known    77 ─┴─ all_incorrect 5 …
#
# Every column of nodes stands for the same items, so heights can be compared across them.


WIDTH = 860
_HEIGHT = 180
_GAP = 14
_NODE = 12
_LABEL = 190
_LEAST = 1.5
"""What is there is drawn, however little it is."""


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


Links = Mapping[tuple[str, str], int]
"""(name of a node, name of a node in the next column) -> items."""


def layout(
    links: Sequence[Links], labels: Mapping[str, str], tones: Mapping[str, str], total: int
) -> Flow:
    """Place the nodes of `len(links) + 1` columns, in the order in which links name them."""
    columns = _columns(links)
    scale = _HEIGHT / max(1, total)
    step = (WIDTH - _LABEL - _NODE) / max(1, len(columns) - 1)
    nodes: dict[tuple[int, str], Node] = {}
    for i, column in enumerate(columns):
        y = 0.0
        for name, count in column.items():
            height = max(_LEAST, count * scale)
            nodes[i, name] = Node(
                labels.get(name, name), count, tones.get(name, "none"), i * step, y, height
            )
            # A label is as high as two lines of small print.
            y += max(height, 18.0) + _GAP
    ribbons = [
        ribbon for i, between in enumerate(links) for ribbon in _ribbons(i, between, nodes, scale)
    ]
    height = max((node.y + max(node.height, 18.0) for node in nodes.values()), default=0.0)
    return Flow(tuple(nodes.values()), tuple(ribbons), height)


def _columns(links: Sequence[Links]) -> list[dict[str, int]]:
    columns: list[dict[str, int]] = [{} for _ in range(len(links) + 1)]
    for i, between in enumerate(links):
        for (left, right), count in between.items():
            if i == 0:
                columns[0][left] = columns[0].get(left, 0) + count
            columns[i + 1][right] = columns[i + 1].get(right, 0) + count
    return columns


def _ribbons(
    column: int, between: Links, nodes: Mapping[tuple[int, str], Node], scale: float
) -> list[Ribbon]:
    left_used: dict[str, float] = {}
    right_used: dict[str, float] = {}
    found = []
    for (left, right), count in between.items():
        a, b = nodes[column, left], nodes[column + 1, right]
        thick = max(_LEAST, count * scale)
        y1 = a.y + left_used.get(left, 0.0)
        y2 = b.y + right_used.get(right, 0.0)
        left_used[left] = left_used.get(left, 0.0) + count * scale
        right_used[right] = right_used.get(right, 0.0) + count * scale
        x1, x2 = a.x + _NODE, b.x
        bend = (x1 + x2) / 2
        path = (
            f"M{x1:.1f},{y1:.1f} C{bend:.1f},{y1:.1f} {bend:.1f},{y2:.1f} {x2:.1f},{y2:.1f}"
            f" V{y2 + thick:.1f} C{bend:.1f},{y2 + thick:.1f} {bend:.1f},{y1 + thick:.1f}"
            f" {x1:.1f},{y1 + thick:.1f} Z"
        )
        found.append(Ribbon(f"{a.label} → {b.label}: {count:,}", b.tone, path))
    return found


OUTCOME_TONES = {
    "correct": "good",
    "incorrect": "bad",
    "no_answer": "third",
    "undecided": "none",
    "no_truth": "fourth",
}
KIND_TONES = {
    "correctness": "first",
    "format": "third",
    "truncated": "none",
    "dropout_ntp": "fourth",
}
_MOST_REASONS = 6


@dataclass(frozen=True, slots=True)
class Bar:
    """A labelled bar; `share` (0 to 1) is its length beside the longest one."""

    label: str
    count: int
    share: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """One colour of a stacked bar; `share` (0 to 1) of the whole bar."""

    name: str
    count: int
    share: float
    tone: str


@dataclass(frozen=True, slots=True)
class Stack:
    """A bar of 100 %, divided; `total` is what it stands for."""

    label: str
    total: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class SourceCost:
    """What a source cost and gave; `tokens_per_pair` is None where it gave no pair."""

    label: str
    seeds: int
    with_pairs: int
    pairs: int
    tokens: int
    tokens_per_pair: float | None
    pass_rates: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Continuations of one ratio: how many were made, fit to be rejected, and are in pairs."""

    keep: str
    made: int
    not_made: int
    """Responses that were to be continued there and were not."""
    fit: int
    pairs: int
    unfit: tuple[tuple[str, int], ...]


def drop_bars(drops: Mapping[str, Mapping[str, int]]) -> list[Bar]:
    """Reasons why seeds gave no pair, the most frequent first."""
    rows = [(n, reason, stage) for stage, by in drops.items() for reason, n in by.items()]
    most = max((n for n, _, _ in rows), default=1)
    return [
        Bar(label=reason, count=n, share=n / most, note=stage)
        for n, reason, stage in sorted(rows, key=lambda row: (-row[0], row[1], row[2]))
    ]


def ratio_rows(ratios: Mapping[str, Mapping[str, Any]]) -> list[Ratio]:
    """What DropoutNTP gave at each ratio that was asked for, in rising order."""
    return [
        Ratio(
            keep=f"{100 * float(keep):g} %",
            made=at["made"],
            not_made=at.get("not_made", 0),  # Earlier versions did not count them.
            fit=at["fit"],
            pairs=at["pairs"],
            unfit=tuple(at["unfit"].items()),
        )
        for keep, at in ratios.items()
    ]


def pass_rate_bars(rates: Mapping[str, int]) -> list[Bar]:
    """Seeds by their share of right responses: none, nine tenths in between, all.

    Pairs come from what lies between none and all.
    """
    labels = ["0", *(f"–{upper}" for upper in range(10, 100, 10)), "–99", "100"]
    counts = [0] * len(labels)
    for text, n in rates.items():
        rate = float(text)
        place = 0 if rate == 0 else len(labels) - 1 if rate >= 1 else 1 + int(rate * 10 - 1e-9)
        counts[place] += n
    most = max(1, *counts)
    return [Bar(label, n, n / most) for label, n in zip(labels, counts, strict=True)]


def source_costs(sources: Mapping[str, Mapping[str, Any]]) -> list[SourceCost]:
    """A row per source, in the order of their names."""
    return [
        SourceCost(
            label=name or "(unnamed)",
            seeds=numbers["seeds"],
            with_pairs=numbers["with_pairs"],
            pairs=numbers["pairs"],
            tokens=numbers["tokens"],
            tokens_per_pair=numbers["tokens"] / numbers["pairs"] if numbers["pairs"] else None,
            pass_rates=tuple(pass_rate_bars(numbers["pass_rates"])),
        )
        for name, numbers in sources.items()
    ]


def stacks_by_source(
    counts: Mapping[str, Any], table: str, order: Sequence[str], tones: Mapping[str, str]
) -> list[Stack]:
    """One divided bar for all sources together and one for each that has any of it.

    `table` is "outcomes", "finish_reasons" or "kinds"; names in `order` come first.
    """
    found = []
    for label, numbers in counts["sources"].items():
        if sum(numbers[table].values()):
            found.append(_stack(label or "(unnamed)", numbers[table], order, tones))
    if len(found) > 1:
        whole: Counter[str] = Counter()
        for numbers in counts["sources"].values():
            whole.update(numbers[table])
        found.insert(0, _stack("all sources", whole, order, tones))
    return found


def outcome_stacks(counts: Mapping[str, Any]) -> list[Stack]:
    return stacks_by_source(counts, "outcomes", get_args(Outcome), OUTCOME_TONES)


def kind_stacks(counts: Mapping[str, Any]) -> list[Stack]:
    return stacks_by_source(counts, "kinds", get_args(Kind), KIND_TONES)


def finish_stacks(counts: Mapping[str, Any]) -> list[Stack]:
    tones = {"stop": "good", "length": "bad", "abort": "third"}
    return stacks_by_source(counts, "finish_reasons", ("stop", "length", "abort"), tones)


def _stack(
    label: str, numbers: Mapping[str, int], order: Sequence[str], tones: Mapping[str, str]
) -> Stack:
    total = max(1, sum(numbers.values()))
    names = [name for name in order if numbers.get(name)]
    names += sorted(name for name in numbers if name not in order and numbers[name])
    parts = (
        Part(name.replace("_", " "), numbers[name], numbers[name] / total, tones.get(name, "none"))
        for name in names
    )
    return Stack(label, sum(numbers.values()), tuple(parts))


def rule_bars(rules: Mapping[str, Mapping[str, int]]) -> dict[str, list[Bar]]:
    """Which rule decided how many responses, by outcome."""
    most = max((n for by in rules.values() for n in by.values()), default=1)
    return {
        outcome: [Bar(rule or "(none)", n, n / most) for rule, n in rules[outcome].items()]
        for outcome in get_args(Outcome)
        if outcome in rules
    }


def seed_flow(counts: Mapping[str, Any]) -> Flow:
    """Questions: read -> is the truth known -> gave pairs, or the reason why not."""
    fates = counts["fates"]
    groups = [g for g in ("with_truth", "without_truth", "unreadable") if g in fates]
    reasons: Counter[str] = Counter()
    for group in groups:
        reasons.update({r: n for r, n in fates[group].items() if r != "with_pairs"})
    named = {reason for reason, _ in reasons.most_common(_MOST_REASONS)}
    first = {("read", group): sum(fates[group].values()) for group in groups}
    second: dict[tuple[str, str], int] = {}
    for fate in ["with_pairs", *(r for r, _ in reasons.most_common()), "other"]:
        for group in groups:
            for reason, n in fates[group].items():
                shown = reason if reason in named or reason == "with_pairs" else "other"
                if shown == fate:
                    second[group, fate] = second.get((group, fate), 0) + n
    labels = {
        "read": "questions read",
        "with_truth": "truth known",
        "without_truth": "truth not known",
        "unreadable": "not sampled",
        "with_pairs": "gave pairs",
        "other": "other reasons",
    }
    tones = {"read": "first", "with_truth": "first", "without_truth": "fourth"}
    tones |= {"with_pairs": "good", "unreadable": "bad"}
    tones |= dict.fromkeys([*named, "other"], "bad")
    return layout([first, second], labels, tones, counts["seeds"]["read"])


def response_flow(counts: Mapping[str, Any]) -> Flow:
    """Responses: sampled -> verdict -> the side they stand on in a pair."""
    uses = counts["uses"]
    outcomes = [outcome for outcome in OUTCOME_TONES if outcome in uses]
    first = {("sampled", outcome): sum(uses[outcome].values()) for outcome in outcomes}
    sides = ("chosen", "rejected", "unused")
    second = {
        (outcome, side): uses[outcome][side]
        for side in sides
        for outcome in outcomes
        if uses[outcome].get(side)
    }
    labels = {
        "sampled": "responses sampled",
        "no_answer": "no final answer",
        "no_truth": "truth not known",
        "chosen": "chosen in a pair",
        "rejected": "rejected in a pair",
        "unused": "in no pair",
    }
    tones = {**OUTCOME_TONES, "sampled": "first", "chosen": "good", "rejected": "bad"}
    return layout([first, second], labels, tones, counts["responses"]["sampled"])
