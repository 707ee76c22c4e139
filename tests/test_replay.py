"""Replay as the engine: it gives what is stored and makes nothing up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from engine_asks import ASK, drawn, settings, using

from mmpr_builder.config import Config
from mmpr_builder.engines import check_engine, make_sampler, model_identity
from mmpr_builder.errors import ConfigError, InputError, RowError
from mmpr_builder.io.tables import rollouts_to_table, write_parquet
from mmpr_builder.records import Continuation, Response, Rollout, Seed
from mmpr_builder.sampling import Continue, Request, Sample, Sampler

STORED = Rollout(
    seed=Seed(id="a", question="<image>\nHow many?"),
    prompt=ASK.prompt,
    template="t",
    style="final_answer",
    model="m",
    prompt_tokens=33,
    responses=(
        Response("two", 1, "stop", 11, -0.5, Continuation("t", "en", 1, "length", 3, 0.5, False)),
        Response("three", 2, "length", 12),
    ),
)
FAILED = replace(
    STORED, seed=Seed(id="b", question="?"), responses=(), error=("image_missing", "x.png")
)


@pytest.fixture
def replayed(tmp_path: Path) -> Config:
    folder = tmp_path / "rollouts"
    write_parquet(rollouts_to_table([STORED]), folder / "unit-00000.parquet")
    write_parquet(rollouts_to_table([FAILED]), folder / "unit-00001.parquet")
    return settings("sampling.engine=replay", f"sampling.replay_from={folder}")


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (2, 2), (9, 2)])
def test_replay_gives_the_stored_responses_and_makes_none_up(
    replayed: Config, asked: int, given: int
) -> None:
    sampler = make_sampler(replayed)
    samples = using(sampler, drawn(sampler, replace(ASK, n=asked)))
    assert [(s.text, s.tokens, s.finish_reason, s.seed, s.logprob) for s in samples] == [
        (r.text, r.tokens, r.finish_reason, r.seed, r.logprob) for r in STORED.responses[:given]
    ]
    assert {s.prompt_tokens for s in samples} == {33}


def test_replay_gives_later_rounds_and_says_when_there_is_no_more(replayed: Config) -> None:
    async def work(sampler: Sampler) -> list[Sample]:
        found = await drawn(sampler, replace(ASK, first=1, n=1))
        with pytest.raises(RowError, match=r"has 2 responses of 'a', and number 3.*sampling\.n"):
            await drawn(sampler, replace(ASK, first=1, n=2))
        return found

    sampler = make_sampler(replayed)
    (sample,) = using(sampler, work(sampler))
    assert (sample.index, sample.text, sample.seed) == (1, "three", 12)


def test_replay_gives_stored_continuations_of_the_same_kind(replayed: Config) -> None:
    async def work(sampler: Sampler) -> list[Continuation | None]:
        samples = await drawn(sampler, ASK)
        ways = [Continue(0.5, False, 9, 0), Continue(0.25, False, 9, 0)]
        return [await sampler.continue_response(ASK, s, how) for s in samples for how in ways]

    sampler = make_sampler(replayed)
    stored = STORED.responses[0].continuation
    assert using(sampler, work(sampler)) == [stored, None, None, None]


REPLAY_ERRORS = [
    (replace(ASK, id="zzz"), "not_in_replay"),
    (replace(ASK, prompt="<image>\nSomething else?"), "replay_prompt_differs"),
    (replace(ASK, id="b"), "image_missing"),
]


@pytest.mark.parametrize(("request_", "reason"), REPLAY_ERRORS)
def test_what_was_never_answered_is_an_error_of_its_row(
    replayed: Config, request_: Request, reason: str
) -> None:
    sampler = make_sampler(replayed)
    with pytest.raises(RowError) as raised:
        using(sampler, drawn(sampler, request_))
    assert raised.value.reason == reason


def test_replay_needs_a_folder_with_rollouts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="replay_from"):
        check_engine(settings("sampling.engine=replay"))
    with pytest.raises(InputError, match="holds no finished rollouts"):
        check_engine(settings("sampling.engine=replay", f"sampling.replay_from={tmp_path}"))


def test_replay_s_identity_follows_what_is_replayed(replayed: Config) -> None:
    first = model_identity(replayed)
    folder = str(replayed.sampling.replay_from)
    write_parquet(rollouts_to_table([STORED, FAILED]), f"{folder}/unit-00002.parquet")
    assert model_identity(replayed) != first
