"""The actor beside an engine: takes units, streams their seeds, publishes what is finished.

One actor owns one sampler. At most `max_in_flight` seeds of all its units are answered at once, in
order, so that the next unit begins while the last seeds of one are still being answered: the engine
never drains between units. Only counts go back to the driver.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from mmpr_builder import engines, prompts, sampling
from mmpr_builder.cluster.replicas import explained
from mmpr_builder.config import Config
from mmpr_builder.errors import EngineError
from mmpr_builder.escaping import redacted
from mmpr_builder.folder import parts
from mmpr_builder.folder.manifest import Unit
from mmpr_builder.io.tables import optional_columns, warm_up
from mmpr_builder.records import Outcome, Response, Rollout, Seed, Verdict, generated_tokens
from mmpr_builder.sampling.scoring_threads import ScoringThreads

SamplerFactory = Callable[[Config], sampling.Sampler]

_ANSWER_S = 0.05
_REPORT_S = 1.0  # Between reporting a dead engine and ending the process.
_USUAL_SEQUENCES = 512  # vLLM's own default is 128 to 1,024, by device.
_MOST_IN_FLIGHT = 256
_PER_ROUND = 4  # Responses of a seed under way, on average over its rounds.


def max_in_flight(config: Config) -> int:
    """Seeds that one engine answers at once.

    Enough to keep twice the engine's sequences waiting, few enough that decoded images and requests
    stay within tens of megabytes.
    """
    if config.sampling.engine == "endpoint":
        return config.sampling.endpoint.concurrency
    running = config.engine.get("max_num_seqs")
    running = running if isinstance(running, int) else _USUAL_SEQUENCES
    if config.sampling.policy == "adaptive":
        # In later rounds a seed has only a few responses under way.
        return max(8, min(2 * _MOST_IN_FLIGHT, math.ceil(2 * running / _PER_ROUND)))
    return max(8, min(_MOST_IN_FLIGHT, math.ceil(2 * running / config.sampling.n)))


@dataclass(frozen=True, slots=True)
class Counts:
    """What was sampled; adds up."""

    seeds: int = 0
    responses: int = 0
    tokens: int = 0
    errors: int = 0
    """Seeds that could not be sampled; their rollout says why."""
    correct: int = 0
    """Responses, of `decided`, that scoring found right while sampling (adaptive policy)."""
    decided: int = 0
    undecided: int = 0
    saved: int = 0
    """Responses not sampled because their seed had enough, or was hopeless."""
    prefix_queries: int = 0
    """Prompt tokens looked up in the engine's KV cache, and found there (`prefix_hits`)."""
    prefix_hits: int = 0
    image_queries: int = 0
    """Pictures whose processed form was looked up, and found (`image_hits`)."""
    image_hits: int = 0

    def __add__(self, other: Counts) -> Counts:
        sums = (getattr(self, f.name) + getattr(other, f.name) for f in fields(self))
        return Counts(*sums)


def count(rollout: Rollout, n: int, outcomes: Sequence[Outcome] = ()) -> Counts:
    """The counts of one rollout, with the tokens of its continuations and blind samples.

    `n` is how many responses it could have had, `outcomes` their verdicts while sampling.
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


@dataclass(frozen=True, slots=True)
class UnitResult:
    """The end of a piece of work: `kept` is on disk, whatever went wrong afterwards."""

    kept: Counts
    published: bool = False
    failure: str = ""
    """What went wrong, if anything."""
    engine_died: bool = False
    """The sampler is gone and the process ends in a second: another engine tries the work again."""


@dataclass
class _OpenUnit:
    unit: Unit
    tasks: list[asyncio.Task[Rollout]] = field(default_factory=list)
    finished: dict[int, Rollout] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    written: int | None = None
    """Rows delivered so far; None before the first time."""
    published: bool = False

    def handed_in(self) -> Counts:
        """Its counts, only once: a stop and the unit's own end may both ask."""
        counts, self.counts = self.counts, Counts()
        return counts


