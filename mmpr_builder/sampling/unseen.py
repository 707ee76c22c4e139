"""Samples without the images: what the model says of a question that it cannot look at.

    <image>\\nHow many red shapes are there?   ->   How many red shapes are there?   x 8

They go to the same engine at the same time as the seed's other responses, and nothing waits for
them but the seed itself. They count towards no pairs; `quality.blind` says what is made of them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

from mmpr_builder.config import Config
from mmpr_builder.dropout import wants_blind
from mmpr_builder.errors import RowError
from mmpr_builder.prompts import parts
from mmpr_builder.records import Response, Seed, derived_seed
from mmpr_builder.sampling.protocol import Request, Sampler


def without_images(prompt: str) -> str:
    """A prompt's text alone, as the image-free continuation sees it."""
    return "".join(part for part in parts(prompt) if part is not None)


def blind_request(request: Request, config: Config) -> Request:
    """The request for all `sampling.blind` samples, from that for the responses."""
    return replace(
        request,
        prompt=without_images(request.prompt),
        images=(),
        n=config.sampling.blind,
        seed=derived_seed(config.sampling.seed, request.id, "blind"),
        one_by_one=False,
        tiles=None,
        blind=True,
    )


@contextlib.asynccontextmanager
async def answered_blind(
    seed: Seed, request: Request, config: Config, sampler: Sampler
) -> AsyncIterator[asyncio.Future[tuple[Response, ...]]]:
    """The samples without images while the responses of `request` are being written.

    None for a seed that wants none. Who leaves early, with an error, ends them.
    """
    if not wants_blind(seed, config):
        nothing = asyncio.get_running_loop().create_future()
        nothing.set_result(())
        yield nothing
        return
    running = asyncio.create_task(_answer(blind_request(request, config), sampler))
    try:
        yield running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _answer(request: Request, sampler: Sampler) -> tuple[Response, ...]:
    try:
        async with contextlib.aclosing(sampler.sample(request)) as stream:
            samples = [sample async for sample in stream]
    except RowError:
        # What is left of a prompt may be nothing that a model takes. That costs the seed nothing:
        # pairing counts the seeds whose need for the image was not measured.
        return ()
    samples.sort(key=lambda sample: sample.index)
    return tuple(Response(s.text, s.tokens, s.finish_reason, s.seed, s.logprob) for s in samples)
