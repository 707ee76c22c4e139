"""Values read off charts: within 5 % of the truth (ChartQA, arXiv 2203.10244), and only values.

Years are exact, and so are counts when the question says that it asks for one. Zero has no
tolerance. The comparison is exact arithmetic, so 1.05 is within 5 % of 1.
"""

from __future__ import annotations

import re
from fractions import Fraction

from mmpr_builder.scoring import units
from mmpr_builder.scoring.asked import as_asked, scale_asked, without_rate
from mmpr_builder.scoring.chain import read_chain
from mmpr_builder.scoring.decision import Decision, Symbolic, all_of, no, unknown, yes
from mmpr_builder.scoring.labels import is_label
from mmpr_builder.scoring.latex import plain
from mmpr_builder.scoring.maths import compare_math
from mmpr_builder.scoring.neutral_zh import MEASURED_ZH
from mmpr_builder.scoring.number import Number
from mmpr_builder.scoring.quantity import (
    Quantity,
    is_percent,
    may_change_value,
    parse_quantity,
    thousands,
)
from mmpr_builder.scoring.question_zh import without_asked_scale
from mmpr_builder.scoring.relation import named_value
from mmpr_builder.scoring.sentence import value_said
from mmpr_builder.scoring.structure import Node, parse
from mmpr_builder.scoring.text import compare_text, not_neutral
from mmpr_builder.scoring.unit_asked import unfit_for_count, with_unit_asked

_MEASURED = tuple(sorted(MEASURED_ZH))
TOLERANCE = Fraction(5, 100)
_YEARS = range(1700, 2101)
_ASKS_EXACTLY = re.compile(
    r"\bhow many\b|\bnumber of\b|\bcount\b|\b(?:which|what|in what) year\b|哪一?年"
    r"|几(?![乎何成]|分之|[十百千万亿])|多少(?:[个人名位本只辆棵件张支次家所种颗台套条头匹座道题项组枚根粒间层页架艘把朵首篇届场天年岁]"
    r"|份(?!额)|周岁)|[人个件次]数|\bhow old\b|\b(?:rank|ranking|grade|page)\b",
    re.IGNORECASE,
)
_HOW_MUCH = re.compile("多少([\u3400-\u9fff]{1,4})")
_NO_COUNT = re.compile("[十百千万亿的钱]|百分|比例|份额")
# "How many percent", "how many million tons" ask for a value that is read off an axis.
_ASKS_VALUE = re.compile(
    r"\bhow many (?:percent|%|million|billion|thousand|tons?|dollars|degrees)"
    r"|\b(?:how many|number of)\s+(?:[a-z]+\s+){0,2}(?:amount|per\s+(?:[0-9][0-9,]*|capita|thousand"
    r"|hundred|million))\b",
    re.I,
)


def compare_relaxed(
    predicted: str, gold: str, symbolic: Symbolic, question: str | None = None
) -> Decision:
    """A chart's value or label; expects cleaned texts."""
    p, g = plain(predicted), plain(gold)
    p = without_asked_scale(p, g, question)
    exact = _asks_exactly(question)
    if is_label(g):
        return compare_text(predicted, gold, question)
    quantity = parse_quantity(g)
    node = parse(g)
    if (
        quantity is None
        and node.kind in ("bracket", "list")
        and all(parse_quantity(item) for item in node.items)
    ):
        return _compare_items(p, node, exact)
    if quantity is None or quantity.number is None:
        if quantity is not None or "\\" in g:
            return compare_math(predicted, gold, symbolic, question)
        return compare_text(predicted, gold, question)
    p = without_rate(p, question)
    return _compare_value(value_said(p, question) or p, quantity, exact, question)


def _asks_exactly(question: str | None) -> bool:
    """Whether a count is asked for, and in no scale ("the number of visitors in thousands")."""
    if not question or _ASKS_VALUE.search(question) or scale_asked(question) is not None:
        return False
    return _ASKS_EXACTLY.search(question) is not None or any(
        _is_counted(found[1]) for found in _HOW_MUCH.finditer(question)
    )


