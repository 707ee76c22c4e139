"""Which scorer a truth is compared with: one per kind of truth, never the best of several.

options given, or a letter   -> choice        yes, no, 是, 否 -> yes/no
number, unit, formula, tuple -> math          everything else -> words
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache

from mmpr_builder.scoring.clean import MAX_CHARS, clean
from mmpr_builder.scoring.decision import Decision, Symbolic, any_of, no, unknown, yes
from mmpr_builder.scoring.latex import has_words, plain
from mmpr_builder.scoring.maths.expression import is_phrase
from mmpr_builder.scoring.maths.screen import screened
from mmpr_builder.scoring.maths.structure import parse
from mmpr_builder.scoring.numbers.quantity import parse_quantity
from mmpr_builder.scoring.numbers.readings import is_label, is_ratio
from mmpr_builder.scoring.words.charts import compare_relaxed
from mmpr_builder.scoring.words.choice import compare_choice, read_gold
from mmpr_builder.scoring.words.text import compare_anls, compare_text, compare_value, is_yes_no

_ROMAN = {"M": 1000, "D": 500, "C": 100, "L": 50, "X": 10, "V": 5, "I": 1}


def _of_roman(digits: re.Match[str]) -> str:
    values = [_ROMAN[letter] for letter in digits[0]]
    return str(sum(-v if v < max(values[i:]) else v for i, v in enumerate(values)))


_ELSEWHERE: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"(?<![\d.,])(\d{1,3})[.'’](\d{3})(?:[.'’](\d{3}))?(?![\d.,])"), r"\1\2\3"),
    (re.compile(r"(?<![\d.,])(\d{1,9}),(\d{1,2}|\d{4,9})(?![\d.,])"), r"\1.\2"),
    (re.compile(r"(?<![^\s(+])[IVXLCDM]{1,15}(?![^\s).])"), _of_roman),
    (re.compile(r"(?<![^\s(])([0-9]{1,9})-([0-9]{1,9}/[0-9])"), r"\1 \2"),
    (re.compile(r"(?:°|\^\{?\\circ\}?)(?=\s*[-+])"), ""),
)
"""A number's other form of writing, and how it is read then."""

_ORDERED = re.compile(r"\border\b(?! to\b)|\b(?:arrange|rank|sort)\b|排[列序]|顺序", re.IGNORECASE)
_ITEM = re.compile(r"[①-⑳]|[A-Z](?![a-z])|-?[0-9][0-9./]*")  # what stands in an order
MAX_TRUTHS = 1000
"""More different truths than that are not read; a question's annotators are about ten."""
ANNOTATORS, ENOUGH_ANNOTATORS = 10, 3
SCORERS = ("auto", "math", "choice", "relaxed", "vqa", "anls", "exact")

_CODE = re.compile(
    r"__[A-Za-z]|\blambda\b[^,]{0,40}:|\b(?:eval|exec|import|print|system|sympify|open)\s*\(|<script|;\s*--"
)
_FOREIGN_DIGIT = re.compile(r"[^\D0-9]")
_LETTER = re.compile(r"[(\[]?[A-H][)\].]?\Z|[(\[]?[a-h][)\]]\Z|[A-H][.):：、]\s*\S.*\Z", re.DOTALL)
_MATHS = re.compile(
    r"\\[a-zA-Z]|[=<>^]|[0-9]\s*[-+*/]\s*[0-9a-z]|[a-z]\s*[-+*/]\s*[0-9]|^[^(\[{\n]*+[(\[{][^,\n]*+,[^)\]}\n]*+[)\]}]|√|π|∞|≤|≥|[0-9)]!\Z",
    re.MULTILINE,
)
_OF_LETTERS = re.compile(r"[A-Za-z)|](?:\s*[-+*/^=<>|]\s*[A-Za-z0-9({|\\]|[!'])|[0-9]\.?[a-z]\Z")
_ALTERNATIVES = re.compile(r"(?:(?<!\s)\s++)?\\?#\s*+\\?#\s*+")
"""`3/10 ## 0.3`: two accepted truths in one field."""
_RUN = re.compile(r"(?<![\\A-Za-z])[A-Za-z]+")
_NO_RUN = re.compile(r"[_^]\{[^{}]*\}|(?<=\\triangle) ?[A-Z]{3}(?![A-Za-z])")


@lru_cache(maxsize=1024)
def kind_of(gold: str, choices: tuple[str, ...]) -> str:
    """The scorer that "auto" takes for a cleaned truth: choice, math or vqa."""
    if choices and read_gold(gold, choices) is not None:
        return "choice"
    if _LETTER.match(gold):
        return "choice"
    if is_yes_no(gold):
        return "vqa"
    if is_phrase(gold):
        return "math"
    text = plain(gold)
    if is_label(text):
        return "vqa"
    if parse_quantity(text) is not None or is_ratio(text) or is_formula(text):
        return "math"
    node = parse(text)
    if node.kind == "list" and all(parse_quantity(item) for item in node.items):
        return "math"
    return "math" if _MATHS.search(gold) and not has_words(text) else "vqa"


