"""No regular expression of the package takes long, whatever text a row or a model writes."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import re._constants as sre
import re._parser as parser
import signal
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mmpr_builder
from mmpr_builder import score_response

LENGTH = 1000
MOST_S = 0.5
"""Of the processor. What is quadratic takes some 0.05 s here, what is cubic much longer."""

METHODS = {"search", "match", "fullmatch", "sub", "subn", "split", "finditer", "findall"}
REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
CLASSES = {
    sre.CATEGORY_DIGIT: "1", sre.CATEGORY_SPACE: " ", sre.CATEGORY_WORD: "a",
    sre.CATEGORY_NOT_DIGIT: "a", sre.CATEGORY_NOT_SPACE: "a", sre.CATEGORY_NOT_WORD: " ",
}  # fmt: skip
USUAL = (
    "a", "1", " ", "\n", "\t", "(", "{", "[", "\\", "$", "一", "a ", "1,", "1 ", "- ", "a-", "**",
    "|", "=", "= ", "a=", "(a)", "0.", "<a", "://a@", "A. ", " \n", "\\frac{", "\\boxed{", "是不",
)  # fmt: skip


def patterns() -> dict[str, tuple[re.Pattern[str], bool]]:
    """Every compiled pattern by its name, and whether it is only matched at a place."""
    used = defaultdict(set)
    for file in Path(mmpr_builder.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in METHODS:
                owner = node.value
                used[getattr(owner, "id", getattr(owner, "attr", ""))].add(node.attr)
    found = {}
    for module in pkgutil.walk_packages(mmpr_builder.__path__, "mmpr_builder."):
        if not module.name.endswith("__main__"):
            for name, value in vars(importlib.import_module(module.name)).items():
                anchored = bool(used[name]) and used[name] <= {"match", "fullmatch"}
                for i, pattern in enumerate(_patterns_in(value)):
                    found[f"{module.name}.{name}.{i}"] = (pattern, anchored)
    return found


def _patterns_in(value: Any) -> Iterator[re.Pattern[str]]:
    if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
        yield value
    elif isinstance(value, dict | tuple | list | set | frozenset):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _patterns_in(item)


def sample(tree: Iterable[Any]) -> str:
    """A short text that a parsed pattern more or less matches."""
    return "".join(_sample(operator, argument) for operator, argument in tree)


def _sample(operator: Any, argument: Any) -> str:
    if operator is sre.LITERAL:
        return chr(argument)
    if operator in (sre.NOT_LITERAL, sre.ANY):
        return "b" if argument == ord("a") else "a"
    if operator is sre.IN:
        return _member(argument)
    if operator is sre.BRANCH:
        return sample(argument[1][0])
    if operator is sre.SUBPATTERN:
        return sample(argument[3])
    if operator is sre.ATOMIC_GROUP:
        return sample(argument)
    return sample(argument[2]) * max(1, argument[0]) if operator in REPEATS else ""


def _member(items: list[Any]) -> str:
    first, *rest = items
    if first[0] is sre.NEGATE:
        taken = {chr(x) for op, x in rest if op is sre.LITERAL}
        taken |= {CLASSES[x] for op, x in rest if op is sre.CATEGORY}
        return next(char for char in "a1 \n一-x{(" if char not in taken)
    operator, value = first
    return CLASSES[value] if operator is sre.CATEGORY else chr(_first(value))


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, tuple) else value)


def pumps(tree: Iterable[Any], before: str = "") -> Iterator[tuple[str, str]]:
    """(what comes before, what is repeated) for each repeat of a parsed pattern."""
    for operator, argument in tree:
        inner: list[Any] = []
        if operator in REPEATS:
            if argument[1] is sre.MAXREPEAT or argument[1] >= 20:
                yield before, sample(argument[2])
            inner = [argument[2]]
        elif operator is sre.BRANCH:
            inner = argument[1]
        elif operator is sre.SUBPATTERN:
            inner = [argument[3]]
        elif operator is sre.ATOMIC_GROUP:
            inner = [argument]
        elif operator in (sre.ASSERT, sre.ASSERT_NOT):
            inner = [argument[1]]
        for part in inner:
            yield from pumps(part, before)
        before += _sample(operator, argument)


def hostile(pattern: re.Pattern[str]) -> Iterator[str]:
    """Texts that repeat what the pattern repeats, and end as it does not."""
    tree = list(parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG))
    whole = sample(tree)
    found = [*pumps(tree), ("", whole), *(("", usual) for usual in USUAL)]
    for before, body in dict.fromkeys(found):
        for end in ("\0", "\n!") if body else ():
            yield before + (body * (LENGTH // len(body) + 1))[:LENGTH] + end


class TooLongError(BaseException):
    pass


def test_no_pattern_takes_more_than_square_time_on_any_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def over(*_: object) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGVTALRM, over)
    every = patterns()
    assert len(every) > 300
    every["a known one"] = (re.compile(r"(a|aa)+\Z"), False)
    slow = {}
    try:
        for name, (pattern, anchored) in every.items():
            for text in hostile(pattern):
                began = time.process_time()
                try:
                    # The time of this process, not of the clock: other work does not count.
                    signal.setitimer(signal.ITIMER_VIRTUAL, MOST_S)
                    (pattern.match if anchored else pattern.search)(text)
                    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
                except TooLongError:
                    slow[name] = (text[:40], time.process_time() - began)
                    break
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert slow.pop("a known one")
    assert not slow


@pytest.mark.parametrize("said", ["半", "、", "零是", "圆和", "平方分", "的", "上。", "不是红色的"])
def test_a_long_chinese_answer_costs_no_more_than_its_length_squared(said: str) -> None:
    """Ratios of one run: 300 characters took a second once, and twice as many eight."""
    question = "图中有多少个红色的圆？"

    def seconds(length: int, gold: str) -> float:
        text = "最终答案：" + (said * length)[:length]
        began = time.process_time()
        for _ in range(3):
            score_response(text, gold, question=question)
        return time.process_time() - began

    for gold in ("三", "1:2", "有三个红色的圆形"):
        seconds(300, gold)
        assert seconds(1200, gold) < 40 * seconds(300, gold) + 0.5
