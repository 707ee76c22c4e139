"""What one comparison says: equal, different, or not known (`equal=None`), and which rule said so.

A decided "no" is final: no later rule overrules it. `None` is kept apart from "no" all the way up,
because an answer that could not be judged belongs on neither side of a pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decision:
    """`equal` is True, False, or None (undecided); `rule` names what decided."""

    equal: bool | None
    rule: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """A comparison left to the symbolic worker; both sides are screened, canonical LaTeX.

    `kind` "expression": each side is (latex,). "relation": each side is (left, operator, right).
    """

    kind: str
    predicted: tuple[str, ...]
    gold: tuple[str, ...]


Symbolic = Callable[[Query], Decision]
"""Answers a `Query`: the pool of killable workers in a build, a plain function in tests."""

Compare = Callable[[str, str], Decision]


def yes(rule: str, reason: str = "") -> Decision:
    return Decision(True, rule, reason)


def no(rule: str, reason: str = "") -> Decision:
    return Decision(False, rule, reason)


def unknown(rule: str, reason: str = "") -> Decision:
    return Decision(None, rule, reason)


def all_of(decisions: Iterable[Decision], rule: str) -> Decision:
    """Equal if all are; one "no" decides at once; else what is not known stays not known."""
    seen: list[Decision] = []
    for decision in decisions:
        if decision.equal is False:
            return decision
        seen.append(decision)
    return next((decision for decision in seen if decision.equal is None), yes(rule))


def any_of(decisions: Iterable[Decision], otherwise: Decision) -> Decision:
    """Equal if one is; else undecided if one is; else the first "no" (`otherwise` for none)."""
    seen: list[Decision] = []
    for decision in decisions:
        if decision.equal:
            return decision
        seen.append(decision)
    return next((one for one in seen if one.equal is None), seen[0] if seen else otherwise)


def match_unordered(
    left: tuple[str, ...], right: tuple[str, ...], compare: Compare, rule: str
) -> Decision:
    """Equal as multisets, pairing greedily; both sides must be of one length.

    Greedy is enough where `compare` is an equivalence. The first pass takes decided matches only,
    so that an undecided comparison never hides a partner that fits for certain.
    """
    if len(left) != len(right):
        return no(rule, f"{len(left)} items against {len(right)}")
    rest = list(right)
    open_one: Decision | None = None
    for item in left:
        decisions = [compare(item, other) for other in rest]
        hit = next((i for i, d in enumerate(decisions) if d.equal), None)
        if hit is None:
            hit = next((i for i, d in enumerate(decisions) if d.equal is None), None)
            if hit is None:
                return no(rule, f"nothing in the other side equals {item[:40]!r}")
            open_one = open_one or decisions[hit]
        del rest[hit]
    return open_one or yes(rule)
