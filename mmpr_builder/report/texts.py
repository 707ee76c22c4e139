"""Texts as the report shows them: control characters made visible, differences found.

    chosen    "Row 1: red, blue. So 3"      same "Row 1: red, "  new "blue. "   same "So "  new "3"
    rejected  "Row 1: red, green. So 4"     same "Row 1: red, "  new "green. "  same "So "  new "4"

Words are compared, of Chinese and Japanese single characters; a formula is one word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rapidfuzz.distance import LCSseq

from mmpr_builder.escaping import visible
from mmpr_builder.records import IMAGE_PLACEHOLDER
from mmpr_builder.report.mathml import FORMULA, to_mathml

Mark = Literal["same", "prefix", "new", "plain"]

ALIKE = 0.4
"""Texts that share less than this part of their words go different ways."""

_CJK = r"\u3000-\u30ff\u3400-\u9fff\uff00-\uffef"
# A word keeps the blanks behind it: they would match everywhere, and say nothing.
_WORD = re.compile(rf"({FORMULA.pattern}|[{_CJK}]|[^\s{_CJK}]+?(?=[\s{_CJK}$\\]|\Z)|[$\\]|\s+)\s*")


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of text: "same" in both, "prefix" (the shared beginning), "new", or "plain".

    `formula` tells that the text is one formula with its marks.
    """

    mark: Mark
    text: str
    formula: bool = False


def question_text(text: str) -> str:
    """The question as a person reads it: several images are numbered, a single one goes unsaid."""
    first, *rest = visible(text).split(IMAGE_PLACEHOLDER)
    if len(rest) <= 1:
        return "".join([first, *rest]).strip()
    return first + "".join(f"[image {i}]{part}" for i, part in enumerate(rest, 1))


def words(text: str) -> list[str]:
    """The text in pieces: a formula, a Chinese character or a word, each with its blanks."""
    return [match[0] for match in _WORD.finditer(text)]


def compare(chosen: str, rejected: str, kind: str) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Both texts as spans: the beginning they share, then what is in one only.

    Texts that go different ways have only chance words in common: marking all else would be noise,
    so there only their last lines are compared.
    """
    left, right = words(chosen), words(rejected)
    shared = 0
    while shared < min(len(left), len(right)) and left[shared] == right[shared]:
        shared += 1
    head: list[tuple[Mark, str]] = [
        ("prefix" if kind == "dropout_ntp" else "same", word) for word in left[:shared]
    ]
    left, right = left[shared:], right[shared:]
    if kind == "dropout_ntp":
        return _spans([*head, *_all("new", left)]), _spans([*head, *_all("new", right)])
    a, b, common = _aligned(left, right)
    if 2 * (shared + common) >= ALIKE * max(1, 2 * shared + len(left) + len(right)):
        return _spans([*head, *a]), _spans([*head, *b])
    cuts = _last_line(left), _last_line(right)
    a, b, common = _aligned(left[cuts[0] :], right[cuts[1] :])
    if 2 * common < ALIKE * (len(a) + len(b)):
        return _spans([*head, *_all("plain", left)]), _spans([*head, *_all("plain", right)])
    a = _all("plain", left[: cuts[0]]) + a
    b = _all("plain", right[: cuts[1]]) + b
    return _spans([*head, *a]), _spans([*head, *b])


def _aligned(
    left: Sequence[str], right: Sequence[str]
) -> tuple[list[tuple[Mark, str]], list[tuple[Mark, str]], int]:
    """Both sides with what is in one only marked as new, and the number of common words."""
    a: list[tuple[Mark, str]] = []
    b: list[tuple[Mark, str]] = []
    common = 0
    for step in LCSseq.opcodes([w.rstrip() for w in left], [w.rstrip() for w in right]):
        mark: Mark = "same" if step.tag == "equal" else "new"
        common += step.src_end - step.src_start if mark == "same" else 0
        a += _all(mark, left[step.src_start : step.src_end])
        b += _all(mark, right[step.dest_start : step.dest_end])
    return a, b, common


def _last_line(pieces: Sequence[str]) -> int:
    """Where the last line begins, in which the final answer usually stands."""
    places = [i for i, piece in enumerate(pieces[:-1], 1) if "\n" in piece[len(piece.rstrip()) :]]
    return places[-1] if places else 0


def plain_spans(text: str) -> tuple[Span, ...]:
    """A text with nothing to compare it with."""
    return _spans(_all("same", words(text)))


def as_json(spans: Sequence[Span]) -> list[Any]:
    """[text], [text, mark] or [text, mark, formula's tree] per span, for the page's script."""
    found: list[Any] = []
    for span in spans:
        tree = to_mathml(span.text.rstrip()) if span.formula else None
        item: list[Any] = [span.text, "" if span.mark in ("same", "plain") else span.mark, tree]
        while not item[-1]:
            item.pop()
        found.append(item)
    return found


def _all(mark: Mark, pieces: Sequence[str]) -> list[tuple[Mark, str]]:
    return [(mark, piece) for piece in pieces]


def _spans(pieces: Sequence[tuple[Mark, str]]) -> tuple[Span, ...]:
    """Neighbours of one mark as one span; a formula stays by itself."""
    spans: list[Span] = []
    for mark, text in pieces:
        formula = FORMULA.fullmatch(text.rstrip()) is not None
        last = spans[-1] if spans else None
        if last and not formula and not last.formula and last.mark == mark:
            spans[-1] = Span(mark, last.text + text)
        else:
            spans.append(Span(mark, text, formula))
    return tuple(spans)
