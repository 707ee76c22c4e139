"""The driver: hands out units, counts, and handles failures.

It holds no rollouts. A unit is done once its part is in the folder; the open work of an engine that
died is queued again (`work_queue.WorkQueue`), and `fleet.Fleet` starts another engine where there
is room.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from mmpr_builder.cluster.replicas import CallError, Replica, ended, fetched
from mmpr_builder.config import Config, LimitsConfig
from mmpr_builder.errors import EngineError, Interrupted, LimitReached
from mmpr_builder.escaping import redacted
from mmpr_builder.folder import parts
from mmpr_builder.folder.manifest import Manifest, Unit
from mmpr_builder.io.tables import optional_columns
from mmpr_builder.progress import Progress
from mmpr_builder.records import Rollout
from mmpr_builder.runs.actors import Counts, SamplerFactory, UnitResult
from mmpr_builder.runs.fleet import Fleet
from mmpr_builder.runs.work_queue import Work, WorkQueue

_AGAIN = "run the same command again to go on"
_WAIT_S = 0.5
_DRAIN_S = 15.0  # Added to the seeds' grace: schedulers kill 30 s after their SIGTERM.
_STORAGE_PAUSE_S = 5.0
_NODES_LOST = 5
"""Nodes that may leave with a unit open before the unit becomes a suspect."""


@dataclass
class StopRequest:
    """A stop in good order, asked for by the signal `signum`; None: not asked for."""

    signum: int | None = None
    at_once: bool = False
    """Whether to wait for nothing: another run has taken the folder."""

    def ask(self, signum: int, *, at_once: bool = False) -> None:
        self.signum = self.signum or signum
        self.at_once |= at_once


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Give SIGINT and SIGTERM to `handler` until the block ends. Outside the main thread, where
    Python allows no handlers, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, handler) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, earlier in before.items():
            signal.signal(signum, earlier)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a stop in good order until the block ends; a further one raises
    `KeyboardInterrupt`."""
    request = StopRequest()

    def ask(signum: int, _: FrameType | None) -> None:
        if request.signum is not None:
            raise KeyboardInterrupt
        request.ask(signum)

    with _handling(ask):
        yield request


@contextmanager
def ended_by_signals(doing: str, then: str = _AGAIN) -> Iterator[None]:
    """Have SIGINT and SIGTERM raise `Interrupted` in the block, so that it is tidied and reported;
    `then` says how to go on."""

    def end(signum: int, _: FrameType | None) -> None:
        raise Interrupted(f"stopped by signal {signum} while {doing}: {then}", signum)

    with _handling(end):
        yield


@dataclass(frozen=True, slots=True)
class Budget:
    """What sampling may take in all, what earlier runs took of it, and when this one began."""

    limits: LimitsConfig
    tokens: int = 0
    seconds: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def reached(self, tokens: int = 0) -> str:
        """The limit that is reached with so many tokens of this run, as it is set; "" if none."""
        if self.limits.tokens is not None and self.tokens + tokens >= self.limits.tokens:
            return f"limits.tokens={self.limits.tokens}"
        seconds = self.seconds + time.monotonic() - self.began
        if self.limits.hours is not None and seconds >= 3600 * self.limits.hours:
            return f"limits.hours={self.limits.hours:g}"
        return ""


