"""What runs beside the engine: takes units, streams their seeds, publishes what is finished.

One actor owns one sampler. All its units share the sampler's seats, first come first served, so
the next unit's seeds move up as the last ones of the unit before are still being answered: the
engine never drains between units. What goes back to the driver are counts only.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mmpr_builder import prompts, sampling
from mmpr_builder.cluster.failures import explained
from mmpr_builder.config import Config
from mmpr_builder.errors import EngineError
from mmpr_builder.escaping import redacted
from mmpr_builder.folder import parts
from mmpr_builder.folder.manifest import Unit
from mmpr_builder.io.tables import optional_columns, warm_up
from mmpr_builder.records import Outcome, Response, Rollout, Seed, Verdict, generated_tokens
from mmpr_builder.sampling import CacheHits
from mmpr_builder.sampling.scoring_threads import ScoringThreads

# --- how many seeds one engine answers at once ------------------------------------------------

_USUAL_SEQUENCES = 512  # vLLM's own default is 128 to 1,024, by device.
_MOST_SEATS = 256
_PER_ROUND = 4  # Responses of a seed under way, taken over all its rounds; about that.


def seats(config: Config) -> int:
    """Seeds being answered by one engine at once.

    Enough that the engine always finds its next sequences waiting (twice what it runs at once),
    few enough that decoded images and requests stay within tens of megabytes.
    """
    if config.sampling.engine == "endpoint":
        return config.sampling.endpoint.concurrency
    running = config.engine.get("max_num_seqs")
    running = running if isinstance(running, int) else _USUAL_SEQUENCES
    if config.sampling.policy == "adaptive":
        # In a later round a seed has but a few responses under way.
        return max(8, min(2 * _MOST_SEATS, math.ceil(2 * running / _PER_ROUND)))
    return max(8, min(_MOST_SEATS, math.ceil(2 * running / config.sampling.n)))


# --- what was sampled -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Counts:
    """What was sampled; adds up."""

    seeds: int = 0
    responses: int = 0
    tokens: int = 0
    errors: int = 0
    """Seeds that could not be sampled; their rollout says why."""
    correct: int = 0
    """Responses that scoring found right while sampling (sampling.policy=adaptive); of `decided`.
    `undecided` ones are in neither."""
    decided: int = 0
    undecided: int = 0
    saved: int = 0
    """Responses that were not sampled because their seed had enough, or was hopeless."""
    prefix_queries: int = 0
    """Prompt tokens looked up in the engine's KV cache; `prefix_hits` were found there."""
    prefix_hits: int = 0
    image_queries: int = 0
    """Pictures whose processed form was looked up; `image_hits` were found."""
    image_hits: int = 0

    def __add__(self, other: Counts) -> Counts:
        sums = (getattr(self, f.name) + getattr(other, f.name) for f in fields(self))
        return Counts(*sums)


def count(rollout: Rollout, n: int, outcomes: Sequence[Outcome] = ()) -> Counts:
    """What one rollout adds; the tokens of its continuations and blind samples included.

    `n` is how many responses it could have had, `outcomes` what scoring said of them meanwhile.
    """
    stopped = rollout.stop in ("enough", "hopeless")
    return Counts(
        seeds=1,
        responses=len(rollout.responses),
        tokens=generated_tokens(rollout),
        errors=int(rollout.error is not None),
        correct=outcomes.count("correct"),
        decided=len(outcomes) - outcomes.count("undecided"),
        undecided=outcomes.count("undecided"),
        saved=n - len(rollout.responses) if stopped else 0,
    )


def new_hits(before: CacheHits, now: CacheHits) -> Counts:
    """What the engine's caches saved between two looks at their totals."""
    earlier = asdict(before)
    return Counts(**{name: total - earlier[name] for name, total in asdict(now).items()})


SamplerFactory = Callable[[Config], sampling.Sampler]

_ANSWER_S = 0.05
_REPORT_S = 1.0  # Between saying that the engine is dead and ending the process.


