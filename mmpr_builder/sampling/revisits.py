"""Responses continued with the image: from the ends of their steps, from their middle.

    exact     every step of a response x 16 continuations
    frugal    12 steps, wrong at the end: from the 6th? one of 16 gets there -> from the 9th? none
              -> from the 8th? none -> from the 7th? the third gets there: the 8th is wrong

They follow the responses of a seed, in the same engine, while other seeds are being answered. Each
has a random seed of its own, so what is sampled does not depend on what else is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from mmpr_builder.config import Config
from mmpr_builder.records import Continuation, Response, Rollout, derived_seed
from mmpr_builder.sampling.protocol import Continue, Request, Sample, Sampler, cancelled
from mmpr_builder.sampling.rounds import Scoring, continued
from mmpr_builder.steps import (
    MIDDLE,
    Gap,
    Label,
    gaps_of,
    is_right,
    label_of,
    shares_beginning,
    tried,
)

T = TypeVar("T")


async def with_steps(
    request: Request,
    done: Rollout,
    samples: Sequence[Sample],
    config: Config,
    sampler: Sampler,
    scoring: Scoring,
) -> tuple[Response, ...]:
    """The responses of `done`, which are `samples`, with their continuations."""
    verdicts, usable = await scoring(done)
    right = [
        response.text
        for response, verdict in zip(usable, verdicts, strict=True)
        if is_right(response.finish_reason, verdict)
    ]
    each = [_Revisit(request, done, sample, config, sampler, scoring) for sample in samples]
    ways = []
    if config.steps.apply != "none":
        for index in tried(usable, verdicts, config.steps.responses):
            if config.steps.apply == "exact":
                ways.append(each[index].exact())
            elif samples[index].text not in right:  # No step of a right one is wrong.
                ways.append(each[index].frugal(right))
    if config.steps.faithful:
        firsts = {one.sample.text: one for one in reversed(each)}
        ways += [firsts[text].from_the_middle() for text in dict.fromkeys(right)]
    await together(ways)
    return tuple(
        replace(response, with_image=tuple(sorted(one.made, key=lambda c: c.keep)))
        for one, response in zip(each, done.responses, strict=True)
    )


@dataclass(slots=True)
class _Revisit:
    """One response, and the continuations made of it so far; those of a step in their order."""

    request: Request
    done: Rollout
    sample: Sample
    config: Config
    sampler: Sampler
    scoring: Scoring
    made: list[Continuation] = field(default_factory=list)

    @property
    def gaps(self) -> list[Gap]:
        return gaps_of(self.sample.text, self.config.steps.cut)

    async def exact(self) -> None:
        """From every step."""
        most = range(self.config.steps.samples)
        await self._all(self._from(i, gap, n) for i, gap in enumerate(self.gaps, 1) for n in most)

    async def from_the_middle(self) -> None:
        """From where DropoutNTP would cut."""
        await self._all(self._from(MIDDLE, None, n) for n in range(self.config.steps.faithful))

    async def frugal(self, right: Sequence[str]) -> None:
        """From as few as tell the first wrong step of a wrong response, and from the one before."""
        gaps, text = self.gaps, self.sample.text
        low, high, led = 0, len(gaps) + 1, 0
        while high - low > 1:
            step = (low + high) // 2
            label: Label = True
            if not shares_beginning(right, text, gaps[step - 1]):
                label = await self._try(step, gaps[step - 1])
                led = step if label else led
            if label is None:
                return
            low, high = (step, high) if label else (low, step)
        if low and led != low:  # Siblings tell that a way leads on; a pair needs one.
            await self._try(low, gaps[low - 1])

    async def _try(self, step: int, gap: Gap) -> Label:
        """Continuations from a step, more at a time, until one gets there."""
        ends: list[Label] = []
        while len(ends) < self.config.steps.samples and True not in ends:
            size = min(max(1, len(ends)), self.config.steps.samples - len(ends))
            ways = [self._from(step, gap, len(ends) + number) for number in range(size)]
            new = await self._all(ways)
            if not new:
                return None
            ends += await self._ends(new)
        return label_of(ends)

    async def _all(
        self, ways: Iterable[Coroutine[None, None, Continuation | None]]
    ) -> list[Continuation]:
        """Those that could be had, which are kept."""
        new = [one for one in await together(ways) if one is not None]
        self.made += new
        return new

    async def _from(self, step: float, gap: Gap | None, number: int) -> Continuation | None:
        run, max_tokens = self.config.sampling.seed, self.request.max_tokens
        parts = (self.request.id, "step", *map(str, (self.sample.index, step, number)))
        seed = derived_seed(run, *parts)
        how = Continue(float(step), True, max_tokens, seed, gap=gap, number=number)
        return await continued(self.sampler, self.request, self.sample, how)

    async def _ends(self, continuations: Sequence[Continuation]) -> list[Label]:
        texts = tuple(
            Response(c.prefix + c.text, c.tokens, c.finish_reason, c.seed) for c in continuations
        )
        verdicts, usable = await self.scoring(replace(self.done, responses=texts))
        judged = zip(usable, verdicts, strict=True)
        return [is_right(response.finish_reason, verdict) for response, verdict in judged]


async def together(ways: Iterable[Coroutine[None, None, T]]) -> list[T]:
    """All results in order; where one fails, or this is cancelled, none goes on."""
    running = [asyncio.ensure_future(way) for way in ways]
    try:
        return list(await asyncio.gather(*running))
    finally:
        await cancelled(running)
