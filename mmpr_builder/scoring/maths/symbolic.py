r"""What a worker process does with one screened `Query`; imported there and nowhere else.

LaTeX goes through latex2sympy2's grammar (math-verify's parser), never through `sympify`,
`parse_expr` or `eval`. Equality is decided by value, to 30 digits: constants by evaluating the
difference, expressions with variables at several random points, positive and negative ones
(`\sqrt{x^2}` is not `x`). Agreement there to 30 digits is an identity; disagreement is a proof.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import sympy
from latex2sympy2_extended import latex2sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig

_DIGITS = 40
_CLOSE = sympy.Float("1e-28", _DIGITS)
_POINTS = 5
_CONVERSION = ConversionConfig(lowercase_symbols=False)
_DEGREES = re.compile(r"(?<![0-9])([0-9]++(?:\.[0-9]++)?)°")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?\Z")
_DECIMAL = re.compile(r"[-+]?[0-9]*\.([0-9]+)\Z")


class Unclear(Exception):
    """The comparison cannot be decided; the message says why."""


_TYPICAL = (
    r"\frac{1}{2}\sqrt{3}",
    r"x^{2}+2x-1",
    r"\sin(x)\cos 2",
    r"4\pi",
    "(a+b)(c-d)/3",
    "-0.5",
)


def warm_up() -> None:
    """Parse what answers look like: the grammar's tables are built at first use, for a second."""
    for latex in _TYPICAL:
        compare("expression", (latex,), ("y+1",))


def compare(kind: str, predicted: Iterable[str], gold: Iterable[str]) -> tuple[bool | None, str]:
    """(equal, reason) of one query; `None` when it cannot be decided."""
    try:
        if kind == "relation":
            return _relation(tuple(predicted), tuple(gold)), ""
        (left,), (right,) = predicted, gold
        return _expressions(left, right), ""
    except Unclear as reason:
        return None, str(reason)


@lru_cache(maxsize=256)
def _parse(latex: str) -> Any:
    """A sympy expression, remembered because the truth comes again with each answer to it."""
    if _NUMBER.match(latex):
        return sympy.Rational(latex)
    latex = _DEGREES.sub(r"\\frac{\1\\pi}{180}", latex).replace("\\cr", "\\\\ ")
    try:
        parsed = latex2sympy(latex, conversion_config=_CONVERSION)
    except Exception as error:  # noqa: BLE001 -- the parser raises whatever its grammar runs into
        raise Unclear(f"{latex[:60]!r} does not parse: {type(error).__name__}") from None
    if not isinstance(parsed, sympy.Basic | sympy.MatrixBase):
        raise Unclear(f"{latex[:60]!r} is no expression")
    constants = {sympy.Symbol("i"): sympy.I, sympy.Symbol("e"): sympy.E}
    symbols = {s for s in parsed.free_symbols if str(s) in ("i", "e")}
    parsed = parsed.subs({s: constants[sympy.Symbol(str(s))] for s in symbols})
    return _exact(parsed)


def _exact(parsed: Any) -> Any:
    """Decimals as the fractions they are: 0.1 + 0.2 is 3/10."""
    floats = parsed.atoms(sympy.Float) if hasattr(parsed, "atoms") else ()
    return parsed.xreplace({f: sympy.Rational(str(f)) for f in floats})


def _expressions(left: str, right: str) -> bool:
    a, b = _parse(left), _parse(right)
    if any(getattr(x, "is_Matrix", False) or isinstance(x, sympy.MatrixExpr) for x in (a, b)):
        return _matrices(a, b)
    for x in (a, b):
        if not isinstance(x, sympy.Expr):
            raise Unclear("not an expression")
    if a == b:
        return True
    free = a.free_symbols | b.free_symbols
    if not free:
        return _constants(a, b, left, right)
    return _identical(a - b, a, free)


def _matrices(a: Any, b: Any) -> bool:
    a, b = (x.doit() if hasattr(x, "doit") else x for x in (a, b))
    if not (getattr(a, "is_Matrix", False) and getattr(b, "is_Matrix", False)):
        return False
    if a.shape != b.shape:
        return False
    cells = zip(sympy.Matrix(a), sympy.Matrix(b), strict=True)
    return all(_identical(x - y, x, x.free_symbols | y.free_symbols) for x, y in cells)


