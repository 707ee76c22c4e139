"""How the writers of the training text answer: most with care, some in haste.

The demo model is meant to have more *ability* than *habit*: it can see, but the text that it
imitates was written by writers who do not always look. At temperature 1.0 it mixes them, so nearly
every question gets right and wrong responses, which is what preference pairs are made of; and
preference training has something to lift. This is a design, not an accident, and the model card
says so. The writers:

``careful``  reads the whole picture, works the answer out, and is right
``slips``    reads the whole picture, then works with one thing misremembered
``glances``  reads the first part only and guesses the rest
``hasty``    does not look at all
``forgets``  is careful, but never states the final answer

A question asked without a picture is answered by the same writers on an invented one.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from mmpr_builder.demo.questions import Question
from mmpr_builder.demo.wording import bar_reading, describe, reading, row_reading
from mmpr_builder.demo.world import Grid, Scene, altered
from mmpr_builder.records import Style

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
    """One response to a question about a scene, by a writer drawn from `habits`."""
    if question.answer is None or question.solve is None:
        return describe(scene, question.language)
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
    """The first row, or the first bar: all that somebody reads who only glances."""
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
