"""How the writers of the training text answer: most with care, some in haste.

The demo model is meant to have more *ability* than *habit*. It can see, but the text that it
imitates comes from writers that do not always look. At temperature 1.0 it mixes them, so nearly
every question gets right and wrong responses to pair, and preference training has something to
lift. The model card says that this is by design. The writers:

``careful``  reads the whole picture, works the answer out, and is right
``slips``    reads the whole picture, then works with one thing misremembered
``glances``  reads the first part only and guesses the rest
``hasty``    does not look at all
``forgets``  is careful, but never states the final answer

A question asked without a picture is answered by the same writers on an invented one.

A careful reader of a grid writes one line per row, with a tally where the question counts or
looks for something; of a chart one line for all bars::

    Row 1: red circle, empty, blue star → 1.      第一行：红色圆形、空、蓝色星形 → 1。
    Bars: red 3, blue 7, green 5.                 柱子：红色3、蓝色7、绿色5。
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from mmpr_builder.demo.wording import CHINESE_DIGITS, Kind, Question, bar_reading, cell_name
from mmpr_builder.demo.world import AXIS_TOP, GRID_SIDE, Bar, Chart, Grid, Scene
from mmpr_builder.records import Language, Style

#: Shares of the writers. Careful writers stay above half at the first word, so that the model's
#: greedy response is a careful one.
HABITS = {"careful": 0.58, "slips": 0.06, "glances": 0.12, "hasty": 0.22, "forgets": 0.02}

#: The writers of the first lessons: the model learns to reason before it picks up habits.
CAREFUL = {"careful": 1.0}

_HASTY_EN = (
    "At a glance, it is {}.",
    "I would say {}.",
    "It looks like {}.",
    "Probably {}.",
    "My guess is {}.",
)
_HASTY_ZH = ("看起来是{}。", "大概是{}。", "我猜是{}。", "应该是{}。")


def respond(
    question: Question,
    scene: Scene,
    style: Style,
    rng: random.Random,
    habits: Mapping[str, float] = HABITS,
) -> str:
    """One response to a question with a truth, by a writer drawn from `habits`."""
    assert question.solve is not None
    habit = rng.choices(list(habits), list(habits.values()))[0]
    if habit == "hasty":
        body, answer = _guess(question, rng)
    elif habit == "glances":
        guess, answer = _guess(question, rng)
        body = f"{_first_part(scene, question)}{'' if question.language == 'zh' else ' '}{guess}"
    else:
        seen = altered(scene, rng) if habit == "slips" else scene
        steps, value = question.solve(seen)
        answer = question.answer_for(value)
        lines = reading(scene, question.language, question.kinds, seen)
        body = "\n".join([*lines, steps + _option(question, value, answer)])
    if habit == "forgets":
        return body
    return _finish(body, answer, style, question)


def _first_part(scene: Scene, question: Question) -> str:
    """The first row, or the first bar: all that a glance takes in."""
    zh = question.language == "zh"
    if isinstance(scene, Grid):
        return row_reading(scene, 0, question.language)
    bar = bar_reading(scene.bars[0].colour, scene.bars[0].value, question.language)
    return f"柱子：{bar}，其他差不多。" if zh else f"Bars: {bar} and some others."


def _guess(question: Question, rng: random.Random) -> tuple[str, str]:
    """A plausible answer made without looking, in words, and what to write as the final one."""
    value = rng.choice(question.guesses)
    wording = rng.choice(_HASTY_ZH if question.language == "zh" else _HASTY_EN)
    return wording.format(value), question.answer_for(value)


def _option(question: Question, value: str, answer: str) -> str:
    if not question.options:
        return ""
    return f"{value}是{answer}。" if question.language == "zh" else f" {value} is {answer}."


def _finish(body: str, answer: str, style: Style, question: Question) -> str:
    if style == "think_boxed":
        return f"<think>\n{body}\n</think>\n\n\\boxed{{{answer}}}"
    if style == "boxed":
        return f"{body}\n\\boxed{{{answer}}}"
    marker = "最终答案：" if question.language == "zh" else "Final answer: "
    return f"{body}\n{marker}{answer}"


def altered(scene: Scene, rng: random.Random) -> Scene:
    """The scene with one cell or bar changed: what one careless look sees."""
    if isinstance(scene, Grid):
        cells = list(scene.cells)
        where = rng.randrange(len(cells))
        others = [cell for cell in {*cells, None} if cell != cells[where]]
        cells[where] = rng.choice(sorted(others, key=repr)) if others else None
        return Grid(tuple(cells), look=scene.look)
    bars = list(scene.bars)
    where = rng.randrange(len(bars))
    step = rng.choice((-2, -1, 1, 2))
    value = min(max(bars[where].value + step, 1), AXIS_TOP - 1)
    bars[where] = Bar(bars[where].colour, value)
    return Chart(tuple(bars), look=scene.look)


def reading(
    scene: Scene, language: Language, kinds: tuple[Kind, ...] = (), seen: Scene | None = None
) -> list[str]:
    """The scene read aloud: a line per row of a grid, one line for a chart.

    With `kinds`, each row ends in a tally of them. `seen` is the scene that is counted, where it
    differs from the one that is read.
    """
    if isinstance(scene, Grid):
        counted = seen if isinstance(seen, Grid) else scene
        tallies = [
            ", ".join(str(sum(map(kind.matches, counted.row(row)))) for kind in kinds)
            for row in range(GRID_SIDE)
        ]
        return [row_reading(scene, row, language, tallies[row]) for row in range(GRID_SIDE)]
    parts = [bar_reading(bar.colour, bar.value, language) for bar in scene.bars]
    if language == "zh":
        return [f"柱子：{'、'.join(parts)}。"]
    return [f"Bars: {', '.join(parts)}."]


def row_reading(grid: Grid, row: int, language: Language, tally: str = "") -> str:
    """One row of a grid, counted from 0, read aloud, with what was counted in it."""
    names = [cell_name(cell, language) for cell in grid.row(row)]
    note = f" → {tally}" if tally else ""
    if language == "zh":
        return f"第{CHINESE_DIGITS[row + 1]}行：{'、'.join(names)}{note}。"
    return f"Row {row + 1}: {', '.join(names)}{note}."
