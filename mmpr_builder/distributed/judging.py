"""The second half of a build: rollouts -> verdicts -> pairs and drops, in the order of the seeds.

A pure function of the rollouts and the config: no engine, no GPU, and byte-equal results whatever
the size of the units and the number of workers.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
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
from mmpr_builder.distributed.order import Slice, in_order, read_order
from mmpr_builder.distributed.planning import read_drops
from mmpr_builder.distributed.runner import sampling_seconds, sampling_work
from mmpr_builder.distributed.status import reported
from mmpr_builder.distributed.storage import join
from mmpr_builder.distributed.workers import pair_parts
from mmpr_builder.errors import InputError
from mmpr_builder.output import BuildWriter, finish_build
from mmpr_builder.progress import Progress
from mmpr_builder.records import Drop
from mmpr_builder.stores import naming
from mmpr_builder.tables import ROLLOUT_SCHEMA, broken_parts, list_parts, resolve


@dataclass(frozen=True, slots=True)
class PairingSummary:
    """What a call of `run_pairing` made. `run` is the content of run.json."""

    run: dict[str, Any]
    seconds: float


def run_pairing(config: Config, progress: Progress) -> PairingSummary:
    """Score and pair all rollouts of `config.out`; replaces the pairs that are there.

    Raises `InputError` when there are no rollouts or sampling is not complete: a data set made of
    half a build looks like a whole one; or when the judge of `scoring.judge` cannot be asked;
    `BuildConflictError` when other settings made the rollouts.
    """
    began = time.monotonic()
    asks = config.scoring.judge.url is not None
    with build_lock(config.out, progress.note) as lock, ExitStack() as held:
        parts, drops, seeds, image_bytes = _inputs(config)
        held.enter_context(reported(config, progress, "pairing"))
        held.enter_context(naming(config.out))
        if asks:
            from mmpr_builder.distributed import opinions  # It brings a client for HTTP.

            opinions.check_judge(config, seeds)
        session = ray_session(config, progress) if has_ray_at_hand(config) else nullcontext()
        stage = progress.stage("pairing", total=seeds)
        with session, stage, BuildWriter(config, unread=drops) as writer:
            done, made, worked = len(drops), 0, Counter[str]()
            for block, work in pair_parts(config, parts, seeds * config.sampling.n, image_bytes):
                writer.add(block)
                worked.update(work)
                done, made = done + block.seeds, made + block.pairs
                progress.update(done=done, pairs=made)
            lock.check()  # Before anything takes the place of what is there.
        took = time.monotonic() - began
        spent = {"sampling": sampling_seconds(config.out), "pairing": took}
        if asks and not worked["judge.failed"]:
            opinions.note_all_asked(config, seeds)
        extra = {**_work(worked), "sampling": sampling_work(config.out)}
        run = finish_build(config, writer.counts(), seconds=spent, extra=extra)
    return PairingSummary(run, took)


def _work(worked: Counter[str]) -> dict[str, Any]:
    """What scoring took, for run.json; `shared`: responses that needed no comparison of their own,
    as a share. `quality`: responses and continuations that its controls left aside, by reason."""
    scoring: dict[str, Any] = {
        name: worked[name] for name in ("responses", "texts", "cached", "compared")
    }
    if worked["responses"]:
        scoring["shared"] = round(1 - worked["compared"] / worked["responses"], 4)
    judge, faults = _under("judge.", worked), _under("quality.", worked)
    work = {"scoring": {**scoring, "judge": judge} if judge else scoring}
    return {**work, "quality": faults} if faults else work


def _under(prefix: str, worked: Counter[str]) -> dict[str, int]:
    """The counts whose names begin so, without that beginning, by name."""
    return {k.removeprefix(prefix): n for k, n in sorted(worked.items()) if k.startswith(prefix)}


def _inputs(config: Config) -> tuple[list[Slice], list[tuple[int, Drop]], int, dict[str, int]]:
    """(parts in order, what planning dropped, seeds and drops in all, image bytes by part)."""
    out = config.out
    if has_manifest(out):
        manifest = read_manifest(out)
        # Model and inputs may be gone by now; the settings go into every pair's provenance.
        refuse_other_settings(out, manifest.identity, config)
        _check_complete(config, manifest)
        uris = [published_parts.rollouts_uri(out, unit) for unit in manifest.units]
        sizes = {uri: unit.image_bytes for uri, unit in zip(uris, manifest.units, strict=True)}
        parts = in_order(list(zip(manifest.units, uris, strict=True)), read_order(out, manifest))
        return parts, read_drops(out, manifest), manifest.seeds + manifest.drops, sizes
    folder = join(out, "rollouts")
    uris = list_parts(folder, ROLLOUT_SCHEMA)
    broken = broken_parts(folder, ROLLOUT_SCHEMA)
    if broken:
        raise InputError(f"{broken[0]}: not a complete part of rollouts: remove or restore it")
    if not uris:
        raise InputError(f"{folder}: no rollouts to pair: run `mmpr sample … out={out}` first")
    return [Slice(uri) for uri in uris], [], _rows(uris), {}


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