def _is_counted(thing: str) -> bool:
    """Whether what stands behind 多少 is counted: 国家, 男学生; no unit, scale or measure."""
    if _NO_COUNT.match(thing) or thing.startswith(_MEASURED):
        return False
    return all(units.known_unit(thing[:n]) is None for n in range(1, len(thing) + 1))


def _compare_items(p: str, gold: Node, exact: bool) -> Decision:
    items = parse(p).items
    if len(items) != len(gold.items):
        return no("relaxed", f"{len(items)} items against {len(gold.items)}")
    quantities = (parse_quantity(item) for item in gold.items)
    pairs = zip(items, quantities, strict=True)
    return all_of((_compare_value(a, b, exact) for a, b in pairs if b is not None), "relaxed")


def _compare_value(p: str, gold: Quantity, exact: bool, question: str | None = None) -> Decision:
    chain = read_chain(p)
    if chain is not None:
        decision = _compare_value(chain.result, gold, exact, question)
        wrong = decision.equal and not chain.right
        return unknown("chain", "the working does not lead to it") if wrong else decision
    quantity = parse_quantity(p)
    if quantity is None or quantity.number is None:
        quantity = parse_quantity(named_value(p)[1])
    if quantity is None and len(p.split()) > 1:
        return not_neutral(p, gold)
    if quantity is None or quantity.number is None or gold.number is None:
        return no("relaxed", f"{p[:40]!r} is not one number")
    truth_number = gold.number
    scaled = as_asked(quantity, gold, question)
    is_year = _is_year(gold)
    if is_year and is_percent(quantity):
        return no("unit", "a share is no year")
    if scaled is quantity and quantity.unit is not None and gold.unit is None:
        named = with_unit_asked(gold, question)
        if named is gold:
            unfit = _unfit_for_count(quantity, quantity.number, truth_number, question)
            if unfit is not None:
                return unfit
        gold = named
    quantity = scaled
    number = thousands(quantity, gold)
    counted = truth_number.value.denominator == 1
    factor = units.ratio(quantity.unit, gold.unit)
    if units.depends_on_country(quantity.unit, gold.unit):
        return unknown("unit", "money of one sign")
    if factor is None:
        return no("unit", "another unit")
    if number is None:
        return no("relaxed", f"{p[:40]!r} is not one number")
    value, truth = number.value * factor, truth_number.value
    if abs(value - truth) <= TOLERANCE * abs(truth) and may_change_value(quantity, gold):
        return unknown("words", "the words beside the number may be more than the name of a thing")
    if value == truth:
        return yes("number")
    if (exact and counted) or is_year:
        return no("number", "years and counts are exact")
    if abs(value - truth) <= TOLERANCE * abs(truth):
        return yes("relaxed", "within 5 %")
    if is_percent(quantity) != is_percent(gold):
        shares = (value / 100, truth) if is_percent(quantity) else (value, truth / 100)
        if abs(shares[0] - shares[1]) <= TOLERANCE * abs(shares[1]):
            return yes("relaxed", "within 5 %, as a share")
    return no("relaxed", f"{quantity.head[:40]} is not within 5 % of {gold.head[:40]}")


def _unfit_for_count(
    quantity: Quantity, number: Number, truth: Number, question: str | None
) -> Decision | None:
    """Why an answer is no count where one is asked for: a share never is one, another quantity
    may be if it is near the truth."""
    unfit = unfit_for_count(quantity, question)
    if unfit is None or is_percent(quantity):
        return unfit
    near = abs(number.value - truth.value) <= TOLERANCE * abs(truth.value)
    return unfit if near else None


def _is_year(gold: Quantity) -> bool:
    number = gold.number
    return (
        number is not None
        and gold.unit is None
        and number.decimals == 0
        and gold.head.isdigit()
        and len(gold.head) == 4
        and int(number.value) in _YEARS
    )
