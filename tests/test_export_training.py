"""Pairs train with MPO in TRL as they are, and the exports of other stages with SFT, KTO and GRPO:
single images, several and none, new and imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pair_samples import LastWord, sample_rollouts, write_build

from mmpr_builder import Config, load_pairs
from mmpr_builder.demo import model_path
from mmpr_builder.export import FORMATS, ExportOptions, write_export
from mmpr_builder.export.importing import import_pairs
from mmpr_builder.export.lint import lint_folder
from mmpr_builder.export.verl_reward import trl_reward


@pytest.mark.slow
def test_mixed_pairs_train_with_mpo_in_trl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    torch = pytest.importorskip("torch")
    trl = pytest.importorskip("trl")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    new, release, old = (str(tmp_path / name) for name in ("new", "release", "old"))
    write_build(tmp_path / "new", sample_rollouts(tmp_path / "images"))
    write_export([new], FORMATS["internvl"], release, ExportOptions(sources=("grid",)))
    import_pairs(f"{release}/meta.json", old)
    for out in (new, old):
        assert not lint_folder(out, FORMATS["trl"], model=str(model_path())).counts
    pairs = load_pairs([new, old])
    assert [len(row["images"]) for row in pairs].count(0) == 1
    assert {len(row["images"]) for row in pairs} == {0, 1, 2}
    torch.manual_seed(0)
    arguments = trl.DPOConfig(
        output_dir=str(tmp_path / "trained"),
        loss_type=["sigmoid", "bco_pair", "sft"],
        loss_weights=[0.8, 0.2, 1.0],
        beta=0.1,
        learning_rate=1e-4,
        max_length=None,
        max_steps=5,
        per_device_train_batch_size=4,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
    )
    trainer = trl.DPOTrainer(model=str(model_path()), args=arguments, train_dataset=pairs)
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 5  # 19 pairs in batches of 4: every pair was seen.
    assert all(0 < loss < 50 for loss in losses)
    moved = [
        n for n, value in trainer.model.named_parameters() if not torch.equal(value, before[n])
    ]
    assert any("vision" in name for name in moved)


OF_STAGE: dict[str, dict[str, Any]] = {
    "sft": {"max_length": None},
    "kto": {"max_length": None},
    "grpo": {"num_generations": 2, "max_completion_length": 8, "beta": 0.0},
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", OF_STAGE)
def test_the_other_stages_train_in_trl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    import datasets

    torch = pytest.importorskip("torch")
    trl = pytest.importorskip("trl")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rollouts = [(rollout, Config()) for rollout in sample_rollouts(tmp_path / "images")]
    dest, form = tmp_path / "dest", FORMATS[stage]
    write_export(["out"], form, str(dest), ExportOptions(), lambda: rollouts, LastWord())
    files = str(dest / "train" / "*.parquet")
    data = datasets.load_dataset("parquet", data_files=files, split="train")
    counts = {len(row["images"]) for row in data}
    assert counts == ({1, 2} if stage == "grpo" else {0, 1, 2})
    torch.manual_seed(0)
    configs = {"sft": trl.SFTConfig, "kto": trl.KTOConfig, "grpo": trl.GRPOConfig}
    trainers = {"sft": trl.SFTTrainer, "kto": trl.KTOTrainer, "grpo": trl.GRPOTrainer}
    arguments = configs[stage](
        output_dir=str(tmp_path / "trained"),
        learning_rate=1e-3,
        max_steps=2,
        per_device_train_batch_size=4,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        **OF_STAGE[stage],
    )
    judged: list[float] = []

    def reward(**columns: Any) -> list[float]:
        given = trl_reward(**columns)
        judged.extend(given)
        return given

    rewards = {"reward_funcs": reward} if stage == "grpo" else {}
    trainer = trainers[stage](
        model=str(model_path()), args=arguments, train_dataset=data, **rewards
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2
    assert stage == "grpo" or all(0 < loss < 50 for loss in losses)
    assert len(judged) == (8 if stage == "grpo" else 0)
    assert set(judged) <= {0.0, 1.0}
