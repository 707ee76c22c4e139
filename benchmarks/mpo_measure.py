"""How often a model is right: one measurement of benchmarks/mpo.py, in a process of its own.

    python -m benchmarks.mpo_measure MODEL SEEDS RNG_SEED    prints one line of JSON

The pipeline's own sampler and scorer, on seeds with a truth: `SAMPLES` responses at temperature 1.0
(pass@1 is the share of them that is right) and one greedy response.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from mmpr_builder import prompts, sampling
from mmpr_builder.config import Config, load_config
from mmpr_builder.engines import make_sampler
from mmpr_builder.records import Rollout, Seed
from mmpr_builder.scoring import Judge
from mmpr_builder.seeds import read_seeds

SAMPLES = 4


def main(model: str, seeds_path: str, rng_seed: str) -> None:
    """Measure and print `Figures` as JSON."""
    seeds = [item for item in read_seeds(seeds_path) if isinstance(item, Seed) and item.has_truth]
    common = [f"model={model}", f"sampling.seed={rng_seed}", "sampling.max_tokens=256"]
    free = load_config(None, [*common, f"sampling.n={SAMPLES}"])
    greedy = load_config(None, [*common, "sampling.n=1", "sampling.temperature=0"])
    sampled, best = asyncio.run(_answers(seeds, free, greedy))
    with Judge() as judge:
        found = {
            "seeds": len(seeds),
            **_figures("pass@1", sampled, judge),
            **_figures("greedy", best, judge),
        }
    print(json.dumps(found))


async def _answers(
    seeds: list[Seed], free: Config, greedy: Config
) -> tuple[list[Rollout], list[Rollout]]:
    """Both kinds of responses from one loaded engine."""
    sampler = make_sampler(free)
    pick = prompts.load_templates(free).pick

    async def ask(config: Config) -> list[Rollout]:
        return await asyncio.gather(
            *(sampling.roll_out(seed, 0, pick(seed), config, sampler, "mpo") for seed in seeds)
        )

    try:
        return await ask(free), await ask(greedy)
    finally:
        await sampler.close()


def _figures(name: str, rollouts: list[Rollout], judge: Judge) -> dict[str, Any]:
    """Shares of right responses and of those without an answer, and the mean length in tokens."""
    outcomes, tokens = [], 0
    for rollout in rollouts:
        assert rollout.error is None, rollout.error
        for response in rollout.responses:
            verdict = judge.score_response(
                response.text,
                rollout.seed.answers,
                style=rollout.style,
                choices=rollout.seed.choices,
                question=rollout.seed.question,
            )
            outcomes.append(verdict.outcome)
            tokens += response.tokens
    return {
        name: outcomes.count("correct") / len(outcomes),
        f"{name} no answer": outcomes.count("no_answer") / len(outcomes),
        f"{name} tokens": tokens / len(outcomes),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
