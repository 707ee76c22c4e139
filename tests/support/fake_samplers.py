"""Samplers for tests of the runner: they answer out of the request alone, some die of a word.

Importable by name, so that Ray's worker processes can make them from a pickled factory.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from mmpr_builder.config import Config
from mmpr_builder.errors import EngineError, SetupError
from mmpr_builder.records import Continuation
from mmpr_builder.sampling import Continue, Request, Sample

POISON = "POISON"
HELD = "HELD"


@dataclass
class FakeSampler:
    """Answers "Final answer: d" with a digit that depends on the request's seed."""

    delay_s: float = 0.0
    die_once: Path | None = None
    """The engine is dead for the first request of all; this file remembers that it was."""
    gate: Path | None = None
    """Prompts that say HELD are answered when this file is there."""

    async def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
        await asyncio.sleep(self.delay_s)
        if POISON in request.prompt:
            os.kill(os.getpid(), signal.SIGKILL)
        while self.gate is not None and HELD in request.prompt and not self.gate.exists():
            await asyncio.sleep(0.1)
        if self.die_once is not None and not self.die_once.exists():
            self.die_once.touch()
            raise EngineError("EngineDeadError: the core is gone")
        for index in range(request.first, request.first + request.n):
            seed = request.seed + index
            text = f"Let me think about {seed % 97}.\nFinal answer: {seed % 3}"
            yield Sample(index, text, 7, "stop", seed, prompt_tokens=5)

    async def continue_response(
        self, request: Request, sample: Sample, how: Continue
    ) -> Continuation | None:
        return Continuation(sample.text[:8], f" blind {how.seed}", 4, "stop", how.seed, how.keep)

    async def close(self) -> None:
        pass


class Noting(FakeSampler):
    """Keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Request] = []

    async def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
        self.asked.append(request)
        async for sample in super().sample(request):
            yield sample


def answers(config: Config) -> FakeSampler:
    return FakeSampler()


def answers_slowly(config: Config) -> FakeSampler:
    return FakeSampler(delay_s=0.3)


def holds(config: Config) -> FakeSampler:
    """Never answers prompts that say HELD."""
    return FakeSampler(gate=Path(config.out, "no such file"))


@dataclass
class DiesOnce:
    """Makes samplers of which the very first request finds the engine dead."""

    mark: Path

    def __call__(self, config: Config) -> FakeSampler:
        return FakeSampler(die_once=self.mark)


@dataclass
class Gated:
    """Makes samplers that hold some answers back until a file is there."""

    gate: Path

    def __call__(self, config: Config) -> FakeSampler:
        return FakeSampler(gate=self.gate)


def does_not_start(config: Config) -> FakeSampler:
    raise SetupError("out of memory: the model needs 80 GiB, the device has 24")


def kills_its_process(config: Config) -> FakeSampler:
    os.kill(os.getpid(), signal.SIGKILL)
    return FakeSampler()
