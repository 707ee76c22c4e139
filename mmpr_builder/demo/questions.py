"""Questions on a scene, with their truths: what is asked and what is right.

A question is made *for* a scene, so that its truths are spread: "the tallest" is asked only where
one bar is tallest. It can be solved on any scene, which lets the trainer write a slip: the same
steps on a slightly other scene.

``solve`` returns the steps in words and the value: ``("Red shapes: 1 + 0 + 2 = 3.", "3")``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mmpr_builder.demo import chart_questions, grid_questions
from mmpr_builder.demo.wording import Draft, Kind
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


@dataclass(frozen=True)
class Question:
    """One question on one scene. `answer` is its truth; None marks an open question."""

    family: str
    language: Language
    text: str
    answer: str | None
    #: The answer's value in words, which differs from `answer` when that is an option's letter.
    value: str = ""
    #: What a blind guess might be; the truth is among them.
    guesses: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    solve: Callable[[Scene], tuple[str, str]] | None = None
    #: What a careful reader of a grid tallies row by row.
    kinds: tuple[Kind, ...] = ()

    def answer_for(self, value: str) -> str:
        """What to write as the final answer for a value: itself, or the letter of its option.

        A value that no option offers comes from a wrong reading and becomes the first option.
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
    draft = _draw(scene, language, rng)
    _, value = draft.solve(scene)
    guesses = tuple(dict.fromkeys((*draft.guesses, value)))
    text, answer = draft.text, value
    options: tuple[str, ...] = ()
    if not draft.closed and len(guesses) >= len(LETTERS) and rng.random() < CHOICE_SHARE:
        guesses = options = _options(value, guesses, rng)
        listed = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True)]
        text, answer = "\n".join([text, *listed]), LETTERS[options.index(value)]
    return Question(
        draft.family, language, text, answer, value, guesses, options, draft.solve, draft.kinds
    )


def _draw(scene: Scene, language: Language, rng: random.Random) -> Draft:
    """A question of a family drawn by weight, drawn again where the scene offers none of it."""
    families: Mapping[str, tuple[Callable[..., Draft | None], int]] = (
        grid_questions.FAMILIES if isinstance(scene, Grid) else chart_questions.FAMILIES
    )
    weights = [weight for _, weight in families.values()]
    while True:
        draw, _ = families[rng.choices(list(families), weights)[0]]
        draft = draw(scene, language, rng)
        if draft is not None:
            return draft


def _options(value: str, guesses: tuple[str, ...], rng: random.Random) -> tuple[str, ...]:
    """Four options with the truth at any place; numbers near the truth, and not in order."""
    others = [guess for guess in guesses if guess != value]
    if value.isdigit():
        others.sort(key=lambda guess: abs(int(guess) - int(value)))
        others = others[:5]
    options = [value, *rng.sample(others, len(LETTERS) - 1)]
    rng.shuffle(options)
    return tuple(options)
