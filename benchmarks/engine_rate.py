"""Does our sampler cost anything? Its token rate against the bare engine's on the same requests.

    python -m benchmarks.engine_rate [key=value …]     settings as for `mmpr build`

Both use one loaded engine in turn, with all caches emptied in between, in several rounds, because
a machine's speed drifts. Ours is everything from a seed to its rollout (reading and opening the
image, prompt, chat template, cutting records); the bare engine is handed finished prompts and
opened images and only has to generate. Target: 95 % of its rate or more.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mmpr_builder import prompts, sampling
from mmpr_builder.config import Config, load_config
from mmpr_builder.demo import write_seeds
from mmpr_builder.engines import make_sampler
from mmpr_builder.images import open_image, read_bytes
from mmpr_builder.records import Seed
from mmpr_builder.seeds import read_seeds

SEEDS, SAMPLES, ROUNDS, TARGET = 128, 8, 4, 0.95
SETTINGS = [f"sampling.n={SAMPLES}", "sampling.max_tokens=512", "dropout.apply=none"]


def main(overrides: list[str]) -> int:
    """Print rates and their ratio; 1 if the target is missed."""
    config = load_config(None, [*SETTINGS, *overrides])
    with tempfile.TemporaryDirectory() as folder:
        path = write_seeds(Path(folder) / "seeds", SEEDS)
        seeds = [item for item in read_seeds(path) if isinstance(item, Seed)]
        ratio = asyncio.run(measure(config, seeds))
    return 0 if ratio >= TARGET else 1


async def measure(config: Config, seeds: list[Seed]) -> float:
    """Our rate divided by the bare engine's, over all rounds; who goes first alternates."""
    sampler: Any = make_sampler(config)
    pick = prompts.load_templates(config).pick

    async def ours(seed: Seed) -> int:
        rollout = await sampling.roll_out(seed, 0, pick(seed), config, sampler, "bench")
        assert rollout.error is None, rollout.error
        return sum(response.tokens for response in rollout.responses)

    ready = {
        seed.id: bare_request(config, seed, prompts.render(pick(seed), seed)) for seed in seeds
    }
    number = iter(range(10**9))

    async def bare(seed: Seed) -> int:
        prompt, params = ready[seed.id]
        total = 0
        async for output in sampler.engine.generate(prompt(), params, f"bare-{next(number)}"):
            total += sum(len(done.token_ids) for done in output.outputs)
        return total

    try:
        await run(sampler.engine, ours, seeds[:16])  # Warm.
        seconds = {"ours": 0.0, "bare": 0.0}
        tokens = {"ours": 0, "bare": 0}
        for turn in range(ROUNDS):
            order = [("ours", ours), ("bare", bare)]
            for name, ask in order if turn % 2 else order[::-1]:
                count, took = await run(sampler.engine, ask, seeds)
                tokens[name] += count
                seconds[name] += took
                print(f"round {turn + 1}: {name} {count / took:,.0f} tokens/s")
    finally:
        await sampler.close()
    rates = {name: tokens[name] / seconds[name] for name in tokens}
    ratio = rates["ours"] / rates["bare"]
    print(
        f"{len(seeds)} seeds x {config.sampling.n}: ours {rates['ours']:,.0f} tokens/s, bare engine"
        f" {rates['bare']:,.0f} tokens/s, ratio {ratio:.3f} (target {TARGET})"
    )
    return ratio


async def run(
    engine: Any, ask: Callable[[Seed], Awaitable[int]], seeds: list[Seed]
) -> tuple[int, float]:
    """Generated tokens and seconds for all seeds asked at once, from empty caches."""
    await engine.reset_prefix_cache()
    await engine.reset_mm_cache()
    await engine.reset_encoder_cache()
    start = time.perf_counter()
    tokens = sum(await asyncio.gather(*(ask(seed) for seed in seeds)))
    return tokens, time.perf_counter() - start


def bare_request(config: Config, seed: Seed, prompt: str) -> tuple[Callable[[], Any], Any]:
    """What the engine is handed for a seed: a prompt in the demo's chat format, and parameters."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    shown = "".join(part or "<image>" for part in prompts.parts(prompt))
    text = f"<|im_start|>user\n{shown}<|im_end|>\n<|im_start|>assistant\n"
    pictures = [open_image(read_bytes(ref)) for ref in seed.images]
    request = sampling.request_for(seed, prompt, (), config)
    params = SamplingParams(
        n=request.n,
        temperature=request.temperature,
        max_tokens=request.max_tokens,
        seed=request.seed,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    return lambda: {"prompt": text, "multi_modal_data": {"image": pictures}}, params


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
