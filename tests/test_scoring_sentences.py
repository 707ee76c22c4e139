"""What a sentence says, what it does not say for certain, and that no word makes it wrong."""

from __future__ import annotations

import pytest

from mmpr_builder.scoring import Judge
from mmpr_builder.scoring.clean import lemma
from mmpr_builder.scoring.words.sentence import read_question, says, value_said

SAID = {
    "There are 5 apples in the picture.": "5",
    "The perimeter of the rectangle is 28 cm.": "28 cm",
    "The pencil is 12 cm long.": "12 cm",
    "Therefore, the total is 40.": "40",
    "The point is (4, -7).": "(4,-7)",
    "64% of the students": "64%",
    "Total: 5": "5",
    "图中一共有5个苹果": "5个",
    "小明的体重是42千克": "42千克",
}
NOT_FOR_CERTAIN = (
    "There are 5 dozen apples in all but one",
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


def test_words_are_those_of_the_question_in_any_inflection() -> None:
    assert {lemma(word) for word in ("threw", "throws", "Throwing", "thrown")} == {"throw"}
    assert lemma("buys") == lemma("buying") == lemma("bought")
    assert lemma("remaining") == lemma("left")
    assert value_said("They threw 355 balloons.", "How many balloons did they throw?") == "355"


def test_words_that_may_change_a_value_are_the_questions_own() -> None:
    question = "How many more girls than boys are there?"
    assert value_said("There are 3 more girls than boys.", question) == "3"
    assert value_said("There are half of 3 more girls than boys.", question) is None
    asked = read_question(question)
    assert asked is not None
    assert "more" in asked.clause
    context = "Tom ate half of his 12 figs. How many figs did Ann eat?"
    assert value_said("Ann ate half of 8 figs.", context) is None


def test_the_lowest_is_no_answer_about_the_highest() -> None:
    question = "What is the value of the highest bar?"
    assert value_said("The highest bar is 54.", question) == "54"
    assert value_said("The lowest bar is 54.", question) is None


def test_numbers_of_the_question_are_given_and_the_other_one_is_said() -> None:
    question = "How much will Kim pay for 3 apples and 3 oranges?"
    assert value_said("Kim will pay $9 for 3 apples and 3 oranges.", question) is not None
    assert value_said("Kim will pay 9 or 10 dollars.", question) is None
    assert value_said("He paid 36 for the two shirts.", "What did he pay for the 2 shirts?") == "36"


def test_another_thing_than_the_one_that_is_counted_is_not_read() -> None:
    question = "There were 12 adults and some children. How many children were there?"
    assert value_said("There were 20 children.", question) == "20"
    assert value_said("There were 20 adults.", question) is None


def test_a_chinese_answer_is_the_clause_that_asks_with_its_gap_filled() -> None:
    question = "甲班有女生12人，男生比女生少3人，女生占全班的百分之几？"
    assert value_said("女生占全班的57%", question) == "57%"
    assert value_said("全班占女生的57%", question) is None
    assert value_said("不喜欢跑步的有7人", "不喜欢跑步的有多少人？") == "7人"
    assert value_said("喜欢跑步的有7人", "不喜欢跑步的有多少人？") is None
    assert value_said("苹果有6个", "剩下的苹果有多少个？") is None


def test_a_truth_in_words_is_said_where_nothing_else_is() -> None:
    assert says("The umbrella is blue", "blue")
    assert says("It is on the left.", "left")
    for sentence in ("It is red with blue", "from red to blue", "red and blue", "not blue"):
        assert not says(sentence, "blue")
    question = "Which is heavier, the red or the blue box?"
    assert says("The blue box is heavier.", "blue", question)
    assert not says("The blue box is heavier than the red one.", "red", question)


def test_no_word_makes_an_answer_wrong_that_has_the_truth_in_it() -> None:
    with Judge() as judge:
        for answer in (
            "It is not 7.",
            "half of 7",
            "at least 7",
            "more than 7 were sold",
            "不到7个",
        ):
            assert judge.score_answer(answer, "7").outcome == "undecided", answer
        for answer in ("There are 9 of them.", "half of 9", "一共有9个"):
            assert judge.score_answer(answer, "7").outcome == "incorrect", answer


def test_a_letter_that_is_only_denied_leaves_the_others_open() -> None:
    options = ("9 cm", "12 cm", "15 cm")
    with Judge() as judge:
        for answer in ("not A", "It isn't A.", "不选A"):
            assert judge.score_answer(answer, "B", choices=options).outcome == "undecided", answer
            assert judge.score_answer(answer, "A", choices=options).outcome == "incorrect", answer


def test_the_unit_that_is_asked_for_belongs_to_the_truth() -> None:
    with Judge() as judge:
        question = "How many milliliters of water are left in the jug?"
        assert judge.score_answer("0.24 L", "240", question=question).outcome == "correct"
        assert judge.score_answer("240 L", "240", question=question).outcome != "correct"
        assert judge.score_answer("240 L", "240").outcome == "correct"
