"""Short answers in words: VQA's normalisation, for words only.

    normalise("A Don't-Walk sign.") -> "dont walk sign"

VQA's own normalisation deletes signs and operators as well (`-5` becomes `5`, `x^2+1` becomes
`x21`); here they stay, and an answer that is a number is compared as a number.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from mmpr_builder.scoring.asked import (
    as_asked,
    counts_what_is_asked,
    names_what_is_asked,
    says_label,
)
from mmpr_builder.scoring.chain import read_chain
from mmpr_builder.scoring.decision import Decision, no, unknown, yes
from mmpr_builder.scoring.formula import compare_with_ratio
from mmpr_builder.scoring.labels import compare_labels, is_label
from mmpr_builder.scoring.latex import plain
from mmpr_builder.scoring.neutral_zh import denies_zh
from mmpr_builder.scoring.numerals import ENGLISH
from mmpr_builder.scoring.quantity import Quantity, compare_quantities, parse_quantity
from mmpr_builder.scoring.ratio import is_ratio
from mmpr_builder.scoring.said_zh import values_in_chinese
from mmpr_builder.scoring.sentence import may_change, says, value_said
from mmpr_builder.scoring.sentence_zh import has_chinese
from mmpr_builder.scoring.unit_asked import compare_as_asked
from mmpr_builder.scoring.yes_no import compare_yes_no, is_yes_no

_ARTICLES = frozenset(("a", "an", "the"))
_ABBREVIATION = re.compile(r"(?<![a-z0-9])(?:[a-z]\.)+[a-z]\.?(?![a-z0-9])")
_THOUSANDS = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")
_PUNCTUATION = re.compile(
    r"(?<![0-9])[.,:](?=[0-9])(?<![.])|[.,:](?![0-9])|(?<![0-9])!|[;?\"()\[\]{}<>|`~。，、；：！？“”‘’《》（）【】…]"
)
_RELATION = re.compile(r"(?<=[\w)])\s*[<>]\s*(?=[-+.\w(\\])|(?:\A|(?<=\s))[<>]\s*(?=[-+.]?[0-9])")
"""A relation, as in c < 0 and < 5 km; other angle brackets are dress."""
_KEPT = {ord("<"): "\ue000", ord(">"): "\ue001", ord(" "): ""}
_PUT_BACK = {0xE000: "<", 0xE001: ">"}
_CIRCLED = re.compile("[①-⑳]")
"""Marks of statements and options, which NFKC would make numbers of."""
_UNDERSCORE = re.compile(r"(?<![0-9])_(?![0-9])")
_DONE = re.compile("(?<=[\u3400-\u9fff]{2})了\\Z")  # 变小了 is 变小
_DEGREES = re.compile(r"(?<=[0-9])\s*(?:度(?!\w)|degrees?\b(?!\s+[a-z]))")
_WORD_DASH = re.compile(r"(?<=[^\W\d])\s*[-/–—]\s*(?=[^\W\d])")
_NEGATION = re.compile(
    r"\b(?:not|no|never|neither|nor|cannot|without|except|wrong|incorrect|false)\b|n't\b"
)
_QUOTED = re.compile(r'"([^"]{1,200})"')
_COPULA = re.compile(
    r"(?:^|.*\s)(?:is|are|was|were|says|say|reads|shows|equals|be|called|named"
    r"|(?:it|that|this|there|he|she|what|here)'s)\s*:?\s+(?P<tail>[^,;]{1,120})\Z|"
    r".{0,60}(?:是|为|等于|写着|叫)[:：]?(?P<tail_zh>.{1,60})\Z",
    re.DOTALL | re.IGNORECASE,
)


@lru_cache(maxsize=8192)
def normalise(text: str) -> str:
    """Lower case, no articles, no punctuation of sentences; signs and operators stay."""
    text = _CIRCLED.sub(lambda mark: f" mark{ord(mark[0])} ", text)
    text = unicodedata.normalize("NFKC", text).casefold().replace("'", "").replace("’", "")
    text = _ABBREVIATION.sub(lambda found: found[0].replace(".", "") + " ", text)
    text = _THOUSANDS.sub("", text)
    text = _UNDERSCORE.sub(" ", text)
    text = _DEGREES.sub("°", text)
    text = _RELATION.sub(lambda found: found[0].strip().translate(_KEPT), text)
    text = _PUNCTUATION.sub(" ", text).translate(_PUT_BACK)
    words = _WORD_DASH.sub(" ", text).split()
    content = [word for word in words if word not in _ARTICLES] or words
    if content and not text.isascii():
        content[-1] = _DONE.sub("", content[-1])
    return " ".join(str(ENGLISH.get(word, word)) for word in content)


def compare_text(predicted: str, gold: str, question: str | None = None) -> Decision:
    """Two short answers in words; expects cleaned texts."""
    left, right = normalise(predicted), normalise(gold)
    if not right:
        return yes("text") if predicted == gold else no("text", "differs")
    if left == right and not _signs_differ(predicted, gold):
        return yes("text")
    if is_yes_no(gold):
        if gold.isascii() and says(predicted, gold, normalise, question):
            return yes("sentence")
        return compare_yes_no(predicted, gold)
    p, g = plain(predicted), plain(gold)
    if names_what_is_asked(p, g, question):
        return yes("sentence")
    if is_label(g):
        if says_label(p, g, question):
            return yes("label")
        said = value_said(p, question)
        return compare_labels(said if said is not None and is_label(said) else p, g)
    quantity = parse_quantity(g)
    if quantity is not None and quantity.number is not None:
        return _compare_with_number(p, quantity, question)
    if is_ratio(g):
        return compare_with_ratio(p, g, question)
    if _FORMULA.match(_flat(p)) and _flat(p) == _flat(g):
        return yes("text", "a formula with other subscripts")
    if _sequence(predicted) == _sequence(gold) and not _signs_differ(predicted, gold):
        return yes("text", "a list with other separators")
    if says(predicted, gold, normalise, question):
        return yes("sentence")
    said = said_at_the_end(predicted)
    if said is not None and normalise(said) == right and not may_change(_without(predicted, gold)):
        return unknown("words", "not every word beside the answer is known to be neutral")
    if _holds(predicted, gold, left, right):
        return unknown("words", "not every word beside the answer is known to be neutral")
    return no("text", f"{left[:40]!r} is not {right[:40]!r}")


_LEADS_TO = re.compile(
    r"(?:\A|.*\b(?:is|are|was|were|in|on|at|by|[a-z]{3,}ing|[a-z]{3,}s|[a-z]{3,}ed))\Z", re.DOTALL
)


def _holds(predicted: str, gold: str, left: str, right: str) -> bool:
    """Whether a sentence says the truth among words that are not known: undecided, not wrong.
    A longer name (hot dog for dog) is no sentence."""
    if has_chinese(predicted):
        around = predicted.replace(gold, "", 1)
        says_it = gold in predicted and re.search("[是在为有于叫]", around)
        return bool(says_it) and not denies_zh(predicted)
    if may_change(_without(predicted, gold)) or len(left.split()) < 3 + len(right.split()):
        return False
    before, found, behind = f" {left} ".partition(f" {right} ")
    return bool(found) and f" {right} " not in behind and bool(_LEADS_TO.match(before.strip()))


_FORMULA = re.compile(r"[A-Za-z0-9()+-]{2,40}\Z")


def _flat(text: str) -> str:
    """`C_6H_{12}` -> `C6H12`."""
    return re.sub(r"\^(?=\{?[0-9]?[-+])|[_{}\s]", "", text)


def _sequence(text: str) -> list[str]:
    """`India and China` -> ["india", "china"], as `India, China`; the order counts."""
    parts = re.split(r"\s*,\s*(?:and\s+)?|\s+(?:and|&)\s+|、|和", text.lower())
    return [normalise(part) for part in parts]


def _signs_differ(predicted: str, gold: str) -> bool:
    """`c++` against `c` and `(2)` against `2`: equal words do not excuse other operators."""
    marks = [re.sub(r"[^-+*/^=%$<>#@]", "", _WORD_DASH.sub("", text)) for text in (predicted, gold)]
    return marks[0] != marks[1]


def is_negated(text: str) -> bool:
    """Whether a sentence says what the answer is not."""
    return bool(_NEGATION.search(text.lower())) or (has_chinese(text) and denies_zh(text))


def _without(text: str, part: str) -> str:
    return text.lower().replace(part.lower(), " ")


def said_at_the_end(text: str) -> str | None:
    """What a sentence says: its one quotation, or what follows its verb; None if it has neither."""
    quoted = _QUOTED.findall(text)
    if len(quoted) == 1:
        return str(quoted[0])
    found = _COPULA.match(text)
    return (found["tail"] or found["tail_zh"]).strip() if found else None


def _compare_with_number(predicted: str, gold: Quantity, question: str | None) -> Decision:
    said = value_said(predicted, question)
    shown = predicted if said is None else said
    chain = read_chain(shown)
    quantity = parse_quantity(chain.result if chain and chain.right else shown)
    if quantity is not None and quantity.number is not None:
        if counts_what_is_asked(predicted, question):
            return unknown("words", "the question asks for a name, not for a count")
        scaled = as_asked(quantity, gold, question)
        asked = compare_as_asked(scaled, gold, question, lambda query: no("number"))
        if asked is not None:
            return asked
        return compare_quantities(scaled, gold, lambda query: no("number", "not a number"))
    return not_neutral(predicted, gold)


def not_neutral(text: str, gold: Quantity) -> Decision:
    """A sentence with words that are not known to be neutral: undecided if it names the truth and
    no word says for certain that it is something else."""
    items = [item for item in re.split(r"[,;]\s|\band\b", text) if item.strip()]
    if len(items) > 1 and all(parse_quantity(item) is not None for item in items):
        return no("number", f"{len(items)} values")
    if has_chinese(text):  # 7个小朋友 may be right; 不到7 and 9 are not
        says_it = any(_is_value(value, gold) for value in values_in_chinese(text))
        if says_it and not denies_zh(text):
            return unknown("words", "not every word beside the value is known to be neutral")
    elif not may_change(text) and any(_is_value(word, gold) for word in text.split()):
        return unknown("words", "not every word beside the value is known to be neutral")
    return no("number", f"{text[:40]!r} does not say one value")


def _is_value(word: str, gold: Quantity) -> bool:
    quantity = parse_quantity(word.strip(".,;:!?()"))
    if quantity is None or quantity.number is None or gold.number is None:
        return quantity is not None and quantity.head == gold.head
    return quantity.number.value == gold.number.value
