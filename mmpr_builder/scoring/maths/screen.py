r"""Notation that the symbolic parser does not read, in notation that it does.

\vec{a} -> a      \overrightarrow{AB} -> one letter      C_{7}^{2} -> \binom{7}{2}
    2(3) -> 2\cdot(3), which the parser would take for the mixed number 2 + 3
    dx -> {d}x, which it would take for a differential
"""

from __future__ import annotations

import re
from decimal import Decimal

from mmpr_builder.scoring.clean import words
from mmpr_builder.scoring.decision import Decision, Query, Symbolic, no, unknown, yes
from mmpr_builder.scoring.numbers.number import approximate

_ARROW = re.compile(r"\\(?:vec|hat|overrightarrow)(?:\{(\\?[a-zA-Z]+)\}| ([a-zA-Z]))")
_ANGLE = re.compile(r"\\(?:angle|measuredangle) ?([A-Z]{1,3}(?![A-Za-z])|[0-9](?![0-9]))")
_BAR = re.compile(r"\\(?:bar|overline|tilde|widehat)\{([a-zA-Z])\}")
_ODD_ROOT = re.compile(  # the real one, where sympy takes the principal one
    r"\\sqrt\[([3579])\]\{-([0-9./]+|\\frac\{[0-9]+\}\{[0-9]+\})\}"
)
_SYMBOL = re.compile(r"(?<![A-Za-z\\])[CAP]_\{([0-9]{1,3})\}\^\{([0-9]{1,3})\}")

_ADJACENT = re.compile(
    r"(?<=[)\]])(?=[(\[0-9])(?<!sqrt\[[0-9]\])|(?<=[0-9])(?=[(\[]|\\binom)(?<!_[0-9])"
)
_PI_TIMES = re.compile(r"\\pi\s*(?=\()")
_DIFFERENTIAL = re.compile(r"\\[a-zA-Z]+|_\{[^{}]*\}|d(?=[a-zA-Z])")
SIDE_BY_SIDE = re.compile(r"[0-9] [0-9]|[0-9]\\?\{[0-9]|(?:\A|[^a-zA-Z}\]^_])\{[0-9.]+\}\\?\{")
"""`2 3`, `2{3}` may be a product or a slip, and the parser would add them."""
IMPROPER = re.compile(r"(?<![0-9.}\])])[0-9]+\\frac\{([0-9]+)\}\{([0-9]+)\}")
"""`3\\frac{5}{2}`: a product, or a mixed number gone wrong."""


def symbols(text: str) -> str:
    r"""`\vec{a}` -> `a`, `\overrightarrow{AB}` -> one letter, `C_{7}^{2}` -> a binomial."""
    if "\\sqrt[" in text:
        text = _ODD_ROOT.sub(r"(-\\sqrt[\1]{\2})", text)
    if "_" in text:
        text = _SYMBOL.sub(_count, text)
    text = _PI_TIMES.sub(r"\\pi\\cdot ", text)
    text = _ADJACENT.sub(r"\\cdot ", text)
    if "d" in text:
        text = _DIFFERENTIAL.sub(lambda f: "{d}" if f[0] == "d" else f[0], text)
    if "\\" not in text:
        return text
    text = _ARROW.sub(lambda f: f"v_{{{f[1]}}}" if f[1] and len(f[1]) > 1 else f[1] or f[2], text)
    text = _ANGLE.sub(r"n_{\1}", text)
    return _BAR.sub(r"\1_{bar}", text)


def _count(found: re.Match[str]) -> str:
    """Combinations and arrangements as China writes them: of n below, k above."""
    n, k = int(found[1]), int(found[2])
    if k > n:
        return found[0]
    if found[0].startswith("C"):
        return rf"\binom{{{n}}}{{{k}}}"
    return rf"\frac{{{n}!}}{{{n - k}!}}"