def is_formula(text: str) -> bool:
    r"""Whether a `plain` text is a formula of letters: `V/R`, `n!`, `|a+b|`, `f'`, `90°-\alpha`;
    not `CD-ROM` or `O'Neil`."""
    if has_words(text) or not ("\\" in text or _OF_LETTERS.search(text)):
        return False
    return all(len(run) < 3 for run in _RUN.findall(_NO_RUN.sub("", text)))


def decide(
    predicted: str,
    golds: tuple[str, ...],
    scorer: str,
    choices: tuple[str, ...],
    symbolic: Symbolic,
    question: str | None = None,
) -> Decision:
    """Compare an answer with the accepted truths: right if it equals one of them."""
    truths = counted(golds)
    if not truths:
        return unknown("unusable_truth", "the truth is empty or absurdly long")
    same = predicted.strip() in truths and not choices
    if same and not of_annotators(truths):
        return yes("exact")
    if len(predicted) > MAX_CHARS:
        return unknown("screened", f"the answer is longer than {MAX_CHARS} characters")
    answer = clean(predicted)
    if not answer:
        return no("empty", "nothing is left of the answer without its dress")
    if "\ufffd" in answer:
        return unknown("screened", "has broken characters")
    if _CODE.search(answer):
        return unknown("screened", "looks like code")
    if any(_FOREIGN_DIGIT.search(side) for side in (answer, *map(clean, truths))):
        return unknown("screened", "has digits of another script")
    compare = _comparison(scorer, choices, screened(symbolic), question)
    if of_annotators(truths):
        return _as_annotators({gold: compare(answer, clean(gold)) for gold in truths}, truths)
    return any_of((compare(answer, clean(gold)) for gold in truths), no("none"))


@lru_cache(maxsize=256)
def counted(golds: tuple[str, ...]) -> dict[str, int]:
    """The usable truths with how often each is given, the first `MAX_TRUTHS` different ones."""
    found: dict[str, int] = {}
    for gold in golds:
        if gold in found:
            found[gold] += 1
        elif len(found) < MAX_TRUTHS and usable_truth(gold):
            found |= dict.fromkeys((p.strip() for p in _ALTERNATIVES.split(gold) if p.strip()), 1)
    return found


def of_annotators(truths: dict[str, int]) -> bool:
    """Whether truths are what VQA's ten annotators said: ten, and not all different."""
    return sum(truths.values()) == ANNOTATORS > len(truths)


def _as_annotators(decisions: dict[str, Decision], truths: dict[str, int]) -> Decision:
    """Three of ten make an answer right (arXiv 1505.00468); fewer decide nothing."""
    agree = sum(truths[gold] for gold, decision in decisions.items() if decision.equal)
    if agree >= ENOUGH_ANNOTATORS or not agree:
        return any_of(decisions.values(), no("none"))
    return unknown("annotators", f"{agree} of {ANNOTATORS} annotators say so")


def usable_truth(gold: str) -> bool:
    """Whether a truth says anything: not empty, not longer than any answer may be."""
    return len(gold) <= MAX_CHARS and bool(clean(gold).strip("$*`\\ "))


def _other_readings(text: str) -> Iterator[str]:
    """What a text says where numbers are written in another way: 1200 for 1.200 and 1'200, 0.5 for
    0,5, 4 for IV, 2 3/4 for 2-3/4, 90-x for 90°-x."""
    for pattern, reading in _ELSEWHERE:
        other = pattern.sub(reading, text)
        if other != text:
            yield other


def _comparison(
    scorer: str, choices: tuple[str, ...], symbolic: Symbolic, question: str | None
) -> Callable[[str, str], Decision]:
    def compare(predicted: str, gold: str) -> Decision:
        decision = compare_as_written(predicted, gold)
        if question and _ORDERED.search(question):
            said, wanted = (_ITEM.findall(side) for side in (predicted, gold))
            if sorted(said) == sorted(wanted) != [] and decision.equal is (said != wanted):
                return unknown("order", "another order, or one that is written in another way")
        if decision.equal is False and decision.rule not in ("exact", "choice"):
            others = [(other, gold) for other in _other_readings(predicted)]
            others += [(predicted, other) for other in _other_readings(gold)]
            if any(compare_as_written(*sides).equal for sides in others):
                return unknown("notation", "would be right as numbers are written elsewhere")
        return decision

    def compare_as_written(predicted: str, gold: str) -> Decision:
        kind = kind_of(gold, choices) if scorer == "auto" else scorer
        if kind == "choice":
            return compare_choice(predicted, gold, choices, symbolic, question)
        if kind == "math":
            return compare_value(predicted, gold, symbolic, question)
        if kind == "relaxed":
            return compare_relaxed(predicted, gold, symbolic, question)
        if kind == "anls":
            return compare_anls(predicted, gold, symbolic, question)
        if kind == "exact":
            return yes("exact") if predicted == gold else no("exact", "differs")
        return compare_text(predicted, gold, symbolic, question)

    return compare
