r"""Multiple choice: letters in any dress, the option's text, the option's value.

(B)   B.   **B**   选B   \text{B}   option B   B. 12 cm   12 cm   12      all mean option B
A or B   not B   B. 13 cm (which is option C)   (A) 5 cm, (B) 12 cm     mean no single option
"""

from __future__ import annotations

import re
from functools import lru_cache

from mmpr_builder.scoring.asked import names_what_is_asked
from mmpr_builder.scoring.clean import clean
from mmpr_builder.scoring.decision import Decision, Symbolic, no, unknown, yes
from mmpr_builder.scoring.hedges import (
    DOUBT,
    GROUND,
    HEDGE,
    NEGATION,
    OTHER_AMOUNT,
    REASON,
    other_letter,
    take_back,
)
from mmpr_builder.scoring.latex import has_words, plain
from mmpr_builder.scoring.letters import LETTERS, Reading, indices, read_letters
from mmpr_builder.scoring.maths import compare_math
from mmpr_builder.scoring.neutral_zh import denies_zh
from mmpr_builder.scoring.option_context import option_in_context
from mmpr_builder.scoring.option_value import leads_to_option, value_of
from mmpr_builder.scoring.options import (
    UNSURE,
    match_option,
    may_hold,
    only_option_inside,
    same_option,
    without_labels,
)
from mmpr_builder.scoring.phrases import spoken
from mmpr_builder.scoring.quantity import parse_quantity
from mmpr_builder.scoring.question_zh import CHINESE
from mmpr_builder.scoring.relation import names_another
from mmpr_builder.scoring.sentence import is_confirmation, is_lead, may_change, says
from mmpr_builder.scoring.structure import bracketed
from mmpr_builder.scoring.text import normalise, said_at_the_end
from mmpr_builder.scoring.yes_no import is_yes_no, polarity

_JOINS = re.compile(r"(?:(?:or|and)\b|[/或和与])", re.IGNORECASE)
_LISTED = re.compile(r"[(（][A-Z][)）]")
_FORMULA_MARKS = "\\=^/*+√π<>"
_LETTER_BEHIND = re.compile(r"(.*\S)\s*[(（]([A-Z])[)）]\Z", re.DOTALL)  # 18 (B)
_WITH_NOUN = re.compile(r"(?:[Tt]he )?[A-Za-z]{3,15} \(?([A-Z])\)?\Z")  # Curve B
_LISTING = re.compile(r"\s*[,;、]\s*(?:and\s+)?|\s+and\s+|[和与]")
_LAST_SAID = re.compile(r"[=≈是为]|\b(?:is|are|was|were|equals)\b")
_NONE_OF_IT = re.compile(r"\b(?:no|never|without)\b|没有", re.IGNORECASE)


@lru_cache(maxsize=4096)
def read_gold(gold: str, choices: tuple[str, ...]) -> frozenset[int] | None:
    """The options that a truth names, as indices; None if it names none (an unusable truth).

    A truth in the exact words of an option is that option, even where it looks like a letter: with
    the options ("(c)", "(a)", "(b)") the truth "(b)" is the third one.
    """
    raw = [choice.strip() for choice in choices]
    if gold.strip() in raw and not (len(gold.strip()) == 1 and gold.strip().isalpha()):
        return frozenset((raw.index(gold.strip()),))
    said = read_letters(gold)
    in_range = bool(said.letters) and max(said.letters) < (len(choices) or len(LETTERS))
    if in_range and (
        not said.text or not choices or same_option(said.text, choices[min(said.letters)])
    ):
        return said.letters
    option = match_option(gold, choices)
    if option is not None:
        return frozenset((option,))
    several = read_letters(gold.upper()).letters if gold.isalpha() and gold.islower() else ()
    if len(several) > 1 and max(several) < len(choices) and sorted(gold) == list(gold):
        return frozenset(several)  # "ac" where no option is called so
    return said.letters if in_range and said.dressed else None


def compare_choice(
    predicted: str,
    gold: str,
    choices: tuple[str, ...],
    symbolic: Symbolic,
    question: str | None = None,
) -> Decision:
    """`gold` names a letter, several letters or an option's text; expects cleaned texts."""
    choices = without_labels(choices)
    wanted = read_gold(gold, choices)
    if wanted is None:
        if choices:
            return unknown("unusable_truth", f"{gold[:40]!r} is none of the options")
        return yes("text") if normalise(predicted) == normalise(gold) else no("text", "differs")
    if predicted.strip() == gold.strip():
        return yes("choice")
    if not choices:
        return _compare_letters(predicted, gold, wanted, question)
    said = read_predicted(predicted, choices, question)
    if said is None or said >= UNSURE:
        formula = _letter_with_formula(predicted, wanted, choices, symbolic)
        if formula is not None:
            return formula
    if said is not None and said >= UNSURE:
        value = _compare_value(predicted, wanted, choices, symbolic, question)
        return value if value.equal else _unsure(said, wanted)
    if said is None:
        return _compare_value(predicted, wanted, choices, symbolic, question)
    return yes("choice") if said == wanted else no("choice", f"says {_show(said)}")


