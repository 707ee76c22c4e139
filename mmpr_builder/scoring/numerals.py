"""Numbers written as words: `twenty-one`, `two thirds`, `百分之五十`, `三分之二`, `一百零五`.

Exact: everything is a Fraction. What is not wholly a numeral is None ("none" is no zero).
"""

from __future__ import annotations

import re
from fractions import Fraction

from mmpr_builder.scoring.clean import words

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
_PARTS: dict[str, int] = {
    "half": 2,
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
_CHINESE = {char: i for i, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_CHINESE_SCALES = {"十": 10, "百": 100, "千": 1000}
_CHINESE_MYRIADS = {"万": 10**4, "亿": 10**8}
_DIGITS = re.compile(r"[0-9]{1,16}\Z")
_MIXED = re.compile(r"([0-9]{1,16})又([0-9]{1,16})/([0-9]{1,16})\Z")
_CHINESE_NUMERAL = re.compile(r"[零〇一二两三四五六七八九十百千万亿]{1,16}\Z")


def parse_words(text: str) -> Fraction | None:
    """The value of a number in English or Chinese words, or None."""
    if not 0 < len(text) <= 80:
        return None
    if not text.isascii():
        return _chinese(text)
    parts = text.lower().replace("-", " ").split()
    if not parts or not all(part.isalpha() for part in parts):
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
    denominator = _PARTS.get(parts[-1]) or _PARTS.get(parts[-1].removesuffix("s"))
    if parts[-1] in ("halves",):
        denominator = 2
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
        elif word == "dozen" and 0 < group < 100 and word == parts[-1]:
            group *= 12
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
    if _DIGITS.match(text):  # 2又3分之1
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
