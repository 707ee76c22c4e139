r"""The reference answer in a text that is a whole reply, or is written as one.

"x is a side of … Answer: B"   -> "B"        "5+2=7\n#### 7"         -> "7"
"The answer is B."             -> "B"        "<answer> 3 </answer>"  -> "3"
"['cat', 'kitten']"            -> two accepted answers
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from mmpr_builder.extraction import extract_answer

MAX_WORDS = 12
"""Longest reply, in words, that is taken for an answer."""
_LIST = re.compile(r"\s*\[[ \n'\"]")
_LONGEST_LIST = 2**20

_MARK = re.compile(r"(?:\bfinal answer|\banswer|答案)(?: is)?\s*[:：]\s*", re.IGNORECASE)
_GSM8K = re.compile(r"^[ \t]*+####[ \t]*+(\S[^\n]*+)\s*+\Z", re.MULTILINE)
_LEADS = re.compile(
    r"\W*(?:(?:so|thus|hence|therefore),?\s+)?(?:the\s+)?(?:(?:final|correct|right|best)\s+)?"
    r"(?:answer|option|答案)\W*(?:is\b|[:：]|是|为)",
    re.IGNORECASE,
)


def truth(reply: str) -> str | None:
    """The answer that a reply gives, None if it gives no short one."""
    found = written(reply)
    if found != reply:
        return found
    *before, text = _MARK.split(reply)
    if before:
        text = text.partition("\n")[0].strip("* ")
    elif (marked := extract_answer(reply, "final_answer")) and len(marked.split()) <= MAX_WORDS:
        return marked
    elif len(text.split()) > MAX_WORDS:
        return None
    # "31.00." and "Yes." are sentences of one word; "e.g." and "3." with nothing else are kept.
    return text.strip().removesuffix(".").strip() or None


def written(text: str) -> str:
    """The answer in a reference that is written as a reply: GSM8K's "####", a box, tags, or a text
    that begins with "The answer is"; any other text as it is."""
    if len(text) < 4:  # Most are.
        return text
    if "####" in text and (found := _GSM8K.search(text)):
        return found[1].rstrip()
    if "</answer>" in text or _LEADS.match(text):
        return extract_answer(text, "final_answer") or extract_answer(text, "boxed") or text
    if text.count("\\boxed{") == 1:
        return extract_answer(text, "boxed") or text
    return text


def listed(value: Any) -> Any:
    """A list of texts that is written as text, in Python's way or JSON's, as that list. A list of
    numbers stays text: it can be an answer itself, such as an interval."""
    if not (isinstance(value, str) and "[" in value[:9] and _LIST.match(value)):
        return value
    plain = "\\" not in value and '"' not in value  # Lists of pictures are too long for `ast`.
    try:
        found = json.loads(value.replace("'", '"') if plain else value)
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(value.strip()) if len(value) <= _LONGEST_LIST else value
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
    return found if isinstance(found, list) and all(isinstance(i, str) for i in found) else value
