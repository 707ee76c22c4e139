"""A stop keeps what is finished and, in its grace, what is under way; and begins nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fake_samplers
import pytest
from small_builds import make_config

from mmpr_builder import cli
from mmpr_builder.cli.closing import planned
from mmpr_builder.cluster import session
from mmpr_builder.config import Config, LimitsConfig
from mmpr_builder.errors import EngineError, Interrupted, LimitReached
from mmpr_builder.folder import parts
from mmpr_builder.folder.manifest import Unit, read_manifest
from mmpr_builder.progress import Progress
from mmpr_builder.runs import Pictures, plan
from mmpr_builder.runs.actors import Counts, SamplerActor, UnitResult
from mmpr_builder.runs.driver import Budget
from mmpr_builder.sampling import Request, Sample
from mmpr_builder.stages import Estimate


class Gated(fake_samplers.FakeSampler):
    """Answers some seeds, by the order they are asked in; holds the others until it is opened, or
    dies then."""

    def __init__(self, answered: Collection[int], *, dies: bool = False) -> None:
        super().__init__()
        self.answered, self.dies = answered, dies
        self.begun: list[str] = []
        self.opened = asyncio.Event()

    async def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
        self.begun.append(request.id)
        if len(self.begun) - 1 not in self.answered:
            await self.opened.wait()
            if self.dies:
                raise EngineError("EngineDeadError: the core is gone")
        for index in range(request.first, request.first + request.n):
            yield Sample(index, "Final answer: 1", 7, "stop", request.seed + index, prompt_tokens=5)


@dataclass
class Stopped:
    """An actor at work on all units of a build, about to be stopped."""

    actor: SamplerActor
    sampler: Gated
    jobs: list[asyncio.Task[UnitResult]]

    async def drain(self, meanwhile: Callable[[], Awaitable[None]] | None = None) -> Counts:
        """What is kept by the stop and by units that ended; the actor takes nothing up."""
        begun = len(self.sampler.begun)
        stop = asyncio.create_task(self.actor.drain())
        await asyncio.sleep(0)
        if meanwhile is not None:
            await meanwhile()
        kept = await stop
        ended = await asyncio.gather(*self.jobs, return_exceptions=True)
        assert all(isinstance(end, UnitResult | asyncio.CancelledError) for end in ended)
        assert len(self.sampler.begun) == begun, "nothing is begun after the stop"
        assert len(asyncio.all_tasks()) == 1, "nothing is left that nobody waits for"
        return sum((end.kept for end in ended if isinstance(end, UnitResult)), kept)


async def at_work(config: Config, sampler: Gated) -> Stopped:
    """Returns when as many seeds are answered as can be, and the next ones are under way."""
    actor = SamplerActor(config, lambda _: sampler)
    assert (await actor.start())[1] == ""
    units = plan(config).units
    jobs = [asyncio.create_task(actor.sample(i, one, None)) for i, one in enumerate(units)]
    under_way = len(sampler.answered) + config.sampling.endpoint.concurrency
    while len(sampler.begun) < min(under_way, sum(one.count for one in units)):
        await asyncio.sleep(0.01)
    while sum(c.seeds for c in (await actor.progress()).values()) < len(sampler.answered):
        await asyncio.sleep(0.01)
    return Stopped(actor, sampler, jobs)


def on_disk(config: Config) -> list[str]:
    """Rows kept of each unit, in no order: either may have been the first to be read."""
    manifest = read_manifest(config.out)
    done = parts.published(config.out, manifest.units)
    return sorted(
        f"{one.count} published"
        if one.name in done
        else f"{len(parts.read_partial(config.out, one))} kept"
        for one in manifest.units
    )


STOPS: dict[str, tuple[int, int, str, int, list[str]]] = {
    # seeds answered before, seeds at once, grace; seeds sampled, rows on disk
    "without a grace what is finished": (2, 2, "0", 2, ["0 kept", "2 kept"]),
    "and with one what is under way, too": (2, 1, "60", 3, ["0 kept", "3 kept"]),
    "a unit that ends in the grace": (2, 3, "60", 5, ["1 kept", "4 published"]),
    "all, where all are under way": (0, 8, "60", 8, ["4 published", "4 published"]),
}


@pytest.mark.parametrize(
    ("answered", "at_once", "grace", "sampled", "rows"), STOPS.values(), ids=STOPS
)
def test_a_stop_keeps(
    answered: int, at_once: int, grace: str, sampled: int, rows: list[str], tmp_path: Path
) -> None:
    overrides = (f"sampling.endpoint.concurrency={at_once}", f"distributed.grace_s={grace}")
    config = make_config(tmp_path, 8, *overrides)

    async def work() -> Counts:
        stopped = await at_work(config, Gated(range(answered)))

        async def meanwhile() -> None:
            stopped.sampler.opened.set()

        return await stopped.drain(meanwhile if grace != "0" else None)

    assert asyncio.run(work()).seeds == sampled
    assert on_disk(config) == rows


def test_a_unit_that_was_begun_before_is_delivered_by_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop and the unit's own end both join its earlier rows with the new ones, and remove them:
    side by side one of them would miss a file."""
    overrides = ("sampling.endpoint.concurrency=8", "distributed.grace_s=60")
    config = make_config(tmp_path, 8, *overrides)
    units = plan(config).units

    async def begin() -> None:
        actor = SamplerActor(config, fake_samplers.answers)
        await actor.start()
        for key, one in enumerate(units):
            (index, _), *_ = parts.read_seeds(config.out, one)
            assert not (await actor.sample(key, one, [index])).published

    asyncio.run(begin())
    deliver, at_it, together = parts.deliver, Counter[str](), []

    def slowly(out: str, one: Unit, *rest: Any) -> bool:
        at_it[one.name] += 1
        together.append(at_it[one.name])
        time.sleep(0.1)
        done = deliver(out, one, *rest)
        at_it[one.name] -= 1
        return done

    monkeypatch.setattr(parts, "deliver", slowly)

    async def work() -> Counts:
        sampler = Gated(())
        actor = SamplerActor(config, lambda _: sampler)
        await actor.start()
        jobs = [asyncio.create_task(actor.sample(i, one, None)) for i, one in enumerate(units)]
        while len(sampler.begun) < 6:
            await asyncio.sleep(0.01)

        async def meanwhile() -> None:
            await asyncio.sleep(0.05)  # The stop is keeping what there is: nothing.
            sampler.opened.set()

        return await Stopped(actor, sampler, jobs).drain(meanwhile)

    assert asyncio.run(work()).seeds == 6
    assert on_disk(config) == ["4 published", "4 published"]
    assert len(together) >= 4
    assert max(together) == 1


