"""Several ratios of DropoutNTP: each response is continued at each, and every pair says which."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import engine_asks
import pyarrow.parquet as pq
import pytest
from fake_samplers import FakeSampler
from hypothesis import given, strategies as st
from pair_samples import LastWord, make_rollout, picture, write_build
from rich.console import Console

from mmpr_builder.cli.closing import finished
from mmpr_builder.config import Config, identity_hash, load_config, sampling_identity
from mmpr_builder.engines import check_engine, make_sampler
from mmpr_builder.errors import ConfigError
from mmpr_builder.io import tables
from mmpr_builder.output import read_run
from mmpr_builder.pairing import build_pairs, judge_and_pair, judge_responses
from mmpr_builder.pairing.need import Mark, Tally, marks, rule_for
from mmpr_builder.pairing.pooled import pool
from mmpr_builder.quality.filters import Findings
from mmpr_builder.records import (
    Continuation,
    ImageRef,
    Response,
    Rollout,
    Seed,
    Template,
    derived_seed,
)
from mmpr_builder.report import write_report
from mmpr_builder.sampling import Continue, Request, Sample, request_for

THREE = "dropout.keep=0.25,0.5,0.75"
KEEPS = (0.25, 0.5, 0.75)
OPEN = Seed(id="o", question="<image>\nDescribe it.", images=(ImageRef("x.png"),))
TEMPLATE = Template("open_en", "{question}", "open")


def settings(*overrides: str) -> Config:
    return load_config(None, ["sampling.n=4", *overrides])


# Settings

READ = [
    ("dropout.keep=0.5", (0.5,), 0.5),
    ("dropout.keep=[0.5]", (0.5,), 0.5),
    ("dropout.keep=0.75,0.25", (0.25, 0.75), [0.25, 0.75]),
    ("dropout.keep=[0, 0.5]", (0.0, 0.5), [0.0, 0.5]),
]


@pytest.mark.parametrize(("override", "keep", "stored"), READ)
def test_one_ratio_or_several(override: str, keep: tuple[float, ...], stored: object) -> None:
    config = settings(override)
    assert config.dropout.keep == keep
    assert sampling_identity(config)["dropout.keep"] == stored
    assert Config.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("value", ["0.5,0.5", "[]", "0.5,1", "half", "-0.1"])
def test_what_is_no_ratio_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"dropout\.keep"):
        settings(f"dropout.keep={value}")


def test_a_build_with_one_ratio_has_the_identity_it_had_before() -> None:
    assert sampling_identity(settings())["dropout.keep"] == 0.5
    one, listed = (settings(f"dropout.keep={value}") for value in ("0.25", "[0.25]"))
    assert identity_hash(sampling_identity(one)) == identity_hash(sampling_identity(listed))


# Sampling


def rolled(tmp_path: Path, config: Config, sampler: Any, seed: Seed = OPEN) -> Rollout:
    seed = replace(seed, images=(picture(tmp_path / "x.png", "navy"),))
    return engine_asks.rolled(seed, TEMPLATE, config, sampler)


def test_each_response_is_continued_at_each_ratio(tmp_path: Path) -> None:
    rollout = rolled(tmp_path, settings(THREE), FakeSampler())
    for index, response in enumerate(rollout.responses):
        assert [c.keep for c in response.continuations] == [*KEEPS]
        assert [c.seed for c in response.continuations] == [
            derived_seed(0, "o", "continuation", str(index), repr(keep)) for keep in KEEPS
        ]
    one = rolled(tmp_path, settings("dropout.keep=0.25"), FakeSampler())
    assert [r.continuation.seed for r in one.responses if r.continuation] == [
        derived_seed(0, "o", "continuation", str(index)) for index in range(4)
    ]
    assert [r.text for r in one.responses] == [r.text for r in rollout.responses]


def test_a_ratio_that_cannot_be_had_leaves_the_others(tmp_path: Path) -> None:
    class Short(FakeSampler):
        """Answers backwards; the first two cannot be cut at a quarter, the third not at all."""

        async def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
            for sample in reversed([sample async for sample in super().sample(request)]):
                yield sample

        async def continue_response(
            self, request: Request, sample: Sample, how: Continue
        ) -> Continuation | None:
            if sample.index == 2 or (sample.index < 2 and how.keep == 0.25):
                return None
            return await super().continue_response(request, sample, how)

    rollout = rolled(tmp_path, settings(THREE), Short())
    found = [tuple(c.keep for c in response.continuations) for response in rollout.responses]
    assert found == [(0.5, 0.75), (0.5, 0.75), (), KEEPS]
    assert [r.seed for r in rollout.responses] == [derived_seed(0, "o") + i for i in range(4)]


def test_adaptive_sampling_needs_fewer_responses_of_several_ratios(tmp_path: Path) -> None:
    def taken(*overrides: str) -> int:
        config = settings("sampling.policy=adaptive", "sampling.n=32", *overrides)
        rollout = rolled(tmp_path, config, FakeSampler())
        assert rollout.stop == "enough"
        pairs, _ = build_pairs(rollout.seed, rollout.responses, [], config)
        assert len(pairs) == 15
        return len(rollout.responses)

    assert taken() == 15
    assert taken(THREE) == 5
    assert taken(THREE, "sampling.min_distinct=9") == 9
    assert taken("sampling.min_distinct=9") == 15


# What adaptive sampling makes of them is what pairing does


def continued(text: str, *said: tuple[float, str]) -> Response:
    return Response(text, 9, "stop", 0).with_continuations(
        Continuation(text[: round(keep * len(text))], rest, 3, "stop", 1, keep)
        for keep, rest in said
    )


RATIOS = st.lists(st.sampled_from(KEEPS), max_size=3, unique=True).map(sorted)
DRAWN = st.lists(st.tuples(st.integers(0, 9), RATIOS, st.integers(0, 2)), min_size=1, max_size=12)


@given(DRAWN, st.integers(1, 20))
def test_enough_is_what_pairing_makes_of_it(
    drawn: list[tuple[int, list[float], int]], wanted: int
) -> None:
    config = settings(
        *(THREE, "sampling.policy=adaptive", f"sampling.target_pairs={wanted}"),
        f"pairing.max_per_seed={wanted}",
    )
    responses = [
        continued(f"A long answer, number {number}.", *((keep, f" x{end}") for keep in keeps))
        for number, keeps, end in drawn
    ]
    rule = rule_for(OPEN, config)
    assert rule.continues == 3
    tally = Tally(rule)
    for mark in marks(OPEN, responses, judge_free(responses), rule):
        tally.add(mark)
    pairs, _ = build_pairs(OPEN, responses, [], config)
    assert len(pairs) == min(wanted, tally.pairs)
    assert (tally.next_round()[0] == "enough") == (len(pairs) == wanted)


def judge_free(responses: list[Response]) -> Any:
    rollout = Rollout(OPEN, "p", "t", "open", "m", responses=tuple(responses))
    return judge_responses(rollout, settings(), LastWord())[0]


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 20))
def test_a_round_asks_for_no_more_than_is_needed_in_any_case(
    wanted: int, ways: int, distinct: int
) -> None:
    keeps = ",".join(str(0.1 * (1 + number)) for number in range(ways))
    config = settings(
        *("sampling.policy=adaptive", "sampling.n=99", f"dropout.keep={keeps}"),
        *(f"sampling.target_pairs={wanted}", f"sampling.min_distinct={distinct}"),
    )
    rule = rule_for(OPEN, config)
    tally = Tally(rule)
    for number in range(rule.first):
        assert tally.next_round()[0] is None
        tally.add(Mark(own=tuple((f"{number}", f"{number} {way}") for way in range(ways))))
    assert tally.next_round() == ("enough", 0)


# Pairing


def told(pairs: Any) -> list[tuple[int, float | None]]:
    return [(pair.chosen_index, pair.dropout_keep) for pair in pairs]


def test_no_response_comes_twice_before_all_came_once() -> None:
    responses = [
        continued(f"A long answer with the number {i} in it.", *((k, f" x{i} {k}") for k in KEEPS))
        for i in range(20)
    ]
    pairs, _ = build_pairs(OPEN, responses, [], settings(THREE))
    assert len({pair.chosen_index for pair in pairs}) == len(pairs) == 15
    assert {pair.dropout_keep for pair in pairs} == {*KEEPS}
    most, _ = build_pairs(OPEN, responses, [], settings(THREE, "pairing.max_per_seed=50"))
    assert sorted(Counter(pair.chosen_index for pair in most).values()) == [2] * 10 + [3] * 10
    assert len(set(told(most))) == 50
    assert told(most[:15]) == told(pairs)


@given(DRAWN, st.randoms(use_true_random=False))
def test_pairs_do_not_depend_on_the_order_of_the_responses(
    drawn: list[tuple[int, list[float], int]], rng: Any
) -> None:
    responses = [
        continued("It is what it is, 1.", *((keep, f" x{number}{end}") for keep in keeps))
        for number, keeps, end in drawn
    ]
    shuffled = rng.sample(responses, len(responses))
    config = settings(THREE, "pairing.max_per_seed=6")
    first, second = (build_pairs(OPEN, one, [], config)[0] for one in (responses, shuffled))
    assert [(p.id, p.dropout_keep) for p in first] == [(p.id, p.dropout_keep) for p in second]


def test_the_ratios_are_drawn_evenly() -> None:
    drawn: Counter[float | None] = Counter()
    for number in range(60):
        seed = replace(OPEN, id=f"o{number}")
        responses = [
            continued(f"A long answer, {i}, indeed.", *((k, f" x{i} {k}") for k in KEEPS))
            for i in range(8)
        ]
        pairs, _ = build_pairs(seed, responses, [], settings(THREE, "pairing.max_per_seed=5"))
        drawn.update(pair.dropout_keep for pair in pairs)
    assert drawn.total() == 300
    assert all(70 <= drawn[keep] <= 130 for keep in KEEPS)


def test_a_response_is_used_with_the_continuations_that_are_fit() -> None:
    text = "A red circle lies left of a blue square and above a green star."
    response = continued(text, (0.25, " two bars that grow, and no more."), (0.5, ""), (0.75, " "))
    loop = (0.5, " a square, and the square is left of" * 8)
    gated = continued(text, (0.25, " something, but I cannot see the image."), loop)
    findings = Findings()
    config = settings(THREE, "quality.dropout_gate=true")
    pairs, _ = build_pairs(OPEN, [response, gated], [], config, findings=findings)
    assert told(pairs) == [(0, 0.25)]
    assert findings.continuations == {
        (0.25, ""): 1,
        (0.5, "continuation_empty"): 1,
        (0.75, "continuation_empty"): 1,
        (0.25, "missing_image"): 1,
        (0.5, "loop"): 1,
    }
    _, drops = build_pairs(OPEN, [gated], [], config)
    assert [(drop.stage, drop.reason) for drop in drops] == [("quality", "no_clean_pair")]


def test_only_continuations_that_are_wrong_are_rejected_where_the_truth_is_known(
    tmp_path: Path,
) -> None:
    seed = Seed("q", "<image>\nHow many?", (picture(tmp_path / "r.png", "red"),), ("3",))
    response = continued("I count three, so it is 3", (0.25, " is 3"), (0.5, " is 4"), (0.75, " 5"))
    rollout = replace(make_rollout(seed, []), responses=(response,))
    findings = Findings()
    config = settings(THREE, "dropout.apply=all")
    _, pairs, _ = judge_and_pair(rollout, config, LastWord(), findings=findings)
    assert sorted(keep for _, keep in told(pairs) if keep) == [0.5, 0.75]
    assert findings.continuations == {(0.25, "not_wrong"): 1, (0.5, ""): 1, (0.75, ""): 1}


@pytest.mark.parametrize(
    ("text", "prefix", "rest", "kinds"),
    [
        ("<think>\nIt is red.</think>\nRed.", "<think>\nIt is", " blue.</think>\nBlue.", [0.5]),
        ("<think>\nIt is red.</think>\nRed.", "<think>\nIt is", " blue and so on", []),
        ("<think>\nIt is red and so", "<think>\nIt is", " blue.</think>\nBlue.", []),
    ],
)
def test_what_ends_inside_a_thought_is_in_no_plain_pair(
    tmp_path: Path, text: str, prefix: str, rest: str, kinds: list[float]
) -> None:
    seed = replace(OPEN, images=(picture(tmp_path / "t.png", "red"),))
    continuation = Continuation(prefix, rest, 5, "stop", seed=1, keep=0.5)
    response = Response(text, 9, "stop", seed=0, continuation=continuation)
    rollout = replace(make_rollout(seed, []), responses=(response,), style="open")
    _, pairs, _ = judge_and_pair(rollout, settings(), LastWord())
    assert [pair.dropout_keep for pair in pairs] == kinds


def test_a_wrong_response_that_ends_inside_a_thought_is_a_truncated_one(tmp_path: Path) -> None:
    seed = Seed("q", "<image>\nHow many?", (picture(tmp_path / "r.png", "red"),), ("3",))
    texts = ("<think>Two, or three</think> It is 3", "<think>I think it is 4")
    responses = tuple(Response(text, 9, "stop", seed=i) for i, text in enumerate(texts))
    rollout = replace(make_rollout(seed, []), responses=responses)
    assert judge_and_pair(rollout, settings(), LastWord())[1] == []
    truncated = settings("pairing.kinds=correctness,format,truncated")
    _, (pair,), _ = judge_and_pair(rollout, truncated, LastWord())
    assert (pair.kind, pair.rejected_finish_reason) == ("truncated", "length")


def test_the_part_that_is_cut_is_in_the_identity_only_where_it_is_set() -> None:
    assert "dropout.part" not in sampling_identity(settings())
    assert sampling_identity(settings("dropout.part=answer"))["dropout.part"] == "answer"


def described(tmp_path: Path, keeps: tuple[float, ...]) -> list[Rollout]:
    seed = replace(OPEN, images=(picture(tmp_path / "b.png", "navy"),))
    responses = tuple(
        continued(
            f"A blue wall, number {i}, with a label.", *((k, f" dog {i} {k}.") for k in keeps)
        )
        for i in range(4)
    )
    return [replace(make_rollout(seed, []), responses=responses, style="open")]


def test_pairs_and_run_json_tell_the_ratios(tmp_path: Path) -> None:
    rollouts = described(tmp_path, KEEPS)
    config = write_build(tmp_path / "out", rollouts, settings(THREE, "pairing.max_per_seed=9"))
    columns = ["chosen_index", "dropout_keep", "chosen_text", "rejected_text", "dropout_image"]
    rows = pq.read_table(f"{config.out}/pairs", columns=columns).to_pylist()
    assert len(rows) == 9
    for row in rows:
        cut = round(row["dropout_keep"] * len(row["chosen_text"]))
        said = f" dog {row['chosen_index']} {row['dropout_keep']}."
        assert row["rejected_text"] == row["chosen_text"][:cut] + said
        assert row["dropout_image"] is False
    counts = read_run(config.out)["counts"]
    by_ratio = Counter(row["dropout_keep"] for row in rows)
    assert {k: v["pairs"] for k, v in counts["continuations"].items()} == {
        f"{keep:g}": by_ratio[keep] for keep in KEEPS
    }
    assert all(
        (v["made"], v["fit"], v["unfit"]) == (4, 4, {}) for v in counts["continuations"].values()
    )
    assert counts["tokens"]["continuations"] == 4 * 3 * 3
    assert counts["responses"]["continued"] == 4
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "its first 25 %, 50 % or 75 %, continued" in card


def test_pairs_of_one_ratio_are_as_before(tmp_path: Path) -> None:
    config = write_build(tmp_path / "out", described(tmp_path, (0.5,)))
    rows = pq.read_table(f"{config.out}/pairs", columns=["dropout_keep"]).to_pylist()
    assert rows == [{"dropout_keep": 0.5}] * 4
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "its first 50 %, continued" in card


def ratios_of(config: Config) -> dict[str, Any]:
    counts: dict[str, Any] = read_run(config.out)["counts"]["continuations"]
    return counts


def test_a_ratio_that_was_asked_for_is_told_where_nothing_came_of_it(tmp_path: Path) -> None:
    rollouts = [
        replace(rollout, seed=replace(rollout.seed, id=f"o{i}"), index=i)
        for i, rollout in enumerate(described(tmp_path, (0.5,)) * 3)
    ]
    config = write_build(tmp_path / "out", rollouts, settings(THREE))
    nothing = {"made": 0, "fit": 0, "pairs": 0, "unfit": {}, "not_made": 12}
    found = {"made": 12, "fit": 12, "pairs": 12, "unfit": {}, "not_made": 0}
    assert ratios_of(config) == {"0.25": nothing, "0.5": found, "0.75": nothing}
    apart = write_build(tmp_path / "apart", rollouts, settings(THREE), per_block=1)
    assert ratios_of(apart) == ratios_of(config)
    none = write_build(tmp_path / "none", rollouts, settings("dropout.apply=none"))
    assert [at["not_made"] for at in ratios_of(none).values()] == [0]


def test_what_responses_lack_is_counted_at_each_ratio() -> None:
    responses = (
        continued("A long answer, number 0.", (0.25, " x"), (0.5, " y")),
        continued("A long answer, number 1.", (0.5, " z")),
        Response("yes", 1, "stop", 0),
    )
    rollout = replace(make_rollout(replace(OPEN, images=()), []), responses=responses)
    for seed, lacking in ((OPEN, {0.25: 2, 0.5: 1, 0.75: 3}), (rollout.seed, {})):
        findings = Findings()
        judge_and_pair(replace(rollout, seed=seed), settings(THREE), LastWord(), findings=findings)
        assert findings.not_made == lacking
    asked = replace(rollout, seed=OPEN)
    pooled = pool([asked, asked], [settings("dropout.keep=0.5"), settings("dropout.keep=0.75")])
    findings = Findings()
    judge_and_pair(pooled, settings(THREE), LastWord(), findings=findings)
    assert findings.not_made == {0.5: 1, 0.75: 3}


def test_page_and_closing_table_tell_the_yield_of_each_ratio(tmp_path: Path) -> None:
    rollouts = described(tmp_path, (0.25, 0.5))
    config = write_build(tmp_path / "out", rollouts, settings(THREE, "pairing.max_per_seed=9"))
    html = Path(write_report(config.out)).read_text(encoding="utf-8")
    panel = html.partition('id="ratios"')[2].partition("</section>")[0]
    assert [f"<b>{keep} %</b>" in panel for keep in (25, 50, 75)] == [True] * 3
    assert panel.count("100.0 %") == 2
    assert panel.count("4 responses have none") == 1
    assert 'id="control-dropout_gate"' not in html
    run, said = read_run(config.out), io.StringIO()
    run["this_run"] |= {"sampling": {}, "scoring": {}}
    Console(file=said, width=120).print(finished(config, run))
    assert "0 continuations, 0 fit, 0 in pairs, 4 were not made" in said.getvalue()
    plain = write_build(tmp_path / "plain", [])
    assert 'id="ratios"' not in Path(write_report(plain.out)).read_text(encoding="utf-8")


# Replay


def stored(folder: Path, *kept: tuple[float, ...], image: bool = False, truth: str = "") -> str:
    """Rollouts in a part each, with continuations at these ratios; returns what replays them."""
    for number, keeps in enumerate(kept):
        response = continued("A long answer, indeed.", *((keep, " x") for keep in keeps))
        response = response.with_continuations(
            replace(one, image=image) for one in response.continuations
        )
        seed = replace(OPEN, id=f"o{number}", answers=(truth,) if truth else ())
        rollout = replace(make_rollout(replace(seed, images=()), []), seed=seed)
        rollout = replace(rollout, prompt=seed.question, responses=(response, response))
        part = tables.rollouts_to_table([rollout])
        tables.write_parquet(part, folder / "rollouts" / f"unit-{number:05}.parquet")
    return f"sampling.replay_from={folder / 'rollouts'}"


REPLAYED = [
    # stored, settings, what the refusal says (None: none)
    ([(0.5,)], "dropout.keep=0.5", None),
    ([(0.25, 0.5, 0.75)], "dropout.keep=0.25,0.75", None),
    ([(), (0.25,), (0.5,)], "dropout.keep=0.25,0.5", None),
    (
        [(0.5,)],
        "dropout.keep=0.25",
        r"at 0\.25 without the image, only at 0\.5: set dropout\.keep=0",
    ),
    (
        [(0.5,)] * 40,
        "dropout.keep=0.5,0.75",
        r"dropout\.keep = 0\.5,0\.75.*at 0\.75 .*only at 0\.5:",
    ),
    ([(0.25, 0.75)], "dropout.keep=0.5", r"only at 0\.25,0\.75: set dropout\.keep=0\.25,0\.75"),
    (
        [(0.5,)],
        "dropout.image=true",
        r"dropout\.image = true.* with the image: set dropout\.image=f",
    ),
    ([()], "dropout.keep=0.5", r"apply = 'no_truth'.*no continuations: set dropout\.apply=none"),
    ([()], "dropout.apply=none", None),
]


@pytest.mark.parametrize(("kept", "override", "refusal"), REPLAYED)
def test_a_replay_of_ratios_that_were_not_sampled_is_refused(
    tmp_path: Path, kept: list[tuple[float, ...]], override: str, refusal: str | None
) -> None:
    config = settings("sampling.engine=replay", stored(tmp_path, *kept), override)
    if refusal is None:
        check_engine(config)
        return
    with pytest.raises(ConfigError, match=refusal) as refused:
        check_engine(config)
    assert f"{tmp_path}/rollouts" in str(refused.value)
    assert "replay a build that has them" in str(refused.value)


def test_where_nothing_is_continued_a_replay_needs_no_ratio(tmp_path: Path) -> None:
    replay = ("sampling.engine=replay", stored(tmp_path, (), truth="3"))
    check_engine(settings(*replay, "dropout.keep=0.25"))
    with pytest.raises(ConfigError, match=r"dropout\.apply = 'all'"):
        check_engine(settings(*replay, "dropout.apply=all"))


def test_continuations_with_the_image_are_others_than_those_without(tmp_path: Path) -> None:
    replay = ("sampling.engine=replay", stored(tmp_path, (0.5,), image=True))
    check_engine(settings(*replay, "dropout.image=true"))
    with pytest.raises(ConfigError, match=r"image = false.*without the image: .*image=true"):
        check_engine(settings(*replay))


def test_what_some_of_the_replayed_seeds_lack_is_counted(tmp_path: Path) -> None:
    replay = stored(tmp_path, (0.25, 0.5), (0.5,))
    config = settings("sampling.engine=replay", replay, "dropout.keep=0.25,0.5")
    check_engine(config)
    seed = replace(OPEN, id="o1")
    sampler = make_sampler(config)

    async def work() -> list[Continuation | None]:
        request = replace(request_for(seed, seed.question, (), config), n=1)
        (sample,) = [sample async for sample in sampler.sample(request)]
        ways = [Continue(keep, False, 9, 0) for keep in config.dropout.keep]
        return [await sampler.continue_response(request, sample, how) for how in ways]

    assert [found is not None for found in asyncio.run(work())] == [False, True]
    findings = Findings()
    for part in tables.list_parts(tmp_path / "rollouts"):
        for rollout in tables.rollouts_from_table(tables.read_parquet(part)):
            judge_and_pair(rollout, config, LastWord(), findings=findings)
    assert findings.not_made == {0.25: 2, 0.5: 0}
