"""Where in a sentence a word may stand without changing the value beside it.

    before the value   `The perimeter of the garden is`, `She needs`, `A total of`
    behind it          `red apples`, `in the picture`, `of the circle is shaded`

`neutral` has the words; a word that it lacks is taken for the name of a thing only behind an
article, or as a plural behind a number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from mmpr_builder.scoring import neutral
from mmpr_builder.scoring.numerals import ENGLISH

_NAMED = "angle|triangle|odot|overline|vec|alpha|beta|gamma|theta|lambda|mu|rho|omega|phi"
NAME = re.compile(
    rf"m?\\(?:{_NAMED})(?:[A-Z]{{0,4}}|[0-9]|\{{[A-Z]{{1,4}}\}})\Z|[A-Z]{{1,5}}'?\Z"
    r"|[b-hj-zB-HJ-Z](?:_\{?\w{1,3}\}?)?'?\Z|[a-zA-Z]\([a-z0-9]\)\Z"
)
"""Names of points, angles and variables: AB, x_1, f(x)."""
NUMBER_WORDS = frozenset(ENGLISH)
_LISTED = neutral.NEUTRAL | neutral.CHANGING | neutral.NEVER | neutral.SHAPES
_YEAR_OR_TIME = re.compile(
    r"[12][0-9]{3}\Z|[0-9]{1,2}:[0-9]{2}\s?(?:[ap]\.?m\.?)?\Z|[0-9]{1,2}[ap]\.?m\.?\Z",
    re.IGNORECASE,
)
_ASKED = re.compile(r"\b(?:how\s+(?:many|much)|what|which)\b", re.IGNORECASE)
_STRIP = ".,;:!?\"'"
_KIND = re.compile(
    r"\b(?:type|kind|sort|class|form|state|group|name)s? of (?:the |this |an? )?"
    r"([a-z]+)(?: ([a-z]+))?"
    r"|\b(?:what|which) colou?rs? (?:is|are) (?:the|this|that|his|her) ([a-z]+)\b"
    r"|\b(?:what|which) (?!(?:type|kind|sort|class|form|state|group|name)s? of)([a-z]+)\b"
)
_LABEL = re.compile(r"\b([a-z]+) ([0-9]{1,4})(?![0-9.,:%]*[0-9%])\b")
_COMPARING = frozenset(("than", "as", "to", "with", "unlike", "versus", "and", "or", "of"))
_COMPARED = re.compile(r"\b(?:than|as|to|with|unlike|versus)(?: [a-z]+){0,3} \Z")


@dataclass(frozen=True, slots=True)
class Question:
    """The words of a question, and which of them stand side by side; `#` is what is asked for.

    `stems`: its words without endings. `labels`: words with their number, `("pair", "2")`, where it
    is the only one that the question asks about. `kinds`: the `rock` of `what type of rock`.
    `counted`: the `9 tickets` of `the cost of 9 tickets`. `figures`: its numbers. `order`: all its
    words as they stand.
    """

    words: frozenset[str]
    pairs: frozenset[tuple[str, str]]
    stems: frozenset[str] = frozenset()
    labels: frozenset[tuple[str, str]] = frozenset()
    kinds: frozenset[str] = frozenset()
    counted: frozenset[tuple[str, str]] = frozenset()
    figures: frozenset[str] = frozenset()
    order: tuple[str, ...] = ()


NO_QUESTION = Question(frozenset(), frozenset())


@lru_cache(maxsize=256)
def read_question(question: str | None) -> Question:
    """Lower-case words of the question's last 2,000 characters."""
    if not question:
        return NO_QUESTION
    text = question[-2000:].lower()
    found = re.findall(r"#|[a-z][a-z'-]*", _ASKED.sub(" # ", text))
    kinds = frozenset(word for groups in _KIND.findall(text) for word in groups if word)
    kinds -= neutral.NOT_THINGS | neutral.CHANGING | neutral.NEVER
    stems = frozenset(stem(word) for word in found if len(word) > 3) - {stem("being")}
    counted = [pair for pair in _COUNTED.findall(text) if pair[0][0].isdigit() or _is_number(pair)]
    return Question(
        *(frozenset(found), frozenset(pairwise(found)), stems, _labels(text), kinds),
        *(frozenset(counted), frozenset(_FIGURE.findall(text)), tuple(found)),
    )


