"""The driver: hands out units, counts, and deals with whatever dies.

It holds no rollouts. A unit is done when its part is in the folder, and at no other time; what
was open in an engine that died is queued again (`units.WorkQueue`), and another engine started.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

from mmpr_builder.config import Config
from mmpr_builder.distributed import parts
from mmpr_builder.distributed.actors import ERROR_LINE, Counts, SamplerFactory, UnitResult
from mmpr_builder.distributed.manifest import Manifest, Unit
from mmpr_builder.distributed.replicas import (
    Replica,
    close_replicas,
    replica_count,
    start_replica,
)
from mmpr_builder.distributed.signals import StopRequest
from mmpr_builder.distributed.units import Work, WorkQueue
from mmpr_builder.errors import EngineError, Interrupted, SetupError
from mmpr_builder.progress import Progress
from mmpr_builder.records import Rollout

_WAIT_S = 0.5
_DRAIN_S = 20.0  # Schedulers kill 30 s after their SIGTERM.
_STARTS_IN_A_ROW = 3
_STORAGE_PAUSE_S = 5.0
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Driver:
    """The state of one run: the queue, the engines, and what was counted."""

    def __init__(
        self,
        config: Config,
        manifest: Manifest,
        todo: Sequence[Unit],
        progress: Progress,
        factory: SamplerFactory,
    ) -> None:
        self._config = config
        self._seeds = manifest.seeds
        self._queue = WorkQueue(todo, config.distributed.max_tries, self._rows_of)
        self._progress = progress
        self._factory = factory
        self._replicas: list[Replica] = []
        self._had = self._seeds - sum(unit.count for unit in todo) + self._partial_rows(todo)
        self._failed_starts = 0
        self._pause_until = 0.0
        self.counts = Counts()
        self.retries = 0
        self.engine_seconds = 0.0

    def sample(self, stop: StopRequest) -> None:
        """Work until the queue is empty, or `stop` was asked for."""
        wanted = replica_count(self._config)
        try:
            with self._progress.stage("loading the engine"):
                self._load_first(wanted, stop)
            with self._progress.stage("sampling", total=self._seeds):
                self._show()
                while self._has_work() and stop.signum is None:
                    self._fill(wanted)
                    self._collect()
                    self._show()
                if stop.signum is not None:
                    self._drain()
                    self._show()
                    raise _interrupted(self._config, stop.signum, self.counts)
        finally:
            close_replicas(self._replicas)

    def _has_work(self) -> bool:
        return len(self._queue) > 0 or any(replica.open for replica in self._replicas)

    def _load_first(self, wanted: int, stop: StopRequest) -> None:
        local = self._config.sampling.engine == "vllm"
        hint = f"{self._config.model}; half a minute for a small model" if local else ""
        while not any(replica.ready for replica in self._replicas):
            if stop.signum is not None:
                raise _interrupted(self._config, stop.signum, self.counts)
            self._start_missing(wanted)
            self._collect()
            self._progress.update(detail=hint)

    def _fill(self, wanted: int) -> None:
        self._start_missing(wanted)
        if time.monotonic() < self._pause_until:
            return
        limit = self._config.distributed.units_in_flight
        given = True
        while given:  # In turns, so that the last units spread over all engines.
            given = False
            for replica in self._replicas:
                work = self._queue.take(replica.works, limit) if replica.ready else None
                if work is not None:
                    replica.submit(work)
                    given = True

    def _start_missing(self, wanted: int) -> None:
        useful = len(self._queue) + sum(bool(replica.open) for replica in self._replicas)
        while len(self._replicas) < min(wanted, useful):
            self._replicas.append(start_replica(self._config, self._factory))

    def _collect(self) -> None:
        """Wait a moment for whatever comes first: an engine that is there, or work that ended."""
        import ray

        waiting = {replica.started: replica for replica in self._replicas if not replica.ready}
        for replica in self._replicas:
            waiting.update(dict.fromkeys(replica.open, replica))
        if not waiting:
            time.sleep(_WAIT_S)
            return
        ended, _ = ray.wait(list(waiting), num_returns=1, timeout=_WAIT_S)
        if ended:
            more, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
            for ref in more:
                # An engine's death ends all its references; the first one settles them.
                if waiting[ref] in self._replicas:
                    self._settle(waiting[ref], ref)

    def _settle(self, replica: Replica, ref: Any) -> None:
        import ray

        try:
            result = ray.get(ref)
        except ray.exceptions.RayActorError as error:
            self._lost(replica, _cause(error))
            return
        if ref is replica.started:
            self._on_started(replica, *result)
        else:
            self._on_result(replica, replica.open[ref][1], ref, result)

    def _on_started(self, replica: Replica, seconds: float, problem: str) -> None:
        if problem:
            self._start_failed(replica, problem, final=not self.engine_seconds)
            return
        replica.started = None
        self._failed_starts = 0
        self.engine_seconds = self.engine_seconds or seconds

    def _start_failed(self, replica: Replica, problem: str, *, final: bool) -> None:
        """The first engine of all must come up; later ones may meet a dying machine."""
        self._end(replica)
        self._failed_starts += 1
        if final:
            raise SetupError(f"the engine did not start: {problem}")
        if self._failed_starts >= _STARTS_IN_A_ROW:
            raise EngineError(f"engines keep failing to start; run again to go on: {problem}")
        self._progress.note(f"an engine did not start, trying again: {problem}")

    def _on_result(self, replica: Replica, work: Work, ref: Any, result: UnitResult) -> None:
        self.counts += result.kept
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

    def _lost(self, replica: Replica, cause: str) -> None:
        """A process or its engine died: queue its work again, set aside a row that is guilty."""
        works = replica.works
        if not replica.ready:
            # Nothing was wrong with the work. One death on arrival may be the machine's.
            final = not self.engine_seconds and self._failed_starts > 0
            self._start_failed(replica, f"its process died: {cause}", final=final)
            return
        self._end(replica)
        self.retries += len(works)
        names = ", ".join(sorted({work.unit.name for work in works})) or "nothing"
        self._progress.note(f"an engine died with {names} open, going on with another: {cause}")
        for work in self._queue.died(works):
            self._quarantine(work, cause)

    def _quarantine(self, work: Work, cause: str) -> None:
        (index,) = work.rows or ()
        seed = dict(parts.read_seeds(self._config.out, work.unit))[index]
        detail = f"sampling it ended the engine's process each time it was tried: {cause}"
        rollout = Rollout(
            seed=seed,
            prompt="",
            template="",
            style="open",
            model=self._config.model,
            error=(parts.KILLED_ENGINE, detail),
            index=index,
        )
        parts.deliver(self._config.out, work.unit, [rollout])
        self.counts += Counts(seeds=1, errors=1)
        self._progress.note(f"seed {seed.id!r} ({seed.origin}) kills the engine: set aside")

    def _drain(self) -> None:
        """Have finished rows written, and engines closed, within the time that is given to us."""
        import ray

        self._progress.note("stopping: finished rows are being kept")
        refs = [replica.actor.drain.remote() for replica in self._replicas if replica.ready]
        if not refs:
            return
        ended, _ = ray.wait(refs, num_returns=len(refs), timeout=_DRAIN_S)
        for ref in ended:
            try:
                self.counts += ray.get(ref)
            except ray.exceptions.RayError as error:
                self._progress.note(f"an engine could not keep its rows: {_cause(error)}")
        for replica in self._replicas:
            replica.open.clear()

    def _end(self, replica: Replica) -> None:
        import ray

        self._replicas.remove(replica)
        ray.kill(replica.actor)

    def _show(self) -> None:
        engines = sum(replica.ready for replica in self._replicas)
        now = sum((replica.poll() for replica in self._replicas), self.counts)
        self._progress.update(
            done=self._had + now.seeds,
            tokens=now.tokens,
            responses=now.responses,
            engines=engines,
            retries=self.retries,
            detail="" if engines else "waiting for an engine",
        )

    def _rows_of(self, unit: Unit) -> list[int]:
        return [index for index, _ in parts.read_seeds(self._config.out, unit)]

    def _partial_rows(self, todo: Sequence[Unit]) -> int:
        out = self._config.out
        return sum(len(parts.read_partial(out, u)) for u in parts.units_with_partial(out, todo))


def _interrupted(config: Config, signum: int, kept: Counts) -> Interrupted:
    return Interrupted(
        f"stopped by signal {signum}; {kept.seeds:,} seeds were sampled and are kept in"
        f" {config.out}: run the same command again to go on",
        signum,
    )


def _cause(error: BaseException) -> str:
    """The telling line of Ray's page-long account of a death: the last error named, or the first
    line, which says how the process ended."""
    lines = [line.strip() for line in _ANSI.sub("", str(error)).splitlines() if line.strip()]
    named = [line for line in lines if ERROR_LINE.search(line)]
    return next(iter(named[-1:] or lines), repr(error))