@dataclass(frozen=True, slots=True)
class UnitResult:
    """The end of a piece of work: `kept` is on disk for good, whatever went wrong afterwards."""

    kept: Counts
    published: bool = False
    failure: str = ""
    """What went wrong; empty if nothing did."""
    engine_died: bool = False
    """The sampler is gone and the process ends in a second: work is to be tried elsewhere."""


@dataclass
class _OpenUnit:
    unit: Unit
    tasks: list[asyncio.Task[Rollout]] = field(default_factory=list)
    finished: dict[int, Rollout] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    written: int | None = None
    """Rows that were delivered; None before the first time."""
    published: bool = False

    def handed_in(self) -> Counts:
        """What it has; once, as a stop and its own end may both ask."""
        counts, self.counts = self.counts, Counts()
        return counts


class SamplerActor:
    """Owns one sampler; a plain class, so that it can be run without Ray."""

    def __init__(self, config: Config, factory: SamplerFactory) -> None:
        self._config = config
        self._factory = factory
        self._open: dict[int, _OpenUnit] = {}
        self._sampler: sampling.Sampler | None = None
        self._scoring: ScoringThreads | None = None
        self._under_way: set[asyncio.Task[Any]] = set()
        self._stopping = False
        self._delivering = 0
        self._hurry = asyncio.Event()
        self._hits_told = sampling.CacheHits()

    async def start(self) -> tuple[float, str]:
        """Load the engine; returns (seconds it took, "") or (seconds, what went wrong)."""
        began = time.monotonic()
        # Loading holds the event loop: what was asked before (where this runs) is answered first.
        await asyncio.sleep(_ANSWER_S)
        warm_up()  # Now: beside a running engine its quarter of a second is missed.
        self._templates = prompts.load_templates(self._config)
        self._seats = asyncio.Semaphore(seats(self._config))
        try:
            if self._config.sampling.policy == "adaptive":
                self._scoring = ScoringThreads(self._config)
            self._sampler = self._factory(self._config)
        except Exception as error:  # noqa: BLE001 - any cause is reported, then the actor is ended
            return time.monotonic() - began, explained(error)
        return time.monotonic() - began, ""

    async def sample(self, key: int, unit: Unit, rows: Sequence[int] | None) -> UnitResult:
        """Sample a unit, or only some of its rows, and keep what is finished even on a failure.

        `key` names this piece of work in `progress`.
        """
        job = self._open[key] = _OpenUnit(unit)
        failure, died = "", False
        try:
            await self._fill(job, rows)
        except EngineError as error:
            failure, died = explained(error), True
        except OSError as error:  # Storage may be back when the work is tried again.
            failure = explained(error)
        finally:
            await _cancel(job.tasks)
            self._open.pop(key)
        self._delivering += 1
        try:
            published = await self._deliver(job)
        except OSError as error:
            return UnitResult(Counts(), failure=explained(error), engine_died=died)
        finally:
            self._delivering -= 1
        job.counts += self._new_hits()
        if died and not self._stopping:
            # An actor without an engine would fail every unit it is given, and quickly.
            asyncio.get_running_loop().call_later(_REPORT_S, os._exit, 70)
        return UnitResult(job.handed_in(), published, failure, died)

    async def progress(self) -> dict[int, Counts]:
        """What the open pieces of work have so far, by key."""
        return {key: job.counts for key, job in self._open.items()}

    async def drain(self, grace_s: float | None = None) -> Counts:
        """Begin no more rows, keep every finished one, close the sampler; returns what was kept.

        Rows in the middle of their sampling have `grace_s` to end (`distributed.grace_s` unless
        given; `hurry` cuts it short); then they are given up, and a later run samples them again.
        What ends a unit meanwhile comes back from `sample`. Raises `OSError` where rows could not
        be kept, after all others were.
        """
        self._stopping = True
        await self._end_what_is_under_way(
            self._config.distributed.grace_s if grace_s is None else grace_s
        )
        kept, failures = Counts(), []
        for job in list(self._open.values()):
            await _cancel(job.tasks)
            try:
                await self._deliver(job)
            except OSError as error:
                failures.append(error)
            else:
                kept += job.handed_in()
        while self._delivering:  # Units that have just ended: the process is ended after this.
            await asyncio.sleep(_ANSWER_S)
        kept += self._new_hits()
        await self.close()
        if failures:
            raise failures[0]
        return kept

    async def hurry(self) -> None:
        """End the grace of `drain` now."""
        self._hurry.set()

    async def _end_what_is_under_way(self, grace_s: float) -> None:
        if not grace_s or not self._under_way:
            return
        # What is finished is kept meanwhile: who stops us may not grant all of the time.
        early = [asyncio.create_task(self._deliver(job)) for job in self._open.values()]
        hurried = asyncio.create_task(self._hurry.wait())
        ended = asyncio.gather(*self._under_way, return_exceptions=True)
        either: list[asyncio.Future[Any]] = [hurried, ended]
        await asyncio.wait(either, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        await asyncio.gather(*early, return_exceptions=True)  # Failures show when tried again.

    async def close(self) -> None:
        """Shut the engine down; without it every run would end in its traceback."""
        if self._sampler is not None:
            await self._sampler.close()
            self._sampler = None
        if self._scoring is not None:
            self._scoring.close()
            self._scoring = None

    async def _fill(self, job: _OpenUnit, rows: Sequence[int] | None) -> None:
        seeds, kept = await asyncio.to_thread(self._read, job.unit)
        wanted = None if rows is None else set(rows)
        for index, seed in seeds:
            if index not in kept and (wanted is None or index in wanted):
                job.tasks.append(asyncio.create_task(self._answer(job, index, seed)))
        for task in asyncio.as_completed(job.tasks):
            await task  # The first error ends the unit at once.

    def _read(self, unit: Unit) -> tuple[list[tuple[int, Seed]], set[int]]:
        out = self._config.out
        return parts.read_seeds(out, unit), set(parts.read_partial(out, unit))

    async def _answer(self, job: _OpenUnit, index: int, seed: Seed) -> Rollout:
        async with self._seats:
            if self._sampler is None:
                raise EngineError("the sampler is closed: run again")
            if self._stopping:
                await asyncio.Event().wait()  # Its unit is still open; `drain` cancels it.
            outcomes: list[Outcome] = []
            with self._noted_under_way():
                rollout = await sampling.roll_out(
                    seed,
                    index,
                    self._templates.pick(seed),
                    self._config,
                    self._sampler,
                    redacted(self._config.model),
                    None if self._scoring is None else _noting(self._scoring, outcomes),
                )
        job.finished[index] = rollout
        job.counts += count(rollout, self._config.sampling.n, outcomes)
        return rollout

    @contextlib.contextmanager
    def _noted_under_way(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            yield
        finally:
            self._under_way.discard(task)

    def _new_hits(self) -> Counts:
        """What the engine's caches saved since this was asked last."""
        if not isinstance(self._sampler, sampling.HasCaches):
            return Counts()
        before, self._hits_told = self._hits_told, self._sampler.cache_hits()
        return new_hits(before, self._hits_told)

    async def _deliver(self, job: _OpenUnit) -> bool:
        """Keep what is finished and not yet kept; whether the unit is published. A unit's own end
        and a stop may both ask: one after the other."""
        async with job.writing:
            finished = list(job.finished.values())
            if not job.published and job.written != len(finished):
                columns = optional_columns(self._config)
                job.published = await asyncio.to_thread(
                    parts.deliver, self._config.out, job.unit, finished, columns
                )
                job.written = len(finished)
        return job.published


def _noting(scoring: sampling.Scoring, outcomes: list[Outcome]) -> sampling.Scoring:
    """`scoring` that writes down what it says of responses with a truth."""

    async def score(rollout: Rollout) -> tuple[Sequence[Verdict], Sequence[Response]]:
        verdicts, usable = await scoring(rollout)
        if rollout.seed.has_truth:
            outcomes.extend(verdict.outcome for verdict in verdicts)
        return verdicts, usable

    return score


async def _cancel(tasks: Sequence[asyncio.Task[Rollout]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
