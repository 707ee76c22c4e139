"""Comparing collections: tuples and intervals in order, lists and sets in any order.

`compare` compares two items; it is handed down, because an item may be a collection itself.
"""

from __future__ import annotations

from mmpr_builder.scoring.decision import Compare, Decision, all_of, match_unordered, no
from mmpr_builder.scoring.relation import Interval, named_value
from mmpr_builder.scoring.structure import Node


def each(left: tuple[str, ...], right: tuple[str, ...], compare: Compare) -> Decision:
    """Item by item, in order; both sides have one length."""
    pairs = zip(left, right, strict=True)
    return all_of((compare(a, b) for a, b in pairs), "structure")


def compare_brackets(node_p: Node, node_g: Node, compare: Compare) -> Decision:
    """Tuples and intervals: order and kind of bracket count."""
    if node_p.kind == "list" or node_g.kind == "list":
        if "()" not in (node_p.mark, node_g.mark):
            return no("structure", "a list against an interval")
        items_p, _ = _values(node_p)
        items_g, names_g = _values(node_g)
        # (1, 2) for "x = 1, y = 2", but no pair of coordinates for the two numbers 1 and 2
        if node_g.kind == "list" and not names_g:
            return no("structure", "a tuple against a list")
        if len(items_p) != len(items_g):
            return no("structure", f"{len(items_p)} items against {len(items_g)}")
        return each(items_p, items_g, compare)
    if node_p.mark != node_g.mark:
        return no("structure", f"brackets {node_p.mark} against {node_g.mark}")
    if len(node_p.items) != len(node_g.items):
        return no("structure", f"{len(node_p.items)} items against {len(node_g.items)}")
    return each(node_p.items, node_g.items, compare)


def _values(node: Node) -> tuple[tuple[str, ...], bool]:
    """(items without names, whether all had different ones); sorted by name then: x, y, z."""
    named = [named_value(item) for item in node.items]
    names = [name for name, _ in named if name is not None]
    distinct = len(set(names)) == len(named)
    if distinct:
        named.sort(key=lambda item: item[0] or "")
    return tuple(value for _, value in named), distinct


def compare_lists(node_p: Node, node_g: Node, compare: Compare) -> Decision:
    """In any order, with plus-minus written out; the names in `k = 45, n = 2` are compared too."""
    left, right = _written_out(node_p.items), _written_out(node_g.items)
    return match_unordered(left, right, compare, "structure")


def _written_out(items: tuple[str, ...]) -> tuple[str, ...]:
    out: list[str] = []
    for item in items:
        if item.count("\\pm") == 1:
            out += [item.replace("\\pm", "+").strip().removeprefix("+"), item.replace("\\pm", "-")]
        else:
            out.append(item)
    return tuple(out)


def compare_intervals(p: Interval, g: Interval, compare: Compare) -> Decision:
    """Both ends, and whether they belong to it; a named variable must be the same."""
    if p.name and g.name and p.name != g.name:
        return no("name", f"about {p.name}, the truth is about {g.name}")
    if (p.low_closed, p.high_closed) != (g.low_closed, g.high_closed):
        return no("structure", "an end belongs to one interval and not to the other")
    return each((p.low, p.high), (g.low, g.high), compare)
