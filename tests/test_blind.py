"""Samples without the images: asked for beside the others, judged alike, and what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import engine_asks
import fake_samplers
import pyarrow.parquet as pq
import pytest
from build_files import files_in, rollouts_in, write_jsonl
from openai_server import OpenAIServer, choices
from pair_samples import LastWord, make_rollout, picture, write_build
from small_builds import SERVED, sample_here

from mmpr_builder import stages
from mmpr_builder.config import Config, load_config, sampling_identity
from mmpr_builder.engines import check_engine, make_sampler
from mmpr_builder.errors import ConfigError, EngineError, RowError
from mmpr_builder.io.tables import (
    list_parts,
    rollouts_to_table,
    write_parquet,
)
from mmpr_builder.output import read_run
from mmpr_builder.pairing import judge_and_pair
from mmpr_builder.probe import run_probe
from mmpr_builder.progress import Progress
from mmpr_builder.quality.filters import Findings
from mmpr_builder.quality.suspects import blind_result, least_samples
from mmpr_builder.records import (
    ImageRef,
    Outcome,
    Response,
    Rollout,
    Seed,
    Template,
    Verdict,
    derived_seed,
    generated_tokens,
)
from mmpr_builder.runs import run_pairing
from mmpr_builder.runs.actors import Counts
from mmpr_builder.sampling import Request, Sample

TEMPLATE = Template("short_en", "{question}\nEnd with Final answer: …")


@pytest.fixture
def image(tmp_path: Path) -> ImageRef:
    return picture(tmp_path / "red.png", "firebrick")


def settings(*overrides: str) -> Config:
    return load_config(None, ["sampling.n=3", "sampling.blind=4", *overrides])


def asking(image: ImageRef, answer: str = "3", **more: Any) -> Seed:
    return Seed("q", "<image>\nHow many?", (image,), (answer,), **more)


class Noting(fake_samplers.Noting):
    """What is asked without the images fails as told."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__()
        self.failure = failure

    async def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
        async for sample in super().sample(request):
            if request.blind and self.failure is not None:
                raise self.failure
            yield sample


def rolled(seed: Seed, config: Config, sampler: Any) -> Rollout:
    return engine_asks.rolled(seed, TEMPLATE, config, sampler)


# Sampling


def test_a_seed_is_answered_without_its_images_too(image: ImageRef) -> None:
    sampler = Noting()
    rollout = rolled(asking(image), settings("sampling.temperature=0.7"), sampler)
    seen, unseen = sorted(sampler.asked, key=lambda request: request.blind)
    assert (seen.n, len(seen.images), seen.blind) == (3, 1, False)
    assert (unseen.n, unseen.images, unseen.temperature) == (4, (), 0.7)
    assert unseen.prompt == "How many?\nEnd with Final answer: …"
    assert unseen.seed == derived_seed(0, "q", "blind")
    assert [r.seed for r in rollout.blind] == [unseen.seed + i for i in range(4)]
    assert len(rollout.responses) == 3


@pytest.mark.parametrize("policy", ["fixed", "adaptive"])
def test_nothing_else_changes(image: ImageRef, policy: str) -> None:
    how = f"sampling.policy={policy}"
    with_blind = rolled(asking(image), settings(how), fake_samplers.FakeSampler())
    without = rolled(asking(image), settings(how, "sampling.blind=0"), fake_samplers.FakeSampler())
    assert len(with_blind.blind) == 4
    assert replace(with_blind, blind=()) == without


WHO = [
    (True, True, True, 4),
    (False, True, True, 0),  # no image to leave out
    (True, False, True, 0),  # nothing to judge by
    (True, True, False, 0),  # not asked for
]


@pytest.mark.parametrize(("has_image", "has_truth", "on", "samples"), WHO)
def test_who_is_sampled_without_images(
    image: ImageRef, has_image: bool, has_truth: bool, on: bool, samples: int
) -> None:
    seed = Seed(
        "q",
        "<image>?" if has_image else "?",
        (image,) if has_image else (),
        ("3",) if has_truth else (),
    )
    config = settings() if on else settings("sampling.blind=0")
    assert len(rolled(seed, config, fake_samplers.FakeSampler()).blind) == samples


def test_neither_kind_of_sample_waits_for_the_other(image: ImageRef) -> None:
    class Meeting(fake_samplers.FakeSampler):
        """Each request is answered only when the other one is there, too."""

        def __init__(self) -> None:
            super().__init__()
            self.here = {True: asyncio.Event(), False: asyncio.Event()}

        async def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
            self.here[request.blind].set()
            await asyncio.wait_for(self.here[not request.blind].wait(), 30)
            async for sample in super().sample(request):
                yield sample

    assert len(rolled(asking(image), settings(), Meeting()).blind) == 4


