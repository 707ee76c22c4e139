"""What a Chinese sentence says, where every word of it leaves the value as it is.

value_said_in_chinese("图中一共有5个苹果")   -> "5个苹果"
value_said_in_chinese("不到5个")             -> None

There are no blanks between words, so a sentence is cut by the longest word that is known.
"""

from __future__ import annotations

import re

from mmpr_builder.scoring import units
from mmpr_builder.scoring.neutral_zh import (
    CHANGING_ZH,
    CONNECTORS_ZH,
    LEADS_ZH,
    LONGEST_ZH,
    MULTIPLYING_ZH,
    NEUTRAL_ZH,
    is_thing,
)
from mmpr_builder.scoring.numerals import parse_words
from mmpr_builder.scoring.unit_table import GENERIC

_CHINESE = re.compile("[\u3400-\u9fff]")
_NUMERAL = re.compile(r"(?:百分之)?[负零〇一二两三四五六七八九十百千万亿点又分之]+")
_SYMBOLS = re.compile(r"[^\u3400-\u9fff，。；：、,;:]+")
_SUBJECT = re.compile("([\u3400-\u9fff]{1,4}?)(?=[的是为有长高宽重]|等于)")
_MARKS = "，。；：、,;:!.！ "
_NAME = re.compile(r"\s*(?:\\(?:angle|triangle|odot)\s?)?[A-Za-z]{1,4}'?\s*")


def has_chinese(text: str) -> bool:
    return not text.isascii() and bool(_CHINESE.search(text))


def value_said_in_chinese(text: str, question: str | None = None) -> str | None:
    """The value of a sentence with its unit, or None where a word may change it."""
    text = text.strip(_MARKS)
    at, last = 0, ""
    while at < len(text):
        end = _value_end(text, at)
        if end > at:
            if at and last not in LEADS_ZH:
                return None
            return _tail(text, at, end, question)
        word = _known_word(text, at, question)
        if not word:
            return None
        if word not in _MARKS:
            last = word.strip()
        elif word != " " and last not in CONNECTORS_ZH:
            return None
        at += len(word)
    return None


def _known_word(text: str, at: int, question: str | None) -> str:
    """The neutral word, name, mark or word of the question that begins here, or nothing."""
    if text[at] in _MARKS:
        return text[at]
    for size in range(min(LONGEST_ZH, len(text) - at), 0, -1):
        word = text[at : at + size]
        if word in NEUTRAL_ZH:
            another = word.startswith("最") and question and "最" in question
            return "" if another and word not in (question or "") else word
        asked = size > 1 and question and word in question and word[-1] not in LEADS_ZH
        if asked and not CHANGING_ZH.search(word):
            return word
    name = _NAME.match(text, at)
    if name:
        return name[0]
    thing = _SUBJECT.match(text) if at == 0 else None  # 小狗 in 小狗的体重是5
    return thing[1] if thing and not CHANGING_ZH.search(thing[1]) else ""


def _value_end(text: str, at: int) -> int:
    """Where the value that begins here ends; `at` if none does."""
    numeral = _NUMERAL.match(text, at)
    if numeral:
        for stop in range(numeral.end(), at, -1):
            number = parse_words(text[at:stop])
            follows = text[stop : stop + 1]
            counted = not follows or follows in _MARKS or _unit_end(text, stop) > stop
            if number is not None and counted and _known_word(text, at, None) == "":
                return stop
        return at
    bracket = re.compile(r"[(（][^()（）\u3400-\u9fff]*[)）]").match(text, at)
    if bracket:
        return bracket.end()
    symbols = _SYMBOLS.match(text, at)
    if symbols and re.search(r"[0-9\\]", symbols[0]) and not _NAME.fullmatch(symbols[0]):
        return symbols.end()
    return at


def _unit_end(text: str, at: int) -> int:
    for stop in range(min(len(text), at + 6), at, -1):
        word = text[at:stop]
        if word in MULTIPLYING_ZH:
            return at
        if word in GENERIC or units.known_unit(word) is not None:
            return stop
    return at


def _tail(text: str, start: int, end: int, question: str | None) -> str | None:
    """The value with its unit, if nothing behind it changes it: 5个苹果, 3/4."""
    stop = _unit_end(text, end)
    rest = text[stop:].strip(_MARKS)
    value = text[start:stop].strip(_MARKS)
    if not rest:
        return value
    if stop > end and is_thing(rest):
        return value + rest
    while rest:
        word = _known_word(rest, 0, question)
        if not word or word in ("的", "和", "差", "中", "里", "上"):
            return None
        rest = rest[len(word) :]
    return value


_SAYS = frozenset(("是", "为", "等于", "叫", "叫做", "写着", "在", "选", "答案"))


def says_in_chinese(text: str, gold: str, question: str | None = None) -> bool:
    """Whether a sentence says a truth in words: 颜色是红色."""
    text = text.strip(_MARKS + '"“”').replace('"', "")
    if not gold or not text.endswith(gold) or text == gold:
        return False
    rest, at, last = text[: -len(gold)], 0, ""
    while at < len(rest):
        word = _known_word(rest, at, question)
        if not word:
            return False
        if word not in _MARKS:
            last = word
        elif word != " " and last not in CONNECTORS_ZH:
            return False
        at += len(word)
    return last in _SAYS
