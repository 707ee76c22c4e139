"""Scenes of the demo world: what there is to see, before anything is drawn or asked.

Two kinds of scene, small enough to read in one line each::

    Grid   red circle | (empty)   | blue star  /  ...  three rows of three cells
    Chart  red 3, blue 7, green 5              three to five bars, whole values 1-9

A scene follows from (seed, index) alone. A hash of its *content* decides whether it belongs to
training or to evaluation, so a model trained on this world has seen no evaluation scene. Disjoint
seeds could not promise that: there are only some 10^5 charts with three bars.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Split: TypeAlias = Literal["train", "eval"]

#: Name -> Chinese name. The order is part of the data: it fixes what a random draw yields.
COLOURS = {
    "red": "红色",
    "blue": "蓝色",
    "green": "绿色",
    "yellow": "黄色",
    "purple": "紫色",
    "black": "黑色",
}
SHAPES = {
    "circle": "圆形",
    "square": "方块",
    "triangle": "三角",
    "star": "星形",
    "cross": "十字",
}
GRID_SIDE = 3
#: The value axis of a chart runs from 0 to this; bars stop one below it, and none is empty.
AXIS_TOP = 10
EVAL_SHARE = 8  # one content in this many belongs to evaluation


@dataclass(frozen=True)
class Cell:
    """One coloured shape of a grid."""

    colour: str
    shape: str


@dataclass(frozen=True)
class Grid:
    """Nine cells, row by row; None is an empty cell. `look` only moves pixels, not content."""

    cells: tuple[Cell | None, ...]
    look: int = field(default=0, compare=False)

    def row(self, index: int) -> tuple[Cell | None, ...]:
        """The cells of one row, counted from 0."""
        return self.cells[index * GRID_SIDE : (index + 1) * GRID_SIDE]


@dataclass(frozen=True)
class Bar:
    """One bar of a chart: a colour, which names it, and a whole value."""

    colour: str
    value: int


@dataclass(frozen=True)
class Chart:
    """Bars from left to right, no two of one colour. `look` only moves pixels, not content."""

    bars: tuple[Bar, ...]
    look: int = field(default=0, compare=False)


Scene: TypeAlias = Grid | Chart


def stream(*parts: object) -> random.Random:
    """A random stream named by its parts: independent of order, processes and the hash seed."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


def split_of(scene: Scene) -> Split:
    """The split a scene belongs to, by its content alone."""
    digest = hashlib.sha256(repr(_content(scene)).encode()).digest()
    return "eval" if int.from_bytes(digest[:4], "big") % EVAL_SHARE == 0 else "train"


def make_scene(seed: int, index: int, split: Split, *, chart_share: float = 0.4) -> Scene:
    """Scene `index` of a seed: drawn again until its content falls in the split asked for."""
    rng = stream("scene", seed, index)
    draw = random_chart if rng.random() < chart_share else random_grid
    while True:
        scene = draw(rng)
        if split_of(scene) == split:
            return scene


def random_grid(rng: random.Random) -> Grid:
    """A grid of few colours and shapes, so that counting has something to count."""
    colours = rng.sample(list(COLOURS), rng.choice((2, 3, 3, 4)))
    shapes = rng.sample(list(SHAPES), rng.choice((2, 3, 3, 4)))
    empty = rng.choice((0.1, 0.2, 0.35))
    cells = tuple(
        None if rng.random() < empty else Cell(rng.choice(colours), rng.choice(shapes))
        for _ in range(GRID_SIDE * GRID_SIDE)
    )
    return Grid(cells, look=rng.getrandbits(32))


def random_chart(rng: random.Random) -> Chart:
    """A chart of three to five bars with values from 1 to 9."""
    colours = rng.sample(list(COLOURS), rng.choice((3, 4, 5)))
    bars = tuple(Bar(colour, rng.randint(1, AXIS_TOP - 1)) for colour in colours)
    return Chart(bars, look=rng.getrandbits(32))


def _content(scene: Scene) -> tuple[tuple[str, ...], ...]:
    if isinstance(scene, Grid):
        return tuple((c.colour, c.shape) if c else () for c in scene.cells)
    return tuple((bar.colour, str(bar.value)) for bar in scene.bars)
