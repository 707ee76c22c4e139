"""A LoRA adapter in the real engine, on a model of another family than the demo's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from engine_asks import drawn, picture, settings, using

from mmpr_builder.engines import check_engine, make_sampler
from mmpr_builder.sampling import Request

TARGETS = ["q_proj", "v_proj", "o_proj"]


def adapter(folder: Path, rank: int = 4) -> Path:
    """Random, and large enough that every token feels it."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    torch.manual_seed(1)
    width = tiny_models.TEXT["hidden_size"]
    weights = {}
    for layer in range(tiny_models.TEXT["num_hidden_layers"]):
        for target in TARGETS:
            name = f"base_model.model.model.language_model.layers.{layer}.self_attn.{target}"
            weights[f"{name}.lora_A.weight"] = torch.randn(rank, width)
            weights[f"{name}.lora_B.weight"] = torch.randn(width, rank)
    save_file(weights, folder / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "target_modules": TARGETS}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    return folder


@pytest.mark.families
def test_answers_are_the_adapters_own(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    words = (
        f"model={tiny_models.internvl_hf(tmp_path / 'model')}",
        *(f"lora={adapter(tmp_path / 'adapter')}", "sampling.max_tokens=12", "sampling.n=1"),
    )
    config = settings(*words, max_num_seqs=4)
    check_engine(config)
    sampler: Any = make_sampler(config)
    ask = Request("a", "<image>\nDescribe.", (picture(),), n=1, temperature=0.0, max_tokens=12)

    async def both() -> tuple[Any, Any]:
        adapted = await drawn(sampler, ask)
        sampler._lora = None
        return adapted[0].token_ids, (await drawn(sampler, ask))[0].token_ids

    adapted, plain = using(sampler, both())
    assert adapted != plain
    assert len(adapted) == len(plain) == 12
