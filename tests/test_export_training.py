"""Pairs train with MPO in TRL as they are: single images, several and none, new and imported."""

from __future__ import annotations

from pathlib import Path

import pytest
from pair_samples import sample_rollouts, write_build

from mmpr_builder import load_pairs
from mmpr_builder.demo import model_path
from mmpr_builder.export import FORMATS, ExportOptions, write_export
from mmpr_builder.export.importing import import_pairs
from mmpr_builder.export.lint import lint_folder


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
