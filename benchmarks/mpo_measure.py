"""How often a model is right: one measurement of benchmarks/mpo.py, in a process of its own.

    python -m benchmarks.mpo_measure MODEL SEEDS RNG_SEED TEMPERATURE WORLD_SEED SAMPLES

It prints one line of JSON. The pipeline's own sampler and scorer, on seeds with a truth: SAMPLES
responses at a temperature (pass@1 is the share of them that is right, pass@8 the chance that one of
eight is, `agreement` the chance that two give the same answer), and one greedy response. Figures
are means over questions, `questions` has those of each. Of seeds without one, which the demo's
world drew from WORLD_SEED, `DESCRIPTIONS` responses and a greedy one are checked against the scene:
the share of their facts that is wrong, and how many they name (`descriptions`).
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
from mmpr_builder.demo.world import make_scene
from mmpr_builder.engines import make_sampler
from mmpr_builder.io.images import read_bytes
from mmpr_builder.records import Rollout, Seed
from mmpr_builder.scoring import Judge
from mmpr_builder.seeds import read_seeds
from tools.demo_model.facts import check

DESCRIPTIONS = 4


def main(
    model: str, seeds_path: str, rng_seed: str, temperature: str, world_seed: str, samples: str
) -> None:
    """Measure and print the figures as JSON."""
    every = [item for item in read_seeds(seeds_path) if isinstance(item, Seed)]
    seeds = [seed for seed in every if seed.has_truth]
    opened = [seed for seed in every if not seed.has_truth]
    common = [f"model={model}", f"sampling.seed={rng_seed}", "sampling.max_tokens=256"]
    heat = f"sampling.temperature={temperature}"
    free = load_config(None, [*common, f"sampling.n={samples}", heat])
    greedy = load_config(None, [*common, "sampling.n=1", "sampling.temperature=0"])
    told = load_config(None, [*common, f"sampling.n={DESCRIPTIONS}", heat])
    orders = [(seeds, free), (seeds, greedy), (opened, told), (opened, greedy)]
    sampled, best, descriptions, plain = asyncio.run(_answers(orders))
    with Judge() as judge:
        questions = [_question(rollout, judge) for rollout in sampled]
        greedy_ones = [_question(rollout, judge) for rollout in best]
    for one, other in zip(questions, greedy_ones, strict=True):
        one["greedy"] = other["pass@1"]
    names = ("pass@1", "pass@8", "greedy", "agreement", "tokens")
    means = {name: sum(one[name] for one in questions) / len(questions) for name in names}
    figures: dict[str, Any] = {"seeds": len(seeds), **means, "questions": questions}
    if opened:
        facts = [
            {**_facts(some, world_seed), "greedy": _facts(one, world_seed)["wrong"]}
            for some, one in zip(descriptions, plain, strict=True)
        ]
        figures["descriptions"] = facts
        for name in ("wrong", "named", "greedy"):
            figures[f"facts_{name}"] = sum(one[name] for one in facts) / len(facts)
    print(json.dumps(figures))


async def _answers(orders: list[tuple[list[Seed], Config]]) -> list[list[Rollout]]:
    """All responses from one loaded engine."""
    free = orders[0][1]
    sampler = make_sampler(free)
    pick = prompts.load_templates(free).pick

    async def ask(seeds: list[Seed], config: Config) -> list[Rollout]:
        return await asyncio.gather(
            *(sampling.roll_out(seed, 0, pick(seed), config, sampler, "mpo") for seed in seeds)
        )

    try:
        return [await ask(seeds, config) for seeds, config in orders]
    finally:
        await sampler.close()


def _facts(rollout: Rollout, world_seed: str) -> dict[str, Any]:
    """The mean share of wrong facts and number of facts named, and the picture."""
    assert rollout.error is None, rollout.error
    scene = make_scene(int(world_seed), int(rollout.seed.id.rpartition("-")[2]), "eval")
    found = [check(response.text, scene) for response in rollout.responses]
    return {
        "cluster": _picture(rollout.seed),
        "wrong": sum(one.share for one in found) / len(found),
        "named": sum(one.named for one in found) / len(found),
    }


def _picture(seed: Seed) -> str:
    return hashlib.sha256(b"".join(map(read_bytes, seed.images))).hexdigest()[:16]


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
        "cluster": _picture(seed),
        "pass@1": right / n,
        "pass@8": pass_at(min(8, n), right, n),
        "agreement": agreement([verdict.answer or "" for verdict in verdicts]),
        "tokens": sum(response.tokens for response in rollout.responses) / n,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
