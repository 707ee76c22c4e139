"""What a drawn question is before it has options: shared by the questions on grids and charts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mmpr_builder.demo.wording import Kind
from mmpr_builder.demo.world import Scene


@dataclass(frozen=True)
class Draft:
    """A question's text, how to work it out on any scene, and what a guess might be.

    A `closed` question names its own possible answers (yes or no, one of two colours), so it is
    never given options.
    """

    family: str
    text: str
    solve: Callable[[Scene], tuple[str, str]]
    guesses: tuple[str, ...]
    closed: bool = False
    #: What a careful reader of a grid tallies row by row.
    kinds: tuple[Kind, ...] = ()