def _unsure(said: frozenset[int], wanted: frozenset[int]) -> Decision:
    if said - UNSURE != wanted:
        return no("choice", f"speaks of {_show(said - UNSURE)}")
    return unknown("words", "the words beside the option may take it back")


def _compare_value(
    predicted: str,
    wanted: frozenset[int],
    choices: tuple[str, ...],
    symbolic: Symbolic,
    question: str | None,
) -> Decision:
    r"""A formula that is no option as it stands may equal one: `\sqrt{12}` is `2\sqrt{3}`."""
    predicted = spoken(predicted)
    text = plain(predicted)
    formula = (
        not has_words(text)
        and not HEDGE.search(text)
        and (set(_FORMULA_MARKS) & set(text) or bracketed(text))
    )
    letters = read_letters(predicted).letters
    if not formula or len(wanted) != 1 or (letters and max(letters) < len(choices)):
        return _no_single_option(predicted, wanted, choices)
    (index,) = wanted
    if question and names_another(text, question):
        return unknown("name", "the question asks for another value")
    decisions = [compare_math(predicted, clean(choice), symbolic) for choice in choices]
    if any(decision.equal for i, decision in enumerate(decisions) if i != index):
        return no("choice", "equals another option")
    return decisions[index]


def _no_single_option(predicted: str, wanted: frozenset[int], choices: tuple[str, ...]) -> Decision:
    """Undecided where the last thing said is the right option, and nothing takes it back."""
    last = _LAST_SAID.split(predicted)[-1]
    marks = (HEDGE, NEGATION, DOUBT, OTHER_AMOUNT, _NONE_OF_IT)
    option = match_option(last, choices) if last != predicted else None
    if option is None and CHINESE.search(predicted) and not read_letters(predicted).letters:
        held = [i for i, choice in enumerate(choices) if clean(choice) in predicted]
        option = held[0] if len(held) == 1 and not denies_zh(predicted) else None
    if option is not None and wanted == {option} and not any(m.search(predicted) for m in marks):
        return unknown("words", "not every word beside the option is known to be neutral")
    return no("choice", f"{predicted[:40]!r} names no single option")


def _letter_with_formula(
    predicted: str, wanted: frozenset[int], choices: tuple[str, ...], symbolic: Symbolic
) -> Decision | None:
    r"""`(C) π/3` where option C is `\frac{\pi}{3}`; None for anything else."""
    said = read_letters(predicted)
    formula = said.text and not has_words(plain(said.text)) and set(_FORMULA_MARKS) & set(said.text)
    if said.letters != wanted or len(wanted) != 1 or not formula:
        return None
    decision = compare_math(said.text, clean(choices[min(wanted)]), symbolic)
    return decision if decision.equal else None


def _compare_letters(
    predicted: str, gold: str, wanted: frozenset[int], question: str | None
) -> Decision:
    """Without the options at hand: the letter, or the words that the truth itself gives."""
    gold_text = normalise(read_letters(gold).text)
    said = read_letters(predicted)
    if gold_text and not (said.letters and said.dressed) and normalise(predicted) == gold_text:
        return yes("choice_text")
    if len(wanted) == 1 and names_what_is_asked(plain(predicted), _show(wanted), question):
        return yes("choice", "with the noun that is asked for")
    letters = read_predicted(predicted, ())
    named = _WITH_NOUN.match(plain(predicted)) if letters is None else None
    if named and len(wanted) == 1 and named[1] == _show(wanted) and not may_change(predicted):
        return unknown("words", "the letter of something that nobody asks for")
    if letters is not None and letters >= UNSURE:
        return _unsure(letters, wanted)
    if letters != wanted:
        return no("choice", f"{predicted[:40]!r} does not say {_show(wanted)}")
    if gold_text and said.text and normalise(said.text) != gold_text and not _explains(said.text):
        return no("choice", "the letter is right, the words beside it are not")
    return yes("choice")


def _show(indices: frozenset[int]) -> str:
    return "".join(LETTERS[i] for i in sorted(indices))


