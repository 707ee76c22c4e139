"""Builds of a few questions, answered by fakes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import fake_samplers

from mmpr_builder.config import Config, load_config
from mmpr_builder.io.tables import list_parts, read_parquet, rollouts_from_table
from mmpr_builder.records import Rollout
from mmpr_builder.runs import plan
from mmpr_builder.runs.actors import SamplerActor


def make_config(tmp_path: Path, count: int, *overrides: str, out: str = "out") -> Config:
    """A build of `count` small questions (one in five without a truth) and of four bad rows."""
    rows = [
        {
            "id": f"q{i}",
            "question": f"What is {i} + 1?",
            **({"answer": str(i % 3)} if i % 5 else {}),
        }
        for i in range(count)
    ] + [{"id": f"bad{i}"} for i in range(4)]
    rows = rows[-2:] + rows[:-2]
    (tmp_path / "seeds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_config(
        None,
        [
            "sampling.engine=endpoint",
            "sampling.endpoint.url=http://127.0.0.1:9/v1",
            "sampling.n=4",
            "model=fake",
            f"seeds={tmp_path / 'seeds.jsonl'}",
            f"out={tmp_path / out}",
            "distributed.unit_queries=4",
            *overrides,
        ],
    )


def rollouts(config: Config) -> list[Rollout]:
    return [
        rollout
        for uri in list_parts(f"{config.out}/rollouts")
        for rollout in rollouts_from_table(read_parquet(uri))
    ]


def ids(config: Config) -> list[str]:
    return [rollout.seed.id for rollout in rollouts(config)]


def sample_here(config: Config) -> None:
    """The first half without Ray: one actor as a plain object, unit after unit."""

    async def work() -> None:
        actor = SamplerActor(config, fake_samplers.answers)
        assert (await actor.start())[1] == ""
        for key, unit in enumerate(plan(config).units):
            assert (await actor.sample(key, unit, None)).published
        await actor.close()

    asyncio.run(work())
