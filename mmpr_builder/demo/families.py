"""Families of questions, on a grid and on a chart.

Each function draws one question for a scene, or returns None where the scene offers none of that
family. The weights make every family common enough to be learned.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import combinations
from typing import Any

from mmpr_builder.demo.wording import (
    CHINESE_DIGITS,
    YES_NO,
    Kind,
    Question,
    bar_reading,
    cell_name,
    colour_name,
    said,
)
from mmpr_builder.demo.world import AXIS_TOP, COLOURS, GRID_SIDE, SHAPES, Chart, Grid
from mmpr_builder.records import Language

_COLOUR_KINDS = [Kind(colour=colour) for colour in COLOURS]
_SHAPE_KINDS = [Kind(shape=shape) for shape in SHAPES]
_PAIR_KINDS = [Kind(colour, shape) for colour in COLOURS for shape in SHAPES]


def _spread(kinds: list[Kind], scene: Grid, rng: random.Random, low: int) -> Kind | None:
    """A kind whose count is drawn evenly from the counts that the scene has."""
    by_count: dict[int, list[Kind]] = {}
    for kind in kinds:
        by_count.setdefault(kind.count(scene), []).append(kind)
    counts = sorted(count for count in by_count if count >= low)
    return rng.choice(by_count[rng.choice(counts)]) if counts else None


def _tally(kind: Kind, scene: Grid, language: Language) -> tuple[str, int]:
    """A count worked out row by row: `Red shapes: 1 + 0 + 2 = 3.`"""
    rows = [sum(map(kind.matches, scene.row(row))) for row in range(GRID_SIDE)]
    total = sum(rows)
    name, terms = kind.plural(language), " + ".join(map(str, rows))
    english, chinese = f"{name.capitalize()}: {terms} = {total}.", f"{name}：{terms} = {total}。"
    return said(language, english, chinese), total


def _count(scene: Grid, language: Language, rng: random.Random) -> Question | None:
    kinds = rng.choice((_COLOUR_KINDS, _SHAPE_KINDS, _PAIR_KINDS))
    kind = _spread(kinds, scene, rng, low=0 if rng.random() < 0.3 else 1)
    if kind is None:
        return None

    def solve(seen: Grid) -> tuple[str, str]:
        steps, total = _tally(kind, seen, language)
        return steps, str(total)

    name = kind.plural(language)
    text = said(language, f"How many {name} are there?", f"图中有多少个{name}？")
    guesses = tuple("0123" if kinds is _PAIR_KINDS else "0123456")
    return Question(text, solve, guesses, kinds=(kind,))


def _add(scene: Grid, language: Language, rng: random.Random) -> Question | None:
    kinds = [k for k in rng.choice((_COLOUR_KINDS, _SHAPE_KINDS)) if k.count(scene)]
    if len(kinds) < 2:
        return None
    first, second = rng.sample(kinds, 2)

    def solve(seen: Grid) -> tuple[str, str]:
        steps_a, a = _tally(first, seen, language)
        steps_b, b = _tally(second, seen, language)
        end, join = said(language, ".", "。"), said(language, " ", "")
        return f"{steps_a}{join}{steps_b}{join}{a} + {b} = {a + b}{end}", str(a + b)

    one, other = first.plural(language), second.plural(language)
    english = f"How many {one} and {other} are there altogether?"
    text = said(language, english, f"{one}和{other}一共有多少个？")
    return Question(text, solve, tuple("2345678"), kinds=(first, second))


def _compare(scene: Grid, language: Language, rng: random.Random) -> Question | None:
    kinds = rng.choice((_COLOUR_KINDS, _SHAPE_KINDS))
    pairs = [p for p in combinations(kinds, 2) if p[0].count(scene) != p[1].count(scene)]
    pairs = [p for p in pairs if p[0].count(scene) and p[1].count(scene)] or pairs
    if not pairs:
        return None
    first, second = rng.sample(rng.choice(pairs), 2)

    def name(kind: Kind) -> str:
        return colour_name(kind.colour, language) if kind.colour else kind.plural(language)

    def solve(seen: Grid) -> tuple[str, str]:
        steps_a, a = _tally(first, seen, language)
        steps_b, b = _tally(second, seen, language)
        more = name(first if a >= b else second)
        english, chinese = f"{steps_a} {steps_b} More: {more}.", f"{steps_a}{steps_b}{more}更多。"
        return said(language, english, chinese), more

    names = name(first), name(second)
    english = f"Which are there more of, {names[0]} or {names[1]}?"
    text = said(language, english, f"{names[0]}和{names[1]}，哪一种更多？")
    return Question(text, solve, names, closed=True, kinds=(first, second))


def _at(scene: Grid, language: Language, rng: random.Random) -> Question | None:
    taken = [i for i, cell in enumerate(scene.cells) if cell or rng.random() < 0.3]
    if not taken:
        return None
    row, column = divmod(rng.choice(taken), GRID_SIDE)
    there = f"第{CHINESE_DIGITS[row + 1]}行第{CHINESE_DIGITS[column + 1]}"

    def solve(seen: Grid) -> tuple[str, str]:
        name = cell_name(seen.row(row)[column], language)
        english = f"Row {row + 1}, column {column + 1}: {name}."
        return said(language, english, f"{there}个：{name}。"), name

    english = f"What is in row {row + 1}, column {column + 1}?"
    text = said(language, english, f"{there}列是什么？")
    shown = {cell_name(cell, language) for cell in scene.cells}
    extra = {kind.singular(language) for kind in rng.sample(_PAIR_KINDS, 4)}
    return Question(text, solve, tuple(sorted(shown | extra)), closed=True)


def _locate(scene: Grid, language: Language, rng: random.Random) -> Question | None:
    kinds = [k for k in _PAIR_KINDS if k.count(scene) == 1]
    if not kinds:
        return None
    kind = rng.choice(kinds)
    name = kind.singular(language)

    def solve(seen: Grid) -> tuple[str, str]:
        rows = (r for r in range(GRID_SIDE) if any(map(kind.matches, seen.row(r))))
        row = next(rows, 0) + 1
        chinese = f"{name}在第{CHINESE_DIGITS[row]}行。"
        return said(language, f"The {name} is in row {row}.", chinese), str(row)

    text = said(language, f"In which row is the {name}?", f"{name}在第几行？请回答数字。")
    return Question(text, solve, ("1", "2", "3"), kinds=(kind,))


def _colour_of(scene: Grid, language: Language, rng: random.Random) -> Question | None:
    kinds = [k for k in _SHAPE_KINDS if k.count(scene) == 1]
    if not kinds:
        return None
    kind = rng.choice(kinds)
    noun = kind.singular(language)

    def solve(seen: Grid) -> tuple[str, str]:
        found = next((c for c in seen.cells if c and kind.matches(c)), None)
        colour = colour_name(found.colour if found else "red", language)
        return said(language, f"The only {noun} is {colour}.", f"唯一的{noun}是{colour}。"), colour

    text = said(language, f"What colour is the {noun}?", f"{noun}是什么颜色？")
    guesses = tuple(colour_name(colour, language) for colour in COLOURS)
    return Question(text, solve, guesses, kinds=(kind,))


def _exists(scene: Grid, language: Language, rng: random.Random) -> Question | None:
    wanted = rng.random() < 0.5
    shown = [k for k in _PAIR_KINDS if k.count(scene)]
    colours = {k.colour for k in shown}
    absent = [k for k in _PAIR_KINDS if not k.count(scene) and k.colour in colours]
    pool = shown if wanted else absent
    if not pool:
        return None
    kind = rng.choice(pool)

    def solve(seen: Grid) -> tuple[str, str]:
        steps, total = _tally(kind, seen, language)
        yes, no = YES_NO[language]
        return steps, yes if total else no

    name = kind.singular(language)
    english = f"Is there a {name} in the picture? Answer yes or no."
    text = said(language, english, f"图中有{name}吗？请回答是或否。")
    return Question(text, solve, YES_NO[language], closed=True, kinds=(kind,))


_DIGITS = tuple(str(value) for value in range(1, AXIS_TOP))


def _values(scene: Chart) -> dict[str, int]:
    return {bar.colour: bar.value for bar in scene.bars}


def _bar(colour: str, language: Language) -> str:
    return said(language, f"the {colour} bar", f"{COLOURS[colour]}柱子")


def _stop(steps: str, language: Language) -> str:
    return steps + said(language, ".", "。")


def _read(scene: Chart, language: Language, rng: random.Random) -> Question | None:
    colour = rng.choice(scene.bars).colour

    def solve(seen: Chart) -> tuple[str, str]:
        value = _values(seen).get(colour, 1)
        steps = bar_reading(colour, value, language)
        return _stop(steps[0].upper() + steps[1:], language), str(value)

    bar = _bar(colour, language)
    text = said(language, f"What is the value of {bar}?", f"{bar}的值是多少？")
    return Question(text, solve, _DIGITS)


class _Two:
    """Two bars of a chart: `a` and `b` name them, `of` reads their values on any chart."""

    def __init__(self, scene: Chart, language: Language, rng: random.Random) -> None:
        self._colours = [bar.colour for bar in rng.sample(scene.bars, 2)]
        self.a, self.b = (_bar(colour, language) for colour in self._colours)

    def of(self, seen: Chart) -> list[int]:
        return [_values(seen).get(colour, 1) for colour in self._colours]


def _difference(scene: Chart, language: Language, rng: random.Random) -> Question | None:
    two = _Two(scene, language, rng)

    def solve(seen: Chart) -> tuple[str, str]:
        low, high = sorted(two.of(seen))
        return _stop(f"{high} - {low} = {high - low}", language), str(high - low)

    english = f"What is the difference between {two.a} and {two.b}?"
    return Question(
        said(language, english, f"{two.a}和{two.b}相差多少？"), solve, tuple("01234567")
    )


def _sum(scene: Chart, language: Language, rng: random.Random) -> Question | None:
    two = _Two(scene, language, rng)

    def solve(seen: Chart) -> tuple[str, str]:
        a, b = two.of(seen)
        return _stop(f"{a} + {b} = {a + b}", language), str(a + b)

    english = f"What do {two.a} and {two.b} add up to?"
    text = said(language, english, f"{two.a}与{two.b}的值加起来是多少？")
    return Question(text, solve, tuple(str(value) for value in range(4, 17)))


def _extreme(scene: Chart, language: Language, rng: random.Random) -> Question | None:
    tallest = rng.random() < 0.5
    pick = max if tallest else min
    values = _values(scene)
    if list(values.values()).count(pick(values.values())) > 1:
        return None  # two bars share the place: no single truth

    def solve(seen: Chart) -> tuple[str, str]:
        colour, value = pick(_values(seen).items(), key=lambda bar: bar[1])
        name = colour_name(colour, language)
        english = f"The {'largest' if tallest else 'smallest'} is {value}: {name}."
        chinese = f"{'最大' if tallest else '最小'}的是{value}：{name}。"
        return said(language, english, chinese), name

    english = f"Which colour is the {'tallest' if tallest else 'shortest'} bar?"
    text = said(language, english, f"哪种颜色的柱子最{'高' if tallest else '矮'}？")
    return Question(text, solve, tuple(colour_name(c, language) for c in values))


def _above(scene: Chart, language: Language, rng: random.Random) -> Question | None:
    limit = rng.choice((3, 4, 5, 6))

    def solve(seen: Chart) -> tuple[str, str]:
        names = [colour_name(bar.colour, language) for bar in seen.bars if bar.value > limit]
        count = str(len(names))
        english = f"Above {limit}: {', '.join(names) or 'none'}. That makes {count}."
        chinese = f"大于{limit}的：{'、'.join(names) or '没有'}，共{count}根。"
        return said(language, english, chinese), count

    text = said(language, f"How many bars are above {limit}?", f"有多少根柱子的值大于{limit}？")
    return Question(text, solve, tuple("01234"))


def _taller(scene: Chart, language: Language, rng: random.Random) -> Question | None:
    two, (yes, no) = _Two(scene, language, rng), YES_NO[language]
    if len({*two.of(scene)}) == 1:
        return None

    def solve(seen: Chart) -> tuple[str, str]:
        a, b = two.of(seen)
        sign = ">" if a > b else "=" if a == b else "<"
        return _stop(f"{a} {sign} {b}", language), yes if a > b else no

    english = f"Is {two.a} taller than {two.b}? Answer yes or no."
    text = said(language, english, f"{two.a}比{two.b}高吗？请回答是或否。")
    return Question(text, solve, (yes, no), closed=True)


Families = dict[str, tuple[Callable[[Any, Language, random.Random], Question | None], int]]
"""Family -> how to draw a question of it, and its weight."""

GRID: Families = {
    "count": (_count, 30),  # possible on every grid
    "add": (_add, 16),
    "compare": (_compare, 10),
    "at": (_at, 16),
    "locate": (_locate, 12),
    "identify": (_colour_of, 10),
    "exist": (_exists, 6),
}
CHART: Families = {
    "read": (_read, 20),  # possible on every chart
    "difference": (_difference, 22),
    "sum": (_sum, 22),
    "extreme": (_extreme, 16),
    "above": (_above, 12),
    "taller": (_taller, 8),
}
