"""DropoutNTP: where a response is cut, and how its image-free continuation is joined on.

    The picture shows a cat on a mat. |  It sleeps beside 3.14 kg of fish.
    图中有一只猫，|它睡在垫子上。

The first part of a response (half of it by default; arXiv 2411.10442, section 3.1 and table 9) is
kept, the same model goes on without the image, and `rejected = prefix + continuation`. The cut
falls before a blank, before punctuation, or between characters of a script that is written without
blanks; never inside a word, a number, a LaTeX command, a tag or an emoji. The prefix never ends in
a blank, so the joint neither loses nor doubles one.
"""

from __future__ import annotations

import bisect
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from mmpr_builder.config import Config, DropoutConfig, asks_majority, compares
from mmpr_builder.errors import ConfigError
from mmpr_builder.extraction import open_thought, thought_of
from mmpr_builder.records import Seed

Part = Literal["whole", "thought", "answer"]
Decode = Callable[[Sequence[int]], str]
"""Token ids -> text, special tokens left out."""

# What is one unit although its characters would allow a cut inside it. All repeats are bounded or
# disjoint, so a hostile text costs linear time.
_BRACES = r"\{(?:[^{}\n]|\{[^{}\n]{0,80}\}){0,80}\}"
_ATOM = re.compile(
    r"<[^<>\s]{1,48}>"  # <image>, <|im_end|>, </think>, <b>
    r"|https?://[^\s<>\"'，。；）]{1,2000}"
    rf"|\\[A-Za-z]+\*?(?:\[[^\[\]\n]{{0,40}}\])?(?:{_BRACES}){{0,4}}"  # \frac{1}{2}
    r"|\\[^\sA-Za-z]"  # \( \] \%
    r"|\d+(?:[.,:/\u2044\u00d7\-\u2013]\d+)+[%°]?"  # 3.14  1,000  12:30  1/2  2-3
    r"|[+\-\u2212±≈~]?\d+[%°]?"
)
_INCOMPLETE = "\ufffd"  # What bytes that are no whole character decode to.
_ZWJ, _ZWNJ = "\u200d", "\u200c"
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_FLAG_LETTERS = range(0x1F1E6, 0x1F200)
_TAGS = range(0xE0020, 0xE0080)
# Scripts written without blanks between words; one character (with its marks) may end a part.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x0FFF),  # Tibetan
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),
    (0x3040, 0x309F),  # Hiragana
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
_LEADING_VOWELS = "เแโใไເແໂໃໄ"  # written before the consonant that they belong to
_TRAILING_VOWELS = "ะาำະາຳ"
_SMALL_KANA = "ぁぃぅぇぉっゃゅょゎー"
_OPENERS = ("Ps", "Pi")
_AMBIGUOUS = "\\_^$*`~\"'#"  # they may open what follows, so only a blank is safe behind them
_JOINERS = "-‐_./@&·:+"  # between two letters they are inside a word: x-axis, snake_case, e.g.
_BINDING = "{[_^("  # after a letter or a closing brace: x_1, x^2, f(x), \left(


@dataclass(frozen=True, slots=True)
class Cut:
    """The kept part of a response: its token ids, and its text (a prefix of the response's). `lead`
    stands in front of the decoded ids: some tokenizers swallow a blank at the very start."""

    ids: tuple[int, ...]
    text: str
    lead: str = ""


def wants_continuation(seed: Seed, dropout: DropoutConfig) -> bool:
    """Whether a seed's responses are continued; only with images, which are what is dropped."""
    if not seed.images or dropout.apply == "none":
        return False
    return dropout.apply == "all" or not seed.has_truth


def may_pair(seed: Seed, config: Config) -> bool:
    """Whether a pair can come of a seed: there is a truth to judge by, or may be, or a judge, or
    something to continue."""
    asked = asks_majority(seed, config) or compares(seed, config)
    return seed.has_truth or asked or wants_continuation(seed, config.dropout)


def wants_blind(seed: Seed, config: Config) -> bool:
    """Whether a seed is answered without its images, too (`sampling.blind`): where it has some, and
    a truth to judge the answers by, or may have one."""
    wanted = config.sampling.blind > 0 and bool(seed.images)
    return wanted and (seed.has_truth or asks_majority(seed, config))


