"""Builds of a few questions, answered by fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import fake_samplers
from build_files import rollouts_in, write_jsonl

from mmpr_builder.config import Config, load_config
from mmpr_builder.folder import parts
from mmpr_builder.folder.manifest import Manifest
from mmpr_builder.progress import Progress
from mmpr_builder.runs import plan
from mmpr_builder.runs.actors import Counts, SamplerActor
from mmpr_builder.sampling import Sampler

SERVED = ("sampling.engine=endpoint", "sampling.endpoint.url=http://127.0.0.1:9/v1")
"""An engine that needs no model here; nothing answers at that port."""


class Notes(Progress):
    """Keeps what a person would have been told."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def make_config(tmp_path: Path, count: int, *overrides: str, out: str = "out") -> Config:
    """A build of `count` small questions and of four bad rows."""
    rows = [
        {"id": f"q{i}", "question": f"What is {i} + 1?", "answer": str(i % 3)} for i in range(count)
    ] + [{"id": f"bad{i}"} for i in range(4)]
    rows = rows[-2:] + rows[:-2]
    seeds = write_jsonl(tmp_path / "seeds.jsonl", rows)
    return load_config(
        None,
        [
            *(*SERVED, "sampling.n=4", "model=fake", "distributed.unit_queries=4"),
            *(f"seeds={seeds}", f"out={tmp_path / out}"),
            *overrides,
        ],
    )


def ids(config: Config) -> list[str]:
    return [rollout.seed.id for rollout in rollouts_in(config.out)]


def sample_here(
    config: Config,
    factory: Callable[[Config], Sampler] = fake_samplers.answers,
    *,
    extend: bool = False,
    manifest: Manifest | None = None,
) -> tuple[list[str], Counts]:
    """The first half without Ray: one actor as a plain object, unit after unit.

    Returns the units that were not there yet, and what was counted in them.
    """

    async def work() -> tuple[list[str], Counts]:
        actor = SamplerActor(config, factory)
        assert (await actor.start())[1] == ""
        planned = manifest or plan(config, extend=extend)
        done = parts.published(config.out, planned.units)
        names, counts = [], Counts()
        for key, unit in enumerate(planned.units):
            if unit.name not in done:
                result = await actor.sample(key, unit, None)
                assert result.published, result.failure
                names.append(unit.name)
                counts += result.kept
        await actor.close()
        return names, counts

    return asyncio.run(work())
