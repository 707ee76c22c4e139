"""What a question asks for, sums that an answer shows, and money with a sign or code."""

from __future__ import annotations

from fractions import Fraction

import pytest

from mmpr_builder.scoring import Judge
from mmpr_builder.scoring.numbers.number import evaluate
from mmpr_builder.scoring.numbers.table import money_behind
from mmpr_builder.scoring.numbers.units import scale_asked, unit_asked_for

SUMS = {
    "61 + 35": Fraction(96),
    "(24 + 28 + 30)/3": Fraction(82, 3),
    r"\frac{7}{2}": Fraction(7, 2),
    "2 \\times (3 - -4)": Fraction(14),
    "0.1 + 0.2": Fraction(3, 10),
}
NO_SUMS = (
    "x + 35",
    "61 +",
    "5/0",
    "2**9",
    "7//2",
    "30-40",
    "6x - 5",
    "f(2)",
    "1+1;2",
    "()",
    "+".join("1" * 70),
    "(" * 90 + "1",
)


@pytest.mark.parametrize(("text", "value"), SUMS.items())
def test_a_sum_of_plain_numbers_is_added_up_exactly(text: str, value: Fraction) -> None:
    assert evaluate(text) == value


@pytest.mark.parametrize("text", NO_SUMS)
def test_what_is_no_sum_of_plain_numbers_has_no_value(text: str) -> None:
    assert evaluate(text) is None


@pytest.mark.parametrize(
    ("text", "behind"),
    [
        ("RM 45.20", "45.20 MYR"),
        ("HK¤12", "12 HKD"),
        ("Rs. 3.2 million", "3.2 million rupee"),
        ("R¤ 89,90", "R¤ 89,90"),  # a decimal comma is left alone
        ("FORM 5", "FORM 5"),
        ("¤5", "¤5"),
    ],
)
def test_codes_and_signs_of_money_go_behind_the_amount(text: str, behind: str) -> None:
    assert money_behind(text) == behind


QUESTIONS = [
    # question, truth, answer, verdict
    ("Which of the curves is steeper?", "B", "It is curve B.", "correct"),
    ("What is the page number?", "17", "page number 17", "correct"),
    ("Which curve is steeper?", "B", "Curve B'", "undecided"),
    ("Which point is the vertex?", "B", "Curve B", "undecided"),
    ("What is the number of apples?", "7", "Number 7", "correct"),
    ("Which age group is the largest?", "18-29", "The 18-29 age group", "correct"),
    ("Which age group is the largest?", "18-29", "under 18-29", "undecided"),
    ("Which age group is the largest?", "18-29", "35-44", "incorrect"),
    ("How many tiles are in figure 4?", "6", "Figure 4 has 6 tiles", "correct"),
    ("How many tiles are in figure 4?", "6", "Figure 6 has 4 tiles", "undecided"),
    (
        "Is the force in Pair 1 weaker, equal or stronger than in Pair 2?",
        "stronger",
        "The force in Pair 2 is stronger.",
        "undecided",
    ),
]


@pytest.mark.parametrize(("question", "truth", "answer", "verdict"), QUESTIONS)
def test_the_noun_that_is_asked_for_may_stand_beside_its_letter_or_number(
    question: str, truth: str, answer: str, verdict: str
) -> None:
    with Judge() as judge:
        assert judge.score_answer(answer, truth, question=question).outcome == verdict


def test_the_scale_and_the_unit_of_a_question_are_read() -> None:
    assert scale_asked("How much did it earn, in billion dollars?") == 10**9
    assert scale_asked("How many students are there?") is None
    square_feet = unit_asked_for("How many square feet of carpet are needed?")
    assert square_feet is not None
    assert square_feet.dimension == (("length", 2),)
    assert unit_asked_for("How many students are in second grade?") is None
    assert unit_asked_for("How many squares in the figure are red?") is None


def test_a_sign_of_several_countries_decides_nothing_between_them() -> None:
    with Judge() as judge:
        assert judge.score_answer("$5", "S$5").outcome == "undecided"
        assert judge.score_answer("$6", "S$5").outcome == "incorrect"
        assert judge.score_answer("HK$5", "S$5").outcome == "incorrect"
        assert judge.score_answer("120 kr", "SEK 120").outcome == "correct"
