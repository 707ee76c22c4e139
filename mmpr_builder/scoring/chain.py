r"""Working that an answer shows before its result.

    read_chain("61 + 35 = 96")               -> Chain("96", right=True)
    read_chain("(24 + 28 + 30)/3 = 27.3")    -> Chain("27.3", right=True), rounded as shown
    read_chain("61 + 35 = 97")               -> Chain("97", right=False)

Four operations on plain numbers, in exact fractions, by a grammar of our own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from mmpr_builder.scoring import units
from mmpr_builder.scoring.latex import CURRENCY
from mmpr_builder.scoring.number import NUMBER, Number, parse_number
from mmpr_builder.scoring.relation import split_relation

_MAX_CHARS, _MAX_TOKENS = 160, 60
_FRACTION = re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_TOKEN = re.compile(
    rf"\s*(?:(?P<money>[{CURRENCY}€£¥]?)\s?(?P<number>{NUMBER})"
    r"(?:\s?(?P<unit>[%°]|(?!x\b)[a-zA-Z]{1,12}(?:\^\{?[23]\}?)?|[\u3400-\u9fff]{1,4}))?"
    r"|(?P<op>\\times(?![a-z])|\\cdot(?![a-z])|\\div(?![a-z])|[-+*/x()]))"
)
_SHARE = re.compile(r"%\)?\s*(?:\\times|\\cdot|\\div|[*/x])|(?:\\times|\\cdot|\\div|[*/x])[^=]*%")
_SAME = {"\\times": "*", "\\cdot": "*", "x": "*", "\\div": "/"}


@dataclass(frozen=True, slots=True)
class Chain:
    """`result` is the last side as written; `right`: each side equals the next one, or that one is
    its rounding to the digits shown."""

    result: str
    right: bool


@dataclass(frozen=True, slots=True)
class _Side:
    value: Fraction
    alone: Number | None  # the side is this number and nothing else
    units: frozenset[tuple[units.Dimension, Fraction]]


def read_chain(text: str) -> Chain | None:
    """The result of a chain of sums; None for any other text. Expects `plain` text."""
    if "=" not in text and "\\approx" not in text:
        return None
    sides, operators = split_relation(text)
    if not operators or len(text) > _MAX_CHARS or not set(operators) <= {"=", "\\approx"}:
        return None
    chain = _read(sides, shares=False)
    if (chain is None or not chain.right) and _SHARE.search(text):
        return _read(sides, shares=True) or chain
    return chain


def _read(sides: tuple[str, ...], *, shares: bool) -> Chain | None:
    """`shares`: 20% is a fifth there, as in `360°×20%=72°`, and no unit."""
    found = [side for text in sides if (side := _read_side(text, shares=shares)) is not None]
    named = frozenset[tuple[units.Dimension, Fraction]]().union(*(side.units for side in found))
    if len(found) < len(sides) or len(named) > 1 or all(side.alone for side in found):
        return None
    return Chain(sides[-1], all(_leads_to(left, right) for left, right in pairwise(found)))


def evaluate(text: str) -> Fraction | None:
    """The value of a sum of plain numbers, or None: `2*(5/2)+1` is 6."""
    side = _read_side(text) if len(text) <= _MAX_CHARS else None
    return None if side is None or side.units else side.value


def _leads_to(left: _Side, right: _Side) -> bool:
    if left.value == right.value:
        return True
    if right.alone is None or right.alone.decimals is None:
        return False
    return abs(left.value - right.value) <= Fraction(1, 2 * 10**right.alone.decimals)


def _read_side(text: str, *, shares: bool = False) -> _Side | None:
    for _ in range(4):
        text = _FRACTION.sub(r"((\1)/(\2))", text)
    tokens: list[str | Fraction] = []
    named: set[tuple[units.Dimension, Fraction]] = set()
    number: Number | None = None
    at = 0
    while at < len(text.rstrip()) and len(tokens) <= _MAX_TOKENS:
        found = _TOKEN.match(text, at)
        if found is None:
            return None
        at = found.end()
        if found["op"]:
            tokens.append(_SAME.get(found["op"], found["op"]))
            continue
        number = parse_number(found["number"])
        sign = found["money"] or found["unit"]
        unit = units.parse_unit(sign) if sign else None
        known = unit is not None and (bool(unit.dimension) or units.is_generic(unit))
        if number is None or (sign and not known) or (found["money"] and found["unit"]):
            return None
        if shares and sign == "%":
            number, unit = Number(number.value / 100), None
        tokens.append(number.value)
        named |= {(unit.dimension, unit.factor)} if unit and unit.dimension else set()
    value, rest = _sum(tokens, 0)
    if value is None or rest != len(tokens) or len(tokens) > _MAX_TOKENS:
        return None
    return _Side(value, number if len(tokens) == 1 else None, frozenset(named))


_Part = tuple[Fraction | None, int]


def _sum(tokens: list[str | Fraction], at: int) -> _Part:
    total, at = _product(tokens, at)
    while total is not None and at < len(tokens) and tokens[at] in ("+", "-"):
        sign = 1 if tokens[at] == "+" else -1
        part, at = _product(tokens, at + 1)
        total = None if part is None else total + sign * part
    return total, at


def _product(tokens: list[str | Fraction], at: int) -> _Part:
    total, at = _factor(tokens, at)
    while total is not None and at < len(tokens) and tokens[at] in ("*", "/"):
        divides = tokens[at] == "/"
        part, at = _factor(tokens, at + 1)
        if part is None or (divides and part == 0):
            return None, at
        total = total / part if divides else total * part
    return total, at


def _factor(tokens: list[str | Fraction], at: int) -> _Part:
    """A number, a sum in brackets, or one of these with a sign."""
    if at >= len(tokens):
        return None, at
    token = tokens[at]
    if isinstance(token, Fraction):
        return token, at + 1
    if token == "-":
        part, at = _factor(tokens, at + 1)
        return (None if part is None else -part), at
    if token != "(":
        return None, at
    part, at = _sum(tokens, at + 1)
    closed = at < len(tokens) and tokens[at] == ")"
    return (part, at + 1) if closed else (None, at)
