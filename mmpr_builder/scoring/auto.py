"""Which scorer a truth is compared with: one per kind of truth, never the best of several.

options given, or a letter   -> choice        yes, no, 是, 否 -> yes/no
number, unit, formula, tuple -> math          everything else -> words
"""

from __future__ import annotations

import re
from collections.abc import Callable

from mmpr_builder.scoring.anls import compare_anls
from mmpr_builder.scoring.choice import compare_choice, read_gold
from mmpr_builder.scoring.clean import MAX_CHARS, clean
from mmpr_builder.scoring.decision import Decision, Symbolic, any_of, no, unknown, yes
from mmpr_builder.scoring.doubts import doubt
from mmpr_builder.scoring.labelled_zh import has_parts
from mmpr_builder.scoring.labels import is_label
from mmpr_builder.scoring.latex import has_words, plain
from mmpr_builder.scoring.maths import compare_math
from mmpr_builder.scoring.phrases import is_phrase
from mmpr_builder.scoring.quantity import parse_quantity
from mmpr_builder.scoring.ratio import is_ratio
from mmpr_builder.scoring.relaxed import compare_relaxed
from mmpr_builder.scoring.screen import screened
from mmpr_builder.scoring.structure import parse
from mmpr_builder.scoring.text import compare_text
from mmpr_builder.scoring.yes_no import is_yes_no

SCORERS = ("auto", "math", "choice", "relaxed", "vqa", "anls", "exact")

_CODE = re.compile(
    r"__[A-Za-z]|\blambda\b[^,]{0,40}:|\b(?:eval|exec|import|print|system|sympify|open)\s*\(|<script|;\s*--"
)
_LETTER = re.compile(r"[(\[]?[A-H][)\].]?\Z|[(\[]?[a-h][)\]]\Z|[A-H][.):：、]\s*\S.*\Z", re.DOTALL)
_MATHS = re.compile(
    r"\\[a-zA-Z]|[=<>^]|[0-9]\s*[-+*/]\s*[0-9a-z]|[a-z]\s*[-+*/]\s*[0-9]|[(\[{].*,.*[)\]}]|√|π|∞|≤|≥|[0-9)]!\Z"
)


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
    if parse_quantity(text) is not None or is_ratio(text) or has_parts(text):
        return "math"
    node = parse(text)
    if node.kind == "list" and all(parse_quantity(item) for item in node.items):
        return "math"
    return "math" if _MATHS.search(gold) and not has_words(text) else "vqa"


def decide(
    predicted: str,
    golds: tuple[str, ...],
    scorer: str,
    choices: tuple[str, ...],
    symbolic: Symbolic,
    question: str | None = None,
) -> Decision:
    """Compare an answer with the accepted truths: right if it equals one of them."""
    usable = [gold for gold in golds if usable_truth(gold)]
    if not usable:
        return unknown("unusable_truth", "the truth is empty or absurdly long")
    if any(predicted.strip() == gold.strip() for gold in usable) and not choices:
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
    compare = _comparison(scorer, choices, screened(symbolic), question)
    return any_of((compare(answer, clean(gold)) for gold in usable), no("none"))


def usable_truth(gold: str) -> bool:
    """Whether a truth says anything: not empty, not longer than any answer may be."""
    return len(gold) <= MAX_CHARS and bool(clean(gold).strip("$*`\\ "))


def _comparison(
    scorer: str, choices: tuple[str, ...], symbolic: Symbolic, question: str | None
) -> Callable[[str, str], Decision]:
    def compare(predicted: str, gold: str) -> Decision:
        decision = compare_values(predicted, gold)
        if not decision.equal or scorer in ("exact", "anls"):
            return decision
        why = doubt(predicted, gold, choices, question)
        return decision if why is None else unknown("doubt", why)

    def compare_values(predicted: str, gold: str) -> Decision:
        kind = kind_of(gold, choices) if scorer == "auto" else scorer
        if kind == "choice":
            return compare_choice(predicted, gold, choices, symbolic, question)
        if kind == "math":
            return compare_math(predicted, gold, symbolic, question)
        if kind == "relaxed":
            return compare_relaxed(predicted, gold, symbolic, question)
        if kind == "anls":
            return compare_anls(predicted, gold, question)
        if kind == "exact":
            return yes("exact") if predicted == gold else no("exact", "differs")
        return compare_text(predicted, gold, question)

    return compare