def part_of(text: str, part: Part) -> tuple[int, int] | None:
    """Where a cut may fall in a response; None where it has no such part.

        whole     |<think>\\nThe left one …\\n</think>\\n\\nFinal answer: 3|
        thought   <think>|\\nThe left one …\\n|</think>\\n\\nFinal answer: 3
        answer    <think>\\nThe left one …\\n</think>|\\n\\nFinal answer: 3|

    A response without a thought is all answer; one that leaves it open has neither.
    """
    found = thought_of(text)
    if part == "whole":
        return 0, len(text)
    if found is None:
        return (0, len(text)) if part == "answer" and not open_thought(text) else None
    return found[:2] if part == "thought" else (found[2], len(text))


def truncate(text: str, keep: float = 0.5, part: Part = "whole") -> str:
    """The first `keep` (0 to 1, in characters) of a text, cut at the nearest clean boundary.

    The result has no trailing blank, is never empty unless `keep` is 0 or the text is, and is
    never the whole text as long as that has more than one unit and `keep` is below 1.
    With another `part` all before it is kept and `keep` is the share of the part itself; the whole
    text comes back where there is no such part, or no place to cut it.
    Raises `ConfigError` for a `keep` outside 0 to 1.
    """
    if not 0 <= keep <= 1:
        raise ConfigError(f"keep={keep!r} is no share of a text: give a number from 0 to 1")
    start, end = part_of(text, part) or (len(text), len(text))
    if not end or (keep == 0 and not start):
        return ""
    if keep == 1 and end == len(text):
        return text
    atoms = _atoms(text)
    goal = start + keep * (end - start)
    for allowed in (_is_clean, _is_possible):
        for position in _outward(goal, max(1, start), min(end, len(text) - 1)):
            if allowed(text, position, atoms):
                return text[:position]
    return text


def cut_tokens(
    ids: Sequence[int],
    text: str,
    keep: float,
    decode: Decode,
    part: Part = "whole",
    gap: tuple[int, int] | None = None,
) -> Cut | None:
    """The token-level cut nearest to `keep` x tokens whose text ends at a clean boundary.

    `ids` are a response's tokens without its stop token and `text` its exact text, behind what its
    prompt opened of it, if anything. None when it is too short to be cut, has no such part (see
    `part_of`), or no prefix of its tokens decodes to a prefix of its text. With a `gap` of the text
    the cut is the last one that ends in it, blanks included; None where a token spans it.
    """
    span = part_of(text, part)
    if span is None:
        return None
    whole = _complete(decode(ids), text)
    lead = text[: len(text) - len(whole)] if ids and text.endswith(whole) else ""

    def reached(count: int) -> int:
        return len(lead) + len(decode(ids[:count]))

    if gap is not None:
        last = bisect.bisect_right(range(len(ids)), gap[1], key=reached) - 1
        prefix = lead + decode(ids[: max(0, last)])
        there = last > 0 and gap[0] <= len(prefix) <= gap[1] and text.startswith(prefix)
        return Cut(tuple(ids[:last]), prefix, lead) if there else None
    if keep <= 0 and span[0] <= len(lead):
        return Cut((), open_thought(lead), lead)
    if len(ids) < 2:
        return None
    low, high = 0, len(ids)
    if part != "whole":
        low, high = (bisect.bisect_left(range(len(ids)), edge, key=reached) for edge in span)
    atoms = _atoms(text)
    possible: Cut | None = None
    # A response is cut well within 64 tokens of the goal or has no boundary worth looking for;
    # the bound keeps the cost of thousands of blank-less tokens linear.
    goal = low + keep * (high - low)
    for index in _outward(goal, max(1, low), min(high, len(ids) - 1), reach=64):
        prefix = lead + decode(ids[:index])
        if not len(lead) < len(prefix) < len(text) or not text.startswith(prefix):
            continue
        if not span[0] <= len(prefix) <= span[1]:
            continue
        if _is_clean(text, len(prefix), atoms):
            return Cut(tuple(ids[:index]), prefix, lead)
        if possible is None and _is_possible(text, len(prefix), atoms):
            possible = Cut(tuple(ids[:index]), prefix, lead)
    return possible


