"""The engine without us: finished prompts and opened images straight into `AsyncLLM.generate`.

What it is spared is the same as for ours (vLLM's Prometheus exporter and times per token are off);
pictures are sent with each response, as vLLM does.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from mmpr_builder import prompts, sampling
from mmpr_builder.config import Config
from mmpr_builder.engines.vllm_internals import WHOLE
from mmpr_builder.io.images import open_image, read_bytes
from mmpr_builder.records import Seed

Ask = Callable[[Seed], Awaitable[int]]
"""Answers a seed; returns the tokens generated."""

Frame = tuple[str, str, str]
"""What stands before a prompt, in the place of a picture in it, and behind it."""
DEMO: Frame = ("<|im_start|>user\n", "<image>", "<|im_end|>\n<|im_start|>assistant\n")

_NUMBERS: Iterator[int] = itertools.count()


async def run(engine: Any, ask: Ask, seeds: Sequence[Seed]) -> tuple[int, float]:
    """Tokens generated and seconds taken for all seeds asked at once, from empty caches."""
    await empty_caches(engine)
    start = time.perf_counter()
    tokens = sum(await asyncio.gather(*(ask(seed) for seed in seeds)))
    return tokens, time.perf_counter() - start


async def empty_caches(engine: Any) -> None:
    """Forget prompts, processed images and their encodings."""
    await engine.reset_prefix_cache()
    await engine.reset_mm_cache()
    await engine.reset_encoder_cache()


def requests(engine: Any, config: Config, seeds: Sequence[Seed], frame: Frame = DEMO) -> Ask:
    """Asks for each seed's `sampling.n` responses what `roll_out` asks for; all is made ready."""
    pick = prompts.load_templates(config).pick
    ready = {
        seed.id: (
            prompt_of(
                prompts.render(pick(seed), seed), [read_bytes(ref) for ref in seed.images], frame
            ),
            parameters(config, seed, config.sampling.n),
        )
        for seed in seeds
    }

    async def ask(seed: Seed) -> int:
        return await tokens_of(engine, *ready[seed.id])

    return ask


def prompt_of(prompt: str, images: Sequence[bytes], frame: Frame = DEMO) -> dict[str, Any]:
    """A prompt in the model's chat format, its images opened."""
    before, image, behind = frame
    text = before + "".join(part or image for part in prompts.parts(prompt)) + behind
    pictures = [open_image(data) for data in images]
    return (
        {"prompt": text, "multi_modal_data": {"image": pictures}} if pictures else {"prompt": text}
    )


def parameters(config: Config, seed: Seed, n: int, first: int = 0) -> Any:
    """vLLM's sampling parameters for responses `first` and following of a seed."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    request = sampling.request_for(seed, "", (), config)
    return SamplingParams(
        n=n,
        temperature=request.temperature,
        max_tokens=request.max_tokens,
        seed=request.seed + first,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


async def tokens_of(engine: Any, prompt: dict[str, Any], params: Any) -> int:
    """Have it generated; the number of tokens."""
    total = 0
    async for output in engine.generate(dict(prompt), params, f"{WHOLE}{next(_NUMBERS)}"):
        total += sum(len(done.token_ids) for done in output.outputs)
    return total
