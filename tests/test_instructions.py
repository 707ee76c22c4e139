"""Answer instructions come off; the question itself never does."""

from __future__ import annotations

import time

import pytest

from mmpr_builder.seeds.instructions import strip_instructions

FORMS = [
    "Answer the question using a single word or phrase.",
    "Answer the question with a single word.",
    "Please answer the question with a short phrase.",
    "Please answer the question using a single word, number or phrase.",
    "Please try to answer the question with short words or phrases if possible.",
    "Answer this question in one word.",
    "Answer with the option's letter from the given choices directly.",
    "Please answer with the option letter from the given choices directly.",
    "Answer with the letter.",
    "Please give the letter of the correct option.",
    "Please answer directly with only the letter of the correct option and nothing else.",
    "Please select the correct answer from the options above.",
    "Select the best answer to the above multiple-choice question based on the image. Respond with"
    " only the letter (A, B, C, or D) of the correct option.",
    "Provide a short and direct response.",
    "Give a short answer.",
    "Answer briefly.",
    "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at"
    " the end.",
    "Hint: Please answer the question requiring an integer answer and provide the final value,"
    " e.g., 1, 2, 3, at the end.",
    'Please solve the problem step by step and put your answer in one "\\boxed{}". If it is a'
    ' multiple choice question, only one letter is allowed in the "\\boxed{}".',
    "Please reason step by step, and put your final answer within \\boxed{}.",
    "Let's think step by step.",
    "请直接回答选项字母。",
    "请用单个词或短语回答",
    "请用一个单词或短语回答这个问题。",
    "使用单个单词或短语回答问题。",
    "请直接给出正确选项的字母。",
    "请直接给出答案。",
    "请简短回答。",
    "请从给定的选项中直接回答选项字母。",
    "请用选项字母回答。",
    "请一步一步推理，并把最终答案放在\\boxed{}中。",
]
KEPT = [
    "What does the sign 'Answer the question using a single word or phrase.' say?",
    "Describe the image in a single word.",
    "Answer by typing a time word, not a number. It is (_) to nine.",
    "Is there a dog? Please answer yes or no.",
    "What time is it? Answer in words.",
    "How many? Answer with a number.",
    "What is x? Give a short answer and explain why.",
    "How many options are there? Choose the red one.",
    "Solve step by step: what is 3x?",
    "Why did she respond with a letter?",
    "Give the answer to the question on the board.",
    "Hint: use the chart.\nQuestion: What is x?",
    "When the provided information is insufficient, respond with 'Unanswerable'.",
    "请用一个词描述图中的动物。",
    "图中有几个？请用数字回答。",
    "请回答图中的问题。",
    "Answer the question using a single word or phrase.",
]


@pytest.mark.parametrize("form", FORMS)
def test_a_known_form_comes_off_wherever_it_stands(form: str) -> None:
    assert strip_instructions(f"What is it?\n{form}") == "What is it?"
    assert strip_instructions(f"What is it? {form}") == "What is it?"
    assert strip_instructions(f"<image>\nWhat is it?\n{form}\n") == "<image>\nWhat is it?"
    assert strip_instructions(f"What is it?\n{form}\n<image>") == "What is it?\n<image>"
    assert strip_instructions(f"{form}\nWhat is it?") == "What is it?"
    assert strip_instructions(f"What is it? {form.upper()}") != ""


@pytest.mark.parametrize("question", KEPT)
def test_what_is_part_of_the_question_stays(question: str) -> None:
    assert strip_instructions(question) == question


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (
            "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C,"
            " D, at the end.\nQuestion: Find x.\nChoices:\n(A) 1\n(B) 2",
            "Find x.\nChoices:\n(A) 1\n(B) 2",
        ),
        (
            "<image>\nHint: Please answer the question requiring a floating-point number with two"
            " decimal places and provide the final value, e.g., 1.23, 1.34, 1.45, at the end.\n"
            "Question: Find x.",
            "<image>\nFind x.\nRound to two decimal places.",
        ),
        (
            "提示：请回答问题，并在最后提供正确选项的字母，例如A、B、C、D。\n问题：求x。",
            "求x。",
        ),
        (
            "What is it?\nWhen the provided information is insufficient, respond with"
            " 'Unanswerable'.\nAnswer the question using a single word or phrase.",
            "What is it?\nWhen the provided information is insufficient, respond with"
            " 'Unanswerable'.",
        ),
        ("What is it? Answer briefly. Answer with the letter.", "What is it?"),
        ("Question: What is it?\nAnswer:", "Question: What is it?"),
        ("图中是什么？\n答案：", "图中是什么？"),
    ],
)
def test_prefixes_cues_and_several_forms(question: str, expected: str) -> None:
    assert strip_instructions(question) == expected


@pytest.mark.parametrize(
    "question",
    ["Answer briefly. " * 12_000, "answer" + " " * 190_000, "Please " * 28_000 + "answer",
     "answer" + "<image> " * 20_000, "Answer the question " + "a " * 90_000, "请" * 199_000 + "答"],
)  # fmt: skip
def test_hostile_questions_take_no_time(question: str) -> None:
    started = time.process_time()
    strip_instructions(question)
    assert time.process_time() - started < 60  # Milliseconds; minutes where it was square.
