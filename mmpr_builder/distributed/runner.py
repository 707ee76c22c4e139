"""The first half of a build: every seed sampled exactly once, whatever dies meanwhile.

    manifest -> units not published yet -> actors -> rollouts/unit-*.parquet

The driver only hands out units and counts. A unit is done when its part is in the folder, and at
no other time: a run that ends in whatever way is continued by listing the folder. With nothing
left to do neither Ray nor an engine is started.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

from mmpr_builder.config import Config
from mmpr_builder.distributed import parts
from mmpr_builder.distributed.actors import Counts, SamplerFactory
from mmpr_builder.distributed.cluster import ray_session
from mmpr_builder.distributed.driver import Driver
from mmpr_builder.distributed.lock import build_lock
from mmpr_builder.distributed.planning import make_plan
from mmpr_builder.distributed.signals import stop_on_signals
from mmpr_builder.distributed.storage import exists, join, read_json, write_json
from mmpr_builder.engines import make_sampler
from mmpr_builder.errors import EngineError
from mmpr_builder.progress import Progress

_SECONDS = "sampling_seconds.json"


@dataclass(frozen=True, slots=True)
class SamplingSummary:
    """What a call of `run_sampling` found and did."""

    units: int
    units_before: int
    """Units that were finished before this run."""
    seeds: int
    """Seeds of the build (input rows less those dropped while reading)."""
    drops: int
    sampled: Counts
    """What this run sampled and kept."""
    quarantined: int
    """Seeds of the whole build set aside because sampling them ends the engine's process."""
    retries: int
    seconds: float
    engine_seconds: float
    """Seconds until the first engine was ready, Ray's start not included; 0 if none started."""


def run_sampling(
    config: Config, progress: Progress, *, sampler_factory: SamplerFactory = make_sampler
) -> SamplingSummary:
    """Plan if that was not done, then sample what is not there yet.

    Raises `SetupError` before anything is spent, `Interrupted` after SIGINT or SIGTERM (finished
    rows are kept), `EngineError` when engines keep failing.
    """
    began = time.monotonic()
    with build_lock(config.out):
        with progress.stage("planning"):
            manifest = make_plan(config)
            progress.update(done=manifest.seeds)
        before = parts.published(config.out, manifest.units)
        todo = [unit for unit in manifest.units if unit.name not in before]
        driver = Driver(config, manifest, todo, progress, sampler_factory)
        if todo:
            try:
                with ray_session(config, progress), stop_on_signals() as stop:
                    driver.sample(stop)
            finally:
                with suppress(OSError):  # The error that ends a run matters more than its time.
                    add_seconds(config.out, time.monotonic() - began)
        # What counts is what is on disk, not what was reported.
        after = parts.published(config.out, todo)
        if len(after) < len(todo):
            missing = next(unit for unit in todo if unit.name not in after)
            raise EngineError(
                f"{parts.rollouts_uri(config.out, missing)} was written and is not there any more:"
                " look after the storage and run again"
            )
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


def add_seconds(out: str, seconds: float) -> None:
    """Add a run's wall-clock time to what sampling this build has taken so far."""
    write_json(join(out, _SECONDS), {"sampling": round(sampling_seconds(out) + seconds, 3)})


def sampling_seconds(out: str) -> float:
    """Wall-clock seconds of all runs that sampled for this build; 0 if none is on record."""
    uri = join(out, _SECONDS)
    return float(read_json(uri)["sampling"]) if exists(uri) else 0.0
