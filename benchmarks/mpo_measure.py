"""How often a model is right: one measurement of benchmarks/mpo.py, in a process of its own.

    python -m benchmarks.mpo_measure MODEL SEEDS RNG_SEED [TEMPERATURE]    prints one line of JSON

The pipeline's own sampler and scorer, on seeds with a truth: `SAMPLES` responses at a temperature
(pass@1 is the share of them that is right, pass@8 the chance that one of eight is, `agreement` the
chance that two give the same answer), and one greedy response. Figures are means over questions,
`questions` has those of each.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from typing import Any

from benchmarks.mpo_compare import agreement, pass_at
from mmpr_builder import prompts, sampling
from mmpr_builder.config import Config, load_config
from mmpr_builder.engines import make_sampler
from mmpr_builder.io.images import read_bytes
from mmpr_builder.records import Rollout, Seed
from mmpr_builder.scoring import Judge
from mmpr_builder.seeds import read_seeds

SAMPLES = 16


def main(model: str, seeds_path: str, rng_seed: str, temperature: str = "1.0") -> None:
    """Measure and print `Figures` as JSON."""
    seeds = [item for item in read_seeds(seeds_path) if isinstance(item, Seed) and item.has_truth]
    common = [f"model={model}", f"sampling.seed={rng_seed}", "sampling.max_tokens=256"]
    heat = f"sampling.temperature={temperature}"
    free = load_config(None, [*common, f"sampling.n={SAMPLES}", heat])
    greedy = load_config(None, [*common, "sampling.n=1", "sampling.temperature=0"])
    sampled, best = asyncio.run(_answers(seeds, free, greedy))
    with Judge() as judge:
        questions = [_question(rollout, judge) for rollout in sampled]
        greedy_ones = [_question(rollout, judge) for rollout in best]
    for one, other in zip(questions, greedy_ones, strict=True):
        one["greedy"] = other["pass@1"]
    names = ("pass@1", "pass@8", "greedy", "agreement", "tokens")
    means = {name: sum(one[name] for one in questions) / len(questions) for name in names}
    print(json.dumps({"seeds": len(seeds), **means, "questions": questions}))


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


def _question(rollout: Rollout, judge: Judge) -> dict[str, Any]:
    """The figures of one question, and the picture that it is about."""
    assert rollout.error is None, rollout.error
    seed = rollout.seed
    verdicts = [
        judge.score_response(
            response.text,
            seed.answers,
            style=rollout.style,
            choices=seed.choices,
            question=seed.question,
        )
        for response in rollout.responses
    ]
    n, right = len(verdicts), sum(verdict.outcome == "correct" for verdict in verdicts)
    return {
        "id": seed.id,
        "cluster": hashlib.sha256(b"".join(map(read_bytes, seed.images))).hexdigest()[:16],
        "pass@1": right / n,
        "pass@8": pass_at(min(8, n), right, n),
        "agreement": agreement([verdict.answer or "" for verdict in verdicts]),
        "tokens": sum(response.tokens for response in rollout.responses) / n,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
