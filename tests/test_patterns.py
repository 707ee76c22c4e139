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
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import mmpr_builder
from mmpr_builder import score_response

LENGTH = 8000
SHARE = 0.2
"""Of the time of a pattern that is known to be quadratic; what is linear takes a twentieth."""

METHODS = {"search", "match", "fullmatch", "sub", "subn", "split", "finditer", "findall"}
Pattern = re.Pattern[str]
REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
CLASSES = {
    sre.CATEGORY_DIGIT: "1", sre.CATEGORY_SPACE: " ", sre.CATEGORY_WORD: "a",
    sre.CATEGORY_NOT_DIGIT: "a", sre.CATEGORY_NOT_SPACE: "a", sre.CATEGORY_NOT_WORD: " ",
}  # fmt: skip
USUAL = (
    "a", "1", " ", "\n", "\t", "(", "{", "[", "\\", "$", "一", "a ", "1,", "1 ", "- ", "a-", "**",
    "|", "=", "= ", "a=", "(a)", "0.", "<a", "://a@", "A. ", " \n", "\\frac{", "\\boxed{", "是不",
)  # fmt: skip


def patterns() -> dict[str, tuple[Pattern, set[str]]]:
    """Every compiled pattern by its name, and the methods that are called of it; none: not seen."""
    found: dict[int, tuple[str, Pattern, set[str]]] = {}
    for module in pkgutil.walk_packages(mmpr_builder.__path__, "mmpr_builder."):
        if not module.name.endswith("__main__"):
            loaded = importlib.import_module(module.name)
            used = called_in(Path(str(loaded.__file__)))
            for name, value in vars(loaded).items():
                for i, pattern in enumerate(_patterns_in(value)):
                    first = (f"{module.name}.{name}.{i}", pattern, set())
                    # Other modules import it, under the same name.
                    found.setdefault(id(pattern), first)[2].update(used[name])
    return {name: (pattern, used) for name, pattern, used in found.values()}


def called_in(file: Path) -> defaultdict[str, set[str]]:
    """Name -> methods of patterns that a file calls of it, or of what a loop takes from it."""
    tree = ast.parse(file.read_text("utf-8"))
    used = defaultdict(set)
    for owner, method in _calls(tree):
        used[owner].add(method)
    for node in ast.walk(tree):
        loops = [node] if isinstance(node, ast.For) else getattr(node, "generators", ())
        for loop in loops:
            taken, sources = _names(loop.target), _names(loop.iter)
            methods = {method for owner, method in _calls(node) if owner in taken}
            for source in sources if not sources & METHODS else ():
                used[source] |= methods
    return used


def _calls(tree: ast.AST) -> list[tuple[str, str]]:
    found = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr in METHODS]
    return [(name, node.attr) for node in found for name in _names(node.value)]


def _names(tree: ast.AST) -> set[str]:
    found = (getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(tree))
    return {name for name in found if isinstance(name, str)}


def _patterns_in(value: Any) -> Iterator[Pattern]:
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


def uses(pattern: Pattern, methods: set[str]) -> Iterator[Callable[[str], object]]:
    if not methods or "match" in methods:
        yield pattern.match
    if not methods or "fullmatch" in methods:
        yield pattern.fullmatch
    if not methods or methods - {"match", "fullmatch"}:
        yield lambda text: all(pattern.finditer(text))


class TooLongError(BaseException):
    pass


def seconds(run: Callable[[str], object], text: str, most: float) -> float:
    """Of this process, not of the clock: other work does not count."""
    began = time.process_time()
    signal.setitimer(signal.ITIMER_VIRTUAL, most)
    run(text)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return time.process_time() - began


def takes_over(most: float, run: Callable[[str], object], text: str) -> bool:
    """Whether it takes longer three times; once a collection of garbage may have fallen into it."""
    for _ in range(3):
        with suppress(TooLongError):
            seconds(run, text, most)
            return False
    return True


def test_every_pattern_takes_linear_time_on_any_text() -> None:
    def over(*_: object) -> None:
        raise TooLongError

    square = re.compile(r"\s*;")
    every = patterns()
    assert len(every) > 300
    every["a square one"] = (square, set())
    every["a nested one"] = (re.compile(r"(?:_?(?:a|\d+))*"), {"fullmatch"})
    slow = {}
    before = signal.signal(signal.SIGVTALRM, over)
    try:
        known = min(seconds(square.search, " " * LENGTH, 60) for _ in range(3))
        for name, (pattern, methods) in every.items():
            for text, run in product(hostile(pattern), uses(pattern, methods)):
                if takes_over(SHARE * known, run, text):
                    slow[name] = (text[:40], pattern.pattern)
                    break
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert slow.pop("a square one")
    assert slow.pop("a nested one")
    assert not slow


@pytest.mark.parametrize("said", ["半", "、", "零是", "圆和", "平方分", "的", "上。", "不是红色的"])
def test_a_long_chinese_answer_costs_in_proportion_to_its_length(said: str) -> None:
    """Ratios of one run, six times the text: 300 characters took a second once, 600 eight."""
    question = "图中有多少个红色的圆？"

    def taken(length: int, gold: str) -> float:
        text = "最终答案：" + (said * length)[:length]
        began = time.process_time()
        for _ in range(3):
            score_response(text, gold, question=question)
        return time.process_time() - began

    for gold in ("三", "1:2", "有三个红色的圆形"):
        taken(300, gold)
        # Any of three: other work on the core slows one side of a ratio, too.
        assert any(taken(1800, gold) < 15 * taken(300, gold) + 0.1 for _ in range(3))
