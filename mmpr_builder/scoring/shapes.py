"""Comparing collections: tuples and intervals in order, lists and sets in any order.

`compare` compares two items; it is handed down, because an item may be a collection itself.
"""

from __future__ import annotations

import re
from fractions import Fraction

from mmpr_builder.scoring.decision import Compare, Decision, all_of, match_unordered, no, unknown
from mmpr_builder.scoring.quantity import parse_quantity
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
        decision = each(items_p, items_g, compare)
        if decision.equal and len({_base(name) for name in names_of(node_p, node_g)}) == 1:
            return unknown("structure", "x_1 and x_2 may be coordinates or solutions")
        return decision
    if node_p.mark != node_g.mark:
        return no("structure", f"brackets {node_p.mark} against {node_g.mark}")
    if len(node_p.items) != len(node_g.items):
        return no("structure", f"{len(node_p.items)} items against {len(node_g.items)}")
    return each(node_p.items, node_g.items, compare)


def names_of(*nodes: Node) -> list[str]:
    """The names of all named items."""
    found = (named_value(item)[0] for node in nodes for item in node.items)
    return [name for name in found if name is not None]


def _base(name: str) -> str:
    return _SUBSCRIPT.sub("", name)


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
    bases = {_base(name) for name in names_of(node_g)}
    if len(bases) == len(right) > 1 and len(left) == len(right) and not names_of(node_p):
        values = tuple(named_value(item)[1] for item in right)  # x=2, y=7: 2, 7 but not 7, 2
        in_order = each(left, values, compare)
        any_order = match_unordered(left, values, compare, "structure")
        if in_order.equal is False and any_order.equal is not False:
            return unknown("structure", "which value belongs to which name is not said")
        return in_order

    def same_item(a: str, b: str) -> Decision:
        (name_a, value_a), (name_b, value_b) = named_value(a), named_value(b)
        if not name_a or not name_b or name_a == name_b:
            return compare(a, b)
        if _base(name_a) != _base(name_b):
            return no("name", f"{name_a} is not {name_b}")
        return compare(value_a, value_b)  # x_1 and x_2 only count the solutions

    return match_unordered(left, right, same_item, "structure")


_SUBSCRIPT = re.compile(r"(?:_\{?[0-9]\}?|(?<=\A[a-z])[0-9])\Z")  # x_1, x_{1}, x1


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


def compare_with_signs(
    left: tuple[Node, str], right: tuple[Node, str], compare: Compare
) -> Decision:
    r"""`(\pm 1, 0)` against `(1, 0), (-1, 0)`."""
    p, g = (
        Node("list", (text,)) if node.kind == "bracket" else node for node, text in (left, right)
    )
    return compare_lists(p, g, compare)


_JOIN = re.compile(r"(?<![A-Za-z])(?:and|or)(?![A-Za-z])")


def joined_otherwise(p: str, g: str, node_g: Node) -> bool:
    """One side says "and", the other "or", of more than numbers: of solutions that are numbers
    both say the same."""
    joins = [set(_JOIN.findall(text)) for text in (p, g)]
    if node_g.kind == "union" and re.search(r"[<>]|\\(?:leq|geq)(?![a-zA-Z])", p):
        joins[1].add("or")  # x < -2 and x > 2 is no number at all
    if not all(joins) or joins[0] & joins[1]:
        return False
    return any(parse_quantity(named_value(item)[1]) is None for item in node_g.items)


def single_item(node_p: Node, node_g: Node) -> tuple[str, str] | None:
    r"""`\{5\}` against `5`; but the set of the empty set is not the empty set."""
    if "\\emptyset" in (*node_p.items, *node_g.items):
        return None
    if node_p.kind == "set" and len(node_p.items) == 1 and node_g.kind == "expression":
        return node_p.items[0], node_g.items[0]
    if node_g.kind == "set" and len(node_g.items) == 1 and node_p.kind == "expression":
        return node_p.items[0], node_g.items[0]
    return None


def are_close(sides: tuple[str, ...]) -> bool:
    """Whether all plain numbers of a chain with \\approx may be roundings of one value."""
    found = [parse_quantity(side) for side in sides]
    numbers = [q.number for q in found if q is not None and q.number is not None]
    decimals = min((n.decimals for n in numbers if n.decimals is not None), default=0)
    values = [number.value for number in numbers]
    return not values or max(values) - min(values) <= Fraction(1, 10**decimals)
