"""Sampling: a seed goes in, a rollout with all its responses comes out.

    Request(prompt="<image>\\nHow many red shapes are there?", n=8, …)
      -> Sample(index=5, text="Row 1: …", tokens=93, finish_reason="stop", seed=2871), …

Nothing waits: as soon as a response is there, the same engine writes its image-free continuation
(DropoutNTP) while its siblings are still being written. A seed that has what its pairs need is done
(`rounds`); samples without the images run beside them. Engines live in `engines/`; this folder
knows only the protocol they follow.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

from mmpr_builder.config import Config, tiles_for
from mmpr_builder.dropout import wants_blind, wants_continuation
from mmpr_builder.errors import RowError
from mmpr_builder.io.access import access_of
from mmpr_builder.io.images import read_all
from mmpr_builder.prompts import render
from mmpr_builder.records import Rollout, Seed, Template, derived_seed
from mmpr_builder.sampling.protocol import (
    CacheHits,
    Continue,
    HasCaches,
    Request,
    Sample,
    Sampler,
)
from mmpr_builder.sampling.rounds import (
    Scoring,
    answer_adaptively,
    answer_fixed,
    answered_blind,
    without_images,
)

__all__ = [
    "CacheHits",
    "Continue",
    "HasCaches",
    "Request",
    "Sample",
    "Sampler",
    "Scoring",
    "request_for",
    "roll_out",
    "wants_blind",
    "wants_continuation",
    "without_images",
]


async def roll_out(
    seed: Seed,
    index: int,
    template: Template,
    config: Config,
    sampler: Sampler,
    model_name: str,
    scoring: Scoring | None = None,
) -> Rollout:
    """Sample one seed, with continuations where `config.dropout` wants them, and without its images
    where `sampling.blind` does.

    What is wrong with this seed alone ends in `Rollout.error`; an `EngineError` propagates, for
    the seed can be tried again elsewhere. `scoring` judges the rounds of `sampling.policy`
    "adaptive"; there `ValueError` is raised without it.
    """
    blank = Rollout(
        seed=seed,
        prompt="",
        template=template.name,
        style=template.style,
        model=model_name,
        index=index,
    )
    if config.sampling.policy == "adaptive" and scoring is None:
        raise ValueError("sampling.policy = 'adaptive' needs scoring: pass ScoringThreads(config)")
    try:
        blank = replace(blank, prompt=render(template, seed))
        # Reading blocks (a disk, a network): in a thread, so that the engine never waits for it.
        images = await asyncio.to_thread(read_all, seed.images, access_of(config.seeds))
        hashes = tuple(hashlib.sha256(data).hexdigest() for data in images)
        blank = replace(blank, image_sha256=hashes)
        request = request_for(seed, blank.prompt, images, config)
        async with answered_blind(seed, request, config, sampler) as blind:
            if config.sampling.policy == "adaptive" and scoring is not None:
                answers = await answer_adaptively(request, blank, config, sampler, scoring)
            else:
                answers = await answer_fixed(request, config, sampler)
            unseen = await blind
    except RowError as error:
        return replace(blank, error=(error.reason, error.detail))
    return replace(
        blank,
        responses=answers.responses,
        prompt_tokens=answers.prompt_tokens,
        stop=answers.stop,
        blind=unseen,
    )


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
