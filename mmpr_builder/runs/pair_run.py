"""The second half of a build: rollouts -> verdicts -> pairs and drops, in the order of the seeds.

A pure function of the rollouts and the config, without engine and GPU; the results are byte-equal
whatever the size of the units and the number of workers.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from typing import Any

from mmpr_builder.cluster.session import has_ray_at_hand, ray_session
from mmpr_builder.config import Config
from mmpr_builder.errors import ConfigError
from mmpr_builder.folder import join
from mmpr_builder.folder.lock import build_lock
from mmpr_builder.folder.manifest import as_planned, has_manifest, read_manifest
from mmpr_builder.folder.status import reported
from mmpr_builder.io.stores import names_in, naming
from mmpr_builder.output import BuildWriter, finish_build, sampling_json
from mmpr_builder.progress import Progress
from mmpr_builder.quality.suspects import least_samples
from mmpr_builder.records import Drop
from mmpr_builder.runs.builds import Build, check_models, own_build, pooled_build
from mmpr_builder.runs.driver import ended_by_signals
from mmpr_builder.runs.pair_workers import Piece, pair_parts
from mmpr_builder.runs.pooling import Pool
from mmpr_builder.runs.sample_run import spent


@dataclass(frozen=True, slots=True)
class PairingSummary:
    """What a call of `run_pairing` made. `run` is the content of run.json."""

    run: dict[str, Any]
    seconds: float


def run_pairing(
    config: Config,
    progress: Progress,
    report: Callable[[], object] = lambda: None,
    *,
    partial: bool = False,
) -> PairingSummary:
    """Score and pair all rollouts of `config.out`; replaces the pairs that are there. `report` is
    called when run.json is written, while the folder is still held. With `partial` seeds that are
    not sampled yet are dropped as `not_sampled`.

    Raises `InputError` when there are no rollouts, sampling is not complete (a data set of half a
    build looks like a whole one) or the LLM judge does not answer; `BuildConflictError` when other
    settings made the rollouts.
    """
    began = time.monotonic()
    asks = config.scoring.judge.url is not None
    if partial and config.rollouts:
        raise ConfigError(
            "--partial is for one build, and rollouts= pools whole ones: leave out one of the two"
        )
    with build_lock(config.out, progress.note) as lock, ExitStack() as held:
        config = config if config.rollouts else as_planned(config)
        found = _pooled(config, progress, held) if config.rollouts else _own(config, partial)
        _check_blind(config, found.builds)
        status = held.enter_context(reported(config, progress, "pairing", lock))
        held.enter_context(ended_by_signals("pairing"))
        held.enter_context(naming(config.out))
        if asks:
            from mmpr_builder.runs import opinions

            opinions.check_judge(config, found.rows)
        session = ray_session(config, progress) if has_ray_at_hand(config) else nullcontext()
        stage = progress.stage("pairing", total=found.rows)
        with session, stage, BuildWriter(config, unread=found.drops) as writer:
            status.begin()
            done, made, worked = found.dropped, 0, Counter[str]()
            responses = found.rows * config.sampling.n
            for block, work in pair_parts(config, found.pieces, found.count, responses):
                made += writer.add(block)
                worked.update(work)
                done += block.seeds
                progress.update(done=done, pairs=made)
            lock.check()  # Before anything takes the place of what is there.
        took = time.monotonic() - began
        if asks and not worked["judge.failed"] and all(build.is_whole for build in found.builds):
            opinions.note_all_asked(config, found.rows)
        folders = [build.folder for build in found.builds]
        records = [spent(folder) for folder in folders]
        seconds = {"sampling": sum(sampling for sampling, _ in records), "pairing": took}
        sampled = sum((Counter(work) for _, work in records), Counter[str]())
        extra = {**_work(worked), "sampling": dict(sampled)}
        pooled = [
            {"rollouts": b.folder, "model": b.config.model, "sampling": sampling_json(b.config)}
            for b in (found.builds if config.rollouts else ())
        ]
        plans = [read_manifest(build.folder) for build in found.builds if build.has_plan]
        run = finish_build(
            config,
            writer.counts(),
            seconds=seconds,
            extra=extra,
            pooled=pooled,
            revisions={name: commit for plan in plans for name, commit in plan.revisions.items()},
        )
        then = f"the pairs are written; `mmpr report {config.out}` writes it"
        with ended_by_signals("writing the report", then), progress.stage("writing the report"):
            report()
    return PairingSummary(run, took)


def _work(worked: Counter[str]) -> dict[str, Any]:
    """The work done, for run.json. `shared` is the share of responses without a comparison of their
    own; `quality` counts responses and continuations that its controls filtered, by reason."""
    scoring: dict[str, Any] = {
        name: worked[name] for name in ("responses", "texts", "cached", "compared")
    }
    if worked["responses"]:
        scoring["shared"] = round(1 - worked["compared"] / worked["responses"], 4)
    judge, faults = _under("judge.", worked), _under("quality.", worked)
    work = {"scoring": {**scoring, "judge": judge} if judge else scoring}
    return {**work, "quality": faults} if faults else work


def _under(prefix: str, worked: Counter[str]) -> dict[str, int]:
    """The counts whose names have this prefix, by name without it."""
    return {k.removeprefix(prefix): n for k, n in sorted(worked.items()) if k.startswith(prefix)}


@dataclass(frozen=True, slots=True)
class _Found:
    """What is to be paired."""

    pieces: Iterable[Piece]
    count: int
    """About how many of them there are."""
    drops: Iterable[tuple[int, Drop]]
    dropped: int
    rows: int
    """Seeds and drops in all."""
    builds: Sequence[Build]


def _own(config: Config, partial: bool) -> _Found:
    """The build in `out`."""
    build = own_build(config, partial=partial)
    check_models(config, [build])
    pieces, drops = build.slices, build.drops
    return _Found(pieces, len(pieces), drops, len(drops), build.rows, [build])


def _pooled(config: Config, progress: Progress, held: ExitStack) -> _Found:
    """The builds of `rollouts`, joined for as long as `held` is open."""
    out = config.out
    if has_manifest(out) or names_in(join(out, "rollouts")):
        raise ConfigError(
            f"out={out}: holds a build of its own, and pairs of rollouts="
            f"{','.join(config.rollouts)} would take the place of its own: give another out="
        )
    builds = [pooled_build(folder, config) for folder in config.rollouts]
    check_models(config, builds)
    with progress.stage("joining the builds"):
        pool = held.enter_context(closing(Pool(builds, config)))
        progress.update(done=pool.seeds)
    progress.note(
        f"{len(builds)} builds: {pool.seeds:,} different seeds, {pool.shared:,} of them in more"
        " than one"
    )
    rows = pool.seeds + pool.dropped
    return _Found(pool.pieces(), pool.count, pool.drops(), pool.dropped, rows, builds)


def _check_blind(config: Config, builds: Sequence[Build]) -> None:
    """Refuse a threshold that nothing in the rollouts can pass; without a plan it is unknown."""
    most = config.quality.max_blind
    if most is None or not all(build.has_plan for build in builds):
        return
    samples = sum(build.config.sampling.blind for build in builds)
    if samples < least_samples(most):
        raise ConfigError(
            f"quality.max_blind = {most:g} can be told from {least_samples(most)} samples without"
            f" images on, and these rollouts have {samples} of each seed at most: sample with"
            " sampling.blind=8, or leave quality.max_blind out"
        )
