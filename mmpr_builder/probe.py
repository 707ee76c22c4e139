"""What a build would cost, from a small probe: a few seeds of each source, really sampled.

    probe = run_probe(config, 64, progress)
    probe.tokens     Range(mean=1.23e6, low=1.1e6, high=1.36e6)
    probe.hours      engine-hours at the rate of the probe

The probe samples, scores and pairs in a temporary folder with the settings of the recipe. It draws
seeds by the hash of their ids, from every source in proportion to its size, and extrapolates to all
seeds of the source (a stratified estimate: Cochran 1977, "Sampling Techniques", chapter 5).

A few seeds hardly tell how far they spread: three that give no pair look as if none did. So the
spread of a source is that of its values with two pseudo-values beside them, as in Agresti and Coull
1998, Am. Stat. 52: none at all, and the most that a seed can give. Of tokens, which have no such
limit worth naming, it is four times the most that was seen: a few runaways in a large build are
more than a small probe can foresee.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import math
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from mmpr_builder import engines, prompts, runs, sampling
from mmpr_builder.config import Config
from mmpr_builder.errors import InputError
from mmpr_builder.folder.order import Slice
from mmpr_builder.io import tables
from mmpr_builder.output import BuildWriter, read_rows
from mmpr_builder.progress import Progress
from mmpr_builder.records import Drop, Rollout, Seed, content_id, generated_tokens
from mmpr_builder.runs.actors import max_in_flight
from mmpr_builder.runs.pair_workers import PartJudge
from mmpr_builder.sampling.scoring_threads import ScoringThreads

_LEAST = 2
"""Seeds of every source that has as many: one alone says nothing of the spread."""
_UNSEEN = 4.0  # How many times the largest value seen a value may be that was not.


@dataclass(frozen=True, slots=True)
class Range:
    """An estimate with its 95 % interval (of the sampling of seeds alone)."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SourceProbe:
    """What was found in one source. `tokens` and `pairs` are for all its seeds."""

    source: str
    seeds: int
    probed: int
    tokens: Range
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


def run_probe(config: Config, n: int, progress: Progress, *, extend: bool = False) -> Probe:
    """Sample about `n` seeds with the engine of `config` on this machine and extrapolate.

    Raises `SetupError` like a build, `InputError` when there are no seeds.
    """
    with progress.stage("reading the seeds"):
        drawn = draw(runs.read_inputs(config, extend=extend), n)
    if not drawn:
        raise InputError("no seeds to probe: give other seeds=")
    seeds = [seed for _, some in drawn.values() for seed in some]
    with tempfile.TemporaryDirectory(prefix="mmpr-probe-") as folder:
        there = config.model_copy(update={"out": folder})
        with progress.stage("probing", total=len(seeds)):
            rollouts, started, took = asyncio.run(_sample(there, seeds, progress))
        gc.collect()  # An engine that outlives its modules ends in a traceback at exit.
        uri = f"{folder}/rollouts/probe.parquet"
        table = tables.rollouts_to_table(rollouts, tables.optional_columns(config))
        tables.write_parquet(table, uri)
        with progress.stage("pairing", total=len(rollouts)), closing(PartJudge(there)) as judge:
            block, _ = judge.pair(Slice(uri))
            with BuildWriter(there) as writer:
                writer.add(block)
        pairs = tables.list_parts(f"{folder}/pairs")
        made = Counter(row["seed_id"] for row in read_rows(pairs, ["seed_id"]))
        stored = _bytes([uri]), _bytes(pairs)
    sizes = {name: size for name, (size, _) in drawn.items()}
    return _extrapolated(config, sizes, rollouts, made, (started, took), stored)


def _extrapolated(
    config: Config,
    sizes: Mapping[str, int],
    rollouts: Sequence[Rollout],
    made: Mapping[str, int],
    seconds: tuple[float, float],
    stored: tuple[int, int],
) -> Probe:
    """`made` is the pairs of each seed, `seconds` those of the engine's start and of sampling,
    `stored` the bytes of the probe's rollouts and pairs.
    """
    tokens: dict[str, list[float]] = defaultdict(list)
    pairs: dict[str, list[float]] = defaultdict(list)
    for rollout in rollouts:
        tokens[rollout.seed.source].append(generated_tokens(rollout))
        pairs[rollout.seed.source].append(made.get(rollout.seed.id, 0))
    sources, most = [], config.pairing.max_per_seed
    for name, values in tokens.items():
        ranges = estimate(sizes, {name: values}), estimate(sizes, {name: pairs[name]}, most)
        sources.append(SourceProbe(name, sizes[name], len(values), *ranges))
    total = estimate(sizes, tokens)
    seeds, probed = sum(sizes.values()), len(rollouts)
    rate = sum(map(sum, tokens.values())) / max(seconds[1], 1e-9)
    per_hour = max(rate, 1e-9) * 3600
    return Probe(
        seeds=seeds,
        probed=probed,
        sources=tuple(sources),
        tokens=total,
        pairs=estimate(sizes, pairs, most),
        tokens_per_second=rate,
        engine_seconds=seconds[0],
        hours=Range(total.mean / per_hour, total.low / per_hour, total.high / per_hour),
        gpus_per_engine=_gpus(config),
        rollout_bytes=stored[0] * seeds / probed,
        pair_bytes=stored[1] * seeds / probed,
    )


