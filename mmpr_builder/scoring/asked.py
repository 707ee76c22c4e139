r"""What a question asks to be named, and answers that name it with the word that the question has.

names_what_is_asked("Curve B", "B", "Which curve reaches the higher peak?")   -> True
names_what_is_asked("Page 17", "17", "What is the page number?")              -> True
scale_asked("What was the revenue, in billion dollars?")                      -> 1,000,000,000
"""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

from mmpr_builder.scoring import neutral
from mmpr_builder.scoring.clean import words
from mmpr_builder.scoring.grammar import (
    NUMBER_WORDS,
    after_is_neutral,
    is_neutral,
    plain_word,
    read_question,
)
from mmpr_builder.scoring.number import Number, parse_number
from mmpr_builder.scoring.numerals import SCALES
from mmpr_builder.scoring.quantity import Quantity
from mmpr_builder.scoring.units import known_unit

_VALUE = re.compile(r"[A-Z]'?|[0-9]{1,6}\Z")
_WHICH = re.compile(r"\b(?:what|which)\s+(?:of\s+(?:the|these)\s+)?(?:([a-z]+)\s+)?([a-z]+)")
_NUMBERED = re.compile(r"\b([a-z]+)\s+(?:numbers?|no\.|#)(?!\s+of\b)")
_NUMBER_OF_ONE = re.compile(r"\bnumber of th(?:e|is|at) ([a-z]+(?<!s))\b")
_NUMBER = re.compile(r"\bnumber\b(?!\s+of\b)")
_LEAD = frozenset(words("it is it's the this that answer so"))
_SHORT = {"page": ("p", "pg"), "number": ("no", "#", "nr")}
_STRIP = '.,:;!?()"'  # A' is another point than A


@lru_cache(maxsize=256)
def nouns_asked(question: str | None) -> frozenset[str]:
    """The nouns of `which curve`, `what gate number`, `the page number`; never `number of`."""
    text = (question or "")[-2000:].lower()
    found = {word for groups in _WHICH.findall(text) for word in groups if word}
    found |= {*_NUMBERED.findall(text), *_NUMBER_OF_ONE.findall(text)}
    found = {word[:-1] if neutral.is_plural(word) and word[-1] == "s" else word for word in found}
    found -= neutral.NEVER | neutral.CHANGING | neutral.NOT_THINGS | neutral.DETERMINERS
    if "number" in found and not _NUMBER.search(text):
        found.remove("number")
    if "number" not in found and _NUMBER.search(text):
        found.add("number")
    return frozenset(word for word in found - NUMBER_WORDS if len(word) > 2)


def names_what_is_asked(text: str, gold: str, question: str | None) -> bool:
    """Whether an answer says a letter or a whole number behind the noun that is asked for."""
    if not question or not _VALUE.match(gold) or len(text) > 200:
        return False
    tokens = re.sub(r"#\s*(?=[0-9])", "# ", text).split()
    names = nouns_asked(question)
    short = {way for name in names for way in (name, *_SHORT.get(name, ()))}
    if names & {"number"} or _NUMBER.search(question.lower()):
        short |= {"number", *_SHORT["number"]}
    for i in range(1, len(tokens)):
        shown = tokens[i].strip(_STRIP)
        shown = shown.upper() if f"({shown})" in tokens[i] else shown  # figure (c)
        if shown != gold or tokens[i - 1].strip(_STRIP).lower() not in short:
            continue
        start = i - 1
        while start and tokens[start - 1].strip(_STRIP).lower() in short:
            start -= 1  # page number 17
        before = {plain_word(token) for token in tokens[:start]}
        if before <= _LEAD and after_is_neutral(tokens[i + 1 :], read_question(question)):
            return True
    return False


def counts_what_is_asked(text: str, question: str | None) -> bool:
    """Whether an answer counts what the question asks to be named: `4 sections`, which section."""
    counted = re.fullmatch(r"[0-9]{1,6} ([a-z]{3,})s", text.lower().rstrip("."))
    if counted is None or question is None or _ASKS_COUNT.search(question):
        return False
    return counted[1] in nouns_asked(question) and known_unit(counted[1]) is None


_ASKS_COUNT = re.compile(r"\bhow many\b|\bnumber of\b|\bcount\b|\btotal\b", re.IGNORECASE)
_SCALE = r"(thousand|million|billion|trillion)s?\b"
_ASKS_SCALE = re.compile(
    rf"(?:\bin|\bhow many|\()\s+?(?:[$€£]|us\$|u\.?s\.?|usd|eur|units of)?\s*{_SCALE}|\({_SCALE}",
    re.IGNORECASE,
)


def scale_asked(question: str | None) -> int | None:
    """What `in billion dollars` and `how many million` leave out of the value; else None."""
    found = _ASKS_SCALE.search(question[-2000:]) if question else None
    return SCALES[(found[1] or found[2]).lower()] if found else None


def _scale(quantity: Quantity) -> Fraction:
    """1,000,000 for `5 million`, 1 for `5`."""
    head = parse_number(quantity.head)
    if head is None or quantity.number is None or not head.value:
        return Fraction(1)
    return quantity.number.value / head.value


def as_asked(predicted: Quantity, gold: Quantity, question: str | None) -> Quantity:
    """The predicted value in the scale of the truth, where the question says it: `412.5 billion`
    for `412.5` asked in billions."""
    scales = [_scale(quantity) for quantity in (predicted, gold)]
    known = set(SCALES.values())
    if scales[0] == scales[1] or not {s for s in scales if s != 1} <= known:
        return predicted
    asked, number = scale_asked(question), predicted.number
    if asked is None or number is None or 1 not in scales:
        return predicted
    value = number.value / asked if scales[1] == 1 else number.value * asked
    return replace(predicted, number=Number(value))


_LABEL_WORDS = frozenset(
    words("""
    the age ages aged group groups year years old olds range bracket category class interval decade
    period in from people those it is was answer time
    """)
)


def says_label(text: str, gold: str, question: str | None) -> bool:
    """Whether an answer names a range or decade as `The 18-29 age group`, `in the 1990s`."""
    text = re.sub(r"(?<=[0-9])\s*(?:to|-|~)\s*(?=[0-9])", "-", text.lower())
    tokens, asked = [token.strip(_STRIP) for token in text.split()], read_question(question)
    figures = [i for i, token in enumerate(tokens) if any(char.isdigit() for char in token)]
    if len(figures) != 1 or len(tokens) > 20 or " " in gold:
        return False
    (at,) = figures
    if tokens[at].removesuffix("-year-old") != gold.lower():
        return False
    around = [plain_word(token) for token in tokens]
    around[at] = "#"
    return all(
        word == "#"
        or re.fullmatch(r"year-olds?", word)
        or word in _LABEL_WORDS
        or (word in asked.words and is_neutral(around, i, asked))
        for i, word in enumerate(around)
    )


_RATE = re.compile(r"\s+(?P<per>per\s+[0-9][0-9,]*)(?:\s+[a-z]+){0,2}\Z", re.IGNORECASE)


def without_rate(text: str, question: str | None) -> str:
    """`41.7 per 100,000` -> `41.7`, where the question asks for so many per 100,000."""
    found = _RATE.search(text)
    if found is None or question is None or found["per"].lower() not in question.lower():
        return text
    return text[: found.start()]
