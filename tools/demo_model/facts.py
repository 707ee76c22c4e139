"""Which facts a description of a demo scene names, and how many of them are wrong.

    The middle row has a red star, an empty cell and a blue star. In all there are 6 shapes.
    of a scene with a green star and 7 shapes:  4 named, 2 wrong

Each cell, each bar with its value, each total and the sort of picture is a fact. What is not said
in the words of the world's own descriptions (`descriptions.describe`), English or Chinese, is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mmpr_builder.demo.wording import CHINESE_DIGITS, cell_name
from mmpr_builder.demo.world import COLOURS, GRID_SIDE, Chart, Grid, Scene
from tools.demo_model.descriptions import COUNT_EN, ROWS_EN

_SORTS = re.compile(r"\b(bar chart|grid)\b|(柱状图|网格)")
_ROWS = re.compile(
    rf"\bthe ({'|'.join(ROWS_EN)}) row has ([^.]*)|第([{CHINESE_DIGITS[1:]}])行从左到右是([^。]*)",
    re.IGNORECASE,
)
_BARS = re.compile(
    rf"\bthe ([a-z]+) bar reaches (\d+)|({'|'.join(COLOURS.values())})柱子是(\d+)", re.IGNORECASE
)
_BETWEEN = re.compile(r",\s*(?:and\s+)?|\s+and\s+|、")
_TOTALS = {
    "shapes": re.compile(r"\bthere are (\d+) shapes\b|一共有(\d+)个图形"),
    "bars": re.compile(
        rf"\bwith ({'|'.join(COUNT_EN.values())}) bars\b|共有([{CHINESE_DIGITS[1:]}])根柱子"
    ),
    "largest": re.compile(r"\blargest (?:value )?is (\d+)|最大值是(\d+)"),
    "smallest": re.compile(r"\bsmallest (?:value )?is (\d+)|最小值是(\d+)"),
}
_NUMBERS = {word: number for number, word in COUNT_EN.items()} | {
    digit: number for number, digit in enumerate(CHINESE_DIGITS)
}


@dataclass(frozen=True)
class Facts:
    """How many facts a text names, and how many of these are wrong."""

    named: int
    wrong: int

    @property
    def share(self) -> float:
        """The wrong ones' share; 0 where none is named."""
        return self.wrong / self.named if self.named else 0.0


def check(text: str, scene: Scene) -> Facts:
    """The facts of a description, against the scene."""
    found = [*_sorts(text, scene), *_cells(text, scene), *_bars(text, scene), *_totals(text, scene)]
    return Facts(len(found), found.count(False))


def _sorts(text: str, scene: Scene) -> Iterator[bool]:
    for match in _SORTS.finditer(text):
        yield isinstance(scene, Chart) == (match[0] in ("bar chart", "柱状图"))


def _cells(text: str, scene: Scene) -> Iterator[bool]:
    for match in _ROWS.finditer(text):
        english = match[1] is not None
        row = ROWS_EN.index(match[1].lower()) if english else CHINESE_DIGITS.index(match[3]) - 1
        names = [_bare(name) for name in _BETWEEN.split(match[2] if english else match[4])]
        there: list[str] = []
        if isinstance(scene, Grid) and row < GRID_SIDE:
            there = [cell_name(cell, "en" if english else "zh") for cell in scene.row(row)]
        for place, name in enumerate(filter(None, names)):
            yield place < len(there) and there[place] == name


def _bare(name: str) -> str:
    """A cell as the world names it: without article, and 空格 as 空."""
    bare = re.sub(r"^an?\s+|\s+cell$", "", name.strip(), flags=re.IGNORECASE).lower()
    return "空" if bare == "空格" else bare


def _bars(text: str, scene: Scene) -> Iterator[bool]:
    colours = {chinese: colour for colour, chinese in COLOURS.items()}
    there = {bar.colour: bar.value for bar in scene.bars} if isinstance(scene, Chart) else {}
    for match in _BARS.finditer(text):
        colour = match[1].lower() if match[1] else colours[match[3]]
        yield there.get(colour) == int(match[2] or match[4])


def _totals(text: str, scene: Scene) -> Iterator[bool]:
    values = [bar.value for bar in scene.bars] if isinstance(scene, Chart) else []
    shapes = sum(map(bool, scene.cells)) if isinstance(scene, Grid) else -1
    there = {"shapes": shapes, "bars": len(values)}
    there |= {"largest": max(values, default=-1), "smallest": min(values, default=-1)}
    for name, pattern in _TOTALS.items():
        for match in pattern.finditer(text):
            said = match[1] or match[2]
            yield _NUMBERS.get(said, int(said) if said.isdecimal() else -2) == there[name]
