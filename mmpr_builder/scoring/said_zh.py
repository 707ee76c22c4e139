"""What else Chinese sentences say: words, formulas behind a subject, numbers among any words."""

from __future__ import annotations

import re

from mmpr_builder.scoring.latex import plain
from mmpr_builder.scoring.neutral_zh import CONNECTORS_ZH
from mmpr_builder.scoring.question_zh import read_question_zh, repeats_tail, squeezed
from mmpr_builder.scoring.sentence_zh import (
    MARKS,
    NUMERAL,
    RATIO,
    SYMBOLS,
    known_word,
    value_said_in_chinese,
)

_MAX_CHARS = 300
_SAYS = frozenset(("是", "为", "等于", "叫", "叫做", "写着", "在", "选", "答案"))


def says_in_chinese(text: str, gold: str, question: str | None = None) -> bool:
    """Whether a sentence says a truth in words: 颜色是红色, 这是一个圆."""
    text, gold = (squeezed(plain(side)) for side in (text, gold))
    text = text.strip(MARKS + '"“”').replace('"', "")
    if gold and text == gold + "的":  # 红色的
        return True
    asked = read_question_zh(question)
    if gold and asked and text.startswith(gold) and repeats_tail(asked, text[len(gold) :]):
        return True
    text = text if text.endswith(gold) else text.removesuffix("的")
    if not gold or not text.endswith(gold) or text == gold:
        return False
    rest, at, last = _ONE.sub("", text[: -len(gold)]), 0, ""
    while at < len(rest):
        word = known_word(rest, at, asked)
        if not word:
            return False
        if word not in MARKS:
            last = word
        elif word != " " and last not in CONNECTORS_ZH:
            return False
        at += len(word)
    return last in _SAYS


_ONE = re.compile("(?<=是)一[个种只条张辆位名座本幅把件棵朵]\\Z")


_PER = re.compile("每(小时|分钟|秒钟?|天)")


def with_its_time(text: str, said: str, gold: str) -> str:
    """`60千米` of 每小时行驶60千米 as 60千米/小时, where the truth is a speed."""
    found = _PER.search(text) if "/" in gold and "/" not in said else None
    return f"{said}/{found[1]}" if found else said


def led_in_chinese(text: str, question: str | None) -> str | None:
    """The formula behind a subject that leads to it: `x=2, y=-1` of 方程组的解是x=2, y=-1."""
    found = _LED.match(text) or _LED_LIST.match(text)
    if found is None:
        return None
    lead = found["lead"] if found["lead"][-1] in "是为" else found["lead"] + "是"
    if value_said_in_chinese(lead + "1", question) != "1":
        return None
    return re.sub("或者|或", " or ", re.sub("[和与]", " and ", found["rest"])).strip()


_LED_LIST = re.compile(  # 底角为55°或80°
    r"(?P<lead>[^=<>0-9]*[\u3400-\u9fff][^=<>0-9]*?[是为])(?P<rest>[^\u3400-\u9fff]+?(?:(?:或者|[或和与])[^\u3400-\u9fff]+)+)\Z"
)
_LED = re.compile(
    r"(?P<lead>[^=<>]*[\u3400-\u9fff][^=<>]*?)(?:(?<=[是为])|:)\s*(?P<rest>[^\u3400-\u9fff]+[=<>,][^\u3400-\u9fff]+)\Z"
)


def values_in_chinese(text: str) -> list[str]:
    """All numbers of a sentence, whatever stands beside them: 12, 18 and 36 of 12和18的倍数36.

    Only the end of a long text is read.
    """
    text = text[-_MAX_CHARS:]
    runs = (part for run in SYMBOLS.findall(text) for part in re.split(r"=|\\approx", run))
    found = (part.strip(" .()") for part in (*runs, *NUMERAL.findall(text), *RATIO.findall(text)))
    return [part for part in found if part]
