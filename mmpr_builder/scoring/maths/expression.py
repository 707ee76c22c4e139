r"""Mathematical answers: cheapest rule first, each "no" final, symbolic mathematics last.

same spelling -> ratio or time -> number with unit -> shape (list, tuple, set, interval, matrix,
relation) -> one expression: screened, then the worker

    spoken("negative infinity") -> r"-\infty"        spoken("无解") -> "no solution"

Expects `plain` texts without sentences: what a sentence says is read before.
"""

from __future__ import annotations

import re

from mmpr_builder.scoring.decision import (
    Compare,
    Decision,
    Query,
    Symbolic,
    all_of,
    match_unordered,
    no,
    unknown,
    yes,
)
from mmpr_builder.scoring.latex import compact
from mmpr_builder.scoring.maths.screen import symbols
from mmpr_builder.scoring.maths.structure import (
    MAX_ITEMS,
    Interval,
    Node,
    as_exclusion,
    as_interval,
    condition_of_set,
    may_be_one,
    named_point,
    named_value,
    parse,
    split_relation,
    without_bars,
    without_cases,
)
from mmpr_builder.scoring.numbers.number import parse_words
from mmpr_builder.scoring.numbers.quantity import compare_quantities, parse_quantity
from mmpr_builder.scoring.numbers.readings import (
    compare_labels,
    compare_ratios,
    is_dated,
    is_ratio,
)

REALS = r"(-\infty,\infty)"
_PHRASES = {
    way: row.partition(" | ")[0]
    for row in (
        r"\infty | infinity; positive infinity; plus infinity; 无穷大; 正无穷; 正无穷大",
        r"-\infty | negative infinity; minus infinity; 负无穷; 负无穷大",
        r"\emptyset | empty set; the empty set; null set; 空集; \{\}; \{ \}; {}; { }",
        rf"{REALS} | all real numbers; all reals; any real number; the set of all real numbers"
        r"; the set of real numbers; 全体实数; 一切实数; 任意实数; 所有实数; 实数集; \mathbb{r}"
        r"; \mathbb r; ℝ; \mathbf{r}; x \in \mathbb{r}; x\in\mathbb{r}; x \in ℝ; x∈ℝ"
        r"; x∈r; x \in r; x\in r",
        "no solution | no solution; no solutions; there is no solution; there are no solutions"
        "; has no solution; has no solutions; the equation has no solution; 无解; 方程无解; 没有解",
        "no real solution | no real solution; no real solutions; there are no real solutions"
        "; there is no real solution; no real roots; 无实数解; 无实数根; 无实根; 没有实数根",
        "infinitely many solutions | infinitely many solutions; infinitely many; infinite solutions"
        "; there are infinitely many solutions; an infinite number of solutions; 无数解; 无穷多解"
        "; 有无数个解; 有无穷多个解; 有无数解",
        "does not exist | does not exist; doesn't exist; dne; it does not exist; 不存在",
        "undefined | undefined; not defined; is undefined; it is undefined; 无意义; 没有意义",
    )
    for way in row.partition(" | ")[2].split("; ")
}

