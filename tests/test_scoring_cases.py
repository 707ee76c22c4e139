"""Tables of answers, whole responses and hostile inputs, written to find faults in the scorers.

scoring_answers_N.json    {"scorer", "gold", "right": [], "wrong": [], "undecided"?: [], …}
scoring_responses*.json   {"style", "scorer", "gold", "correct": [], "incorrect": [], …}
scoring_hostile_2.json    [truth, answer] or [truth, [piece, times]]

What is undecided is right to a person, but a word beside the value cannot be known to change
nothing, or an equation would have to be followed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmpr_builder.config import ScoringConfig
from mmpr_builder.scoring import Judge

CASES = Path(__file__).parent / "cases"
TABLES = sorted(CASES.glob("scoring_answers_*.json"))
RESPONSES = sorted(CASES.glob("scoring_responses*.json"))


def rows(name: str) -> Any:
    return json.loads((CASES / name).read_text("utf-8"))


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    """One with patience: verdicts are asked here, and a busy machine is no reason for others."""
    with Judge(ScoringConfig(timeout_s=20.0)) as shared:
        yield shared
        assert not failed_rules(shared)


@pytest.fixture(scope="module")
def hurried() -> Iterator[Judge]:
    with Judge() as shared:
        yield shared
        assert not failed_rules(shared)


def failed_rules(judge: Judge) -> list[str]:
    """To the judge that a rule failed is an answer, and may be taken for a wrong one here."""
    return [name for name in judge.stats() if name.startswith("rule.error:")]


@pytest.mark.parametrize("table", [path.name for path in TABLES])
def test_no_wrong_answer_is_accepted_and_no_right_one_missed(table: str, judge: Judge) -> None:
    missed, accepted, decided = [], [], []
    for case in rows(table):
        options = {key: case.get(key) for key in ("choices", "question")}
        for answer in case["right"]:
            verdict = judge.score_answer(answer, case["gold"], scorer=case["scorer"], **options)
            if verdict.outcome != "correct":
                missed.append((case["scorer"], case["gold"], answer, verdict))
        for answer in case["wrong"]:
            verdict = judge.score_answer(answer, case["gold"], scorer=case["scorer"], **options)
            if verdict.outcome == "correct":
                accepted.append((case["scorer"], case["gold"], answer, verdict))
        for answer in case.get("undecided", ()):
            verdict = judge.score_answer(answer, case["gold"], scorer=case["scorer"], **options)
            if verdict.outcome != "undecided":
                decided.append((case["scorer"], case["gold"], answer, verdict))
    assert (accepted, missed, decided) == ([], [], [])


def test_the_truths_of_all_tables_equal_themselves(judge: Judge) -> None:
    for table in TABLES:
        for case in rows(table.name):
            golds = [case["gold"]] if isinstance(case["gold"], str) else case["gold"]
            options = {"scorer": case["scorer"], "choices": case.get("choices")}
            for gold in golds:
                verdict = judge.score_answer(gold, case["gold"], **options)
                assert verdict.outcome == "correct", (case["scorer"], gold, verdict)


def test_whole_responses_are_judged_by_their_last_marker(judge: Judge) -> None:
    wrong = []
    for case in (case for table in RESPONSES for case in rows(table.name)):
        options = {key: case.get(key) for key in ("style", "scorer", "choices")}
        for expected in ("correct", "incorrect", "no_answer", "undecided"):
            for text in case.get(expected, ()):
                verdict = judge.score_response(text, case["gold"], **options)
                if verdict.outcome != expected:
                    wrong.append((expected, text[-80:], verdict))
    assert wrong == []


@pytest.mark.parametrize("scorer", ["math", "auto", "choice", "relaxed", "vqa", "anls"])
def test_hostile_answers_are_never_correct_and_never_slow(scorer: str, hurried: Judge) -> None:
    hurried.score_answer("1+x", "x+1", scorer="math")  # the worker is up
    for gold, said in rows("scoring_hostile_2.json"):
        answer = said if isinstance(said, str) else said[0] * said[1]
        start = time.perf_counter()
        verdict = hurried.score_answer(answer, gold, scorer=scorer)
        assert verdict.outcome != "correct", (answer[:60], gold)
        assert time.perf_counter() - start < 300, answer[:60]  # a hang would last for ever
