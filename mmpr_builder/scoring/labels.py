"""Figures that are names, not arithmetic: dates, ranges, telephone and page numbers.

    2023-05-14   25-34   12/05/1999   555-0199   14 March 1987   2024年5月1日

`25-34` on an axis is an age group and not -9. Two dates are equal if they name the same day.
"""

from __future__ import annotations

import re

from mmpr_builder.scoring.clean import words
from mmpr_builder.scoring.decision import Decision, no, yes
from mmpr_builder.scoring.latex import CURRENCY

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
        rf"{_MONTH}\s+{_DAY}\s*,?\s+{_YEAR}",
        rf"{_MONTH},?\s+{_YEAR}",
        rf"{_MONTH}\s+{_DAY}",
        rf"(?:the\s+)?{_DAY}(?:\s+of)?\s+{_MONTH}",
    )
)
_GROUPS = re.compile(
    r"[0-9]{1,6}(?:\s*(?P<mark>[-/.])\s*[0-9]{1,6})(?:\s*(?P=mark)\s*[0-9]{1,6})+\Z"
)
_RANGE = re.compile(
    r"[¤$€£¥]?\s*(?P<low>[0-9]{1,9}(?:\.[0-9]+)?)\s*[%°]?\s*-\s*"
    r"[¤$€£¥]?\s*(?P<high>[0-9]{1,9}(?:\.[0-9]+)?)\s*(?:[%°]|[A-Za-z]{0,12})\Z"
)

_DECADE = re.compile(r"(?:[12][0-9])?[0-9]0'?s\Z")
_OPEN = re.compile(r"[0-9]{1,3}\s?\+\Z")
_AND_OVER = re.compile(r"(?<=[0-9])\s*(?:years\s+)?(?:and|or)\s+(?:over|older|above|more)\Z")
_SIZE = re.compile(r"[0-9.]+\s*(?:x|\\times)\s*[0-9.]+(?:\s*(?:x|\\times)\s*[0-9.]+)?\Z")
_MARKS = re.compile(r"[①-⑳](?:\s*[、,和及]?\s*[①-⑳])*\Z")

Date = tuple[int, int, int]


def read_date(text: str) -> Date | None:
    """(year, month, day), 0 for what is not said; None for what is no date.

    `05/06/1999` is none: whether it is in May or in June, nobody can tell.
    """
    if len(text) > 40:
        return None
    for pattern in _DATES:
        found = pattern.match(text.strip())
        if found:
            groups = found.groupdict()
            name = (groups.get("month") or "").lower()[:3]
            month = int(groups.get("number") or 0) or 1 + [m[:3] for m in _MONTHS].index(name)
            day = int(groups.get("day") or 0)
            valid = 1 <= month <= 12 and day <= 31
            return (int(groups.get("year") or 0), month, day) if valid else None
    return None


def is_dated(text: str) -> bool:
    """A date or three and more groups of digits, which nobody means to be calculated;
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