_COUNTED = re.compile(r"(?<![0-9.,])([0-9]{1,6}|[a-z]{3,9}) ([a-z]+)\b")
_FIGURE = re.compile(r"(?<![0-9.,])[0-9]+(?![0-9.,]*[0-9])")
_INTRODUCES = frozenset(("of", "for", "the", "all", "these", "those"))


def _is_number(pair: tuple[str, str]) -> bool:
    return pair[0] in NUMBER_WORDS


def is_given(words: list[str], i: int, asked: Question) -> bool:
    """The 9 of `The total cost of 9 tickets`, where the question has it; `words` are plain."""
    behind = words[i + 1] if i + 1 < len(words) else ""
    return (words[i], behind) in asked.counted and (i == 0 or words[i - 1] in _INTRODUCES)


def _tells_what_is_asked(words: list[str], i: int, asked: Question) -> bool:
    """`raised` before the value, where the question has the same subject with `raise`."""
    if i == 0 or not words[i].endswith("ed") or words[i + 1 : i + 2] != ["#"]:
        return False
    same = (word for word in asked.words if stem(word) == stem(words[i]))
    return any((words[i - 1], word) in asked.pairs for word in same)


def stem(word: str) -> str:
    """`playing`, `played`, `plays` -> `play`."""
    for ending in ("ing", "ed", "s"):
        if word.endswith(ending) and len(word) - len(ending) > 2:
            return word[: -len(ending)].removesuffix("e")
    return word.removesuffix("e")


def _labels(text: str) -> frozenset[tuple[str, str]]:
    """`in 2016`, `figure 6`; not the second one of `pair 1 ... than in pair 2`."""
    found: dict[str, set[str]] = {}
    for label in _LABEL.finditer(text):
        if label[1] in neutral.NEVER or label[1] in neutral.CHANGING - {"pair"}:
            continue
        if not _COMPARED.search(text[: label.start()]) and label[1] not in _COMPARING:
            found.setdefault(label[1], set()).add(label[2])
    return frozenset((word, *numbers) for word, numbers in found.items() if len(numbers) == 1)  # type: ignore[misc]


def plain_word(token: str) -> str:
    word = token.strip(_STRIP + "()").lower()
    return word if word in neutral.NEUTRAL else word.removesuffix("'s")


def is_neutral(words: list[str], i: int, asked: Question) -> bool:
    """Whether a word is known to change nothing; `words` holds its neighbours, `#` is the value."""
    word = words[i]
    if word in ("#", "", "=") or (word, "".join(words[i + 1 : i + 2])) in asked.labels:
        return True
    if is_given(words, i, asked) or _tells_what_is_asked(words, i, asked):
        return True
    if word in NUMBER_WORDS:
        return i > 0 and words[i - 1] in ("the", "these", "those")
    if word.isdigit():
        return i > 0 and (words[i - 1], word) in asked.labels
    if word == "than" and i + 1 < len(words) and words[i - 1] != "#":
        return ("than", words[i + 1]) in asked.pairs  # 6 more books than Omar
    if word == "between" and i and words[i - 1] in neutral.MEASURED | {"difference", "ratio"}:
        return True  # the distance between them
    if word in neutral.NEVER or word.endswith("n't"):
        return False
    if word in neutral.SUPERLATIVES and asked.words & neutral.SUPERLATIVES:
        return word in asked.words
    if word in neutral.CHANGING:
        sides = [pair for pair in ((i - 1, i), (i, i + 1)) if pair[0] >= 0 and pair[1] < len(words)]
        return all((words[a], words[b]) in asked.pairs for a, b in sides) and word in asked.words
    if word in neutral.SHAPES:
        behind = words[i + 1] if i + 1 < len(words) else ""
        if word in asked.words or behind in ("has", "have", "contains"):
            return True
        return i > 1 and words[i - 1] in neutral.DETERMINERS
    known = word in neutral.NEUTRAL or word in asked.words or stem(word) in asked.stems
    return known or f"{word}'s" in asked.words