_CHINESE = [
    (re.compile(pattern), spelling)
    for pattern, spelling in (
        (r"根号下?\s*(?=[0-9a-z({\\])", r"\\sqrt "),
        (r"(?<=[0-9a-z)])\s*的平方(?![\u3400-\u9fff])", "^2"),
        (r"(?<=[0-9a-z)])\s*的立方(?![\u3400-\u9fff])", "^3"),
        (r"(?<=[0-9a-zA-Z\u3400-\u9fff)])\s*(?:不等于)\s*(?=[-0-9a-zA-Z(])", r"\\neq "),
        (r"(?<=[0-9a-zA-Z)])\s*(?:大于等于|大于或等于|不小于)\s*(?=[-0-9a-zA-Z(])", r"\\geq "),
        (r"(?<=[0-9a-zA-Z)])\s*(?:小于等于|小于或等于|不大于)\s*(?=[-0-9a-zA-Z(])", r"\\leq "),
        (r"(?<=[0-9a-zA-Z)])\s*大于\s*(?=[-0-9a-zA-Z(])", ">"),
        (r"(?<=[0-9a-zA-Z)])\s*小于\s*(?=[-0-9a-zA-Z(])", "<"),
        (r"(?<=[0-9a-zA-Z)])\s*(?:乘以?)\s*(?=[-0-9a-zA-Z(])", r"\\times "),
        (r"(?<=[0-9])\s*比\s*(?=[0-9])", ":"),
        (r"\A商?[是为]?(?=[0-9]+[^0-9]{1,8}[0-9]+\Z)(?=.*余)", ""),
        (r"(?<=[0-9])\s*(?:[,，]?\s*余数?[是为]?)\s*(?=[0-9]+\Z)", "R"),
        (r"零下\s*(?=[0-9])", "-"),
        (r"(?<=[零一二三四五六七八九十百千万亿])(?:写作|记作):?\s*(?=[0-9])", "="),
    )
]


_EQUATION = re.compile(  # in 原方程组无解
    "\\A(?:所以|因此|故|答[:：]?)?[,，]?(?:原|此|该|这个)?(?:分式)?(?:方程|不等式)组?(?=[无没有])"
)
_SHARE = re.compile(r"([0-9]{1,6}) (?:out of|in) ([0-9]{1,6})\Z")  # 3 out of 4


_COMPARED = re.compile(
    r"([a-zA-Z]) is (greater|less|larger|smaller) than( or equal to)? (-?[0-9.a-z/]{1,12})\Z", re.I
)


def is_phrase(text: str) -> bool:
    """Whether a whole answer is a phrase of mathematics: `no solution`, 无解."""
    return len(text) <= 60 and " ".join(text.lower().split()).rstrip(".") in _PHRASES


def spoken(text: str) -> str:
    """What a cleaned answer says in symbols; any other text comes back as it is."""
    if len(text) > 60:
        return text
    meaning = _PHRASES.get(" ".join(text.lower().split()).rstrip("."))
    if meaning is None and not text.isascii():
        meaning = _PHRASES.get(_EQUATION.sub("", text).rstrip("。."))
    if meaning is not None:
        return meaning
    text = _SHARE.sub(r"\1/\2", text)
    compared = _COMPARED.match(text)
    if compared:
        sign = "<" if compared[2].lower() in ("less", "smaller") else ">"
        return f"{compared[1]} {sign}{'=' if compared[3] else ''} {compared[4]}"
    if not text.isascii():
        percent = parse_words(text) if text.startswith("百分之") else None
        if percent is not None:
            return f"{percent * 100}%"
        for pattern, spelling in _CHINESE:
            text = pattern.sub(spelling, text)
    return text


def each(left: tuple[str, ...], right: tuple[str, ...], compare: Compare) -> Decision:
    """Item by item, in order; both sides have one length."""
    pairs = zip(left, right, strict=True)
    return all_of((compare(a, b) for a, b in pairs), "structure")


def compare_brackets(node_p: Node, node_g: Node, compare: Compare) -> Decision:
    """Tuples and intervals: order and kind of bracket count."""
    if node_p.kind == "list" or node_g.kind == "list":
        if "()" not in (node_p.mark, node_g.mark):
            return no("structure", "a list against an interval")
        items_p, _ = _values(node_p)
        items_g, names_g = _values(node_g)
        # (1, 2) for "x = 1, y = 2", but no pair of coordinates for the two numbers 1 and 2
        if node_g.kind == "list" and not names_g:
            return no("structure", "a tuple against a list")
        if len(items_p) != len(items_g):
            return no("structure", f"{len(items_p)} items against {len(items_g)}")
        decision = each(items_p, items_g, compare)
        if decision.equal and len({_base(name) for name in names_of(node_p, node_g)}) == 1:
            return unknown("structure", "x_1 and x_2 may be coordinates or solutions")
        return decision
    if node_p.mark != node_g.mark:
        return no("structure", f"brackets {node_p.mark} against {node_g.mark}")
    if len(node_p.items) != len(node_g.items):
        return no("structure", f"{len(node_p.items)} items against {len(node_g.items)}")
    return each(node_p.items, node_g.items, compare)


