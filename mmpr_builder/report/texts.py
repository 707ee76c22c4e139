r"""Texts as the report shows them: control characters made visible, differences and formulas found.

    chosen    "Row 1: red, blue. So 3"      same "Row 1: red, "  new "blue. "   same "So "  new "3"
    rejected  "Row 1: red, green. So 4"     same "Row 1: red, "  new "green. "  same "So "  new "4"

    r"so $\frac{1}{2}$ of it"  ->  "so ", ["math", {}, ["mfrac", {}, ["mn", {}, "1"], …]], " of it"

The comparison goes word by word, in Chinese and Japanese character by character; a formula is one
word. Formulas become MathML, which browsers draw without a script or a font. The page gets a tree
of element names from a fixed list and no markup, so whatever a model wrote inside ends as the text
of an element. A formula that cannot be drawn for certain stays as it was written.
"""

from __future__ import annotations

import functools
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rapidfuzz.distance import LCSseq, Prefix

from mmpr_builder.escaping import visible
from mmpr_builder.records import IMAGE_PLACEHOLDER

LONGEST = 500
"""Longer formulas stay as they were written."""

FORMULA = re.compile(
    rf"\$\$(?:[^$\\]|\\[\s\S]){{1,{LONGEST}}}?\$\$"
    rf"|\\\[(?:[^\\]|\\(?!\])[\s\S]){{1,{LONGEST}}}?\\\]"
    rf"|\\\((?:[^\\]|\\(?!\))[\s\S]){{1,{LONGEST}}}?\\\)"
    # As pandoc reads it: "$5 and $10" is money.
    rf"|\$(?=[^\s$])(?:[^$\\\n]|\\.){{1,{LONGEST}}}?(?<=\S)\$(?!\d)"
    r"|\\boxed\s?\{(?:[^{}\n]|\{(?:[^{}\n]|\{[^{}\n]*+\})*+\})*+\}"
)
"""A formula with its marks; a box needs none."""

Tree = list[Any]
"""[name, {attribute: value}, child or text, …]"""

_CHILDREN = {
    **dict.fromkeys(("mfrac", "mroot", "msub", "msup", "mover", "munder"), 2),
    **dict.fromkeys(("msubsup", "munderover"), 3),
}
_ANY_CHILDREN = {"math", "mrow", "mstyle", "msqrt", "mpadded", "mphantom", "menclose"}
_ANY_CHILDREN |= {"mtable", "mtr", "mtd"}
_TEXTS = {"mi", "mn", "mo", "mtext", "mspace"}
_ATTRIBUTES = {
    "columnalign": re.compile(r"(?:left|right|center)(?: (?:left|right|center))*"),
    "display": re.compile(r"block|inline"),
    "form": re.compile(r"prefix|infix|postfix"),
    "linethickness": re.compile(r"\d(?:\.\d+)?(?:em|px|pt)?"),
    "mathvariant": re.compile(r"normal"),
    "width": re.compile(r"-?\d{1,2}(?:\.\d+)?em"),
    **dict.fromkeys(
        ("accent", "displaystyle", "fence", "separator", "stretchy"), re.compile(r"true|false")
    ),
}


@functools.lru_cache(maxsize=4096)
def to_mathml(formula: str) -> Tree | None:
    """The tree of a formula given with its marks; None where it should stay as it was written."""
    latex, display = _bare(formula)
    if not latex or len(latex) > LONGEST:
        return None
    from latex2mathml.converter import convert_to_element

    try:
        return _tree(convert_to_element(latex, display="block" if display else "inline"))
    # Its parser answers malformed LaTeX with whatever its lists and stack happen to raise.
    except Exception:  # noqa: BLE001
        return None


def _bare(formula: str) -> tuple[str, bool]:
    """(LaTeX without its marks, whether it stands on a line of its own)."""
    for mark, display in (("$$", True), ("\\[", True), ("\\(", False), ("$", False)):
        if formula.startswith(mark):
            return formula[len(mark) : -len(mark)].strip(), display
    return formula.strip(), False


def _tree(element: ET.Element) -> Tree | None:
    """None as soon as one part is not what it should be: half a formula is a wrong formula."""
    name = element.tag.rpartition("}")[2]
    text = element.text or ""
    # An unknown command comes out as a name; "\\" at its front tells.
    if name in _TEXTS:
        said = text.replace("&#x000A0;", "\xa0") if name == "mtext" else _read(text)
        return None if len(element) or text.startswith("\\") else [name, _kept(element), said]
    if text.strip() or (name not in _ANY_CHILDREN and len(element) != _CHILDREN.get(name)):
        return None
    children = [_tree(child) for child in element]
    if any(child is None for child in children) or any((c.tail or "").strip() for c in element):
        return None
    return [name, _kept(element), *children]


def _kept(element: ET.Element) -> dict[str, str]:
    return {
        name: value
        for name, value in element.attrib.items()
        if name in _ATTRIBUTES and _ATTRIBUTES[name].fullmatch(value)
    }


def _read(text: str) -> str:
    """Operators come as character references (`&#x0003C;`); nothing else is read out of them."""
    return re.sub(r"&#x([0-9A-Fa-f]{2,6});", _character, text)


def _character(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    return chr(code) if 0x20 <= code < 0x110000 and not 0xD800 <= code < 0xE000 else match[0]


Mark = Literal["same", "prefix", "new", "plain"]

ALIKE = 0.4
"""Texts that share less than this part of their words go different ways."""

_CJK = r"\u3000-\u30ff\u3400-\u9fff\uff00-\uffef"
# A word keeps the blanks behind it: they would match everywhere, and say nothing.
_WORD = re.compile(
    rf"({FORMULA.pattern}|[{_CJK}]|[^\s{_CJK}]+?(?=[\s{_CJK}$\\]|\Z)|[$\\]|\s++)\s*+"
)


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


_ONE_RESPONSE = ("dropout_ntp", "step")  # Both sides go on from one beginning.


def compare(chosen: str, rejected: str, kind: str) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Both texts as spans: the beginning they share, then what is in one only.

    Texts that go different ways have only chance words in common: marking all else would be noise,
    so there only their last lines are compared.
    """
    left, right = words(chosen), words(rejected)
    shared = Prefix.similarity(left, right)
    head = _all("prefix" if kind in _ONE_RESPONSE else "same", left[:shared])
    left, right = left[shared:], right[shared:]
    if kind in _ONE_RESPONSE:
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