def joint(cut: Cut, new_ids: Sequence[int], new_text: str, decode: Decode) -> str:
    """The continuation's text exactly as it reads behind the prefix: decoded together with it, as
    tokenizers that mark word starts drop the first blank of a text decoded alone. Where the tokens
    do not decode to the prefix again it is `new_text`, the engine's own. A character of which the
    last tokens hold but a part is left out, as the engine leaves it out."""
    whole = _complete(cut.lead + decode([*cut.ids, *new_ids]), new_text)
    return whole[len(cut.text) :] if cut.ids and whole.startswith(cut.text) else new_text


def _complete(decoded: str, text: str) -> str:
    """Decoded tokens without a last character that is cut in two, which `text` does not have."""
    return decoded if text.endswith(_INCOMPLETE) else decoded.rstrip(_INCOMPLETE)


def _outward(goal: float, low: int, high: int, *, reach: int | None = None) -> Iterator[int]:
    """low..high, nearest to `goal` first, the lower one of two equally near."""
    start = min(max(round(goal), low), high)
    for distance in range((high - low if reach is None else min(reach, high - low)) + 1):
        if start - distance >= low:
            yield start - distance
        if distance and start + distance <= high:
            yield start + distance


def _atoms(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in _ATOM.finditer(text)]


def _is_clean(text: str, position: int, atoms: list[tuple[int, int]]) -> bool:
    """Whether a writer could pause here: a blank, punctuation or an unspaced character follows."""
    if not _is_possible(text, position, atoms):
        return False
    left, right = _base(text, position), text[position]
    if right.isspace():
        return True
    if left in _AMBIGUOUS or unicodedata.category(left) in _OPENERS:
        return False
    if left == right and not left.isalnum():  # inside "**", "...", "```"
        return False
    if _is_unspaced(left) or _is_unspaced(right):
        return True
    if right.isalnum():
        return False
    after = text[position + 1] if position + 1 < len(text) else " "
    if right in _JOINERS and left.isalnum() and after.isalnum():
        return False
    return not (right in _BINDING and (left.isalnum() or left in "}])"))


def _is_possible(text: str, position: int, atoms: list[tuple[int, int]]) -> bool:
    """Whether a cut here leaves no trailing blank and splits no word, number, tag or cluster."""
    left, right = text[position - 1], text[position]
    if left.isspace() or _extends(right) or left == _ZWJ:
        return False
    if ord(left) in _FLAG_LETTERS and ord(right) in _FLAG_LETTERS and _flags_before(text, position):
        return False
    if _inside(position, atoms):
        return False
    base = _base(text, position)
    if base in _LEADING_VOWELS or right in _TRAILING_VOWELS or right in _SMALL_KANA:
        return False
    if _is_unspaced(base) or _is_unspaced(right):
        return True
    return not (base.isalnum() and right.isalnum()) and not _at_apostrophe(text, position)


def _at_apostrophe(text: str, position: int) -> bool:
    """Whether `position` is beside an apostrophe inside a word: don|'t, don'|t."""
    for place in (position - 1, position):
        around = text[max(0, place - 1) : place + 2]
        if len(around) == 3 and around[1] in "'’" and around[0].isalnum() and around[2].isalnum():
            return True
    return False


def _extends(char: str) -> bool:
    """Whether a character belongs to the cluster before it: marks, joiners, skin tones, tags."""
    code = ord(char)
    return (
        char in (_ZWJ, _ZWNJ)
        or code in _SKIN_TONES
        or code in _TAGS
        or unicodedata.category(char)[0] == "M"
    )


def _flags_before(text: str, position: int) -> bool:
    """Whether an odd number of flag letters ends at `position`: half of a flag."""
    count = 0
    while count < position and ord(text[position - 1 - count]) in _FLAG_LETTERS:
        count += 1
    return count % 2 == 1


def _base(text: str, position: int) -> str:
    """The character before `position`, marks and joiners passed over."""
    while position > 1 and _extends(text[position - 1]):
        position -= 1
    return text[position - 1]


def _is_unspaced(char: str) -> bool:
    code = ord(char)
    return any(low <= code <= high for low, high in _UNSPACED)


def _inside(position: int, atoms: list[tuple[int, int]]) -> bool:
    nearest = bisect.bisect_left(atoms, (position, 0)) - 1
    return nearest >= 0 and atoms[nearest][1] > position