def test_a_prompt_that_is_nothing_without_its_image_costs_the_seed_nothing(
    image: ImageRef,
) -> None:
    sampler = Noting(RowError("prompt_refused", "an empty text"))
    rollout = rolled(asking(image), settings(), sampler)
    assert (rollout.error, rollout.blind, len(rollout.responses)) == (None, (), 3)


def test_an_engine_that_dies_of_it_is_no_fault_of_the_row(image: ImageRef) -> None:
    with pytest.raises(EngineError, match="gone"):
        rolled(asking(image), settings(), Noting(EngineError("the core is gone")))


def test_a_seed_that_fails_leaves_no_request_behind(image: ImageRef) -> None:
    ended: list[bool] = []

    class Hanging(fake_samplers.FakeSampler):
        async def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
            if not request.blind:
                await asyncio.sleep(0)
                raise RowError("image_unreadable", "")
            try:
                await asyncio.sleep(600)
            finally:
                ended.append(True)
            yield Sample(0, "", 0, "stop", 0)

    rollout = rolled(asking(image), settings(), Hanging())
    assert rollout.error == ("image_unreadable", "")
    assert ended == [True]


def test_a_server_is_asked_without_the_images(image: ImageRef) -> None:
    def says(body: dict[str, Any]) -> tuple[int, Any]:
        return 200, choices(*(f"{body['n']} of it {i}" for i in range(body["n"])))

    with OpenAIServer(says) as server:
        words = ("sampling.engine=endpoint", f"sampling.endpoint.url={server.url}", "model=org/vlm")
        config = settings(*words)
        rollout = rolled(asking(image), config, make_sampler(config))
    shown = {body["n"]: body["messages"] for body in server.bodies}
    text = "How many?\nEnd with Final answer: …"
    assert shown[4] == [{"role": "user", "content": text}]
    assert [part["type"] for part in shown[3][0]["content"]] == ["image_url", "text"]
    assert [r.text for r in rollout.blind] == [f"4 of it {i}" for i in range(4)]


def test_one_greedy_sample_is_enough(image: ImageRef) -> None:
    words = ("sampling.temperature=0", "sampling.n=1", "sampling.engine=endpoint")
    with pytest.raises(ConfigError, match=r"4 times \(sampling\.blind\)"):
        check_engine(settings(*words))


# What old and new builds make of each other


def test_a_build_without_them_has_the_identity_it_had_before() -> None:
    before = sampling_identity(load_config(None))
    assert not [key for key in before if "blind" in key]
    assert sampling_identity(settings())["sampling.blind"] == 4
    assert sampling_identity(load_config(None, ["sampling.blind=0"])) == before
    assert sampling_identity(load_config(None, ["quality.max_blind=0.5"])) == before


def rows_of(tmp_path: Path) -> list[dict[str, Any]]:
    picture(tmp_path / "a.png", "navy")
    return [
        {"id": f"q{i}", "image": "a.png", "question": f"<image>\nNumber {i}?", "answer": "1"}
        for i in range(6)
    ] + [{"id": "open", "image": "a.png", "question": "<image>\nDescribe it."}]


def written(tmp_path: Path, rows: Sequence[dict[str, Any]], *overrides: str) -> Config:
    path = write_jsonl(tmp_path / "seeds.jsonl", rows)
    return load_config(
        None,
        [
            *SERVED,
            *("model=fake", "sampling.n=4", "sampling.blind=5", "distributed.unit_queries=3"),
            *(f"seeds={path}", f"out={tmp_path / 'out'}", "scoring.scorer=exact"),
            *overrides,
        ],
    )


def sampled(config: Config, *, extend: bool = False) -> tuple[list[Rollout], Counts, list[str]]:
    """The first half without Ray: (rollouts, counts, ids asked without images)."""
    noting = Noting()
    replay = config.sampling.engine == "replay"
    _, counts = sample_here(config, make_sampler if replay else lambda _: noting, extend=extend)
    asked = [request.id for request in noting.asked if request.blind]
    return rollouts_in(config.out), counts, asked


