r"""One formula against another, or one relation against another: what only symbolic maths decides.

    \frac{3}{\sqrt 2}  against  \frac{3\sqrt 2}{2}        y - 2x = 3  against  y = 2x + 3

What is a name (AB, \triangle ABC, 204_5) is compared by its wording, and never multiplied out.
"""

from __future__ import annotations

import re

from mmpr_builder.scoring.decision import Decision, Query, Symbolic, no, unknown, yes
from mmpr_builder.scoring.latex import compact, has_words
from mmpr_builder.scoring.neutral_zh import denies_zh
from mmpr_builder.scoring.ratio import compare_durations, compare_ratios, is_ratio, last_of_ratios
from mmpr_builder.scoring.relation import named_value, split_relation
from mmpr_builder.scoring.said_zh import values_in_chinese
from mmpr_builder.scoring.sentence import may_change, value_said
from mmpr_builder.scoring.sentence_zh import has_chinese

_LETTERS_ONLY = re.compile(
    r"(?:\\(?:angle|triangle|odot|overline|vec)\s?\{?)?[A-Z]{2,}'*\}?\Z|[a-zA-Z]\Z|\\[a-zA-Z]+\Z"
)


def compare_formulas(p: str, g: str, symbolic: Symbolic) -> Decision:
    cp, cg = (_BASED.sub(r"\1_", compact(side)) for side in (p, g))
    if _unwrapped(cp) == _unwrapped(cg):
        return yes("latex")
    if _LETTERS_ONLY.match(cp) and _LETTERS_ONLY.match(cg):
        return no("name", f"{cp} is not {cg}")  # AB is a segment, not A times B
    if "\\emptyset" in (cp, cg):
        return no("structure", "the empty set against something")
    if re.search(r"[0-9]_\{?[0-9]", cp + " " + cg):
        return no("base", "numerals with a base are compared by their wording")
    return symbolic(Query("expression", (cp,), (cg,)))


def _unwrapped(text: str) -> str:
    """`(2x+3)` -> `2x+3`."""
    inner = text[1:-1]
    return inner if text[:1] + text[-1:] == "()" and not set("()[],;") & set(inner) else text


_BASED = re.compile(r"\(([0-9A-F]+)\)_(?=\{?[0-9])")


def compare_relations(p: str, g: str, symbolic: Symbolic) -> Decision:
    (sides_p, ops_p), (sides_g, ops_g) = split_relation(p), split_relation(g)
    if len(ops_p) != 1 or len(ops_g) != 1:
        return no("structure", "a relation against an expression")
    if "" in (*sides_p, *sides_g):
        return no("structure", "a side of the relation is missing")
    left = (compact(sides_p[0]), ops_p[0], compact(sides_p[1]))
    right = (compact(sides_g[0]), ops_g[0], compact(sides_g[1]))
    return symbolic(Query("relation", left, right))


_HALF_OF_DAY = re.compile(r"(?<=[0-9])\s+(?=[ap]\.?\s?m\b)", re.IGNORECASE)


def compare_with_ratio(p: str, g: str, question: str | None = None) -> Decision:
    """At least one side is a ratio or a time; the other may be a sentence that says one."""
    lasting = compare_durations(p, g, question)
    if lasting is not None:
        return lasting
    chain = last_of_ratios(p)
    if chain is not None:
        if not chain[1]:
            return no("chain", "ratios that are not equal")
        p = chain[0]
    if not is_ratio(p):
        value = named_value(p)[1] if named_value(p)[0] else p
        said = value_said(_HALF_OF_DAY.sub("", value), question)
        p = said if said is not None and is_ratio(said) else value
        if p is value and has_words(p) and not may_change(p) and _has_time(p, g):
            return unknown("words", "not every word beside the value is known to be neutral")
    if not is_ratio(g) and named_value(g)[0]:
        g = named_value(g)[1]
    return yes("latex") if compact(p) == compact(g) else compare_ratios(p, g, question)


_TIMES = re.compile(
    r"[0-9]{1,2}(?::[0-9]{2})?\s*(?:[ap]\.?\s?m\b\.?)|[0-9]{1,3}:[0-9]{1,3}", re.IGNORECASE
)


def _has_time(p: str, g: str) -> bool:
    """Whether a sentence has the time or ratio of the truth, and no other one."""
    found = _TIMES.findall(p)
    if compact(g) in compact(p):
        return True
    return len(found) == 1 and bool(compare_ratios(found[0], g).equal)


def compare_as_ratio(p: str, g: str, question: str) -> Decision:
    """A ratio among Chinese words that are not read is undecided, not wrong."""
    decision = compare_with_ratio(p, g, question)
    if decision.equal is False and has_chinese(p) and not denies_zh(p):
        values = (compare_with_ratio(value, g, question) for value in values_in_chinese(p))
        if any(value.equal for value in values):
            return unknown("words", "not every word beside the value is known to be neutral")
    return decision
