"""Verdicts: outcomes, several truths, the cache, the killable worker, and what is never run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from waiting import wait_for

from mmpr_builder.errors import ConfigError
from mmpr_builder.scoring import Judge, score_answer, score_response
from mmpr_builder.scoring.decision import Decision, Query
from mmpr_builder.scoring.pool import WorkerPool

CASES_DIR = Path(__file__).parent / "cases"
ANSWERS = json.loads((CASES_DIR / "scoring_answers.json").read_text("utf-8"))
HOSTILE = json.loads((CASES_DIR / "scoring_hostile.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def hurried() -> Iterator[Judge]:
    """With the limits that a build has."""
    with Judge() as shared:
        yield shared


@pytest.mark.parametrize("case", ANSWERS, ids=lambda case: f"{case['scorer']}:{case['gold']!r}")
def test_answers_follow_the_table(judge: Judge, case: dict[str, object]) -> None:
    options = {"scorer": case["scorer"], "choices": case.get("choices")}
    question = case.get("question")

    def outcome(answer: str) -> str:
        return judge.score_answer(answer, case["gold"], question=question, **options).outcome  # type: ignore[arg-type]

    missed = [answer for answer in case["right"] if outcome(answer) != "correct"]  # type: ignore[attr-defined]
    accepted = [answer for answer in case["wrong"] if outcome(answer) == "correct"]  # type: ignore[attr-defined]
    assert (missed, accepted) == ([], [])


def test_each_truth_scored_against_itself_is_correct(judge: Judge) -> None:
    for case in ANSWERS:
        for gold in [case["gold"]] if isinstance(case["gold"], str) else case["gold"]:
            options = {"scorer": case["scorer"], "choices": case.get("choices")}
            assert judge.score_answer(gold, gold, **options).outcome == "correct", case


@pytest.mark.parametrize("scorer", ["math", "auto", "choice", "vqa", "anls", "relaxed", "exact"])
def test_hostile_answers_are_answered_in_time_and_never_correct(
    hurried: Judge, scorer: str
) -> None:
    hurried.score_answer("1+x", "x+1", scorer="math")  # the worker is up
    for answer in HOSTILE:
        for gold in ("42", "B", "\\frac{y}{3}"):
            start = time.perf_counter()
            verdict = hurried.score_answer(answer, gold, scorer=scorer)
            assert verdict.outcome != "correct", (answer, gold)
            assert time.perf_counter() - start < 300, (answer, gold)  # a hang would last for ever


def test_nothing_an_answer_says_is_run(judge: Judge, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for code in (f"open('{mark}','w')", f"__import__('os').system('touch {mark}')"):
        for answer in (code, f"${code}$", f"\\text{{{code}}}", f"\\{{{code}\\}}", f"1+{code}"):
            for scorer in ("math", "auto", "relaxed", "choice"):
                assert judge.score_answer(answer, "1", scorer=scorer).outcome != "correct"
    assert not mark.exists()


def test_an_unusable_truth_is_undecided_not_wrong() -> None:
    for gold in ("", "  ", [], ["", " "], "$$", "x" * 5000):
        assert score_answer("5", gold).outcome == "undecided"
        assert score_response("Final answer: 5", gold).outcome == "undecided"
    assert score_answer("A", "F", choices=["one", "two"]).outcome == "undecided"
    assert score_response("anything", "5", style="open").outcome == "undecided"


def test_no_final_answer_is_its_own_outcome() -> None:
    verdict = score_response("It must be twelve.", "12")
    assert (verdict.outcome, verdict.answer, verdict.rule) == ("no_answer", None, "extraction")
    assert score_answer("", "12").outcome == "no_answer"


def test_one_of_several_truths_is_enough() -> None:
    assert score_answer("sofa", ["couch", "sofa"]).outcome == "correct"
    assert score_answer("chair", ["couch", "sofa"]).outcome == "incorrect"
    assert score_answer("sofa", ["", "sofa"]).outcome == "correct"


def test_a_response_is_never_rewritten() -> None:
    verdict = score_response("Adding up.\n\nFinal answer: 10", "1")
    assert (verdict.outcome, verdict.answer) == ("incorrect", "10")


def test_verdicts_say_what_decided() -> None:
    verdict = score_answer("12 kg", "12 cm")
    assert verdict.rule == "unit"
    assert verdict.reason


def test_an_unknown_scorer_is_refused() -> None:
    with pytest.raises(ConfigError, match="'fuzzy'"):
        score_answer("1", "1", scorer="fuzzy")


def test_equal_questions_are_judged_once() -> None:
    asked: list[Query] = []

    def symbolic(query: Query) -> Decision:
        asked.append(query)
        return Decision(None, "timeout", "over its time limit")

    judge = Judge(symbolic=symbolic)
    verdicts = [judge.score_answer("a+b", "b+a", scorer="math") for _ in range(5)]
    assert len(asked) == 1
    assert {verdict.outcome for verdict in verdicts} == {"undecided"}
    assert judge.stats() == {"cached": 4, "rule.timeout": 1, "verdicts": 5}


def test_options_question_and_scorer_are_part_of_the_cache_key() -> None:
    judge = Judge()
    assert judge.score_answer("cat", "A", choices=["cat", "dog"]).outcome == "correct"
    assert judge.score_answer("cat", "A", choices=["dog", "cat"]).outcome == "incorrect"
    counting, reading = "How many bars are there?", "What is the value of the bar?"
    assert judge.score_answer("31", "30", scorer="relaxed", question=reading).outcome == "correct"
    assert judge.score_answer("31", "30", scorer="relaxed", question=counting).outcome != "correct"


@pytest.mark.parametrize(
    ("answer", "gold", "outcome"),
    [
        (r"2\sqrt{3}+\frac{\pi}{6}", r"\frac{\pi}{6}+\sqrt{12}", "correct"),
        (r"\sqrt{2}\sqrt{3}", r"\sqrt{6}", "correct"),
        ("10^{5}-1", "99999", "correct"),
        (r"\sqrt{\frac{3}{4}}", r"\frac{\sqrt{3}}{2}", "correct"),
        (r"\frac{2\pi}{3}", r"\frac{\pi}{3}", "incorrect"),
        ("5^{2}", "2^{5}", "incorrect"),
        # What may be read in two ways, or has no value, or is near, is left to the worker.
        (r"9\pi/2", r"\frac{9}{2}\pi", "undecided"),
        (r"1/2\pi", r"\frac{1}{2\pi}", "undecided"),
        ("0^{-1}", r"\sqrt{2}", "undecided"),
        (r"\frac{1}{0^{-1}}", r"\sqrt{2}-\sqrt{2}", "undecided"),
        (r"\sqrt{-4}", r"2\sqrt{2}", "undecided"),
        ("1.4142", r"\sqrt{2}", "undecided"),
        (r"2^{1000}\cdot 0", r"\sqrt{2}", "undecided"),
    ],
)
def test_values_without_letters_need_no_worker(answer: str, gold: str, outcome: str) -> None:
    def symbolic(query: Query) -> Decision:
        return Decision(None, "asked")

    judge = Judge(symbolic=symbolic)
    assert judge.score_answer(answer, gold, scorer="math").outcome == outcome


def test_after_a_time_out_an_answer_asks_no_more() -> None:
    asked: list[Query] = []

    def symbolic(query: Query) -> Decision:
        asked.append(query)
        return Decision(None, "timeout")

    judge = Judge(symbolic=symbolic)
    truth = ", ".join(f"x^{{{i}}}+a" for i in range(2, 12))
    answer = ", ".join(f"b+y^{{{i}}}" for i in range(2, 12))
    assert judge.score_answer(answer, truth, scorer="math").outcome == "undecided"
    assert len(asked) == 1


def test_a_text_at_which_extraction_fails_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise IndexError("x" * 900)

    monkeypatch.setattr("mmpr_builder.scoring.judge.extract_answer", fail)
    judge = Judge()
    verdict = judge.score_response("Final answer: 3", "3")
    assert (verdict.outcome, verdict.answer, verdict.rule) == (
        *("undecided", None, "error:IndexError"),
    )
    assert len(verdict.reason) < 300
    assert judge.stats() == {"rule.error:IndexError": 1, "verdicts": 1}


def test_a_closed_judge_is_no_verdict() -> None:
    judge = Judge()
    judge.close()
    with pytest.raises(RuntimeError, match="the judge is closed"):
        judge.score_answer("(x-1)(x+1)", "x^2-1", scorer="math")


def _workers() -> list[int]:
    """Process ids of worker processes below this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            if b"mmpr_builder.scoring.worker" in command and parent == os.getpid():
                found.append(int(entry.name))
    return found


