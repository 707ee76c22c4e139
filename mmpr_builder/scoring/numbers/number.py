"""Numbers written as words: `twenty-one`, `two thirds`, `百分之五十`, `三分之二`, `一百零五`.

Exact: everything is a Fraction. What is not wholly a numeral is None ("none" is no zero).
"""

from __future__ import annotations

import ast
import operator
import re
import struct
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeVar

from mmpr_builder.scoring.clean import words
from mmpr_builder.scoring.latex import compact

_UNITS = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen "
    "fourteen fifteen sixteen seventeen eighteen nineteen"
)
_TENS = words("twenty thirty forty fifty sixty seventy eighty ninety")
ENGLISH: dict[str, int] = {word: i for i, word in enumerate(_UNITS)} | {
    word: 10 * (i + 2) for i, word in enumerate(_TENS)
}
SCALES: dict[str, int] = {
    "dozen": 12,
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
PARTS: dict[str, int] = {
    "half": 2,
    "halve": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "ninth": 9,
    "tenth": 10,
    "twelfth": 12,
    "hundredth": 100,
}
_FIRST = {*ENGLISH, *words("a an half minus negative")}
_CHINESE = {char: i for i, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_CHINESE_SCALES = {"十": 10, "百": 100, "千": 1000}
_CHINESE_MYRIADS = {"万": 10**4, "亿": 10**8}
_FIGURES = re.compile(r"[0-9]{1,16}\Z")
_MIXED = re.compile(r"([0-9]{1,16})又([0-9]{1,16})/([0-9]{1,16})\Z")
_CHINESE_NUMERAL = re.compile(r"[零〇一二两三四五六七八九十百千万亿]{1,16}\Z")


def parse_words(text: str) -> Fraction | None:
    """The value of a number in English or Chinese words, or None."""
    if not 0 < len(text) <= 80:
        return None
    if not text.isascii():
        return _chinese(text)
    parts = text.lower().replace("-", " ").split()
    if not parts or parts[0] not in _FIRST or not all(part.isalpha() for part in parts):
        return None
    if "point" in parts[1:]:
        at = parts.index("point")
        digits = [ENGLISH.get(part, 10) for part in parts[at + 1 :]]
        whole = _english_integer(parts[:at])
        if whole is None or not digits or max(digits) > 9:
            return None
        return whole + Fraction(int("".join(map(str, digits))), 10 ** len(digits))
    negative = parts[0] in ("minus", "negative")
    value = _english_fraction(parts[1:] if negative else parts)
    return -value if negative and value is not None else value


def _english_fraction(parts: list[str]) -> Fraction | None:
    if not parts:
        return None
    denominator = PARTS.get(parts[-1]) or PARTS.get(parts[-1].removesuffix("s"))
    if denominator is None:
        whole = _english_integer(parts)
        return None if whole is None else Fraction(whole)
    if parts[:-1] in (["a"], ["an"]) or (len(parts) == 1 and parts[0] == "half"):
        return Fraction(1, denominator)
    if "and" in parts:  # two and a half, three and two thirds
        i = parts.index("and")
        whole = _english_integer(parts[:i])
        part = _english_fraction(parts[i + 1 :])
        return None if whole is None or part is None or part >= 1 else whole + part
    numerator = _english_integer(parts[:-1])
    return None if numerator is None or numerator >= 20 else Fraction(numerator, denominator)


def _english_integer(parts: list[str]) -> int | None:
    total = group = 0
    previous = ""
    if parts[:1] in (["a"], ["an"]) and parts[1:2] and parts[1] in SCALES:
        parts = ["one", *parts[1:]]
    for word in parts:
        if word == "and":
            if previous not in SCALES:
                return None
        elif word in ENGLISH:
            value = ENGLISH[word]
            # "twenty one" adds up, "one twenty" and "five six" are no numbers.
            if previous in ENGLISH and not (ENGLISH[previous] >= 20 and 0 < value < 10):
                return None
            group += value
        elif word == "hundred" and 0 < group < 100:
            group *= 100
        elif word in SCALES and group > 0 and word != "hundred":
            total += group * SCALES[word]
            group = 0
        else:
            return None
        previous = word
    return total + group if parts and previous != "and" else None


def _chinese(text: str) -> Fraction | None:
    if text.startswith("负"):
        value = _chinese(text[1:])
        return -value if value is not None else None
    if text.startswith("百分之"):
        value = _chinese(text[3:])
        return value / 100 if value is not None else None
    if text == "一半":
        return Fraction(1, 2)
    mixed = _MIXED.match(text)  # 2又1/3
    if mixed:
        text = f"{mixed[1]}又{mixed[3]}分之{mixed[2]}"
    if "又" in text:
        whole_text, _, part_text = text.partition("又")
        base, part = _chinese_integer(whole_text), _chinese(part_text)
        return base + part if base is not None and part is not None and 0 < part < 1 else None
    if "分之" in text:
        below, _, above = text.partition("分之")
        denominator, numerator = _chinese_integer(below), _chinese_integer(above)
        return Fraction(numerator, denominator) if denominator and numerator is not None else None
    whole, point, digits = text.partition("点")
    if point:
        integer = _chinese_integer(whole)
        if integer is None or not digits or any(char not in _CHINESE for char in digits):
            return None
        decimals = "".join(str(_CHINESE[char]) for char in digits)
        return integer + Fraction(int(decimals), 10 ** len(decimals))
    value_int = _chinese_integer(text)
    return None if value_int is None else Fraction(value_int)


def _chinese_integer(text: str) -> int | None:
    if _FIGURES.match(text):  # 2又3分之1
        return int(text)
    if not _CHINESE_NUMERAL.match(text):
        return None
    if all(char in _CHINESE for char in text):  # digit by digit: 二〇一九; 四五 is "four or five"
        if len(text) == 2:
            return None
        return int("".join(str(_CHINESE[char]) for char in text))
    total = group = digit = 0
    for char in text:
        if char in _CHINESE:
            digit = _CHINESE[char]
        elif char in _CHINESE_SCALES:
            group += (digit or (1 if char == "十" else 0)) * _CHINESE_SCALES[char]
            digit = 0
        else:
            total = (total + group + digit) * _CHINESE_MYRIADS[char]
            group = digit = 0
    # 三千六 is 3600, 三千零六 is 3006
    last = {**_CHINESE_SCALES, **_CHINESE_MYRIADS}.get(text[-2:-1], 0)
    return total + group + digit * (last // 10 if last > 10 else 1)


_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?:[ ][0-9]{3})+|[0-9]+)"
NUMBER = rf"(?:{_DIGITS}(?:\.[0-9]*)?|\.[0-9]+)"
_SIGN = r"(?P<sign>[-+]?)\s*+"
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
    rf"{_SIGN}(?:(?P<whole>[0-9]++)\s*+)?\\frac\{{(?P<top_sign>[-+]?)(?P<top>{NUMBER})\}}"
    rf"\{{(?P<low_sign>[-+]?)(?P<low>{NUMBER})\}}\Z"
)
_REPEATING = re.compile(
    r"[-+]?(?P<whole>[0-9]*)\.(?P<fixed>[0-9]*)"
    r"(?:\\(?:overline|bar)\{?(?P<bar>[0-9]+)\}?|\((?P<round>[0-9]+)\)"
    r"|\\dot\{?(?P<first>[0-9])\}?(?:(?P<between>[0-9]*)\\dot\{?(?P<last>[0-9])\}?)?)\Z"
)
_TRAILING_OFF = re.compile(
    r"[-+]?(?P<whole>[0-9]*)\.(?P<fixed>[0-9]{0,60}?)(?P<bar>[0-9]{1,3}?)(?P=bar){1,60}+\Z"
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
    if text[0] + text[-1] == "()" and "," not in text:
        return parse_number(text[1:-1])
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
    if len(text) > 60:
        return None
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
    low = 10 ** len(found["fixed"])
    value = Fraction(int((found["whole"] + found["fixed"]) or "0"), low)
    value += Fraction(int(period), low * (10 ** len(period) - 1))
    return Number(-value if text[0] == "-" else value)


def _words(text: str) -> Number | None:
    value = parse_words(text)
    return None if value is None else Number(value)


_OPERATOR = re.compile(r"\\(?:times|cdot)(?![a-z])|(?<![a-z\\])x(?=\s*[0-9(.])|\\div(?![a-z])")
_FRACTION = re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_SUM = re.compile(r"[0-9.+*/() -]{3,80}\Z")
_NO_SUM = re.compile(r"[0-9 -]+\Z|.*(?:\*\*|//)")
_OPERATIONS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def evaluate(text: str) -> Fraction | None:
    r"""The value of a sum of plain numbers, exactly: `2\times (8+5)` is 26. Python's grammar reads
    it; nothing is run."""
    text = _FRACTION.sub(r"((\1)/(\2))", text)
    text = _OPERATOR.sub(lambda found: "/" if "div" in found[0] else "*", text).strip()
    return None if not _SUM.match(text) or _NO_SUM.match(text) else _value_of(text, Fraction)


_PI = "3.14159265358979323846264338327950288419716939937510582097494459230781640628621"
_CLOSED = re.compile(r"(?:[0-9.+*/()-]|sqrt|pi)+\Z")
_ROOT = re.compile(r"\\sqrt\{([^{}]*)\}")
_POWER = re.compile(r"\^\{([^{}]*)\}")
_SIDE_BY_SIDE = re.compile(r"(?<=[0-9)i])(?=[(sp])|(?<=[)i])(?=[0-9])")
_UNSURE = re.compile(r"[0-9.]\\frac|[-+*/][-+*/]|\}\^")  # Mixed numbers; 3+-2; powers of powers.


def approximate(latex: str) -> Decimal | None:
    r"""The value of a `compact` expression without letters, to some 60 digits; None for others:
    `2\sqrt{3}+\frac{\pi}{6}`. No power is above 99, no root of a negative number."""
    text = latex.replace("\\cdot", "*").replace(" ", "")
    slash = "/" in text
    if len(text) > 200 or _UNSURE.search(text):
        return None
    while "{" in text:
        before = text
        text = _POWER.sub(r"**(\1)", _ROOT.sub(r"sqrt(\1)", text))
        text = _FRACTION.sub(r"((\1)/(\2))", text)
        if text == before:
            return None
    text, joined = _SIDE_BY_SIDE.subn("*", text.replace("\\pi", "pi"))
    if not _CLOSED.match(text) or (slash and joined):  # 1/2pi may be either
        return None
    with localcontext(prec=80):
        return _value_of(text, Decimal)


Exact = TypeVar("Exact", Fraction, Decimal)


def _value_of(text: str, number: type[Exact]) -> Exact | None:
    """The value of an expression in Python's grammar; None where it has none."""

    def value(node: ast.expr) -> Any:
        match node:
            case ast.Constant():
                return number(str(node.value))
            case ast.Name(id="pi"):
                return number(_PI)
            case ast.UnaryOp(op=ast.USub()):
                return -value(node.operand)
            case ast.Call(func=ast.Name(id="sqrt"), args=[inner]):
                return value(inner).sqrt()
            case ast.BinOp():
                left, right = value(node.left), value(node.right)
                if isinstance(node.op, ast.Pow) and (abs(right) > 99 or not left):
                    raise ValueError("a power too large, or one of zero")
                return _OPERATIONS[type(node.op)](left, right)
        raise ValueError("no sum")

    try:
        found: Exact = value(ast.parse(text, mode="eval").body)
        return found
    except (SyntaxError, ValueError, ArithmeticError):
        return None


def same_value(predicted: Number, gold: Number) -> bool:
    """Exactly equal, or one is the other written out to at least six significant digits.

    Rounding is accepted (or cutting off, one unit in the last place), but only where it
    cannot be taken for another answer: 3.142857142857 is 22/7, 0.33 is not 1/3.
    """
    if predicted.value == gold.value or _is_single(predicted, gold):
        return True
    return _rounds_to(predicted, gold) or _rounds_to(gold, predicted)


def _is_single(predicted: Number, gold: Number) -> bool:
    """1.1 against 1.100000023841858, which is what 32 bits make of it."""
    if (gold.decimals or 0) < 9 or gold.significant < 12 or predicted.decimals is None:
        return False
    try:
        bits = [struct.pack("f", float(number.value)) for number in (predicted, gold)]
    except OverflowError:
        return False
    return bits[0] == bits[1]


def _rounds_to(coarse: Number, fine: Number) -> bool:
    if coarse.decimals is None or coarse.decimals < 3 or coarse.significant < 6:
        return False
    if fine.decimals is not None and (fine.decimals <= coarse.decimals or coarse.significant < 8):
        return False
    return abs(coarse.value - fine.value) < Fraction(1, 10**coarse.decimals)
