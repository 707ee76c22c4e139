"""Adaptive sampling in rounds: alone, on actors, and beside other seeds."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import engine_asks
import fake_samplers
import pytest
from adaptive_patterns import OPEN, SEED, TEMPLATE, judged, settings
from build_files import rollouts_in, write_jsonl
from small_builds import SERVED, sample_here

from mmpr_builder.config import Config, load_config
from mmpr_builder.errors import RowError
from mmpr_builder.io.tables import (
    ROLLOUT_SCHEMA,
    is_complete,
    read_parquet,
    rollouts_from_table,
    rollouts_to_table,
    write_parquet,
)
from mmpr_builder.pairing import build_pairs, judge_responses
from mmpr_builder.progress import Progress
from mmpr_builder.records import (
    Continuation,
    ImageRef,
    Response,
    Rollout,
    Seed,
    Verdict,
    derived_seed,
)
from mmpr_builder.runs import plan, run_pairing
from mmpr_builder.runs.actors import Counts, SamplerActor, max_in_flight
from mmpr_builder.sampling import Continue, Request, Sample, roll_out
from mmpr_builder.sampling.scoring_threads import ScoringThreads
from mmpr_builder.scoring import Judge
from mmpr_builder.scoring.auto import decide

# The loop


class Scripted:
    """Answers by pattern, one letter a response; keeps what it was asked."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.asked: list[tuple[int, int]] = []
        self.memos: list[int] = []
        self.continued: list[int] = []

    async def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
        self.asked.append((request.first, request.n))
        self.memos.append(id(request.memo))
        for index in reversed(range(request.first, request.first + request.n)):
            await asyncio.sleep(0)
            answer = {"+": "3", "-": "4"}[self.pattern[index]]
            text = f"Response {index}.\nFinal answer: {answer}"
            yield Sample(index, text, 6, "stop", request.seed + index, None, 9)

    async def continue_response(
        self, request: Request, sample: Sample, how: Continue
    ) -> Continuation | None:
        self.continued.append(sample.index)
        finish = "stop" if self.pattern[sample.index] == "+" else "length"
        return Continuation("Response", f" x{how.seed}", 3, finish, how.seed, how.keep)

    async def close(self) -> None:
        pass


def rolled(seed: Seed, sampler: Any, config: Config) -> Rollout:
    return engine_asks.rolled(seed, TEMPLATE, config, sampler)


LOOPS = [
    ("++++----" + "+" * 24, [(0, 8)], "enough"),
    ("++------" + "+" * 24, [(0, 8), (8, 2)], "enough"),
    ("+" * 32, [(0, 8), (8, 8), (16, 4), (20, 5), (25, 6)], "hopeless"),
    ("+" * 16 + "-" + "+" * 15, [(0, 8), (8, 8), (16, 4)], "enough"),
]


@pytest.mark.parametrize(("pattern", "asked", "stop"), LOOPS)
def test_rounds_are_parts_of_what_fixed_sampling_would_give(
    pattern: str, asked: list[tuple[int, int]], stop: str
) -> None:
    sampler = Scripted(pattern)
    rollout = rolled(SEED, sampler, settings())
    assert sampler.asked == asked
    assert rollout.stop == stop
    assert len(set(sampler.memos)) == 1  # one prompt, kept from round to round
    whole = rolled(SEED, Scripted(pattern), settings("sampling.policy=fixed"))
    assert rollout.responses == whole.responses[: len(rollout.responses)]
    assert [r.seed for r in rollout.responses] == [
        derived_seed(0, "q") + i for i in range(len(rollout.responses))
    ]


