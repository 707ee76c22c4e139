"""Truths that cannot work are found before sampling; labels check scorers, samples check truths."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from build_files import write_jsonl
from commands import mmpr
from small_builds import SERVED

from mmpr_builder import engines, prompts, runs, seeds, stages
from mmpr_builder.audit.labels import Rate, confusion, judge_case, read_cases
from mmpr_builder.audit.suspect_truths import suspect_truths
from mmpr_builder.audit.truths import Finding, audit_seeds, check_seed, check_truth, screen
from mmpr_builder.config import Config, load_config
from mmpr_builder.errors import BuildConflictError, InputError
from mmpr_builder.io.tables import list_parts, read_parquet, rollouts_to_table, write_parquet
from mmpr_builder.records import Drop, Response, Rollout, Seed, Style, Verdict
from mmpr_builder.scoring import Judge
from mmpr_builder.scoring.decision import Decision, Query

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "data" / "real"
LABELLED = ROOT.parent / "shared" / "data" / "scoring"


def findings(
    seed: Seed, judge: Judge, scorer: str = "auto", style: Style = "final_answer"
) -> list[Finding]:
    return check_seed(seed, judge, scorer=scorer, style=style, language=seed.language)


# --- truths ---------------------------------------------------------------------------------

UNUSABLE = [
    # truths, choices, scorer, reason
    (("$$",), (), "auto", "empty_truth"),
    (("**",), (), "vqa", "empty_truth"),
    (("x" * 3000,), (), "auto", "truth_too_long"),
    (("E",), ("cat", "dog"), "auto", "not_an_option"),
    (("(C)",), ("cat", "dog"), "choice", "not_an_option"),
    (("bird",), ("cat", "dog"), "auto", "not_an_option"),
    (("$$", "E"), ("cat", "dog"), "auto", "empty_truth"),
]


@pytest.mark.parametrize(("truths", "choices", "scorer", "reason"), UNUSABLE)
def test_a_truth_that_no_response_can_match_is_unusable(
    truths: tuple[str, ...], choices: tuple[str, ...], scorer: str, reason: str, judge: Judge
) -> None:
    seed = Seed("q", "Which?", answers=truths, choices=choices, origin="seeds.jsonl:118")
    finding = check_truth(seed, judge, scorer)
    assert finding is not None
    assert (finding.reason, finding.unusable, finding.origin) == (reason, True, "seeds.jsonl:118")
    assert finding.detail
    assert finding.remedy
    assert findings(seed, judge, scorer) == [finding]


USABLE = [
    # truths, choices, language, style
    (("12",), (), "en", "final_answer"),
    (("$\\frac{1}{2}$",), (), "en", "boxed"),
    (("B",), ("5 cm", "12 cm"), "en", "final_answer"),
    (("A",), ("5 cm", "12 cm"), "en", "think_boxed"),
    (("12 cm",), ("5 cm", "12 cm"), "en", "boxed"),
    (("a red car",), (), "en", "boxed"),
    (("红色",), (), "zh", "final_answer"),
    (("AC",), ("1", "2", "3"), "zh", "boxed"),
    (("yes",), (), "en", "think_boxed"),
    (("09/07/2017",), (), "en", "final_answer"),
    (("(1, 2]",), (), "en", "boxed"),
    (("x = 3",), (), "en", "final_answer"),
    (("No. 12, Jalan 5/62A",), (), "en", "final_answer"),
    (("<image>",), (), "en", "final_answer"),
]


@pytest.mark.parametrize(("truths", "choices", "language", "style"), USABLE)
def test_a_truth_that_responses_can_say_in_their_usual_dress_gives_no_finding(
    truths: tuple[str, ...], choices: tuple[str, ...], language: Any, style: Style, judge: Judge
) -> None:
    seed = Seed("q", "Which?", answers=truths, choices=choices, language=language)
    assert findings(seed, judge, style=style) == []


DOUBTFUL = [
    # truths, choices, reason, what the detail names
    (("7", "8"), (), "contradicting_truths", "'8'"),
    (("A",), ("0.5", "1/2", "3"), "ambiguous_options", "option B"),
    (("B",), ("Dog", "dog", "cat"), "ambiguous_options", "option A"),
    (("first line\nsecond line",), (), "lost_in_extraction", "first line"),
    (("12", "$$"), (), "empty_truth", "$$"),
    (
        ("cup", "cup", "mug", "mug", "jar", "jar", "pot", "vase", "bowl", "glass"),
        *((), "few_annotators", "no 3 of 10 agree"),
    ),
]


@pytest.mark.parametrize(("truths", "choices", "reason", "names"), DOUBTFUL)
def test_a_doubtful_truth_is_listed_and_the_seed_kept(
    truths: tuple[str, ...], choices: tuple[str, ...], reason: str, names: str, judge: Judge
) -> None:
    seed = Seed("q", "Which?", answers=truths, choices=choices)
    assert check_truth(seed, judge) is None
    (finding,) = findings(seed, judge)
    assert (finding.reason, finding.unusable) == (reason, False)
    assert names in finding.detail


@pytest.mark.parametrize(("truth", "doubted"), [("E", True), ("C", False), ("I am", False)])
def test_a_letter_beyond_the_options_in_the_question_is_doubtful(
    truth: str, doubted: bool, judge: Judge
) -> None:
    seed = Seed("q", "Which is it?\nA. cat\nB. dog\nC. cow", answers=(truth,))
    found = findings(seed, judge)
    assert [(one.reason, one.unusable) for one in found] == [("not_an_option", False)] * doubted


def test_annotators_who_agree_in_other_words_are_no_contradiction(judge: Judge) -> None:
    assert findings(Seed("q", "How much?", answers=("0.5", "1/2", "50%")), judge) == []
    near = Seed("q", "What is the value?", answers=("100", "101"))
    assert findings(near, judge, "relaxed") == []
    assert [f.reason for f in findings(near, judge, "math")] == ["contradicting_truths"]


def test_a_seed_without_a_truth_has_nothing_to_audit(judge: Judge) -> None:
    assert check_truth(Seed("q", "Describe it."), judge) is None
    assert findings(Seed("q", "Describe it."), judge) == []


def never(query: Query) -> Decision:
    raise AssertionError(f"planning must not wait for symbolic mathematics: {query}")


def test_planning_needs_no_symbolic_mathematics() -> None:
    truths = ["\\int_0^1 x dx", "x^2+1", "\\sqrt{8}", "10^{10^{10}}", "(x+1)^2 = 0", "\\{1, 2\\}"]
    with_choices = [Seed("c", "?", answers=("B",), choices=("\\sqrt{8}", "2\\sqrt{2}"))]
    judge = Judge(symbolic=never)
    for seed in [*with_choices, *(Seed("q", "?", answers=(truth,)) for truth in truths)]:
        for scorer in ("auto", "math", "relaxed"):
            assert check_truth(seed, judge, scorer) is None


# --- before sampling ------------------------------------------------------------------------

ROWS: list[dict[str, Any]] = [
    {"id": "good", "question": "What is 2 + 3?", "answer": "5"},
    {"id": "empty", "question": "What is 2 + 4?", "answer": "$$", "image": "1.png"},
    {"id": "open", "question": "Say something.", "image": "1.png"},
    {"id": "gone", "answer": "5"},
]


def make_config(tmp_path: Path, *words: str, rows: Sequence[dict[str, Any]] = ROWS) -> Config:
    path = write_jsonl(tmp_path / "seeds.jsonl", rows)
    return load_config(None, [f"seeds={path}", f"out={tmp_path / 'out'}", *SERVED, *words])


def planned_seeds(config: Config) -> list[str]:
    uris = list_parts(f"{config.out}/seeds")
    return [row for uri in uris if "unit" in uri for row in read_parquet(uri)["id"].to_pylist()]


def test_an_unusable_truth_is_a_drop_before_a_token_is_sampled(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    manifest = runs.plan(config)
    assert planned_seeds(config) == ["good", "open"]
    assert manifest.drops == 2
    drops = read_parquet(f"{config.out}/seeds/drops.parquet").to_pylist()
    assert [(d["item_id"], d["stage"], d["reason"]) for d in drops] == [
        ("empty", "audit", "unusable_truth"),
        ("gone", "seeds", "missing_question"),
    ]
    assert "seeds.jsonl:2: empty_truth" in drops[0]["detail"]


def test_with_open_such_a_seed_goes_on_without_a_truth(tmp_path: Path) -> None:
    config = make_config(tmp_path, "scoring.unusable_truth=open")
    runs.plan(config)
    assert planned_seeds(config) == ["good", "empty", "open"]
    items = list(screen(seeds.read_sources(config.seeds), config))
    assert [item.has_truth for item in items if isinstance(item, Seed)] == [True, False, False]


def test_what_becomes_of_unusable_truths_belongs_to_the_build(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    first = runs.plan(config)
    assert runs.plan(config) == first
    with pytest.raises(BuildConflictError, match=r"scoring\.unusable_truth"):
        runs.plan(make_config(tmp_path, "scoring.unusable_truth=open"))


def test_the_plan_counts_what_will_be_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "_CHECKS", ())  # There is no server to ask.
    monkeypatch.setattr(engines, "try_model", lambda config: ())
    estimate = stages.plan(make_config(tmp_path))
    assert estimate.drops == {"unusable_truth": 1, "missing_question": 1}
    assert (estimate.seeds, estimate.with_truth) == (2, 1)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data beside the checkout")
@pytest.mark.parametrize("style", ["final_answer", "boxed", "think_boxed"])
def test_no_truth_of_real_data_is_unusable_or_lost_in_extraction(style: str, judge: Judge) -> None:
    config = load_config(None, [f"seeds={REAL}", f"prompts.style={style}"])
    templates = prompts.load_templates(config)
    result = audit_seeds(seeds.read_sources(config.seeds), config, templates, judge)
    assert result.seeds > 150
    wrong = ("lost_in_extraction", "unequal_to_itself", "undecided_truth")
    assert [f for f in result.findings if f.unusable or f.reason in wrong] == []


# --- labels ---------------------------------------------------------------------------------


LABELS: list[dict[str, Any]] = [
    {"id": "a", "pred": "12 cm", "gold": "12", "expected": True},
    {"id": "b", "predicted": "13", "truth": "12", "label": "incorrect", "kind": "number"},
    {"id": "c", "response": "So.\nFinal answer: B", "gold": ["B"], "label": "correct",
     "choices": ["5", "7"]},
    {"id": "d", "response": "\\boxed{}", "style": "boxed", "gold": "B", "outcome": "no_answer"},
    {"id": "e", "pred": "9^9^9^9", "gold": "1", "must": "false_or_error_quickly"},
    {"id": "f", "pred": 12, "gold": 13, "expected": True},
]  # fmt: skip


def test_a_labelled_file_gives_the_confusion_table_and_each_disagreement(
    tmp_path: Path, judge: Judge
) -> None:
    cases = list(read_cases(write_jsonl(tmp_path / "labels.jsonl", LABELS)))
    judged = [(case, judge_case(judge, case)) for case in cases]
    assert [case.id for case, verdict in judged if not case.agrees(verdict)] == ["f"]
    table = confusion(judged)
    assert table.counts["correct", "correct"] == 2
    assert table.counts["correct", "incorrect"] == 1
    assert (table.false_positives.hits, table.false_positives.of) == (0, 3)
    assert (table.misses.hits, table.misses.of) == (1, 3)
    assert [case.kind for case in cases] == ["auto", "number", "auto", "auto", "auto", "auto"]


WILSON = [
    # hits, cases, low, high (R: binom::binom.confint(hits, cases, methods = "wilson"))
    (0, 259, 0.0, 0.0146),
    (1, 10, 0.0179, 0.4042),
    (5, 10, 0.2366, 0.7634),
    (10, 10, 0.7225, 1.0),
]


@pytest.mark.parametrize(("hits", "of", "low", "high"), WILSON)
def test_rates_have_wilson_s_interval(hits: int, of: int, low: float, high: float) -> None:
    assert Rate(hits, of).interval == pytest.approx((low, high), abs=1e-4)


def test_a_rate_of_nothing_says_nothing() -> None:
    assert Rate(0, 0).share is None
    assert Rate(0, 0).interval == (0.0, 1.0)


BAD_LABELS = [
    ("{", "not a JSON object"),
    ("[1]", "list"),
    ('{"gold": "1", "label": true}', "pred"),
    ('{"pred": "1", "response": "x", "gold": "1", "label": true}', "one of the two"),
    ('{"pred": "1", "gold": "1"}', "label"),
    ('{"pred": "1", "gold": "1", "label": "right"}', "'right'"),
    ('{"pred": "1", "label": true}', "gold"),
    ('{"pred": "1", "gold": "1", "label": true, "scorer": "fuzzy"}', "'fuzzy'"),
    ('{"response": "1", "gold": "1", "label": true, "style": "shouted"}', "'shouted'"),
]


@pytest.mark.parametrize(("line", "says"), BAD_LABELS)
def test_a_bad_row_of_labels_is_named_with_its_line(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"pred": "1", "gold": "1", "label": true}\n\n' + line, encoding="utf-8")
    with pytest.raises(InputError, match=r"labels\.jsonl:3") as caught:
        list(read_cases(path))
    assert says in str(caught.value)


# --- suspects -------------------------------------------------------------------------------


def rollout(seed: Seed, answers: Sequence[str | None]) -> Rollout:
    texts = ["I wonder." if a is None else f"Thinking {a}.\nFinal answer: {a}" for a in answers]
    responses = tuple(Response(text, 5, "stop", i) for i, text in enumerate(texts))
    return Rollout(seed, seed.question, "t", "final_answer", "m", responses=responses)


SUSPECT = [
    # truths, choices, answers, majority (None: nothing suspicious)
    (("12",), (), ["15"] * 6 + ["12"], None),  # a seventh is more than a tenth
    (("12",), (), ["15"] * 9 + ["12"], "15"),
    (("12",), (), ["15", "15.0", "15", "$15$", "9"], "15"),
    (("1/3",), (), ["0.5", "1/2", "\\frac12", "50%"], "0.5"),
    (("12",), (), ["15"] * 3, None),  # too few
    (("12",), (), ["15"] * 3 + [None] * 9, None),
    (("12",), (), ["15"] * 4 + [None] * 9, "15"),
    (("12",), (), ["15", "15", "15", "16", "17", "18"], None),  # no majority
    (("12", "15"), (), ["15"] * 6, None),
    (("A",), ("5 cm", "12 cm"), ["B", "(B)", "B. 12 cm", "12 cm"], "(B)"),
    ((), (), ["15"] * 6, None),
]


@pytest.mark.parametrize(("truths", "choices", "answers", "majority"), SUSPECT)
def test_a_seed_is_suspect_where_a_clear_majority_agrees_on_another_answer(
    truths: tuple[str, ...],
    choices: tuple[str, ...],
    answers: list[str | None],
    majority: str | None,
    judge: Judge,
) -> None:
    seed = Seed("q", "<image>\nHow long?", answers=truths, choices=choices, origin="a.jsonl:7")
    found = list(suspect_truths([rollout(seed, answers)], judge))
    assert [one.majority for one in found] == ([] if majority is None else [majority])
    for one in found:
        assert (one.seed_id, one.origin, one.truths) == ("q", "a.jsonl:7", truths)
        assert one.majority_share >= 0.6
        assert one.answered == sum(answer is not None for answer in answers)


def test_the_order_of_responses_says_nothing(judge: Judge) -> None:
    seed = Seed("q", "?", answers=("1/3",))
    answers: list[str | None] = ["0.5", "1/2", "1/2", "0.5", "7", None, "8"]
    first = list(suspect_truths([rollout(seed, answers)], judge))
    assert first
    for number in range(5):
        random.Random(number).shuffle(answers)
        assert list(suspect_truths([rollout(seed, answers)], judge)) == first


def test_the_bounds_of_suspicion_can_be_set(judge: Judge) -> None:
    seed = Seed("q", "?", answers=("12",))
    one = rollout(seed, ["15", "15", "16", "12"])
    assert list(suspect_truths([one], judge)) == []
    found = list(suspect_truths([one], judge, majority=0.5, truth_share=0.25))
    assert [(f.majority_share, f.truth_share) for f in found] == [(0.5, 0.25)]


class Undecided:
    """A judge that never knows; counts how often it compares answers."""

    def __init__(self, outcome: Any) -> None:
        self.asked = 0
        self.outcome = outcome

    def score_answer(self, predicted: str | None, gold: Any, **_: Any) -> Verdict:
        self.asked += 1
        return Verdict(self.outcome, predicted)

    def score_response(self, text: str, gold: Any, **_: Any) -> Verdict:
        return Verdict(self.outcome, text.rpartition(" ")[2])


def test_what_cannot_be_judged_makes_no_seed_suspect() -> None:
    seed = Seed("q", "?", answers=("12",))
    assert list(suspect_truths([rollout(seed, ["15"] * 9)], Undecided("undecided"))) == []


def test_comparisons_are_bounded_however_many_answers_differ() -> None:
    seed = Seed("q", "?", answers=("12",))
    many = rollout(seed, [str(1000 + i) for i in range(500)] + ["7"] * 900)
    judge = Undecided("incorrect")
    (found,) = suspect_truths([many], judge)
    assert found.majority == "7"
    assert judge.asked < 400


# --- the command ----------------------------------------------------------------------------


def test_audit_lists_findings_with_place_reason_and_remedy(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "seeds.jsonl", ROWS)
    done = mmpr("audit", f"seeds={path}", "--json", tmp_path / "found.json")
    assert done.returncode == 4, done.stderr
    for word in ("seeds.jsonl:2", "empty_truth", "leave the field out", "missing_question"):
        assert word in done.stderr
    content = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert [(f["seed_id"], f["reason"]) for f in content["findings"]] == [("empty", "empty_truth")]
    assert content["seeds_with_truth"] == 2


def test_a_place_where_no_list_can_be_written_is_found_out_first(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "seeds.jsonl", ROWS)
    for place in (tmp_path, path / "found.json", Path("/proc/nothing/found.json")):
        done = mmpr("audit", path, "--json", place)
        assert done.returncode == 2
        assert "error: --json" in done.stderr
        assert "Traceback" not in done.stderr


def test_rows_of_which_none_is_a_seed_are_a_finding(tmp_path: Path) -> None:
    done = mmpr("audit", write_jsonl(tmp_path / "seeds.jsonl", [{**ROWS[0], "scan": "1.png"}]))
    assert done.returncode == 4, done.stderr
    assert "unread_columns 1" in done.stderr
    assert "no truth to check" in done.stderr
    assert "nothing found" not in done.stderr


def test_a_file_without_rows_is_a_finding(tmp_path: Path) -> None:
    done = mmpr("audit", write_jsonl(tmp_path / "seeds.jsonl", []))
    assert done.returncode == 4, done.stderr
    assert "no truth to check" in done.stderr


def test_that_nothing_is_found_is_said_only_of_rows_that_are_seeds(tmp_path: Path) -> None:
    done = mmpr("audit", write_jsonl(tmp_path / "seeds.jsonl", [ROWS[0], {"question": ""}]))
    assert done.returncode == 0, done.stderr
    assert "nothing found among the rows that are seeds" in done.stderr


def test_audit_of_clean_seeds_ends_with_0_and_takes_a_bare_path(tmp_path: Path) -> None:
    done = mmpr("audit", write_jsonl(tmp_path / "seeds.jsonl", [ROWS[0], ROWS[2]]))
    assert done.returncode == 0, done.stderr
    assert "nothing found" in done.stderr


def test_audit_of_labels_ends_with_4_where_the_scorer_disagrees(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "labels.jsonl", LABELS)
    done = mmpr("audit", "--labels", path, "--json", tmp_path / "found.json")
    assert done.returncode == 4, done.stderr
    assert "1/3 = 33.3%" in done.stderr
    content = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert [row["id"] for row in content["disagreements"]] == ["f"]
    assert content["misses"]["hits"] == 1
    assert mmpr("audit", "--labels", write_jsonl(path, LABELS[:5])).returncode == 0


def test_audit_of_rollouts_lists_suspect_truths(tmp_path: Path) -> None:
    fine = rollout(Seed("fine", "What is 7 + 5?", answers=("12",)), ["12"] * 6)
    odd = rollout(Seed("odd", "What is 7 + 8?", answers=("14",)), ["15"] * 6)
    table = rollouts_to_table([fine, replace(odd, index=1)])
    write_parquet(table, tmp_path / "out" / "rollouts" / "unit-00000.parquet")
    done = mmpr("audit", "--rollouts", tmp_path / "out", "--json", tmp_path / "found.json")
    assert done.returncode == 4, done.stderr
    assert "1 suspect truths among 2 seeds" in done.stderr
    content = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert [(s["seed_id"], s["majority"]) for s in content["suspects"]] == [("odd", "15")]
    assert mmpr("audit", "--rollouts", tmp_path / "nothing").returncode == 2


def test_screening_leaves_drops_as_they_are() -> None:
    drop = Drop("x", "seeds", "missing_question")
    assert list(screen([drop], Config())) == [drop]