EXPLODING = Query("expression", ("\\binom{10^{9}}{10^{8}}",), ("42",))
"""Past the screen on purpose: sympy computes this for minutes."""


def test_work_over_its_time_is_killed_and_the_next_is_answered_at_once() -> None:
    pool = WorkerPool(timeout_s=4.0)
    fine = Query("expression", ("(x+1)^{2}",), ("x^{2}+2x+1",))
    assert pool(fine).equal is True
    start = time.perf_counter()
    decision = pool(EXPLODING)
    assert (decision.equal, decision.rule) == (None, "timeout")
    assert time.perf_counter() - start < 300
    start = time.perf_counter()
    assert pool(fine).equal is True
    assert time.perf_counter() - start < 300
    pool.close()


def test_memory_is_bounded() -> None:
    pool = WorkerPool(timeout_s=20.0, memory_mb=64)
    decision = pool(Query("expression", ("2^{10^{9}}",), ("1",)))
    assert decision.equal is None
    assert pool(Query("expression", ("a+b",), ("b+a",))).equal is True
    pool.close()


def test_a_worker_killed_by_others_is_replaced() -> None:
    pool = WorkerPool()
    query = Query("expression", ("a+b",), ("b+a",))
    assert pool(query).equal is True
    for pid in _workers():
        os.kill(pid, signal.SIGKILL)
    assert pool(query).equal in (None, True)
    assert pool(query).equal is True
    pool.close()


