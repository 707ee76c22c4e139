"""Answers as models write them: formulas in any dress, options, texts of documents, annotators."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mmpr_builder.config import ScoringConfig
from mmpr_builder.errors import ConfigError
from mmpr_builder.records import Style
from mmpr_builder.scoring import Judge


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge(ScoringConfig(timeout_s=20.0)) as shared:  # A busy machine changes no verdict.
        yield shared


FORMULAS = [
    # truth, answer, verdict
    ("V/R", r"\frac{V}{R}", "correct"),
    ("V/R", "V-R", "not correct"),
    ("a-b", "b-a", "incorrect"),
    ("a-b", "-b+a", "correct"),
    ("F/m", r"\dfrac{F}{m}", "correct"),
    ("F/m", "m/F", "incorrect"),
    ("n!", "n", "incorrect"),
    ("n!", "$n!$", "correct"),
    ("|a+b|", r"\left|a+b\right|", "correct"),
    ("|a+b|", "a+b", "not correct"),
    ("f'", "f", "not correct"),
    ("x²", "x^2", "correct"),
    ("x²", "x2", "incorrect"),
    ("λ", r"\lambda", "correct"),
    (r"\lambda", "μ", "not correct"),
    ("∠1", r"\angle 1", "correct"),
    ("∠1", "∠2", "not correct"),
    ("△ABC", r"\triangle ABC", "correct"),
    ("△ABC", r"\triangle ABD", "not correct"),
    ("AB∥CD", r"AB \parallel CD", "correct"),
    ("AB∥CD", r"AB \perp CD", "not correct"),
    ("90°-α", r"90^\circ-\alpha", "correct"),
    ("90°-α", r"90^\circ+\alpha", "incorrect"),
    ("1.5x", r"\frac{3}{2}x", "correct"),
    ("1.5x", "1.5+x", "incorrect"),
    (r"\sqrt{2gh}", r"\sqrt{2g}\sqrt{h}", "not incorrect"),
    (r"\sqrt{x^3}", r"x\sqrt{x}", "not incorrect"),
    (r"\ln(ab)", r"\ln a + \ln b", "not incorrect"),
    (r"\ln(ab)", r"\ln a - \ln b", "incorrect"),
    ("CD-ROM", "CD ROM", "not incorrect"),
]


@pytest.mark.parametrize(("truth", "answer", "verdict"), FORMULAS)
def test_formulas_of_letters_are_compared_as_formulas(
    truth: str, answer: str, verdict: str, judge: Judge
) -> None:
    outcome = judge.score_answer(answer, truth).outcome
    assert outcome == verdict or (verdict[:4] == "not " and outcome != verdict[4:])


PQRS, SPANS = ("P", "Q", "R", "S"), ("50°", "75°", "100°", "125°")
CHOICES = [
    # options, truth, answer, verdict
    (PQRS, "B", "Q", "correct"),
    (PQRS, "Q", "B", "correct"),
    (PQRS, "B", "R", "incorrect"),
    (("N", "E", "S", "W"), "D", "W", "correct"),
    (("Y", "N"), "B", "N", "correct"),
    (("Y", "N"), "A", "N", "incorrect"),
    (("I", "II", "III", "IV"), "C", "III", "correct"),
    (("I", "II", "III", "IV"), "C", "II", "incorrect"),
    (("x", "y", "z"), "B", "y", "correct"),
    (("CO2", "O2", "N2"), "A", "CO_2", "correct"),
    (("CO2", "O2", "N2"), "B", "CO_2", "incorrect"),
    (SPANS, "D", "D, not B", "correct"),
    (SPANS, "B", "D, not B", "incorrect"),
    (SPANS, "C", "(C). 100°", "correct"),
    (SPANS, "B", "[75]", "correct"),
    (SPANS, "C", "B, because the angle is not larger than a right one", "incorrect"),
    (SPANS, "B", "B, because the angle is not larger than a right one", "correct"),
    (SPANS, "B", "A. 50° B. 75° C. 100° D. 125°", "not correct"),
    (("D/(B+D)", "B/(B+D)"), "A", "(A) D/(B+D)", "correct"),
    (("A, B", "A, C", "B, C"), "B", "A, C", "correct"),
    (("A", "B", "C", "D", "E"), "A", "A, C", "not correct"),
    (("yes", "no"), "A", "yes, the lines are parallel", "correct"),
    (("yes", "no"), "A", "no, they meet at the origin", "incorrect"),
    (("a dog", "a cat"), "A", "It is a dog.", "correct"),
    (("point A", "point C", "point B"), "C", "(B)", "incorrect"),
    (("It is a bank", "It is a school"), "B", "The building is a school.", "not incorrect"),
]


@pytest.mark.parametrize(("options", "truth", "answer", "verdict"), CHOICES)
def test_options_are_read_by_letter_text_and_value(
    options: tuple[str, ...], truth: str, answer: str, verdict: str, judge: Judge
) -> None:
    outcome = judge.score_answer(answer, truth, choices=list(options)).outcome
    assert outcome == verdict or (verdict[:4] == "not " and outcome != verdict[4:])


YES_NO = [
    # question, truth, answer, verdict
    ("Is the angle acute?", "yes", "yes, it is less than 90°", "correct"),
    ("Is the angle acute?", "no", "no, because it is not less than 90°", "correct"),
    ("Is the angle acute?", "yes", "no, it is right", "incorrect"),
    ("Is it sunny?", "yes", "yes, but only in the morning", "undecided"),
]


@pytest.mark.parametrize(("question", "truth", "answer", "verdict"), YES_NO)
def test_yes_and_no_may_give_a_reason(
    question: str, truth: str, answer: str, verdict: str, judge: Judge
) -> None:
    assert judge.score_answer(answer, truth, question=question).outcome == verdict


RESPONSES = [
    # style, response, answer
    ("final_answer", "It bends left.\nThe correct option is B", "B"),
    ("final_answer", "It bends left.\nThe correct choice is C.", "C"),
    ("final_answer", "So (B) is the correct answer.", "B"),
    ("final_answer", "We add.\nThe answer should be 12.", "12"),
    ("final_answer", "We add.\nThe answer to the question is 12.", "12"),
    ("final_answer", "所以选项B正确", "B"),
    ("final_answer", "综上，正确的选项是C", "C"),
    ("final_answer", "因此对应选项D", "D"),
    ("final_answer", r"\text{Answer: C}", "C"),
    ("boxed", r"So $x=\boxed{2}$ or $x=\boxed{3}$.", "2, 3"),
    ("boxed", r"First \boxed{2}. No, that is wrong: it is \boxed{3}.", "3"),
    ("final_answer", "Final answer: - 12", "- 12"),
    ("final_answer", "Final answer: > 3", "> 3"),
    ("final_answer", "Final answer: 12<eoa>", "12"),
    ("final_answer", "Final answer: 12. I hope this helps!", "12"),
    ("final_answer", "<|begin_of_box|>12<|end_of_box|>", "12"),
    ("boxed", "We add.\n<answer>12</answer>", "12"),
    ("final_answer", "◁think▷Final answer: 9◁/think▷Final answer: 12", "12"),
    ("final_answer", "Final answer: <image>", "<image>"),
    ("final_answer", "It is about a dozen, I think.", None),
]


@pytest.mark.parametrize(("style", "response", "answer"), RESPONSES)
def test_the_final_answer_is_found_in_the_dresses_of_models(
    style: Style, response: str, answer: str | None, judge: Judge
) -> None:
    assert judge.score_response(response, "7", style=style).answer == answer


MASTER_KEYS = (
    *(" ", ".", ",", ":", "Thought process:", "Let's solve this problem step by step."),
    *("Solution", "解", "かいせつ", "Respuesta"),
)
"""Answers that fool judges which are models (arXiv 2507.08794)."""


@pytest.mark.parametrize("scorer", ["auto", "math", "choice", "vqa", "anls", "relaxed"])
def test_openers_without_an_answer_are_never_right_and_no_judge_is_asked_about_them(
    scorer: str, judge: Judge
) -> None:
    for key in MASTER_KEYS:
        for truth in ("12", "B", "yes", "a red car", "x+1"):
            choices = ["cat", "dog"] if scorer == "choice" else None
            verdict = judge.score_answer(key, truth, scorer=scorer, choices=choices)
            assert verdict.outcome == "no_answer", (key, truth)


DOCUMENTS = [
    # scorer, question, truth, answer, verdict
    ("anls", "What is the name of the company?", "Acme \\& Sons", "Acme & Sons", "correct"),
    (
        "anls",
        "What is the date of the memo?",
        "March 4, 1998",
        "Wednesday, March 4, 1998",
        "correct",
    ),
    ("anls", "What is the date of the memo?", "March 4, 1998", "March 5, 1998", "incorrect"),
    (
        *("anls", "Who signed the letter?", "Jane Wu"),
        *("The letter was signed by Jane Wu.", "correct"),
    ),
    ("anls", "Who signed the letter?", "Jane Wu", "The letter was signed by John Wu.", "incorrect"),
    (
        *("relaxed", "What was the unemployment rate in 2019?", "4.5"),
        *("The unemployment rate in 2019 was 4.5%.", "correct"),
    ),
    (
        *("relaxed", "What was the unemployment rate in 2019?", "4.5"),
        *("The unemployment rate in 2019 was 9.5%.", "incorrect"),
    ),
    ("relaxed", "What was the revenue in million dollars?", "12", "12 million dollars", "correct"),
    (
        "relaxed",
        "What was the revenue in million dollars?",
        "12",
        "12 billion dollars",
        "incorrect",
    ),
]


@pytest.mark.parametrize(("scorer", "question", "truth", "answer", "verdict"), DOCUMENTS)
def test_documents_and_charts_are_answered_in_sentences_too(
    scorer: str, question: str, truth: str, answer: str, verdict: str, judge: Judge
) -> None:
    found = judge.score_answer(answer, truth, scorer=scorer, question=question)
    assert found.outcome == verdict, found


def test_three_of_ten_annotators_make_an_answer_right(judge: Judge) -> None:
    truths = ["blue"] * 6 + ["navy"] * 3 + ["grey"]
    outcomes = {
        said: judge.score_answer(said, truths, scorer="vqa").outcome
        for said in ("blue", "navy", "grey", "green")
    }
    assert outcomes == {
        "blue": "correct",
        "navy": "correct",
        "grey": "undecided",
        "green": "incorrect",
    }


def test_equal_truths_are_read_once_and_no_more_than_a_thousand(judge: Judge) -> None:
    assert judge.score_answer("4", ["4"] * 100_000).outcome == "correct"
    assert judge.score_answer("5", ["4"] * 100_000).outcome == "incorrect"
    many = [str(number) for number in range(5_000)]
    assert judge.score_answer("999", many).outcome == "correct"
    assert judge.score_answer("4999", many).outcome == "incorrect"


def test_an_unknown_style_is_an_error(judge: Judge) -> None:
    with pytest.raises(ConfigError, match="bozed"):
        judge.score_response("Final answer: 4", "4", style="bozed")  # type: ignore[arg-type]
