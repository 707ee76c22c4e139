"""What a build would cost, from a small probe: a few seeds of each source, really sampled.

    probe = run_probe(config, 64, progress)
    probe.tokens     Range(mean=1.23e6, low=1.1e6, high=1.36e6)
    probe.hours      engine-hours at the rate of the probe

The probe samples, scores and pairs in a temporary folder with the settings of the recipe; nothing
of it stays. Seeds are drawn by the hash of their ids, from every source in proportion to its size,
and what was found in each is extrapolated to all its seeds (estimates.py).
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import math
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmpr_builder import engines, prompts, runs, sampling
from mmpr_builder.config import Config
from mmpr_builder.errors import InputError
from mmpr_builder.folder.order import Slice
from mmpr_builder.io import tables
from mmpr_builder.output import BuildWriter
from mmpr_builder.progress import Progress
from mmpr_builder.records import Drop, Rollout, Seed, content_id, generated_tokens
from mmpr_builder.runs.actors import seats
from mmpr_builder.runs.pair_workers import PartJudge
from mmpr_builder.sampling.scoring_threads import ScoringThreads

# ---- estimates
# From a few probed seeds to the whole build: a stratified estimate with its uncertainty.
#
#     estimate({"chart": 900}, {"chart": [410.0, 380.0]})  ->  Range(mean=355500.0, low=…, high=…)
#
# What was found in each source is extrapolated to all its seeds (Cochran 1977, "Sampling
# Techniques",
# 3rd ed., chapter 5).


_Z95 = 1.96


@dataclass(frozen=True, slots=True)
class Range:
    """An estimate with its 95 % interval (of the sampling of seeds alone)."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SourceProbe:
    """What was found in one source. `tokens`, `responses` and `pairs` are for all its seeds."""

    source: str
    seeds: int
    probed: int
    tokens: Range
    responses: Range
    pairs: Range


@dataclass(frozen=True, slots=True)
class Probe:
    """What the whole build would take. Bytes are on disk; rates are tokens per second."""

    seeds: int
    probed: int
    sources: tuple[SourceProbe, ...]
    tokens: Range
    pairs: Range
    tokens_per_second: float
    engine_seconds: float
    """Until the engine was ready."""
    hours: Range
    """Of one engine, at the rate of the probe."""
    gpus_per_engine: int
    """0 where the engine ran on the CPU or elsewhere."""
    rollout_bytes: float
    pair_bytes: float


@dataclass(frozen=True, slots=True)
class Found:
    """The values of the seeds of one source that were probed."""

    tokens: list[float]
    responses: list[float]
    pairs: list[float]


def extrapolate(
    sizes: Mapping[str, int],
    found: Mapping[str, Found],
    rate: float,
    started: float,
    stored: tuple[int, int],
    gpus: int,
) -> Probe:
    """What the whole build would take.

    `rate` is tokens per second, `started` the seconds until the engine was ready, `stored` the
    bytes of the probe's rollouts and pairs, `gpus` those of one engine.
    """
    sources = tuple(
        SourceProbe(
            source=name,
            seeds=sizes[name],
            probed=len(values.tokens),
            tokens=estimate({name: sizes[name]}, {name: values.tokens}),
            responses=estimate({name: sizes[name]}, {name: values.responses}),
            pairs=estimate({name: sizes[name]}, {name: values.pairs}),
        )
        for name, values in found.items()
    )
    tokens = estimate(sizes, {name: values.tokens for name, values in found.items()})
    seeds, probed = sum(sizes.values()), sum(source.probed for source in sources)
    per_hour = max(rate, 1e-9) * 3600
    return Probe(
        seeds=seeds,
        probed=probed,
        sources=sources,
        tokens=tokens,
        pairs=estimate(sizes, {name: values.pairs for name, values in found.items()}),
        tokens_per_second=rate,
        engine_seconds=started,
        hours=Range(tokens.mean / per_hour, tokens.low / per_hour, tokens.high / per_hour),
        gpus_per_engine=gpus,
        rollout_bytes=stored[0] * seeds / probed,
        pair_bytes=stored[1] * seeds / probed,
    )


def estimate(sizes: Mapping[str, int], values: Mapping[str, Sequence[float]]) -> Range:
    """The sum over all seeds from the values of some, stratum by stratum, with its 95 % interval.

    A stratum with one value takes its spread from all values together.
    """
    together = [value for some in values.values() for value in some]
    overall = statistics.stdev(together) if len(together) > 1 else 0.0
    mean = variance = 0.0
    for name, some in values.items():
        seeds, probed = sizes[name], len(some)
        spread = statistics.stdev(some) if probed > 1 else overall
        mean += seeds * statistics.fmean(some)
        variance += seeds**2 * (1 - probed / seeds) * spread**2 / probed
    half = _Z95 * math.sqrt(variance)
    # What was seen in the probe is there for certain.
    return Range(mean, max(mean - half, float(sum(together))), mean + half)


_LEAST = 2
"""Seeds of every source that has so many: one alone says nothing of the spread."""


@dataclass
class _Stratum:
    """One source: how many seeds it has, and those with the lowest hashes."""

    seeds: int = 0
    kept: list[tuple[int, int, Seed]] = field(default_factory=list)


