"""Questions on a bar chart: read, difference, sum, extreme, above, taller."""

from __future__ import annotations

import random
from collections.abc import Callable

from mmpr_builder.demo.wording import YES_NO, Draft, bar_reading, colour_name, said
from mmpr_builder.demo.world import AXIS_TOP, COLOURS, Chart, Scene
from mmpr_builder.records import Language

_DIGITS = tuple(str(value) for value in range(1, AXIS_TOP))


def _values(scene: Scene) -> dict[str, int]:
    if not isinstance(scene, Chart):
        raise TypeError(f"a question on a chart was asked of a {type(scene).__name__}")
    return {bar.colour: bar.value for bar in scene.bars}


def _bar(colour: str, language: Language) -> str:
    return said(language, f"the {colour} bar", f"{COLOURS[colour]}柱子")


def _stop(steps: str, language: Language) -> str:
    return steps + said(language, ".", "。")


def _read(scene: Chart, language: Language, rng: random.Random) -> Draft | None:
    colour = rng.choice(scene.bars).colour

    def solve(seen: Scene) -> tuple[str, str]:
        value = _values(seen).get(colour, 1)
        steps = bar_reading(colour, value, language)
        return _stop(steps[0].upper() + steps[1:], language), str(value)

    bar = _bar(colour, language)
    text = said(language, f"What is the value of {bar}?", f"{bar}的值是多少？")
    return Draft("read", text, solve, _DIGITS)


def _difference(scene: Chart, language: Language, rng: random.Random) -> Draft | None:
    first, second = (bar.colour for bar in rng.sample(scene.bars, 2))

    def solve(seen: Scene) -> tuple[str, str]:
        values = _values(seen)
        low, high = sorted((values.get(first, 1), values.get(second, 1)))
        return _stop(f"{high} - {low} = {high - low}", language), str(high - low)

    a, b = _bar(first, language), _bar(second, language)
    text = said(language, f"What is the difference between {a} and {b}?", f"{a}和{b}相差多少？")
    return Draft("difference", text, solve, tuple("01234567"))


def _sum(scene: Chart, language: Language, rng: random.Random) -> Draft | None:
    first, second = (bar.colour for bar in rng.sample(scene.bars, 2))

    def solve(seen: Scene) -> tuple[str, str]:
        values = _values(seen)
        a, b = values.get(first, 1), values.get(second, 1)
        return _stop(f"{a} + {b} = {a + b}", language), str(a + b)

    a, b = _bar(first, language), _bar(second, language)
    text = said(language, f"What do {a} and {b} add up to?", f"{a}与{b}的值加起来是多少？")
    return Draft("sum", text, solve, tuple(str(value) for value in range(4, 17)))


def _extreme(scene: Chart, language: Language, rng: random.Random) -> Draft | None:
    tallest = rng.random() < 0.5
    pick = max if tallest else min
    values = _values(scene)
    if list(values.values()).count(pick(values.values())) > 1:
        return None  # two bars share the place: no single truth

    def solve(seen: Scene) -> tuple[str, str]:
        seen_values = _values(seen)
        colour = pick(seen_values, key=lambda name: seen_values[name])
        name, value = colour_name(colour, language), seen_values[colour]
        english = f"The {'largest' if tallest else 'smallest'} is {value}: {name}."
        chinese = f"{'最大' if tallest else '最小'}的是{value}：{name}。"
        return said(language, english, chinese), name

    english = f"Which colour is the {'tallest' if tallest else 'shortest'} bar?"
    text = said(language, english, f"哪种颜色的柱子最{'高' if tallest else '矮'}？")
    return Draft("extreme", text, solve, tuple(colour_name(c, language) for c in values))


def _above(scene: Chart, language: Language, rng: random.Random) -> Draft | None:
    limit = rng.choice((3, 4, 5, 6))

    def solve(seen: Scene) -> tuple[str, str]:
        names = [colour_name(c, language) for c, v in _values(seen).items() if v > limit]
        count = str(len(names))
        english = f"Above {limit}: {', '.join(names) or 'none'}. That makes {count}."
        chinese = f"大于{limit}的：{'、'.join(names) or '没有'}，共{count}根。"
        return said(language, english, chinese), count

    text = said(language, f"How many bars are above {limit}?", f"有多少根柱子的值大于{limit}？")
    return Draft("above", text, solve, ("0", "1", "2", "3", "4"))


def _taller(scene: Chart, language: Language, rng: random.Random) -> Draft | None:
    first, second = (bar.colour for bar in rng.sample(scene.bars, 2))
    if _values(scene)[first] == _values(scene)[second]:
        return None

    def solve(seen: Scene) -> tuple[str, str]:
        values = _values(seen)
        a, b = values.get(first, 1), values.get(second, 1)
        sign = ">" if a > b else "=" if a == b else "<"
        yes, no = YES_NO[language]
        return _stop(f"{a} {sign} {b}", language), yes if a > b else no

    a, b = _bar(first, language), _bar(second, language)
    text = said(
        language, f"Is {a} taller than {b}? Answer yes or no.", f"{a}比{b}高吗？请回答是或否。"
    )
    return Draft("taller", text, solve, YES_NO[language], closed=True)


_Draw = Callable[[Chart, Language, random.Random], Draft | None]
#: Family -> how to draw a question of it, and its weight.
FAMILIES: dict[str, tuple[_Draw, int]] = {
    "read": (_read, 20),  # possible on every chart
    "difference": (_difference, 22),
    "sum": (_sum, 22),
    "extreme": (_extreme, 16),
    "above": (_above, 12),
    "taller": (_taller, 8),
}
