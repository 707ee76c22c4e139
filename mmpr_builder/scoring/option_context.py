"""Options said in a context: a letter with its own text, behind working, in the words asked for.

The gas is D, O2.        ∠ABC=60°，选D        Between 2010 and 2011        喜欢篮球的人数最多
"""

from __future__ import annotations

import re

from mmpr_builder.scoring.clean import clean
from mmpr_builder.scoring.hedges import DOUBT, HEDGE, NEGATION
from mmpr_builder.scoring.latex import plain
from mmpr_builder.scoring.letters import LETTERS
from mmpr_builder.scoring.neutral import SUPERLATIVES
from mmpr_builder.scoring.neutral_zh import denies_zh
from mmpr_builder.scoring.options import match_option, same_option
from mmpr_builder.scoring.phrases import spoken
from mmpr_builder.scoring.question_zh import CHINESE, read_question_zh, squeezed
from mmpr_builder.scoring.relation import named_value
from mmpr_builder.scoring.sentence import is_lead

_WITH_TEXT = re.compile(
    r"(?P<before>[A-Za-z' ]{2,60}\s(?:is|are|was|were))\s+\(?(?P<letter>[A-H])\)?"
    r"\s*(?:[,:]|\(|\s-)\s*(?P<text>.+?)\)?\.?\Z",
    re.DOTALL,
)
_CHOSEN = re.compile(
    r"(?:因为|∵|由)?(?P<working>.+?\S)\s*[,，;；。]\s*(?:所以|因此|故|∴)?(?:答案|应)?选(?:择|项)?\s*[:：]?\s*"
    r"\(?(?P<letter>[A-H])\)?\Z",
    re.DOTALL,
)
_BETWEEN = re.compile(r"between\s+(?P<rest>.+)\Z", re.IGNORECASE | re.DOTALL)
_ASKS_BETWEEN = re.compile(r"\bbetween (?:which|what)\b", re.IGNORECASE)
_NEGATIONS = ("不", "没", "没有", "非", "未", "无")
_SAYS = ("是", "为", "属于", "等于", "叫", "在", "于是", "有", ":")
_GAP = re.compile("(?:哪一?[个种项类门名位天年月只条支]?|什么|谁)")


def option_in_context(predicted: str, choices: tuple[str, ...], question: str | None) -> int | None:
    """The option that such an answer says for certain; None for any other answer."""
    if not choices or len(predicted) > 300:
        return None
    said = spoken(predicted)
    if said != predicted and (option := match_option(said, choices)) is not None:
        return option  # 零下8℃
    between = _BETWEEN.match(predicted)
    if between and question and _ASKS_BETWEEN.search(question):
        return match_option(between["rest"], choices)
    option = _with_own_text(predicted, choices, question)
    return _echoed(predicted, choices, question) if option is None else option


def _with_own_text(predicted: str, choices: tuple[str, ...], question: str | None) -> int | None:
    named = _WITH_TEXT.match(predicted)
    if named and is_lead(named["before"]):
        extremes = SUPERLATIVES & set(named["before"].lower().split())
        if not extremes <= set(re.findall("[a-z]+", (question or "").lower())):
            return None  # The smallest is A, where the largest is asked for
        index = LETTERS.index(named["letter"])
        own = index < len(choices) and same_option(named["text"], choices[index])
        return index if own else None
    chosen = _CHOSEN.match(predicted)
    if chosen is None or any(mark.search(predicted) for mark in (HEDGE, DOUBT, NEGATION)):
        return None
    working, index = squeezed(chosen["working"]), LETTERS.index(chosen["letter"])
    option = match_option(named_value(plain(working))[1], choices)
    inside = [i for i, choice in enumerate(choices) if squeezed(clean(choice)) in working]
    before = working.partition(squeezed(clean(choices[inside[0]])))[0] if inside else ""
    said = not before or before.endswith(_SAYS)
    if option is None and len(inside) == 1 and CHINESE.search(working) and said:
        option = inside[0]  # 该文物属于宋朝，选D
    return option if option == index and not denies_zh(working) else None


def _echoed(predicted: str, choices: tuple[str, ...], question: str | None) -> int | None:
    """The question as a statement, with an option in its gap: 喜欢篮球的人数最多."""
    asked = read_question_zh(question)
    if asked is None or not CHINESE.search(predicted):
        return None
    text = squeezed(predicted).strip("。.")
    hits = [
        i
        for i, choice in enumerate(choices)
        if choice and any(_fills(text, choice, clause) for clause in asked.clauses.split("|"))
    ]
    return hits[0] if len(hits) == 1 else None


def _fills(text: str, option: str, clause: str) -> bool:
    gap = _GAP.search(clause)
    if gap is None or text.count(option) != 1:
        return False
    head, _, tail = text.partition(option)
    before, behind = clause[: gap.start()], clause[gap.end() :]
    # 哪项运动的人数最多: what is asked for may be left out, up to the first 的
    noun, of, rest = behind.partition("的")
    tails = {behind, of + rest} if len(noun) <= 3 and of else {behind}
    return (
        bool(head or tail)
        and before.endswith(head)
        and (not head or bool(before))
        and not before.removesuffix(head).endswith(_NEGATIONS)
        and tail in tails
    )