class SamplerActor:
    """Owns one sampler; a plain class that also runs without Ray."""

    def __init__(self, config: Config, factory: SamplerFactory) -> None:
        self._config = config
        self._factory = factory
        self._open: dict[Hashable, _OpenUnit] = {}
        self._sampler: sampling.Sampler | None = None
        self._judge: sampling.Sampler | None = None
        self._scoring: ScoringThreads | None = None
        self._under_way: set[asyncio.Task[Any]] = set()
        self._stopping = False
        self._hurry = asyncio.Event()
        self._hits_told = Counter[str]()

    async def start(self) -> tuple[float, str, tuple[str, ...]]:
        """Load the engine; returns the seconds it took, what went wrong ("" if nothing did), and
        what the user should know."""
        began = time.monotonic()
        # Loading blocks the event loop: let it answer earlier calls (where this runs) first.
        await asyncio.sleep(_ANSWER_S)
        warm_up()  # Now: later its quarter of a second would delay a running engine.
        self._templates = prompts.load_templates(self._config)
        self._in_flight = asyncio.Semaphore(max_in_flight(self._config))
        try:
            if sampling.scores_while_sampling(self._config):
                self._scoring = ScoringThreads(self._config)
            self._judge = engines.make_judge(self._config)
            self._sampler = self._factory(self._config)
        except Exception as error:  # noqa: BLE001 - the driver reports any cause
            return time.monotonic() - began, explained(error), ()
        return time.monotonic() - began, "", getattr(self._sampler, "notes", ())

    async def sample(self, key: Hashable, unit: Unit, rows: Sequence[int] | None) -> UnitResult:
        """Sample a unit, or some of its rows, and keep what is finished even after a failure.

        `key` names this piece of work in `progress`.
        """
        job = self._open[key] = _OpenUnit(unit)
        failure, died = "", False
        try:
            try:
                await self._fill(job, rows)
            except EngineError as error:
                failure, died = explained(error), True
            except OSError as error:  # Storage may be back when the work is tried again.
                failure = explained(error)
            finally:
                await sampling.cancelled(job.tasks)
            published = await self._deliver(job)
        except OSError as error:
            return UnitResult(Counts(), failure=explained(error), engine_died=died)
        finally:
            self._open.pop(key)
        job.counts += self._new_hits()
        if died and not self._stopping:
            # Without its engine the actor would quickly fail every unit.
            asyncio.get_running_loop().call_later(_REPORT_S, os._exit, 70)
        return UnitResult(job.handed_in(), published, failure, died)

    async def progress(self) -> dict[Hashable, Counts]:
        """Counts of the open pieces of work, by key."""
        return {key: job.counts for key, job in self._open.items()}

    async def drain(self, grace_s: float | None = None) -> Counts:
        """Begin no more rows, keep every finished one, close the sampler; returns what was kept.

        Rows under way have `grace_s` to end (`distributed.grace_s` unless given; `hurry` cuts it
        short); then a later run samples them again. Units that end meanwhile come back from
        `sample`. Raises `OSError` if rows could not be kept, after keeping all others.
        """
        self._stopping = True
        await self._end_what_is_under_way(
            self._config.distributed.grace_s if grace_s is None else grace_s
        )
        kept, failures = Counts(), []
        for job in list(self._open.values()):  # Also those that have just ended.
            await sampling.cancelled(job.tasks)
            try:
                await self._deliver(job)
            except OSError as error:
                failures.append(error)
            else:
                kept += job.handed_in()
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
        # Keep finished rows meanwhile: the process may be killed before the grace is over.
        early = [asyncio.create_task(self._deliver(job)) for job in self._open.values()]
        hurried = asyncio.create_task(self._hurry.wait())
        ended = asyncio.gather(*self._under_way, return_exceptions=True)
        either: list[asyncio.Future[Any]] = [hurried, ended]
        await asyncio.wait(either, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        await asyncio.gather(*early, return_exceptions=True)  # Failures show when tried again.

    async def close(self) -> None:
        """Shut the engine down; otherwise every run would end in its traceback."""
        for held in (self._sampler, self._judge):
            if held is not None:
                await held.close()
        self._sampler = self._judge = None
        if self._scoring is not None:
            self._scoring.close()
            self._scoring = None

    async def _fill(self, job: _OpenUnit, rows: Sequence[int] | None) -> None:
        seeds = await asyncio.to_thread(parts.read_seeds, self._config.out, job.unit)
        kept = await asyncio.to_thread(parts.read_partial, self._config.out, job.unit)
        wanted = None if rows is None else set(rows)
        for index, seed in seeds:
            if index not in kept and (wanted is None or index in wanted):
                job.tasks.append(asyncio.create_task(self._answer(job, index, seed)))
        for task in asyncio.as_completed(job.tasks):
            await task  # The first error ends the unit at once.

    async def _answer(self, job: _OpenUnit, index: int, seed: Seed) -> Rollout:
        async with self._in_flight:
            if self._sampler is None:
                raise EngineError("the sampler is closed: run again")
            if self._stopping:
                await asyncio.Event().wait()  # Its unit is still open; `drain` cancels it.
            outcomes: list[Outcome] = []
            task = asyncio.current_task()
            assert task is not None
            self._under_way.add(task)
            try:
                rollout = await sampling.roll_out(
                    seed,
                    index,
                    self._templates.pick(seed),
                    self._config,
                    self._sampler,
                    redacted(self._config.model),
                    None if self._scoring is None else _noting(self._scoring, outcomes),
                    self._judge,
                )
            finally:
                self._under_way.discard(task)
        job.finished[index] = rollout
        job.counts += count(rollout, self._config.sampling.n, outcomes)
        return rollout

    def _new_hits(self) -> Counts:
        """What the engine's caches saved since the last call."""
        if not isinstance(self._sampler, sampling.HasCaches):
            return Counts()
        before, self._hits_told = self._hits_told, self._sampler.cache_hits()
        return Counts(**(self._hits_told - before))

    async def _deliver(self, job: _OpenUnit) -> bool:
        """Keep what is finished and not yet kept; returns whether the unit is published. A unit's
        own end and a stop may both call it: one waits for the other."""
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
    """`scoring` that also notes the outcomes of responses with a truth, as long as more may be
    sampled: what is judged once a rollout has its `stop` is judged again, or a continuation."""

    async def score(rollout: Rollout) -> tuple[Sequence[Verdict], Sequence[Response]]:
        verdicts, usable = await scoring(rollout)
        if rollout.seed.has_truth and not rollout.stop:
            outcomes.extend(verdict.outcome for verdict in verdicts)
        return verdicts, usable

    return score
