r"""Mathematical answers: cheapest rule first, each "no" final, symbolic mathematics last.

same spelling -> ratio or time -> number with unit -> words -> shape (list, tuple, set, interval,
matrix, relation) -> one expression: screened, then the worker
"""

from __future__ import annotations

import re

from mmpr_builder.scoring.decision import (
    Compare,
    Decision,
    Symbolic,
    all_of,
    any_of,
    no,
    unknown,
    yes,
)
from mmpr_builder.scoring.formula import compare_formulas, compare_relations, compare_with_ratio
from mmpr_builder.scoring.latex import compact, has_words
from mmpr_builder.scoring.neutral_zh import denies_zh
from mmpr_builder.scoring.quantity import compare_quantities, parse_quantity
from mmpr_builder.scoring.ratio import compare_ratios, is_ratio
from mmpr_builder.scoring.relation import (
    as_exclusion,
    as_interval,
    may_be_one,
    named_point,
    named_value,
    split_relation,
)
from mmpr_builder.scoring.remarks import without_explanation, without_restatement
from mmpr_builder.scoring.sentence import may_change, value_said
from mmpr_builder.scoring.sentence_zh import has_chinese
from mmpr_builder.scoring.shapes import (
    are_close,
    compare_brackets,
    compare_intervals,
    compare_lists,
    compare_with_signs,
    each,
    joined_otherwise,
    single_item,
)
from mmpr_builder.scoring.structure import MAX_ITEMS, Node, bracketed, condition_of_set, parse
from mmpr_builder.scoring.symbols import symbols
from mmpr_builder.scoring.text import compare_text, is_negated, not_neutral, said_at_the_end
from mmpr_builder.scoring.working import is_conversion

_MAX_DEPTH = 6
_RATIO_NAME = re.compile(r"\\frac\{([A-Za-z]+)\}\{([A-Za-z]+)\}")


def compare_plain(p: str, g: str, symbolic: Symbolic, depth: int) -> Decision:
    cp, cg = compact(p), compact(g)
    if cp == cg:
        return yes("latex")
    if depth > _MAX_DEPTH:
        return unknown("screened", "nested too deeply")
    if is_ratio(g) or (is_ratio(p) and ":" in p):
        return compare_with_ratio(p, g)
    said = value_said(p) if may_be_sentence(p, g) else None
    if said is not None and said != p:
        return compare_plain(said, g, symbolic, depth + 1)
    shorter = without_restatement(p)
    if shorter is not None:
        return compare_plain(shorter, g, symbolic, depth + 1)
    qp, qg = parse_quantity(p), parse_quantity(g)
    if qp is not None and qg is not None:
        return compare_quantities(qp, qg, symbolic)
    point_p, point_g = named_point(p), named_point(g)
    if point_p is not None or point_g is not None:
        (name_p, at_p), (name_g, at_g) = point_p or ("", p), point_g or ("", g)
        if name_p and name_g and name_p != name_g:
            return no("name", f"{name_p} is not {name_g}")
        return compare_plain(at_p, at_g, symbolic, depth + 1)
    if has_words(g) and qg is None and not _names_a_value(g):
        return _compare_words(p, g, symbolic, depth)
    return _compare_shapes(p, g, symbolic, depth)


def _names_a_value(text: str) -> bool:
    return named_value(text)[0] is not None or len(parse(text).items) > 1


def _compare_words(p: str, g: str, symbolic: Symbolic, depth: int) -> Decision:
    """The truth is language; a truth such as `the area is 5` is compared by what it says."""
    decision = compare_text(p, g)
    if decision.equal or depth:
        return decision
    said = said_at_the_end(g)
    return compare_plain(p, said, symbolic, depth + 1) if said and not has_words(said) else decision


def may_be_sentence(p: str, g: str) -> bool:
    """Whether the answer has words and the truth is a value."""
    return has_words(p) and (parse_quantity(g) is not None or not has_words(g))


def deeper(symbolic: Symbolic, depth: int) -> Compare:
    return lambda a, b: compare_plain(a, b, symbolic, depth + 1)


