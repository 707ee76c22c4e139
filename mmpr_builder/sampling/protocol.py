"""Requests to an engine and its answers: the seam between sampling and `engines/`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from PIL.Image import Image

from mmpr_builder.dropout import Part
from mmpr_builder.io.images import open_image
from mmpr_builder.records import Comparison, Continuation, Trace


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to answer `n` times.

    `prompt` holds one `<image>` per item of `images`, which are files as they lie on disk: an
    engine opens them when it gets to them. Response i gets `seed + i`. `one_by_one` asks for each
    sample as soon as it is finished, at a small price. `tiles` bounds the tiles that an image is
    cut into; None leaves it to the model. `blind`: the images were left out of `prompt`, and
    earlier rollouts keep these samples apart.
    """

    id: str
    prompt: str
    images: tuple[bytes, ...] = field(default=(), repr=False)
    n: int = 1
    first: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 4096
    seed: int = 0
    logprobs: bool | Literal["tokens"] = False
    one_by_one: bool = False
    tiles: int | None = None
    blind: bool = False
    memo: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def opened(self) -> Iterator[Image]:
        """Its pictures, opened one by one where `memo` does not hold them. Raises `RowError`."""
        return iter(self.memo.get("opened") or map(open_image, self.images))


@dataclass(frozen=True, slots=True)
class Sample:
    """One response, number `index` of its seed.

    `tokens` counts what was generated, a stop token included. `logprob` is the mean per generated
    token in nats. `token_ids` are the sampled tokens without the stop token where the engine knows
    them, else empty; they are not stored.
    """

    index: int
    text: str
    tokens: int
    finish_reason: str
    seed: int
    logprob: float | None = None
    prompt_tokens: int = 0
    token_ids: tuple[int, ...] = field(default=(), repr=False)
    trace: Trace | None = field(default=None, repr=False)
    compared: tuple[Comparison, ...] = field(default=(), repr=False)
    """Of a stored response: what a judge found of it."""


@dataclass(frozen=True, slots=True)
class Continue:
    """How a response is continued: with `keep` of its `part` (see `dropout.part_of`), with or
    without image, up to `max_tokens`. With a `gap` it is cut there, behind `keep` steps; `number`
    tells several from one place apart, and is None for DropoutNTP."""

    keep: float
    image: bool
    max_tokens: int
    seed: int
    part: Part = "whole"
    gap: tuple[int, int] | None = None
    number: int | None = None

    def made(self, said: Sample, prefix: str, text: str, **more: Any) -> Continuation:
        """The continuation of `prefix` by `text`, which the engine gave as `said`."""
        more |= {"seed": self.seed, "keep": self.keep, "image": self.image}
        return Continuation(prefix, text, said.tokens, said.finish_reason, **more)


class Sampler(Protocol):
    """An engine. All methods run in one event loop; many requests are open at a time."""

    def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
        """Yield the samples in the order in which they finish.

        Raises `RowError` when this request cannot be answered (its image, its length), and
        `EngineError` when no request can.
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


@runtime_checkable
class HasReferences(Protocol):
    """A sampler that knows what its samples are worth to a trainer."""

    async def traced(self, request: Request, sample: Sample) -> Trace:
        """The sample's trace with its reference log-probability."""
        ...


@runtime_checkable
class HasCaches(Protocol):
    """A sampler that counts how often its engine's caches have what is needed."""

    def cache_hits(self) -> Counter[str]:
        """All so far: `prefix_queries` and `prefix_hits` are prompt tokens looked up in the KV
        cache and found there, `image_queries` and `image_hits` pictures in processed form."""
        ...


async def cancelled(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Have those that still run end now; what has ended stays as it is."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