def test_a_closed_judge_leaves_no_process() -> None:
    before = set(_workers())
    with Judge() as judge:
        assert judge.score_answer("b+a", "a+b", scorer="math").outcome == "correct"
        assert set(_workers()) - before
    assert set(_workers()) == before


def test_threads_share_a_judge() -> None:
    outcomes: list[str] = []
    with Judge() as judge:

        def work(i: int) -> None:
            verdict = judge.score_answer(f"{i}+a", f"a+{i}", scorer="math")
            outcomes.append(verdict.outcome)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert outcomes == ["correct"] * 8


SCRIPT = """
import sys
from mmpr_builder.scoring import score_answer
assert "sympy" not in sys.modules
print(score_answer("(x-1)(x+1)", "x^2-1", scorer="math").outcome, flush=True)
assert "sympy" not in sys.modules
"""


def test_a_plain_script_without_main_guard_scores_and_ends() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "correct\n", "")


ORPHAN = """
import os, sys
from mmpr_builder.scoring.pool import WorkerPool
from mmpr_builder.scoring.decision import Query
pool = WorkerPool(timeout_s=60.0)
pool(Query("expression", ("a+b",), ("b+a",)))
print(pool._idle[0]._process.pid, flush=True)
pool(Query("expression", ("\\\\binom{10^{9}}{10^{8}}",), ("42",)))
"""


def test_workers_end_with_a_parent_that_is_killed_in_the_middle_of_work() -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        time.sleep(0.5)  # the second query is under way
        parent.kill()
        wait_for(lambda: not _alive(worker))


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_simple_answers_are_judged_fast() -> None:
    judge = Judge()
    response = "I read the bars one after the other. " * 20 + "\n\nFinal answer: {}"
    texts = [response.format(i % 30) for i in range(1_000)]

    def seconds(run: Callable[[str], object]) -> float:
        started = time.process_time()
        for text in texts:
            run(text)
        return time.process_time() - started

    def score(text: str) -> object:
        return judge.score_response(text, "12")

    def count(text: str) -> object:
        return sum(map(ord, text))

    ratios = [seconds(score) / seconds(count) for _ in range(20)]
    assert min(ratios) < 8  # Some 2.5 adding-ups of the letters of the text.
    judge.close()


@pytest.mark.parametrize(
    ("answer", "gold", "outcome"),
    [
        *(("1.200", "1200", "undecided"), ("1.2", "1200", "incorrect")),
        *(("1.500 m", "1500 m", "undecided"), ("1.234.567", "1234567", "undecided")),
        *(("5,0", "5.0", "undecided"), ("7", "7,000", "incorrect"), ("6,0", "5.0", "incorrect")),
        *(("III", "3", "undecided"), ("3", "III", "undecided"), ("IV", "5", "incorrect")),
        *(("type II", "Type 2", "undecided"), ("type II", "Type 3", "incorrect")),
        *(("3:30", "3:30 PM", "undecided"), ("3:30 AM", "3:30 PM", "incorrect")),
    ],
)
def test_a_number_written_as_elsewhere_is_not_called_wrong(
    judge: Judge, answer: str, gold: str, outcome: str
) -> None:
    assert judge.score_answer(answer, gold).outcome == outcome