def _number(expression: Any, point: dict[Any, Any] | None = None) -> Any:
    """The value, or None. The point is put in while evaluating, never before: powers of rational
    numbers with rational exponents would be kept exact and grow without bound."""
    value = sympy.sympify(expression).evalf(_DIGITS, subs=point or None)
    if not value.is_number or value.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo):
        return None
    return value


def _constants(a: Any, b: Any, left: str, right: str) -> bool:
    a, b = a.doit(), b.doit()
    if a.is_Rational and b.is_Rational:
        return bool(a == b) or _written_out(a, b, left, right)
    if a.is_infinite or b.is_infinite:
        return bool(a == b)
    x, y = _number(a), _number(b)
    if x is None or y is None:
        raise Unclear("has no finite value")
    return _near(x - y, x, y) or _written_out(x, y, left, right)


def _near(difference: Any, *sizes: Any) -> bool:
    scale = max([sympy.Float(0)] + [abs(size) for size in sizes])
    return bool(abs(difference) <= _CLOSE * scale)


def _written_out(a: Any, b: Any, left: str, right: str) -> bool:
    """One side is a plain decimal of six or more digits that agrees in all of them."""
    for text in (left, right):
        found = _DECIMAL.match(text)
        digits = text.replace(".", "").lstrip("-+0")
        if found and len(digits) >= 6 and len(found[1]) >= 3:
            return bool(abs(a - b) < sympy.Rational(1, 10 ** len(found[1])))
    return False


def _identical(difference: Any, size: Any, free: set[Any]) -> bool:
    """Whether a difference vanishes at random points; undefined points do not count."""
    if difference == 0:
        return True
    if not free:
        x = _number(difference)
        return x is not None and _near(x, _number(size) or 1)
    symbols = sorted(free, key=str)
    rng = random.Random(20240229)
    agreed, apart = 0, False
    for attempt in range(4 * _POINTS):
        # Positive first: logarithms and roots are real there; then both signs, and beyond the
        # places where an absolute value turns round.
        low, high = ((0.2, 3.0), (0.2, 3.0), (-3.0, 3.0), (3.0, 60.0), (-60.0, -3.0))[attempt % 5]
        point = {s: sympy.Rational(round(rng.uniform(low, high) * 997), 997) for s in symbols}
        x, scale = _number(difference, point), _number(size, point)
        if x is None or scale is None:
            continue
        if not _near(x, scale, sympy.Float("1e-3")):
            if agreed < 2 or not _has_roots(difference):
                return False
            apart = True  # as ln a + ln b and ln(ab) are where both are negative
            continue
        agreed += 1
        if agreed >= _POINTS and not apart:
            return True
    if apart:
        raise Unclear("equal for positive values")
    raise Unclear("has no value at the points tried")


def _has_roots(expression: Any) -> bool:
    """Whether an expression has roots, logarithms or absolute values."""
    roots = (node for node in expression.atoms(sympy.Pow) if not node.exp.is_integer)
    return any(True for _ in roots) or expression.has(sympy.log, sympy.Abs)


_FLIP = {"<": ">", ">": "<", "\\leq": "\\geq", "\\geq": "\\leq"}


def _relation(left: tuple[str, ...], right: tuple[str, ...]) -> bool:
    """One side minus the other must be the same up to a factor: positive for an inequality."""
    f = _parse(left[0]) - _parse(left[2])
    g = _parse(right[0]) - _parse(right[2])
    if f == 0 or g == 0:
        return bool(f == 0 and g == 0)
    if f.free_symbols != g.free_symbols:
        return False
    factor = _constant_ratio(f, g)
    if factor is None:
        if not all(side.is_polynomial(*side.free_symbols) for side in (f, g)):
            raise Unclear("relations that are no multiples of each other")
        return False
    if left[1] == right[1]:
        return left[1] in ("=", "\\neq", "\\approx") or bool(factor > 0)
    return _FLIP.get(left[1]) == right[1] and bool(factor < 0)


def _constant_ratio(f: Any, g: Any) -> Any:
    """The constant f / g, or None if it is none (or not real)."""
    rng = random.Random(20240301)
    symbols = sorted(f.free_symbols, key=str)
    point = {s: sympy.Rational(round(rng.uniform(0.2, 3.0) * 997), 997) for s in symbols}
    x, y = _number(f, point), _number(g, point)
    if not x or not y:
        raise Unclear("has no value at the point tried")
    ratio = x / y
    return ratio if ratio.is_real and _identical(f - ratio * g, f, set(symbols)) else None
