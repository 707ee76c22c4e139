"""Suspect truths as a control: planted ones are set aside, doubtful majorities are not."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from build_files import drops_in
from pair_samples import make_rollout

from mmpr_builder.audit.suspect_truths import suspect_truths
from mmpr_builder.config import Config, load_config
from mmpr_builder.io.tables import read_parquet, rollouts_to_table, write_parquet
from mmpr_builder.pairing import judge_and_pair
from mmpr_builder.progress import Progress
from mmpr_builder.quality.filters import Findings
from mmpr_builder.quality.suspects import CONTROL
from mmpr_builder.records import Continuation, Rollout, Seed
from mmpr_builder.runs import run_pairing
from mmpr_builder.scoring import Judge

ON = load_config(None, ["quality.suspect_truths=true", "distributed.scoring_workers=1"])


def rolled(seed: Seed, answers: Sequence[str | None], index: int = 0) -> Rollout:
    """Responses that end in these answers, each in words of its own; None gives none."""
    texts = [
        f"Thought {i} leads nowhere." if a is None else f"Thought {i}.\nFinal answer: {a}"
        for i, a in enumerate(answers)
    ]
    return make_rollout(seed, texts, index=index)


NUMBER = Seed("n", "How long is it?", answers=("12",), origin="a.jsonl:7")
LETTER = Seed("c", "Which?", answers=("B",), choices=("5 cm", "12 cm", "7 cm", "9 cm"))
YES = Seed("y", "Is it red?", answers=("yes",))
WORDS = Seed("w", "What animal is it?", answers=("a horse",))

PLANTED = [
    # seed, answers, how many agree on what
    (NUMBER, ["15"] * 27 + ["12"] + ["9"] * 4, "27 of 32 answers agree on '15', 1 on the truth"),
    (NUMBER, ["15", "15.0", "$15$", "15", "15", "15"], "6 of 6 answers agree on '15'"),
    (NUMBER, ["15"] * 8 + ["9"], "8 of 9 answers agree on '15'"),
    (NUMBER, ["15"] * 8 + [None] * 8, "8 of 8 answers agree on '15'"),
    (LETTER, ["A"] * 26 + ["C"] * 6, "26 of 32 answers agree on 'A'"),
    (LETTER, ["A", "(A)", "A. 5 cm", "5 cm"] * 4, "16 of 16 answers agree on '"),
    (YES, ["no"] * 11, "11 of 11 answers agree on 'no'"),
    (WORDS, ["a zebra"] * 9 + ["zebra"] * 5 + ["a mule"] * 2, "14 of 16 answers agree on 'a z"),
]


@pytest.mark.parametrize(("seed", "answers", "says"), PLANTED)
def test_a_clear_majority_for_another_answer_sets_a_seed_aside(
    seed: Seed, answers: list[str | None], says: str, judge: Judge
) -> None:
    verdicts, pairs, (drop,) = judge_and_pair(rolled(seed, answers), ON, judge)
    assert len(verdicts) == len(answers)
    assert not pairs
    assert (drop.item_id, drop.stage, drop.reason) == (seed.id, "quality", "suspect_truth")
    assert drop.detail.startswith(says)
    assert repr(seed.answers[0]) in drop.detail
    shuffled = list(answers)
    random.Random(3).shuffle(shuffled)
    assert judge_and_pair(rolled(seed, shuffled), ON, judge)[2] == [drop]


CLEAN = [
    # seed, answers, why nothing is wrong with its truth
    (NUMBER, ["15"] * 3 + ["12"], "few answers, and one is right"),
    (NUMBER, ["15"] * 4, "four of four may be luck"),
    (NUMBER, ["15"] * 5, "five of five, too: there are several answers to agree on"),
    (NUMBER, ["15"] * 7 + ["9"], "seven of eight, too"),
    (NUMBER, ["15"] * 27 + ["12"] * 5, "more than a tenth is right"),
    (NUMBER, ["15"] * 18 + ["9"] * 14, "no clear majority"),
    (NUMBER, ["15"] * 10 + [None] * 22, "most have no answer"),
    (NUMBER, [None] * 32, "none has one"),
    (NUMBER, [str(i) for i in range(100, 132)], "all wrong, each in its own way"),
    (LETTER, ["A"] * 10, "a letter that a model prefers"),
    (LETTER, ["A"] * 25 + ["C"] * 7, "the same with more samples"),
    (YES, ["no"] * 10, "a word that a model prefers"),
    (YES, ["no"] * 25 + ["maybe"] * 7, "the same with more samples"),
    (Seed("o", "Describe it."), ["15"] * 32, "no truth to be wrong"),
    (NUMBER, ["12"] * 20 + ["15"] * 12, "the model is rather right"),
]


@pytest.mark.parametrize(("seed", "answers", "why"), CLEAN)
def test_what_luck_taste_or_silence_can_explain_is_left_alone(
    seed: Seed, answers: list[str | None], why: str, judge: Judge
) -> None:
    with_control = judge_and_pair(rolled(seed, answers), ON, judge)
    assert with_control == judge_and_pair(rolled(seed, answers), Config(), judge), why


def test_draws_among_several_answers_flag_one_seed_in_a_thousand_at_most() -> None:
    """The commonest of four answers, whichever it is; three of them are wrong."""
    for n in (5, 6, 8, 12, 16):
        needed = CONTROL.votes(n, closed=False)
        tail = sum(math.comb(n, k) * 0.25**k * 0.75 ** (n - k) for k in range(needed, n + 1))
        assert 3 * tail <= 0.001


def test_the_list_tells_how_much_of_it_luck_explains(judge: Judge) -> None:
    """40 wrong truths among 1,000 seeds, all answers of the others drawn from four."""
    rng = random.Random(3)
    rollouts = []
    for i in range(1000):
        seed, wrong = replace(NUMBER, id=f"q{i:04}"), i < 40
        answers = ["15"] * 12 if wrong else [str(rng.choice((12, 13, 14, 15))) for _ in range(12)]
        rollouts.append(rolled(seed, answers, i))
    listed = list(suspect_truths(rollouts, judge, truth_share=0.25, majority=0.5))
    assert len(listed) > 40
    sure = [one for one in listed if one.false_discovery <= 0.05]
    assert {one.seed_id for one in sure} >= {f"q{i:04}" for i in range(40)}
    assert sum(one.seed_id >= "q0040" for one in sure) <= 0.1 * len(sure)
    assert max(one.false_discovery for one in listed) > 0.05


def test_what_cannot_be_decided_makes_no_majority(judge: Judge) -> None:
    seed = Seed("u", "What is x?", answers=("\\sin(x)^2+1",))
    odd = "\\unknownmacro{x}{y}"
    verdicts, _, (drop,) = judge_and_pair(rolled(seed, [odd] * 32), ON, judge)
    assert {verdict.outcome for verdict in verdicts} == {"undecided"}
    assert drop.reason != "suspect_truth"


@pytest.mark.parametrize(
    ("answered", "closed", "free"),
    [(5, None, None), (6, None, 6), (8, None, 8), (10, None, 9), (11, 11, 9), (32, 26, 20)],
)
def test_the_fewer_answers_the_more_of_them_must_agree(
    answered: int, closed: int | None, free: int | None
) -> None:
    votes = CONTROL.votes(answered, closed=True), CONTROL.votes(answered, closed=False)
    assert tuple(n if n <= answered else None for n in votes) == (closed, free)


def planted_build(folder: Path) -> list[Rollout]:
    seeds = [
        Seed(f"q{i}", f"What is {i} + 1?", answers=(str(i + 1 + (i % 10 == 3) * 5),))
        for i in range(40)
    ]
    rollouts = [
        rolled(seed, [str(i + 1)] * 12 + [str(i + 2)] * 2 + [None] * 2, i)
        for i, seed in enumerate(seeds)
    ]
    write_parquet(rollouts_to_table(rollouts), folder / "rollouts" / "unit-00000.parquet")
    return rollouts


def test_a_build_lists_them_in_its_drops_and_the_audit_finds_the_same(
    tmp_path: Path, judge: Judge
) -> None:
    rollouts = planted_build(tmp_path)
    run_pairing(ON.model_copy(update={"out": str(tmp_path)}), Progress())
    dropped = drops_in(tmp_path)
    assert [drop.item_id for drop in dropped] == ["q3", "q13", "q23", "q33"]
    assert {drop.reason for drop in dropped} == {"suspect_truth"}
    found = [one.seed_id for one in suspect_truths(rollouts, judge)]
    assert found == ["q3", "q13", "q23", "q33"]


def test_their_continuations_are_counted_with_the_others(judge: Judge) -> None:
    rollout = rolled(NUMBER, ["15"] * 32)
    cut = Continuation("Thought", " 1 is another one.", 5, "stop", 1, 0.5)
    responses = tuple(response.with_continuations([cut]) for response in rollout.responses)
    findings = Findings()
    _, _, (drop,) = judge_and_pair(
        replace(rollout, responses=responses), ON, judge, findings=findings
    )
    assert drop.reason == "suspect_truth"
    assert findings.continuations == {(0.5, "suspect_truth"): 32}


def test_without_it_nothing_changes_but_those_seeds(tmp_path: Path) -> None:
    pairs = []
    for name, config in (("on", ON), ("off", load_config(None, ["distributed.scoring_workers=1"]))):
        (tmp_path / name).mkdir()
        planted_build(tmp_path / name)
        run_pairing(config.model_copy(update={"out": str(tmp_path / name)}), Progress())
        rows = read_parquet(tmp_path / name / "pairs" / "part-00000.parquet", ["id", "seed_id"])
        pairs.append({row["id"]: row["seed_id"] for row in rows.to_pylist()})
    on, off = pairs
    wrong = {"q3", "q13", "q23", "q33"}
    assert on == {pair: seed for pair, seed in off.items() if seed not in wrong}