def names_of(*nodes: Node) -> list[str]:
    """The names of all named items."""
    found = (named_value(item)[0] for node in nodes for item in node.items)
    return [name for name in found if name is not None]


def _base(name: str) -> str:
    return _SUBSCRIPT.sub("", name)


def _values(node: Node) -> tuple[tuple[str, ...], bool]:
    """(items without names, whether all had different ones); sorted by name then: x, y, z."""
    named = [named_value(item) for item in node.items]
    names = [name for name, _ in named if name is not None]
    distinct = len(set(names)) == len(named)
    if distinct:
        named.sort(key=lambda item: item[0] or "")
    return tuple(value for _, value in named), distinct


def compare_lists(node_p: Node, node_g: Node, compare: Compare) -> Decision:
    """In any order, with plus-minus written out; the names in `k = 45, n = 2` are compared too."""
    left, right = _written_out(node_p.items), _written_out(node_g.items)
    bases = {_base(name) for name in names_of(node_g)}
    if len(bases) == len(right) > 1 and len(left) == len(right) and not names_of(node_p):
        values = tuple(named_value(item)[1] for item in right)  # x=2, y=7: 2, 7 but not 7, 2
        in_order = each(left, values, compare)
        any_order = match_unordered(left, values, compare, "structure")
        if in_order.equal is False and any_order.equal is not False:
            return unknown("structure", "which value belongs to which name is not said")
        return in_order

    def same_item(a: str, b: str) -> Decision:
        (name_a, value_a), (name_b, value_b) = named_value(a), named_value(b)
        if not name_a or not name_b or name_a == name_b:
            return compare(a, b)
        if _base(name_a) != _base(name_b):
            return no("name", f"{name_a} is not {name_b}")
        return compare(value_a, value_b)  # x_1 and x_2 only count the solutions

    return match_unordered(left, right, same_item, "structure")


_SUBSCRIPT = re.compile(r"(?:_\{?[0-9]\}?|(?<=\A[a-z])[0-9])\Z")  # x_1, x_{1}, x1


def _written_out(items: tuple[str, ...]) -> tuple[str, ...]:
    out: list[str] = []
    for item in items:
        if item.count("\\pm") == 1:
            out += [item.replace("\\pm", "+").strip().removeprefix("+"), item.replace("\\pm", "-")]
        else:
            out.append(item)
    return tuple(out)


def compare_intervals(p: Interval, g: Interval, compare: Compare) -> Decision:
    """Both ends, and whether they belong to it; a named variable must be the same."""
    if p.name and g.name and p.name != g.name:
        return no("name", f"about {p.name}, the truth is about {g.name}")
    if (p.low_closed, p.high_closed) != (g.low_closed, g.high_closed):
        return no("structure", "an end belongs to one interval and not to the other")
    return each((p.low, p.high), (g.low, g.high), compare)


def compare_with_signs(
    left: tuple[Node, str], right: tuple[Node, str], compare: Compare
) -> Decision:
    r"""`(\pm 1, 0)` against `(1, 0), (-1, 0)`."""
    p, g = (
        Node("list", (text,)) if node.kind == "bracket" else node for node, text in (left, right)
    )
    return compare_lists(p, g, compare)


_JOIN = re.compile(r"(?<![A-Za-z])(?:and|or)(?![A-Za-z])")


