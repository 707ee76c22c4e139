"""From a few probed seeds to the whole build: a stratified estimate with its uncertainty.

    estimate({"chart": 900}, {"chart": [410.0, 380.0]})  ->  Range(mean=355500.0, low=…, high=…)

What was found in each source is extrapolated to all its seeds (Cochran 1977, "Sampling Techniques",
3rd ed., chapter 5).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
