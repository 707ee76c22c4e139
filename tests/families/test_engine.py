"""The real engine on tiny models of several families: responses, budgets, a continuation."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from bed import FAMILIES, SIDE, ask, picture

from mmpr_builder.engines.vllm import VllmSampler
from mmpr_builder.sampling import Continue, Request, Sample

NAMES = [name for name, family in FAMILIES.items() if family.engine]


@pytest.mark.families
@pytest.mark.parametrize("name", NAMES)
def test_the_engine_answers_with_each_budget_and_continues_without_the_picture(
    name: str, tmp_path: Path
) -> None:
    family = FAMILIES[name]
    family.make(tmp_path / "model")
    budget = ["images.tiles=12"] if family.tokens else []
    sampler = VllmSampler(ask(name, tmp_path / "model", *budget))
    try:
        asyncio.run(_answers(sampler, family.tokens or (0,)))
    finally:
        asyncio.run(sampler.close())


async def _answers(sampler: VllmSampler, tokens: tuple[int, ...]) -> None:
    large, used = picture(SIDE, SIDE), []
    for tiles in (1, 6, 12)[: len(tokens)]:
        asked = Request(
            id=f"seed-{tiles}",
            prompt="<image>\nHow many red shapes are there?",
            images=(large,),
            n=2,
            max_tokens=12,
            seed=7,
            tiles=tiles if len(tokens) > 1 else None,
        )
        samples: list[Sample] = [sample async for sample in sampler.sample(asked)]
        assert len(samples) == 2
        assert all(sample.tokens for sample in samples)
        used.append(samples[0].prompt_tokens)
        # Random weights write anything: where it can be cut it is continued.
        found = await sampler.continue_response(asked, samples[0], Continue(0.0, False, 8, 3))
        assert found is not None
        assert found.prefix == ""
        assert found.tokens
    # Beside the image tokens there are marks at rows and pieces.
    assert all(0 < n - least < 200 for n, least in zip(used, tokens, strict=True) if least)
