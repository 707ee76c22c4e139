"""A build from recipe to report: check everything, sample, pair, report.

    rollouts/*.parquet   <- sample(config)   costs a GPU; resumed, never done twice
    pairs/*.parquet      <- pair(config)     a pure function of the rollouts and the config

Each function takes a checked `Config` and works in `config.out`, so that the three can run on
different machines and days.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mmpr_builder import engines, prompts, runs, seeds
from mmpr_builder.cluster.session import has_ray_at_hand
from mmpr_builder.config import Config, compares
from mmpr_builder.dropout import wants_blind, wants_continuation
from mmpr_builder.errors import ConfigError, SetupError
from mmpr_builder.pairing import read_labels
from mmpr_builder.pairing.unpaired import read_reject_list
from mmpr_builder.progress import Progress
from mmpr_builder.quality.suspects import least_samples
from mmpr_builder.records import Drop
from mmpr_builder.report import write_report
from mmpr_builder.sampling.comparing import most_tokens
from mmpr_builder.steps import most_continuations, wants_steps


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a command did. `run` is the content of run.json; None before anything was paired."""

    sampling: runs.SamplingSummary | None
    run: dict[str, Any] | None


def check(config: Config) -> None:
    """Find what is wrong before any GPU time is spent; cheapest checks first.

    Raises `SetupError` quoting the value, the place and the fix.
    """
    if config.rollouts:
        raise ConfigError(
            f"rollouts = {','.join(config.rollouts)!r}: nothing is sampled for pooled builds: use"
            " `mmpr pair`, or leave rollouts out"
        )
    for one in _CHECKS:
        one(config)


def _check_sources(config: Config) -> None:
    seeds.check_sources([source for source in config.seeds if source.path != "demo"])


def _check_lists(config: Config) -> None:
    read_labels(config.scoring.labels)
    if config.pairing.reject_list is not None:
        read_reject_list(config.pairing.reject_list)


def _check_judge(config: Config) -> None:
    if config.scoring.judge.url is not None:
        from mmpr_builder.engines import llm_judge

        llm_judge.load_prompt(config.scoring.judge)


def _check_blind(config: Config) -> None:
    """Refuse a threshold that no number of right samples could pass."""
    most, samples = config.quality.max_blind, config.sampling.blind
    if most is not None and samples < least_samples(most):
        raise ConfigError(
            f"quality.max_blind = {most:g} can be told from {least_samples(most)} samples without"
            f" images on, and sampling.blind = {samples}: set sampling.blind=8, or"
            f" {least_samples(most, 0.5)} to tell it of yes/no questions, too"
        )


_CHECKS: tuple[Callable[[Config], object], ...] = (
    prompts.load_templates,
    _check_sources,
    _check_lists,
    engines.check_engine,
    _check_blind,
    _check_judge,
)


def sample(
    config: Config, progress: Progress | None = None, *, extend: bool = False
) -> BuildResult:
    """The first half: seeds to `config.out/rollouts`. `extend` adds what the inputs have more.

    Returns what this call did (`.sampling`). Raises `SetupError` before anything is spent,
    `Interrupted` after a signal. Blocks: from a coroutine, `await asyncio.to_thread(mb.sample, …)`.
    """
    progress = progress or Progress()
    with progress.stage("checking the settings"):
        check(config)
    return BuildResult(runs.run_sampling(config, progress, extend=extend), None)


def pair(config: Config, progress: Progress | None = None, *, partial: bool = False) -> BuildResult:
    """The second half: rollouts in `config.out` to pairs, card and report, without an engine.
    With `partial` those of a build that is not sampled to its end, too.

    Returns the content of run.json (`.run`). Raises `SetupError` where there are no rollouts.
    """
    paired = runs.run_pairing(
        config, progress or Progress(), lambda: write_report(config.out), partial=partial
    )
    return BuildResult(None, paired.run)


def build(config: Config, progress: Progress | None = None, *, extend: bool = False) -> BuildResult:
    """Both halves. After an interruption the same call goes on where it was."""
    progress = progress or Progress()
    sampling = sample(config, progress, extend=extend).sampling
    return BuildResult(sampling, pair(config, progress).run)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a build would do; nothing was sampled for it."""

    seeds: int
    with_truth: int
    drops: Counter[str]
    first_drops: dict[str, str]
    """Reason of drops -> detail of the first one."""
    responses: int
    continuations: int
    blind: int
    """Samples without images, beside the responses."""
    most_tokens: int
    """Generated tokens if every response ran to max_tokens; the bill is usually far below."""
    pictures: runs.Pictures
    """Which of the seeds' pictures are there."""
    problems: tuple[str, ...] = ()
    """What a build would be refused for, such as a server that does not answer."""
    notes: tuple[str, ...] = ()
    """What the user should know of the model's prompts."""
    steps: int = 0
    """Continuations with the image, at most."""
    compared: int = 0
    """Seeds whose responses a judge compares."""


def plan(config: Config, *, extend: bool = False, all_images: bool = False) -> Estimate:
    """Check everything, read all seeds (with `extend` only new ones), say what sampling would cost.
    Some pictures of every source are opened, or all of them; of the other files it is asked whether
    they are there.

    What is wrong beside the settings and the seeds themselves is told in `problems`. Raises
    `SetupError` where seeds cannot be read, or give nothing.
    """
    problems = []
    for one in _CHECKS:
        try:
            one(config)
        except SetupError as error:
            if one is _check_sources:
                raise
            problems.append(str(error))
    seeds_read, with_truth, continued, blind, stepped, drops = 0, 0, 0, 0, 0, Counter[str]()
    compared = 0
    usable, pictures = runs.Usable(config), runs.Pictures(config, every=all_images)
    for item in usable.watch(runs.read_inputs(config, extend=extend)):
        if isinstance(item, Drop):
            drops[item.reason] += 1
        else:
            seeds_read += 1
            pictures.look(item)
            with_truth += item.has_truth
            continued += wants_continuation(item, config.dropout)
            blind += wants_blind(item, config)
            stepped += wants_steps(item, config)
            compared += compares(item, config)
    if not extend:
        usable.check()
    if pictures.images and not problems:
        engines.check_images(config)
    notes: tuple[str, ...] = ()
    try:
        notes = () if problems else engines.try_model(config)
    except SetupError as error:
        if not has_ray_at_hand(config):
            raise
        notes = (f"{error} (on this machine; those that sample may differ)",)
    if pictures.opened and pictures.bad.total() == pictures.images:
        problems.append(f"none of {pictures.images:,} images opens: the first is {pictures.first}")
    sampling = config.sampling
    responses, without_images = seeds_read * sampling.n, blind * sampling.blind
    continuations = continued * sampling.n * len(config.dropout.keep)
    longest = config.dropout.max_tokens or sampling.max_tokens
    steps = stepped * most_continuations(config)
    whole = responses + without_images + steps
    return Estimate(
        seeds=seeds_read,
        with_truth=with_truth,
        drops=drops,
        first_drops=usable.first,
        responses=responses,
        continuations=continuations,
        blind=without_images,
        steps=steps,
        compared=compared,
        most_tokens=whole * sampling.max_tokens
        + continuations * longest
        + compared * most_tokens(config),
        pictures=pictures,
        problems=tuple(problems),
        notes=notes,
    )
