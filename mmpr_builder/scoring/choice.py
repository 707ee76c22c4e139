r"""Multiple choice: letters in any dress, the option's text, the option's value.

(B)   B.   **B**   选B   \text{B}   option B   B. 12 cm   12 cm   12      all mean option B
A or B   not B   B. 13 cm (which is option C)   (A) 5 cm, (B) 12 cm     mean no single option
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from functools import lru_cache

from mmpr_builder.scoring.clean import clean
from mmpr_builder.scoring.decision import Decision, no, unknown, yes
from mmpr_builder.scoring.latex import compact, plain
from mmpr_builder.scoring.quantity import compare_quantities, parse_quantity
from mmpr_builder.scoring.relation import named_value
from mmpr_builder.scoring.text import normalise, said_at_the_end

_LETTERS = string.ascii_uppercase
_L = r"[A-Za-z]"
_LEAD = re.compile(
    r"(?:(?:so|thus|therefore|hence|i (?:would )?(?:choose|pick|select)|it is|it's)\b\s*,?\s*)?"
    r"(?:(?:the\s+)?(?:(?:correct|right|best|final|matching)\s+)*(?:answer|option|choice)s?\b\s*"
    r"(?:(?:is|are|would be)\b|:)?\s*:?\s*){0,2}",
    re.IGNORECASE,
)
_LEAD_ZH = re.compile(
    r"(?:因此|所以|故|综上)?[,，]?\s*(?:应该?|正确)?的?(?:(?:答案|选项)?\s*(?:应?选择?|是|为|:)*\s*){1,2}(?:选项)?\s*"
)
_ONE = re.compile(rf"[(\[{{<]?\s*({_L})\s*[)\]}}>]?(?:\s*(?:选项|项|option|choice))?[.。:、,]?\Z")
_WITH_TEXT = re.compile(
    rf"(?:[(\[]\s*({_L})\s*[)\]]|({_L})\s*[).:：、,，\-–—]|([A-Z])(?=[\s=(（]))\s*(.+)\Z", re.S
)
_SEPARATOR = r"(?:\s*(?:,|;|/|&|、|和|与|及|\+|\band\b)\s*|\s+)"
_SEVERAL = re.compile(
    rf"[(\[{{]?\s*[(\[]?({_L})[)\]]?(?:{_SEPARATOR}[(\[]?({_L})[)\]]?)+\s*[)\]}}]?[.。]?\Z"
)
_BRACKETED = re.compile(rf"(?:[(\[]{_L}[)\]]\s*){{2,}}\Z")
_JOINS = re.compile(r"(?:(?:or|and)\b|[/或和与])", re.IGNORECASE)
_LISTED = re.compile(r"[(（][A-Z][)）]")
_GLUED = re.compile(r"[A-Z]{2,8}\Z|[(\[{][A-Z]{2,8}[)\]}]\Z")
_HEDGE = re.compile(r"(?:\b(?:or|either)\b|或)", re.IGNORECASE)
_NEGATION = re.compile(
    r"\b(?:not|neither|nor|except|isn't|cannot|can't|incorrect|wrong|unlike)\b|不是|不对|不选|错误|除了?",
    re.IGNORECASE,
)
_REASON = re.compile(
    r"^\s*(?:[,(;:–—\-]\s*)*(?:because|since|as|which|i\.e|the|so|due|given)\b|^\s*[,，;(]?\s*(?:因为|由于|因|即)",
    re.I,
)


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
    in_range = bool(said.letters) and max(said.letters) < (len(choices) or len(_LETTERS))
    if in_range and (
        not said.text or not choices or _same_option(said.text, choices[min(said.letters)])
    ):
        return said.letters
    option = match_option(gold, choices)
    if option is not None:
        return frozenset((option,))
    return said.letters if in_range and said.dressed else None


@dataclass(frozen=True, slots=True)
class Reading:
    """Letters that a text names, as indices, and the words beside a single one. `dressed` says that
    the letter is set off by more than a blank: `(A) dog`, not `A dog`."""

    letters: frozenset[int] = frozenset()
    text: str = ""
    dressed: bool = True


def read_letters(text: str) -> Reading:
    """What letters a cleaned text names."""
    text = _strip_lead(plain(text).strip("* "))
    one = _ONE.match(text)
    if one:
        return Reading(_indices(one[1]))
    if _GLUED.match(text):
        letters = [char for char in text if char.isalpha()]
        return Reading(_indices(*letters)) if len(set(letters)) == len(letters) else Reading()
    if _SEVERAL.match(text) or _BRACKETED.match(text):
        return Reading(_indices(*re.findall(rf"(?<![A-Za-z]){_L}(?![A-Za-z])", text)))
    with_text = _WITH_TEXT.match(text)
    if with_text:
        letter = with_text[1] or with_text[2] or with_text[3]
        return Reading(_indices(letter), with_text[4].strip(), not with_text[3])
    return Reading()


def _strip_lead(text: str) -> str:
    """`The correct answer is (B)` -> `(B)`, `故选B` -> `B`."""
    for lead in (_LEAD, _LEAD_ZH):
        found = lead.match(text)
        if found and found.end():
            return text[found.end() :] or text
    return text


def _indices(*letters: str) -> frozenset[int]:
    return frozenset(_LETTERS.index(letter.upper()) for letter in letters)


def compare_choice(predicted: str, gold: str, choices: tuple[str, ...]) -> Decision:
    """`gold` names a letter, several letters or an option's text; expects cleaned texts."""
    wanted = read_gold(gold, choices)
    if wanted is None:
        if choices:
            return unknown("unusable_truth", f"{gold[:40]!r} is none of the options")
        return yes("text") if normalise(predicted) == normalise(gold) else no("text", "differs")
    if predicted.strip() == gold.strip():
        return yes("choice")
    if not choices:
        return _compare_letters(predicted, gold, wanted)
    said = read_predicted(predicted, choices)
    if said is None:
        return no("choice", f"{predicted[:40]!r} names no single option")
    return yes("choice") if said == wanted else no("choice", f"says {_show(said)}")


