"""What takes an option back: `A or B`, `not A`, `B (or C)`, `B → C`, `B, not sure`, 要么A要么B."""

from __future__ import annotations

import re

from mmpr_builder.scoring.letters import LETTERS, Reading

HEDGE = re.compile(
    r"(?:\b(?:or|either|maybe|perhaps|possibly|vs|versus)\b|或|可能|也许)", re.IGNORECASE
)
DOUBT = re.compile(
    r"\b(?:could|might|possible|alternatively|unsure|uncertain|then|instead|rather|later|change"
    r"|guess|else|although|though|not sure|not certain)\b|要么|还是|不确定|抑或|改为|改成|[?？]",
    re.IGNORECASE,
)
OTHER_AMOUNT = re.compile(
    r"\b(?:over|under|more|less|fewer|above|below|least|most|up to|than|half|twice|double|between"
    r"|almost|nearly|opposite)\b|超过|不到|以[上下内外]|[大小多少高低]于|至少|至多|一半"
)
_LONE_LETTER = re.compile(r"(?<![A-Za-z'’\\])(A(?!\s[a-z])|[B-H])(?![A-Za-z'’])")
NEGATION = re.compile(
    r"\b(?:not|neither|nor|except|isn't|cannot|can't|incorrect|wrong|unlike)\b|不是|不对|不选|错误|除了?",
    re.IGNORECASE,
)
REASON = re.compile(
    r"^\s*(?:[,(;:–—\-]\s*)*(?:because|since|as|which|i\.e|the|so|due|given)\b|^\s*[,，;(]?\s*(?:因为|由于|因|即)",
    re.I,
)
GROUND = re.compile(
    r"^\s*(?:[,(;:–—\-]\s*)*(?:because|since|due|given|i\.e)\b|^\s*[,，;(]?\s*(?:因为|由于|因|即)",
    re.I,
)
"""A reason may say what the answer is not: `B, since it is not A`."""


def take_back(said: Reading) -> bool:
    """Whether words in brackets take back their letter: `B (or A)`, `B (not sure)`; `B (not A)`
    does not."""
    if HEDGE.search(said.text) or DOUBT.search(said.text):
        return True
    return bool(NEGATION.search(said.text)) != other_letter(said)


def other_letter(said: Reading) -> bool:
    """Whether the words beside a letter bring in another one: `B → C`, `B, then D`."""
    others = {LETTERS.index(found.group(1)) for found in _LONE_LETTER.finditer(said.text)}
    return bool(others - said.letters)
