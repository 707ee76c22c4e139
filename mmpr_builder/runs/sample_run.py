"""The first half of a build: every seed sampled exactly once, whatever dies meanwhile.

    manifest -> units not published yet -> actors -> rollouts/unit-*.parquet

A unit is done once its part is in the folder, so a run continues by listing the folder, however
the last one ended. With nothing left to do neither Ray nor an engine starts.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from functools import partial

from mmpr_builder.cluster.session import ray_session, refuse_passing_folder
from mmpr_builder.config import Config
from mmpr_builder.engines import check_images as check_model_images, make_sampler
from mmpr_builder.errors import EngineError, Interrupted, NothingUsableError
from mmpr_builder.folder import join, parts, read_json, write_json
from mmpr_builder.folder.lock import build_lock
from mmpr_builder.folder.manifest import as_planned, has_manifest, read_manifest
from mmpr_builder.folder.status import reported
from mmpr_builder.io.stores import is_there, patience
from mmpr_builder.pairing.need import missed_aims
from mmpr_builder.progress import Progress
from mmpr_builder.records import Drop
from mmpr_builder.runs.actors import Counts, SamplerFactory
from mmpr_builder.runs.driver import Budget, Driver, ended_by_signals, stop_on_signals
from mmpr_builder.runs.inputs import check_images
from mmpr_builder.runs.planning import make_plan, read_drops

_SPENT = "sampling_seconds.json"
_SPENT_PATIENCE_S = 10.0
_NOTED = 5  # Seeds named before sampling; the plan's drops have them all.


@dataclass(frozen=True, slots=True)
class SamplingSummary:
    """The result of `run_sampling`."""

    units: int
    units_before: int
    """Units that were finished before this run."""
    seeds: int
    """Seeds of the build: input rows less those that planning dropped."""
    drops: int
    sampled: Counts
    """What this run sampled and kept."""
    quarantined: int
    """Seeds of the whole build whose sampling ends the engine's process."""
    retries: int
    seconds: float
    engine_seconds: float
    """Seconds until the first engine was ready, without Ray's start; 0 if none started."""


def run_sampling(
    config: Config,
    progress: Progress,
    *,
    extend: bool = False,
    sampler_factory: SamplerFactory = make_sampler,
) -> SamplingSummary:
    """Plan if that was not done, then sample what is not there yet.

    With `extend` a build whose inputs have grown goes on with the new seeds. Raises `SetupError`
    before GPU time is spent, `Interrupted` after SIGINT or SIGTERM, `LimitReached` by `limits`
    (finished rows are kept with both), `EngineError` when engines keep failing.
    """
    began = time.monotonic()
    refuse_passing_folder(config)
    with build_lock(config.out, progress.note) as lock, ExitStack() as held:
        status = held.enter_context(reported(config, progress, "sampling", lock))
        with ended_by_signals("planning"), progress.stage("planning"):
            planned = read_manifest(config.out) if has_manifest(config.out) else None
            manifest = make_plan(config, progress, lock, extend=extend)
            config = as_planned(config)
            progress.update(done=manifest.seeds, detail="")
        if not manifest.seeds:
            raise NothingUsableError(f"{config.out}: no seed was planned: its drops/ say why")
        before = parts.published(config.out, manifest.units)
        todo = [unit for unit in manifest.units if unit.name not in before]
        finished = [unit for unit in manifest.units if unit.name in before]
        grown = planned is not None and manifest != planned
        if any(unit.image_bytes for unit in todo):
            check_model_images(config)
        check_images(config, todo, finished, progress, grown=grown)
        status.begin(changes=bool(todo) or manifest != planned)
        taken, work = spent(config.out)
        budget = Budget(config.limits, work.get("tokens", 0), taken, began)
        driver = Driver(config, manifest, todo, progress, sampler_factory, budget)
        if todo:
            _note_unusable(read_drops(config.out, manifest), progress)
            if missed := missed_aims(config):
                progress.note(f"seeds may give fewer pairs than they could: {missed}")
            try:
                with ray_session(config, progress) as alone, stop_on_signals() as stop:
                    lock.when_lost(partial(stop.ask, at_once=True))
                    driver.sample(stop, alone=alone)
            except Interrupted:
                lock.check()  # The run that has the folder now may have stopped this one.
                raise
            finally:
                # The error that ends a run matters more than its time.
                with suppress(OSError), patience(_SPENT_PATIENCE_S):
                    add_spent(config.out, time.monotonic() - began, driver.counts)
        # What counts is what is on disk, not what was reported.
        after = parts.published(config.out, todo)
        if len(after) < len(todo):
            missing = next(unit for unit in todo if unit.name not in after)
            raise EngineError(
                f"{parts.rollouts_uri(config.out, missing)} was written and is not there any more:"
                " look after the storage and run again"
            )
        parts.tidy(config.out)
    return SamplingSummary(
        units=len(manifest.units),
        units_before=len(before),
        seeds=manifest.seeds,
        drops=manifest.drops,
        sampled=driver.counts,
        quarantined=sum(before.values()) + sum(after.values()),
        retries=driver.retries,
        seconds=time.monotonic() - began,
        engine_seconds=driver.engine_seconds,
    )


def _note_unusable(drops: Iterable[tuple[int, Drop]], progress: Progress) -> None:
    """Name seeds that planning dropped for their truth, before anything is sampled."""
    from mmpr_builder.audit.truths import UNUSABLE_TRUTH  # With the scorers: not for engines.

    found = 0
    for _, drop in drops:
        if drop.reason == UNUSABLE_TRUTH:
            found += 1
            if found <= _NOTED:
                progress.note(f"not sampled: {drop.item_id}: {drop.detail}")
    if found > _NOTED:
        progress.note(f"not sampled: {found - _NOTED} more such seeds; see `mmpr audit`")


def add_spent(out: str, seconds: float, counts: Counts) -> None:
    """Add a run's wall-clock time and what it sampled to what this build has taken so far."""
    before, work = spent(out)
    added = {name: value + work.get(name, 0) for name, value in asdict(counts).items()}
    write_json(join(out, _SPENT), {"sampling": round(before + seconds, 3), "work": added})


def spent(out: str) -> tuple[float, dict[str, int]]:
    """Wall-clock seconds of all runs that sampled for this build, and their `Counts` by name; (0,
    {}) if none is on record. What a killed run had not handed in is missing.
    """
    uri = join(out, _SPENT)
    if not is_there(uri):
        return 0.0, {}
    found = read_json(uri)
    return float(found["sampling"]), dict(found.get("work", {}))
