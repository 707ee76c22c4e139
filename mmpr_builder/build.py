"""A build from recipe to report: check everything, sample, pair, report.

    rollouts/*.parquet   <- sample(config)   costs a GPU; resumed, never done twice
    pairs/*.parquet      <- pair(config)     a pure function of the rollouts and the config

Each function takes a checked `Config` and works in `config.out`, so that the three can run on
different machines and days.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from mmpr_builder import distributed, engines, prompts, seeds
from mmpr_builder.config import Config
from mmpr_builder.pairing.rejects import read_reject_list
from mmpr_builder.progress import Progress
from mmpr_builder.records import Drop
from mmpr_builder.report import write_report
from mmpr_builder.sampling import wants_continuation


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a command did. `run` is the content of run.json; None before anything was paired."""

    sampling: distributed.SamplingSummary | None
    run: dict[str, Any] | None


def check(config: Config) -> None:
    """Find what is wrong before any GPU time is spent; cheapest checks first.

    Raises `SetupError` quoting the value, the place and the fix.
    """
    prompts.load_templates(config)
    seeds.check_sources([source for source in config.seeds if source.path != "demo"])
    if config.pairing.reject_list is not None:
        read_reject_list(config.pairing.reject_list)
    engines.check_engine(config)
    if config.scoring.judge.url is not None:
        from mmpr_builder.engines import arbiter

        arbiter.load_prompt(config.scoring.judge)


def sample(config: Config, progress: Progress, *, extend: bool = False) -> BuildResult:
    """The first half: seeds to rollouts. `extend` adds what the inputs have more."""
    with progress.stage("checking the settings"):
        check(config)
    return BuildResult(distributed.run_sampling(config, progress, extend=extend), None)


def pair(config: Config, progress: Progress) -> BuildResult:
    """The second half: rollouts to pairs, card and report."""
    paired = distributed.run_pairing(config, progress)
    with progress.stage("writing the report"):
        write_report(config.out)
    return BuildResult(None, paired.run)


def build(config: Config, progress: Progress, *, extend: bool = False) -> BuildResult:
    """Both halves. After an interruption the same call goes on where it was."""
    sampling = sample(config, progress, extend=extend).sampling
    return BuildResult(sampling, pair(config, progress).run)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a build would do; nothing was sampled for it."""

    seeds: int
    with_truth: int
    drops: Counter[str]
    responses: int
    continuations: int
    most_tokens: int
    """Generated tokens if every response ran to max_tokens; the bill is usually far below."""


def plan(config: Config, *, extend: bool = False) -> Estimate:
    """Check everything, read all seeds (with `extend` only new ones), say what sampling would cost.

    Raises `SetupError` like the build itself.
    """
    check(config)
    seeds_read, with_truth, continued, drops = 0, 0, 0, Counter[str]()
    for item in distributed.read_inputs(config, extend=extend):
        if isinstance(item, Drop):
            drops[item.reason] += 1
        else:
            seeds_read += 1
            with_truth += item.has_truth
            continued += wants_continuation(item, config.dropout)
    n = config.sampling.n
    longest = config.dropout.max_tokens or config.sampling.max_tokens
    return Estimate(
        seeds=seeds_read,
        with_truth=with_truth,
        drops=drops,
        responses=seeds_read * n,
        continuations=continued * n,
        most_tokens=n * (seeds_read * config.sampling.max_tokens + continued * longest),
    )
