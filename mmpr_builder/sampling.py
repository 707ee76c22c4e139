"""Sampling: a seed goes in, a rollout with all its responses comes out; who answers is a plug.

    Request(prompt="<image>\\nHow many red shapes are there?", n=8, …)
      -> Sample(index=5, text="Row 1: …", tokens=93, finish_reason="stop", seed=2871), …

A seed is asked once, for all its responses, and nobody waits for anybody else: a response that
needs its image-free continuation (DropoutNTP) gets it as soon as it is there, from the same
engine, while its siblings are still being written. Engines live in `engines/`; this module knows
only the protocol they follow.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from typing import Protocol

from mmpr_builder.config import Config, DropoutConfig
from mmpr_builder.errors import RowError
from mmpr_builder.images import read_bytes
from mmpr_builder.prompts import parts, render
from mmpr_builder.records import Continuation, Response, Rollout, Seed, Template, derived_seed


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to answer `n` times.

    `prompt` holds one `<image>` per item of `images`, which are files as they lie on disk: an
    engine opens them (`images.open_image`) when it gets to them, so that many requests in flight
    do not mean many decoded pictures in memory. `seed` is the first response's; response i gets
    `seed + i`. `one_by_one` asks for each sample as soon as it is finished, at a small price.
    """

    id: str
    prompt: str
    images: tuple[bytes, ...] = field(default=(), repr=False)
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 4096
    seed: int = 0
    logprobs: bool = False
    one_by_one: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One response. `tokens` counts what was generated, a stop token included.

    `logprob` is the mean per generated token in nats. `token_ids` are the sampled tokens without
    the stop token where the engine knows them, else empty; they are not stored.
    """

    index: int
    text: str
    tokens: int
    finish_reason: str
    seed: int
    logprob: float | None = None
    prompt_tokens: int = 0
    token_ids: tuple[int, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Continue:
    """How a response is continued: the part kept, with or without image, up to `max_tokens`."""

    keep: float
    image: bool
    max_tokens: int
    seed: int


class Sampler(Protocol):
    """Who answers. All methods run in one event loop; many requests are open at a time."""

    def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
        """Yield the samples in the order in which they finish.

        Raises `RowError` when this request cannot be answered (its image, its length), and
        `EngineError` when nobody's can.
        """
        ...

    async def continue_response(
        self, request: Request, sample: Sample, how: Continue
    ) -> Continuation | None:
        """Cut a sample and have the same model go on; None when it cannot be cut or continued."""
        ...

    async def close(self) -> None:
        """Let go of what is held; the sampler answers no more."""
        ...


async def roll_out(
    seed: Seed, index: int, template: Template, config: Config, sampler: Sampler, model_name: str
) -> Rollout:
    """Sample one seed, with continuations where `config.dropout` wants them.

    What is wrong with this seed alone ends in `Rollout.error`; an `EngineError` propagates, for
    the seed can be tried again elsewhere. The seed's random numbers derive from the run seed and
    its id, whatever is sampled beside it.
    """
    blank = Rollout(
        seed=seed,
        prompt="",
        template=template.name,
        style=template.style,
        model=model_name,
        index=index,
    )
    try:
        blank = replace(blank, prompt=render(template, seed))
        # Reading blocks (a disk, a network): in a thread, so that the engine never waits for it.
        images = await asyncio.to_thread(lambda: tuple(read_bytes(ref) for ref in seed.images))
        hashes = tuple(hashlib.sha256(data).hexdigest() for data in images)
        blank = replace(blank, image_sha256=hashes)
        request = request_for(seed, blank.prompt, images, config)
        samples, continuations = await _answer(request, config, sampler)
    except RowError as error:
        return replace(blank, error=(error.reason, error.detail))
    return replace(
        blank,
        responses=tuple(map(_response, samples, continuations)),
        prompt_tokens=samples[0].prompt_tokens,
    )


def request_for(seed: Seed, prompt: str, images: tuple[bytes, ...], config: Config) -> Request:
    """The one request that samples all responses of a seed."""
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
    )


def wants_continuation(seed: Seed, dropout: DropoutConfig) -> bool:
    """Whether a seed's responses are continued: the branch without a truth, and only with images.

    Without an image there is nothing to drop: the continuation would be one more ordinary sample.
    """
    if not seed.images or dropout.apply == "none":
        return False
    return dropout.apply == "all" or not seed.has_truth


def without_images(prompt: str) -> str:
    """A prompt's text alone, as the image-free continuation sees it."""
    return "".join(part for part in parts(prompt) if part is not None)


async def _answer(
    request: Request, config: Config, sampler: Sampler
) -> tuple[list[Sample], list[Continuation | None]]:
    samples: list[Sample] = []
    running: list[asyncio.Task[Continuation | None]] = []
    try:
        async with contextlib.aclosing(sampler.sample(request)) as stream:
            async for sample in stream:
                samples.append(sample)
                if request.one_by_one:
                    how = _continue(request, sample, config)
                    running.append(asyncio.create_task(_continued(sampler, request, sample, how)))
        if not samples:
            raise RowError("no_responses", f"the engine gave none of {request.n}")
        continuations: list[Continuation | None] = list(await asyncio.gather(*running))
    except BaseException:  # Cancelled or failed: leave no request behind that nobody waits for.
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        raise
    together = itertools.zip_longest(samples, continuations)
    ordered = sorted(together, key=lambda pair: pair[0].index)
    return [sample for sample, _ in ordered], [continuation for _, continuation in ordered]


async def _continued(
    sampler: Sampler, request: Request, sample: Sample, how: Continue
) -> Continuation | None:
    try:
        return await sampler.continue_response(request, sample, how)
    except RowError:
        # A continuation that cannot be had (say, prefix and prompt outgrow the context) costs
        # its response nothing; pairing counts the responses that have none.
        return None


def _continue(request: Request, sample: Sample, config: Config) -> Continue:
    dropout = config.dropout
    return Continue(
        keep=dropout.keep,
        image=dropout.image,
        max_tokens=dropout.max_tokens or request.max_tokens,
        seed=derived_seed(config.sampling.seed, request.id, "continuation", str(sample.index)),
    )


def _response(sample: Sample, continuation: Continuation | None) -> Response:
    return Response(
        text=sample.text,
        tokens=sample.tokens,
        finish_reason=sample.finish_reason,
        seed=sample.seed,
        logprob=sample.logprob,
        continuation=continuation,
    )
