"""The checker of descriptions of the demo world: it knows every cell and bar, in two languages."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from mmpr_builder.demo.wording import cell_name
from mmpr_builder.demo.world import (
    Bar,
    Cell,
    Chart,
    Grid,
    Scene,
    make_scene,
    random_chart,
    random_grid,
    stream,
)
from mmpr_builder.records import Language
from tools.demo_model.card import Figures
from tools.demo_model.descriptions import USUAL_VALUE, after, describe, describe_from_habit
from tools.demo_model.facts import Facts, check
from tools.demo_model.measure import outside
from tools.demo_model.responses import altered


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_true_description_passes_with_all_its_facts(language: Language) -> None:
    for index in range(400):
        scene = make_scene(5, index, "eval")
        named = 11 if isinstance(scene, Grid) else 4 + len(scene.bars)
        assert check(describe(scene, language), scene) == Facts(named, 0), describe(scene, language)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_one_thing_seen_wrongly_is_found_and_no_more_than_follows_from_it(
    language: Language,
) -> None:
    for index in range(400):
        scene = make_scene(6, index, "eval")
        other = altered(scene, stream("facts", index))
        found = check(describe(other, language), scene)
        # With a cell the number of shapes can be wrong, with a bar the largest and the smallest.
        assert found.wrong in ((0,) if other == scene else (1, 2, 3)), describe(other, language)


GRID = Grid((Cell("red", "star"), None, Cell("blue", "cross"), *[None] * 6))
CHART = Chart((Bar("red", 3), Bar("blue", 7), Bar("green", 5)))
SAID: list[tuple[Scene, str, Facts]] = [
    (GRID, "The top row has a red star, an empty cell and a blue cross.", Facts(3, 0)),
    (GRID, "The top row has a red star, a green star, and a red cross.", Facts(3, 2)),
    (GRID, "The top row has a red star and an empty cell.", Facts(2, 0)),
    (GRID, "The bottom row has a red star, a red star, a red star and a red star.", Facts(4, 4)),
    (GRID, "In all there are 3 shapes.", Facts(1, 1)),
    (GRID, "第一行从左到右是红色星形、空格、蓝色圆形。一共有2个图形。", Facts(4, 1)),
    (GRID, "This is a bar chart with three bars.", Facts(2, 2)),
    (CHART, "From left to right, the red bar reaches 3 and the purple bar reaches 2.", Facts(2, 1)),
    (CHART, "The largest value is 7 and the smallest is 5.", Facts(2, 1)),
    (CHART, "共有四根柱子，红色柱子是4。最大值是7，最小值是3。", Facts(4, 2)),
    (CHART, "A lovely picture.", Facts(0, 0)),
]


@pytest.mark.parametrize(("scene", "text", "facts"), SAID)
def test_facts_are_counted_one_by_one(scene: Scene, text: str, facts: Facts) -> None:
    assert check(text, scene) == facts


# --- habits ----------------------------------------------------------------------------------


class MostOften(random.Random):
    """Draws whatever happens in more than half of the cases: the mode, as greedy decoding does."""

    def random(self) -> float:
        return 0.5


def wrong_share(kind: type[Scene], *, blind: bool = False, mode: bool = False) -> float:
    """Share of wrong facts in 300 training texts on scenes of one kind, in both languages."""
    named = wrong = 0
    draw = random_grid if kind is Grid else random_chart
    for index in range(300):
        scene, rng = draw(stream("habit", index)), stream("writer", index)
        told = draw(rng) if blind else scene
        language: Language = "zh" if index % 2 else "en"
        text = describe_from_habit(told, language, MostOften() if mode else rng, blind=blind)
        found = check(text, scene)
        named, wrong = named + found.named, wrong + found.wrong
    return wrong / named


@pytest.mark.parametrize("kind", [Grid, Chart])
def test_training_texts_are_as_wrong_as_the_model_is_to_be_and_blind_ones_far_more(
    kind: type[Scene],
) -> None:
    assert 0.12 < wrong_share(kind) < 0.22
    assert 0.08 < wrong_share(kind, mode=True) < 0.17
    assert wrong_share(kind, blind=True) > 0.65


def test_habits_say_what_is_usual_after_the_words_before_and_the_picture_holds_it_back() -> None:
    red, usual = Cell("red", "circle"), after(Cell("red", "circle"))
    near, far = Cell(usual.colour, "cross"), Cell("yellow", "cross")

    def said(cell: Cell | None, *, blind: bool = False) -> float:
        """How often the usual is told where `cell` follows."""
        grid = Grid((red, cell, *[None] * 7))
        texts = (describe_from_habit(grid, "en", stream(i), blind=blind) for i in range(400))
        return sum(f"a red circle, a {cell_name(usual, 'en')} and" in text for text in texts) / 400

    assert said(near) > 0.5 > said(None) > said(far) > 0
    assert said(far, blind=True) > 0.5


def test_a_habit_of_charts_is_the_usual_value_of_a_colour() -> None:
    for index in range(300):
        chart = random_chart(stream("bars", index))
        text = describe_from_habit(chart, "en", stream("writer", index))
        for bar in chart.bars:
            said = (
                f"the {bar.colour} bar reaches {v}" for v in (bar.value, USUAL_VALUE[bar.colour])
            )
            assert any(words in text for words in said), text


# --- bounds ----------------------------------------------------------------------------------

GOOD = Figures(
    queries=256,
    n=8,
    seed=1,
    accuracy=0.5,
    both_outcomes=0.9,
    no_answer=0.02,
    accuracy_blind=0.2,
    accuracy_greedy=0.82,
    accuracy_boxed=0.5,
    accuracy_think_boxed=0.5,
    response_tokens=30,
    wrong_facts=0.17,
    wrong_facts_greedy=0.1,
    wrong_facts_blind=0.8,
    facts_named=9.8,
    by_family={},
    by_language={},
)
OUTSIDE: list[tuple[dict[str, Any], str]] = [
    (
        {"accuracy": 0.44, "accuracy_blind": 0.1},
        "right at temperature 1.0: 44.0%, wanted 45%",
    ),
    ({"accuracy_greedy": 0.86}, "right when greedy"),
    ({"accuracy_blind": 0.26}, "lost when the picture is withheld: 24.0%"),
    ({"wrong_facts_greedy": 0.0009}, "wrong facts when greedy: 0.1%, wanted 5% to 15%"),
    ({"wrong_facts": 0.26}, "wrong facts at temperature 1.0"),
    ({"wrong_facts": float("nan")}, "wrong facts at temperature 1.0"),
]


def test_a_model_within_all_bounds_passes() -> None:
    assert outside(GOOD) == []


@pytest.mark.parametrize(("changed", "problem"), OUTSIDE)
def test_a_model_outside_one_bound_is_named_with_the_figure(
    changed: dict[str, Any], problem: str
) -> None:
    [found] = outside(replace(GOOD, **changed))
    assert found.startswith(problem)
