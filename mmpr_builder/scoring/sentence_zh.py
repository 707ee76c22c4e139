"""What a Chinese sentence says, where every word of it leaves the value as it is.

value_said_in_chinese("图中一共有5个苹果")   -> "5个苹果"
value_said_in_chinese("不到5个")             -> None

There are no blanks between words, so a sentence is cut by the longest word that is known.
"""

from __future__ import annotations

import re

from mmpr_builder.scoring import units
from mmpr_builder.scoring.compound import parse_compound
from mmpr_builder.scoring.neutral_zh import (
    BOUNDS_ZH,
    CONNECTORS_ZH,
    FUNCTION_ZH,
    LEADS_ZH,
    LONGEST_ZH,
    MEASURED_ZH,
    MULTIPLYING_ZH,
    NEUTRAL_ZH,
    REMAINING_ZH,
    changes_zh,
    is_thing,
)
from mmpr_builder.scoring.numerals import parse_words
from mmpr_builder.scoring.question_zh import (
    CHINESE,
    AskedZh,
    Trail,
    echoed,
    fits,
    follow,
    from_question,
    is_lead,
    name_fits,
    read_question_zh,
    repeats_tail,
    squeezed,
    stands_alone,
)
from mmpr_builder.scoring.unit_table import GENERIC

NUMERAL = re.compile(r"(?:百分之)?[负零〇一二两三四五六七八九十百千万亿点又分之]+")
RATIO = re.compile(r"[0-9.]+(?::[0-9.]+)+(?![0-9:])")
SYMBOLS = re.compile(r"[^\u3400-\u9fff，。；：、,;:]+")
_SUBJECT = re.compile("([\u3400-\u9fff]{1,4}?)(?=[的是为有长高宽重]|等于)")
MARKS = "，。；：、,;:!.！ "
_NAME = re.compile(
    r"\s*(?:\\(?:angle|triangle|odot)\s?(?:[0-9](?![0-9])|[A-Za-z]{1,4}'?)|[A-Za-z]{1,4}'?)\s*"
)
_OPENINGS = ("该", "这种", "这个", "此", "估计", "答:", "所以", "因此", "一共")
_STATES = frozenset("离还剩原借卖")
_LONG_LEADS = tuple(sorted(word for word in LEADS_ZH if len(word) > 1))
_DIFFERENT = re.compile(r"(?:种|个)?不同的")


def has_chinese(text: str) -> bool:
    return not text.isascii() and bool(CHINESE.search(text))


def value_said_in_chinese(text: str, question: str | None = None) -> str | None:
    """The value of a sentence with its unit, or None where a word may change it.

    With a question the words must be its own or listed ones; without, an answer may begin with
    the name of a thing (小狗的体重是5).
    """
    text = squeezed(text.strip(MARKS))
    asked = read_question_zh(question)
    at, last, before = 0, "", ""
    trail, echo = Trail(), 0
    if asked is not None:
        at = echo = echoed(asked, text)
        if at and _value_end(text, at) > at:
            trail, last = Trail(own=True), "是"
        else:
            at = echo = 0
    while at < len(text):
        if text[at] == "=" and last:
            last, at = "是", at + 1
            continue
        word = known_word(text, at, asked)
        followed = follow(trail, asked, word) if asked is not None and word else trail
        end = _value_end(text, at)
        if end > at and re.match(r"[0-9]", word) and at + len(word) > _unit_end(text, end):
            end = at  # 12和18的, of the question
        if end > at:
            counted = before in LEADS_ZH and _names_a_thing(last, asked)  # 有兔子6只
            if at and not (_leads(last, asked) or (counted and _unit_end(text, end) > end)):
                return None
            other = trail.other and (not trail.own or trail.open)
            if asked is not None and (other or (trail.own and asked.compares and not echo)):
                return None
            return _tail(text, at, end, asked)
        if not word or followed is None:
            return None
        if word not in MARKS:
            before, last = last, word.strip()
        elif word not in " 、" and last not in CONNECTORS_ZH:
            return None
        trail, at = followed, at + len(word)
    return None


def _leads(word: str, asked: AskedZh | None) -> bool:
    """Whether a word may stand directly before a value: 是, 周长, 可得利息 of 可得利息多少元."""
    if word in LEADS_ZH or word in MEASURED_ZH or word in BOUNDS_ZH or word.endswith(_LONG_LEADS):
        return True
    return asked is not None and is_lead(asked, word)


def _names_a_thing(word: str, asked: AskedZh | None) -> bool:
    return word in NEUTRAL_ZH if asked is None else word in asked.clauses


