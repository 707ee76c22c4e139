"""All responses of one seed: in one round (`fixed`), or in as many as it takes (`adaptive`).

    8 responses -> scored: 6 right, 2 wrong -> 1 more -> 2 x 7 pairs -> 1 more -> enough

A round is one request; the engine knows the prompt and its images from the round before. What the
rule decides (`pairing.need`) depends on the responses alone, so a seed has the same responses
whatever is sampled beside it: the first ones of those that `fixed` would have given it. (One thing
can change their number from machine to machine: an answer at the edge of sympy's time limit.)
With `sampling.blind` the engine also gets the question without its images at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from mmpr_builder.config import Config
from mmpr_builder.dropout import wants_blind
from mmpr_builder.errors import RowError
from mmpr_builder.pairing.need import Tally, marks, rule_for
from mmpr_builder.records import (
    IMAGE_PLACEHOLDER,
    Continuation,
    Response,
    Rollout,
    Seed,
    Trace,
    Verdict,
    derived_seed,
)
from mmpr_builder.sampling.protocol import (
    Continue,
    HasReferences,
    Request,
    Sample,
    Sampler,
    cancelled,
)

Scoring = Callable[[Rollout], Awaitable[tuple[Sequence[Verdict], Sequence[Response]]]]
"""Judges the responses of a rollout without holding up the event loop; see
`pairing.judge_responses` for what comes back."""


Answers = tuple[tuple[Response, ...], tuple[Sample, ...]]
"""The responses of a seed in the order of their numbers, and the samples that they are."""


async def answer_adaptively(
    request: Request, blank: Rollout, config: Config, sampler: Sampler, scoring: Scoring
) -> tuple[Answers, str]:
    """Rounds of responses until the seed of `blank` has what its pairs need, at most `n`, and why
    there are no more."""
    rule = rule_for(blank.seed, config)
    tally, size = Tally(rule), rule.first
    answered: tuple[Response, ...] = ()
    samples: tuple[Sample, ...] = ()
    while True:
        part = replace(request, first=len(answered), n=size)
        new, drawn = await answer(part, config, sampler)
        answered, samples = answered + new, samples + drawn
        verdicts, usable = await scoring(replace(blank, responses=new))
        for mark in marks(blank.seed, usable, verdicts, rule):
            tally.add(mark)
        stop, size = tally.next_round()
        if stop is not None:
            return (answered, samples), stop


async def answer(request: Request, config: Config, sampler: Sampler) -> Answers:
    """All `request.n` responses at once, with their continuations."""
    samples: list[Sample] = []
    running: list[asyncio.Task[Any]] = []  # For each sample as many.
    try:
        async with contextlib.aclosing(sampler.sample(request)) as stream:
            async for sample in stream:
                samples.append(sample)
                ways = _ways(request, sample, config)
                jobs: list[Coroutine[Any, Any, Any]] = [
                    continued(sampler, request, sample, how) for how in ways
                ]
                if request.logprobs == "tokens" and isinstance(sampler, HasReferences):
                    jobs.append(sampler.traced(request, sample))
                running += map(asyncio.create_task, jobs)
        if not samples:
            raise RowError("no_responses", f"the engine gave none of {request.n}")
        found = iter(await asyncio.gather(*running))
    finally:  # Cancelled or failed: leave no request running.
        await cancelled(running)
    each = len(running) // len(samples)
    made = {s.index: _response(s, list(islice(found, each))) for s in samples}
    ordered = tuple(sorted(samples, key=lambda sample: sample.index))
    return tuple(made[sample.index] for sample in ordered), ordered


async def continued(
    sampler: Sampler, request: Request, sample: Sample, how: Continue
) -> Continuation | None:
    """A continuation, None where it cannot be had."""
    try:
        return await sampler.continue_response(request, sample, how)
    except RowError:
        # A continuation that cannot be had (say, prefix and prompt outgrow the context) costs
        # its response nothing; pairing counts the responses that have none.
        return None


def _ways(request: Request, sample: Sample, config: Config) -> list[Continue]:
    """How a sample is to be continued, by rising ratio; not at all if that is not wanted."""
    dropout = config.dropout
    several = len(dropout.keep) > 1
    return [
        Continue(
            keep=keep,
            image=dropout.image,
            max_tokens=dropout.max_tokens or request.max_tokens,
            part=dropout.part,
            seed=derived_seed(
                config.sampling.seed,
                *(request.id, "continuation", str(sample.index)),
                # With a stream of its own each; one alone has the one it had before there were
                # several.
                *((repr(keep),) if several else ()),
            ),
        )
        for keep in dropout.keep
        if request.one_by_one
    ]


def _response(sample: Sample, found: Sequence[Continuation | Trace | None]) -> Response:
    response = Response(
        text=sample.text,
        tokens=sample.tokens,
        finish_reason=sample.finish_reason,
        seed=sample.seed,
        logprob=sample.logprob,
        trace=next((one for one in found if isinstance(one, Trace)), sample.trace),
        compared=sample.compared,
    )
    return response.with_continuations(c for c in found if isinstance(c, Continuation))


# A blank is tried from its beginning only, so that a long one costs linear time.
_WHERE_IMAGES_STAND = re.compile(rf"(?<!\s)\s*(?:{re.escape(IMAGE_PLACEHOLDER)}\s*)+")


def without_images(prompt: str) -> str:
    """A prompt's text alone, as the image-free continuation sees it.

    `"A <image> and <image>\\nB"` -> `"A and\\nB"`: one blank or line break is left where images
    stood between two texts, none where nothing separated them and no words would grow together.
    """

    def left(found: re.Match[str]) -> str:
        before, after = prompt[: found.start()][-1:], prompt[found.end() :][:1]
        if not before or not after:
            return ""
        if "\n" in found[0]:
            return "\n"
        apart = found[0] != found[0].replace(" ", "").replace("\t", "")
        words = before.isascii() and before.isalnum() and after.isascii() and after.isalnum()
        return " " if apart or words else ""

    return _WHERE_IMAGES_STAND.sub(left, prompt)


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
) -> AsyncIterator[asyncio.Task[tuple[Response, ...]]]:
    """The samples without images while the responses of `request` are being written.

    None for a seed that wants none. Leaving the block early, with an error, ends them.
    """
    asked = blind_request(request, config) if wants_blind(seed, config) else None
    running = asyncio.create_task(_answer(asked, sampler))
    try:
        yield running
    finally:
        await cancelled([running])


async def _answer(request: Request | None, sampler: Sampler) -> tuple[Response, ...]:
    if request is None:
        return ()
    try:
        async with contextlib.aclosing(sampler.sample(request)) as stream:
            samples = [sample async for sample in stream]
    except RowError:
        # What is left of a prompt may be nothing that a model takes. That costs the seed nothing:
        # pairing counts the seeds whose need for the image was not measured.
        return ()
    samples.sort(key=lambda sample: sample.index)
    return tuple(Response(s.text, s.tokens, s.finish_reason, s.seed, s.logprob) for s in samples)
