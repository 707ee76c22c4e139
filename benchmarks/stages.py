"""Every stage of training from one build: what SFT, KTO, DPO, MPO and GRPO make of the demo model.

    python -m benchmarks.stages [--repeats 3] [--seeds 400] [--held_out 720] [--steps 92]
                                [--grpo_steps 12] [--rate 8e-5] [--work out/bench-stages]

Each repeat samples its own training seeds once, with reference log-probabilities, and trains the
demo model with TRL on each export of that build. DPO and MPO run twice: with a reference model, and
with the columns in its place; CPU time and memory of the second are ratios to the first, on the
same rows. Measured as in benchmarks/mpo.py; what is finished in the work folder is not done again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.mpo import (
    BUILD,
    HELD_OUT_SEED,
    TRAIN_SEED,
    TRAINING,
    gains,
    measured,
    refuse_overlap,
    run_module,
)
from benchmarks.results import parser, record, spread, table
from mmpr_builder.demo import model_path, write_seeds

STAGES = ("sft", "kto", "dpo", "dpo+ref", "mpo", "mpo+ref", "grpo")
_RECIPE = "pipelines/demo.yaml"


def main(words: list[str]) -> int:
    """Run what is not there yet, write the table; 1 if the columns train to other losses."""
    options = parser("stages", repeats=3, seeds=400, held_out=720, steps=92, grpo_steps=12)
    options.add_argument("--work", type=Path, default=Path("out/bench-stages"))
    options.add_argument("--rate", type=float, default=TRAINING["rate"], help="of learning")
    args = options.parse_args(words)
    held_out = write_seeds(args.work / "held-out", args.held_out, seed=HELD_OUT_SEED)
    found: dict[str, list[dict[str, Any]]] = {}
    for repeat in range(args.repeats):
        work = args.work / f"repeat-{repeat}"
        training = write_seeds(work / "seeds", args.seeds, seed=TRAIN_SEED + repeat)
        refuse_overlap(training, held_out)
        build = work / "build"
        if not (build / "run.json").exists():
            asked = (f"seeds={training}", f"out={build}", "sampling.logprobs=tokens", *BUILD)
            run_module("mmpr_builder", "build", _RECIPE, *asked, *args.settings)
        before = measured(model_path(), held_out, repeat, work / "before.json")
        for stage in STAGES:
            steps = args.grpo_steps if stage == "grpo" else args.steps
            how = {"seed": repeat, "steps": steps, "rate": args.rate}
            trained = _trained(stage, build, work / stage, how)
            after = measured(work / stage / "model", held_out, repeat, work / f"{stage}.json")
            found.setdefault(stage, []).append({"before": before, "after": after, **trained})
    apart = max(_apart(found[f"{name}+ref"], found[name]) for name in ("dpo", "mpo"))
    record(
        "stages", "All stages from one build", list(_lines(found, apart, args.rate)), args.results
    )
    return 0 if apart < 0.05 else 1


def _trained(stage: str, build: Path, work: Path, how: dict[str, Any]) -> dict[str, Any]:
    model, data = work / "model", build
    if stage in ("sft", "kto", "grpo"):
        data = work / "data"
        if not (data / "export.json").exists():
            run_module("mmpr_builder", "export", str(build), str(data), "--to", stage)
    if not (model / "training.json").exists():
        told = json.dumps({**TRAINING, **how})
        run_module("benchmarks.stages_train", stage, str(data), str(model), told)
    found: dict[str, Any] = json.loads((model / "training.json").read_text(encoding="utf-8"))
    return {**found, "steps": how["steps"]}


def _apart(runs: list[dict[str, Any]], others: list[dict[str, Any]]) -> float:
    """The greatest difference between two losses of the same step."""
    losses = [
        [[e["loss"] for e in r["log"] if "loss" in e] for r in each] for each in (runs, others)
    ]
    return max(
        abs(float(left) - float(right))
        for one, other in zip(*losses, strict=True)
        for left, right in zip(one, other, strict=True)
    )


def _lines(found: dict[str, list[dict[str, Any]]], apart: float, rate: float) -> Iterator[str]:
    runs = found["mpo"]
    before = runs[0]["before"]
    yield (
        f"The demo model before: pass@1 {100 * before['pass@1']:.1f}, greedy"
        f" {100 * before['greedy']:.1f}, of {before['seeds']} seeds held out, wrong facts in"
        f" descriptions {100 * before['facts_wrong']:.1f} %; repeats: {len(runs)}, learning rate"
        f" {rate}, batch {TRAINING['batch']}. Points gained with 95 % intervals over"
        " pictures and repeats. `+ref` takes the reference from the build's columns; its losses"
        f" differ by at most {apart:.4f} from those with a reference model."
    )
    yield ""
    header = ("stage", "rows", "steps", "pass@1", "greedy", "wrong facts", "CPU time", "memory")
    yield from table(header, [_row(stage, each, found) for stage, each in found.items()])


def _row(
    stage: str, runs: list[dict[str, Any]], found: dict[str, list[dict[str, Any]]]
) -> list[object]:
    pairs = list(zip(runs, found[stage.removesuffix("+ref")], strict=True))
    ratios = [
        f"× {spread([run[what] / plain[what] for run, plain in pairs], 2)}" if "+" in stage else ""
        for what in ("seconds", "mib")
    ]
    figures = [gains(runs, figure) for figure in ("pass@1", "greedy")]
    figures.append(gains(runs, "wrong", "descriptions"))
    return [stage, spread([run["rows"] for run in runs]), runs[0]["steps"], *figures, *ratios]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
