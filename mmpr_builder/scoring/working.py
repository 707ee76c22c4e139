r"""What stands before the last sign of equality where only the value behind it is the answer.

without_unit_brackets("2\times (8+5)=26(厘米)")  -> "2\times (8+5)=26 厘米"
without_sum(r"1+2+\ldots +100=5050")             -> "5050 = 5050", sum and claim
without_left_side(r"A\cap B=\{3,1\}")            -> r"\{3,1\}"
"""

from __future__ import annotations

import re
from itertools import pairwise

from mmpr_builder.scoring.decision import no
from mmpr_builder.scoring.latex import compact, plain
from mmpr_builder.scoring.quantity import Quantity, compare_quantities, parse_quantity
from mmpr_builder.scoring.relation import is_name, split_relation
from mmpr_builder.scoring.structure import bracketed, condition_of_set
from mmpr_builder.scoring.units import is_generic, parse_unit

_UNIT_LAST = re.compile(r"(?P<chain>.*=.*[0-9}])\s*\((?P<unit>[^()=0-9]{1,12})\)\Z", re.DOTALL)
_SUM = re.compile(r"-?[0-9]{1,6}(?:\+[0-9]{1,6}){1,5}\+\\ldots\+[0-9]{1,6}\Z")
_BARE = re.compile(r"\\(?:vec|overrightarrow|overline|bar)(?![a-zA-Z])|[{}\s$]")
_COMBINED = re.compile(
    r"[0-9]*[a-z](?:[-+][0-9]*[a-z])+(?![a-z])|[A-Z](?:\\(?:cap|cup|setminus)[A-Z])+"
)
_MEASURE = re.compile(
    r"(?:\\frac\{[14]\}\{[23]\})?2?\\pi(?:[rRldhab](?:\^\{?[23]\}?)?){1,3}\Z|\\sigma\^\{?2\}?\Z"
)
_VARIANCE = re.compile(r"[sS]\s*\^\s*\{?2\}?\Z")


def without_unit_brackets(text: str) -> str:
    """The unit that stands in brackets behind a chain belongs to its last value."""
    found = _UNIT_LAST.match(text) if text.endswith(")") and "=" in text else None
    unit = parse_unit(found["unit"]) if found else None
    if found is None or unit is None or not (unit.dimension or is_generic(unit)):
        return text
    return f"{found['chain']} {found['unit'].strip()}"


def without_sum(text: str) -> str | None:
    r"""A sum with an ellipsis as its value, before what it is said to be; None for anything else.

    Only sums with a common difference are known: `1+3+\ldots+9` is 25.
    """
    sides, operators = split_relation(text)
    left = compact(sides[0]).replace(" ", "")
    if operators != ("=",) or "\\ldots" in sides[1] or not _SUM.match(left):
        return None
    first, _, last = left.partition("+\\ldots+")
    terms = [int(term) for term in first.split("+")]
    steps = {b - a for a, b in pairwise(terms)}
    step = steps.pop() if len(steps) == 1 else 0
    if step <= 0 or int(last) <= terms[-1] or (int(last) - terms[0]) % step:
        return None
    count = (int(last) - terms[0]) // step + 1
    return f"{count * (terms[0] + int(last)) // 2} = {sides[1]}"


def without_left_side(p: str, g: str, question: str | None) -> str | None:
    r"""`\{3,1\}` of `A\cap B=\{3,1\}` and `(-1,5)` of `2a-b=(-1,5)`, where the truth is a set, a
    tuple or an interval alone; `2` of `s^2=2` where a variance is asked for.

    None for anything else, and where the question names another combination than the answer.
    """
    sides, operators = split_relation(p)
    if not operators or set(operators) != {"="}:
        return None
    if _is_measure(sides, g, question):
        return sides[-1]
    alone = [bracketed(side) or condition_of_set(side) != side for side in (*sides[1:], g)]
    if is_name(sides[0]) or not all(alone):
        return None
    asked, said = (_BARE.sub("", plain(side)) for side in (question or "", sides[0]))
    if not _COMBINED.fullmatch(said):
        return None
    others = set(_COMBINED.findall(asked))
    return " = ".join(sides[1:]) if not others or said in others else None


def _is_measure(sides: tuple[str, ...], g: str, question: str | None) -> bool:
    r"""Whether the left side is the formula of a measure (`\pi r l = 65\pi`, `\sigma^2 = 2.5`) and
    the right side a value, where the truth is nothing but one."""
    if len(sides) != 2:
        return False
    if _VARIANCE.match(sides[0]) and re.search("方差|variance", question or ""):
        return True
    value, truth = parse_quantity(sides[1]), parse_quantity(g)
    closed = value is not None and truth is not None
    return closed and bool(_MEASURE.match(compact(sides[0]).replace(" ", "")))


def is_conversion(sides: list[Quantity | None], operators: tuple[str, ...]) -> bool:
    """`2.4千克=2400克`: one quantity in two units, of which the last is the answer."""
    first, last = sides[0], sides[-1]
    if operators != ("=",) or first is None or last is None or not (first.unit and last.unit):
        return False
    same = compare_quantities(first, last, lambda query: no("symbolic"))
    return bool(first.unit.dimension) and first.unit.factor != last.unit.factor and bool(same.equal)
