r"""An option said by its value, in a sentence or with the name that the question asks for.

value_of(r"\angle 2 = 130°", "... Find \angle 2.")   -> "130°"
value_of("The length of PA is 8", "What is the length of PA?")  -> "8"
"""

from __future__ import annotations

import re

from mmpr_builder.scoring.latex import plain
from mmpr_builder.scoring.options import match_option
from mmpr_builder.scoring.relation import named_value, names_another
from mmpr_builder.scoring.sentence import value_said

_CONCLUSION = re.compile(
    r"(?P<clause>.*\S)[,.;] (?:so|therefore|thus|hence),? the"
    r" (?:correct )?(?:answer|option|choice) is"
    r"(?: option| choice)?\s*\(?\Z",
    re.DOTALL | re.IGNORECASE,
)


def leads_to_option(
    before: str, named: frozenset[int] | None, choices: tuple[str, ...], question: str | None
) -> bool:
    """`The length of PA is 8, so the answer is` before the letter of the option `8`."""
    found = _CONCLUSION.match(before)
    value = value_of(found["clause"], question) if found else None
    option = match_option(value or found["clause"], choices) if found else None
    return option is not None and named == frozenset((option,))


def value_of(text: str, question: str | None) -> str | None:
    r"""The value that a sentence says, or the one of a name that the question asks for:
    `\angle 2 = 130°`; None for the value of another name or of one that the question gives."""
    text = plain(text)
    said = value_said(text, question) if question else None
    if said is not None:
        return None if names_another(text, question or "") else said
    name, value = named_value(text)
    bare = re.sub(r"\\?angle|[^A-Za-z0-9]", "", name or "")
    if not bare or question is None or names_another(text, question):
        return None
    asked = re.sub(r"\\angle|\bangle\b|[{}$]", " ", plain(question))
    places = list(re.finditer(rf"(?<![A-Za-z0-9]){re.escape(bare)}(?![A-Za-z0-9])", asked))
    given = any(re.match(r"\s*(?:=|is [0-9]|equals)", asked[place.end() :]) for place in places)
    return value if places and not given else None
