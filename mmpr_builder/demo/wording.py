"""The words for what a scene holds, in English and Chinese, and its reading aloud.

A careful reader of a grid writes one line per row, with a tally of what is asked for, if something
is to be counted or found; of a chart one line for all bars::

    Row 1: red circle, empty, blue star → 1.      第一行：红色圆形、空、蓝色星形 → 1。
    Bars: red 3, blue 7, green 5.                 柱子：红色3、蓝色7、绿色5。
"""

from __future__ import annotations

from dataclasses import dataclass

from mmpr_builder.demo.world import COLOURS, GRID_SIDE, SHAPES, Cell, Grid, Scene
from mmpr_builder.records import Language

CHINESE_DIGITS = "零一二三四五六七八九"
ROWS_EN = ("top", "middle", "bottom")
COUNT_EN = {3: "three", 4: "four", 5: "five"}
PLURALS = {
    "circle": "circles",
    "square": "squares",
    "triangle": "triangles",
    "star": "stars",
    "cross": "crosses",
}


@dataclass(frozen=True)
class Kind:
    """What is being counted or sought: a colour, a shape, or both (never neither)."""

    colour: str | None = None
    shape: str | None = None

    def matches(self, cell: Cell | None) -> bool:
        """Whether a cell is of this kind; an empty one never is."""
        return (
            cell is not None
            and self.colour in (None, cell.colour)
            and self.shape in (None, cell.shape)
        )

    def count(self, grid: Grid) -> int:
        """How many cells of the grid are of this kind."""
        return sum(map(self.matches, grid.cells))

    def plural(self, language: Language) -> str:
        """As a question names it: `red shapes`, `stars`, `red stars`; 红色图形, 星形, 红色星形."""
        if language == "zh":
            return COLOURS.get(self.colour or "", "") + SHAPES.get(self.shape or "", "图形")
        noun = PLURALS[self.shape] if self.shape else "shapes"
        return f"{self.colour} {noun}" if self.colour else noun

    def singular(self, language: Language) -> str:
        """`red star`, 红色星形; a colour alone gives `red shape`."""
        if language == "zh":
            return self.plural(language)
        return f"{self.colour or ''} {self.shape or 'shape'}".strip()


def colour_name(colour: str, language: Language) -> str:
    """A colour in the language: red, 红色."""
    return COLOURS[colour] if language == "zh" else colour


def cell_name(cell: Cell | None, language: Language) -> str:
    """`red circle`, 红色圆形; an empty cell is `empty`, 空."""
    if cell is None:
        return "空" if language == "zh" else "empty"
    return Kind(cell.colour, cell.shape).singular(language)


def reading(
    scene: Scene, language: Language, kinds: tuple[Kind, ...] = (), seen: Scene | None = None
) -> list[str]:
    """The scene read aloud: a line per row of a grid, one line for a chart.

    With `kinds`, each row ends in a tally of them. `seen` is the scene that the tallies are taken
    from, where somebody counts something else than they read.
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


def bar_reading(colour: str, value: int, language: Language) -> str:
    """One bar read aloud: `red 3`, 红色3."""
    return f"{COLOURS[colour]}{value}" if language == "zh" else f"{colour} {value}"


def describe(scene: Scene, language: Language) -> str:
    """A few sentences on the whole picture: the response to an open question.

    The picture is told from its first cell or bar to its last, so that the second half of the text
    cannot be known from the first half alone: that half is what DropoutNTP has written blind.
    """
    if isinstance(scene, Grid):
        return _describe_grid_zh(scene) if language == "zh" else _describe_grid_en(scene)
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


def _describe_grid_en(grid: Grid) -> str:
    sentences = ["The picture shows a grid of three rows."]
    for row, name in enumerate(ROWS_EN):
        cells = [
            f"{'an' if cell is None else 'a'} {cell_name(cell, 'en')}{'' if cell else ' cell'}"
            for cell in grid.row(row)
        ]
        sentences.append(f"The {name} row has {cells[0]}, {cells[1]} and {cells[2]}.")
    shown = sum(cell is not None for cell in grid.cells)
    return " ".join([*sentences, f"In all there are {shown} shapes."])


def _describe_grid_zh(grid: Grid) -> str:
    sentences = ["图中是一个三行三列的网格。"]
    for row in range(GRID_SIDE):
        names = [cell_name(cell, "zh") if cell else "空格" for cell in grid.row(row)]
        sentences.append(f"第{CHINESE_DIGITS[row + 1]}行从左到右是{'、'.join(names)}。")
    shown = sum(cell is not None for cell in grid.cells)
    return "".join([*sentences, f"一共有{shown}个图形。"])
