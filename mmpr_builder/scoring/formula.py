r"""One formula against another, or one relation against another: what only symbolic maths decides.

    \frac{3}{\sqrt 2}  against  \frac{3\sqrt 2}{2}        y - 2x = 3  against  y = 2x + 3

What is a name (AB, \triangle ABC, 204_5) is compared by its wording, and never multiplied out.
"""

from __future__ import annotations

import re

from mmpr_builder.scoring.decision import Decision, Query, Symbolic, no, yes
from mmpr_builder.scoring.latex import compact
from mmpr_builder.scoring.relation import split_relation

_LETTERS_ONLY = re.compile(
    r"(?:\\(?:angle|triangle|odot|overline|vec)\s?\{?)?[A-Z]{2,}'*\}?\Z|[a-zA-Z]\Z|\\[a-zA-Z]+\Z"
)


def compare_formulas(p: str, g: str, symbolic: Symbolic) -> Decision:
    cp, cg = (_BASED.sub(r"\1_", compact(side)) for side in (p, g))
    if cp == cg:
        return yes("latex")
    if _LETTERS_ONLY.match(cp) and _LETTERS_ONLY.match(cg):
        return no("name", f"{cp} is not {cg}")  # AB is a segment, not A times B
    if "\\emptyset" in (cp, cg):
        return no("structure", "the empty set against something")
    if re.search(r"[0-9]_\{?[0-9]", cp + " " + cg):
        return no("base", "numerals with a base are compared by their wording")
    return symbolic(Query("expression", (cp,), (cg,)))


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