def test_a_seed_without_a_truth_gets_as_many_continuations_as_pairs_need(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    seed = replace(OPEN, images=(ImageRef(str(tmp_path / "x.png")),))
    sampler = Scripted("+" * 13 + "--" + "-" + "+" * 16)  # three continuations are of no use
    rollout = rolled(seed, sampler, settings())
    assert sampler.asked == [(0, 15), (15, 3)]
    assert sorted(sampler.continued) == list(range(18))
    assert rollout.stop == "enough"
    pairs, _ = build_pairs(seed, rollout.responses, [], settings())
    assert len(pairs) == 15


def test_an_engine_that_has_no_more_is_an_error_of_the_row() -> None:
    class Short(Scripted):
        async def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
            if request.first:
                raise RowError("replay_too_short", "8 responses")
            async for sample in super().sample(request):
                yield sample

    rollout = rolled(SEED, Short("+" * 32), settings())
    assert rollout.error == ("replay_too_short", "8 responses")
    assert (rollout.responses, rollout.stop) == ((), "")


def test_adaptive_sampling_without_scoring_is_refused() -> None:
    with pytest.raises(ValueError, match="ScoringThreads"):
        asyncio.run(roll_out(SEED, 0, TEMPLATE, settings(), Scripted("+"), "m"))


def test_scoring_never_holds_up_the_event_loop() -> None:
    rollout = Rollout(SEED, "p", "t", "final_answer", "m", responses=judged("+")[0])
    threads: set[int] = set()
    at_once: list[int] = []
    looped = threading.Event()

    def slow(*_: Any, **__: Any) -> Verdict:
        threads.add(threading.get_ident())
        if not looped.is_set():
            at_once.append(len(threads))
        assert looped.wait(300)
        return Verdict("correct")

    async def work() -> None:
        scoring = ScoringThreads(settings())
        scoring._judge.score_response = slow  # type: ignore[method-assign]
        tasks = [asyncio.ensure_future(scoring(rollout)) for _ in range(8)]
        while len(threads) < 2:
            await asyncio.sleep(0.01)
        looped.set()
        await asyncio.gather(*tasks)
        assert [task.result()[0][0].outcome for task in tasks] == ["correct"] * 8
        scoring.close()

    asyncio.run(work())
    assert threading.get_ident() not in threads
    assert 1 < max(at_once) <= 4


def test_answers_that_take_long_hold_up_no_other_seed() -> None:
    hard = Seed(id="h", question="Factor it.", answers=("x^2-1",))
    texts = ("Final answer: $(x-1)(x+1)$", "Final answer: $x^2-2$", "Final answer: $(1-x)(1+x)$")
    said = tuple(Response(text, 5, "stop", i) for i, text in enumerate(texts))
    slow = Rollout(hard, "p", "t", "final_answer", "m", responses=said)
    right = (Response("Final answer: 3", 5, "stop", 0),)
    quick = Rollout(SEED, "p", "t", "final_answer", "m", responses=right)
    go_on = threading.Event()

    async def work() -> list[list[str]]:
        scoring = ScoringThreads(settings())
        ask = scoring._pool.__call__

        def held(query: Any) -> Any:
            assert go_on.wait(60)
            return ask(query)

        scoring._pool = held  # type: ignore[assignment]
        waiting = [asyncio.ensure_future(scoring(slow)) for _ in range(100)]
        await asyncio.sleep(0)
        verdicts, _ = await asyncio.wait_for(scoring(quick), 60)
        assert [verdict.outcome for verdict in verdicts] == ["correct"]
        assert not any(task.done() for task in waiting)
        go_on.set()
        found = [[v.outcome for v in (await task)[0]] for task in waiting]
        scoring._pool = ask.__self__  # type: ignore[attr-defined]
        scoring.close()
        return found

    with Judge() as judge:
        expected = [v.outcome for v in judge_responses(slow, settings(), judge)[0]]
    assert expected == ["correct", "incorrect", "incorrect"]
    assert asyncio.run(work()) == [expected] * 100


@pytest.mark.parametrize("error", [ValueError("a malformed reply"), OSError("no more processes")])
def test_what_asking_a_process_ends_in_is_the_same_beside_an_engine_and_after_it(
    error: Exception,
) -> None:
    hard = Seed(id="h", question="Factor it.", answers=("x^2-1",))
    said = (Response("Final answer: $(x-1)(x+1)$", 5, "stop", 0),)
    rollout = Rollout(hard, "p", "t", "final_answer", "m", responses=said)

    def ask(query: Any) -> Any:
        raise error

    async def beside() -> Sequence[Verdict]:
        scoring = ScoringThreads(settings())
        pool, scoring._pool = scoring._pool, ask  # type: ignore[assignment]
        try:
            return (await asyncio.wait_for(scoring(rollout), 60))[0]
        finally:
            scoring._pool = pool
            scoring.close()

    with Judge(symbolic=ask) as judge:
        if isinstance(error, OSError):  # The machine's fault, no answer's.
            for work in (
                lambda: judge_responses(rollout, settings(), judge),
                lambda: asyncio.run(beside()),
            ):
                with pytest.raises(OSError, match="no more processes"):
                    work()
            return
        after, _ = judge_responses(rollout, settings(), judge)
    assert after == asyncio.run(beside())
    assert (after[0].outcome, after[0].rule) == ("undecided", "error:ValueError")
    assert after[0].reason.startswith("ValueError: a malformed reply (test_adaptive.py:")


# On actors


def build(tmp_path: Path, *overrides: str, out: str = "out") -> Config:
    rows = [
        {
            "id": f"q{i}",
            "question": f"What is {i} + 1?",
            **({"answer": str(i % 3)} if i % 4 else {}),
        }
        for i in range(24)
    ]
    seeds = write_jsonl(tmp_path / "seeds.jsonl", rows)
    return settings(*SERVED, "model=fake", f"seeds={seeds}", f"out={tmp_path / out}", *overrides)


def sampled(config: Config) -> tuple[list[Rollout], Counts]:
    _, counts = sample_here(config)
    return rollouts_in(config.out), counts


def test_what_is_sampled_depends_neither_on_units_nor_on_what_runs_beside(tmp_path: Path) -> None:
    whole, _ = sampled(build(tmp_path, out="a"))
    small, _ = sampled(build(tmp_path, "distributed.unit_queries=5", out="b"))
    assert whole == small
    assert {rollout.stop for rollout in whole} >= {"enough"}
    assert len({len(rollout.responses) for rollout in whole}) > 1


def test_an_actor_counts_what_scoring_said_and_what_was_saved(tmp_path: Path) -> None:
    rollouts, counts = sampled(build(tmp_path))
    with_truth = [r for r in rollouts if r.seed.has_truth]
    assert counts.decided + counts.undecided == sum(len(r.responses) for r in with_truth)
    assert 0 < counts.correct < counts.decided
    assert counts.saved == sum(32 - len(r.responses) for r in rollouts if r.stop != "n")
    assert counts.responses == sum(len(r.responses) for r in rollouts)
    fixed, plain = sampled(build(tmp_path, "sampling.policy=fixed", out="fixed"))
    assert (plain.saved, plain.decided) == (0, 0)
    by_id = {r.seed.id: r.responses for r in fixed}
    assert all(r.responses == by_id[r.seed.id][: len(r.responses)] for r in rollouts)


def test_an_answer_at_which_the_scorer_fails_costs_its_verdict_alike_in_both_halves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(predicted: str, *rest: Any) -> Any:
        return decide(predicted, *rest) if predicted == "0" else 1 // 0

    monkeypatch.setattr("mmpr_builder.scoring.judge.decide", failing)
    config = build(tmp_path)
    rollouts, counts = sampled(config)
    texts = [response.text for r in rollouts if r.seed.has_truth for response in r.responses]
    failed = sum(not text.endswith(" 0") for text in texts)
    assert counts.undecided == failed > 0
    assert not counts.errors
    run = run_pairing(config, Progress()).run
    assert run["counts"]["rules"]["undecided"]["error:ZeroDivisionError"] == failed
    drops = read_parquet(next(Path(config.out, "drops").iterdir())).to_pylist()
    named = "undecided by error:ZeroDivisionError"
    paired = [d["detail"] for d in drops if d["reason"] == "all_correct"]
    assert len(paired) == sum(r.seed.has_truth for r in rollouts)
    assert all(detail.endswith(named) for detail in paired)
    # A truth at which it fails costs its seed while planning.
    planned = [d["detail"] for d in drops if d["stage"] == "audit"]
    assert len(planned) == sum(i % 3 > 0 and i % 4 > 0 for i in range(24))
    assert all("(error:ZeroDivisionError: " in detail for detail in planned)


def test_a_stopped_actor_hands_in_what_the_caches_saved(tmp_path: Path) -> None:
    class Caching(fake_samplers.FakeSampler):
        def cache_hits(self) -> Counter[str]:
            return Counter(prefix_queries=9, prefix_hits=4, image_queries=2, image_hits=1)

    config = build(tmp_path, "distributed.grace_s=0")

    async def work() -> Counts:
        actor = SamplerActor(config, lambda _: Caching(delay_s=60))
        assert (await actor.start())[1] == ""
        unit = asyncio.ensure_future(actor.sample(0, plan(config).units[0], None))
        await asyncio.sleep(0.05)
        kept = await actor.drain()
        await asyncio.gather(unit, return_exceptions=True)
        assert len(asyncio.all_tasks()) == 1, "nothing is left that nobody waits for"
        return kept

    found = asyncio.run(work())
    assert (found.seeds, found.prefix_queries, found.prefix_hits) == (0, 9, 4)


def test_more_seeds_are_open_when_each_has_few_responses_under_way() -> None:
    def taken(*overrides: str) -> int:
        config = load_config(None, list(overrides))
        return max_in_flight(config.model_copy(update={"engine": {"max_num_seqs": 64}}))

    assert taken() == 8
    assert taken("sampling.policy=adaptive") == 32


def test_rollouts_of_earlier_versions_are_read(tmp_path: Path) -> None:
    rollout = Rollout(SEED, "p", "t", "final_answer", "m", stop="enough")
    table = rollouts_to_table([rollout])
    write_parquet(table.drop_columns(["stop"]), tmp_path / "old.parquet")
    assert is_complete(tmp_path / "old.parquet", ROLLOUT_SCHEMA)
    found = rollouts_from_table(read_parquet(tmp_path / "old.parquet"))
    assert found == [replace(rollout, stop="")]
    write_parquet(table.drop_columns(["error"]), tmp_path / "other.parquet")
    assert not is_complete(tmp_path / "other.parquet", ROLLOUT_SCHEMA)
