"""Answers read off documents: ANLS, normalised Levenshtein similarity (arXiv 1905.13648).

A similarity, not a distance, threshold 0.5 by its authors' convention. That alone takes "South
Carolina" for "North Carolina" and one telephone number for another, so it is a necessary condition
here: digits must be the same, and every word the same but for a slip of spelling.
"""

from __future__ import annotations

import re

from mmpr_builder.scoring.decision import Decision, no, yes
from mmpr_builder.scoring.text import compare_text, normalise

THRESHOLD = 0.5
_MAX_CHARS = 400
_CHINESE = re.compile("[\u3400-\u9fff\U00020000-\U0003ffff]")


def similarity(left: str, right: str) -> float:
    """1 - edit distance / length of the longer text; 1 for two empty ones."""
    longest = max(len(left), len(right))
    return 1.0 if longest == 0 else 1.0 - _distance(left, right) / longest


def _distance(left: str, right: str) -> int:
    """Edits (insert, delete, replace, swap neighbours) from one text to the other."""
    before: list[int] = []
    previous = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        current = [i]
        for j, b in enumerate(right, 1):
            cost = min(previous[j] + 1, current[-1] + 1, previous[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            current.append(cost)
        before, previous = previous, current
    return previous[-1]


def compare_anls(predicted: str, gold: str, question: str | None = None) -> Decision:
    """Two readings of a document; expects cleaned texts."""
    decision = compare_text(predicted, gold, question)
    if decision.equal:
        return decision
    left, right = normalise(predicted), normalise(gold)
    if _digits(left) != _digits(right):
        return no("digits", "the digits differ")
    if decision.rule in ("number", "unit", "yes_no", "time", "ratio", "words"):
        return decision
    if _letters(predicted) == _letters(gold) and _letters(gold):
        return yes("anls", "differs in blanks and punctuation only")
    if max(len(left), len(right)) > _MAX_CHARS or similarity(left, right) < THRESHOLD:
        return no("anls", f"less than {THRESHOLD} similar")
    words_left, words_right = left.split(), right.split()
    if len(words_left) != len(words_right):
        return no("anls", "words are missing or added")
    if all(_same_word(a, b) for a, b in zip(words_left, words_right, strict=True)):
        return yes("anls", "a slip of spelling")
    return no("anls", "another word")


def _digits(text: str) -> str:
    return re.sub(r"[^0-9]", "", text)


def _letters(text: str) -> str:
    """What is left without blanks and punctuation; points within numbers and operators stay."""
    return re.sub(r"(?<![0-9])[.,:]|[.,:](?![0-9])|[;!?'\"()\[\]_`-]|\s", "", text.casefold())


def _same_word(left: str, right: str) -> bool:
    """Equal, or one slip in a word of seven letters or more that begins and ends alike.

    Shorter words, first letters (un-, non-, North, South) and endings (-s, -ed) carry meaning. In a
    word of ten letters any slip is one; in a shorter one it must look like one, because Johnson is
    not Johnston: a letter doubled or not, two swapped, one taken for another of the same look.
    Each Chinese character is a word of its own.
    """
    if left == right:
        return True
    if _CHINESE.search(left + right):
        return False
    longest = max(len(left), len(right))
    if longest < 7 or left[:2] != right[:2] or left[-1] != right[-1]:
        return False
    if left.replace("rn", "m") == right.replace("rn", "m"):
        return True
    if not (left.isalpha() and right.isalpha()) or _distance(left, right) != 1:
        return False
    if longest >= 10 or sorted(left) == sorted(right):
        return True
    if len(left) == len(right):
        changed = {frozenset(pair) for pair in zip(left, right, strict=True) if len(set(pair)) > 1}
        return changed <= _ALIKE
    return re.sub(r"(.)\1", r"\1", left) == re.sub(r"(.)\1", r"\1", right)


_ALIKE = {frozenset(pair) for pair in ("li", "ce", "un", "hb", "sz", "lt")}
