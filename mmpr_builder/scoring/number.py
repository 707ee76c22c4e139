r"""Plain numbers, exact to the last digit.

    parse_number("1,450.50")           -> 2901/2, two decimals
    parse_number(r"1\frac{1}{2}")       -> 3/2
    parse_number("1.6 x 10^-3")        -> 1/625

Our own grammar and never `float()`: that takes `1_0`, `nan`, `١٢` and rounds the rest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from mmpr_builder.scoring.latex import compact
from mmpr_builder.scoring.numerals import parse_words

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?:[ ][0-9]{3})+|[0-9]+)"
NUMBER = rf"(?:{_DIGITS}(?:\.[0-9]*)?|\.[0-9]+)"
_SIGN = r"(?P<sign>[-+]?)\s*"
_EXPONENT = r"\{[-+]?\s*[0-9]{1,3}\}|\([-+]?[0-9]{1,3}\)|[-+]?[0-9]{1,3}"
SCIENTIFIC = (
    r"(?:[eE](?P<e>[-+]?[0-9]{1,3})"
    rf"|\s*(?:x|X|\*|\\times|\\cdot)\s*10\s*\^\s*(?P<p>{_EXPONENT}))"
)
_DECIMAL = re.compile(rf"{_SIGN}(?P<number>{NUMBER})(?:{SCIENTIFIC})?\Z")
_POWER_OF_TEN = re.compile(rf"{_SIGN}10\s*\^\s*(?P<p>\{{[-+]?[0-9]{{1,3}}\}}|[-+]?[0-9]{{1,3}})\Z")
_SLASH = re.compile(
    rf"{_SIGN}(?:(?P<whole>[0-9]+)\s+)?\(?(?P<top>{NUMBER})\)?\s*(?:/|\\div)\s*\(?(?P<low>{NUMBER})\)?\Z"
)
_FRAC = re.compile(
    rf"{_SIGN}(?P<whole>[0-9]+)?\s*\\frac\{{(?P<top_sign>[-+]?)(?P<top>{NUMBER})\}}"
    rf"\{{(?P<low_sign>[-+]?)(?P<low>{NUMBER})\}}\Z"
)
_REPEATING = re.compile(
    r"[-+]?(?P<whole>[0-9]*)\.(?P<fixed>[0-9]*)"
    r"(?:\\(?:overline|bar)\{?(?P<bar>[0-9]+)\}?|\((?P<round>[0-9]+)\)"
    r"|\\dot\{?(?P<first>[0-9])\}?(?:(?P<between>[0-9]*)\\dot\{?(?P<last>[0-9])\}?)?)\Z"
)
_TRAILING_OFF = re.compile(
    r"[-+]?(?P<whole>[0-9]*)\.(?P<fixed>[0-9]*?)(?P<bar>[0-9]{1,3}?)(?P=bar)+\Z"
)
_SIGN_WORD = re.compile(r"(?:minus|negative|负)\s*(?=[0-9.\\])", re.IGNORECASE)
_MAX_DIGITS = 600


@dataclass(frozen=True, slots=True)
class Number:
    """An exact value. `decimals`: digits after the point as written (None: not a plain decimal);
    `significant`: significant digits as written."""

    value: Fraction
    decimals: int | None = None
    significant: int = 0


@lru_cache(maxsize=8192)
def parse_number(text: str) -> Number | None:
    """A decimal, fraction, mixed number, scientific notation or number in words; else None."""
    text = text.strip()
    if not text or len(text) > _MAX_DIGITS:
        return None
    if (
        text[0] in "([{"
        and text[-1:] == {"(": ")", "[": "]", "{": "}"}[text[0]]
        and "," not in text
    ):
        inner = text[1:-1]
        return parse_number(inner) if text[0] != "[" and not set("()[]{}") & set(inner) else None
    first = text[0]
    if first.isdigit() or first in "+-.\\":
        said = _words(text) if "又" in text or "分之" in text else None
        return _decimal(text) or _fraction(text) or _repeating(text) or said
    signed = _SIGN_WORD.match(text)
    return parse_number("-" + text[signed.end() :]) if signed else _words(text)


def _decimal(text: str) -> Number | None:
    found = _DECIMAL.match(text)
    if not found:
        power = _POWER_OF_TEN.match(text)
        if not power:
            return None
        value = Fraction(10) ** int(power["p"].strip("{}"))
        return Number(-value if power["sign"] == "-" else value)
    digits = found["number"].replace(",", "").replace(" ", "")
    whole, _, decimals = digits.partition(".")
    value = Fraction(int((whole + decimals) or "0"), 10 ** len(decimals))
    exponent = found["e"] or found["p"]
    if exponent:
        value *= Fraction(10) ** int(exponent.strip("{}()").replace(" ", ""))
    significant = len((whole + decimals).lstrip("0"))
    value = -value if found["sign"] == "-" else value
    return Number(value, None if exponent else len(decimals), significant)


def _fraction(text: str) -> Number | None:
    found = _SLASH.match(text)
    if not found:
        found = _FRAC.match(compact(text)) if "\\frac" in text else None
        if not found:
            return None
    top, low = _decimal(found["top"]), _decimal(found["low"])
    if top is None or low is None or low.value == 0:
        return None
    value = top.value / low.value
    groups = found.groupdict()
    if "-" in (groups.get("top_sign"), groups.get("low_sign")):
        value = -value if groups.get("top_sign") != groups.get("low_sign") else value
    if found["whole"]:
        if not 0 <= value < 1:
            return None  # 1 3/2 is no mixed number
        value += int(found["whole"])
    return Number(-value if found["sign"] == "-" else value)


def _repeating(text: str) -> Number | None:
    r"""`0.1\overline{6}`, `0.1(6)`, `0.1\dot{6}`; `0.333...` too, where a period is to be seen."""
    text = "".join(text.split())
    if text.endswith("\\ldots"):
        found = _TRAILING_OFF.match(text.removesuffix("\\ldots"))
        digits = text.removesuffix("\\ldots")
        decimals = len(digits.partition(".")[2])
        if not found or max(3, 2 * len(found["bar"])) + len(found["fixed"]) > decimals:
            return _decimal(digits) if len(digits) > 7 else None  # 1.41421… cut off
    else:
        found = _REPEATING.match(text)
    if not found:
        return None
    groups = found.groupdict()
    dots = "".join(groups.get(name) or "" for name in ("first", "between", "last"))
    period = groups["bar"] or groups.get("round") or dots
    if len(text) > 60:
        return None
    low = 10 ** len(found["fixed"])
    value = Fraction(int((found["whole"] + found["fixed"]) or "0"), low)
    value += Fraction(int(period), low * (10 ** len(period) - 1))
    return Number(-value if text[0] == "-" else value)


def _words(text: str) -> Number | None:
    value = parse_words(text)
    return None if value is None else Number(value)


def same_value(predicted: Number, gold: Number) -> bool:
    """Exactly equal, or one is the other written out to at least six significant digits.

    Rounding is accepted (or cutting off, one unit in the last place), but only where nobody can
    take it for another answer: 3.142857142857 is 22/7, 0.33 is not 1/3.
    """
    if predicted.value == gold.value:
        return True
    return _rounds_to(predicted, gold) or _rounds_to(gold, predicted)


def _rounds_to(coarse: Number, fine: Number) -> bool:
    if coarse.decimals is None or coarse.decimals < 3 or coarse.significant < 6:
        return False
    if fine.decimals is not None and (fine.decimals <= coarse.decimals or coarse.significant < 8):
        return False
    return abs(coarse.value - fine.value) < Fraction(1, 10**coarse.decimals)
