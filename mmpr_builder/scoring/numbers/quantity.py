r"""Numbers and closed expressions with their units, and what a question asks of them.

parse_quantity("1,450.50 cm")    -> Quantity(head="1,450.50", number=2901/2, unit=cm)
parse_quantity(r"160\sqrt{3}m")   -> Quantity(head=r"160\sqrt{3}", number=None, unit=m)
parse_compound("2小时30分钟")     -> (5/2, hours)
compare_as_asked(7 cm, 7, "Measure it to the nearest inch.", …)   -> another length: no
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

from mmpr_builder.scoring.decision import Decision, Query, Symbolic, no, unknown, yes
from mmpr_builder.scoring.latex import CURRENCY, compact, has_chinese
from mmpr_builder.scoring.numbers import units
from mmpr_builder.scoring.numbers.number import (
    ENGLISH,
    NUMBER,
    SCALES,
    SCIENTIFIC,
    Number,
    evaluate,
    parse_number,
    same_value,
)
from mmpr_builder.scoring.numbers.table import MULTIPLYING, money_behind
from mmpr_builder.scoring.numbers.units import ATTACHED_K, Unit


@dataclass(frozen=True, slots=True)
class Quantity:
    """`head` is the part without the unit; `number` its value where it is a plain number."""

    head: str
    number: Number | None
    unit: Unit | None


_SCALE_WORDS = {
    **SCALES,
    **{"k": 10**3, "K": 10**3, "M": 10**6, "mn": 10**6, "B": 10**9, "bn": 10**9},
    **{"T": 10**12, "tn": 10**12, "thousands": 10**3, "millions": 10**6, "billions": 10**9},
    **{"千": 10**3, "万": 10**4, "十万": 10**5, "百万": 10**6, "千万": 10**7, "亿": 10**8},
    **{"十亿": 10**9, "百亿": 10**10, "千亿": 10**11, "万亿": 10**12},
}
_LONGEST_FIRST = sorted(_SCALE_WORDS, key=len, reverse=True)
_SCALED = re.compile(
    rf"(?P<number>.*[0-9.])\s*(?P<scale>{'|'.join(_LONGEST_FIRST)})(?![A-Za-z])\s*(?P<rest>.*)\Z",
    re.DOTALL,
)
_MONEY_FIRST = re.compile(
    rf"([-+]?)\s*+((?:(?:US|USD|RMB)\s*+)?[{CURRENCY}$€£¥])\s*+(?=[-+]?[.0-9\\(])"
)
_HALF_A = re.compile(r"\Ahalf an? (?=[a-z])")
_HEAD = re.compile(
    rf"(?P<head>[-+]?\s*+(?:[0-9]+\s+[0-9]+/[0-9]+|{NUMBER}\s*/\s*{NUMBER}|{NUMBER}(?:{SCIENTIFIC})?"
    rf"|(?:[0-9]++\s*+)?\\frac\s*\{{[-+]?{NUMBER}\}}\s*\{{{NUMBER}\}}))(?P<tail>.*)\Z",
    re.DOTALL,
)
_FIGURES = re.compile(r"[0-9\\]")
_HEDGES = re.compile(
    r"^(?:(?:exactly|precisely|so|thus|hence|therefore|about|approximately|approx|around|roughly"
    r"|a total of)\b[.,]?|\\approx|\\sim|≈|~|约为?|大约为?|大概)\s*",
    re.IGNORECASE,
)


def strip_hedge(text: str) -> str:
    """`about 12` -> `12`: how sure a response says to be does not change its value."""
    return _HEDGES.sub("", text, count=1)


@lru_cache(maxsize=8192)
def parse_quantity(text: str) -> Quantity | None:
    """A number or a closed expression with an optional unit, or None. Expects `plain` text."""
    text = strip_hedge(text.strip()).strip()
    if not text:
        return None
    figures = _FIGURES.search(text) is not None
    text = _HALF_A.sub("half ", money_behind(text) if figures else text)
    money = _MONEY_FIRST.match(text)
    if money:
        text = money[1] + text[money.end() :]
    unit = units.known_unit(money[2].replace(" ", "")) if money else None
    number = parse_number(text)
    if number is None and not figures:
        return _words_with_unit(text, unit)
    value = evaluate(text) if number is None else None
    if number is not None or value is not None:
        return Quantity(text, number or Number(value or Fraction(0)), unit)
    compound = parse_compound(text) if unit is None else None
    if compound is not None:
        return Quantity(text, Number(compound[0]), compound[1])
    return _scaled(text, unit) or _with_unit(text, unit) or _words_with_unit(text, unit)


def _scaled(text: str, unit: Unit | None) -> Quantity | None:
    found = _SCALED.match(text)
    number = parse_number(found["number"]) if found else None
    if found is None or number is None:
        return None
    rest = found["rest"].strip()
    tail = units.parse_unit(rest) if rest else unit
    if rest and tail is None:
        return None
    longer = found["scale"] + found["rest"]
    if longer != "B" and units.known_unit(longer) is not None and not unit:
        return None  # 千克, and K and T with no sign of money: kelvin, tesla
    value = Number(number.value * _SCALE_WORDS[found["scale"]])
    return Quantity(found["number"], value, tail)


def _with_unit(text: str, unit: Unit | None) -> Quantity | None:
    found = _HEAD.match(text)
    if found and found["tail"].strip():
        tail = found["tail"]
        attached = not tail[0].isspace()
        if tail[0] == "-":
            return None  # 21-year
        known = units.attached_unit if attached and tail.isascii() else units.parse_unit
        parsed = known(tail)
        if parsed is not None:
            if unit is not None and not parsed.dimension:
                return None  # $5 off
            number = parse_number(found["head"])
            whole = f"{unit.name} {tail}" if unit and tail.strip()[0] in "/p" else ""  # $5 per day
            unit = units.parse_unit(whole) or unit or parsed
            return None if number is None else Quantity(found["head"], number, unit)
    return _expression_with_unit(text, unit)


_TAIL = re.compile(
    r"(?P<head>.*?[0-9})]|.*?\\pi)"
    r"(?P<tail>\s*+(?:[%°€£¢¥Ω]|°[CF]|[a-zA-Z\u3400-\u9fff][a-zA-Z\u3400-\u9fff /]*+"
    r"(?:\s*+\^\s*+\{?[23]\}?)?|[a-zA-Z]+(?:\^\{?-?[0-9]\}?)?\s*/\s*[a-zA-Z]+(?:\s*\^\s*\{?[23]\}?)?))\Z",
    re.DOTALL,
)
_CLOSED_COMMAND = re.compile(r"\\(?:sqrt(?:\[[0-9]\])?|frac|pi|cdot|times|div)(?![a-zA-Z])")
_CLOSED = re.compile(r"[-+0-9.(){}/ ^]*\Z")


def _expression_with_unit(text: str, unit: Unit | None) -> Quantity | None:
    r"""`160\sqrt{3}m`, `9\pi square units`: the head must be closed, or `m` may be a variable."""
    if is_closed(text):
        return Quantity(text, None, unit)
    found = _TAIL.match(text)
    if not found:
        return None
    head, tail = found["head"].rstrip("\\ "), found["tail"].strip()
    parsed = units.parse_unit(tail)
    if parsed is None or not (parsed.dimension or units.is_generic(parsed) or not tail.isascii()):
        return None
    # `2+3m` is a sum with a variable; `2+3 cm` may be meant as a length.
    loose = re.search(r"[^({\[^e]\s*[-+]", head)
    if not is_closed(head) or (loose and len(tail) == 1 and tail.isalpha()):
        return None
    return Quantity(head, parse_number(head), unit or parsed)


def is_closed(text: str) -> bool:
    r"""Whether an expression has no variables: digits, operators, \sqrt, \frac, \pi only."""
    bare = _CLOSED_COMMAND.sub("", text)
    return bool(_CLOSED.match(bare)) and (bare != text or any(char.isdigit() for char in text))


_NUMERAL = re.compile(
    rf"{'|'.join(ENGLISH)}|an?\b|half|minus|negative|[负零一二两三四五六七八九十百千万亿]",
    re.IGNORECASE,
)
"""What a number in words begins with."""


def _words_with_unit(text: str, unit: Unit | None) -> Quantity | None:
    """`five people`, `fifty percent`, `三个`."""
    if not _NUMERAL.match(text) or len(text) > 60:
        return None
    words = text.split() if text.isascii() else [*text]
    between = " " if text.isascii() else ""
    for i in range(len(words) - 1, max(0, len(words) - 9), -1):
        number = parse_number(head := between.join(words[:i]))
        if number is not None:
            parsed = units.parse_unit(between.join(words[i:]))
            return Quantity(head, number, unit or parsed) if parsed else None
    return None


def compare_quantities(predicted: Quantity, gold: Quantity, symbolic: Symbolic) -> Decision:
    """Units first, then values; a percent sign may be dropped, or the fraction given instead."""
    factor = units.ratio(predicted.unit, gold.unit)
    angles = _compare_angles(predicted, gold, symbolic)
    if angles is not None:
        return angles
    if units.depends_on_country(predicted.unit, gold.unit):
        decision = _compare_values(predicted, gold, Fraction(1), symbolic)
        return unknown("unit", "money of one sign") if decision.equal else decision
    if factor is None:
        return no("unit", f"{_name(predicted)} against {_name(gold)}")
    decision = _compare_values(predicted, gold, factor, symbolic)
    if decision.equal and may_change_value(predicted, gold):
        return unknown("words", f"{_name(predicted)} may be more than the name of a thing")
    return decision


def may_change_value(predicted: Quantity, gold: Quantity) -> bool:
    """Whether the words behind a number, which the truth has not, may say another value."""
    unit = predicted.unit
    if unit is None or unit.dimension or (gold.unit is not None and gold.unit.name == unit.name):
        return False
    if units.is_generic(unit):
        return unit.name in MULTIPLYING or (gold.unit is None and unit.name == "time")
    return gold.unit is None or units.is_generic(gold.unit)


def _compare_values(
    predicted: Quantity, gold: Quantity, factor: Fraction, symbolic: Symbolic
) -> Decision:
    p, g = thousands(predicted, gold), thousands(gold, predicted)
    if p is not None and g is not None:
        decision = _compare_numbers(p if factor == 1 else Number(p.value * factor), g)
        return _as_percent(predicted, gold, p, g) or decision
    if factor != 1:
        return no("unit", f"{_name(predicted)} against {_name(gold)}")
    left, right = compact(predicted.head), compact(gold.head)
    if left == right:
        return yes("latex")
    return symbolic(Query("expression", (left,), (right,)))


_ANGLE, _RADIANS = units.DEGREE.dimension, units.RADIAN.dimension


def _compare_angles(predicted: Quantity, gold: Quantity, symbolic: Symbolic) -> Decision | None:
    r"""Degrees against radians, which are written with `\pi` or named; None for anything else."""
    sides = [quantity.unit.dimension if quantity.unit else () for quantity in (predicted, gold)]
    heads = [compact(predicted.head), compact(gold.head)]
    for degrees, other in ((0, 1), (1, 0)):
        radians = sides[other] == _RADIANS or (not sides[other] and "\\pi" in heads[other])
        if sides[degrees] == _ANGLE and radians:
            heads[degrees] = rf"({heads[degrees]})\cdot\frac{{\pi}}{{180}}"
            return symbolic(Query("expression", (heads[0],), (heads[1],)))
    return None


def thousands(quantity: Quantity, other: Quantity) -> Number | None:
    """`12K` is twelve thousand, but where the other side is a temperature."""
    number, unit = quantity.number, quantity.unit
    if number is None or unit is None or unit.name != ATTACHED_K or other.unit is not None:
        return number
    return Number(number.value * 1000)


def _compare_numbers(p: Number, g: Number) -> Decision:
    if same_value(p, g):
        return yes("number")
    return no("number", f"{_shown(p)} is not {_shown(g)}")


def _shown(number: Number) -> str:
    """A value for a message, cut to forty characters."""
    return str(number.value)[:40]


def _as_percent(predicted: Quantity, gold: Quantity, p: Number, g: Number) -> Decision | None:
    """What a percent sign on one side only decides; None if it decides nothing."""
    if is_percent(predicted) == is_percent(gold):
        return None
    if is_percent(predicted) and p.value == g.value and 0 < abs(g.value) <= 1 and gold.unit is None:
        # "0.5%" for 0.5 is more likely another number than a percentage without its sign.
        return no("percent", "a share, not so many percent")
    share = p.value / 100 == g.value if is_percent(predicted) else p.value == g.value / 100
    return yes("percent") if share else None


def is_percent(quantity: Quantity) -> bool:
    return quantity.unit is not None and quantity.unit.dimension == units.PERCENT.dimension


def _name(quantity: Quantity) -> str:
    return repr(quantity.unit.name) if quantity.unit else "no unit"


_STEP = re.compile(
    rf"\s*(?:and\s+|,\s*)?(?P<number>{NUMBER})\s*(?P<unit>°|''|[\"']|[A-Za-z]+\.?|[\u3400-\u9fff]{{1,2}})"
)
_MAX_COMPOUND = 60


COMPOUND_ZH = re.compile(
    "(?<![0-9.])[0-9.]++[\u3400-\u9fff]{1,2}[0-9.]++(?:分钟|[\u3400-\u9fff])"  # 7元5角
)


def parse_compound(text: str) -> tuple[Fraction, Unit] | None:
    """(value, unit of the first step), or None. Steps get smaller, none fills the one before."""
    if len(text) > _MAX_COMPOUND or sum(char.isdigit() for char in text) < 2:
        return None
    negative = text.startswith("-")
    at, first, total, before = int(negative), None, Fraction(0), None
    while at < len(text):
        step = _STEP.match(text, at)
        number = parse_number(step["number"]) if step else None
        if step is None or number is None:
            return None
        minutes = step["unit"] == "m" and first is not None and first.name == "h"
        unit = units.known_unit("min" if minutes else step["unit"])
        if unit is None or (first is not None and unit.dimension != first.dimension):
            return None
        total += number.value * unit.factor
        first, before, at = first or unit, unit.factor, step.end()
    if first is None or before == first.factor:
        return None
    return (-total if negative else total) / first.factor, first


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
    whole = gold.number is None or gold.number.decimals in (0, None)
    asked = units.unit_asked_for(question, whole=whole)
    return gold if asked is None else replace(gold, unit=asked)


def unfit_for_count(predicted: Quantity, question: str | None) -> Decision | None:
    """Why an answer with a unit does not say how many there are, if that is asked for."""
    if predicted.unit is None or not predicted.unit.dimension or not units.asks_for_count(question):
        return None
    if is_percent(predicted):
        return no("unit", "a share, where a count is asked for")
    return unknown("unit", "a quantity, where a count is asked for")


def _scale(quantity: Quantity) -> Fraction:
    """1,000,000 for `5 million`, 1 for `5`."""
    head = parse_number(quantity.head)
    if head is None or quantity.number is None or not head.value:
        return Fraction(1)
    return quantity.number.value / head.value


def as_asked(predicted: Quantity, gold: Quantity, question: str | None) -> Quantity:
    """The predicted value in the scale of the truth, where the question says it: `412.5 billion`
    for `412.5` asked in billions."""
    scales = [_scale(quantity) for quantity in (predicted, gold)]
    known = set(SCALES.values())
    if scales[0] == scales[1] or not {s for s in scales if s != 1} <= known:
        return predicted
    asked, number = units.scale_asked(question), predicted.number
    if asked is None or number is None or 1 not in scales:
        return predicted
    value = number.value / asked if scales[1] == 1 else number.value * asked
    return replace(predicted, number=Number(value))


_NAMES_SCALE = re.compile(
    r"(?<![a-z])(?:thousand|million|billion|trillion|mn|bn)|[0-9]\s?[KMBT]\b|[千万亿]",
    re.IGNORECASE,
)


def drops_scale(text: str, predicted: Quantity, gold: Quantity, question: str | None) -> bool:
    """`$5` or `5,000,000` where millions of dollars are asked for; `1.2` for `1.2 million`."""
    if _NAMES_SCALE.search(text) or predicted.number is None or gold.number is None:
        return False
    p, g, found = predicted.number.value, gold.number.value, SCALE_ZH.search(question or "")
    asked = _SCALE_WORDS[found[1]] if found else units.scale_asked(question)
    if gold.unit is not None or asked is None:
        return predicted.unit is None and p != g == p * _scale(gold)
    return p == g * asked or (predicted.unit is not None and p == g)


SCALE_ZH = re.compile("(?:多少|几)(万亿|千万|百万|十亿|万|亿|千)")


def without_asked_scale(text: str, gold: str, question: str | None) -> str:
    """`7.8万吨` -> `7.8吨` where it is asked how many 万吨 and the truth is a bare number."""
    found = SCALE_ZH.search(question) if question else None
    if found is None or has_chinese(gold):
        return text
    return re.sub(rf"(?<=[0-9])\s*{found[1]}(?![万亿])", "", text, count=1)
