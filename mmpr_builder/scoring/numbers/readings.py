"""Ratios and clock times: `7:32`, `10:15 a.m.`. A time is equal to itself only.

`3:15` may be either; the question says which, or else that it is not in lowest terms.
"""

from __future__ import annotations

import re
from fractions import Fraction
from math import gcd

from mmpr_builder.scoring.clean import words
from mmpr_builder.scoring.decision import Decision, no, unknown, yes
from mmpr_builder.scoring.latex import CURRENCY
from mmpr_builder.scoring.numbers.number import parse_number
from mmpr_builder.scoring.numbers.quantity import parse_quantity

_TIME = re.compile(
    r"(?P<h>[01]?[0-9]|2[0-4])(?::(?P<m>[0-5][0-9]))?(?::(?P<s>[0-5][0-9]))?"
    r"(?P<clock>\s*o'clock)?\s*(?P<half>[ap]\.?\s?m\b\.?)?\Z",
    re.IGNORECASE,
)
_PART = r"[0-9]+(?:\.[0-9]+)?|\\sqrt\{?[0-9]+\}?|[0-9]*\\pi"
_TO = re.compile(r"\A([0-9.]+) to ([0-9.]+)\Z")
_RATIO = re.compile(rf"(?:{_PART})(?:\s*(?::|\\colon)\s*(?:{_PART}))+\Z")
_ASKS_FOR_RATIO = re.compile(
    r"\b(?:ratios?|proportions?|odds|scale)\b|之比|比例|比值|的比(?!较|赛)|比[是为]"
    r"|(?-i:(?<![a-zA-Z])[A-Z]{1,3}\s?:\s?[A-Z]{1,3}(?![a-zA-Z]))",
    re.IGNORECASE,
)
_ASKS_FOR_TIME = re.compile(
    r"\b(?:what|which) time\b|\btime (?:is|does|did|was|will|shown|displayed|on)\b"
    r"|\b(?:clocks?|wristwatch|watch(?:es)?|o'clock)\b"
    r"|\bwhen (?:is|are|was|were|does|do|did|will|can|should)\b|几点|什么时[候间]|时间|时刻|钟",
    re.IGNORECASE,
)


def is_ratio(text: str) -> bool:
    """`3:4`, `10:15`, `5 pm`; expects `plain` text."""
    text = text.strip()
    return _parse_time(text) is not None or bool(_RATIO.match(text))


_CHINESE_TIME = re.compile(
    r"(?P<half>上午|早上|凌晨|下午|晚上)?\s*(?P<h>[0-2]?[0-9])(?:(?:点|时)(?:(?P<m>[0-5]?[0-9])分?|(?P<part>半|一刻))?"
    r"|:(?P<minute>[0-5][0-9]))整?\Z"
)


def _western(text: str) -> str:
    """下午3点半 -> `3:30 pm`, 八点二十五分 -> `8:25`; anything else stays."""
    found = _CHINESE_TIME.match(text) if not text.isascii() else None
    if not found or (found["half"] is None and found["minute"]):
        return text
    if "时" in text and not (found["half"] or found["m"] or found["part"]):
        return text  # 6时 may be six hours
    minutes = {"半": "30", "一刻": "15"}.get(found["part"] or "", found["m"] or found["minute"])
    half = "" if not found["half"] else " pm" if found["half"] in ("下午", "晚上") else " am"
    return f"{int(found['h'])}:{int(minutes or 0):02}{half}"


def _parse_time(text: str) -> tuple[int, int, int, str] | None:
    found = _TIME.match(_western(text.strip()))
    if not found or not (found["m"] or found["half"] or found["clock"]):
        return None
    half = (found["half"] or "")[:1].lower()
    return int(found["h"]), int(found["m"] or 0), int(found["s"] or 0), half


_BETWEEN = re.compile(r"(?:(?<!\s)\s++)?(?::|(?<![a-zA-Z])to(?![a-zA-Z])|[与和跟比])\s*+")
_ARTICLES = re.compile(r"(?<![a-zA-Z])(?:the|a|number of)(?![a-zA-Z])\s*", re.IGNORECASE)
_NAMES = re.compile(
    r"((?<![A-Za-z'])[A-Za-z']++|[\u3400-\u9fff]{1,8}):(?=([A-Za-z']+|[\u3400-\u9fff]{1,8}))"
)


def is_reversed(p: str, asked: str) -> bool:
    """Whether the two names of a ratio stand in the question in the other order."""
    said, wanted = (_BETWEEN.sub(":", _ARTICLES.sub("", side)).lower() for side in (p, asked))
    for left, right in _NAMES.findall(said):
        for first in [left] if left.isascii() else [left[-n:] for n in range(1, len(left) + 1)]:
            for second in (
                [right] if right.isascii() else [right[:n] for n in range(1, len(right) + 1)]
            ):
                turned = rf"(?<![a-z]){re.escape(second)}:{re.escape(first)}(?![a-z])"
                if first != second and re.search(turned, wanted):
                    return True
    return False


