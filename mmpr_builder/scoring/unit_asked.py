"""The unit that a question asks for, where the truth leaves it out.

unit_asked_for("How many milliliters are left?")          -> mL
unit_asked_for("求体积。（立方厘米）")                       -> cubic centimetres
compare_as_asked(7 cm, 7, "Measure it to the nearest inch.", …)   -> another length: no
"""

from __future__ import annotations

import re
from dataclasses import replace

from mmpr_builder.scoring.decision import Decision, Symbolic, no, unknown
from mmpr_builder.scoring.neutral import is_plural
from mmpr_builder.scoring.quantity import Quantity, compare_quantities, is_percent
from mmpr_builder.scoring.units import Unit, known_unit, parse_unit

_ASKS_UNIT = re.compile(
    r"\bhow many ([a-z]+(?: [a-z]+)?)\b|多少(?:个)?([\u3400-\u9fff]{1,4})"
    r"|几(?!分之)([\u3400-\u9fff]{1,4})|[=＝]\s*[(（]\s*[)）]\s*([\u3400-\u9fff]{1,4})"
    r"|\bin ((?:(?:square|cubic) )?[a-z]{3,}s|(?:square|cubic) feet|feet)\s*(?:[?.,;)]|\Z)",
    re.IGNORECASE,
)
_SHAPED = re.compile(r"(?:square|cubic) units?\Z", re.IGNORECASE)
_IN_SYMBOLS = re.compile(
    r"\bin (?P<unit>°\s?[CF]|℃|℉|degrees? (?:Celsius|Fahrenheit)"
    r"|(?:[mgs]|[a-zµ]{1,3}[A-Z]?[a-z]?)"
    r"(?:\^?[23²³])?(?:/(?:[a-z]{1,3})(?:\^?[23²³])?)?)\s*(?:[?.,;)]|\Z)"
)
_NEAREST = re.compile(
    r"\bto the nearest (?P<part>(?:tenth|hundredth|thousandth) of an? )?(?:whole )?"
    r"(?P<unit>[a-z]{2,})\s*(?:[?.,;)]|\Z)",
    re.IGNORECASE,
)
_BEHIND = re.compile(
    r"[(（]\s*(?:单位\s*[:：]?\s*)?(?P<unit>[\u3400-\u9fff]{1,5}|[a-zA-Z°℃]{1,4}[23²³]?)\s*[)）]\s*[。.？?]?\s*\Z"
)
_SHORT_POWERS = str.maketrans({"²": "2", "³": "3"})


def unit_asked_for(question: str | None, *, whole: bool = True) -> Unit | None:
    """The unit of the table that a question names. `whole`: the truth has no decimals, so that `to
    the nearest inch` can only mean inches (a height in metres may be given to the centimetre)."""
    if not question:
        return None
    question = question[-2000:]
    found = _ASKS_UNIT.search(question)
    unit = _named(next(group for group in found.groups() if group)) if found else None
    if unit is None:
        symbols = _IN_SYMBOLS.search(question) or _BEHIND.search(question)
        unit = known_unit(symbols["unit"].translate(_SHORT_POWERS)) if symbols else None
    if unit is None:
        nearest = _NEAREST.search(question)
        unit = known_unit(nearest["unit"]) if nearest and (whole or nearest["part"]) else None
        if unit is not None and unit.dimension[0][0] not in ("length", "mass", "time", "volume"):
            unit = None  # degrees may be of angles and of temperature, cents of dollars
    return unit


def _named(said: str) -> Unit | None:
    if _SHAPED.match(said):
        return parse_unit(said)
    ascii_cuts = [said if said.lower().startswith(("square ", "cubic ")) else "", said.split()[0]]
    cuts = ascii_cuts if said.isascii() else [said[:n] for n in range(4, 0, -1)]
    return next((unit for cut in cuts if (unit := known_unit(cut)) is not None), None)


_COUNTED = re.compile(
    r"(?:多少|几)(?:[人名位只本张条件棵辆支颗朵头匹座间道题枚根粒]|个(?![\u3400-\u9fff]?(?:百分|小时|月|星期)))"
    r"|\bhow many (?P<thing>[a-z]+)\b",
    re.IGNORECASE,
)
_SHARE = re.compile(r"%|per ?cent|百分|几分之|fraction", re.IGNORECASE)


def asks_for_count(question: str | None) -> bool:
    """Whether a question asks how many there are of something that is no unit: 有多少人."""
    if not question or _SHARE.search(question[-2000:]):
        return False
    found = _COUNTED.search(question[-2000:])
    if found is None or found["thing"] is None:
        return found is not None
    thing = found["thing"].lower()
    return is_plural(thing) and known_unit(thing) is None


def compare_as_asked(
    predicted: Quantity, gold: Quantity, question: str | None, symbolic: Symbolic
) -> Decision | None:
    """The answer's unit against the one that the question names, or against a count; None where
    the truth has a unit of its own, the answer has none, or the question names none."""
    if gold.unit is not None or predicted.unit is None:
        return None
    named = with_unit_asked(gold, question)
    if named is not gold:
        return compare_quantities(predicted, named, symbolic)
    unfit = unfit_for_count(predicted, question)
    if unfit is None:
        return None
    decision = compare_quantities(predicted, gold, symbolic)
    return unfit if decision.equal else decision


def with_unit_asked(gold: Quantity, question: str | None) -> Quantity:
    """A truth without a unit, with the one that its question names; else the truth itself."""
    if gold.unit is not None:
        return gold
    whole = gold.number is None or gold.number.decimals in (0, None)
    asked = unit_asked_for(question, whole=whole)
    return gold if asked is None else replace(gold, unit=asked)


def unfit_for_count(predicted: Quantity, question: str | None) -> Decision | None:
    """Why an answer with a unit does not say how many there are, if that is asked for."""
    if predicted.unit is None or not predicted.unit.dimension or not asks_for_count(question):
        return None
    if is_percent(predicted):
        return no("unit", "a share, where a count is asked for")
    return unknown("unit", "a quantity, where a count is asked for")
