"""The real engine on tiny models of several families: responses, budgets, a continuation."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from bed import BY_HAND, FAMILIES, SIDE, ask, edit, picture

from mmpr_builder.config import Config
from mmpr_builder.engines.vllm import VllmSampler
from mmpr_builder.sampling import Continue, Request, Sample

NAMES = [name for name, family in FAMILIES.items() if family.engine]


@pytest.mark.families
@pytest.mark.parametrize("name", NAMES)
def test_the_engine_answers_with_each_budget_and_continues_without_the_picture(
    name: str, tmp_path: Path
) -> None:
    budget = ["images.tiles=12"] if FAMILIES[name].tokens else []
    used = answered(name, FAMILIES[name].make(tmp_path / "model"), *budget)
    # Beside the image tokens there are marks at rows and pieces.
    least = FAMILIES[name].tokens or (0,)
    assert all(0 < n - tokens < 200 for n, tokens in zip(used, least, strict=True) if tokens)


@pytest.mark.families
@pytest.mark.parametrize("name", ["llava_next", "pixtral_hf"])
def test_pictures_made_smaller_by_hand_reach_the_model(name: str, tmp_path: Path) -> None:
    model = edit(FAMILIES[name].make(tmp_path / "model"), BY_HAND[name][1])
    (used,) = answered(name, model)
    assert used < 1_300  # 2,500 and more without.


def answered(name: str, folder: Path, *words: str) -> list[int]:
    """The lengths of the prompts with a large picture, all of which were answered."""
    return asyncio.run(_answers(ask(name, folder, *words), FAMILIES[name].tokens or (0,)))


async def _answers(config: Config, tokens: tuple[int, ...]) -> list[int]:
    sampler = VllmSampler(config)
    try:
        return await _asked(sampler, tokens)
    finally:
        await sampler.close()


async def _asked(sampler: VllmSampler, tokens: tuple[int, ...]) -> list[int]:
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
    return used
