"""The second half of a build: rollouts -> verdicts -> pairs and drops, in the order of the seeds.

A pure function of the rollouts and the config: no engine, no GPU, and byte-equal results whatever
the size of the units and the number of workers.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from mmpr_builder.config import Config
from mmpr_builder.distributed import parts as published_parts
from mmpr_builder.distributed.cluster import has_ray_at_hand, ray_session
from mmpr_builder.distributed.lock import build_lock
from mmpr_builder.distributed.manifest import (
    Manifest,
    has_manifest,
    read_manifest,
    refuse_other_settings,
)
from mmpr_builder.distributed.planning import read_drops
from mmpr_builder.distributed.runner import sampling_seconds
from mmpr_builder.distributed.storage import join
from mmpr_builder.distributed.workers import Judged, pair_parts
from mmpr_builder.errors import InputError
from mmpr_builder.output import BuildWriter, finish_build
from mmpr_builder.progress import Progress
from mmpr_builder.records import Drop
from mmpr_builder.tables import ROLLOUT_SCHEMA, broken_parts, list_parts, resolve


@dataclass(frozen=True, slots=True)
class PairingSummary:
    """What a call of `run_pairing` made. `run` is the content of run.json."""

    run: dict[str, Any]
    seconds: float


def run_pairing(config: Config, progress: Progress) -> PairingSummary:
    """Score and pair all rollouts of `config.out`; replaces the pairs that are there.

    Raises `InputError` when there are no rollouts or sampling is not complete: a data set made of
    half a build looks like a whole one; `BuildConflictError` when other settings made the rollouts.
    """
    began = time.monotonic()
    with build_lock(config.out):
        parts, drops, seeds = _inputs(config)
        session = ray_session(config, progress) if has_ray_at_hand(config) else nullcontext()
        with session, progress.stage("pairing", total=seeds), BuildWriter(config) as writer:
            judged = pair_parts(config, parts, seeds * config.sampling.n)
            made = 0
            for done, item in enumerate(_in_order(judged, drops), start=1):
                if isinstance(item, Drop):
                    writer.add_drop(item)
                else:
                    rollout, verdicts, pairs, unpaired = item
                    writer.add(rollout, verdicts, pairs, unpaired)
                    made += len(pairs)
                progress.update(done=done, pairs=made)
            counts = writer.counts()
        took = time.monotonic() - began
        spent = {"sampling": sampling_seconds(config.out), "pairing": took}
        run = finish_build(config, counts, seconds=spent)
    return PairingSummary(run, took)


def _inputs(config: Config) -> tuple[list[str], list[tuple[int, Drop]], int]:
    """(parts in order, what planning dropped, seeds and drops in all)."""
    out = config.out
    if has_manifest(out):
        manifest = read_manifest(out)
        # Model and inputs may be gone by now; the settings go into every pair's provenance.
        refuse_other_settings(out, manifest.identity, config)
        _check_complete(config, manifest)
        uris = [published_parts.rollouts_uri(out, unit) for unit in manifest.units]
        return uris, read_drops(out), manifest.seeds + manifest.drops
    folder = join(out, "rollouts")
    uris = list_parts(folder, ROLLOUT_SCHEMA)
    broken = broken_parts(folder, ROLLOUT_SCHEMA)
    if broken:
        raise InputError(f"{broken[0]}: not a complete part of rollouts: remove or restore it")
    if not uris:
        raise InputError(f"{folder}: no rollouts to pair: run `mmpr sample … out={out}` first")
    return uris, [], _rows(uris)


def _check_complete(config: Config, manifest: Manifest) -> None:
    finished = published_parts.published(config.out, manifest.units)
    missing = [unit.name for unit in manifest.units if unit.name not in finished]
    if missing:
        raise InputError(
            f"{config.out}: {len(missing)} of {len(manifest.units)} units are not sampled yet"
            f" (the first is {missing[0]}): run `mmpr sample` or `mmpr build` with the same"
            " arguments to finish them"
        )


def _rows(uris: Sequence[str]) -> int:
    import pyarrow.parquet as pq

    total = 0
    for uri in uris:
        fs, path = resolve(uri)
        with fs.open(path, "rb") as file:
            total += pq.read_metadata(file).num_rows
    return total


def _in_order(
    judged: Iterable[list[Judged]], drops: Sequence[tuple[int, Drop]]
) -> Iterator[Judged | Drop]:
    """Seeds and dropped input rows together, in the order of the input."""
    waiting = iter(drops)
    drop = next(waiting, None)
    for part in judged:
        for item in part:
            while drop is not None and drop[0] < item[0].index:
                yield drop[1]
                drop = next(waiting, None)
            yield item
    while drop is not None:
        yield drop[1]
        drop = next(waiting, None)
