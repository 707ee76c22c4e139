r"""Steps that lead to an answer, each a statement of its own.

read_steps(r"2x=74 \to x=37")     -> Steps("x=37", proven=True)
read_steps("3x=15, x=5")          -> Steps("x=5", proven=True)
read_steps("x=1, x=5")            -> None, two solutions
read_steps(r"x^2=9 \to x=3")      -> Steps("x=3", proven=False)

Proven means: each step before the last is linear in its one letter and says the same as the last.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from mmpr_builder.scoring.chain import evaluate
from mmpr_builder.scoring.number import parse_number
from mmpr_builder.scoring.relation import split_relation

_MAX_CHARS, _MAX_STEPS = 200, 6
_ARROW = re.compile(
    r"\s*[,;，；]?\s*(?:\\(?:Rightarrow|implies|Longrightarrow|to|rightarrow|longrightarrow|therefore"
    r"|iff|Leftrightarrow)(?![a-zA-Z])|=>|∴|\b(?:and\s+)?(?:so|thus|hence|therefore)\b"
    r"|解得|可得|所以|因此)\s*[,，]?\s*"
)
_COMMA = re.compile(r"\s*[,;，；]\s*(?:得|则|即)?\s*")
_LETTER = re.compile(r"(?<![A-Za-z\\])[a-zA-Z](?![A-Za-z])")
_LAST = re.compile(
    r"(?P<name>[a-zA-Z])\s*(?P<op>=|<|>|\\leq(?![a-z])|\\geq(?![a-z]))\s*(?P<value>\S.*)\Z"
)


@dataclass(frozen=True, slots=True)
class Steps:
    """`last` is the statement at the end; `proven`: the ones before it say the same."""

    last: str
    proven: bool


def read_steps(text: str) -> Steps | None:
    """None where a text is not several statements, or a list of which one does not follow."""
    if len(text) > _MAX_CHARS or not re.search(r"[=<>]|\\[lg]eq", text):
        return None
    arrows = [part.strip() for part in _ARROW.split(text)]
    parts = arrows if len(arrows) > 1 else [part.strip() for part in _COMMA.split(text)]
    parts = [part for part in parts if part] if arrows[0] else parts
    if not 1 < len(parts) <= _MAX_STEPS or not all(split_relation(part)[1] for part in parts):
        return None
    found = [_agrees(part, parts[-1]) for part in parts[:-1]]
    proven = all(found)
    return Steps(parts[-1], proven) if proven or len(arrows) > 1 else None


def _agrees(step: str, last: str) -> bool | None:
    """Whether a step says the same as the last one; None where it is not linear in its letter."""
    found = _LAST.match(last)
    end = parse_number(found["value"]) if found else None
    if found is None or end is None:
        return None
    sides, operators = split_relation(step)
    letters = {letter for side in sides for letter in _LETTER.findall(side)}
    if len(operators) != 1 or letters != {found["name"]}:
        return None
    at = [end.value, end.value + 1, end.value - 1]
    differences = [_difference(sides, found["name"], value) for value in at]
    here, above, below = differences
    if here is None or above is None or below is None:
        return None
    if above - here != here - below or above == here:
        return None
    operator = found["op"]
    return all(
        _holds(difference, operators[0]) == _holds(value - end.value, operator)
        for difference, value in zip(differences, at, strict=True)
        if difference is not None
    )


def _holds(difference: Fraction, operator: str) -> bool | None:
    """Whether two sides that differ by so much stand in a relation."""
    return {
        "=": difference == 0,
        "<": difference < 0,
        ">": difference > 0,
        "\\leq": difference <= 0,
        "\\geq": difference >= 0,
    }.get(operator)


def _difference(sides: tuple[str, ...], name: str, value: Fraction) -> Fraction | None:
    left, right = (evaluate(_put_in(side, name, value)) for side in sides)
    return None if left is None or right is None else left - right


def _put_in(side: str, name: str, value: Fraction) -> str:
    """`2x+1` at 5/2 as `2*(5/2)+1`."""
    side = re.sub(rf"(?<=[0-9)}}])\s*(?=(?:{name}(?![a-zA-Z])|\())", "*", side)
    return re.sub(rf"(?<![A-Za-z\\]){name}(?![A-Za-z])", f"({value})", side)
