"""What a question asks for, working that an answer shows, and money with a sign or code."""

from __future__ import annotations

import pytest

from mmpr_builder.scoring import Judge
from mmpr_builder.scoring.asked import names_what_is_asked, says_label, scale_asked
from mmpr_builder.scoring.chain import read_chain
from mmpr_builder.scoring.currency import money_behind
from mmpr_builder.scoring.grammar import read_question
from mmpr_builder.scoring.unit_asked import unit_asked_for

CHAINS = {
    "61 + 35 = 96": ("96", True),
    "(24 + 28 + 30)/3 = 27.3": ("27.3", True),
    r"\frac{7}{2} = 3.5": ("3.5", True),
    "¤7.90 + ¤3.45 = ¤11.35": ("¤11.35", True),
    "2 \\times (3 - -4) = 14": ("14", True),
    "10/3 = 3.33 = 3.3": ("3.3", True),
    "61 + 35 = 97": ("97", False),
    "10/3 = 3.34": ("3.34", False),
}
NO_CHAINS = (
    "96",
    "x + 35 = 96",
    "61 + = 96",
    "5/0 = 1",
    "3 = 3",
    "¤5 + €6 = 11",
    "2(3) = 6",
    "1<2",
)


@pytest.mark.parametrize(("text", "said"), CHAINS.items())
def test_a_chain_says_its_last_side_and_whether_the_sums_are_right(
    text: str, said: tuple[str, bool]
) -> None:
    chain = read_chain(text)
    assert chain is not None
    assert (chain.result, chain.right) == said


@pytest.mark.parametrize("text", [*NO_CHAINS, "+".join("1" * 70) + "=70", "(" * 150 + "1=1"])
def test_what_is_no_chain_of_plain_sums_is_none(text: str) -> None:
    assert read_chain(text) is None


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


def test_the_noun_that_is_asked_for_may_stand_before_its_letter_or_number() -> None:
    assert names_what_is_asked("It is curve B.", "B", "Which of the curves is steeper?")
    assert names_what_is_asked("page number 17", "17", "What is the page number?")
    assert not names_what_is_asked("Curve B'", "B", "Which curve is steeper?")
    assert not names_what_is_asked("Curve B", "B", "Which point is the vertex?")
    assert not names_what_is_asked("Number 7", "7", "What is the number of apples?")


def test_a_range_may_be_named_by_words_of_the_question_and_of_ages() -> None:
    assert says_label("The 18-29 age group", "18-29", None)
    assert not says_label("under 18-29", "18-29", None)
    assert not says_label("18-29 and 30-49", "18-29", None)


def test_the_scale_and_the_unit_of_a_question_are_read() -> None:
    assert scale_asked("How much did it earn, in billion dollars?") == 10**9
    assert scale_asked("How many students are there?") is None
    square_feet = unit_asked_for("How many square feet of carpet are needed?")
    assert square_feet is not None
    assert square_feet.dimension == (("length", 2),)
    assert unit_asked_for("How many students are in second grade?") is None
    assert unit_asked_for("How many squares in the figure are red?") is None


def test_only_the_label_that_a_question_asks_about_is_neutral() -> None:
    asked = read_question("Is the force in Pair 1 weaker than in Pair 2?")
    assert asked.labels == {("pair", "1")}
    assert read_question("How did it change from 2010 to 2016?").labels == {("from", "2010")}


def test_a_sign_of_several_countries_decides_nothing_between_them() -> None:
    with Judge() as judge:
        assert judge.score_answer("$5", "S$5").outcome == "undecided"
        assert judge.score_answer("$6", "S$5").outcome == "incorrect"
        assert judge.score_answer("HK$5", "S$5").outcome == "incorrect"
        assert judge.score_answer("120 kr", "SEK 120").outcome == "correct"