def run_probe(config: Config, n: int, progress: Progress, *, extend: bool = False) -> Probe:
    """Sample about `n` seeds with the engine of `config` on this machine and extrapolate.

    Raises `SetupError` like a build, `InputError` when there are no seeds.
    """
    with progress.stage("reading the seeds"):
        strata = draw(runs.read_inputs(config, extend=extend), n)
    if not strata:
        raise InputError("no seeds to probe: give other seeds=")
    sizes = {name: stratum.seeds for name, stratum in strata.items()}
    seeds = [seed for name in strata for *_, seed in sorted(strata[name].kept, key=_position)]
    with tempfile.TemporaryDirectory(prefix="mmpr-probe-") as folder:
        there = config.model_copy(update={"out": folder})
        with progress.stage("probing", total=len(seeds)):
            rollouts, started, took = asyncio.run(_sample(there, seeds, progress))
        gc.collect()  # An engine that outlives its modules ends in a traceback at exit.
        uri = f"{folder}/rollouts/probe.parquet"
        columns = tables.optional_columns(config)
        tables.write_parquet(tables.rollouts_to_table(rollouts, columns), uri)
        with progress.stage("pairing", total=len(rollouts)):
            _pair(there, uri)
        pairs = _pairs_by_seed(folder)
        stored = _bytes(folder, "rollouts"), _bytes(folder, "pairs")
    found = _by_source(rollouts, pairs)
    rate = sum(map(generated_tokens, rollouts)) / max(took, 1e-9)
    return extrapolate(sizes, found, rate, started, stored, _gpus(config))


def draw(items: Iterable[Seed | Drop], n: int) -> dict[str, _Stratum]:
    """About `n` seeds by source, in proportion to the sizes but two of each; sorted by name.

    The lowest hashes of the ids are a repeatable draw. At most `n` seeds of each source are held.
    """
    strata: dict[str, _Stratum] = {}
    for position, item in enumerate(items):
        if isinstance(item, Drop):
            continue
        stratum = strata.setdefault(item.source, _Stratum())
        stratum.seeds += 1
        entry = (-int(content_id(item.id)[:16], 16), position, item)
        if len(stratum.kept) < max(n, _LEAST):
            heapq.heappush(stratum.kept, entry)
        elif entry[0] > stratum.kept[0][0]:
            heapq.heapreplace(stratum.kept, entry)
    total = sum(stratum.seeds for stratum in strata.values())
    for stratum in strata.values():
        share = max(_LEAST, round(n * stratum.seeds / total))
        stratum.kept = heapq.nlargest(share, stratum.kept)
    return dict(sorted(strata.items()))


def _position(entry: tuple[int, int, Seed]) -> int:
    return entry[1]


async def _sample(
    config: Config, seeds: Sequence[Seed], progress: Progress
) -> tuple[list[Rollout], float, float]:
    """(rollouts, seconds until the engine was ready, seconds of sampling)."""
    templates = prompts.load_templates(config)
    scoring = ScoringThreads(config) if config.sampling.policy == "adaptive" else None
    began = time.monotonic()
    sampler = engines.make_sampler(config)
    ready = time.monotonic()
    room = asyncio.Semaphore(seats(config))
    done: list[Rollout] = []

    async def one(index: int, seed: Seed) -> None:
        async with room:
            template = templates.pick(seed)
            done.append(
                await sampling.roll_out(
                    seed, index, template, config, sampler, config.model, scoring
                )
            )
        progress.update(done=len(done), tokens=sum(map(generated_tokens, done)))

    try:
        await asyncio.gather(*(one(index, seed) for index, seed in enumerate(seeds)))
    finally:
        await sampler.close()
        if scoring is not None:
            scoring.close()
    took = time.monotonic() - ready
    return sorted(done, key=lambda rollout: rollout.index), ready - began, took


def _pair(config: Config, part: str) -> None:
    judge = PartJudge(config)
    try:
        block, _ = judge.pair(Slice(part))
    finally:
        judge.close()
    with BuildWriter(config) as writer:
        writer.add(block)


def _pairs_by_seed(folder: str) -> Counter[str]:
    parts = tables.list_parts(f"{folder}/pairs")
    columns = (tables.read_parquet(part, ["seed_id"])["seed_id"].to_pylist() for part in parts)
    return Counter(seed for column in columns for seed in column)


def _bytes(folder: str, name: str) -> int:
    """Of the rows themselves: what every file has besides is nothing in a large build."""
    total = 0
    for part in tables.list_parts(f"{folder}/{name}"):
        with tables.ParquetFile(part) as file:
            meta = file.metadata
        groups = (meta.row_group(i) for i in range(meta.num_row_groups))
        total += sum(
            g.column(c).total_compressed_size for g in groups for c in range(g.num_columns)
        )
    return total


def _by_source(rollouts: Iterable[Rollout], pairs: Mapping[str, int]) -> dict[str, Found]:
    found: dict[str, Found] = {}
    for rollout in rollouts:
        values = found.setdefault(rollout.seed.source, Found([], [], []))
        values.tokens.append(generated_tokens(rollout))
        values.responses.append(len(rollout.responses))
        values.pairs.append(pairs.get(rollout.seed.id, 0))
    return found


def _gpus(config: Config) -> int:
    """GPUs of one engine; 0 where it needs none here."""
    if config.sampling.engine != "vllm" or not Path("/dev/nvidiactl").exists():
        return 0
    sizes = (config.engine.get(f"{kind}_parallel_size") for kind in ("tensor", "pipeline"))
    return math.prod(size if isinstance(size, int) else 1 for size in sizes)