def test_a_stop_that_is_hurried_keeps_what_ended_since(tmp_path: Path) -> None:
    overrides = ("sampling.endpoint.concurrency=2", "distributed.grace_s=3600")
    config = make_config(tmp_path, 4, *overrides)

    async def work() -> Counts:
        stopped = await at_work(config, Gated(range(1)))
        return await stopped.drain(stopped.actor.hurry)

    assert asyncio.run(work()).seeds == 1
    assert on_disk(config) == ["1 kept"]


def test_an_engine_that_dies_in_the_grace_does_not_end_the_process_before_rows_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmpr_builder.runs.actors._REPORT_S", 0.0)
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail("the process is ended"))
    overrides = ("sampling.endpoint.concurrency=4", "distributed.grace_s=60")
    config = make_config(tmp_path, 4, *overrides)

    async def work() -> Counts:
        stopped = await at_work(config, Gated(range(2), dies=True))

        async def meanwhile() -> None:
            stopped.sampler.opened.set()

        kept = await stopped.drain(meanwhile)
        await asyncio.sleep(0.05)
        return kept

    assert asyncio.run(work()).seeds == 2
    assert on_disk(config) == ["2 kept"]


def test_a_stop_that_cannot_keep_one_unit_keeps_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(tmp_path, 8, "sampling.endpoint.concurrency=8", "distributed.grace_s=0")
    deliver = parts.deliver

    def full(out: str, one: Unit, *rest: Any) -> bool:
        if one.name.endswith("0"):
            raise OSError("No space left on device")
        return deliver(out, one, *rest)

    monkeypatch.setattr(parts, "deliver", full)

    async def work() -> None:
        stopped = await at_work(config, Gated({0, 1, 4, 5}))
        with pytest.raises(OSError, match="No space"):
            await stopped.drain()

    asyncio.run(work())
    assert on_disk(config) == ["0 kept", "2 kept"]


@pytest.mark.parametrize(
    ("limits", "tokens", "ran_s", "reached"),
    [
        ({}, 10**9, 10**6, ""),
        ({"tokens": 100}, 39, 0, ""),
        ({"tokens": 100}, 40, 0, "limits.tokens=100"),  # Earlier runs took 60.
        ({"hours": 0.5}, 10**9, 799, ""),
        ({"hours": 0.5}, 0, 801, "limits.hours=0.5"),  # Earlier runs took 1,000 s.
        ({"tokens": 100, "hours": 0.5}, 39, 801, "limits.hours=0.5"),
    ],
)
def test_limits_count_all_runs_of_a_build(
    limits: dict[str, Any], tokens: int, ran_s: float, reached: str
) -> None:
    began = time.monotonic() - ran_s
    assert Budget(LimitsConfig(**limits), 60, 1000.0, began).reached(tokens) == reached


def test_a_plan_tells_the_limits_and_a_run_ends_with_a_code_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(tmp_path, 2, "limits.tokens=1024", "limits.hours=2", "sampling.n=1")
    found = Estimate(2, 2, Counter(), {}, 2, 0, 0, 4096, Pictures(config))
    said = [f"{name} {text}".strip() for name, text in planned(config, found)]
    assert "stops at 1,024 tokens of all runs, 25% of that" in said
    assert "stops after 2 hours of sampling in all runs" in said

    def ends(*_: object, **__: object) -> None:
        raise LimitReached("limits.tokens=1 is reached")

    ends.registered_commands = []  # type: ignore[attr-defined]
    monkeypatch.setattr(cli, "app", ends)
    with pytest.raises(SystemExit) as ended:
        cli.main([])
    assert ended.value.code == 7


def test_sigterm_while_ray_starts_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def end_as_ray_does(*_: object) -> None:
        sys.exit(signal.SIGTERM)

    monkeypatch.setattr(session, "_connect", end_as_ray_does)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    told = pytest.raises(Interrupted, match="stopped by signal 15 while starting Ray: run the same")
    with told as caught, session.ray_session(Config(), Progress()):
        pass
    assert caught.value.signum == signal.SIGTERM
