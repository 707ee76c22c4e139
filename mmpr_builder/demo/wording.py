"""The words for what a scene holds, in English and Chinese, and for what is asked of it.

::

    Kind("red")            red shapes      红色图形
    Kind("red", "star")    red stars       红色星形
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mmpr_builder.demo.world import COLOURS, SHAPES, Cell, Grid, Scene
from mmpr_builder.records import Language

YES_NO: dict[Language, tuple[str, str]] = {"en": ("yes", "no"), "zh": ("是", "否")}
CHINESE_DIGITS = "零一二三四五六七八九"
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
        return cell is not None and (
            self.colour in (None, cell.colour) and self.shape in (None, cell.shape)
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


@dataclass(frozen=True)
class Draft:
    """A question's text, how to work it out on any scene, and what a guess might be.

    A `closed` question names its own possible answers and is never given options.
    """

    family: str
    text: str
    solve: Callable[[Scene], tuple[str, str]]
    guesses: tuple[str, ...]
    closed: bool = False
    #: What a careful reader of a grid tallies row by row.
    kinds: tuple[Kind, ...] = ()


def said(language: Language, english: str, chinese: str) -> str:
    """The one of two texts that is in this language."""
    return chinese if language == "zh" else english


def colour_name(colour: str, language: Language) -> str:
    """A colour in the language: red, 红色."""
    return said(language, colour, COLOURS[colour])


def cell_name(cell: Cell | None, language: Language) -> str:
    """`red circle`, 红色圆形; an empty cell is `empty`, 空."""
    if cell is None:
        return said(language, "empty", "空")
    return Kind(cell.colour, cell.shape).singular(language)


def bar_reading(colour: str, value: int, language: Language) -> str:
    """One bar read aloud: `red 3`, 红色3."""
    return said(language, f"{colour} {value}", f"{COLOURS[colour]}{value}")