def read_predicted(
    predicted: str, choices: tuple[str, ...], question: str | None = None
) -> frozenset[int] | None:
    """The options a response's answer names; None for none, hedges, negations and conflicts."""
    said = read_letters(predicted)
    if len(said.letters) > 1 and (option := match_option(predicted, choices)) is not None:
        return frozenset((option,))  # the option "A and B"
    if choices and said.letters and said.text and max(said.letters) >= len(choices):
        said = Reading()  # "I, II and III" begins with no letter of an option
    # The A of "A dog" is an article; that of "A 12" is none.
    if said.letters and (not said.text or said.dressed or not said.text[0].isalpha()):
        return _with_words(said, choices)
    behind = _LETTER_BEHIND.match(predicted)
    if behind and choices and not said.letters:
        return _with_words(Reading(indices(behind[2]), behind[1]), choices)
    option = match_option(predicted, choices)
    if option is not None:
        return frozenset((option,))  # the whole answer is the wording of an option
    if said.letters:
        return _with_words(said, choices)
    option = _polar_option(predicted, choices)
    if option is not None:
        return frozenset((option,))
    spoken = [
        i
        for i, choice in enumerate(choices)
        if says(predicted, choice, normalise, question) and may_hold(predicted, choice)
    ]
    if len(spoken) == 1:
        return frozenset(spoken)
    listed = [match_option(part, choices) for part in _LISTING.split(predicted)]
    if choices and len(listed) > 1 and None not in listed:
        return frozenset(i for i in listed if i is not None)  # whale, bat and seal
    option = option_in_context(predicted, choices, question)
    if option is not None:
        return frozenset((option,))
    value = value_of(predicted, question)
    option = match_option(value, choices) if value else None
    if option is not None:
        return frozenset((option,))
    if any(mark.search(predicted) for mark in (HEDGE, NEGATION, _NONE_OF_IT)):
        return None
    end = said_at_the_end(predicted)
    if end is not None:
        said = read_letters(clean(end))
        option = match_option(clean(end), choices)
        if said.letters or option is not None:
            named = _with_words(said, choices) if said.letters else frozenset((option or 0,))
            before = predicted[: len(predicted) - len(end)]
            sure = is_lead(before) or leads_to_option(before, named, choices, question)
            return named if named is None or sure else UNSURE | named
    return only_option_inside(predicted, choices, question)


def _polar_option(text: str, choices: tuple[str, ...]) -> int | None:
    """`No, it is not` among the options "yes" and "no"."""
    said = polarity(text)
    hits = [i for i, choice in enumerate(choices) if is_yes_no(choice) and polarity(choice) == said]
    return hits[0] if said is not None and len(hits) == 1 else None


def _explains(text: str) -> bool:
    return bool(REASON.match(text)) or text.startswith("(")


def _says_own(text: str, own: str, letters: frozenset[int], choices: tuple[str, ...]) -> bool:
    """Whether the words beside a letter say its option over again, or that it is right."""
    if not choices or same_option(text, own) or is_confirmation(text):
        return True
    other = only_option_inside(text, choices)
    return other == letters or bool(other is None and set("=0123456789") & set(text))


def _with_words(said: Reading, choices: tuple[str, ...]) -> frozenset[int] | None:
    """A letter with words beside it: they may repeat or explain the option, not contradict it."""
    letters, text = said.letters, said.text
    if choices and max(letters) >= len(choices):
        return None
    if not text:
        return letters
    if _JOINS.match(text) or _LISTED.search(text):
        return None  # the beginning of a hedge, or the list of options said over again
    own = choices[min(letters)] if choices else ""
    if not REASON.match(text) and text.startswith("(") and take_back(said):
        return None
    if _explains(text) and not GROUND.match(text):
        rest = text.strip("() ")
        if any(mark.search(rest) for mark in (HEDGE, DOUBT)) or NEGATION.search(rest):
            return UNSURE | letters if not other_letter(said) else None
    if REASON.match(text) and not GROUND.match(text) and not _says_own(text, own, letters, choices):
        return UNSURE | letters  # "B as far as that goes"
    if _explains(text) or (own and same_option(text, own)):
        other = match_option(text.strip("()"), choices)
        return letters if other is None or other == min(letters) else None
    if any(mark.search(text) for mark in (HEDGE, NEGATION, DOUBT)) or other_letter(said):
        return None
    if not said.dressed and CHINESE.match(text):
        return None  # A型 is a blood group
    if not choices:
        return letters
    other = match_option(text, choices)
    if other is not None and other != min(letters):
        return None
    if parse_quantity(plain(text)) is not None and parse_quantity(plain(clean(own))) is not None:
        return None  # another number than the option's
    inside = only_option_inside(text, choices)
    if inside is not None and inside - UNSURE != letters:
        return None
    return letters if inside == letters or is_confirmation(text) else UNSURE | letters
