"""Answers that every question of their kind has, so that a habit shows: yes and no, letters.

"Yes, it is."  -> yes      "是的"  -> yes      "False"  -> false
"(B)", "B. 12 cm"  -> B    "12 cm", "yes and no"  -> None
"""

from __future__ import annotations

import functools

from mmpr_builder.scoring.clean import MAX_CHARS
from mmpr_builder.scoring.letters import LETTERS, read_letters
from mmpr_builder.scoring.yes_no import polarity

_OPTIONS = 8
"""Letters that count where the number of options is not known: A to H."""


@functools.lru_cache(maxsize=65536)
def common_answer(answer: str | None, options: int = 0) -> str | None:
    """ "yes", "no", "true", "false", the letter of an option, or None for any other answer.

    `options` is how many the question has; 0: not known. A text that repeats an option without
    its letter is none: the habit is in the letter.
    """
    if not answer or len(answer) > MAX_CHARS:
        return None
    said = polarity(answer.strip())
    if said is not None:
        return said
    reading = read_letters(answer.strip())
    if len(reading.letters) != 1 or not reading.dressed:
        return None
    (number,) = reading.letters
    return LETTERS[number] if number < (options or _OPTIONS) else None


def common_answers(
    chosen: str | None, rejected: str | None, options: int = 0
) -> tuple[str, str] | None:
    """Both answers of a pair if they are of the same family, yes and no or letters; else None."""
    names = common_answer(chosen, options), common_answer(rejected, options)
    if names[0] is None or names[1] is None or is_letter(names[0]) != is_letter(names[1]):
        return None
    return names[0], names[1]


def is_letter(name: str) -> bool:
    """Whether a name is the letter of an option, not yes or no."""
    return len(name) == 1