def joined_otherwise(p: str, g: str, node_g: Node) -> bool:
    """One side says "and", the other "or", of more than numbers: of solutions that are numbers
    both say the same."""
    joins = [set(_JOIN.findall(text)) for text in (p, g)]
    if node_g.kind == "union" and re.search(r"[<>]|\\(?:leq|geq)(?![a-zA-Z])", p):
        joins[1].add("or")  # x < -2 and x > 2 is no number at all
    if not all(joins) or joins[0] & joins[1]:
        return False
    return any(parse_quantity(named_value(item)[1]) is None for item in node_g.items)


def single_item(node_p: Node, node_g: Node) -> tuple[str, str] | None:
    r"""`\{5\}` against `5`; but the set of the empty set is not the empty set."""
    items = (*node_p.items, *node_g.items)
    one = {node_p.kind, node_g.kind} == {"set", "expression"} and len(items) == 2
    return (items[0], items[1]) if one and "\\emptyset" not in items else None


_LETTERS_ONLY = re.compile(
    r"(?:\\(?:angle|triangle|odot|overline|vec)\s?\{?)?[A-Z]{2,}'*\}?\Z|[a-zA-Z]+\Z|\\[a-zA-Z]+\Z"
)


def compare_formulas(p: str, g: str, symbolic: Symbolic) -> Decision:
    cp, cg = (_BASED.sub(r"\1_", compact(side)) for side in (p, g))
    if _unwrapped(cp) == _unwrapped(cg):
        return yes("latex")
    if _LETTERS_ONLY.match(cp) and _LETTERS_ONLY.match(cg):
        return no("name", f"{cp} is not {cg}")  # AB is a segment, not A times B
    if cp.count("'") != cg.count("'"):
        return unknown("screened", "primes are not evaluated")
    if re.fullmatch("[a-z]{3,}", cp) and parse_quantity(cg):
        return no("number", f"{cp} is not {cg}")
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
        return unknown("structure", "a side of the relation is missing")
    left = (compact(sides_p[0]), ops_p[0], compact(sides_p[1]))
    right = (compact(sides_g[0]), ops_g[0], compact(sides_g[1]))
    return symbolic(Query("relation", left, right))


def compare_with_ratio(p: str, g: str, question: str | None = None) -> Decision:
    """At least one side is a ratio or a time."""
    p, g = (side if is_ratio(side) else named_value(side)[1] for side in (p, g))
    return yes("latex") if compact(p) == compact(g) else compare_ratios(p, g, question)


_MAX_DEPTH = 6
_REMAINDER = re.compile(r"\A([0-9]+) ?(?:\\ldots ?)+([0-9]+)\Z")  # 7……3
_WITH_REST = re.compile(r"[0-9]+ ?R ?[0-9]+\Z")
_RATIO_NAME = re.compile(r"\\frac\{([A-Za-z]+)\}\{([A-Za-z]+)\}")


def compare_math(p: str, g: str, symbolic: Symbolic, question: str | None = None) -> Decision:
    """Two mathematical answers; expects `plain` texts."""
    p, g = (_REMAINDER.sub(r"\1R\2", without_bars(without_cases(side))) for side in (p, g))
    if _WITH_REST.match(g) and (_WITH_REST.match(p) or parse_quantity(p)):
        return yes("latex") if p.replace(" ", "") == g else no("number", "another remainder")
    if is_dated(g):
        return compare_labels(p, g)
    if is_ratio(g) or (is_ratio(p) and ":" in p):
        return compare_with_ratio(p, g, question)
    return compare_plain(p, g, symbolic, 0)