def compare_ratios(
    predicted: str, gold: str, question: str | None = None, *, clock: bool = True
) -> Decision:
    """At least one side is a ratio or a time. A ratio may be given as a fraction, not vice versa:
    a probability of 1/3 is no ratio of 1:3. `clock`: whether 3:20 may be a time of day."""
    p, g = _TO.sub(r"\1:\2", predicted.strip()), gold.strip()
    ratio, time = (bool(asks.search(question or "")) for asks in (_ASKS_FOR_RATIO, _ASKS_FOR_TIME))
    ratio, time = ratio and not time, time and not ratio
    clock = clock and not (ratio and _RATIO.match(g))
    time_p, time_g = (_parse_time(side) if clock else None for side in (p, g))
    if time_p and time_g:
        # A clock without a half of the day may read as either; the truth decides what is asked.
        same = time_p[:3] == time_g[:3] and time_g[3] in ("", time_p[3])
        of_p = _of_day((*time_p[:3], "a") if p[:1] == "0" and not time_p[3] else time_p)
        same = same or (time_p[3] != time_g[3] and of_p == _of_day(time_g))
        if not same and time_p[:3] == time_g[:3] and not time_p[3] and not _leading_zero(p):
            return unknown("time", "leaves open which half of the day")
        if same or time_p[3] or time_g[3] or _leading_zero(p) or _leading_zero(g):
            return yes("time") if same else no("time", f"{p} is not {g}")
        if time:
            return no("time", f"{p} is not {g}")
        if gcd(*time_g[:2]) > 1 and compare_ratios(p, g, clock=False).equal:
            return unknown("ratio", "two ratios, or two times of day")
    elif time_g and (time or not re.search(r"/|\\frac|h", p)):
        return no("time", "not the time of day that is asked for")
    parts_p, parts_g = _parts(p), _parts(g)
    if parts_g is None:
        if ratio and parts_p and len(parts_p) == 2 and compare_ratios(g, p).equal:
            return unknown("ratio", "the ratio of which the truth is the value")
        return no("ratio", "the truth is no ratio")
    if parts_p is None:
        number = parse_number(p)
        if number is not None and len(parts_g) == 2 and parts_g[1]:
            return yes("ratio") if number.value == parts_g[0] / parts_g[1] else no("ratio")
        quantity = parse_quantity(p)
        lasts = quantity and quantity.unit and quantity.unit.dimension == (("time", 1),)
        return unknown("time", "how long it lasts") if lasts else no("ratio", "not a ratio")
    if len(parts_p) == len(parts_g) and any(parts_p) and any(parts_g):
        same = all(
            a * d == b * c
            for a, b in zip(parts_p, parts_g, strict=True)
            for c, d in zip(parts_p, parts_g, strict=True)
        )
        if same and not (":0" in p or ":0" in g):
            return yes("ratio")
    return no("ratio", f"{p[:40]} is not {g[:40]}")


def _of_day(time: tuple[int, int, int, str]) -> tuple[int, int, int] | None:
    """On the clock of 24 hours; None where it is not said which half of the day is meant."""
    hour, minute, second, half = time
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    elif 0 < hour < 13:
        return None
    return hour, minute, second


def _leading_zero(text: str) -> bool:
    return bool(re.search(r"(?:^|:)0[0-9]", text))


def _parts(text: str) -> list[Fraction] | None:
    if ":" not in text:
        return None
    numbers = [parse_number(part) for part in text.split(":")]
    return None if None in numbers else [n.value for n in numbers if n is not None]


