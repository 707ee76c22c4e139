"""One training run of benchmarks/mpo.py, in a process of its own: MPO with TRL on a build's pairs.

    python -m benchmarks.mpo_train PAIRS OUT '{"kinds": [...], "losses": {...}, "rate": 5e-5, …}'

What is called here is what the README tells users to call: `load_pairs` into `DPOTrainer`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import mmpr_builder as mb
from mmpr_builder.demo import model_path


def main(pairs_folder: str, out: str, told: str) -> None:
    """Train the demo model, write it to `out` with `training.json` beside it."""
    import trl

    how = json.loads(told)
    pairs = mb.load_pairs(pairs_folder)
    pairs = pairs.filter(lambda kind: kind in how["kinds"], input_columns="kind")
    if "ids" in how:
        ids = set(how["ids"])
        pairs = pairs.filter(ids.__contains__, input_columns="id")
    arguments = trl.DPOConfig(
        output_dir=f"{out}/log",
        loss_type=list(how["losses"]),
        loss_weights=list(how["losses"].values()),
        beta=0.1,
        max_length=None,
        learning_rate=how["rate"],
        lr_scheduler_type="cosine",
        warmup_steps=10,
        max_steps=how["steps"],
        per_device_train_batch_size=how["batch"],
        seed=how["seed"],
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        save_strategy="no",
        logging_steps=20,
        report_to=[],
        disable_tqdm=True,
    )
    trainer = trl.DPOTrainer(model=str(model_path()), args=arguments, train_dataset=pairs)
    began = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - began
    trainer.save_model(out)
    trainer.processing_class.save_pretrained(out)
    record = {"pairs": len(pairs), "seconds": seconds, "log": trainer.state.log_history}
    Path(out, "training.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
