"""Sampling: a seed goes in, a rollout with all its responses comes out.

    Request(prompt="<image>\\nHow many red shapes are there?", n=8, …)
      -> Sample(index=5, text="Row 1: …", tokens=93, finish_reason="stop", seed=2871), …

Nothing waits: as soon as a response is there, the same engine writes its image-free continuation
(DropoutNTP) while its siblings are still being written. A seed that has what its pairs need is done
(`rounds`), unless its steps are to be tried (`revisits`), or its responses compared (`comparing`);
samples without the images run beside them. Engines live in `engines/`; this folder
knows only the protocol they follow.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

from mmpr_builder.config import Config, asks_majority, compares, tiles_for
from mmpr_builder.dropout import wants_continuation
from mmpr_builder.errors import EngineError, RowError, StorageError
from mmpr_builder.io.access import access_of
from mmpr_builder.io.images import read_all
from mmpr_builder.prompts import render
from mmpr_builder.records import Rollout, Seed, Template, derived_seed
from mmpr_builder.sampling.comparing import compared
from mmpr_builder.sampling.protocol import (
    Continue as Continue,
    HasCaches as HasCaches,
    HasReferences as HasReferences,
    Request as Request,
    Sample as Sample,
    Sampler as Sampler,
    cancelled as cancelled,
)
from mmpr_builder.sampling.revisits import with_steps
from mmpr_builder.sampling.rounds import (
    Scoring as Scoring,
    answer,
    answer_adaptively,
    answered_blind,
    without_images as without_images,
)
from mmpr_builder.steps import wants_steps


async def roll_out(
    seed: Seed,
    index: int,
    template: Template,
    config: Config,
    sampler: Sampler,
    model_name: str,
    scoring: Scoring | None = None,
    judge: Sampler | None = None,
) -> Rollout:
    """Sample one seed, with continuations where `config.dropout` wants them, and without its images
    where `sampling.blind` does.

    What is wrong with this seed alone ends in `Rollout.error`; an `EngineError` propagates, for
    the seed can be tried again elsewhere. `scoring` judges the rounds of `sampling.policy`
    "adaptive" and what `config.steps` tries; there `ValueError` is raised without it. `judge` (by
    default `sampler`) compares responses for `scoring.judge.open`; `StorageError` where it is away.
    """
    blank = Rollout(
        seed=seed,
        prompt="",
        template=template.name,
        style=template.style,
        model=model_name,
        index=index,
    )
    if scores_while_sampling(config) and scoring is None:
        raise ValueError(
            "sampling.policy = 'adaptive' and `steps` need scoring: pass ScoringThreads(config)"
        )
    try:
        blank = replace(blank, prompt=render(template, seed))
        # Reading blocks (a disk, a network): in a thread, so that the engine never waits for it.
        images = await asyncio.to_thread(read_all, seed.images, access_of(config.seeds))
        hashes = tuple(hashlib.sha256(data).hexdigest() for data in images)
        blank = replace(blank, image_sha256=hashes)
        request = request_for(seed, blank.prompt, images, config)
        async with answered_blind(seed, request, config, sampler) as blind:
            at_once = asks_majority(seed, config) or compares(seed, config)
            by_rounds = config.sampling.policy == "adaptive" and not at_once
            if by_rounds and scoring is not None:
                found, stop = await answer_adaptively(request, blank, config, sampler, scoring)
            else:
                found, stop = await answer(request, config, sampler), "n"
            responses, samples = found
            used = samples[0].prompt_tokens
            done = replace(blank, responses=responses, prompt_tokens=used, stop=stop)
            if wants_steps(seed, config) and scoring is not None:
                gone_on = with_steps(request, done, samples, config, sampler, scoring)
                done = replace(done, responses=await gone_on)
            if compares(seed, config):
                try:
                    done = await compared(request, done, config, judge or sampler)
                except EngineError as error:
                    if judge is None:
                        raise
                    # The engine is well: it must not end for that.
                    raise StorageError(f"scoring.judge: {error}") from error
            return replace(done, blind=await blind)
    except RowError as error:
        return replace(blank, error=(error.reason, error.detail))


def scores_while_sampling(config: Config) -> bool:
    """Whether `roll_out` needs verdicts."""
    return config.sampling.policy == "adaptive" or config.steps.is_on


def request_for(seed: Seed, prompt: str, images: tuple[bytes, ...], config: Config) -> Request:
    """The request for all `sampling.n` responses of a seed; rounds are parts of it."""
    sampling = config.sampling
    return Request(
        id=seed.id,
        prompt=prompt,
        images=images,
        n=sampling.n,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        max_tokens=sampling.max_tokens,
        seed=derived_seed(sampling.seed, seed.id),
        logprobs=sampling.logprobs,
        one_by_one=wants_continuation(seed, config.dropout),
        tiles=tiles_for(config, seed.source),
    )
