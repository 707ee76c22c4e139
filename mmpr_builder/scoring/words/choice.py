r"""Multiple choice: letters in any dress, the option's text, the option's value.

(B)   B.   **B**   选B   \text{B}   option B   B. 12 cm   12 cm   12      all mean option B
A or B   not B   B. 13 cm (which is option C)   (A) 5 cm, (B) 12 cm     mean no single option
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile

from mmpr_builder.scoring.clean import clean
from mmpr_builder.scoring.decision import Decision, Symbolic, no, unknown, yes
from mmpr_builder.scoring.latex import compact, has_chinese, has_words, plain
from mmpr_builder.scoring.maths.expression import compare_math, spoken
from mmpr_builder.scoring.maths.structure import (
    bracketed,
    named_value,
    names_another,
    parse,
    split_relation,
)
from mmpr_builder.scoring.numbers.quantity import compare_quantities, parse_quantity
from mmpr_builder.scoring.words.sentence import says, value_said
from mmpr_builder.scoring.words.text import flat, is_yes_no, normalise, polarity, same_polarity

LETTERS = string.ascii_uppercase
_L = r"[A-Za-z]"
_LEAD = re.compile(
    r"(?:(?:so|thus|therefore|hence|i (?:would )?(?:choose|pick|select|think|believe)(?: that)?"
    r"|it (?:is|should be|must be)"
    r"|it's|most likely(?: to be)?)\b\s*+(?:,\s*+)?){0,2}"
    r"(?:(?:the\s++)?(?:(?:correct|right|best|final|matching)\s++)*+(?:answer|ans|option|choice)s?\b"
    r"\s*+(?:(?:(?:is|are|would be|should be)\b|:)\s*+)?(?::\s*+)?){0,2}",
    re.IGNORECASE,
)
_LEAD_ZH = re.compile(
    r"(?:因此|所以|故|综上|本题|此题|这题|我)?[,，]?\s*(?:应该?|正确)?的?(?:(?:答案|选项)?\s*(?:应?选择?|是|为|:)*\s*){1,2}(?:选项)?\s*"
)
_CONFIRMED = re.compile(
    r"(?<!\s)\s++(?:is|are)\s++(?:the\s++)?(?:correct|right|true|best)"
    r"(?:\s++(?:answer|option|choice)s?)?\.?\Z"
)
_ONE = re.compile(
    rf"[(\[{{<]?\s*+({_L})\s*+(?:[)\]}}>](?:\s++(?=[选项oc]))?)?(?:选项|项|option|choice)?"
    r"(?:是?正确的?)?[.。:、,]?\Z"
)
_WITH_TEXT = re.compile(
    rf"(?:[(\[]\s*({_L})\s*[)\]]|({_L})\s*[).:：、,，\-–—]|([A-Z])(?=[\s=(（\u3400-\u9fff]))\s*(.+)\Z",
    re.DOTALL,
)
_SEPARATOR = r"(?:\s*(?:,\s*and\b|,|;|/|&|、|和|与|及|\+|\band\b)\s*|\s+)"
_SEVERAL = re.compile(
    rf"[(\[{{]?\s*[(\[]?({_L})[)\]]?(?:{_SEPARATOR}[(\[]?({_L})[)\]]?)+\s*[)\]}}]?[.。]?\Z"
)
_SEVERAL_LEAD = re.compile(
    r"(?:the\s+)?(?:both|all of|(?:statements|sentences|options|choices)(?:\s+are)?)\s+"
    r"(?=[(\[]?[A-Z]\b)",
    re.IGNORECASE,
)
_BRACKETED = re.compile(rf"(?:[(\[]{_L}[)\]]\s*){{2,}}\Z")
_GLUED = re.compile(r"[A-Z]{2,8}\Z|[(\[{][A-Z]{2,8}[)\]}]\Z")


@dataclass(frozen=True, slots=True)
class Reading:
    """Letters that a text names, as indices, and the words beside a single one. `dressed` says that
    the letter is set off by more than a blank: `(A) dog`, not `A dog`."""

    letters: frozenset[int] = frozenset()
    text: str = ""
    dressed: bool = True


@lru_cache(maxsize=4096)
def read_letters(text: str) -> Reading:
    """What letters a cleaned text names, in any dress: (B)  B.  选B  \\text{B}  A, C and D  ACD."""
    text = plain(text).replace("**", "").strip("* ").replace("\\{", "{").replace("\\}", "}")
    text = _CONFIRMED.sub("", _strip_lead(text))
    one = _ONE.match(text)
    if one:
        return Reading(indices(one[1]))
    if _GLUED.match(text):
        letters = [char for char in text if char.isalpha()]
        return Reading(indices(*letters)) if len(set(letters)) == len(letters) else Reading()
    lead = _SEVERAL_LEAD.match(text)
    several = text[lead.end() :] if lead else text
    if _SEVERAL.match(several) or _BRACKETED.match(several):
        return Reading(indices(*re.findall(rf"(?<![A-Za-z]){_L}(?![A-Za-z])", several)))
    with_text = _WITH_TEXT.match(text)
    if with_text:
        letter = with_text[1] or with_text[2] or with_text[3]
        return Reading(indices(letter), with_text[4].strip().lstrip(".:").strip(), not with_text[3])
    return Reading()


def _strip_lead(text: str) -> str:
    """`The correct answer is (B)` -> `(B)`, `故选B` -> `B`."""
    for lead in (_LEAD, _LEAD_ZH):
        found = lead.match(text)
        if found and found.end():
            return text[found.end() :] or text
    return text


def indices(*letters: str) -> frozenset[int]:
    return frozenset(LETTERS.index(letter.upper()) for letter in letters)


@lru_cache(maxsize=4096)
def without_labels(choices: tuple[str, ...]) -> tuple[str, ...]:
    """`("A. red", "B. blue")` -> `("red", "blue")`, where every option begins with its letter."""
    said = map(read_letters, map(clean, choices))
    labelled = takewhile(lambda pair: pair[1].letters == {pair[0]}, enumerate(said))
    texts = tuple(reading.text for _, reading in labelled if reading.text)
    return texts if len(texts) == len(choices) > 1 else choices


@lru_cache(maxsize=8192)
def match_option(text: str, choices: tuple[str, ...]) -> int | None:
    """The one option that a text is, by wording or by value; None for none or several."""
    if not choices:
        return None
    cleaned = clean(text)
    words = compact(plain(cleaned))
    wording = [i for i, choice in enumerate(choices) if words == compact(plain(clean(choice)))]
    if len(wording) == 1:
        return wording[0]
    value = [i for i, choice in enumerate(choices) if same_option(cleaned, choice)]
    return value[0] if len(value) == 1 else None


_SQUARE = re.compile(r"\[([^\[\],;]+)\]\Z")


@lru_cache(maxsize=8192)
def _read(text: str) -> tuple[str, str, str, str | None, str]:
    """A cleaned text, its `plain` and `compact` spelling, the value that it names, its words."""
    text = re.sub(r"\b[Aa]ngle (?=[A-Z0-9])", "∠", _SQUARE.sub(r"\1", clean(text)))
    p = plain(text)
    name, value = named_value(p)
    return text, p, compact(p), value if name else None, flat(p)


def same_option(text: str, choice: str) -> bool:
    """Whether a text is an option: by its words, its value, or the ratio that a number is."""
    text, p, compact_p, named_p, flat_p = _read(text)
    option, g, compact_g, named_g, flat_g = _read(choice)
    if compact_p == compact_g:
        return True
    quantity_p = parse_quantity(p)
    quantity_g = parse_quantity(g) if quantity_p is not None else None
    if quantity_p is not None and quantity_g is not None:
        return bool(compare_quantities(quantity_p, quantity_g, lambda query: no("symbolic")).equal)
    if named_g is not None and named_p is None:
        return same_option(text, named_g)
    if same_polarity(text, option) or (flat_p == flat_g and flat_g.isalnum()):
        return True
    left = normalise(text)
    if not left or left != normalise(option) or set("+-*/^=<>") & set(text + option):
        return False
    return _same_marks(p, g)


def _same_marks(p: str, g: str) -> bool:
    """Whether two formulas have the same brackets, bars and factorials: not [2,3) and (2,3)."""
    marks = [re.sub(r"(?<!\\)[{}]|[^()\[\]{}|!]", "", side) for side in (p, g)]
    loose = not any(set(mark) - set("()") for mark in marks)
    return marks[0] == marks[1] or (loose and not bracketed(p) and not bracketed(g))


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


HEDGE = re.compile(
    r"\b(?:or|either|maybe|perhaps|possibly|vs|versus|might|possible|alternatively|unsure|uncertain"
    r"|instead|rather|change|guess|not sure|not certain|wrong|incorrect)\b"
    r"|或|可能|也许|要么|还是|不确定|改[为成]|[?？→]|\\to\b",
    re.IGNORECASE,
)
"""What takes an option back: `B or C`, `B, not sure`, 要么A要么B."""
_DENIED = re.compile(
    r"(?:\bnot|\b(?:rather than|instead of)|n't|不是|而非|不选)"
    r"\s*(?:option\s*)?\(?[A-Z]\)?(?![a-z])"
)
_LONE_LETTER = re.compile(r"(?<![A-Za-z0-9'’°\\])(?:A(?!\s[a-z])|[B-H])(?![A-Za-z0-9'’])")
_IN_BRACKETS = re.compile(r"\(([A-Z])\)")
_LISTING = re.compile(r"(?:(?<!\s)\s++)?[,;、]\s*+(?:and\s++)?|(?<!\s)\s++and\s++|[和与]")
_REASON = re.compile(
    r"[,(;:–—\-\s]*(?:because|since|as|which|due|given|i\.e)\b|[,，;(\s]*(?:因为|由于|因|即)",
    re.IGNORECASE,
)
_GROUND = re.compile(r"[,(;:–—\-\s]*(?:because|since|due|given)\b|[,，;(\s]*(?:因为|由于|因)", re.I)
"""A ground may say what the answer is not: `B, because A is too small`."""
_POSSESSIVE = re.compile(r"['’]s(?![a-z])")
_SUBJECT = re.compile(r"\b(?:it|s?he|they|this|there) (?:(?:is|are|was|were|has|have) )?", re.I)
"""`the company is a tech company` says the option `It is a tech company`."""
_FORMULA_MARKS = "\\=^/*+√π<>:"


@dataclass(frozen=True, slots=True)
class _Said:
    """The options that an answer names; all that it may mean where that is not certain."""

    options: frozenset[int]
    sure: bool = True


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
    if predicted.strip() == gold.strip() and not _is_letter_option(predicted.strip(), choices):
        return yes("choice")
    said = (
        read_predicted(predicted, choices, question)
        if choices
        else _without_options(predicted, gold, question)
    )
    if said is not None and said.sure:
        if said.options == wanted:
            return yes("choice")
        if not _mentions(predicted, said, wanted, choices):
            return no("choice", f"says {_show(said.options)}")
    elif len(wanted) == 1 and choices:
        value = _compare_value(predicted, min(wanted), choices, symbolic, question)
        if value is not None and (value.equal or said is None):
            return value
    unsure = said.options & wanted if said is not None else frozenset()
    if said is None and not choices:
        return unknown("words", "no letter, and the options are not known")
    if unsure or _mentions(predicted, said, wanted, choices):
        return unknown("words", "the words beside the option may take it back")
    denied = _DENIED.search(predicted) if said is None else None
    if denied and not {LETTERS[i] for i in wanted} & set(denied[0]):
        return unknown("words", "says what it is not")
    return no("choice", f"{predicted[:40]!r} does not say {_show(wanted)}")


def _is_letter_option(text: str, choices: tuple[str, ...]) -> bool:
    """Whether a letter is the text of another option than the one that it labels."""
    return len(text) == 1 and text in choices and choices.index(text) != ord(text.upper()) - 65


def _mentions(
    predicted: str, said: _Said | None, wanted: frozenset[int], choices: tuple[str, ...]
) -> bool:
    """Whether the right option stands somewhere in an answer that is read as another one."""
    named = said.options if said else frozenset[int]()
    text = _DENIED.sub(" ", predicted)
    for own in (clean(choices[i]) for i in named if i < len(choices)):
        if own.lower() in text.lower():
            text = re.sub(rf"(?<!\w){re.escape(own)}(?!\w)", "|", text, flags=re.IGNORECASE)
    letters = {LETTERS.index(found[0]) for found in _LONE_LETTER.finditer(text)}
    text = f" {normalise(_POSSESSIVE.sub('', text))} "
    rights = [f" {normalise(_SUBJECT.sub('', choices[i]))} " for i in wanted if i < len(choices)]
    rights = [r.strip() if has_chinese(r) else r for r in rights]
    short = len(text.split()) < 2  # the B of "point B" is no label
    held = any(r.strip() and (r in text or (text in r and not short)) for r in rights)
    return held or bool((letters - named) & wanted)


def _show(options: frozenset[int]) -> str:
    return "".join(LETTERS[i] for i in sorted(options))


def read_predicted(
    predicted: str, choices: tuple[str, ...], question: str | None = None
) -> _Said | None:
    """The options that an answer names; None for none, lists of options and hedges."""
    said = read_letters(predicted)
    option = match_option(predicted, choices)
    article = bool(said.text) and not said.dressed and said.text[0].isalpha()
    if option is not None and (not said.letters or article or len(said.letters) > 1):
        return _Said(frozenset((option,)))  # the whole answer is an option, such as "A and B"
    if said.letters and max(said.letters) >= len(choices):
        if option is not None:
            return _Said(frozenset((option,)))  # Q, where the options are P, Q and R
        said = Reading()  # "I, II and III" begins with no letter of an option
    if said.letters and not said.text:
        if option is not None and said.letters != {option}:
            return _Said(said.letters | {option}, sure=False)  # a label, or the text of another
        return _Said(said.letters)
    # The A of "A dog" is an article; that of "A 12" is none.
    apart = said.dressed or not said.text[:1].isalpha() or has_chinese(said.text)
    if said.letters and (apart or _GROUND.match(said.text)):
        return _with_words(said, choices)
    return _without_letter(predicted, choices, question)


def _with_words(said: Reading, choices: tuple[str, ...]) -> _Said | None:
    """A letter with words beside it, which may repeat the option or give a reason."""
    text, options = said.text, said.letters
    own = clean(choices[min(options)]) if choices else ""
    if own and (same_option(text, own) or same_option(text.strip("()[] "), own)):
        return _Said(options)
    rest = text.replace(own, " ", 1) if own else text
    first = re.split(r"[,;(:]|\.\s|\n", text.strip("( "))[0]
    other = match_option(text.strip("()"), choices)
    other = match_option(first, choices) if other is None else other
    if other is not None and other != min(options):
        return _Said(options | {other}, sure=False)
    letters = {LETTERS.index(m[0]) for m in _LONE_LETTER.finditer(_DENIED.sub(" ", rest))}
    if (letters - options or HEDGE.search(rest)) and not _GROUND.match(text):
        return _Said(options | letters, sure=False)
    if own and not has_words(plain(text)) and not has_words(plain(own)):
        return _Said(options, sure=False)  # another number or formula than the option's
    return _Said(options, sure=said.dressed or bool(_GROUND.match(text)))


def _without_letter(predicted: str, choices: tuple[str, ...], question: str | None) -> _Said | None:
    named = {LETTERS.index(found) for found in _IN_BRACKETS.findall(predicted)}
    if len(named) == 1 and max(named) < len(choices):
        (index,) = named
        own = clean(choices[index])
        label = f"({LETTERS[index]})"
        sure = f"{label} {own}".lower() in predicted.lower() if own else False
        sure = sure or same_option(predicted.replace(label, ""), own)  # 18 (B)
        sure = sure or says(plain(predicted), LETTERS[index], question)
        return _Said(frozenset(named), sure=sure and not HEDGE.search(predicted.replace(own, "")))
    polar = polarity(predicted, question)
    hits = [i for i, c in enumerate(choices) if is_yes_no(c) and polarity(clean(c)) == polar]
    if polar is not None and len(hits) == 1:
        return _Said(frozenset(hits))
    told = [i for i, c in enumerate(choices) if says(plain(predicted), plain(clean(c)), question)]
    if len(told) == 1 and not HEDGE.search(predicted):
        return _Said(frozenset(told))
    listed = [match_option(part, choices) for part in _LISTING.split(predicted)]
    if len(listed) > 1 and None not in listed:
        return _Said(frozenset(i for i in listed if i is not None))  # whale, bat and seal
    text = plain(spoken(predicted))
    value = value_said(text, question) or named_value(text)[1]
    if (question and names_another(text, question)) or parse(text).kind == "list":
        return None
    option = match_option(value, choices)
    sides = split_relation(text)[0]
    if option is None and len(sides) > 1 and (last := match_option(sides[-1], choices)) is not None:
        return _Said(frozenset((last,)), sure=False)  # 2\pi rh = 24\pi
    if option is not None:
        sure = value_said(text, question) is not None or not has_words(text)
        return _Said(frozenset((option,)), sure=sure)
    return None


def _compare_value(
    predicted: str, index: int, choices: tuple[str, ...], symbolic: Symbolic, question: str | None
) -> Decision | None:
    r"""A formula that is no option as it stands may equal one: `\sqrt{12}` is `2\sqrt{3}`."""
    letter = read_letters(predicted)
    text = plain(spoken(letter.text if letter.letters == {index} else predicted))
    marks = bool(set(_FORMULA_MARKS) & set(text)) or bracketed(text) is not None
    if not marks or has_words(text):
        return None
    if question and names_another(text, question):
        return unknown("name", "the question asks for another value")
    option = plain(clean(choices[index]))
    if ":" not in text:
        option = re.sub(r"\A([^:]+):([^:]+)\Z", r"\\frac{\1}{\2}", option)
    return compare_math(text, option, symbolic)


def _without_options(predicted: str, gold: str, question: str | None) -> _Said | None:
    """Without the options at hand: the letter, or the words that the truth itself gives."""
    truth, said = read_letters(gold), read_letters(predicted)
    words = normalise(truth.text)
    if says(plain(predicted), _show(truth.letters), question) and question:
        return _Said(truth.letters)
    if not said.letters or not said.text:
        return _Said(said.letters) if said.letters else None
    reading = _with_words(said, ())
    differs = words and normalise(said.text) != words and not _REASON.match(said.text)
    return _Said(said.letters, sure=False) if differs and reading is not None else reading
