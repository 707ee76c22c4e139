"""Questions on a scene, with their truths: what is asked and what is right.

A question is made *for* a scene, so that its truths are spread: "the tallest" is asked only where
one bar is tallest. It can be solved on any scene, which lets the trainer write a slip: the same
steps on a slightly other scene.

``solve`` returns the steps in words and the value: ``("Red shapes: 1 + 0 + 2 = 3.", "3")``.
"""

from __future__ import annotations

import random
from dataclasses import replace

from mmpr_builder.demo.families import CHART, GRID
from mmpr_builder.demo.wording import LETTERS, Question
from mmpr_builder.demo.world import Grid, Scene, stream
from mmpr_builder.records import Language

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


def ask(scene: Scene, seed: int, index: int, *, open_share: float = 0.0) -> Question:
    """The question number `index` of a seed, on a given scene."""
    rng = stream("question", seed, index)
    language: Language = "zh" if rng.random() < CHINESE_SHARE else "en"
    if rng.random() < open_share:
        return Question(rng.choice(OPEN_WORDINGS[language]), language=language)
    families = GRID if isinstance(scene, Grid) else CHART
    weights = [weight for _, weight in families.values()]
    draft = None
    while draft is None:  # Where the scene offers none of a family, another one is drawn.
        family = rng.choices(list(families), weights)[0]
        draft = families[family][0](scene, language, rng)
    assert draft.solve is not None
    _, value = draft.solve(scene)
    guesses = tuple(dict.fromkeys((*draft.guesses, value)))
    draft = replace(draft, family=family, language=language, value=value, guesses=guesses)
    if draft.closed or len(guesses) < len(LETTERS) or rng.random() >= CHOICE_SHARE:
        return replace(draft, answer=value)
    options = _options(value, guesses, rng)
    listed = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True)]
    text, answer = "\n".join([draft.text, *listed]), LETTERS[options.index(value)]
    return replace(draft, text=text, answer=answer, guesses=options, options=options)


def _options(value: str, guesses: tuple[str, ...], rng: random.Random) -> tuple[str, ...]:
    """Four options with the truth at any place; numbers near the truth, and not in order."""
    others = [guess for guess in guesses if guess != value]
    if value.isdigit():
        others.sort(key=lambda guess: abs(int(guess) - int(value)))
        others = others[:5]
    options = [value, *rng.sample(others, len(LETTERS) - 1)]
    rng.shuffle(options)
    return tuple(options)