def before_is_neutral(tokens: list[str], asked: Question, value: str) -> bool:
    """`The perimeter of the garden is`: neutral words, and a verb or the like in front of it."""
    if not tokens:
        return True
    words = [plain_word(token) for token in tokens] + ["#"]
    for i, token in enumerate(tokens):
        if token[-1] in ",.;" and not set(words[: i + 1]) <= neutral.CONNECTORS:
            return False  # a clause of its own: "The roof is red, the wall is"
        if is_neutral(words, i, asked):
            continue
        if words[i] in neutral.NEVER or words[i] in neutral.CHANGING or words[i] in neutral.SHAPES:
            return False
        person = token[0].isupper() and (i > 0 or words[1] in neutral.DEEDS)
        if not person and not NAME.match(token.strip(_STRIP)) and not is_thing(words, i):
            return False
    if set(words) <= neutral.CONNECTORS | {"#"}:
        return True
    while len(words) > 2 and words[-2] in neutral.SOFTENERS | neutral.CONNECTORS:
        del words[-2]
    last = words[-2]
    if last == "of":
        return len(words) > 2 and words[-3] in neutral.MEASURED
    verb = words[-3] if len(words) > 2 else "is"
    if last in neutral.PLACES and verb not in neutral.NEUTRAL and stem(verb) not in asked.stems:
        return False  # "ends at", where it is asked when something starts
    if last in neutral.PLACES:
        return bool(_YEAR_OR_TIME.match(value)) or value.startswith("(")
    if value.startswith("(") and last in ("point", "points", "vertex"):
        return True
    leads = last in neutral.LEADS or last in neutral.SOFTENERS
    asked_so = _tells_what_is_asked(words, len(words) - 2, asked)
    return leads or asked_so or tokens[-1].endswith((":", "="))


def is_thing(words: list[str], i: int) -> bool:
    """An unknown word behind an article, or the second one of two: `the soccer ball`."""
    word = words[i]
    if not word.replace("-", "").isalpha() or word in _LISTED:
        return False
    before = words[i - 1] if i else ""
    if before in neutral.DETERMINERS or before in neutral.ADJECTIVES or before == "of":
        return True
    named = before not in neutral.NOT_THINGS and before not in neutral.CHANGING
    return i > 1 and words[i - 2] in neutral.DETERMINERS and named


def what_is_counted(tokens: list[str], asked: Question) -> int:
    """How many of the words behind a number name what is counted: `red apples` are two."""
    words = ["#", *(plain_word(token) for token in tokens)]
    for i, word in enumerate(words[1:5], 1):
        if neutral.is_plural(word):
            return i
        plain = (
            word in neutral.ADJECTIVES and not asked.words
        )  # red apples, where all are asked for
        if not plain and not (word in asked.words and is_neutral(words, i, asked)):
            return 0
        if word in neutral.PLACES or word in neutral.COPULAS:
            return 0
    return 0


def after_is_neutral(tokens: list[str], asked: Question, noun: str = "") -> bool:
    """`in the picture`, `are on the table`, `of the circle is shaded`, `in total`, `long`."""
    words = [noun or "#", *(plain_word(token) for token in tokens)]
    place = False
    for i, word in enumerate(words[1:], 1):
        if word in neutral.TAILS or word == "":
            continue
        if word in neutral.PLACES or word in neutral.COPULAS or word in ("them", "it"):
            place = word in neutral.PLACES or (place and word not in neutral.COPULAS)
        elif word in ("each", "every") and word not in asked.words:
            return False
        elif (place and word in neutral.DETERMINERS) or (
            (word in asked.words or word.isdigit()) and is_neutral(words, i, asked)
        ):
            continue
        elif (
            not place
            or word in neutral.NEVER
            or word in neutral.CHANGING
            or (not is_thing(words, i) and word not in neutral.NEUTRAL)
        ):
            return False
    return words[-1] not in neutral.COPULAS or len(words) == 1