_MONTHS = words(
    "january february march april may june july august september october november december"
)
_MONTH = rf"(?P<month>{'|'.join(f'{name[:3]}(?:{name[3:]})?' for name in _MONTHS)}|sept)\.?"
_DAY = r"(?P<day>[0-3]?[0-9])(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>[12][0-9]{3})"
_DATES = tuple(
    re.compile(pattern + r"\Z", re.IGNORECASE)
    for pattern in (
        rf"{_YEAR}\s*(?P<mark>[-/.])\s*(?P<number>[01]?[0-9])\s*(?P=mark)\s*{_DAY}",
        rf"{_YEAR}\s*年\s*(?P<number>[01]?[0-9])\s*月(?:\s*{_DAY}\s*[日号])?",
        rf"(?:the\s+)?{_DAY}(?:\s+of)?\s+{_MONTH},?\s+{_YEAR}",
        rf"{_MONTH}\s+{_DAY}(?:\s*+,)?\s++{_YEAR}",
        rf"{_MONTH},?\s+{_YEAR}",
        rf"{_MONTH}\s+{_DAY}",
        rf"(?:the\s+)?{_DAY}(?:\s+of)?\s+{_MONTH}",
    )
)
_WEEKDAY = re.compile(r"(?:mon|tues|wednes|thurs|fri|satur|sun)day,?\s+(?=\S)", re.IGNORECASE)
_BARE_MONTH = re.sub(r"\?P<[a-z]+>", "?:", _MONTH)
DATE_IN_TEXT = re.compile(
    rf"\b{_BARE_MONTH}\s+[0-3]?[0-9](?:st|nd|rd|th)?(?:,?\s+[12][0-9]{{3}})?\b"
    rf"|\b[0-3]?[0-9](?:st|nd|rd|th)?(?:\s+of)?\s+{_BARE_MONTH}(?:,?\s+[12][0-9]{{3}})?\b",
    re.IGNORECASE,
)
"""A day with its month in words, as it stands in a sentence."""
_GROUPS = re.compile(
    r"[0-9]{1,6}(?:\s*(?P<mark>[-/.])\s*[0-9]{1,6})(?:\s*(?P=mark)\s*[0-9]{1,6})+\Z"
)
_RANGE = re.compile(
    r"[¤$€£¥]?\s*+(?P<low>[0-9]{1,9}(?:\.[0-9]+)?)\s*+(?:[%°]\s*+)?-\s*+"
    r"(?:[¤$€£¥]\s*+)?(?P<high>[0-9]{1,9}(?:\.[0-9]+)?)\s*+(?:[%°]|[A-Za-z]{0,12})\Z"
)

_DECADE = re.compile(r"(?:[12][0-9])?[0-9]0'?s\Z")
_OPEN = re.compile(r"[0-9]{1,3}\s?\+\Z")
_AND_OVER = re.compile(r"(?<=[0-9])\s*(?:years\s+)?(?:and|or)\s+(?:over|older|above|more)\Z")
_SIZE = re.compile(r"[0-9.]+\s*(?:x|\\times)\s*[0-9.]+(?:\s*(?:x|\\times)\s*[0-9.]+)?\Z")
_MARKS = re.compile(r"[①-⑳](?:\s*+(?:(?:[、,和及]|and)\s*+)?[①-⑳])*+\Z")

Date = tuple[int, int, int]


def read_date(text: str) -> Date | None:
    """(year, month, day), 0 for what is not said; None for what is no date.

    `05/06/1999` is none: it may be in May or in June.
    """
    if len(text) > 40:
        return None
    text = _WEEKDAY.sub("", text.strip(), count=1)
    for pattern in _DATES:
        found = pattern.match(text)
        if found:
            groups = found.groupdict()
            name = (groups.get("month") or "").lower()[:3]
            month = int(groups.get("number") or 0) or 1 + [m[:3] for m in _MONTHS].index(name)
            day = int(groups.get("day") or 0)
            valid = 1 <= month <= 12 and day <= 31
            return (int(groups.get("year") or 0), month, day) if valid else None
    return None


def is_dated(text: str) -> bool:
    """A date, or three and more groups of digits, which are not meant to be calculated;
    ①③ too."""
    return bool(_GROUPS.match(text) or _MARKS.match(text)) or read_date(text) is not None


def is_label(text: str) -> bool:
    """`is_dated`, or a range that rises: `25-34`, `$10-$20`, `555-0199`; `65+`, `1990s`,
    `1920x1080`."""
    if is_dated(text) or _DECADE.match(text) or _SIZE.match(text) or _OPEN.match(text):
        return True
    found = _RANGE.match(text)
    return found is not None and (
        float(found["low"]) < float(found["high"]) or len(found["high"]) > 3
    )


def compare_labels(predicted: str, gold: str) -> Decision:
    """`gold` is a label. Blanks around its marks do not count, nor how a date is written."""
    date_p, date_g = read_date(predicted), read_date(gold)
    days = [_WEEKDAY.match(side.strip()) for side in (predicted, gold)]
    if days[0] and days[1] and days[0][0][:3].lower() != days[1][0][:3].lower():
        return no("date", "another day of the week")
    if date_p is not None and date_g is not None:
        return yes("date") if date_p == date_g else no("date", "another day")
    if _MARKS.match(gold) and _MARKS.match(predicted):
        marks = [sorted(re.findall("[①-⑳]", text)) for text in (predicted, gold)]
        return yes("marks") if marks[0] == marks[1] else no("marks", "other statements")
    same = _tight(predicted) == _tight(gold)
    return yes("label") if same else no("label", f"{predicted[:40]!r} is not {gold[:40]!r}")


def _tight(text: str) -> str:
    text = text.strip().rstrip(".").lower().replace("\\times", "x").replace(CURRENCY, "")
    text = re.sub(r"(?<=[0-9])\s*(?:to|至|到|~)\s*(?=[0-9])", "-", text)
    return re.sub(r"\s*([-/.x+])\s*", r"\1", _AND_OVER.sub("+", text))