def _compare_shapes(p: str, g: str, symbolic: Symbolic, depth: int) -> Decision:
    p, g = condition_of_set(p), condition_of_set(g)
    interval_p, interval_g = as_interval(p), as_interval(g)
    if interval_p is not None and interval_g is not None:
        return compare_intervals(interval_p, interval_g, deeper(symbolic, depth))
    excluded_p, excluded_g = as_exclusion(p), as_exclusion(g)
    if excluded_p and excluded_g and "" in (excluded_p[0], excluded_g[0]):
        return compare_plain(excluded_p[1], excluded_g[1], symbolic, depth + 1)
    shorter = without_explanation(p)
    if shorter is not None:
        return compare_plain(shorter, g, symbolic, depth + 1)
    node_p, node_g = parse(p), parse(g)
    name_p, value_p = (None, p) if node_p.kind == "list" else named_value(p)
    name_g, value_g = (None, g) if node_g.kind == "list" else named_value(g)
    if name_p is not None or name_g is not None:
        return _compare_named((name_p, value_p, p), (name_g, value_g, g), symbolic, depth)
    if has_words(p):
        sides, operators = split_relation(p)
        quantities = [parse_quantity(side) for side in sides]
        if operators and all(quantities):
            if is_conversion(quantities, operators):
                return compare_plain(sides[-1], g, symbolic, depth + 1)
            return _compare_chain(sides, operators, g, symbolic, depth)  # 48÷4=12厘米
        return _compare_sentence(p, g, symbolic, depth)
    if max(len(node_p.items), len(node_g.items)) > MAX_ITEMS:
        return unknown("screened", f"more than {MAX_ITEMS} items")
    return _compare_nodes((node_p, p), (node_g, g), symbolic, depth)


def _compare_named(
    left: tuple[str | None, str, str],
    right: tuple[str | None, str, str],
    symbolic: Symbolic,
    depth: int,
) -> Decision:
    """`k = 5` against `5` or `k = 5`: the value counts; against `n = 5` it is another statement."""
    (name_p, value_p, p), (name_g, value_g, g) = left, right
    name_p, name_g = (
        _RATIO_NAME.sub(r"\1/\2", symbols(name)) if name else name for name in (name_p, name_g)
    )
    if name_p is not None and name_g is not None and name_p != name_g:
        constants = parse_quantity(value_p) is not None and parse_quantity(value_g) is not None
        if may_be_one(name_p, name_g, constants=constants):
            return compare_plain(value_p, value_g, symbolic, depth + 1)
        if constants:
            return no("name", f"{name_p} is not {name_g}")
        return compare_relations(p, g, symbolic)
    if name_p is None and name_g is not None and parse(p).kind != "list":
        sides = split_relation(p)[0]
        if len(sides) == 2 and re.search(r"[a-zA-Z]", re.sub(r"\\[a-zA-Z]+", "", sides[0])):
            return compare_relations(p, g, symbolic)  # y - 2x = 1 for y = 2x + 1
    if name_g is not None and ":" in name_g and is_ratio(value_g):
        return compare_ratios(value_p, value_g, clock=False)
    if name_p is None and name_g is not None and _names_its_unit(value_p, name_g, value_g):
        return unknown("name", "a product with the name, or a unit of one letter")
    a_relation = name_g is None and parse(g).kind != "list" and split_relation(g)[1]
    if a_relation and name_p is not None:
        return compare_relations(p, g, symbolic)
    return compare_plain(value_p, value_g, symbolic, depth + 1)


def _names_its_unit(p: str, name: str, g: str) -> bool:
    """`7m` for `m = 7`."""
    unit_p, unit_g = ((q := parse_quantity(side)) and q.unit for side in (p, g))
    return unit_p is not None and unit_g is None and p.rstrip().endswith(name)


def _compare_sentence(p: str, g: str, symbolic: Symbolic, depth: int) -> Decision:
    """The truth is mathematics, the answer a sentence: what it says, or the one number it names."""
    if is_negated(p):
        return no("negation", f"{p[:40]!r} says what it is not")
    node_p, node_g = parse(p), parse(g)
    if len(node_p.items) > 1 and node_g.kind == node_p.kind:
        return _compare_nodes((node_p, p), (node_g, g), symbolic, depth)
    quantity = parse_quantity(g)
    if quantity is not None:
        return not_neutral(p, quantity)
    changed = denies_zh(p) if has_chinese(p) else may_change(p)
    if not changed and compact(g) in compact(p):
        return unknown("words", "not every word beside the value is known to be neutral")
    return no("text", f"{p[:40]!r} is language, the truth is mathematics")