class Driver:
    """The state of one run: the queue, the engines, and what was counted."""

    def __init__(
        self,
        config: Config,
        manifest: Manifest,
        todo: Sequence[Unit],
        progress: Progress,
        factory: SamplerFactory,
        budget: Budget,
    ) -> None:
        self._config = config
        self._budget = budget
        self._tokens = 0
        self._seeds = manifest.seeds
        self._units = len(manifest.units)
        self._queue = WorkQueue(todo, config.distributed.max_tries, self._rows_of)
        self._unfinished = {unit.name for unit in todo}
        self._nodes_lost: Counter[str] = Counter()
        self._progress = progress
        self._factory = factory
        self._fleet: Fleet
        self._had = self._seeds - sum(unit.count for unit in todo)
        for unit in parts.units_with_partial(config.out, todo):
            self._had += len(parts.read_partial(config.out, unit))
        self._pause_until = 0.0
        self.counts = Counts()
        self.retries = 0
        self.engine_seconds = 0.0

    def sample(self, stop: StopRequest, *, alone: bool = False) -> None:
        """Work until the queue is empty, a stop was asked for, or a limit is reached; `alone`: no
        node will join. Raises `LimitReached` before an engine starts if it is reached already."""
        self._check_limits()
        self._fleet = Fleet(self._config, self._factory, self._progress, alone=alone)
        try:
            with self._progress.stage("loading the engine"):
                self._load_first(stop)
            with self._progress.stage("sampling", total=self._seeds):
                self._show()
                while self._useful() and stop.signum is None and not self._limit():
                    self._fill()
                    self._collect()
                    self._show()
                if stop.signum is not None:
                    self._drain(stop)
                    self._show()
                    raise _interrupted(self._config, stop.signum, self.counts)
                if self._useful():
                    self._drain(stop)
                    self._show()
                    if self._unfinished:
                        self._check_limits()
        finally:
            self.engine_seconds = self._fleet.engine_seconds
            self._fleet.close()

    def _limit(self) -> str:
        return self._budget.reached(self._tokens)

    def _check_limits(self) -> None:
        if limit := self._limit():
            raise LimitReached(
                f"{limit} is reached; {_kept(self._config, self.counts)}: raise it, and run the"
                " same command again to go on; `mmpr pair --partial` makes pairs of what is there"
            )

    def _load_first(self, stop: StopRequest) -> None:
        local = self._config.sampling.engine == "vllm"
        hint = f"{self._config.model}; half a minute for a small model" if local else ""
        while not self._fleet.ready:
            if stop.signum is not None:
                raise _interrupted(self._config, stop.signum, self.counts)
            self._check_limits()
            self._fleet.tend(self._useful())
            self._collect()
            loading = any(replica.placed for replica in self._fleet.replicas)
            self._progress.update(detail=hint if loading else self._fleet.state())

    def _fill(self) -> None:
        self._fleet.tend(self._useful())
        if time.monotonic() < self._pause_until:
            return
        limit = self._config.distributed.units_in_flight
        given = True
        while given:  # In turns, so that the last units spread over all engines.
            given = False
            for replica in self._fleet.ready:
                work = self._queue.take(replica.works, limit)
                if work is not None:
                    replica.submit(work, work.unit, work.rows)
                    given = True

    def _useful(self) -> int:
        """Engines that would find work."""
        return len(self._queue) + sum(bool(replica.open) for replica in self._fleet.replicas)

    def _collect(self) -> None:
        """Wait a moment for an engine that starts or work that ends."""
        replicas = self._fleet.replicas
        waiting = {replica.started: replica for replica in replicas if not replica.ready}
        for replica in replicas:
            waiting.update(dict.fromkeys(replica.open, replica))
        if not waiting:
            time.sleep(_WAIT_S)
            return
        for ref in ended(list(waiting), _WAIT_S, at_least=1):
            # A dead engine ends all its references; the first one settles them.
            if waiting[ref] in replicas:
                self._settle(waiting[ref], ref)

    def _settle(self, replica: Replica, ref: Any) -> None:
        try:
            result = fetched(ref)
        except CallError as error:
            if not error.lost:
                raise
            self._lost(replica, str(error), of_the_node=error.of_the_node)
            return
        if ref is replica.started:
            self._fleet.on_started(replica, *result)
        else:
            self._on_result(replica, replica.open[ref], ref, result)

    def _count_kept(self, work: Work, result: UnitResult) -> None:
        self.counts += result.kept
        if result.published:
            self._unfinished.discard(work.unit.name)

    def _on_result(self, replica: Replica, work: Work, ref: Any, result: UnitResult) -> None:
        self._count_kept(work, result)
        if result.engine_died:
            self._lost(replica, result.failure)
            return
        del replica.open[ref]
        if result.failure:
            self.retries += 1
            self._pause_until = time.monotonic() + _STORAGE_PAUSE_S
            self._progress.note(f"{work.unit.name} is tried again: {result.failure}")
            if not self._queue.try_again(work):
                raise EngineError(
                    f"{work.unit.name} failed {self._config.distributed.max_tries} times; finished"
                    f" units are kept, run again to go on: {result.failure}"
                )

    def _lost(self, replica: Replica, cause: str, *, of_the_node: bool = False) -> None:
        """A process or its engine died: queue its work again, quarantine a row that kills."""
        if not replica.ready:
            self._fleet.died_early(replica, cause)  # Not the fault of any work.
            return
        works = replica.works
        of_the_node = self._fleet.went_with_its_node(replica) or of_the_node
        self._fleet.end(replica)
        self.retries += len(works)
        names = ", ".join(sorted({work.unit.name for work in works})) or "nothing"
        what = "a node failed" if of_the_node else "an engine died"
        self._progress.note(f"{what} with {names} open, going on with another: {cause}")
        if of_the_node:
            works = self._acquitted(works)
        for work in self._queue.died(works):
            self._quarantine(work, cause)

    def _acquitted(self, works: Sequence[Work]) -> list[Work]:
        """Queue again, uncounted, what was open on a node that failed; returns the rest.

        Nodes leave, and run out of memory, for reasons of their own. But a row can be why, too, so
        each unit is acquitted only a few times.
        """
        self._nodes_lost.update(work.unit.name for work in works)
        innocent = [work for work in works if self._nodes_lost[work.unit.name] <= _NODES_LOST]
        self._queue.put_back(innocent)
        return [work for work in works if work not in innocent]

    def _quarantine(self, work: Work, cause: str) -> None:
        (index,) = work.rows or ()
        seed = dict(parts.read_seeds(self._config.out, work.unit))[index]
        detail = f"sampling it ended the engine's process each time it was tried: {cause}"
        rollout = Rollout(
            seed=seed,
            prompt="",
            template="",
            style="open",
            model=redacted(self._config.model),
            error=(parts.KILLED_ENGINE, detail),
            index=index,
        )
        columns = optional_columns(self._config)
        if parts.deliver(self._config.out, work.unit, [rollout], columns):
            self._unfinished.discard(work.unit.name)
        self.counts += Counts(seeds=1, errors=1)
        self._progress.note(f"seed {seed.id!r} ({seed.origin}) kills the engine: quarantined")

    def _drain(self, stop: StopRequest) -> None:
        """Write finished rows and close the engines within the grace."""
        grace = 0.0 if stop.at_once else self._config.distributed.grace_s
        wait = f"seeds under way have {grace:g} s to end (again: do not wait), " if grace else ""
        self._progress.note(f"stopping: {wait}finished rows are being kept")
        actors = [replica.actor for replica in self._fleet.ready]
        refs = [actor.drain.remote(grace) for actor in actors]
        try:
            drained = ended(refs, grace + _DRAIN_S, at_least=len(refs))
        except KeyboardInterrupt:
            self._progress.note("not waiting any longer (again: stop at once)")
            for actor in actors:
                actor.hurry.remote()
            drained = ended(refs, _DRAIN_S, at_least=len(refs))
        for ref in drained:
            try:
                self.counts += fetched(ref)
            except CallError as error:
                self._progress.note(f"an engine could not keep its rows: {error}")
        self._count_ended()

    def _count_ended(self) -> None:
        """Count units that ended at the stop or in its grace; the others were cancelled."""
        works = {ref: work for r in self._fleet.replicas for ref, work in r.open.items()}
        for ref in ended(list(works), _WAIT_S, at_least=len(works)):
            with suppress(CallError):
                self._count_kept(works[ref], fetched(ref))
        for replica in self._fleet.replicas:
            replica.open.clear()

    def _show(self) -> None:
        open_work = [counts for replica in self._fleet.replicas for counts in replica.poll()]
        now = sum(open_work, self.counts)
        self._tokens = max(self._tokens, now.tokens)
        if self._config.sampling.policy == "adaptive":  # Else nothing is scored while sampling.
            self._progress.update(
                correct=now.correct, decided=now.decided, undecided=now.undecided, saved=now.saved
            )
        self._progress.update(
            done=self._had + now.seeds,
            units=self._units - len(self._unfinished),
            units_total=self._units,
            tokens=now.tokens,
            responses=now.responses,
            engines=len(self._fleet.ready),
            retries=self.retries,
            detail=self._fleet.state(),
        )

    def _rows_of(self, unit: Unit) -> list[int]:
        return [index for index, _ in parts.read_seeds(self._config.out, unit)]


def _interrupted(config: Config, signum: int, kept: Counts) -> Interrupted:
    return Interrupted(
        f"stopped by signal {signum}; {_kept(config, kept)}: run the same command again to go on",
        signum,
    )


def _kept(config: Config, kept: Counts) -> str:
    were = "seed was sampled and is" if kept.seeds == 1 else "seeds were sampled and are"
    return f"{kept.seeds:,} {were} kept in {config.out}"
