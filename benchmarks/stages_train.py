"""One training run of benchmarks/stages.py, in a process of its own, with TRL on the demo model.

    python -m benchmarks.stages_train STAGE DATA OUT '{"rate": 4e-5, "batch": 16, "steps": 92, …}'

STAGE is sft, kto or grpo (DATA: an export), dpo or mpo (DATA: a build), or one of these two with
`+ref`: the build's reference log-probabilities instead of a second model.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import mmpr_builder as mb
from mmpr_builder.demo import model_path
from mmpr_builder.export.verl_reward import trl_reward
from mmpr_builder.reference import StoredReference

LOSSES = {"dpo": {"sigmoid": 1.0}, "mpo": {"sigmoid": 0.8, "bco_pair": 0.2, "sft": 1.0}}
COLUMNS = ["ref_chosen_logps", "ref_rejected_logps"]


def main(stage: str, data: str, out: str, told: str) -> None:
    """Train, write the model to `out` with `training.json` beside it."""
    how = json.loads(told)
    trainer = _trainer(stage, data, out, how)
    began = time.process_time()  # Of all its threads: other work on the machine does not count.
    trainer.train()
    seconds = time.process_time() - began
    trainer.save_model(out)
    trainer.processing_class.save_pretrained(out)
    record = {
        "rows": len(trainer.train_dataset),
        "seconds": seconds,
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "log": trainer.state.log_history,
    }
    Path(out, "training.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


def _trainer(stage: str, data: str, out: str, how: dict[str, Any]) -> Any:
    import trl
    from datasets import load_dataset

    same = {
        **{"output_dir": f"{out}/log", "learning_rate": how["rate"], "max_steps": how["steps"]},
        **{"per_device_train_batch_size": how["batch"], "seed": how["seed"], "bf16": False},
        **{"lr_scheduler_type": "cosine", "warmup_steps": 10, "gradient_checkpointing": False},
        **{"use_cpu": True, "save_strategy": "no", "logging_steps": 1, "report_to": []},
        **{"disable_tqdm": True},
    }
    name, _, reference = stage.partition("+")
    model = str(model_path())
    if name in LOSSES:
        losses = {"loss_type": list(LOSSES[name]), "loss_weights": list(LOSSES[name].values())}
        args = trl.DPOConfig(**same, **losses, beta=0.1, max_length=None)
        # The same rows in the same order with and without the columns.
        pairs = mb.load_pairs(data).filter(lambda *sums: None not in sums, input_columns=COLUMNS)
        bases = (StoredReference, trl.DPOTrainer) if reference else (trl.DPOTrainer,)
        return type("Trainer", bases, {})(model=model, args=args, train_dataset=pairs)
    rows = load_dataset("parquet", data_files=f"{data}/train/*.parquet", split="train")
    if name == "grpo":
        args = trl.GRPOConfig(**same, num_generations=8, max_completion_length=256, beta=0.0)
        return trl.GRPOTrainer(model=model, args=args, train_dataset=rows, reward_funcs=trl_reward)
    kinds = {"sft": (trl.SFTConfig, trl.SFTTrainer), "kto": (trl.KTOConfig, trl.KTOTrainer)}
    settings, kind = kinds[name]
    return kind(model=model, args=settings(**same, max_length=None), train_dataset=rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
