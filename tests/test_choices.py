"""Choices: found where a question ends in options, and nowhere else."""

from __future__ import annotations

import time

import pytest

from mmpr_builder.seeds.choices import find_choices

FOUND = [
    ("What is it?\nA. 3\nB. 4", ["3", "4"]),
    ("What is it?\n(A) 30\n(B) 40\n(C) \\frac { 1 } { 2 }", ["30", "40", "\\frac { 1 } { 2 }"]),
    ("What is it?\nA) x\nB) y", ["x", "y"]),
    ("What is it?\nA: x\nB: y", ["x", "y"]),
    ("What is it?\n - A. x\n - B. y", ["x", "y"]),
    ("颜色是\nA、红\nB、蓝\nC、绿", ["红", "蓝", "绿"]),
    ("求值（\u3000）\nＡ．3\nＢ．4", ["3", "4"]),
    ("求 $n=(\\quad)$A. 3B. 4C. $6 \\sqrt{2}$D. 6", ["3", "4", "$6 \\sqrt{2}$", "6"]),
    ("已知P(A)=0.5，则P(B)=（ ） A．0.1\u3000B．0.2", ["0.1", "0.2"]),
    ("选择正确的：A.甲 B.乙 C.丙", ["甲", "乙", "丙"]),
    ("What is it? (A) 1 (B) 2 (C) 3", ["1", "2", "3"]),
    ("The value of x is (A) 1 (B) 2 (C) 3", ["1", "2", "3"]),
    ("What is it? A. x B. y C. z", ["x", "y", "z"]),
    ("Who? A.Tom B.Jerry", ["Tom", "Jerry"]),
    ("Q?\nA. x  B. y\nC. z  D. w", ["x", "y", "z", "w"]),
    ("Which?\nOptions: A: yes, B: no", ["yes", "no"]),
    ("What is it? Choices: (A) a cat (B) a dog", ["a cat", "a dog"]),
    ("Which costs less? (A) $5 (B) $6 (C) $7", ["$5", "$6", "$7"]),
    ("What time is it?\nA. 6:00 A.M.\nB. 6:00 P.M.", ["6:00 A.M.", "6:00 P.M."]),
    ("Which?\nA. <image>\nB. <image>", ["<image>", "<image>"]),
    ("Which?\n<image>\nA. x\nB. y\n<image>", ["x", "y"]),
    ("Which is right?\nA. one\nline two\nB. two\nmore", ["one\nline two", "two\nmore"]),
    ("A: Who is it?\nQ: guess\nWhich?\nA. Tom\nB. Jerry", ["Tom", "Jerry"]),
    ("Let $P(A)=1$ and $P(B)=x$. Find $x$.\nA. $P(A)$\nB. $2$", ["$P(A)$", "$2$"]),
]
NONE = [
    "Is A. Lincoln or B. Franklin older?",
    "A. Lincoln was born in 1809.\nB. Franklin in 1706.\nWho is older?",
    "J. A. Smith met B. Jones.",
    "Find the distance between (A) and (B).",
    "Events have P(A) = 0.5 and P(B) = 0.2. Find P(A and B).",
    "Which?\n(A) x\n(B) y\nAnd why?",
    "What is 6:00 A.M. plus B. time",
    "A: Hello! B: Hi!",
    "Which one is bigger, A. or B.?",
    "Which?\nA. only",
    "Which?\nA. x\nC. y",
    "Which?\nB. x\nC. y",
    "What is $\\angle A. B.$?",
    "In triangle ABC, what is AB?",
    "",
]


@pytest.mark.parametrize(("question", "texts"), FOUND)
def test_options_are_found(question: str, texts: list[str]) -> None:
    found = find_choices(question)
    assert found is not None
    assert list(found.texts) == texts
    assert question[found.start] in "AＡ(（["


@pytest.mark.parametrize("question", NONE)
def test_prose_is_no_options(question: str) -> None:
    assert find_choices(question) is None


@pytest.mark.parametrize(
    "question",
    ["\\(" * 50_000 + "A. B.", "A. B. " * 20_000, "options" + " " * 100_000 + "A. x B. y",
     "A.\n" * 50_000 + "B.", "$" * 99_999 + "(A)(B)", " " * 200_000 + "A. B."],
)  # fmt: skip
def test_hostile_questions_take_no_time(question: str) -> None:
    started = time.process_time()
    find_choices(question)
    assert time.process_time() - started < 60  # Milliseconds; minutes where it was square.
