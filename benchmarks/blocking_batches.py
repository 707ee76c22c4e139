"""What is gained over blocking batches? A build's sampler against vLLM's offline `LLM.chat`.

    python -m benchmarks.blocking_batches [--seeds 96] [--n 32] [--batch 50] [--rounds 3] [key=val]

Pipelines of synthetic data (distilabel, Curator, one's own scripts) hand `LLM.chat` one batch of
conversations after another, and each batch waits for its slowest response. Both sides have an
engine with the same arguments in this process, and get the same questions, pictures, sampling
settings and seeds; they take turns, and begin with empty caches.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import bare
from benchmarks.results import parser, record, spread, table
from mmpr_builder import prompts, sampling
from mmpr_builder.config import Config, load_config
from mmpr_builder.demo import write_seeds
from mmpr_builder.engines import arguments, make_sampler
from mmpr_builder.engines.vllm_internals import runs_on_cpu
from mmpr_builder.io.images import open_image, read_bytes
from mmpr_builder.records import Seed
from mmpr_builder.seeds import read_seeds

SETTINGS = ("sampling.max_tokens=512", "dropout.apply=none")


def main(words: list[str]) -> int:
    """Measure and record; 1 where batches are as fast."""
    options = parser("blocking_batches", seeds=96, n=32, batch=50, rounds=3).parse_args(words)
    config = load_config(None, [*SETTINGS, f"sampling.n={options.n}", *options.settings])
    with tempfile.TemporaryDirectory() as folder:
        path = write_seeds(Path(folder) / "seeds", options.seeds)
        seeds = [item for item in read_seeds(path) if isinstance(item, Seed)]
        found = asyncio.run(measure(config, seeds, options.batch, options.rounds))
    gain = spread((a / b for a, b in zip(found["ours"], found["batches"], strict=True)), 2)
    lines = [
        f"**{gain} times the token rate of `LLM.chat` in batches of {options.batch}**, same engine"
        f" arguments and same requests: {len(seeds)} seeds x {options.n} responses,"
        f" {options.rounds} rounds of both in turn.",
        "",
        *table(
            ("", "tokens/s"),
            [
                ("a build's sampler", spread(found["ours"])),
                (f"`LLM.chat`, batches of {options.batch}", spread(found["batches"])),
            ],
        ),
    ]
    record("blocking_batches", "Against blocking batches", lines, options.results)
    return 0 if gain.median > 1 else 1


async def measure(
    config: Config, seeds: Sequence[Seed], batch: int, rounds: int
) -> dict[str, list[float]]:
    """Tokens per second of each round, for both sides."""
    sampler: Any = make_sampler(config)
    given = arguments.engine_arguments(config, cpu=runs_on_cpu())
    given["max_model_len"] = sampler.engine.model_config.max_model_len
    peer = _offline(given)
    pick = prompts.load_templates(config).pick
    found: dict[str, list[float]] = {"ours": [], "batches": []}

    async def ours(seed: Seed) -> int:
        rollout = await sampling.roll_out(seed, 0, pick(seed), config, sampler, "bench")
        assert rollout.error is None, rollout.error
        return sum(response.tokens for response in rollout.responses)

    try:
        await bare.run(sampler.engine, ours, seeds[:8])  # Warm.
        batches(peer, config, seeds[:8], batch)
        for turn in range(rounds):
            for who in sorted(found, reverse=bool(turn % 2)):
                if who == "ours":
                    tokens, seconds = await bare.run(sampler.engine, ours, seeds)
                else:
                    peer.reset_prefix_cache()
                    peer.reset_mm_cache()
                    tokens, seconds = batches(peer, config, seeds, batch)
                found[who].append(tokens / seconds)
                print(f"round {turn + 1}: {who} {tokens / seconds:,.0f} tokens/s", flush=True)
    finally:
        await sampler.close()
    return found


def _offline(given: dict[str, Any]) -> Any:
    from vllm import LLM

    return LLM(**given)


def batches(peer: Any, config: Config, seeds: Sequence[Seed], size: int) -> tuple[int, float]:
    """All seeds in batches: (tokens, seconds)."""
    pick = prompts.load_templates(config).pick
    tokens, start = 0, time.perf_counter()
    for at in range(0, len(seeds), size):
        some = seeds[at : at + size]
        chats = [_chat(prompts.render(pick(seed), seed), seed) for seed in some]
        params = [bare.parameters(config, seed, config.sampling.n) for seed in some]
        for output in peer.chat(chats, params, use_tqdm=False):
            tokens += sum(len(done.token_ids) for done in output.outputs)
    return tokens, time.perf_counter() - start


def _chat(prompt: str, seed: Seed) -> list[dict[str, Any]]:
    pictures = iter([open_image(read_bytes(ref)) for ref in seed.images])
    content = [
        {"type": "image_pil", "image_pil": next(pictures)}
        if part is None
        else {"type": "text", "text": part}
        for part in prompts.parts(prompt)
    ]
    return [{"role": "user", "content": content}]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
