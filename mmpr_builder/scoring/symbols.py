r"""Notation that the symbolic parser does not read, in notation that it does.

\vec{a} -> a      \overrightarrow{AB} -> one letter      C_{7}^{2} -> \binom{7}{2}
    2(3) -> 2\cdot(3), which the parser would take for the mixed number 2 + 3
    dx -> {d}x, which it would take for a differential
"""

from __future__ import annotations

import re

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
"""`2 3`, `2{3}`: nobody can tell a product from a slip, and the parser would add them."""
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
