"""Yes and no, true and false: `Yes, it is.` is yes, `yes and no` is neither, 是的 is 是."""

from __future__ import annotations

import re

from mmpr_builder.scoring.clean import words
from mmpr_builder.scoring.decision import Decision, no, yes

_YES = "yes yeah yep 是 是的 对 对的 对呀 有 有的 会 会的 能 可以"
_NO = "no nope 否 不 不是 不对 不是的 不对的 没有 不会 不能 不可以"
_WORDS: dict[str, str] = {
    **dict.fromkeys(words(_YES), "yes"),
    **dict.fromkeys(words(_NO), "no"),
    **dict.fromkeys(("true", "正确", "正确的", "√", "✓"), "true"),
    **dict.fromkeys(("false", "错误", "错误的", "错", "错的", "×", "✗"), "false"),
}
# Words that answer only what they are asked: 有 (there is) is no answer to 会 (will it).
_SPECIAL = frozenset(["有", "没有", "会", "不会", "能", "不能", "可以", "不可以"])
# 对 and 错 say yes and no as well as true and false.
_RIGHT = frozenset(["对", "对的", "正确", "正确的", "√", "✓"])
_WRONG = frozenset(["错", "错的", "错误", "错误的", "不对", "不对的", "不正确", "×", "✗"])
_HEAD = re.compile(
    r"(?P<head>[a-z]+|[\u3400-\u9fff√✓×✗]+)\s*(?:[,.;:!(，。；！—]|-{1,2}\s|\Z)\s*(?P<rest>.*)\Z",
    re.S,
)
_OTHER = re.compile(r"\b(?:yes|no|true|false|maybe|perhaps)\b|或|也许|可能|不一定")


def polarity(text: str) -> str | None:
    """The words yes, no, true or false that a text stands for; None if it is no such answer."""
    found = _WORDS.get(text)
    if found is not None:
        return found
    head = _HEAD.match(text.lower().strip())
    if not head or head["head"] not in _WORDS or _OTHER.search(head["rest"]):
        return None
    return _WORDS[head["head"]]


def same_polarity(left: str, right: str) -> bool:
    """Two bare words that say one thing: 对 and 正确, Yes and yes."""
    left, right = left.lower(), right.lower()
    if any({left, right} <= group for group in (_RIGHT, _WRONG)):
        return True
    known = left in _WORDS and right in _WORDS and left not in _SPECIAL and right not in _SPECIAL
    return known and _WORDS[left] == _WORDS[right]


def is_yes_no(gold: str) -> bool:
    """Whether a truth is a bare yes/no word."""
    return gold.lower() in _WORDS


def compare_yes_no(predicted: str, gold: str) -> Decision:
    """`gold` is a bare word of `is_yes_no`; expects cleaned texts."""
    gold = gold.lower()
    lowered = predicted.lower().strip().rstrip(".!。！")
    if lowered == gold:
        return yes("yes_no")
    if any({lowered, gold} <= group for group in (_RIGHT, _WRONG)):
        return yes("yes_no")
    said = polarity(lowered)
    if said is None or said != _WORDS[gold]:
        return no("yes_no", f"{predicted[:40]!r} does not say {gold!r}")
    if lowered in _SPECIAL and gold in _SPECIAL:
        return no("yes_no", "answers another question")
    return yes("yes_no")
