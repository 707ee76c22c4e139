"""Which letters of options a text names, in any dress: (B)  B.  选B  \\text{B}  A, C and D  ACD."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass

from mmpr_builder.scoring.latex import plain

LETTERS = string.ascii_uppercase
_L = r"[A-Za-z]"
_LEAD = re.compile(
    r"(?:i (?:think|believe)(?: that)?\s+)?"
    r"(?:(?:so|thus|therefore|hence|i (?:would )?(?:choose|pick|select)|it is|it's)\b\s*,?\s*)?"
    r"(?:(?:the\s+)?(?:(?:correct|right|best|final|matching)\s+)*(?:answer|ans|option|choice)s?\b\s*"
    r"(?:(?:is|are|would be)\b|:)?\s*:?\s*){0,2}",
    re.IGNORECASE,
)
_LEAD_ZH = re.compile(
    r"(?:因此|所以|故|综上|本题|此题|这题|我)?[,，]?\s*(?:应该?|正确)?的?(?:(?:答案|选项)?\s*(?:应?选择?|是|为|:)*\s*){1,2}(?:选项)?\s*"
)
_CONFIRMED = re.compile(
    r"\s+(?:is|are)\s+(?:the\s+)?(?:correct|right)(?:\s+(?:answer|option|choice)s?)?\.?\Z"
)
_ONE = re.compile(
    rf"[(\[{{<]?\s*({_L})\s*[)\]}}>]?(?:\s*(?:选项|项|option|choice))?(?:是?正确的?)?[.。:、,]?\Z"
)
_WITH_TEXT = re.compile(
    rf"(?:[(\[]\s*({_L})\s*[)\]]|({_L})\s*[).:：、,，\-–—]|([A-Z])(?=[\s=(（\u3400-\u9fff]))\s*(.+)\Z",
    re.S,
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


def read_letters(text: str) -> Reading:
    """What letters a cleaned text names."""
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
        return Reading(indices(letter), with_text[4].strip(), not with_text[3])
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
