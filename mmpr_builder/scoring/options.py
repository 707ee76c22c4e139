"""Which option a text is, by its letter's label, its wording or its value.

match_option("12 cm", ("9 cm", "12 cm"))             -> 1
only_option_inside("It is the red one", ("red", "blue")) -> {0}
"""

from __future__ import annotations

import re
from functools import lru_cache

from mmpr_builder.scoring.clean import clean
from mmpr_builder.scoring.decision import no
from mmpr_builder.scoring.hedges import DOUBT, OTHER_AMOUNT
from mmpr_builder.scoring.latex import compact, has_words, plain
from mmpr_builder.scoring.letters import read_letters
from mmpr_builder.scoring.quantity import compare_quantities, parse_quantity
from mmpr_builder.scoring.relation import named_value
from mmpr_builder.scoring.sentence import says
from mmpr_builder.scoring.structure import bracketed
from mmpr_builder.scoring.text import normalise
from mmpr_builder.scoring.yes_no import same_polarity

UNSURE = frozenset((-1,))
"""Read, together with the option, where words that are not known to be neutral stand beside it."""


@lru_cache(maxsize=4096)
def without_labels(choices: tuple[str, ...]) -> tuple[str, ...]:
    """`("A. red", "B. blue")` -> `("red", "blue")`, where every option begins with its letter."""
    said = [read_letters(clean(choice)) for choice in choices]
    if len(said) > 1 and all(r.text and r.letters == {i} for i, r in enumerate(said)):
        return tuple(reading.text for reading in said)
    return choices


@lru_cache(maxsize=8192)
def match_option(text: str, choices: tuple[str, ...]) -> int | None:
    """The one option that a text is, by wording or by value; None for none or several."""
    if not choices:
        return None
    cleaned = clean(text)
    wording = [i for i, choice in enumerate(choices) if _same_words(cleaned, clean(choice))]
    if len(wording) == 1:
        return wording[0]
    value = [i for i, choice in enumerate(choices) if same_option(cleaned, choice)]
    return value[0] if len(value) == 1 else None


def _same_words(text: str, option: str) -> bool:
    return text == option or compact(plain(text)) == compact(plain(option))


def same_option(text: str, choice: str) -> bool:
    text, option = clean(text), clean(choice)
    if _same_words(text, option):
        return True
    p, g = parse_quantity(plain(text)), parse_quantity(plain(option))
    if p is not None and g is not None:
        return bool(compare_quantities(p, g, lambda query: no("symbolic")).equal)
    value = named_value(plain(option))[1]
    if value != plain(option) and named_value(plain(text))[0] is None:
        return same_option(text, value)
    if same_polarity(text, option):
        return True
    left = normalise(text)
    signs = set("+-*/^=<>") & set(text + option)
    return bool(left) and left == normalise(option) and not signs and _same_marks(text, option)


def _same_marks(text: str, option: str) -> bool:
    """Whether two formulas have the same brackets, bars and factorials: not [2,3) and (2,3)."""
    sides = [plain(text), plain(option)]
    if any(has_words(side) for side in sides):
        return True
    marks = [re.sub(r"(?<!\\)[{}]|[^()\[\]{}|!]", "", side) for side in sides]
    return marks[0] == marks[1] or (
        not any(set(mark) - set("()") for mark in marks)
        and not any(bracketed(side) for side in sides)
    )


def may_hold(text: str, choice: str) -> bool:
    """Whether a sentence has an option that is a formula with its signs and brackets."""
    option = plain(clean(choice))
    if has_words(option) or not (set("<>()[]|!") & set(option) or "\\{" in option):
        return True
    return _without_subscripts(option) in _without_subscripts(plain(text))


def _without_subscripts(text: str) -> str:
    """`S_{1}<S_{2}` -> `S1<S2`."""
    return re.sub(r"[_{}\s]", "", compact(text))


def only_option_inside(
    text: str, choices: tuple[str, ...], question: str | None = None
) -> frozenset[int] | None:
    """The one option whose words occur in a sentence ("it is the larger than sign")."""
    left = f" {normalise(text)} "
    options = [(len(normalise(choice)), i) for i, choice in enumerate(choices)]
    found: list[int] = []
    for length, i in sorted(options, reverse=True):
        words = normalise(choices[i])
        inside = length >= 2 and f" {words} " in left and not words.isdigit()
        if inside and may_hold(text, choices[i]):
            found.append(i)
            left = left.replace(f" {words} ", " | ")
    # "over 60 km" is not the option "60 km"
    if len(found) != 1 or OTHER_AMOUNT.search(left) or DOUBT.search(left):
        return None
    said = left.strip() == "|" or says(text, choices[found[0]], normalise, question)
    return frozenset(found) if said else UNSURE | {found[0]}
