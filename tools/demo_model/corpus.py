"""Training rows: scenes rendered and reduced once, questions on them drawn without end.

A row is a prompt made with the project's own templates, a response by one of the writers of
`responses`, and the picture. Row `index` of a seed is always the same row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from mmpr_builder.config import shipped_folder
from mmpr_builder.demo import drawing
from mmpr_builder.demo.questions import ask
from mmpr_builder.demo.wording import Question
from mmpr_builder.demo.world import (
    COLOURS,
    GRID_SIDE,
    SHAPES,
    Grid,
    Scene,
    make_scene,
    random_chart,
    random_grid,
    stream,
)
from mmpr_builder.records import Language, Style
from tools.demo_model.descriptions import describe, describe_from_habit
from tools.demo_model.network import IMAGE_TOKENS, PATCHES
from tools.demo_model.responses import CAREFUL, HABITS, respond
from tools.demo_model.tokens import TURN_END, chat_text, image_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OPEN_SHARE = 0.12
STYLES: dict[Style, float] = {"final_answer": 0.75, "boxed": 0.125, "think_boxed": 0.125}
#: Shares of rows without a picture. The model has to go on fluently when it is not shown one:
#: that is what DropoutNTP asks of it, and of descriptions above all.
BLIND_SHARE = 0.05
BLIND_OPEN_SHARE = 0.3
IGNORE = -100  # a probe target that does not apply


@dataclass(frozen=True)
class Row:
    """One training example in text. `scene` is an index into the pool; None is no picture."""

    prompt: str
    response: str
    scene: int | None


@lru_cache(maxsize=32)
def template(style: Style, language: Language) -> str:
    """The body of one of the project's templates, below its front matter."""
    path = shipped_folder("prompts") / f"{style}_{language}.txt"
    text = path.read_text(encoding="utf-8")
    return text.split("---\n", 2)[2].rstrip("\n")


def render(question: Question, style: Style, language: Language | None = None) -> str:
    """The prompt of a question, as the build would render it."""
    body = template(style, language or question.language)
    return body.replace("{question}", question.text)


def make_row(
    scenes: list[Scene],
    seed: int,
    index: int,
    *,
    habits: bool = True,
    open_share: float = OPEN_SHARE,
) -> Row:
    """Training row `index` of a seed, on a scene of the pool.

    Without `habits` only careful writers respond, and only to pictures that they were shown.
    """
    rng = stream("row", seed, index)
    number = rng.randrange(len(scenes))
    scene = scenes[number]
    question = ask(scene, seed, index, open_share=open_share)
    blind = habits and rng.random() < (
        BLIND_OPEN_SHARE if question.family == "open" else BLIND_SHARE
    )
    if question.family == "open":
        style: Style = "open"
    else:
        style = rng.choices(list(STYLES), list(STYLES.values()))[0]
    # A Chinese question may come in the English template: a recipe may name just one.
    language: Language = "en" if rng.random() < 0.1 else question.language
    prompt = render(question, style, language)
    if blind:
        scene, image = (random_grid if isinstance(scene, Grid) else random_chart)(rng), ""
    else:
        image = image_text(IMAGE_TOKENS) + ("\n" if rng.random() < 0.5 else "")
    if question.family != "open":
        response = respond(question, scene, style, rng, HABITS if habits else CAREFUL)
    elif habits:
        response = describe_from_habit(scene, question.language, rng, blind=blind)
    else:
        response = describe(scene, question.language)
    prompt = chat_text(prompt, image=image)
    return Row(prompt, response + TURN_END, None if blind else number)


def make_scenes(seed: int, count: int) -> list[Scene]:
    """The pool of training scenes."""
    return [make_scene(seed, index, "train") for index in range(count)]


def see(scene: Scene) -> NDArray[np.uint8]:
    """A scene as the model will see it: drawn, reduced by the real image processor, (3, 96, 96).

    Normalising is undone, to keep the pool in bytes; `pixels / 127.5 - 1` does it again exactly.
    """
    import numpy as np

    pixels = _image_processor()(drawing.draw(scene), return_tensors="np")["pixel_values"][0, 0]
    seen: NDArray[np.uint8] = np.round((pixels + 1) * 127.5).astype(np.uint8)
    return seen


@lru_cache(maxsize=1)
def _image_processor():  # type: ignore[no-untyped-def]  # transformers' class is untyped
    from transformers.models.idefics3.image_processing_pil_idefics3 import (
        Idefics3ImageProcessorPil,
    )

    from tools.demo_model.network import image_settings

    return Idefics3ImageProcessorPil(**image_settings())


def patch_targets(scene: Scene) -> list[tuple[int, int, int]]:
    """What lies under each of the 36 patches, as classes of (colour, shape, value).

    Dense targets teach the vision tower in minutes what the text's loss would take hours for: every
    patch has to know the cell it is part of, or the bar whose room it lies in. 0 is "nothing".
    """
    colours, shapes = list(COLOURS), list(SHAPES)
    targets = []
    for patch in range(PATCHES**2):
        row, column = divmod(patch, PATCHES)
        if isinstance(scene, Grid):
            side = PATCHES // GRID_SIDE
            cell = scene.cells[row // side * GRID_SIDE + column // side]
            colour = colours.index(cell.colour) + 1 if cell else 0
            shape = shapes.index(cell.shape) + 1 if cell else 0
            targets.append((colour, shape, IGNORE))
        else:
            middle = (column + 0.5) * drawing.SIDE / PATCHES
            rooms = [drawing.bar_span(i, len(scene.bars)) for i in range(len(scene.bars))]
            bar = scene.bars[max(i for i, room in enumerate(rooms) if i == 0 or room[0] <= middle)]
            targets.append((colours.index(bar.colour) + 1, IGNORE, bar.value))
    return targets
