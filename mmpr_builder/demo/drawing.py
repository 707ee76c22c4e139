"""Draw a scene as a picture that a person likes to look at.

Everything is drawn four times too large and reduced, which smooths edges. What repeats is drawn
once per process: the trainer needs tens of thousands of pictures.
"""

from __future__ import annotations

import math
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from mmpr_builder.demo.world import AXIS_TOP, GRID_SIDE, Chart, Grid, Scene, stream

SIDE = 480  # pixels; a multiple of the model's 6 x 6 patches, so that a cell is 2 x 2 of them
CELL = SIDE // GRID_SIDE
OVERSAMPLE = 4

PAPER = (250, 249, 246)
INK = (86, 90, 102)
RULE = (218, 216, 210)
PAINT = {
    "red": (226, 62, 68),
    "blue": (46, 116, 234),
    "green": (42, 160, 92),
    "yellow": (246, 196, 36),
    "purple": (146, 78, 204),
    "black": (44, 44, 52),
}

#: The plot of a chart inside its picture: left, top, right, bottom, in pixels.
PLOT = (56, 28, 460, 436)


def draw(scene: Scene) -> Image.Image:
    """The picture of a scene: RGB, `SIDE` pixels square."""
    return _draw_grid(scene) if isinstance(scene, Grid) else _draw_chart(scene)


def bar_span(position: int, count: int) -> tuple[float, float]:
    """Left and right edge, in pixels, of the room that one of `count` bars has in the plot."""
    width = (PLOT[2] - PLOT[0]) / count
    return PLOT[0] + position * width, PLOT[0] + (position + 1) * width


def _draw_grid(scene: Grid) -> Image.Image:
    picture = _grid_paper().copy()
    rng = stream("look", scene.look)
    for index, cell in enumerate(scene.cells):
        size = rng.choice((100, 108, 116))
        shift = rng.randint(-5, 5), rng.randint(-5, 5)
        if cell is None:
            continue
        sprite = _shape(cell.shape, cell.colour, size)
        row, column = divmod(index, GRID_SIDE)
        x, y = (at * CELL + (CELL - size) // 2 for at in (column, row))
        picture.paste(sprite, (x + shift[0], y + shift[1]), sprite)
    return picture


def _draw_chart(scene: Chart) -> Image.Image:
    picture = _chart_paper().copy()
    fill = stream("look", scene.look).choice((0.6, 0.66, 0.72))
    for position, bar in enumerate(scene.bars):
        left, right = bar_span(position, len(scene.bars))
        width = round((right - left) * fill)
        height = PLOT[3] - _level(bar.value)
        sprite = _bar(bar.colour, width, height)
        picture.paste(sprite, (round((left + right - width) / 2), _level(bar.value)), sprite)
    return picture


def _level(value: int) -> int:
    """The y of a value on the axis, in pixels from the top."""
    return round(PLOT[3] - (PLOT[3] - PLOT[1]) * value / AXIS_TOP)


@lru_cache(maxsize=1)
def _grid_paper() -> Image.Image:
    picture = Image.new("RGB", (SIDE * OVERSAMPLE, SIDE * OVERSAMPLE), PAPER)
    pen = ImageDraw.Draw(picture)
    edge, line = 8 * OVERSAMPLE, 2 * OVERSAMPLE
    for row in range(GRID_SIDE):
        for column in range(GRID_SIDE):
            box = [CELL * OVERSAMPLE * i for i in (column, row, column + 1, row + 1)]
            inner = [box[0] + edge, box[1] + edge, box[2] - edge, box[3] - edge]
            pen.rounded_rectangle(inner, 14 * OVERSAMPLE, fill="white", outline=RULE, width=line)
    return picture.reduce(OVERSAMPLE)


@lru_cache(maxsize=1)
def _chart_paper() -> Image.Image:
    picture = Image.new("RGB", (SIDE, SIDE), PAPER)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(18)
    for value in range(AXIS_TOP + 1):
        y = _level(value)
        pen.line((PLOT[0], y, PLOT[2], y), fill=INK if value == 0 else RULE, width=2)
        pen.text((PLOT[0] - 12, y), str(value), fill=INK, font=font, anchor="rm")
    return picture


@lru_cache(maxsize=1024)
def _bar(colour: str, width: int, height: int) -> Image.Image:
    size = width * OVERSAMPLE, height * OVERSAMPLE
    mask = Image.new("L", size, 0)
    box, top = (0, 0, size[0] - 1, size[1] - 1), (True, True, False, False)
    ImageDraw.Draw(mask).rounded_rectangle(box, 7 * OVERSAMPLE, fill=255, corners=top)
    return _painted(mask, colour)


@lru_cache(maxsize=1024)
def _shape(shape: str, colour: str, size: int) -> Image.Image:
    mask = Image.new("L", (size * OVERSAMPLE, size * OVERSAMPLE), 0)
    pen = ImageDraw.Draw(mask)
    side = size * OVERSAMPLE - 1
    if shape == "circle":
        pen.ellipse((side * 0.03, side * 0.03, side * 0.97, side * 0.97), fill=255)
    elif shape == "square":
        box = (side * 0.08, side * 0.08, side * 0.92, side * 0.92)
        pen.rounded_rectangle(box, side * 0.05, fill=255)
    else:
        pen.polygon([(x * side, y * side) for x, y in _outline(shape)], fill=255)
    return _painted(mask, colour)


def _outline(shape: str) -> list[tuple[float, float]]:
    """Corners in the unit square."""
    if shape == "triangle":
        return [(0.5, 0.04), (0.98, 0.92), (0.02, 0.92)]
    if shape == "cross":
        near, far = 0.34, 0.66
        return [
            (near, 0.04), (far, 0.04), (far, near), (0.96, near), (0.96, far), (far, far),
            (far, 0.96), (near, 0.96), (near, far), (0.04, far), (0.04, near), (near, near),
        ]  # fmt: skip
    radii = (0.53, 0.22)  # A star.
    turns = [(radii[i % 2], math.pi * (i / 5 - 0.5)) for i in range(10)]
    return [(0.5 + r * math.cos(a), 0.54 + r * math.sin(a)) for r, a in turns]


def _painted(mask: Image.Image, colour: str) -> Image.Image:
    mask = mask.reduce(OVERSAMPLE)
    sprite = Image.new("RGBA", mask.size, PAINT[colour])
    sprite.putalpha(mask)
    return sprite
