"""What engines are asked in tests, and how to wait for the answers."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Coroutine
from typing import Any, TypeVar

from PIL import Image

from mmpr_builder.config import Config, load_config
from mmpr_builder.pairing import judge_responses
from mmpr_builder.records import Rollout, Seed, Template
from mmpr_builder.sampling import Request, Sample, Sampler, roll_out
from mmpr_builder.scoring import Judge

T = TypeVar("T")


def settings(*overrides: str, **engine: Any) -> Config:
    return load_config(None, overrides).model_copy(update={"engine": engine})


def picture(colour: str = "red", size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


async def drawn(sampler: Sampler, request: Request) -> list[Sample]:
    return sorted([s async for s in sampler.sample(request)], key=lambda s: s.index)


def using(sampler: Sampler, work: Coroutine[Any, Any, T]) -> T:
    async def whole() -> T:
        try:
            return await work
        finally:
            await sampler.close()

    return asyncio.run(whole())


def rolled(seed: Seed, template: Template, config: Config, sampler: Sampler) -> Rollout:
    """All responses of one seed, scored beside the sampler. Strings must decide: no process."""

    async def work() -> Rollout:
        judge = Judge(config.scoring)

        async def score(rollout: Rollout) -> Any:
            return judge_responses(rollout, config, judge)

        return await roll_out(seed, 0, template, config, sampler, "m", score)

    return asyncio.run(work())


ASK = Request("a", "<image>\nHow many?", (picture(),), n=3, temperature=0.7, seed=40, max_tokens=9)
