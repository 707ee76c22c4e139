"""Yes and no, true and false: `Yes, it is.` is yes, `yes and no` is neither, 是的 is 是."""

from __future__ import annotations

import re

from mmpr_builder.scoring.clean import words
from mmpr_builder.scoring.decision import Decision, no, unknown, yes

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
    r"(?P<head>[a-z]+|[\u3400-\u9fff√✓×✗]+)\s*(?:[,.;:!(，。；！—]|-{1,2}\s|\Z|\s(?=(?:it|they|there|he|she)\b))\s*(?P<rest>.*)\Z",
    re.S,
)
_OTHER = re.compile(r"\b(?:yes|no|true|false|maybe|perhaps)\b|或|也许|可能|不一定")
_NONE = re.compile(r"\A(?:there (?:is|are|was|were)|it has|they have) no\b")  # no dogs


# What may take a verdict back: only closed classes of words can, so these are listed.
_CONTRAST = re.compile(
    r"\b(?:but|however|although|though|except|unless|if|when|only|partly|partially|sometimes|depends?"
    r"|wait|actually|unsure|unless|until)\b|但|不过|除非|如果|有时"
)
_LEAD_ZH = re.compile(r"\A(?:最终)?答案?\s*[:：是为]\s*")
_DENIAL = re.compile(r"\b(?:not|never|neither|nor|cannot|without)\b|n't\b|不|没|非")


def polarity(text: str) -> str | None:
    """The words yes, no, true or false that a text stands for; None if it is no such answer."""
    found = _WORDS.get(text)
    if found is not None:
        return found
    head = _HEAD.match(text.lower().strip())
    if not head or head["head"] not in _WORDS:
        return None
    rest = _NONE.sub("", head["rest"]) if head["head"] == "no" else head["rest"]
    if _OTHER.search(rest):
        return None
    return None if _takes_back(_WORDS[head["head"]], head["rest"]) else _WORDS[head["head"]]


def _takes_back(said: str, rest: str) -> bool:
    return bool(_CONTRAST.search(rest)) or (said in ("yes", "true") and bool(_DENIAL.search(rest)))


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
    predicted = _LEAD_ZH.sub("", predicted)
    lowered = predicted.lower().strip().rstrip(".!。！")
    if lowered == gold:
        return yes("yes_no")
    if any({lowered, gold} <= group for group in (_RIGHT, _WRONG)):
        return yes("yes_no")
    said = polarity(lowered)
    if said is None:
        head = _HEAD.match(lowered)
        if head and _WORDS.get(head["head"]) == _WORDS[gold] and not _OTHER.search(head["rest"]):
            return unknown("words", "what follows may take it back")
    if said is None or said != _WORDS[gold]:
        return no("yes_no", f"{predicted[:40]!r} does not say {gold!r}")
    if lowered in _SPECIAL and gold in _SPECIAL:
        return no("yes_no", "answers another question")
    return yes("yes_no")