MAX_SYMBOLIC_CHARS = 300
_MAX_DEPTH = 12
_ALLOWED = frozenset(
    words("""
    frac sqrt pi sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp
    cdot div alpha beta gamma delta epsilon theta lambda mu rho sigma tau phi omega Delta
    Omega hbar infty binom pm cr begin end zeta eta kappa nu xi chi psi Gamma Theta Lambda
    Sigma Phi Psi
    """)
)
_SMALL_SUM = re.compile(r"[0-9]?[a-z](?:[+-][0-9a-z]{1,2})?\Z")
_COMMAND = re.compile(r"\\([a-zA-Z]+|.)", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z0-9_^{}()\[\]+\-*/.,!|\\ °=<>'&]*\Z")
_CODE = re.compile(r"__|\b(?:import|lambda|exec|eval|open|def|os)\b|%s")
_POWER = re.compile(r"\^\{?[-+(]*[0-9]")
_TOO_MUCH = [
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"(?:[0-9]|\))\^\{?\(?[0-9]+\^\{?\(?[0-9]{2,}|\)\^\{?\(?[0-9]+\^", "a power too large"),
        (r"\\Gamma\(", "a gamma function too large"),
        (r"\^\{?[-+(]*[0-9]{4,}", "exponent too large"),
        (r"\^\{[^{}]*\}\^|\)\^.*\)\^.*\)\^", "tower of powers"),
        (r"\\frac\{(?:d|\\partial)(?:\^\{[^{}]*\})?[a-zA-Z]?\}\{(?:d|\\partial)", "a derivative"),
        (r"[0-9][A-Za-z][0-9]", "digits run into a letter"),  # 0x10 is no 16
    )
]
_SMALL_BINOMIAL = re.compile(r"\\binom\{[0-9]{1,4}\}\{[0-9]{1,4}\}")
_FACTORIAL = re.compile(r"((?<!\d)\d++|\([a-z0-9+-]{1,8}\)|[)}\]]|[a-z])!+")


def why_screened(text: str) -> str | None:
    """The reason why a `compact` text must not be evaluated, or None if it may."""
    if len(text) > MAX_SYMBOLIC_CHARS:
        return f"longer than {MAX_SYMBOLIC_CHARS} characters"
    if _CODE.search(text):
        return "looks like code"
    commands = _COMMAND.findall(text)
    strange = next((name for name in commands if name not in _ALLOWED), None)
    if strange is not None:
        return f"\\{strange} is not evaluated"
    if not _PLAIN.match(text):
        return "has characters that are not mathematics"
    if _depth(text) > _MAX_DEPTH:
        return "nested too deeply"
    if SIDE_BY_SIDE.search(text):
        return "numbers side by side"
    if any(int(top) >= int(low) for top, low in IMPROPER.findall(text)):
        return "neither a product nor a mixed number"
    return _explosive(text)


def _depth(text: str, *, powers: bool = False) -> int:
    """How deep brackets are nested; `powers`: only exponents (`e^{x^{2}}` has 2)."""
    stack: list[bool] = []
    deepest = 0
    for i, char in enumerate(text):
        if char in "{([":
            stack.append(not powers or text[i - 1 : i] == "^")
            deepest = max(deepest, sum(stack))
        elif char in "})]" and stack:
            stack.pop()
    return deepest


def _explosive(text: str) -> str | None:
    for pattern, reason in _TOO_MUCH:
        if pattern.search(text):
            return reason
    if _depth(text, powers=True) > 2:
        return "tower of powers"
    for found in _FACTORIAL.finditer(text):
        of = found[1].strip("()")
        small = len(of) <= 4 and int(of) <= 5000 if of.isdigit() else bool(_SMALL_SUM.match(of))
        if found[0].count("!") > 1 or not small:
            return "factorial too large"
    if text.count("\\binom") != len(_SMALL_BINOMIAL.findall(text)):
        return "binomial too large"
    if text.count("\\log") + text.count("\\ln") > 4:
        return "too many logarithms"
    if text.count("|") > 6 or text.count("\\sqrt") > 8 or len(_POWER.findall(text)) > 16:
        return "too many bars, radicals or powers"
    return None


MAX_QUERIES = 24
"""Comparisons of one answer at most: the items of two lists, each with each."""


def _respelled(query: Query) -> Query:
    sides = [tuple(symbols(part) for part in side) for side in (query.predicted, query.gold)]
    return Query(query.kind, *sides)


_SAME = Decimal("1e-40")


def _without_letters(query: Query) -> Decision | None:
    """Values are compared here if they are equal or far apart; those that are near may be rounded,
    and go to the worker with all others."""
    if query.kind != "expression":
        return None
    p, g = approximate(query.predicted[0]), approximate(query.gold[0])
    if p is None or g is None:
        return None
    apart, size = abs(p - g), max(abs(p), abs(g))
    if apart <= size * _SAME:
        return yes("symbolic")
    return no("symbolic") if 1000 * apart > size else None


def screened(symbolic: Symbolic) -> Symbolic:
    """Put the screen before a worker, for one answer: what is not let through is undecided, and
    after a first time-out nothing more is asked."""
    stopped: list[Decision] = []
    asked: list[Query] = []

    def answer(query: Query) -> Decision:
        if stopped:
            return stopped[0]
        query = _respelled(query)
        for text in (*query.predicted[::2], *query.gold[::2]):  # [1] is a relation's operator
            reason = why_screened(text)
            if reason is not None:
                return unknown("screened", reason)
        asked.append(query)
        if len(asked) > MAX_QUERIES:
            return unknown("screened", f"more than {MAX_QUERIES} symbolic comparisons")
        decision = _without_letters(query) or symbolic(query)
        if decision.rule == "timeout":
            stopped.append(decision)
        return decision

    return answer
