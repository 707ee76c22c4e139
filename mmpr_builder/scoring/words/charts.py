"""Values read off charts: within 5 % of the truth (ChartQA, arXiv 2203.10244), and only values.

Years are exact, and so are counts when the question says that it asks for one. Zero has no
tolerance. The comparison is exact arithmetic, so 1.05 is within 5 % of 1.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise

from mmpr_builder.scoring.decision import Decision, Query, Symbolic, no, unknown, yes
from mmpr_builder.scoring.latex import plain
from mmpr_builder.scoring.maths.structure import is_name, named_value, split_relation
from mmpr_builder.scoring.numbers import units
from mmpr_builder.scoring.numbers.quantity import (
    Quantity,
    as_asked,
    compare_quantities,
    drops_scale,
    is_percent,
    may_change_value,
    parse_quantity,
    thousands,
    unfit_for_count,
    with_unit_asked,
    without_asked_scale,
)
from mmpr_builder.scoring.numbers.readings import compare_ratios, is_label
from mmpr_builder.scoring.words.sentence import value_said
from mmpr_builder.scoring.words.text import compare_text, holds, is_sentence, unread

TOLERANCE = Fraction(5, 100)
_YEARS = range(1700, 2101)
_ASKS_EXACTLY = re.compile(
    r"\b(?:how many|number of|count|(?:which|what|in what) year|how old|rank|ranking|grade|page)\b"
    r"|哪一?年|几(?![乎何成]|分之|[十百千万亿])|多少(?:[天年岁]|份(?!额)|周岁)|[人个件次]数",
    re.IGNORECASE,
)
_HOW_MUCH = re.compile("多少([\u3400-\u9fff]{1,4})")
_NO_COUNT = re.compile(
    "[十百千万亿的钱]|百分|比例|份额|面积|体积|周长|长度|距离|时间|重量|温度|价格|人口"
)
# "How many percent", "how many million tons" ask for a value that is read off an axis.
_ASKS_VALUE = re.compile(
    r"\bhow many (?:percent|%|million|billion|thousand|tons?|dollars|degrees)"
    r"|\b(?:how many|number of)\s+(?:[a-z]+\s+){0,2}(?:amount|per\s+(?:[0-9][0-9,]*|capita|thousand"
    r"|hundred|million))\b",
    re.IGNORECASE,
)


def compare_relaxed(
    predicted: str, gold: str, symbolic: Symbolic, question: str | None = None
) -> Decision:
    """A chart's value or label; expects cleaned texts."""
    p, g = plain(predicted), plain(gold)
    quantity = parse_quantity(g)
    if is_label(g):
        return compare_text(predicted, gold, symbolic, question)
    exact = _asks_exactly(question)
    if quantity is None or quantity.number is None:
        return compare_text(predicted, gold, symbolic, question)
    whole, p = p, without_asked_scale(p, g, question)
    said = value_said(p, question) if is_sentence(p, g) else p
    if said is None:
        return unread(p, g)
    decision = _compare_value(said, quantity, exact, question, whole)
    if decision.equal is False and said is not p and holds(p, g):
        return unknown("words", "the truth stands beside what is said")
    return decision


def _asks_exactly(question: str | None) -> bool:
    """Whether a count is asked for, and in no scale ("the number of visitors in thousands")."""
    if not question or _ASKS_VALUE.search(question) or units.scale_asked(question) is not None:
        return False
    return _ASKS_EXACTLY.search(question) is not None or any(
        not _NO_COUNT.match(found[1])
        and all(units.known_unit(found[1][:n]) is None for n in range(1, len(found[1]) + 1))
        for found in _HOW_MUCH.finditer(question)
    )


def _compare_value(
    p: str, gold: Quantity, exact: bool, question: str | None = None, whole: str = ""
) -> Decision:
    """`whole`: all of the answer, which may name the scale that the question asks for."""
    sides = split_relation(p)[0]
    if len(sides) > 1 and not is_name(sides[0]):
        decision = _compare_value(sides[-1], gold, exact, question, whole)
        found = [parse_quantity(side) for side in sides]
        same = all(a and b and compare_quantities(a, b, _unknown).equal for a, b in pairwise(found))
        wrong = decision.equal and not same
        return unknown("chain", "the working does not lead to it") if wrong else decision
    quantity = parse_quantity(p) or parse_quantity(named_value(p)[1])
    if quantity is None and re.match(r"[0-9.]+ ?(?::|to) ?[0-9.]+\Z", p):
        return compare_ratios(p, gold.head, question)
    if quantity is None or quantity.number is None or gold.number is None:
        return no("relaxed", f"{p[:40]!r} is not one number")
    truth_number = gold.number
    scaled = as_asked(quantity, gold, question)
    is_year = _is_year(gold)
    if is_year and is_percent(quantity):
        return no("unit", "a share is no year")
    if scaled is quantity and quantity.unit is not None and gold.unit is None:
        named = with_unit_asked(gold, question)
        unfit = unfit_for_count(quantity, question) if named is gold else None
        near = abs(quantity.number.value - truth_number.value) <= TOLERANCE * truth_number.value
        if unfit is not None and (near or is_percent(quantity)):
            return unfit  # a share is no count; another quantity near the truth may be one
        gold = named
    number, factor = thousands(scaled, gold), units.ratio(scaled.unit, gold.unit)
    if factor is None or number is None:
        return no("unit", "another unit")
    value, truth = number.value * factor, truth_number.value
    near = abs(value - truth) <= TOLERANCE * abs(truth)
    if (near and may_change_value(scaled, gold)) or drops_scale(whole or p, scaled, gold, question):
        return unknown("words", "what stands beside the number may change it")
    if value == truth:
        return yes("number")
    if (exact and truth.denominator == 1) or is_year:
        return no("number", "years and counts are exact")
    shares = [(value, truth)]
    if is_percent(scaled) != is_percent(gold):
        shares.append((value / 100, truth) if is_percent(scaled) else (value, truth / 100))
    if any(abs(a - b) <= TOLERANCE * abs(b) for a, b in shares):
        return yes("relaxed", "within 5 %")
    return no("relaxed", f"{scaled.head[:40]} is not within 5 % of {gold.head[:40]}")


def _unknown(query: Query) -> Decision:
    return unknown("symbolic")


def _is_year(gold: Quantity) -> bool:
    whole = gold.unit is None and gold.head.isdigit() and len(gold.head) == 4
    return whole and int(gold.head) in _YEARS
