"""What a sentence says, and what it does not say for certain."""

from __future__ import annotations

import pytest

from mmpr_builder.scoring import Judge
from mmpr_builder.scoring.grammar import read_question
from mmpr_builder.scoring.sentence import is_subject, says, value_said
from mmpr_builder.scoring.text import normalise

SAID = {
    "There are 5 apples in the picture.": "5 apples",
    "The perimeter of the rectangle is 28 cm.": "28 cm",
    "The pencil is 12 cm long.": "12 cm",
    "Therefore, the total is 40.": "40",
    "The point is (4, -7).": "(4, -7)",
    "The roots are x = 1 and x = 2": "x = 1 and x = 2",
    "The difference between the two bars is 5.6.": "5.6",
    "The angles add up to 180.": "180",
    "64% of the students": "64%",
    "Total: 5 apples": "5 apples",
    "图中一共有5个苹果": "5个苹果",
    "小明的体重是42千克": "42千克",
    "对角线长17厘米。": "17厘米",
}
NOT_FOR_CERTAIN = (
    "There are 5 dozen apples",
    "5 vertices short",
    "The square root is 5",
    "The 8 is a distractor",
    "all but 5",
    "5 on each side",
    "5 rows of chairs",
    "The roof is red, the wall is 5",
    "every 5 days",
    "the number before 5",
    "不到5个",
    "5个以上",
    "每组5个",
    "5个一盒",
)


@pytest.mark.parametrize(("sentence", "value"), SAID.items())
def test_a_sentence_of_neutral_words_says_its_value(sentence: str, value: str) -> None:
    assert value_said(sentence) == value


@pytest.mark.parametrize("sentence", NOT_FOR_CERTAIN)
def test_a_word_that_is_not_known_to_be_neutral_leaves_it_open(sentence: str) -> None:
    assert value_said(sentence) is None


def test_words_of_the_question_are_neutral_among_the_same_neighbours_only() -> None:
    question = "How many more girls than boys are there?"
    assert value_said("There are 3 more girls than boys.", question) == "3 girls"
    assert value_said("There are more than 3 girls.", question) is None
    assert value_said("3 students voted", "How many students voted?") is not None
    assert ("#", "more") in read_question(question).pairs


def test_the_lowest_is_no_answer_about_the_highest() -> None:
    question = "What is the value of the highest bar?"
    assert value_said("The highest bar is 54.", question) == "54"
    assert value_said("The lowest bar is 54.", question) is None


def test_a_truth_in_words_is_said_behind_a_verb_only() -> None:
    assert says("The umbrella is blue", "blue", normalise)
    assert says("It is on the left.", "left", normalise)
    for sentence in ("It is red with blue", "from red to blue", "red and blue", "similar to blue"):
        assert not says(sentence, "blue", normalise)


def test_names_of_values_have_no_word_that_changes_them() -> None:
    assert is_subject("Area of the garden")
    assert not is_subject("half of the area")
    assert not is_subject("Wrong answer")


def test_the_unit_that_is_asked_for_belongs_to_the_truth() -> None:
    with Judge() as judge:
        question = "How many milliliters of water are left in the jug?"
        assert judge.score_answer("0.24 L", "240", question=question).outcome == "correct"
        assert judge.score_answer("240 L", "240", question=question).outcome != "correct"
        assert judge.score_answer("240 L", "240").outcome == "correct"
