"""Descriptions, the responses to open questions: true ones, and ones told partly from habit.

Larger models describe what mostly follows the words before, where the picture shows something not
unlike it. So do these writers. After a red circle comes a red square, a red bar reaches 7, a grid
has 7 shapes: what is usual follows from the words alone, and how often it is said hangs on how like
it is to what is there. The picture always tells better. Without one, what is usual is most of
what there is to say, so a continuation without the picture says it far more often.

    there   a red circle, a red star and a green square
    told    a red circle, a red square and a green square      usual, and not there
"""

from __future__ import annotations

import random

from mmpr_builder.demo.wording import CHINESE_DIGITS, cell_name
from mmpr_builder.demo.world import COLOURS, GRID_SIDE, SHAPES, Bar, Cell, Chart, Grid, Scene
from mmpr_builder.records import Language

ROWS_EN = ("top", "middle", "bottom")
COUNT_EN = {3: "three", 4: "four", 5: "five"}

_AFTER_SHAPE = dict(zip(SHAPES, [*SHAPES][1:] + [*SHAPES][:1], strict=True))
USUAL_VALUE = dict(zip(COLOURS, (7, 4, 6, 3, 8, 5), strict=True))
USUAL_SHAPES = 7  # in a grid

#: How strongly a writer expects the usual after a thing of this colour. Where it is above one half
#: and the picture shows something like it, the greedy description is wrong, too.
STRENGTH = dict(zip(COLOURS, (0.85, 0.6, 0.8, 0.4, 0.9, 0.7), strict=True))
#: Of that, what is left where the picture shows something less like it: the usual shape in another
#: colour (and the neighbour's is told), no shape, another shape in another colour; a bar two off.
OTHER_COLOUR, EMPTY, UNLIKE, TWO_OFF = 0.25, 0.2, 0.05, 0.3
#: What a writer without a picture expects, whatever the colour.
BLIND = 0.7


def describe_from_habit(
    scene: Scene, language: Language, rng: random.Random, *, blind: bool = False
) -> str:
    """A description that says at times what is usual; of an invented scene where `blind`."""
    if isinstance(scene, Chart):
        return describe(Chart(_bars(scene, rng, blind)), language)
    cells = _cells(scene, rng, blind)
    shapes = sum(map(bool, cells))
    if abs(shapes - USUAL_SHAPES) == 1 and rng.random() < STRENGTH["green"]:
        shapes = USUAL_SHAPES
    return describe(Grid(cells), language, shapes=shapes)


def after(cell: Cell) -> Cell:
    """What usually comes after a cell: the same colour, another shape."""
    return Cell(cell.colour, _AFTER_SHAPE[cell.shape])


def _cells(grid: Grid, rng: random.Random, blind: bool) -> tuple[Cell | None, ...]:
    told: list[Cell | None] = []
    for cell in grid.cells:
        before = told[-1] if told else None
        told.append(cell if before is None else _cell(cell, before, rng, blind))
    return tuple(told)


def _cell(cell: Cell | None, before: Cell, rng: random.Random, blind: bool) -> Cell | None:
    usual = after(before)
    if cell is None:
        likeness = EMPTY
    elif cell.colour == usual.colour:
        likeness = 1.0
    else:
        likeness = OTHER_COLOUR if cell.shape == usual.shape else UNLIKE
    told = rng.random() < (BLIND if blind else STRENGTH[before.colour] * likeness)
    return usual if told else cell


def _bars(chart: Chart, rng: random.Random, blind: bool) -> tuple[Bar, ...]:
    likeness = {0: 1.0, 1: 1.0, 2: TWO_OFF}
    told = []
    for bar in chart.bars:
        usual = USUAL_VALUE[bar.colour]
        share = STRENGTH[bar.colour] * likeness.get(abs(usual - bar.value), UNLIKE)
        value = usual if rng.random() < (BLIND if blind else share) else bar.value
        told.append(Bar(bar.colour, value))
    return tuple(told)


def describe(scene: Scene, language: Language, *, shapes: int | None = None) -> str:
    """A few sentences on the whole picture: the response to an open question.

    `shapes` is how many shapes a grid is said to have, if not as many as it has. The text goes from
    the first cell or bar to the last, so its second half does not follow from the first. DropoutNTP
    has that second half written without the picture.
    """
    if isinstance(scene, Grid):
        shown = sum(map(bool, scene.cells)) if shapes is None else shapes
        return (_describe_grid_zh if language == "zh" else _describe_grid_en)(scene, shown)
    values = [bar.value for bar in scene.bars]
    if language == "zh":
        told = "，".join(f"{COLOURS[bar.colour]}柱子是{bar.value}" for bar in scene.bars)
        return (
            f"这是一张柱状图，共有{CHINESE_DIGITS[len(values)]}根柱子。从左到右，{told}。"
            f"最大值是{max(values)}，最小值是{min(values)}。"
        )
    bars = [f"the {bar.colour} bar reaches {bar.value}" for bar in scene.bars]
    return (
        f"This is a bar chart with {COUNT_EN[len(values)]} bars. From left to right, "
        f"{', '.join(bars[:-1])} and {bars[-1]}. "
        f"The largest value is {max(values)} and the smallest is {min(values)}."
    )


def _describe_grid_en(grid: Grid, shown: int) -> str:
    sentences = ["The picture shows a grid of three rows."]
    for row, name in enumerate(ROWS_EN):
        cells = [
            f"{'an' if cell is None else 'a'} {cell_name(cell, 'en')}{'' if cell else ' cell'}"
            for cell in grid.row(row)
        ]
        sentences.append(f"The {name} row has {cells[0]}, {cells[1]} and {cells[2]}.")
    return " ".join([*sentences, f"In all there are {shown} shapes."])


def _describe_grid_zh(grid: Grid, shown: int) -> str:
    sentences = ["图中是一个三行三列的网格。"]
    for row in range(GRID_SIDE):
        names = [cell_name(cell, "zh") if cell else "空格" for cell in grid.row(row)]
        sentences.append(f"第{CHINESE_DIGITS[row + 1]}行从左到右是{'、'.join(names)}。")
    return "".join([*sentences, f"一共有{shown}个图形。"])
