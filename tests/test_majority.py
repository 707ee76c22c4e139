"""Closed questions without a truth: a clear majority stands for it, unless it is given blind."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from build_files import rollouts_in, write_jsonl
from fake_samplers import FakeSampler
from pair_samples import make_rollout, picture
from small_builds import SERVED, Notes, sample_here

from mmpr_builder.config import Config, load_config
from mmpr_builder.errors import ConfigError
from mmpr_builder.output import load_pairs, read_drops, read_run
from mmpr_builder.pairing import settled
from mmpr_builder.records import ImageRef, Response, Rollout, Seed
from mmpr_builder.runs import run_pairing
from mmpr_builder.sampling import Request, Sample
from mmpr_builder.scoring import Judge


@pytest.fixture
def image(tmp_path: Path) -> ImageRef:
    return picture(tmp_path / "red.png", "firebrick")


def settings(*overrides: str, branch: str = "majority") -> Config:
    seeds = f"seeds=[{{path: a.jsonl, name: grid, branch: {branch}}}]"
    return load_config(None, [seeds, "sampling.blind=8", *overrides])


def said(*answers: str) -> list[str]:
    return [f"Way {i}.\nFinal answer: {answer}" for i, answer in enumerate(answers)]


def asked(
    image: ImageRef | None, answers: Sequence[str], blind: Sequence[str] = (), **more: object
) -> Rollout:
    images = () if image is None else (image,)
    seed = Seed("q", "<image>\nHow many?" if images else "2 + 5?", images, source="grid")
    rollout = make_rollout(replace(seed, **more), said(*answers))  # type: ignore[arg-type]
    unseen = tuple(Response(text, 5, "stop", i) for i, text in enumerate(said(*blind)))
    return replace(rollout, blind=unseen)


ELSEWHERE = ("1", "2", "3", "4", "5", "6", "8", "9")
YES_NO = {"question": "<image>\nIs it red?"}
OPTIONS = {"choices": ("red", "blue", "green", "grey")}
CASES = [
    # answers, blind ones, more of the seed, the truth, or why there is none
    (["7"] * 9 + ["6"], ELSEWHERE, {}, "7"),
    (["7"] * 6 + ["7.0"] * 3 + ["6"], ELSEWHERE, {}, "7"),  # one answer in two spellings
    (["7"] * 5 + ["6"] * 3, ELSEWHERE, {}, "no_majority"),
    (["7"] * 5, ELSEWHERE, {}, "no_majority"),  # five draws of four answers may do that
    (["7"] * 8, ["7"] * 4 + ["6"] * 4, {}, "majority_blind"),
    (["7"] * 8, ["7"] * 3 + ["6"] * 5, {}, "7"),
    (["7"] * 8, [], {}, "majority_blind"),  # it could not be asked
    (["B"] * 8, ["A"] * 8, OPTIONS, "no_majority"),  # of a position eight draws may agree
    (["B"] * 15 + ["C"], ["A"] * 8, OPTIONS, "B"),
    (["yes"] * 8, ["no"] * 8, YES_NO, "no_majority"),
    (["yes"] * 15 + ["no"], ["no"] * 8, YES_NO, "yes"),
    (["7", "the row", "so"], ELSEWHERE, {}, "no_majority"),
]


@pytest.mark.parametrize(("answers", "blind", "more", "truth"), CASES)
def test_a_clear_majority_that_needs_the_image_is_the_truth(
    image: ImageRef, answers: list[str], blind: list[str], more: dict[str, object], truth: str
) -> None:
    with Judge(settings().scoring) as judge:
        found = settled(asked(image, answers, blind, **more), settings(), judge).seed
    if truth in ("no_majority", "majority_blind"):
        assert (found.answers, found.truth_source) == ((), truth)
    else:
        assert (found.answers, found.truth_source) == ((truth,), "majority")


def test_a_question_without_an_image_has_nothing_to_be_blind_to() -> None:
    with Judge(settings().scoring) as judge:
        found = settled(asked(None, ["7"] * 8), settings(), judge).seed
    assert found.answers == ("7",)


def test_nothing_is_settled_that_was_not_asked_for_or_has_a_truth(image: ImageRef) -> None:
    rollout = asked(image, ["7"] * 8, ELSEWHERE)
    known = replace(rollout, seed=replace(rollout.seed, answers=("3",)))
    with Judge(settings().scoring) as judge:
        assert settled(rollout, settings(branch="auto"), judge) is rollout
        assert settled(known, settings(), judge) is known


def test_majorities_need_blind_samples() -> None:
    with pytest.raises(ConfigError, match=r"sampling\.blind=8"):
        settings("sampling.blind=0")


class Counting(FakeSampler):
    """Nearly always says what the number of the question is; blind it says 0."""

    async def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
        for index in range(request.first, request.first + request.n):
            answer = "0" if request.blind else "7" if index % 8 else "6"
            if "colour" in request.prompt:
                answer = str(index)
            yield Sample(index, f"I see {index}.\nFinal answer: {answer}", 7, "stop", index)


@pytest.mark.parametrize("policy", ["fixed", "adaptive"])
def test_a_build_pairs_by_majorities_and_marks_them(
    tmp_path: Path, image: ImageRef, policy: str
) -> None:
    shown = {"image": image.uri}
    rows = [
        {"id": "agreed", "question": "<image>\nHow many?", **shown},
        {"id": "open", "question": "<image>\nWhich colour?", **shown},
        {"id": "known", "question": "<image>\nHow many red ones?", "answer": "6", **shown},
        {"id": "text", "question": "What is 3 + 4?"},
    ]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    config = load_config(
        None,
        [
            *(*SERVED, "model=fake", "sampling.n=16", "sampling.blind=4", "dropout.apply=none"),
            f"seeds=[{{path: {path}, branch: majority}}]",
            *(f"out={tmp_path / 'out'}", f"sampling.policy={policy}"),
        ],
    )
    sample_here(config, lambda _: Counting())
    styles = {rollout.seed.id: rollout.style for rollout in rollouts_in(config.out)}
    assert set(styles.values()) == {"final_answer"}
    run_pairing(config, Notes())
    rows_made = load_pairs(config.out).remove_columns("images").to_list()
    found = {row["seed_id"]: (row["answer"], row["truth_source"]) for row in rows_made}
    assert found == {
        "agreed": ("7", "majority"),
        "known": ("6", "given"),
        "text": ("7", "majority"),
    }
    assert [(drop.item_id, drop.reason) for drop in read_drops(config.out)] == [
        ("open", "no_majority")
    ]
    counts = read_run(config.out)["counts"]
    assert counts["majority"] == {"majority": 2, "no_majority": 1}
