"""Questions as words, so that two of them can be compared whatever their dress.

    "<image>\\nHow many  shapes are BLUE?"   -> ("how", "many", "shapes", "are", "blue")
    "图中有多少个三角形？"                     -> ("图", "中", "有", "多", "少", …)
    "Is 3 − 2 > x?"                         -> ("is", "3", "-", "2", ">", "x")

Chinese and Japanese have no blanks between words: there a character is a word. Operators stay,
because 3 + 2 and 3 - 2 are different questions; punctuation goes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from mmpr_builder.records import IMAGE_PLACEHOLDER

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_PUNCTUATION = r".,;:!?'\"“”‘’()\[\]{}<>《》【】「」，。；：！？、…—–_$\\|&~`#@·"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+|[<>](?=\s*[\w(])|[^\w\s{_PUNCTUATION}]")
_NUMBER = re.compile(r"\d+")
_MINUS = str.maketrans({"−": "-", "－": "-", "﹣": "-"})
_ONE_CJK = re.compile(rf"[{_CJK}]")


def words(text: str) -> tuple[str, ...]:
    """The words of a text: Unicode forms, case, blanks, punctuation and `<image>` made alike."""
    plain = unicodedata.normalize("NFKC", text.replace(IMAGE_PLACEHOLDER, " ").translate(_MINUS))
    return tuple(_WORD.findall(plain.casefold()))


def numbers(of: Sequence[str]) -> list[str]:
    """The digits among some words, sorted: "3 apples and 12 pears" -> ["12", "3"]."""
    return sorted(digits for word in of for digits in _NUMBER.findall(word))


def weight(of: Sequence[str]) -> float:
    """How long a text of these words is, in words: two Chinese characters are about one."""
    chinese = sum(bool(_ONE_CJK.match(word)) for word in of)
    return len(of) - chinese / 2


def ngrams(of: Sequence[str], n: int) -> set[str]:
    """All runs of n words; a text of fewer words is one run."""
    return {" ".join(of[i : i + n]) for i in range(max(1, len(of) - n + 1))} if of else set()


def similarity(one: Sequence[str], other: Sequence[str], least: float = 0.0) -> float:
    """Share of words that two texts have in common, 0 to 1, in order or (if more) in any order.

    By insertions and deletions of whole words; 0 where it is below `least`, which is faster.
    """
    from rapidfuzz.distance import Indel

    in_order = Indel.normalized_similarity(one, other, score_cutoff=least)
    if in_order == 1:
        return 1.0
    any_order = Indel.normalized_similarity(sorted(one), sorted(other), score_cutoff=least)
    return float(max(in_order, any_order))