def test_every_part_of_a_build_has_the_column_and_counts_its_tokens(tmp_path: Path) -> None:
    rows = rows_of(tmp_path)
    config = written(tmp_path, [*rows, {**rows[0], "id": "again"}])
    rollouts, counts, asked = sampled(config)
    assert sorted(asked) == [f"q{i}" for i in range(6)]  # each once, equal rows and all
    assert {r.seed.id: len(r.blind) for r in rollouts} == {f"q{i}": 5 for i in range(6)} | {
        "open": 0
    }
    assert counts.tokens == sum(generated_tokens(rollout) for rollout in rollouts)
    for uri in list_parts(f"{config.out}/rollouts"):
        assert pq.read_schema(uri).names[-1] == "blind"
    run = run_pairing(config, Progress()).run["counts"]
    assert run["responses"] == {"sampled": 28, "continued": 4, "blind": 30}
    assert run["tokens"]["blind"] == 30 * 7
    assert run["tokens"]["generated"] == counts.tokens
    assert sum(source["tokens"] for source in run["sources"].values()) == counts.tokens


def test_a_build_that_is_extended_asks_only_for_new_seeds(tmp_path: Path) -> None:
    rows = rows_of(tmp_path)
    sampled(written(tmp_path, rows[:3]))
    grown, _, asked = sampled(written(tmp_path, rows), extend=True)
    assert sorted(asked) == ["q3", "q4", "q5"]
    fresh, _, _ = sampled(written(tmp_path, rows, f"out={tmp_path / 'fresh'}"))
    assert {r.seed.id: r.blind for r in grown} == {r.seed.id: r.blind for r in fresh}


def test_a_replay_gives_the_same_build(tmp_path: Path) -> None:
    config = written(tmp_path, rows_of(tmp_path), "dropout.keep=0.25,0.5", "quality.max_blind=0.3")
    first, _, _ = sampled(config)
    run_pairing(config, Progress())
    again = written(
        *(tmp_path, rows_of(tmp_path), "dropout.keep=0.25,0.5", "quality.max_blind=0.3"),
        *("sampling.engine=replay", f"sampling.replay_from={config.out}/rollouts"),
        f"out={tmp_path / 'again'}",
    )
    second, _, _ = sampled(again)
    assert [replace(r, index=0) for r in second] == [replace(r, index=0) for r in first]
    run_pairing(again, Progress())
    drops = [files_in(one.out, "drops") for one in (config, again)]
    assert drops[0] == drops[1]
    fewer = again.model_copy(
        update={"sampling": again.sampling.model_copy(update={"blind": 2}), "out": f"{tmp_path}/f"}
    )
    assert {len(r.blind) for r in sampled(fewer)[0]} == {0, 2}


def test_a_replay_of_a_build_that_has_none_is_refused(tmp_path: Path) -> None:
    config = written(tmp_path, rows_of(tmp_path), "sampling.blind=0")
    sampled(config)
    folder = f"sampling.replay_from={config.out}/rollouts"
    with pytest.raises(ConfigError, match=r"sampling\.blind = 4.*no samples without images"):
        check_engine(settings("sampling.engine=replay", folder))
    check_engine(settings("sampling.engine=replay", folder, "sampling.blind=0"))


def test_plan_and_probe_count_them(tmp_path: Path) -> None:
    config = written(tmp_path, rows_of(tmp_path), "dropout.keep=0.25,0.5,0.75")
    rollouts, _, _ = sampled(config)
    replay = ("sampling.engine=replay", f"sampling.replay_from={config.out}/rollouts")
    again = (*replay, f"out={tmp_path / 'again'}")
    config = written(tmp_path, rows_of(tmp_path), "dropout.keep=0.25,0.5,0.75", *again)
    planned = stages.plan(config)
    assert (planned.responses, planned.continuations, planned.blind) == (28, 12, 30)
    assert planned.most_tokens == 70 * config.sampling.max_tokens
    probe = run_probe(config, 99, Progress())
    assert probe.tokens.mean == sum(generated_tokens(rollout) for rollout in rollouts)


# The second half

LETTERS: dict[str, Outcome] = {
    "+": "correct",
    "-": "incorrect",
    "0": "no_answer",
    "?": "undecided",
}
TELLING = [
    # verdicts, choices, truth, threshold, solved
    ("+++", 0, "red", 0.3, True),
    ("++", 0, "red", 0.3, False),  # too few to tell
    ("+++++---", 0, "red", 0.3, False),
    ("++++++--", 0, "red", 0.3, True),
    ("++++++00", 0, "red", 0.3, True),
    ("++++++??", 0, "red", 0.3, True),
    ("????????", 0, "red", 0.3, False),
    ("--------", 0, "red", 0.0, False),
    ("+-------", 0, "red", 0.0, True),  # whoever cannot guess was right by knowing
    ("++++", 4, "B", 0.3, False),
    ("+++++", 4, "B", 0.3, True),
    ("+++++---", 4, "B", 0.3, False),
    ("+++++++-", 4, "B", 0.3, True),
    ("+++++++-", 2, "B", 0.3, False),
    ("++++++++", 2, "B", 0.3, True),
    ("++++", 0, "(B)", 0.3, False),  # the options are in the picture
    ("++++++", 0, "Yes", 0.3, False),
    ("+++++++", 0, "Yes", 0.3, True),
    ("+++++++", 0, "否", 0.3, True),
    ("++++++++", 1, "A", 0.3, False),  # no choice at all
]


