"""What is gained over the usual schedule? Ours against the released scripts', on one engine.

    python -m benchmarks.reference_schedule [--seeds 40] [--n 32] [--rounds 5] [key=value …]

The schedule of the scripts that made MMPR (OpenGVLab/InternVL, reasoning_data_pipeline), rewritten
here: one response per round, 32 rounds; in each round batches of 8 that wait for their slowest;
every time the image is decoded, the prompt rendered and both encoded anew. Ours is `roll_out` on
all seeds at once. Both use one loaded engine in turn and begin with empty caches. Goal: 3 times its
token rate.
"""

from __future__ import annotations

import asyncio
import statistics
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
from mmpr_builder.engines import make_sampler
from mmpr_builder.io.images import read_bytes
from mmpr_builder.records import Seed
from mmpr_builder.seeds import read_seeds

GOAL = 3.0
BATCH = 8
SETTINGS = ("sampling.max_tokens=512", "dropout.apply=none")


def main(words: list[str]) -> int:
    """Measure and record; 1 if the goal is missed."""
    options = parser("reference_schedule", seeds=40, n=32, rounds=5).parse_args(words)
    config = load_config(None, [*SETTINGS, f"sampling.n={options.n}", *options.settings])
    with tempfile.TemporaryDirectory() as folder:
        path = write_seeds(Path(folder) / "seeds", options.seeds)
        seeds = [item for item in read_seeds(path) if isinstance(item, Seed)]
        found = asyncio.run(measure(config, seeds, options.rounds))
    gains = [ours / theirs for ours, theirs in zip(found["ours"], found["theirs"], strict=True)]
    gain = spread(gains, 2)
    lengths = sorted(found["lengths"])
    tail = lengths[int(0.99 * len(lengths))]
    lines = [
        f"**{gain} times the token rate of the reference's schedule**, goal {GOAL:.0f}:"
        f" {len(seeds)} seeds x {options.n} responses, {options.rounds} rounds of both in turn."
        f" Responses have {statistics.fmean(lengths):.0f} tokens on average, {tail:.0f} at the"
        f" 99th percentile, {lengths[-1]:.0f} at most.",
        "",
        *table(
            ("schedule", "tokens/s"),
            [
                ("all seeds at once, all responses in one request", spread(found["ours"])),
                (f"batches of {BATCH}, one response per round", spread(found["theirs"])),
            ],
        ),
    ]
    title = "Against the reference's schedule"
    record("reference_schedule", title, lines, options.results)
    return 0 if gain.median >= GOAL else 1


async def measure(config: Config, seeds: Sequence[Seed], rounds: int) -> dict[str, list[float]]:
    """Token rates of each round, and the lengths of our responses in tokens."""
    sampler: Any = make_sampler(config)
    pick = prompts.load_templates(config).pick
    found: dict[str, list[float]] = {"ours": [], "theirs": [], "lengths": []}

    async def ours(seed: Seed) -> int:
        rollout = await sampling.roll_out(seed, 0, pick(seed), config, sampler, "bench")
        assert rollout.error is None, rollout.error
        lengths = [response.tokens for response in rollout.responses]
        found["lengths"] += lengths
        return sum(lengths)

    try:
        await bare.run(sampler.engine, ours, seeds[:8])  # Warm.
        found["lengths"].clear()
        for turn in range(rounds):
            for who in ("ours", "theirs") if turn % 2 else ("theirs", "ours"):
                if who == "ours":
                    tokens, seconds = await bare.run(sampler.engine, ours, seeds)
                else:
                    tokens, seconds = await theirs(sampler.engine, config, seeds)
                found[who].append(tokens / seconds)
                print(f"round {turn + 1}: {who} {tokens / seconds:,.0f} tokens/s", flush=True)
    finally:
        await sampler.close()
    return found


async def theirs(
    engine: Any, config: Config, seeds: Sequence[Seed], frame: bare.Frame = bare.DEMO
) -> tuple[int, float]:
    """The reference's schedule: (tokens, seconds)."""
    pick = prompts.load_templates(config).pick
    tokens, start = 0, time.perf_counter()

    async def one(seed: Seed, number: int) -> int:
        images = [read_bytes(ref) for ref in seed.images]
        prompt = bare.prompt_of(prompts.render(pick(seed), seed), images, frame)
        return await bare.tokens_of(engine, prompt, bare.parameters(config, seed, 1, number))

    for number in range(config.sampling.n):
        await bare.empty_caches(engine)
        for at in range(0, len(seeds), BATCH):
            batch = seeds[at : at + BATCH]
            tokens += sum(await asyncio.gather(*(one(seed, number) for seed in batch)))
    return tokens, time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
