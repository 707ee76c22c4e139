"""A flow diagram of counts: what came in at the left, what became of it at the right.

    read 240 ─┬─ truth known 163 ─┬─ gave pairs 233
              └─ not known    77 ─┴─ all_incorrect 5 …

Every column of nodes stands for the same items, so heights can be compared across them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