@pytest.mark.parametrize(("pattern", "options", "truth", "most", "solved"), TELLING)
def test_solved_is_what_luck_does_not_explain(
    pattern: str, options: int, truth: str, most: float, solved: bool
) -> None:
    seed = Seed("q", "?", (), (truth,), tuple("ABCD"[:options]))
    result = blind_result(seed, [Verdict(LETTERS[letter]) for letter in pattern])
    assert result.is_solved(most) == solved
    assert (result.drop(seed, most) is not None) == solved


def test_so_many_samples_are_the_fewest_that_can_tell() -> None:
    for most in (0.0, 0.1, 0.3, 0.5, 0.9):
        for options in (0, 2, 4, 5):
            seed = Seed("q", "?", (), ("x",), tuple("ABCDE"[:options]))
            least = least_samples(most, blind_result(seed, []).chance)
            told = [
                blind_result(seed, [Verdict("correct")] * n).is_solved(most)
                for n in (least - 1, least)
            ]
            assert told == [False, True]


def test_a_threshold_that_nothing_can_pass_is_refused(tmp_path: Path) -> None:
    rows = rows_of(tmp_path)
    done = written(tmp_path, rows, "out=" + str(tmp_path / "x"))
    sampled(done)
    replay = ("sampling.engine=replay", f"sampling.replay_from={done.out}/rollouts")
    stages.check(written(tmp_path, rows, "quality.max_blind=0.5", *replay))
    for samples in (0, 4):
        words = (f"sampling.blind={samples}", "quality.max_blind=0.5", *replay)
        with pytest.raises(ConfigError, match=r"from 5 samples.*sampling\.blind = " + str(samples)):
            stages.check(written(tmp_path, rows, *words))


def judged_rollout(image: ImageRef, blind: str, seen: str = "++-") -> Rollout:
    """Right answers are 3; without the image `+` says 3, `-` says 4, `0` nothing."""
    says = {"+": "3", "-": "4", "0": "hm"}
    rollout = make_rollout(asking(image), [f"I see {i}, so {says[s]}" for i, s in enumerate(seen)])
    unseen = tuple(Response(f"guess {i} {says[s]}", 4, "stop", i) for i, s in enumerate(blind))
    return replace(rollout, blind=unseen)


MARKED = [("++--", "", 0.5), ("++++++++", "", 1.0), ("-0", "", 0.0), ("", "", None)]
DROPPED = [
    ("++++++++", "quality.max_blind=0.3", "quality", "solved_blind"),
    ("++++++++", "quality.max_blind=0.9", None, None),
    ("++--", "quality.max_blind=0.3", None, None),
]


@pytest.mark.parametrize(("blind", "override", "rate"), MARKED)
def test_pairs_say_how_often_their_question_is_solved_without_the_image(
    image: ImageRef, blind: str, override: str, rate: float | None
) -> None:
    _, pairs, drops = judge_and_pair(judged_rollout(image, blind), settings(), LastWord())
    assert {pair.blind_pass_rate for pair in pairs} == {rate}
    assert len(pairs) == 2
    assert not drops


@pytest.mark.parametrize(("blind", "override", "stage", "reason"), DROPPED)
def test_what_is_solved_without_the_image_is_dropped_where_that_is_asked_for(
    image: ImageRef, blind: str, override: str, stage: str | None, reason: str | None
) -> None:
    rollout = judged_rollout(image, blind)
    _, pairs, drops = judge_and_pair(rollout, settings(override), LastWord())
    assert [(drop.stage, drop.reason) for drop in drops] == ([(stage, reason)] if stage else [])
    assert bool(pairs) == (stage is None)
    if drops:
        assert drops[0].detail == (
            "8 of 8 right without the image; a guess is right with 0.00, the limit is 0.30"
        )


def test_a_seed_without_pairs_keeps_its_own_reason(image: ImageRef) -> None:
    rollout = judged_rollout(image, "++++++++", "+++")
    _, _, drops = judge_and_pair(rollout, settings("quality.max_blind=0.3"), LastWord())
    assert [(drop.stage, drop.reason) for drop in drops] == [("pairing", "all_correct")]