def compare_plain(p: str, g: str, symbolic: Symbolic, depth: int) -> Decision:
    cp, cg = compact(p), compact(g)
    if cp == cg:
        return yes("latex")
    if depth > _MAX_DEPTH:
        return unknown("screened", "nested too deeply")
    if is_ratio(g) or (is_ratio(p) and ":" in p):
        return compare_with_ratio(p, g)
    qp, qg = parse_quantity(p), parse_quantity(g)
    if qp is not None and qg is not None:
        return compare_quantities(qp, qg, symbolic)
    point_p, point_g = named_point(p), named_point(g)
    if point_p is not None or point_g is not None:
        (name_p, at_p), (name_g, at_g) = point_p or ("", p), point_g or ("", g)
        if name_p and name_g and name_p != name_g:
            return no("name", f"{name_p} is not {name_g}")
        return compare_plain(at_p, at_g, symbolic, depth + 1)
    return _compare_shapes(p, g, symbolic, depth)


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
    node_p, node_g = parse(p), parse(g)
    name_p, value_p = (None, p) if node_p.kind == "list" else named_value(p)
    name_g, value_g = (None, g) if node_g.kind == "list" else named_value(g)
    if name_p is not None or name_g is not None:
        return _compare_named((name_p, value_p, p), (name_g, value_g, g), symbolic, depth)
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
        return compare_relations(p, g, symbolic)
    if name_p is None and name_g is not None and parse(p).kind != "list":
        sides = split_relation(p)[0]
        if len(sides) == 2 and re.search(r"[a-zA-Z]", re.sub(r"\\[a-zA-Z]+", "", sides[0])):
            return compare_relations(p, g, symbolic)  # y - 2x = 1 for y = 2x + 1
    if name_p is None and name_g and re.search(rf"[0-9] ?{re.escape(name_g)}\Z", value_p):
        return unknown("name", "7m for m = 7: a product with the name, or a unit of one letter")
    a_relation = name_g is None and parse(g).kind != "list" and split_relation(g)[1]
    if a_relation and name_p is not None:
        return compare_relations(p, g, symbolic)
    return compare_plain(value_p, value_g, symbolic, depth + 1)


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
        return compare_lists(node_p, node_g, inner)
    if set(kinds) == {"bracket", "list"} and "\\pm" in (p if kinds[0] == "bracket" else g):
        return compare_with_signs((node_p, p), (node_g, g), inner)
    if "bracket" in kinds and set(kinds) <= {"bracket", "list"}:
        decision = compare_brackets(node_p, node_g, inner)
        if decision.equal is False and kinds == ("bracket", "list") and node_p.mark == "()":
            same = len(node_p.items) == len(node_g.items)
            in_order = each(node_p.items, node_g.items, inner) if same else decision
            joined = " and " in g and not set(",;") & set(g)  # 1 和 3
            return (
                in_order if joined or not in_order.equal else unknown("structure", "a pair, or two")
            )
        return decision
    if kinds[0] == kinds[1] and kinds[0] in ("matrix", "determinant"):
        if node_p.mark != node_g.mark or node_p.mark == "ragged":
            return no("structure", f"{node_p.mark} against {node_g.mark}")
        return each(node_p.items, node_g.items, inner)
    if kinds == ("expression", "expression"):
        return _compare_expressions(p, g, symbolic, depth)
    if "matrix" in kinds and "\\begin" in p and "\\begin" in g:
        return compare_formulas(p, g, symbolic)  # a product of matrices against its value
    single = single_item(node_p, node_g)
    if single is not None:
        return compare_plain(*single, symbolic, depth + 1)
    if "\\pm" in p + g:
        return compare_with_signs((node_p, p), (node_g, g), inner)
    return no("structure", f"{node_p.kind} against {node_g.kind}")


def _compare_expressions(p: str, g: str, symbolic: Symbolic, depth: int) -> Decision:
    sides, operators = split_relation(p)
    if split_relation(g)[1]:
        return compare_relations(p, g, symbolic)
    if "\\approx" in operators:
        return unknown("chain", "two values, of which one is the other rounded")
    if operators and set(operators) != {"="}:
        return no("structure", "a relation against an expression")
    if operators:  # 4/12 = 1/3: every side must equal the truth
        return all_of((compare_plain(side, g, symbolic, depth + 1) for side in sides), "chain")
    if "\\pm" in p or "\\pm" in g:
        return compare_lists(Node("list", (p,)), Node("list", (g,)), deeper(symbolic, depth))
    return compare_formulas(p, g, symbolic)