def _compare_nodes(
    left: tuple[Node, str], right: tuple[Node, str], symbolic: Symbolic, depth: int
) -> Decision:
    (node_p, p), (node_g, g) = left, right
    inner = deeper(symbolic, depth)
    kinds = (node_p.kind, node_g.kind)
    collections = ("list", "set", "union")
    if "\\ldots" in p + g:
        return no("ellipsis", "a pattern with an ellipsis is compared by its wording only")
    if kinds[0] in collections and kinds[1] in collections:
        if joined_otherwise(p, g, node_g):
            return no("structure", "and against or")
        if "set" in kinds and "union" in kinds:
            return no("structure", "a finite set against a union")
        return compare_lists(node_p, node_g, inner)
    if set(kinds) == {"bracket", "list"} and "\\pm" in (p if kinds[0] == "bracket" else g):
        return compare_with_signs((node_p, p), (node_g, g), inner)
    if "bracket" in kinds and set(kinds) <= {"bracket", "list"}:
        return compare_brackets(node_p, node_g, inner)
    if kinds[0] == kinds[1] and kinds[0] in ("matrix", "determinant"):
        if node_p.mark != node_g.mark or node_p.mark == "ragged":
            return no("structure", f"{node_p.mark} against {node_g.mark}")
        return each(node_p.items, node_g.items, inner)
    if kinds == ("expression", "expression"):
        return _compare_expressions(p, g, symbolic, depth)
    if "matrix" in kinds and "\\begin" in p and "\\begin" in g:
        return compare_formulas(p, g, symbolic)  # a product of matrices against its value
    sides, operators = split_relation(p)
    if (
        kinds == ("expression", "bracket")
        and set(operators) == {"="}
        and all(map(bracketed, sides))
    ):
        return all_of((inner(side, g) for side in sides), "chain")  # (1+3, 2-3) = (4, -1)
    single = single_item(node_p, node_g)
    if single is not None:
        return compare_plain(*single, symbolic, depth + 1)
    if "\\pm" in p + g:
        return compare_with_signs((node_p, p), (node_g, g), inner)
    return no("structure", f"{node_p.kind} against {node_g.kind}")


def _compare_expressions(p: str, g: str, symbolic: Symbolic, depth: int) -> Decision:
    inner = deeper(symbolic, depth)
    sides_p, ops_p = split_relation(p)
    sides_g, ops_g = split_relation(g)
    if ops_p and not ops_g:
        return _compare_chain(sides_p, ops_p, g, symbolic, depth)
    if bool(ops_p) != bool(ops_g):
        return no("structure", "an expression against a relation")
    if ops_g:
        if len(ops_g) > 1 or len(ops_p) > 1:
            same = ops_p == ops_g and len(sides_p) == len(sides_g)
            return each(sides_p, sides_g, inner) if same else no("structure", "chain")
        return compare_relations(p, g, symbolic)
    if "\\pm" in p or "\\pm" in g:
        return compare_lists(Node("list", (p,)), Node("list", (g,)), inner)
    return compare_formulas(p, g, symbolic)


def _compare_chain(
    sides: tuple[str, ...], operators: tuple[str, ...], g: str, symbolic: Symbolic, depth: int
) -> Decision:
    """`4/12 = 1/3`: every side must equal the truth. `1/3 \\approx 0.33`: one of the two must."""
    if not set(operators) <= {"=", "\\approx"}:
        return no("structure", "a relation against an expression")
    decisions = [compare_plain(side, g, symbolic, depth + 1) for side in sides]
    if "\\approx" in operators:
        if not are_close(sides):
            return unknown("chain", "two values that are no roundings of each other")
        cut = len(operators) - operators[::-1].index("\\approx")
        return any_of(
            (all_of(decisions[:cut], "chain"), all_of(decisions[cut:], "chain")), no("chain")
        )
    return all_of(decisions, "chain")