def _compare_letters(predicted: str, gold: str, wanted: frozenset[int]) -> Decision:
    """Without the options at hand: the letter, or the words that the truth itself gives."""
    gold_text = normalise(read_letters(gold).text)
    said = read_letters(predicted)
    if gold_text and not (said.letters and said.dressed) and normalise(predicted) == gold_text:
        return yes("choice_text")
    letters = read_predicted(predicted, ())
    if letters != wanted:
        return no("choice", f"{predicted[:40]!r} does not say {_show(wanted)}")
    if gold_text and said.text and normalise(said.text) != gold_text and not _explains(said.text):
        return no("choice", "the letter is right, the words beside it are not")
    return yes("choice")


def _show(indices: frozenset[int]) -> str:
    return "".join(_LETTERS[i] for i in sorted(indices))


def read_predicted(predicted: str, choices: tuple[str, ...]) -> frozenset[int] | None:
    """The options a response's answer names; None for none, hedges, negations and conflicts."""
    said = read_letters(predicted)
    if said.letters and (not said.text or said.dressed):
        return _with_words(said, choices)
    option = match_option(predicted, choices)
    if option is not None:
        return frozenset((option,))  # the whole answer is the wording of an option
    if said.letters:
        return _with_words(said, choices)
    if _HEDGE.search(predicted) or _NEGATION.search(predicted):
        return None
    end = said_at_the_end(predicted)
    if end is not None:
        said = read_letters(clean(end))
        if said.letters:
            return _with_words(said, choices)
        option = match_option(clean(end), choices)
        if option is not None:
            return frozenset((option,))
    return _only_option_inside(predicted, choices)


def _explains(text: str) -> bool:
    return bool(_REASON.match(text)) or text.startswith("(")


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
    if _explains(text) or (own and _same_option(text, own)):
        other = match_option(text.strip("()"), choices)
        return letters if other is None or other == min(letters) else None
    if _HEDGE.search(text) or _NEGATION.search(text):
        return None
    if not choices:
        return letters
    other = match_option(text, choices)
    if other is not None and other != min(letters):
        return None
    if parse_quantity(plain(text)) is not None and parse_quantity(plain(clean(own))) is not None:
        return None  # another number than the option's
    inside = _only_option_inside(text, choices)
    return None if inside is not None and inside != letters else letters


@lru_cache(maxsize=8192)
def match_option(text: str, choices: tuple[str, ...]) -> int | None:
    """The one option that a text is, by wording or by value; None for none or several."""
    if not choices:
        return None
    cleaned = clean(text)
    wording = [i for i, choice in enumerate(choices) if _same_words(cleaned, clean(choice))]
    if len(wording) == 1:
        return wording[0]
    value = [i for i, choice in enumerate(choices) if _same_option(cleaned, choice)]
    return value[0] if len(value) == 1 else None


def _same_words(text: str, option: str) -> bool:
    return text == option or compact(plain(text)) == compact(plain(option))


def _same_option(text: str, choice: str) -> bool:
    text, option = clean(text), clean(choice)
    if _same_words(text, option):
        return True
    p, g = parse_quantity(plain(text)), parse_quantity(plain(option))
    if p is not None and g is not None:
        return bool(compare_quantities(p, g, lambda query: no("symbolic")).equal)
    value = named_value(plain(option))[1]
    if value != plain(option) and named_value(plain(text))[0] is None:
        return _same_option(text, value)
    left = normalise(text)
    return bool(left) and left == normalise(option) and not set("+-*/^=<>") & set(text + option)


def _only_option_inside(text: str, choices: tuple[str, ...]) -> frozenset[int] | None:
    """The one option whose words occur in a sentence ("it is the larger than sign")."""
    left = f" {normalise(text)} "
    options = [(len(normalise(choice)), i) for i, choice in enumerate(choices)]
    found: list[int] = []
    for length, i in sorted(options, reverse=True):
        words = normalise(choices[i])
        if length >= 2 and f" {words} " in left and not words.isdigit():
            found.append(i)
            left = left.replace(f" {words} ", " | ")
    return frozenset(found) if len(found) == 1 else None
