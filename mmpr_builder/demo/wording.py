"""The words for what a scene holds, in English and Chinese, and for what is asked of it.

::

    Kind("red")            red shapes      红色图形
    Kind("red", "star")    red stars       红色星形
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mmpr_builder.demo.world import COLOURS, SHAPES, Cell, Grid
from mmpr_builder.records import Language

YES_NO: dict[Language, tuple[str, str]] = {"en": ("yes", "no"), "zh": ("是", "否")}
LETTERS = "ABCD"
CHINESE_DIGITS = "零一二三四五六七八九"


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
        noun = (self.shape or "shape") + ("es" if self.shape == "cross" else "s")
        return f"{self.colour} {noun}" if self.colour else noun

    def singular(self, language: Language) -> str:
        """`red star`, 红色星形; a colour alone gives `red shape`."""
        if language == "zh":
            return self.plural(language)
        return f"{self.colour or ''} {self.shape or 'shape'}".strip()


@dataclass(frozen=True)
class Question:
    """One question on one scene: its text, and how to work it out on any scene of its kind.

    `answer` is its truth; None marks an open question. `value` is the truth in words, which is not
    the answer where that is an option's letter. `guesses` are what a blind guess might be, with the
    truth among them. A `closed` one names its own possible answers and is never given options.
    `kinds` are what a careful reader of a grid tallies row by row.
    """

    text: str
    solve: Callable[[Any], tuple[str, str]] | None = None
    guesses: tuple[str, ...] = ()
    closed: bool = False
    kinds: tuple[Kind, ...] = ()
    family: str = "open"
    language: Language = "en"
    answer: str | None = None
    value: str = ""
    options: tuple[str, ...] = ()

    def answer_for(self, value: str) -> str:
        """What to write as the final answer for a value: itself, or the letter of its option.

        A value that no option offers comes from a wrong reading and becomes the first option.
        """
        if not self.options:
            return value
        return LETTERS[self.options.index(value)] if value in self.options else LETTERS[0]


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
