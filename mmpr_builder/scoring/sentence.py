"""What a sentence says, where every word of it is known to leave the value as it is.

    value_said("There are 5 apples in the picture.")   -> "5 apples"
    value_said("There are 5 dozen apples")             -> None
    says("The umbrella is blue", "blue")               -> True

The list is one of what is neutral, not of what changes a value: nobody can list all of that. A word
is neutral if it is in `neutral`, a word of the question, a name such as AB, or unknown but standing
where only the name of a thing can stand (`grammar`).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from mmpr_builder.scoring import neutral, units
from mmpr_builder.scoring.clean import words
from mmpr_builder.scoring.currency import money_behind
from mmpr_builder.scoring.grammar import (
    NAME,
    NO_QUESTION,
    NUMBER_WORDS,
    Question,
    after_is_neutral,
    before_is_neutral,
    is_given,
    is_neutral,
    is_thing,
    plain_word,
    read_question,
    stem,
    what_is_counted,
)
from mmpr_builder.scoring.latex import CURRENCY
from mmpr_builder.scoring.neutral_zh import changes_zh
from mmpr_builder.scoring.said_zh import says_in_chinese
from mmpr_builder.scoring.sentence_zh import has_chinese, value_said_in_chinese

Normalise = Callable[[str], str]
_MAX_CHARS, _MAX_TOKENS = 300, 40
_VALUE = re.compile(
    r"[^a-zA-Z]*[0-9∞]|[-+(\[{]*\\(?!angle|triangle|odot|overline)[a-zA-Z{]|[^\w\s]+\Z"
)
_PART_WORDS = frozenset(
    words("""
    half third thirds quarter quarters fourth fourths fifth fifths sixth sixths eighth eighths
    tenth tenths hundred thousand million billion trillion percent
    """)
)
_EQUALS = re.compile(
    r"\b(?:adds? up to|comes? (?:out )?to|works? out (?:to|at)|amounts? to)\b", re.IGNORECASE
)
_ANGLE = re.compile(r"\\angle ([0-9])(?![0-9])")
_GENERIC_UNITS = frozenset(words("square cubic units unit sq sq. pieces items"))
_CONFIRMS = frozenset(
    words(
        "is are the a correct right best final true answer answers option choice one this that it"
    )
    + words("here my was would be first second third fourth fifth")
)


def value_said(text: str, question: str | None = None) -> str | None:
    """The value of a sentence with its unit, or None where a word may change it.

    Expects `plain` text. Without words it is None too: there is nothing to leave out.
    """
    if not 0 < len(text) <= _MAX_CHARS:
        return None
    if has_chinese(text):
        return value_said_in_chinese(text, question)
    text = _ANGLE.sub(r"\\angle\1", money_behind(re.sub(r"\s+(?=\^)", "", text.rstrip(" .!;"))))
    tokens = _EQUALS.sub("equals", text).split()
    asked = read_question(question)
    span = _value(tokens, asked) if 1 < len(tokens) <= _MAX_TOKENS else None
    if span is None:
        return None
    start, stop = span
    end = _with_unit(tokens, start, stop)
    before, after = tokens[:start], tokens[end:]
    if (not before and not after) or _names_a_rival([*before, *after], asked):
        return None
    counted = what_is_counted(after, asked) if end == stop else 0
    what = after[:counted]
    noun = plain_word(what[-1]) if what else ""
    if after[counted : counted + 1] == ["of"] and noun and noun not in asked.words | _GENERIC_UNITS:
        return None  # five rows of chairs are not five chairs
    if any(plain_word(token) not in neutral.ADJECTIVES for token in what[:-1]):
        what = what[-1:]  # 3 more girls, where so many more are asked for
    value = " ".join((*tokens[start:end], *what)).rstrip(".,;:!")
    neutral_around = before_is_neutral(before, asked, value) and after_is_neutral(
        after[counted:], asked, noun
    )
    return value if neutral_around else None


def _names_a_rival(tokens: list[str], asked: Question) -> bool:
    """Whether a sentence speaks of the median where the mean is asked for, and the like."""
    said = {plain_word(token) for token in tokens}
    for family in neutral.RIVALS:
        named = [group for group in family if group & said]
        wanted = [group for group in family if group & asked.words]
        if wanted and any(group not in wanted for group in named):
            return True
    return False


def _is_label(tokens: list[str], i: int, asked: Question) -> bool:
    """The 6 of `Figure 6`, where the question asks about that one."""
    return i > 0 and (plain_word(tokens[i - 1]), plain_word(tokens[i])) in asked.labels


def _value(tokens: list[str], asked: Question) -> tuple[int, int] | None:
    """Where the one value of a sentence begins and ends; None with none or several."""
    values = [i for i in range(len(tokens)) if _is_value(tokens, i)]
    if len(values) > 1 and asked.counted:
        words = [plain_word(token) for token in tokens]
        values = [i for i in values if not is_given(words, i, asked)] or values
    if len(values) > 1 and asked.labels:
        values = [i for i in values if not _is_label(tokens, i, asked)] or values
    if len(values) > 1:
        values = [i for i in values if not _is_adjective(tokens, i)] or values
    if not values:
        return None
    start, end = values[0], values[-1] + 1
    if tokens[start] in ("=", "\\approx"):  # the roots are x = 1 and x = 2; Total = 5
        start += -1 if start and NAME.match(tokens[start - 1]) else 1
    inside = [tokens[i].strip(".,;:") for i in range(start, end) if i not in values]
    if start == end or any(word != "and" and not NAME.match(word) for word in inside):
        return None
    return start, end


def _is_value(tokens: list[str], i: int) -> bool:
    word = tokens[i].strip(".,;:!?\"'").lower()
    if word in _PART_WORDS:  # "two thirds", "half of it"; "a third side" is none
        return (i > 0 and _is_value(tokens, i - 1)) or word == "half"
    if set(word.split("-")) <= NUMBER_WORDS | _PART_WORDS and word:
        return True
    return bool(_VALUE.match(tokens[i])) and not NAME.match(tokens[i].strip(".,;:!?\"'"))


def _is_adjective(tokens: list[str], i: int) -> bool:
    """The two of "the two bars", where another value is named."""
    before = plain_word(tokens[i - 1]) if i else ""
    return plain_word(tokens[i]) in NUMBER_WORDS and before in ("the", "these", "those")


def _with_unit(tokens: list[str], start: int, end: int) -> int:
    """Where the value ends with as many following words as still make a known unit."""
    for stop in range(min(len(tokens), end + 4), end, -1):
        words = " ".join(tokens[end:stop]).rstrip(".,;:!")
        if words == "in" and stop < len(tokens) and plain_word(tokens[stop]) not in neutral.TAILS:
            continue  # 44 in 2016: no inches
        if tokens[start][0] != CURRENCY and units.known_unit(words) is not None:
            return stop
        if units.parse_unit(words) is not None and set(words.lower().split()) <= _GENERIC_UNITS:
            return stop
    return end


def may_change(text: str) -> bool:
    """Whether a text has a word that is known to say another value: not, or, half, than."""
    found = {word.replace("'", "") for word in re.findall(r"[a-z']+", text.lower())}
    if found & (neutral.NEVER | neutral.CHANGING) or re.search(r"n't\b", text.lower()):
        return True
    return has_chinese(text) and changes_zh(text)


def is_subject(text: str, *, one_word: bool = False) -> bool:
    """Whether words only name a value: `Area of the garden`, `面积`; not `half of the area`.

    `one_word`: a single unknown word is taken for a name too (`Momentum = 5`).
    """
    if has_chinese(text):
        return not changes_zh(text)
    tokens = text.split()
    words = [plain_word(token) for token in tokens]
    for i, word in enumerate(words):
        if is_neutral(words, i, NO_QUESTION) or NAME.match(tokens[i]):
            continue
        if word in neutral.NEVER or word in neutral.CHANGING:
            return False
        alone = one_word and len(words) == 1 and word.replace("-", "").isalpha()
        if not alone and not neutral.is_plural(word) and not is_thing(words, i):
            return False
    return True


def is_lead(text: str) -> bool:
    """Whether what stands before a value only leads to it: `The planet is`, `答案是`."""
    if has_chinese(text):
        return value_said_in_chinese(text + "1") is not None
    tokens = text.split()
    while tokens and plain_word(tokens[-1]) in neutral.DETERMINERS:
        tokens.pop()
    return before_is_neutral(tokens, NO_QUESTION, "")


def is_confirmation(text: str) -> bool:
    """`is the correct answer`, 正确: words behind the letter of an option."""
    words = [plain_word(token) for token in text.split()]
    return set(words) <= _CONFIRMS or text.strip(".,;:!?\"'。") in ("正确", "是正确的", "对", "项")


def says(text: str, gold: str, normalise: Normalise, question: str | None = None) -> bool:
    """Whether a sentence says a truth in words: `The umbrella is blue`, `It says "stop".`"""
    if not 0 < len(text) <= _MAX_CHARS:
        return False
    if has_chinese(text):
        return says_in_chinese(text, gold, question)
    tokens, right = text.split(), normalise(gold)
    if not 1 < len(tokens) <= _MAX_TOKENS or not right:
        return False
    if f" {right} " not in f" {normalise(text)} ":
        return False
    asked, size = read_question(question), len(gold.split())
    for start in range(len(tokens)):
        for end in range(start + 1, min(len(tokens), start + size + 1) + 1):
            if normalise(" ".join(tokens[start:end])) == right and _frames(
                tokens[:start], tokens[end:], asked
            ):
                return True
    return False


def _is_kind(words: list[str], asked: Question) -> bool:
    """Whether words name the kind of thing that is asked for: the rock of `what type of rock`."""
    return all(plain_word(word) in asked.kinds for word in words)


def _is_asked(word: str, asked: Question) -> bool:
    turns = word in neutral.CHANGING or word in neutral.NEVER
    known = turns or (word in neutral.NOT_THINGS and word not in neutral.LEADS)
    return word in asked.words or (not known and len(word) > 3 and stem(word) in asked.stems)


def _ends_question(after: list[str], asked: Question) -> bool:
    """`each other` behind `repel`, where the question ends so."""
    words = tuple(plain_word(token) for token in after)
    turns = set(words) & (neutral.NEVER | {"and"})
    return bool(words) and not turns and asked.order[-len(words) :] == words


def _frames(before: list[str], after: list[str], asked: Question) -> bool:
    while before and plain_word(before[-1]) in neutral.DETERMINERS:
        before = before[:-1]
    if [plain_word(token) for token in after] == ["one"]:  # the red one
        after = []
    if 0 < len(after) < 3 and _is_kind(after, asked):
        after = []  # It is an igneous rock
    if _ends_question(after, asked):
        after = []
    if len(before) > 1 and before[0] in asked.figures and before[1] in neutral.COPULAS:
        before = before[1:]  # 38 is an even number
    if not before:
        return after_is_neutral(after, asked)
    if plain_word(before[-1]) in neutral.PLACES | {"to"}:  # on the left
        before = before[:-1]
    last = plain_word(before[-1]) if before else "is"
    doing = last.endswith("ing") and last not in neutral.NOT_THINGS
    if (len(before) > 1 or doing) and _is_asked(last, asked):  # Sales were highest (in October)
        return before_is_neutral([*before, "is"], asked, "") and after_is_neutral(
            after, NO_QUESTION
        )
    if last not in neutral.SAYS and last not in neutral.PRONOUNS and before[-1][-1] not in ":=":
        return False
    before = [*before, "is"] if last in neutral.PRONOUNS else before
    return before_is_neutral(before, asked, "") and after_is_neutral(after, NO_QUESTION)
