"""What makes a Chinese answer uncertain that has the right value: closed lists of characters.

doubt_in_chinese("花了5元", "付了20元，应找回多少元？")      -> another deed
doubt_in_chinese("上周卖了5台", "商店本周卖了多少台？")       -> another week
"""

from __future__ import annotations

import re

from mmpr_builder.scoring.latex import plain
from mmpr_builder.scoring.neutral_zh import NEUTRAL_ZH, PERSON_ZH
from mmpr_builder.scoring.question_zh import (
    CHINESE,
    AskedZh,
    is_lead,
    read_question_zh,
    squeezed,
)
from mmpr_builder.scoring.unit_table import GENERIC
from mmpr_builder.scoring.units import known_unit

_NUMERAL = "0-9零一二两三四五六七八九十百千万亿半"
_BEFORE = re.compile(rf"\A(?P<words>[^{_NUMERAL}\\]*[\u3400-\u9fff][^{_NUMERAL}\\]*)")
_LEAD = re.compile(
    "最后|最终|答案|结果|所以|因此|综上|答|则|故|即|应该|应|约|大约|大概|[是为得等于:,，。 ]"
)
# What happens to a value, and how an answer may say so.
_DEEDS = tuple(
    (re.compile(asks), re.compile(says))
    for asks, says in (
        ("剩", "剩|还有|余"),
        ("差", "差"),
        ("增", "增"),
        ("减", "减"),
        ("降(?![水雨])", "降"),
        ("涨", "涨"),
        ("给(?![出定])", "给"),
        ("找(?![出到规])", "找"),
        ("赚", "赚"),
        ("节省|省[了下去出多几]|[可能]省", "省"),
    )
)
_PRONOUN = re.compile("(?<!其)[他她它](?!们)")
_GROUPS = frozenset(("男生", "女生", "全班", "全校", "树"))
_PREFIXED = re.compile("[上下前后左右内外大小](?=([\u3400-\u9fff]))")
_NO_PREFIX = re.compile("大小|左右|大约|大概|小时|上下|前后|内外|小数|下列|上述|小题")
_NO_WORD = frozenset("是为有的了约共一和与在得等")
_SCHOOLS = re.compile("[小中大]学|高中|初中")
_TOGETHER = re.compile("共|总|合计")
_JOINED = re.compile("[和与跟及、]")


def doubt_in_chinese(p: str, question: str) -> str | None:
    """Why an answer with the right value may be about another thing; expects `plain` text."""
    asked = read_question_zh(question)
    if asked is None or not CHINESE.search(p):
        return None
    text = squeezed(p)
    found = _BEFORE.match(text)
    before = _LEAD.sub("", found["words"]) if found else ""
    if (
        before
        and not is_lead(asked, before)
        and any(asks.search(asked.clauses) and not says.search(text) for asks, says in _DEEDS)
    ):
        return "it may say what else happened"
    if _PRONOUN.search(before) and len(set(PERSON_ZH.findall(asked.text)) - _GROUPS) > 1:
        return "the pronoun may mean another one"
    if _has_prefix(before, asked):
        return "a word of the question with another one before it"
    schools = set(_SCHOOLS.findall(asked.clauses))
    if schools and set(_SCHOOLS.findall(text)) - schools:
        return "another school"
    if before and _is_part(before, asked):
        return "it may be a part of what is asked for"
    return "another thing is counted" if _counts_another(text, asked) else None


def _has_prefix(before: str, asked: AskedZh) -> bool:
    text = _NO_PREFIX.sub("", before)
    return any(
        found[1] in asked.clauses
        and found[1] not in _NO_WORD
        and found[0] + found[1] not in asked.text
        for found in _PREFIXED.finditer(text)
    )


def _is_part(before: str, asked: AskedZh) -> bool:
    """男生有5人, where it is asked how many 男生 and 女生 are together."""
    for head in asked.heads:
        both = _TOGETHER.search(head) and _JOINED.search(head)
        if both and not (_TOGETHER.search(before) or _JOINED.search(before)):
            return len(before.strip("有")) > 0 and "他们" not in before
    return False


_MEASURES = "|".join(sorted((m for m in GENERIC if not m.isascii()), key=len, reverse=True))
_COUNTED = re.compile(rf"[{_NUMERAL}](?:{_MEASURES})(?P<thing>[\u3400-\u9fff]{{1,6}})[。.]?\Z")
_ASKED = re.compile(rf"(?:多少|几)(?:{_MEASURES})?(?P<thing>[\u3400-\u9fff]{{2,}})")


def _counts_another(text: str, asked: AskedZh) -> bool:
    """5个白球, where it is asked how many 红球 there are."""
    said, wanted = _COUNTED.search(text), _ASKED.search(plain(asked.clauses))
    if said is None or wanted is None or known_unit(said["thing"]) is not None:
        return False
    thing = said["thing"]
    listed = thing in NEUTRAL_ZH and not PERSON_ZH.search(thing)
    return thing not in asked.clauses and not listed
