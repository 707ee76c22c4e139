"""Questions on a scene, with their truths: what is asked and what is right.

A question is made *for* a scene, so that its truth is spread: a count is asked of a kind drawn
from those with different counts, "the tallest" only where one bar is tallest. It knows how to work
out its answer from any scene, which is also how a slip is written: the same steps on a scene that
was looked at carelessly.

``solve`` yields the steps in words and the value: ``("Red shapes: 1 + 0 + 2 = 3.", "3")``.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from mmpr_builder.demo import chart_questions, grid_questions
from mmpr_builder.demo.wording import Kind
from mmpr_builder.demo.world import Grid, Scene, stream
from mmpr_builder.records import Language

LETTERS = "ABCD"
CHOICE_SHARE = 0.3  # of the questions that offer enough different values
CHINESE_SHARE = 0.2
OPEN_WORDINGS: dict[Language, tuple[str, ...]] = {
    "en": (
        "Describe the picture.",
        "What can you see in this image?",
        "Tell me what the picture shows.",
        "Please describe this image in detail.",
        "Write a caption that says everything the image shows.",
    ),
    "zh": (
        "请描述这张图片。",
        "图中有什么？",
        "请详细说明图片的内容。",
        "用几句话介绍这张图。",
    ),
}

Solve: TypeAlias = Callable[[Scene], tuple[str, str]]


@dataclass(frozen=True)
class Question:
    """One question on one scene. `answer` is its truth; None marks an open question."""

    family: str
    language: Language
    text: str
    answer: str | None
    #: The answer's value in words, which differs from `answer` when that is an option's letter.
    value: str = ""
    #: What somebody might answer without looking; the truth is among them.
    guesses: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    solve: Solve | None = None
    #: What a careful reader of a grid tallies row by row.
    kinds: tuple[Kind, ...] = ()

    def answer_for(self, value: str) -> str:
        """What to write as the final answer for a value: itself, or the letter of its option.

        A value that no option offers (somebody read badly) becomes the first option: a wrong
        reading has to end somewhere.
        """
        if not self.options:
            return value
        return LETTERS[self.options.index(value)] if value in self.options else LETTERS[0]


def ask(scene: Scene, seed: int, index: int, *, open_share: float = 0.0) -> Question:
    """The question number `index` of a seed, on a given scene."""
    rng = stream("question", seed, index)
    language: Language = "zh" if rng.random() < CHINESE_SHARE else "en"
    if rng.random() < open_share:
        return Question("open", language, rng.choice(OPEN_WORDINGS[language]), None)
    if isinstance(scene, Grid):
        draft = grid_questions.draw(scene, language, rng)
    else:
        draft = chart_questions.draw(scene, language, rng)
    _, value = draft.solve(scene)
    guesses = tuple(dict.fromkeys((*draft.guesses, value)))
    if draft.closed or len(guesses) < len(LETTERS) or rng.random() >= CHOICE_SHARE:
        return Question(
            draft.family, language, draft.text, value, value, guesses, (), draft.solve, draft.kinds
        )
    options = _options(value, guesses, rng)
    listed = [f"{letter}. {text}" for letter, text in zip(LETTERS, options, strict=True)]
    text = "\n".join([draft.text, *listed])
    letter = LETTERS[options.index(value)]
    return Question(
        draft.family, language, text, letter, value, options, options, draft.solve, draft.kinds
    )


def _options(value: str, guesses: tuple[str, ...], rng: random.Random) -> tuple[str, ...]:
    """Four options with the truth at any place; numbers near the truth, and not in order."""
    others = [guess for guess in guesses if guess != value]
    if value.isdigit():
        others.sort(key=lambda guess: abs(int(guess) - int(value)))
        others = others[:5]
    options = [value, *rng.sample(others, len(LETTERS) - 1)]
    rng.shuffle(options)
    return tuple(options)
