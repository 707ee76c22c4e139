"""Ratios and clock times: `7:32`, `10:15 a.m.`. A time is equal to itself only.

`3:15` may be either; the question says which, or else that it is not in lowest terms.
"""

from __future__ import annotations

import re
from fractions import Fraction
from math import gcd

from mmpr_builder.scoring.decision import Decision, no, unknown, yes
from mmpr_builder.scoring.number import parse_number
from mmpr_builder.scoring.numerals import parse_words
from mmpr_builder.scoring.quantity import parse_quantity

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


_SPOKEN_TIME = re.compile(  # 八点二十五分; 九点五 is 9.5
    r"(?P<h>[零一二两三四五六七八九十]{1,3})[点时]"
    r"(?:(?P<m>[零一二三四五六七八九十]{1,3})分|(?P<bare>[零二三四五十][零一二三四五六七八九十]{1,2}))\Z"
)


def _western(text: str) -> str:
    """下午3点半 -> `3:30 pm`, 八点二十五分 -> `8:25`; anything else stays."""
    words = _SPOKEN_TIME.match(text) if not text.isascii() else None
    if words:
        parts = [
            parse_words(part.lstrip("零") or "零")
            for part in (words["h"], words["m"] or words["bare"])
        ]
        hour, minute = (part if part is not None else Fraction(99) for part in parts)
        return f"{int(hour)}:{int(minute):02}" if hour <= 24 and minute < 60 else text
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


_DURATION = re.compile(
    r"\bhow (?:long|much (?:longer|time))\b|\btime (?:has |have )?(?:passe[sd]|elapsed?)\b"
    r"|\belapsed time\b|\bduration\b|多长时间|多少时间|经过了?多|用了?多[长久]",
    re.IGNORECASE,
)
_IN_HOURS = re.compile(r"\bh(?:ours?|rs?)?\b|小时|[0-9]{1,2}:[0-9]{2}", re.I)
_CLOCK_TEXT = re.compile(r"([0-9]{1,3}):([0-5][0-9])\Z")


def compare_durations(p: str, g: str, question: str | None) -> Decision | None:
    """`2 hours 5 minutes` against `2:05`, where the question asks how long; None elsewhere."""
    clock, quantity = _CLOCK_TEXT.match(g), parse_quantity(p)
    asked = question is not None and _DURATION.search(question) and _IN_HOURS.search(question)
    if not (clock and asked and quantity and quantity.unit and quantity.number):
        return None
    if quantity.unit.dimension != (("time", 1),):
        return None
    seconds = quantity.number.value * quantity.unit.factor
    same = seconds == int(clock[1]) * 3600 + int(clock[2]) * 60
    return yes("time") if same else no("time", f"{p[:40]} is not {g}")


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
        if same or time_p[3] or time_g[3] or _leading_zero(p) or _leading_zero(g):
            return yes("time") if same else no("time", f"{p} is not {g}")
        if time:
            return no("time", f"{p} is not {g}")
        if gcd(*time_g[:2]) > 1 and compare_ratios(p, g, clock=False).equal:
            return unknown("ratio", "two ratios, or two times of day")
    elif time_g and (time or not re.search(r"/|\\frac", p)):
        return no("time", "not the time of day that is asked for")
    parts_p, parts_g = _parts(p), _parts(g)
    if parts_g is None:
        return no("ratio", "the truth is no ratio")
    if parts_p is None:
        number = parse_number(p)
        if number is not None and len(parts_g) == 2 and parts_g[1]:
            return yes("ratio") if number.value == parts_g[0] / parts_g[1] else no("ratio")
        return no("ratio", "not a ratio")
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


_POWER = re.compile(r"(?<![0-9.])([0-9]{1,4})\s*\^\s*\{?([0-9])\}?(?![0-9])")


def last_of_ratios(text: str) -> tuple[str, bool] | None:
    """(`1:3`, True) of `20:60=1:3`: the last ratio, and whether all are one; None for no chain."""
    sides = [side.strip() for side in text.split("=")] if text.count(":") > 1 else []
    if len(sides) < 2 or len(text) > 120:
        return None
    plain = [_POWER.sub(lambda found: str(int(found[1]) ** int(found[2])), side) for side in sides]
    if not all(_RATIO.match(side) for side in plain):
        return None
    last = plain[-1]
    return sides[-1], all(compare_ratios(side, last, clock=False).equal for side in plain)


def _leading_zero(text: str) -> bool:
    return bool(re.search(r"(?:^|:)0[0-9]", text))


def _parts(text: str) -> list[Fraction] | None:
    if ":" not in text:
        return None
    numbers = [parse_number(part) for part in text.split(":")]
    return None if None in numbers else [n.value for n in numbers if n is not None]
