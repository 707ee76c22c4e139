"""Short answers in words: VQA's normalisation, for words only.

    normalise("A Don't-Walk sign.") -> "dont walk sign"

VQA's own normalisation deletes signs and operators as well (`-5` becomes `5`, `x^2+1` becomes
`x21`); here they stay, and an answer that is a number is compared as a number.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from mmpr_builder.scoring.decision import Decision, no, yes
from mmpr_builder.scoring.labels import compare_labels, is_label
from mmpr_builder.scoring.latex import plain
from mmpr_builder.scoring.number import NUMBER, parse_number
from mmpr_builder.scoring.numerals import ENGLISH
from mmpr_builder.scoring.quantity import Quantity, compare_quantities, parse_quantity
from mmpr_builder.scoring.ratio import compare_ratios, is_ratio
from mmpr_builder.scoring.yes_no import compare_yes_no, is_yes_no

_ARTICLES = frozenset(("a", "an", "the"))
_ABBREVIATION = re.compile(r"(?<![a-z0-9])(?:[a-z]\.)+[a-z]\.?(?![a-z0-9])")
_THOUSANDS = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")
_PUNCTUATION = re.compile(
    r"(?<![0-9])[.,:](?=[0-9])(?<![.])|[.,:](?![0-9])|(?<![0-9])!|[;?\"()\[\]{}<>|`~。，、；：！？“”‘’《》（）【】…]"
)
_CIRCLED = re.compile("[①-⑳]")
"""Marks of statements and options, which NFKC would make numbers of."""
_UNDERSCORE = re.compile(r"(?<![0-9])_(?![0-9])")
_DONE = re.compile("(?<=[\u3400-\u9fff]{2})了\\Z")  # 变小了 is 变小
_DEGREES = re.compile(r"(?<=[0-9])\s*(?:度(?!\w)|degrees?\b(?!\s+[a-z]))")
_WORD_DASH = re.compile(r"(?<=[^\W\d])\s*[-/–—]\s*(?=[^\W\d])")
_NEGATION = re.compile(
    r"\b(?:not|no|never|neither|nor|cannot|without|except|wrong|incorrect|false)\b|n't\b|不|非|没|除"
)
_HEDGE = re.compile(
    r"\b(?:or|either|between|maybe|perhaps|possibly|at least|at most|more than|less than|fewer than"
    r"|over|under|up to|to|through|almost|nearly)\b|或|至少|至多|左右|超过|不到|以上|以下|~|\.\.\."
)
_CHANGED = re.compile(  # half of 60, the root of 60, 60 squared, larger than 60, 60的一半
    r"\b(?:half|halves|thirds?|quarters?|fourth|twice|doubled?|tripled?|triple|thrice|halved|reversed|digits?|squared"
    r"|cubed|times|multiplied|divided|raised|added|subtracted|minus|plus|negative|modulo|than|above"
    r"|below|beyond|exceed\w*|within|from|(?:roots?|square|cube|power|reciprocal|inverse|opposite"
    r"|complement|supplement|multiples?|factors?|divisors?|log\w*|factorial|remainder|part|side|base)"
    r"\s+of\s+(?=[-0-9]))\b|[大小多少高低早晚]于|比.*[多少大小]|以[内外前后]|之[内外前后间]|分之|第[0-9]|[0-9](?:st|nd|rd|th)\b"
    r"|[0-9]\s*[多余]|的(?:一半|平方|立方|倒数|相反数|绝对值|[一二两三四五六七八九十0-9]+)|平方根|每[0-9]"
)
_QUOTED = re.compile(r'"([^"]{1,200})"')
_COPULA = re.compile(
    r"(?:^|.*\s)(?:is|are|was|were|says|say|reads|shows|equals|be|called|named"
    r"|(?:it|that|this|there|he|she|what|here)'s)\s*:?\s+(?P<tail>[^,;]{1,120})\Z|"
    r".{0,60}(?:是|为|等于|写着|叫)[:：]?(?P<tail_zh>.{1,60})\Z",
    re.DOTALL | re.IGNORECASE,
)
_LEADS_IN = re.compile(r"(?:in|year|is|it|around|total|answer|value|equals)\b", re.IGNORECASE)
_NUMBER_IN_TEXT = re.compile(rf"(?<![A-Za-z0-9_.,/])[-+]?{NUMBER}(?![0-9])")


@lru_cache(maxsize=8192)
def normalise(text: str) -> str:
    """Lower case, no articles, no punctuation of sentences; signs and operators stay."""
    text = _CIRCLED.sub(lambda mark: f" mark{ord(mark[0])} ", text)
    text = unicodedata.normalize("NFKC", text).casefold().replace("'", "").replace("’", "")
    text = _ABBREVIATION.sub(lambda found: found[0].replace(".", "") + " ", text)
    text = _THOUSANDS.sub("", text)
    text = _UNDERSCORE.sub(" ", text)
    text = _DEGREES.sub("°", text)
    text = _PUNCTUATION.sub(" ", text)
    words = _WORD_DASH.sub(" ", text).split()
    content = [word for word in words if word not in _ARTICLES] or words
    if content and not text.isascii():
        content[-1] = _DONE.sub("", content[-1])
    return " ".join(str(ENGLISH.get(word, word)) for word in content)


def compare_text(predicted: str, gold: str) -> Decision:
    """Two short answers in words; expects cleaned texts."""
    left, right = normalise(predicted), normalise(gold)
    if not right:
        return yes("text") if predicted == gold else no("text", "differs")
    if left == right and not _signs_differ(predicted, gold):
        return yes("text")
    if is_yes_no(gold):
        return compare_yes_no(predicted, gold)
    p, g = plain(predicted), plain(gold)
    if is_label(g):
        said = said_at_the_end(p)
        return compare_labels(said if said is not None and is_label(said) else p, g)
    quantity = parse_quantity(g)
    if quantity is not None and quantity.number is not None:
        return _compare_with_number(p, quantity)
    if is_ratio(g):
        return compare_ratios(p, g)
    if _FORMULA.match(_flat(p)) and _flat(p) == _flat(g):
        return yes("text", "a formula with other subscripts")
    if _sequence(predicted) == _sequence(gold) and not _signs_differ(predicted, gold):
        return yes("text", "a list with other separators")
    said = said_at_the_end(predicted)
    if said is not None and normalise(said) == right and not _negated(predicted, gold):
        return yes("sentence")
    return no("text", f"{left[:40]!r} is not {right[:40]!r}")


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
    return bool(_NEGATION.search(text.lower()))


def _negated(predicted: str, gold: str) -> bool:
    rest = predicted.lower().replace(gold.lower(), " ")
    return bool(_NEGATION.search(rest) or _HEDGE.search(rest))


def said_at_the_end(text: str) -> str | None:
    """What a sentence says: its one quotation, or what follows its verb; None if it has neither."""
    quoted = _QUOTED.findall(text)
    if len(quoted) == 1:
        return str(quoted[0])
    found = _COPULA.match(text)
    return (found["tail"] or found["tail_zh"]).strip() if found else None


def _compare_with_number(predicted: str, gold: Quantity) -> Decision:
    quantity = parse_quantity(predicted)
    if quantity is None or quantity.number is None:
        quantity = number_of_sentence(predicted)
    if quantity is None:
        return no("number", f"{predicted[:40]!r} is not one number")
    return compare_quantities(quantity, gold, lambda query: no("number", "not a number"))


def number_of_sentence(text: str) -> Quantity | None:
    """The only number that a sentence names, with its unit; None with several, hedges, negations.

    `There are 5 people in the image` -> 5.
    """
    low = text.lower()
    if len(text) > 300 or any(mark.search(low) for mark in (_NEGATION, _HEDGE, _CHANGED)):
        return None
    words = re.findall(r"[A-Za-z]+", text)
    if len(words) < 2 and text.isascii() and not _LEADS_IN.match(text):
        return None
    if re.search(r"[=^<>\\_|*+]|[0-9]\s*[A-Za-z]\b(?<![a-z]{2})", text):
        return None
    digits = list(_NUMBER_IN_TEXT.finditer(text))
    spelled = [word for word in words if word.lower() in ENGLISH]
    if len(digits) + len(spelled) != 1:
        return None
    if spelled:
        return Quantity(spelled[0], parse_number(spelled[0]), None)
    return _longest_quantity(text[_with_sign_of_money(text, digits[0].start()) :], digits[0][0])


def _with_sign_of_money(text: str, start: int) -> int:
    return start - 1 if start and text[start - 1] in "¤$€£¥" else start


def _longest_quantity(text: str, number: str) -> Quantity | None:
    """The number with as many following words as still make a known unit."""
    words = text.split()
    for count in range(min(len(words), 5), 0, -1):
        quantity = parse_quantity(" ".join(words[:count]).rstrip(".,"))
        if quantity is not None and (quantity.unit is None or quantity.unit.dimension):
            return quantity
    return parse_quantity(number)
