"""Steps of responses: where they end, what they are worth, what comes of the first wrong one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import engine_asks
import pytest
from datasets import load_dataset
from fake_samplers import FakeSampler
from openai_server import OpenAIServer, choices
from pair_samples import LastWord, make_rollout, picture, write_build

from mmpr_builder import stages
from mmpr_builder.config import Config, load_config, sampling_identity
from mmpr_builder.dropout import cut_tokens
from mmpr_builder.engines import check_engine, make_sampler
from mmpr_builder.errors import ConfigError, InputError
from mmpr_builder.export import FORMATS, ExportOptions, write_export
from mmpr_builder.export.lint import lint_folder
from mmpr_builder.io.tables import (
    rollouts_from_table,
    rollouts_to_table,
    write_parquet,
)
from mmpr_builder.output import load_pairs, read_run
from mmpr_builder.pairing import judge_and_pair
from mmpr_builder.quality.filters import Findings
from mmpr_builder.records import (
    Continuation,
    ImageRef,
    Response,
    Rollout,
    Seed,
    Template,
    Verdict,
    generated_tokens,
)
from mmpr_builder.sampling import Continue, Request, Sample
from mmpr_builder.steps import MOST, first_wrong, gaps_of, labels_of, most_continuations, steps_of

TEMPLATE = Template("short_en", "{question}\nEnd with Final answer: …")
RIGHT, WRONG = Verdict("correct", "3"), Verdict("incorrect", "4")

# text, what ends a step, its steps
CUTS = [
    ("one\ntwo\n\n  three\n", "lines", ["one", "two", "three\n"]),
    ("\n\none\ntwo", "lines", ["\n\none", "two"]),
    (
        "It is 3.14. So A! 共有三个。所以是B",
        "sentences",
        ["It is 3.14.", "So A!", "共有三个。", "所以是B"],
    ),
    ("a\n\nb\nc\n\nd", "\n\n", ["a", "b\nc", "d"]),
    ("1) x; 2) y; 3) z", ";", ["1) x;", "2) y;", "3) z"]),
    ("<think>\none\n</think>\ntwo", "lines", ["<think>\none", "</think>", "two"]),
    ("one", "lines", ["one"]),
    ("", "lines", [""]),
]


@pytest.mark.parametrize(("text", "cut", "steps"), CUTS)
def test_a_response_is_cut_where_its_steps_end(text: str, cut: str, steps: list[str]) -> None:
    assert steps_of(text, cut) == steps
    for end, start in gaps_of(text, cut):
        assert not text[end - 1].isspace()
        assert not text[start].isspace()
        assert not text[end:start].strip()


def test_neighbours_are_joined_where_there_are_more_than_twelve() -> None:
    for count in range(1, 60):
        text = "\n".join(f"step {n}" for n in range(count))
        found = steps_of(text, "lines")
        sizes = [step.count("step") for step in found]
        assert len(found) == min(count, MOST)
        assert sum(sizes) == count
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("pieces", "kept"),
    [
        (["one", " two", ".\n", "three"], 3),  # the line break is the model's own token
        (["one", " two", ".", "\n", "\n", "three"], 5),
        (["one two.", "\n\nthree"], 1),
        (["one two.\n", "three"], 1),
        (["one two.\nth", "ree"], None),  # no token ends there
    ],
)
def test_tokens_are_cut_behind_a_step(pieces: Sequence[str], kept: int | None) -> None:
    text = "".join(pieces)

    def decode(ids: Sequence[int]) -> str:
        return "".join(pieces[i] for i in ids)

    (gap,) = gaps_of(text, "lines")
    cut = cut_tokens(range(len(pieces)), text, 1.0, decode, gap=gap)
    assert (None if cut is None else len(cut.ids)) == kept


def gone_on(step: int, *answers: str, text: str = "a\nb\nc\n4") -> tuple[Continuation, ...]:
    prefix = text[: gaps_of(text, "lines")[step - 1][0]]
    return tuple(
        Continuation(prefix, f"\nthen {a}", 5, "stop", 7, float(step), image=True) for a in answers
    )


def judged(continuations: Sequence[Continuation]) -> tuple[Continuation, ...]:
    said = {"3": "correct", "4": "incorrect", "hm": "no_answer", "huh": "undecided"}
    return tuple(
        replace(c, verdict=Verdict(said[c.text.split()[-1]]))
        for c in continuations  # type: ignore[arg-type]
    )


T, F, N = True, False, None
# what the continuations from the three steps before the last one end in, right texts, labels
LABELS: list[tuple[list[list[str]], list[str], list[bool | None], int | None]] = [
    ([["4", "3"], ["4", "hm"], ["4"]], [], [T, F, F, F], 1),
    ([["4"], ["3"], ["4"]], [], [T, T, F, F], 2),  # from the second step, so from the first one
    ([["3"], [], ["4"]], [], [T, N, F, F], None),  # which of two is not known
    ([["3"], ["4", "huh"], ["4"]], [], [T, N, F, F], None),
    ([[], ["4"], []], ["a\nd\n3"], [T, F, F, F], 1),  # another response begins so
    ([[], ["4"], []], ["ab\n3"], [N, F, F, F], None),
    ([["4"], ["4"], ["4"]], [], [F, F, F, F], 0),
]


@pytest.mark.parametrize(("ends", "right", "labels", "before"), LABELS)
def test_a_step_is_wrong_if_no_way_leads_on_from_it(
    ends: list[list[str]], right: list[str], labels: list[bool | None], before: int | None
) -> None:
    made = judged([c for step, said in enumerate(ends, 1) for c in gone_on(step, *said)])
    response = Response("a\nb\nc\n4", 4, "stop", 1, with_image=made)
    found = labels_of(response, WRONG, "lines", right)
    assert found == labels
    assert first_wrong(found) == before
    assert labels_of(response, RIGHT, "lines", right) == [True] * 4


def test_a_continuation_that_was_cut_makes_no_step_wrong() -> None:
    made = [replace(c, finish_reason="length") for c in judged(gone_on(1, "4"))]
    response = Response("a\n4", 4, "stop", 1, with_image=tuple(made))
    assert labels_of(response, WRONG, "lines", []) == [None, False]


# Sampling


class Walking(FakeSampler):
    """Walks in lines to an answer, which is wrong where its `wrong` step was taken; goes on rightly
    from before it, in every `luck`th continuation, and never from behind it."""

    def __init__(self, texts: Sequence[str], wrong: int = 3, luck: int = 2) -> None:
        super().__init__()
        self.texts, self.wrong, self.luck = texts, wrong, luck
        self.asked: list[Continue] = []

    async def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
        for index in range(request.first, request.first + request.n):
            text = self.texts[index % len(self.texts)]
            yield Sample(index, text, 9, "stop", request.seed + index, prompt_tokens=5)

    async def continue_response(
        self, request: Request, sample: Sample, how: Continue
    ) -> Continuation | None:
        await asyncio.sleep(0)
        self.asked.append(how)
        assert how.gap is not None
        assert how.number is not None
        prefix = sample.text[: how.gap[0]]
        good = how.keep < self.wrong and how.number % self.luck == self.luck - 1
        text = f"\nway {how.number}\nFinal answer: {3 if good else 4}"
        return Continuation(prefix, text, 5, "stop", how.seed, how.keep, how.image)


BAD = "\n".join(["row 1", "row 2", "row 3, badly", "row 4", "row 5", "Final answer: 4"])
GOOD = "\n".join(["one", "two", "Final answer: 3"])


@pytest.fixture
def image(tmp_path: Path) -> ImageRef:
    return picture(tmp_path / "red.png", "firebrick")


def settings(*overrides: str) -> Config:
    return load_config(None, ["sampling.n=4", "steps.samples=4", *overrides])


def rolled(
    image: ImageRef, config: Config, sampler: Any, answers: tuple[str, ...] = ("3",)
) -> Rollout:
    seed = Seed("q", "<image>\nHow many?", (image,), answers)
    return engine_asks.rolled(seed, TEMPLATE, config, sampler)


def test_exact_goes_on_from_every_step_as_often(image: ImageRef) -> None:
    sampler = Walking([BAD, GOOD])
    rollout = rolled(image, settings("steps.apply=exact"), sampler)
    bad, good, *more = rollout.responses
    assert [c.keep for c in bad.with_image] == [step for step in (1, 2, 3, 4, 5) for _ in range(4)]
    assert [c.keep for c in good.with_image] == [1, 1, 1, 1, 2, 2, 2, 2]
    assert [r.with_image for r in more] == [(), ()]  # the same texts again
    assert {how.image for how in sampler.asked} == {True}
    assert len({how.seed for how in sampler.asked}) == len(sampler.asked) == 28
    assert generated_tokens(rollout) == 4 * 9 + 28 * 5


def test_frugal_finds_the_same_step_with_fewer_and_leaves_right_responses_alone(
    image: ImageRef,
) -> None:
    sampler = Walking([BAD, GOOD])
    frugal = rolled(image, settings("steps.apply=frugal"), sampler)
    # From 3 of 6 none gets there, from 1 and from 2 the second one does.
    assert [how.keep for how in sampler.asked] == [3, 3, 3, 3, 1, 1, 2, 2]
    exact = rolled(image, settings("steps.apply=exact"), Walking([BAD, GOOD]))
    for rollout in (frugal, exact):
        _, pairs, _ = judge_and_pair(rollout, settings("steps.apply=exact"), LastWord())
        assert {pair.kind for pair in pairs} == {"correctness"}
        kinds = settings("steps.apply=exact", "pairing.kinds=step")
        _, pairs, _ = judge_and_pair(rollout, kinds, LastWord())
        assert {pair.shared_steps for pair in pairs} == {2}


def test_what_siblings_tell_is_not_sampled(image: ImageRef) -> None:
    sibling = "\n".join(["row 1", "row 2", "row 3, well", "Final answer: 3"])
    sampler = Walking([BAD, sibling])
    rolled(image, settings("steps.apply=frugal"), sampler)
    # The last is for a pair: the sibling tells that steps 1 and 2 are right.
    assert [how.keep for how in sampler.asked] == [3, 3, 3, 3, 2, 2]


@pytest.mark.parametrize("policy", ["fixed", "adaptive"])
def test_responses_are_the_same_with_steps_and_without(image: ImageRef, policy: str) -> None:
    how = f"sampling.policy={policy}"
    with_steps = rolled(image, settings(how, "steps.apply=exact"), Walking([BAD, GOOD]))
    without = rolled(image, settings(how), Walking([BAD, GOOD]))
    bare = [replace(response, with_image=()) for response in with_steps.responses]
    assert with_steps != without
    assert replace(with_steps, responses=tuple(bare)) == without


def test_nothing_is_tried_without_a_truth_or_verdicts(image: ImageRef) -> None:
    config = settings("steps.apply=exact", "dropout.apply=none")
    sampler = Walking([BAD, GOOD])
    assert not any(r.with_image for r in rolled(image, config, sampler, answers=()).responses)
    assert sampler.asked == []


def test_most_continuations_bounds_what_is_tried(image: ImageRef) -> None:
    long = "\n".join([*(f"row {n}" for n in range(40)), "Final answer: 4"])
    for apply in ("exact", "frugal"):
        for wrong in range(1, MOST + 1):
            config = settings(f"steps.apply={apply}", "steps.responses=1")
            sampler = Walking([long], wrong, luck=3)
            rolled(image, config, sampler)
            assert 0 < len(sampler.asked) <= most_continuations(config)
    assert most_continuations(settings()) == 0


def test_a_server_goes_on_behind_a_step_with_the_image() -> None:
    with OpenAIServer(lambda body: (200, choices("and on"))) as server:
        words = ("sampling.engine=endpoint", f"sampling.endpoint.url={server.url}", "model=org/vlm")
        with pytest.raises(ConfigError, match="leave one of them out"):
            check_engine(
                settings(*words, "steps.apply=exact", "sampling.endpoint.continuation=none")
            )
        config = settings(*words, "steps.apply=exact")
        check_engine(config)
        sampler = make_sampler(config)
        how = Continue(2.0, True, 7, 5, gap=gaps_of(BAD, "lines")[1], number=0)
        sample = Sample(0, BAD, 9, "stop", 1)
        made = engine_asks.using(sampler, sampler.continue_response(engine_asks.ASK, sample, how))
    assert made == Continuation("row 1\nrow 2", "and on", 2, "stop", 5, 2.0, image=True)
    asked, begun = server.bodies[0]["messages"]
    assert "image_url" in json.dumps(asked)
    assert begun == {"role": "assistant", "content": "row 1\nrow 2"}


# Pairs


def stepped(image: ImageRef, *texts: str, first: Sequence[Continuation] = ()) -> Rollout:
    seed = Seed("q", "<image>\nHow many?", (image,), ("3",), source="grid")
    rollout = make_rollout(seed, texts)
    responses = list(rollout.responses)
    responses[0] = replace(responses[0], with_image=tuple(first))
    return replace(rollout, responses=tuple(responses))


STEP = ("steps.apply=frugal", "pairing.kinds=correctness,step")


def test_a_step_pair_shares_all_before_the_first_wrong_step(image: ImageRef) -> None:
    made = [*gone_on(1, "4", "3", "hm", "3"), *gone_on(2, "4", "hm")]
    rollout = stepped(image, "a\nb\nc\n4", first=made)
    _, pairs, _ = judge_and_pair(rollout, settings(*STEP), LastWord())
    (pair,) = pairs  # The two that get there are one text.
    assert (pair.kind, pair.shared_steps) == ("step", 1)
    assert (pair.chosen_text, pair.rejected_text) == ("a\nthen 3", "a\nb\nc\n4")
    assert (pair.chosen_answer, pair.rejected_answer) == ("3", "4")
    assert (pair.chosen_index, pair.rejected_index) == (0, 0)
    assert pair.dropout_keep is None


NO_PAIRS = [
    [*gone_on(1, "3")],  # the second or the third step: not known
    [*gone_on(1, "4")],  # the very first step: nothing is shared
    [*gone_on(1, "huh", "4"), *gone_on(2, "4")],
    [replace(c, finish_reason="length") for c in gone_on(1, "3")] + [*gone_on(2, "4")],
]


@pytest.mark.parametrize("made", NO_PAIRS)
def test_no_step_pair_where_the_step_or_the_end_is_not_certain(
    image: ImageRef, made: list[Continuation]
) -> None:
    rollout = stepped(image, "a\nb\nc\n4", first=made)
    _, pairs, drops = judge_and_pair(rollout, settings(*STEP), LastWord())
    assert (pairs, [drop.reason for drop in drops]) == ([], ["all_incorrect"])


def test_a_continuation_that_is_a_response_too_meets_the_wrong_one_once(image: ImageRef) -> None:
    made = [*gone_on(1, "3"), *gone_on(2, "4")]
    rollout = stepped(image, "a\nb\nc\n4", "a\nthen 3", first=made)
    _, pairs, _ = judge_and_pair(rollout, settings(*STEP), LastWord())
    assert [(pair.kind, pair.chosen_text) for pair in pairs] == [("correctness", "a\nthen 3")]


def test_hygiene_keeps_spoilt_continuations_from_being_chosen(image: ImageRef) -> None:
    made = [*gone_on(1, "<|im_end|> 3", "3"), *gone_on(2, "4")]
    rollout = stepped(image, "a\nb\nc\n4", first=made)
    _, both, _ = judge_and_pair(rollout, settings(*STEP), LastWord())
    _, clean, _ = judge_and_pair(rollout, settings(*STEP, "quality.hygiene=true"), LastWord())
    assert len(both) == 2
    assert [pair.chosen_text for pair in clean] == ["a\nthen 3"]


def test_a_build_tells_of_its_steps_and_its_pairs_have_their_column(
    tmp_path: Path, image: ImageRef
) -> None:
    made = [*gone_on(1, "3", "4"), *gone_on(2, "4", "hm")]
    rollout = stepped(image, "a\nb\nc\n4", "so it is 3", first=made)
    write_build(tmp_path / "out", [rollout], settings(*STEP))
    pairs = load_pairs(tmp_path / "out")
    rows = {row["kind"]: row for row in pairs.remove_columns("images")}
    assert rows["step"]["shared_steps"] == 1
    assert rows["correctness"]["shared_steps"] is None
    assert (rows["step"]["chosen_rule"], rows["step"]["chosen_seed"]) == ("", 7)
    assert rows["step"]["rejected_seed"] == 100
    counts = read_run(tmp_path / "out")["counts"]
    assert counts["pairs"]["step"] == 1
    assert counts["steps"] == {
        "continuations": {"correct": 1, "incorrect": 2, "no_answer": 1, "undecided": 0},
        "middle": dict.fromkeys(("correct", "incorrect", "no_answer", "undecided"), 0),
        "first_wrong": {"1": 1},
    }
    assert counts["tokens"]["steps"] == 20
    assert counts["uses"]["incorrect"] == {"rejected": 1}
    card = (tmp_path / "out/README.md").read_text()
    assert "| `step` | 1 |" in card
    assert "| `shared_steps` |" in card


def test_without_the_kind_pairs_have_the_columns_that_they_had(
    tmp_path: Path, image: ImageRef
) -> None:
    write_build(tmp_path / "out", [stepped(image, "well 4", "so 3")], settings())
    assert "shared_steps" not in load_pairs(tmp_path / "out").column_names
    counts = read_run(tmp_path / "out")["counts"]
    assert "step" not in counts["pairs"]
    assert not {"steps"} & ({*counts} | {*counts["tokens"]})


# Settings, storage, replay


def test_an_earlier_identity_stays_and_what_is_tried_belongs_to_it() -> None:
    assert not [key for key in sampling_identity(settings()) if key.startswith("steps")]
    assert sampling_identity(settings("steps.apply=exact"))["steps.samples"] == 4


def test_adaptive_sampling_aims_at_right_and_wrong_responses_for_steps() -> None:
    words = ("sampling.policy=adaptive", "steps.apply=frugal")
    for kinds, aims in (("format,step", ("format",)), ("step", ("correctness",))):
        found = settings(*words, f"pairing.kinds={kinds}").sampling.target_kinds
        assert found == aims


def test_the_kind_needs_steps() -> None:
    with pytest.raises(ConfigError, match=r"steps\.apply=frugal"):
        settings("pairing.kinds=correctness,step")


def test_continuations_are_stored_in_a_column_of_their_own(image: ImageRef) -> None:
    rollout = rolled(image, settings("steps.apply=exact"), Walking([BAD, GOOD]))
    table = rollouts_to_table([rollout])
    assert "image_continuations" in table.column_names
    assert rollouts_from_table(table) == [rollout]
    plain = replace(rollout, responses=tuple(replace(r, with_image=()) for r in rollout.responses))
    assert "image_continuations" not in rollouts_to_table([plain]).column_names


def test_replay_gives_the_same_continuations_and_exact_ones_do_for_frugal(
    tmp_path: Path, image: ImageRef
) -> None:
    exact = settings("steps.apply=exact")
    rollout = rolled(image, exact, Walking([BAD, GOOD]))
    folder = tmp_path / "rollouts"
    write_parquet(rollouts_to_table([rollout]), folder / "unit-00000.parquet")
    again = ("sampling.engine=replay", f"sampling.replay_from={folder}", "model=m")
    config = settings("steps.apply=exact", *again)
    check_engine(config)
    assert rolled(image, config, make_sampler(config)) == rollout
    frugal = settings("steps.apply=frugal", *again)
    asked = rolled(image, settings("steps.apply=frugal"), Walking([BAD, GOOD]))
    found = rolled(image, frugal, make_sampler(frugal))
    kept = [[(c.keep, c.text) for c in r.with_image] for r in found.responses]
    assert kept == [[(c.keep, c.text) for c in r.with_image] for r in asked.responses]


def test_a_replay_without_steps_is_refused(tmp_path: Path, image: ImageRef) -> None:
    write_parquet(rollouts_to_table([stepped(image, "3")]), tmp_path / "r/unit-00000.parquet")
    again = ("sampling.engine=replay", f"sampling.replay_from={tmp_path / 'r'}")
    with pytest.raises(ConfigError, match="holds no continuations with the image"):
        check_engine(settings("steps.apply=exact", *again))


def test_plan_tells_what_steps_cost(tmp_path: Path) -> None:
    words = ("seeds=demo", "limit=6", "sampling.engine=replay", f"out={tmp_path / 'out'}")
    plain, dear = (
        stages.plan(load_config(None, [*words, *more])) for more in ((), ("steps.apply=exact",))
    )
    assert (plain.steps, dear.steps) == (0, dear.with_truth * 4 * 11 * 16)
    assert dear.most_tokens - plain.most_tokens == dear.steps * 4096


# Faithfulness


class Guessing(FakeSampler):
    """Goes on to other answers from a bare guess, and to the same one from reasons."""

    async def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
        for index, text in enumerate(["a guess: 3", "by adding rows: 3", "I say 4", "a guess: 3"]):
            yield Sample(index, f"{text}\nFinal answer: {text[-1]}", 9, "stop", index)

    async def continue_response(
        self, request: Request, sample: Sample, how: Continue
    ) -> Continuation | None:
        assert (how.keep, how.image, how.gap) == (0.5, True, None)
        said = how.number if "guess" in sample.text and how.number else 3
        text = f" and so\nFinal answer: {said}"
        return Continuation(sample.text[:8], text, 5, "stop", how.seed, how.keep, how.image)


FAITHFUL = ("steps.faithful=4", "pairing.max_per_seed=2")


def test_faithfulness_is_how_often_the_middle_of_a_right_response_leads_to_the_same(
    image: ImageRef,
) -> None:
    config = settings(*FAITHFUL)
    rollout = rolled(image, config, Guessing())
    assert [len(r.with_image) for r in rollout.responses] == [4, 4, 0, 0]
    assert len({c.seed for r in rollout.responses for c in r.with_image}) == 8
    _, pairs, _ = judge_and_pair(rollout, config, LastWord())
    # Of 3, 1, 2 and 3 two are right.
    found = {pair.chosen_text.split(":")[0]: pair.faithfulness for pair in pairs}
    assert found == {"a guess": 0.5, "by adding rows": 1.0}


def test_the_most_faithful_come_first_and_the_others_can_be_left_out(image: ImageRef) -> None:
    rollout = rolled(image, settings(*FAITHFUL), Guessing())
    ordered = settings("steps.faithful=4", "pairing.max_per_seed=1", "pairing.partner=faithful")
    for seed in range(8):
        drawn = ordered.model_copy(
            update={"pairing": ordered.pairing.model_copy(update={"seed": seed})}
        )
        _, (pair,), _ = judge_and_pair(rollout, drawn, LastWord())
        assert pair.faithfulness == 1.0
    findings = Findings()
    strict = settings(*FAITHFUL, "quality.min_faithful=0.6")
    _, pairs, _ = judge_and_pair(rollout, strict, LastWord(), findings=findings)
    assert [pair.faithfulness for pair in pairs] == [1.0]
    assert findings.filtered == {"unfaithful": 1}
    assert findings.steps["middle", "correct"] == 6


def test_what_was_not_measured_stays(image: ImageRef) -> None:
    rollout = stepped(image, "so 3", "I say 4")
    _, pairs, _ = judge_and_pair(rollout, settings(*FAITHFUL, "quality.min_faithful=1"), LastWord())
    assert [pair.faithfulness for pair in pairs] == [None]


def test_faithfulness_is_a_column_only_where_it_is_measured(
    tmp_path: Path, image: ImageRef
) -> None:
    rollout = rolled(image, settings(*FAITHFUL), Guessing())
    write_build(tmp_path / "out", [rollout], settings(*FAITHFUL))
    assert set(load_pairs(tmp_path / "out")["faithfulness"]) == {0.5, 1.0}
    assert load_dataset(str(tmp_path / "out"))["train"].num_rows == 2  # The card knows it, too.
    assert "| `faithfulness` |" in (tmp_path / "out/README.md").read_text()
    write_build(tmp_path / "plain", [rollout], settings())
    assert "faithfulness" not in load_pairs(tmp_path / "plain").column_names


@pytest.mark.parametrize("wish", ["pairing.partner=faithful", "quality.min_faithful=0.5"])
def test_wishes_about_faithfulness_need_it_measured(wish: str) -> None:
    with pytest.raises(ConfigError, match=r"steps\.faithful=4"):
        settings(wish)


# Exports


def labelled(image: ImageRef) -> list[tuple[Rollout, Config]]:
    made = [*gone_on(1, "3", "4"), *gone_on(2, "4", "hm"), *gone_on(3, "4")]
    config = settings("steps.apply=exact")
    known = stepped(image, "a\nb\nc\n4", "well\nso 3", first=made)
    partly = stepped(image, "a\nb\nc\n4", first=gone_on(1, "3"))
    unknown = stepped(image, "a\nb\nc\n4")
    return [
        (replace(one, seed=replace(one.seed, id=name), index=i), config)
        for i, (name, one) in enumerate({"q": known, "r": partly, "s": unknown}.items())
    ]


def exported(tmp_path: Path, rollouts: list[tuple[Rollout, Config]], form: str) -> Any:
    dest, how = str(tmp_path / form), ExportOptions()
    return write_export(["out"], FORMATS[form], dest, how, lambda: rollouts, LastWord())


def test_labels_of_steps_in_visualprm_s_form(tmp_path: Path, image: ImageRef) -> None:
    done = exported(tmp_path, labelled(image), "prm")
    assert (done.rows, done.images, done.drops) == (3, 1, {"no_steps": 1})
    entry = json.loads((tmp_path / "prm/meta.json").read_text())["mmpr_steps"]
    lines = [json.loads(line) for line in Path(entry["annotation"]).read_text().splitlines()]
    assert entry["length"] == len(lines) == 3
    assert (Path(entry["root"]) / lines[0]["image"]).is_file()
    said = [[(turn["from"], turn["value"]) for turn in line["conversations"][1:]] for line in lines]
    asked = "### Question:\n<image>\nHow many?\n\n### Solution Process:\n"
    assert said[0] == [
        *(("human", asked + "a"), ("gpt", "+"), ("human", "b"), ("gpt", "-")),
        *(("human", "c"), ("gpt", "-"), ("human", "4"), ("gpt", "-")),
    ]
    assert [value for who, value in said[1] if who == "gpt"] == ["+", "+"]  # a right response
    assert said[2] == [("human", asked + "a"), ("gpt", "+")]  # no more is known
    assert lines[0]["values"] == [0.5, 0.0, 0.0, None]
    assert lint_folder(str(tmp_path / "prm"), FORMATS["prm"]).counts == {}


def test_labels_of_steps_in_trl_s_form(tmp_path: Path, image: ImageRef) -> None:
    exported(tmp_path, labelled(image), "stepwise")
    folder = tmp_path / "stepwise"
    rows = load_dataset("parquet", data_files=str(folder / "train/*.parquet"), split="train")
    assert rows[0]["prompt"] == "<image>\nHow many?"
    assert [rows[i]["completions"] for i in range(3)] == [
        *(["a", "b", "c", "4"], ["well", "so 3"], ["a"]),
    ]
    assert [rows[i]["labels"] for i in range(3)] == [[T, F, F, F], [T, T], [T]]
    assert rows[0]["images"][0].size == (96, 72)
    assert lint_folder(str(folder), FORMATS["stepwise"]).counts == {}


def test_a_build_without_steps_has_no_labels(tmp_path: Path, image: ImageRef) -> None:
    plain = [(rollout, settings()) for rollout, _ in labelled(image)]
    with pytest.raises(InputError, match=r"3 no_steps"):
        exported(tmp_path, plain, "prm")