def estimate(
    sizes: Mapping[str, int], values: Mapping[str, Sequence[float]], most: float | None = None
) -> Range:
    """The sum over all seeds from the values of some, source by source, with its 95 % interval.

    `most` is the largest value that a seed can have. The interval is Student's, its degrees of
    freedom those of Satterthwaite 1946, Biometrics Bull. 2, within what is possible.
    """
    from scipy.special import stdtrit

    mean = variance = squares = 0.0
    for name, some in values.items():
        seeds, probed = sizes[name], len(some)
        spread = statistics.variance([*some, 0.0, _UNSEEN * max(some) if most is None else most])
        part = seeds**2 * (1 - probed / seeds) * spread / (probed + 2)
        mean += seeds * statistics.fmean(some)
        variance += part
        squares += part**2 / (probed + 1)
    half = math.sqrt(variance)
    if half:
        half *= float(stdtrit(variance**2 / squares, 0.975))
    # What was seen in the probe is there for certain.
    seen = float(sum(map(sum, values.values())))
    limit = math.inf if most is None else most * sum(sizes[name] for name in values)
    return Range(mean, max(mean - half, seen), min(mean + half, limit))


def draw(items: Iterable[Seed | Drop], n: int) -> dict[str, tuple[int, list[Seed]]]:
    """(size, about `n` seeds in all, in their order) by source, sorted by name: in proportion to
    the sizes but two of each.

    The lowest hashes of the ids are a repeatable draw. At most `n` seeds of each source are held.
    """
    sizes: Counter[str] = Counter()
    kept: dict[str, list[tuple[int, int, Seed]]] = defaultdict(list)  # (minus the hash, place, …)
    for place, seed in enumerate(item for item in items if isinstance(item, Seed)):
        sizes[seed.source] += 1
        heapq.heappush(kept[seed.source], (-int(content_id(seed.id)[:16], 16), place, seed))
        if len(kept[seed.source]) > max(n, _LEAST):
            heapq.heappop(kept[seed.source])
    drawn = {}
    for source, size in sorted(sizes.items()):
        share = max(_LEAST, round(n * size / sizes.total()))
        lowest = sorted(heapq.nlargest(share, kept[source]), key=itemgetter(1))
        drawn[source] = size, [seed for *_, seed in lowest]
    return drawn


async def _sample(
    config: Config, seeds: Sequence[Seed], progress: Progress
) -> tuple[list[Rollout], float, float]:
    """(rollouts, seconds until the engine was ready, seconds of sampling)."""
    templates = prompts.load_templates(config)
    scoring = ScoringThreads(config) if sampling.scores_while_sampling(config) else None
    began = time.monotonic()
    judge, sampler = engines.make_judge(config), engines.make_sampler(config)
    ready = time.monotonic()
    room = asyncio.Semaphore(max_in_flight(config))
    done: list[Rollout] = []

    async def one(index: int, seed: Seed) -> None:
        async with room:
            how = (templates.pick(seed), config, sampler, config.model, scoring, judge)
            done.append(await sampling.roll_out(seed, index, *how))
        progress.update(done=len(done), tokens=sum(map(generated_tokens, done)))

    try:
        await asyncio.gather(*(one(index, seed) for index, seed in enumerate(seeds)))
    finally:
        await sampler.close()
        if judge is not None:
            await judge.close()
        if scoring is not None:
            scoring.close()
    took = time.monotonic() - ready
    return sorted(done, key=lambda rollout: rollout.index), ready - began, took


def _bytes(parts: Sequence[str]) -> int:
    """Of the rows themselves: what every file has besides is nothing in a large build."""
    footers = filter(None, map(tables.read_footer, parts))
    groups = [meta.row_group(i) for meta in footers for i in range(meta.num_row_groups)]
    return sum(
        group.column(i).total_compressed_size for group in groups for i in range(group.num_columns)
    )


def _gpus(config: Config) -> int:
    """GPUs of one engine; 0 where it needs none here."""
    if config.sampling.engine != "vllm" or not Path("/dev/nvidiactl").exists():
        return 0
    sizes = (config.engine.get(f"{kind}_parallel_size") for kind in ("tensor", "pipeline"))
    return math.prod(size if isinstance(size, int) else 1 for size in sizes)