def known_word(text: str, at: int, asked: AskedZh | None) -> str:
    """The neutral word, name, mark or word of the question that begins here, or nothing."""
    if text[at] in MARKS:
        return text[at]
    listed = ""
    for size in range(min(LONGEST_ZH, len(text) - at), 0, -1):
        if text[at : at + size] in NEUTRAL_ZH:
            listed = text[at : at + size]
            break
    if asked is not None and text[at : at + 2] in BOUNDS_ZH:
        return text[at : at + 2] if text[at : at + 2] in asked.clauses else ""
    said = from_question(asked, text, at, asking=True) if asked else ""
    word = said if len(said) > len(listed) else listed
    if not word and asked is not None:
        word = from_question(asked, text, at, asking=False)
        cuts = (k for k in range(2, len(word)) if from_question(asked, text, at + k, asking=True))
        word = word[: next(cuts, len(word))]
    if word:
        if asked is not None and not fits(asked, word):
            return ""
        noun = word not in LEADS_ZH and word not in FUNCTION_ZH and len(word.strip("的了")) > 0
        if asked is not None and noun and not stands_alone(asked, word, text[:at]):
            return ""
        left = word in REMAINING_ZH and asked is not None
        return "" if left and asked and not re.search("剩|还有", asked.clauses) else word
    name = _NAME.match(text, at)
    if name:
        return "" if asked is not None and not name_fits(asked, name[0]) else name[0]
    begins = at == 0 or text[:at] in _OPENINGS
    thing = _SUBJECT.match(text, at) if begins and asked is None else None  # 小狗的体重是5
    return thing[1] if thing and not (changes_zh(thing[1]) or set(thing[1]) & _STATES) else ""


def _value_end(text: str, at: int) -> int:
    """Where the value that begins here ends; `at` if none does."""
    numeral = NUMERAL.match(text, at)
    if numeral:
        for stop in range(numeral.end(), at, -1):
            number = parse_words(text[at:stop])
            follows = text[stop : stop + 1]
            counted = not follows or follows in MARKS or _unit_end(text, stop) > stop
            if number is not None and counted and known_word(text, at, None) == "":
                return stop
        return at
    ratio = RATIO.match(text, at)
    if ratio:
        return ratio.end()
    bracket = re.compile(r"[(（][^()（）\u3400-\u9fff]*[)）]").match(text, at)
    if bracket:
        return bracket.end()
    symbols = SYMBOLS.match(text, at)
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


def _compound_end(text: str, at: int) -> int:
    """Where 18元6角 ends; `at` where there is only one step."""
    for stop in range(min(len(text), at + 24), at, -1):
        if text[stop - 1] not in "0123456789" and parse_compound(text[at:stop]) is not None:
            return stop
    return at


def _tail(text: str, start: int, end: int, asked: AskedZh | None) -> str | None:
    """The value with its unit, if nothing behind it changes it: 5个苹果, 3/4."""
    stop = max(_unit_end(text, end), _compound_end(text, start))
    rest = text[stop:].strip(MARKS)
    value = text[start:stop].strip(MARKS)
    if stop == end and asked is not None:
        rest = _without_counted(rest, asked)
    elif asked is not None and not _is_measure_asked(text[end:stop], asked):
        return None
    if not rest or (asked is not None and repeats_tail(asked, rest)):
        return value
    rest = _DIFFERENT.sub("", rest, count=1) if _DIFFERENT.match(rest) else rest
    if stop > end and is_thing(rest):
        return value + rest if asked is None or _may_be_counted(asked, rest) else None
    while rest:
        word = known_word(rest, 0, asked)
        if not word or word in ("的", "和", "差", "中", "里", "上"):
            return None
        rest = rest[len(word) :]
    return value


def _may_be_counted(asked: AskedZh, thing: str) -> bool:
    """Whether a thing behind a value is what is counted, not another one of the question."""
    if thing in asked.clauses or thing in NEUTRAL_ZH or thing[-1] in asked.clauses:
        return True
    return thing in asked.text and not re.search("[\u3400-\u9fff]{2}", asked.counted)


_ANY_MEASURE = frozenset("个人名位只种")


def _is_measure_asked(measure: str, asked: AskedZh) -> bool:
    """Whether a measure word may count what is asked for: not 页 where it is 字; units may."""
    if measure not in GENERIC or measure in asked.counted or not asked.counted.strip("|"):
        return True
    return measure in _ANY_MEASURE


def _without_counted(rest: str, asked: AskedZh) -> str:
    """What is left behind a value without the name that the question has there: 字 of 4800字."""
    for size in range(min(6, len(rest)), 0, -1):
        if any(counted.startswith(rest[:size]) for counted in asked.counted.split("|")):
            return rest[size:].strip(MARKS)
    return rest