def test_lengths_are_told_without_what_is_solved(image: ImageRef) -> None:
    config = settings("quality.max_blind=0.3", "quality.balance.lengths=true")
    findings = Findings()
    judge_and_pair(judged_rollout(image, "++++++++"), config, LastWord(), findings=findings)
    assert not findings.uncontrolled
    judge_and_pair(judged_rollout(image, "----"), config, LastWord(), findings=findings)
    assert findings.uncontrolled["lengths", "correctness", "", "pairs"] == 2


def test_a_threshold_is_refused_where_the_rollouts_have_no_such_samples(tmp_path: Path) -> None:
    done = written(tmp_path, rows_of(tmp_path), "out=" + str(tmp_path / "x"))
    sampled(done)
    other = f"out={tmp_path / 'y'}"
    words = (f"rollouts={done.out}", "quality.max_blind=0.5", other)
    run_pairing(written(tmp_path, rows_of(tmp_path), *words), Progress())
    bare = written(tmp_path, rows_of(tmp_path), "sampling.blind=0", f"out={tmp_path / 'z'}")
    sampled(bare)
    words = (f"rollouts={bare.out}", "quality.max_blind=0.5", other)
    with pytest.raises(ConfigError, match=r"max_blind = 0.5 can be told from 5.*have 0 of each"):
        run_pairing(written(tmp_path, rows_of(tmp_path), *words), Progress())


def test_samples_without_images_stand_in_no_pair(image: ImageRef) -> None:
    config = settings("sampling.policy=adaptive")
    with_blind = judge_and_pair(judged_rollout(image, "++--"), config, LastWord())
    without = judge_and_pair(judged_rollout(image, ""), config, LastWord())
    assert with_blind[0] == without[0]
    assert [replace(pair, blind_pass_rate=None) for pair in with_blind[1]] == without[1]


def test_the_judge_of_undecided_answers_is_asked_about_them_too(
    tmp_path: Path, image: ImageRef
) -> None:
    integral = "\\int_0^1 x\\,dx"  # No rule decides it.

    def says(body: dict[str, Any]) -> tuple[int, Any]:
        return 200, choices("SAME" if integral in body["messages"][0]["content"] else "DIFFERENT")

    seen, unseen = (
        tuple(Response(f"{w}\nFinal answer: {w}", 5, "stop", i) for i, w in enumerate(answers))
        for answers in (("1/2", "7"), (integral, integral, "7", "9"))
    )
    made = make_rollout(asking(image, "1/2"), [])
    write_parquet(
        rollouts_to_table([replace(made, responses=seen, blind=unseen)]),
        tmp_path / "out" / "rollouts" / "unit-00000.parquet",
    )
    with OpenAIServer(says) as server:
        words = (f"scoring.judge.url={server.url}", "scoring.judge.model=org/vlm")
        run = run_pairing(settings(f"out={tmp_path / 'out'}", *words), Progress()).run
    assert run["this_run"]["scoring"]["judge"]["asked"] == 1  # equal answers are asked about once
    assert run["counts"]["blind"]["responses"]["correct"] == 2
    column = pq.read_table(tmp_path / "out" / "pairs", columns=["blind_pass_rate"])[0]
    assert column.to_pylist() == [0.5]


def test_what_was_found_is_counted(image: ImageRef) -> None:
    findings = Findings()
    config = settings("quality.max_blind=0.3")
    for blind in ("++++++++", "+--0", "", "++--"):
        judge_and_pair(judged_rollout(image, blind), config, LastWord(), findings=findings)
    assert findings.blind == {
        ("seeds", "measured"): 3,
        ("seeds", "not_measured"): 1,
        ("seeds", "solved"): 1,
        ("responses", "correct"): 11,
        ("responses", "incorrect"): 4,
        ("responses", "no_answer"): 1,
        ("pass_rates", "1.000"): 1,
        ("pass_rates", "0.250"): 1,
        ("pass_rates", "0.500"): 1,
    }


def test_the_column_is_written_and_null_where_it_was_not_measured(
    tmp_path: Path, image: ImageRef
) -> None:
    rollouts = [judged_rollout(image, "+---"), judged_rollout(image, "")]
    rollouts[1] = replace(rollouts[1], seed=replace(rollouts[1].seed, id="r"), index=1)
    config = write_build(tmp_path / "out", rollouts, settings())
    table = pq.read_table(f"{config.out}/pairs", columns=["seed_id", "blind_pass_rate"])
    found = dict(zip(*(column.to_pylist() for column in table.columns), strict=True))
    assert found == {"q": 0.25, "r": None}
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "among 4 without the images" in card
    assert read_run(config.out)["counts"]["tokens"]["blind"] == 16
