"""What a Chinese question asks for, and which of its words an answer may repeat.

    asked = read_question_zh("小明有5本书，小红有多少本书？")
    asked.clauses               -> "小红有多少本书"
    from_question(asked, "小红有3本", 0)  -> "小红"

Words of the clause that asks leave a value as it is; words of the other clauses may name another
value, and so do not count on their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from mmpr_builder.scoring.clean import normalise_characters
from mmpr_builder.scoring.latex import plain
from mmpr_builder.scoring.neutral_zh import (
    FUNCTION_ZH,
    MEASURED_ZH,
    NEUTRAL_ZH,
    PERSON_ZH,
    RIVALS_ZH,
    changes_zh,
    turns_zh,
)

CHINESE = re.compile("[\u3400-\u9fff]")
_BLANK = re.compile("(?<=[\u3400-\u9fff]) +| +(?=[\u3400-\u9fff])")
_CLAUSE = re.compile(r"[，。；？！?!;\n]|,(?![0-9])|\.(?![0-9])")
_ASKS = re.compile(
    r"多少|几|什么|哪|求|各[有是为]|谁|怎[么样]|如何|判断|写[作出成]|计算|[是为有约得=]\s*\(?\s*\)?\s*\Z"
)
_GAP = re.compile(r"百分之几|几分之几|多少|几|什么")
_WHICH = re.compile("哪一?[\u3400-\u9fff]|谁|什么[时地]候?")
_NOT_CUT_AFTER = "不没非未无比和跟与同除每半最被"
_NARROWS = re.compile("[不没非未无最半每]")
_SETS_APART = re.compile("[没未无剩另最]|不(?!等式|规则|同)|非(?!负|零)|余(?![数角弦])|其[余他它]")
_STATES = re.compile("[原剩借卖吃减增去昨明]|以前|过去|上午|下午")
_BOUNDARY = re.compile("[的是为有比和与，、|,]")
_MEASURED = tuple(sorted(MEASURED_ZH))
_SCALE = re.compile("(?:多少|几)(万亿|千万|百万|十亿|万|亿|千)")
_EMPTY = re.compile("请问|那么|求|问|则|这时|此时|这|其中|一共|总共|现在|[的是有为了 ]")
_LENGTHS = frozenset(("弧长", "影长", "棱长", "边长", "长度"))
_VERBS = frozenset("是为有得约共占剩")
_MAX_CHARS, _LONGEST = 2000, 24
_NAMES = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{1,4}'?(?![A-Za-z])")


@dataclass(frozen=True, slots=True)
class AskedZh:
    """A Chinese question: all of it, its clauses that ask, and what stands there before the gap
    that the answer fills (喜欢篮球的有 of 喜欢篮球的有多少人)."""

    text: str
    clauses: str
    heads: tuple[str, ...]
    counted: str
    tails: tuple[str, ...]
    """What stands behind the gap: `counted` where a number is asked for (个红球 of 有几个红球),
    `tails` where anything is (的降水量最多 of 哪一年的降水量最多)."""

    @property
    def compares(self) -> bool:
        """Whether it is asked by how much one thing differs from another."""
        return any("比" in head and changes_zh(head) for head in self.heads)


def squeezed(text: str) -> str:
    """Without the blanks beside Chinese characters, which mean nothing there."""
    return _BLANK.sub("", text)


@lru_cache(maxsize=1024)
def read_question_zh(question: str | None) -> AskedZh | None:
    """None where there is no question, or one in another language."""
    if not question or question.isascii() or not CHINESE.search(question):
        return None
    text = squeezed(plain(normalise_characters(question[-_MAX_CHARS:])))
    clauses = [clause.strip() for clause in _CLAUSE.split(text) if clause.strip()]
    asking = [clause for clause in clauses if _ASKS.search(clause)] or clauses[-1:]
    gaps = [(clause, gap) for clause in asking if (gap := _GAP.search(clause))]
    heads = tuple(clause[: gap.start()] for clause, gap in gaps if gap.start())
    counted = "|".join(clause[gap.end() :] for clause, gap in gaps)
    which = (clause[gap.end() :] for clause in asking if (gap := _WHICH.search(clause)))
    return AskedZh(text, "|".join(asking), heads, counted, tuple(which))


def from_question(asked: AskedZh, text: str, at: int, *, asking: bool) -> str:
    """The longest run of the question's words that begins here in an answer; nothing else.

    `asking`: only words of the clauses that ask.
    """
    source = asked.clauses if asking else asked.text
    for size in range(min(_LONGEST, len(text) - at), 1, -1):
        word = text[at : at + size]
        if not asking and word[0].isdigit():
            return ""
        if word not in source or not CHINESE.search(word) or word[-1] in _VERBS:
            continue
        cut = word[-1].isdigit() or (at > 0 and word[0].isdigit() and text[at - 1].isdigit())
        changes = turns_zh(word) if asking else changes_zh(word) or _STATES.search(word)
        if cut or changes or not _stands(word, source):
            continue
        return word
    return ""


def _stands(word: str, text: str) -> bool:
    """Whether a question has a run of words as such: not 喜欢 of 不喜欢."""
    return re.search(rf"(?<![不没非未无被])(?<!没有){re.escape(word)}", text) is not None


def is_asked(asked: AskedZh, word: str) -> bool:
    """Whether the clause that asks has a word that says more than 一共."""
    return len(word) > 1 and word not in FUNCTION_ZH and word in asked.clauses


@dataclass(frozen=True, slots=True)
class Trail:
    """How an answer follows the clause that asks: `own` words of it so far, up to `reached`;
    `other`: words of the other clauses too, `open` where none of its own has followed them."""

    own: bool = False
    other: bool = False
    open: bool = False
    reached: int = 0


def follow(trail: Trail, asked: AskedZh, word: str) -> Trail | None:
    """The trail after one more word, or None where the answer says another thing.

    Words in another order do (全班占女生的 for 女生占全班的), and words of another clause in the
    place of some that are left out (摸到红球的概率 for 摸到白球的概率).
    """
    if is_asked(asked, word):
        at = asked.clauses.find(word, trail.reached)
        if at < 0:
            return None
        left_out = _EMPTY.sub("", asked.clauses[trail.reached : at].split("|")[-1])
        if trail.open and left_out:
            return None
        return replace(trail, own=True, open=False, reached=at + len(word))
    known = word in NEUTRAL_ZH or word in asked.clauses or len(word) < 2 or not CHINESE.search(word)
    return trail if known else replace(trail, other=True, open=True)


def is_lead(asked: AskedZh, word: str) -> bool:
    """Whether a word stands directly before the gap: 可得利息 of 可得利息多少元."""
    return any(
        re.sub("(?:是|为|有|约|今年|现在)+\\Z", "", head).endswith(word) for head in asked.heads
    )


def echoed(asked: AskedZh, text: str) -> int:
    """How much of an answer repeats what stands before the gap: 多 of 多6人, where it is asked
    how many more; 0 if nothing does."""
    for head in asked.heads:
        for start in range(len(head)):
            for rest in (head[start:], head[start:].replace("了", "")):
                whole = start == 0 or not _narrowed(head, start)
                if rest and whole and text.startswith(rest):
                    return len(rest) + text[len(rest) :].startswith("了")
    return 0


def repeats_tail(asked: AskedZh, rest: str) -> bool:
    """Whether an answer goes on as the question does: 的降水量最多 of 2021年的降水量最多."""
    return any(rest in (tail, tail.removeprefix("的"), "的" + tail) for tail in asked.tails if tail)


def _narrowed(clause: str, at: int) -> bool:
    """Whether what stands here is made another thing by what stands before it: 解 of 最小整数解."""
    before = _BOUNDARY.split(clause[:at])[-1]
    if _SETS_APART.search(clause[:at]) and not clause.startswith(_MEASURED, at):
        return True
    return clause[at - 1] in _NOT_CUT_AFTER or _NARROWS.search(before) is not None


def stands_alone(asked: AskedZh, word: str, before: str) -> bool:
    """Whether a word of the question is repeated with what narrows it there: not 解 or 整数解 of
    最小整数解. `before` is the answer up to the word."""
    found = [match.start() for match in re.finditer(re.escape(word), asked.clauses)]
    if not found:
        return True
    for at in found:
        prior = _BOUNDARY.split(asked.clauses[:at])[-1]
        earlier = asked.clauses[:at].split("|")[-1]
        apart = set() if word in MEASURED_ZH else set(_SETS_APART.findall(earlier))
        if not apart <= set(before):
            continue
        if not _NARROWS.search(prior) or before.endswith(prior):
            return True
    return False


def fits(asked: AskedZh, word: str) -> bool:
    """Whether a word may name what is asked for: not 周长 where it is 面积, not 小红 for 小明."""
    people = {name for name in PERSON_ZH.findall(word) if name not in asked.clauses}
    if people:
        others = set(PERSON_ZH.findall(asked.text))
        if PERSON_ZH.search(asked.clauses) or not others <= people:
            return False
    word = word.replace("之比", "比")
    for group in RIVALS_ZH:
        named = set(group.findall(word))
        wanted = set(group.findall(asked.clauses.replace("之比", "比")))
        lengths = "长" in wanted and named <= _LENGTHS
        if named and wanted and not (named & wanted or lengths):
            return False
    superlative = word.startswith("最") and word in NEUTRAL_ZH
    return not (superlative and "最" in asked.text and word not in asked.clauses)


def without_asked_scale(text: str, gold: str, question: str | None) -> str:
    """`7.8万吨` -> `7.8吨` where it is asked how many 万吨 and the truth is a bare number."""
    found = _SCALE.search(question) if question else None
    if found is None or CHINESE.search(gold):
        return text
    return re.sub(rf"(?<=[0-9])\s*{found[1]}(?![万亿])", "", text, count=1)


def name_fits(asked: AskedZh, name: str) -> bool:
    """Whether a name in letters is one that is asked for, or none is."""
    bare = "".join(name.replace("\\angle", "").replace("\\triangle", "").split())
    found = {match[0] for match in _NAMES.finditer(asked.clauses)}
    return bare in asked.clauses.replace(" ", "") or not found
