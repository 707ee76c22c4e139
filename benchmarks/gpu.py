"""One GPU, ten minutes, nobody watching: what a build makes of it with models of real size.

    python -m benchmarks.gpu [--minutes 10] [--shapes qwen2_5_vl,internvl] [--size tiny] [key=value]

Models have the shapes of families that people train and random weights, made on the GPU: nothing is
downloaded, and every response runs to its `sampling.max_tokens`. On one loaded engine in turn:

    ÷ bare engine            our sampler beside the bare `AsyncLLM`, same requests     goal 0.97
    ÷ reference's schedule   beside batches of 8, one response per round               goal 3
    images/s                 at 448, 896 and 1344 px, n responses each
    pairs per GPU-hour       of DropoutNTP: the token rate over the 571.2 tokens that one takes in
                             the paper (arXiv 2411.10442, section 3.1)
    memory                   of the GPU, as nvidia-smi says

A whole build on Ray comes last, with an engine of its own. Each model has its share of the time;
what there is none left for is named in the report, and so is what failed. `needed` is the sum that
the defaults were chosen by. `--size tiny` rehearses all of it where there is no GPU.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import bare, engine_rate, reference_schedule
from benchmarks.gpu_models import SHAPES, Shape
from benchmarks.results import parser, record, spread, table
from mmpr_builder import prompts, sampling
from mmpr_builder.config import Config, load_config
from mmpr_builder.engines import make_sampler
from mmpr_builder.records import Seed
from mmpr_builder.seeds import read_seeds

SIDES = (448, 896, 1344)
TOKENS_PER_PAIR = 571.2
RATE, LOADING_S, BESIDE_S = 8_000, 60, 25
"""What `needed` assumes of a card of 80 GiB: tokens per second, seconds until an engine is up, and
those for warming up, the reference's schedule and Ray."""
GOALS = {"bare": engine_rate.GOAL, "reference": reference_schedule.GOAL}
SETTINGS = ("dropout.apply=none", "engine.load_format=dummy", "engine.max_model_len=8192")


def main(words: list[str]) -> int:
    """Measure what time allows, and record it; 1 if a goal is missed or something failed."""
    options = _options(words)
    lines, fine = [f"GPU: {gpu_name()}. Random weights; {options.seeds} seeds x {options.n}"], True
    lines[0] += f" responses of {options.tokens} tokens, {options.rounds} rounds."
    shapes, start = options.shapes.split(","), time.monotonic()
    for number, name in enumerate(shapes, 1):
        deadline = start + 60 * options.minutes * number / len(shapes)
        with tempfile.TemporaryDirectory() as folder:
            found: dict[Any, Any] = {}
            try:
                measure_shape(SHAPES[name], Path(folder), options, deadline, found)
            except Exception as error:  # noqa: BLE001 - the other shape is still to be measured
                traceback.print_exc()
                found["failed"] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        lines += ["", *report(SHAPES[name], options.size, found)]
        fine = fine and "failed" not in found and not missed(found)
        record("gpu", "On one GPU", lines, options.results, show=False)  # What there is, is kept.
    print("\n".join(lines), flush=True)
    return 0 if fine else 1


def _options(words: list[str]) -> Any:
    found = parser("gpu", seeds=32, n=32, tokens=128, rounds=2, minutes=10)
    found.add_argument("--shapes", default=",".join(SHAPES), help="default: %(default)s")
    found.add_argument("--size", choices=("full", "tiny"), default="full")
    options = found.parse_args(words)
    unknown = set(options.shapes.split(",")) - set(SHAPES)
    if unknown:
        found.error(f"--shapes: {', '.join(sorted(unknown))} is none of {', '.join(SHAPES)}")
    return options


def needed(options: Any) -> float:
    """Seconds that it all takes at `RATE`."""
    runs = 2 * options.rounds + len(SIDES) + 2  # Each round and the build with the bare engine's.
    tokens = runs * options.seeds * options.n * options.tokens
    return float(len(options.shapes.split(",")) * (tokens / RATE + 2 * LOADING_S + BESIDE_S))


def measure_shape(
    shape: Shape, folder: Path, options: Any, deadline: float, found: dict[Any, Any]
) -> None:
    """All figures of one model, put into `found` as they come."""
    model = folder / "model"
    shape.make(model, options.size)
    path = write_pictures(folder / "seeds", options.seeds, 448)
    config = load_config(
        None,
        [
            *(*SETTINGS, *shape.settings, f"model={model}", f"seeds={path}"),
            *(f"sampling.n={options.n}", f"sampling.max_tokens={options.tokens}"),
            *options.settings,
        ],
    )
    asyncio.run(_on_one_engine(shape, folder, config, options, deadline, found))
    if time.monotonic() + found["loading"] + 1.2 * found["round"] > deadline:
        found["left out"] = [*found.get("left out", []), "the whole build"]
        return
    seeds = read(path)
    rounds, _ = engine_rate.build_rates(config, seeds, 1, folder, shape.frame)
    found["build"] = [ours.rate / alone.rate for ours, alone in rounds]


async def _on_one_engine(
    shape: Shape, folder: Path, config: Config, options: Any, deadline: float, found: dict[Any, Any]
) -> None:
    start = time.monotonic()
    sampler: Any = make_sampler(config)
    found["loading"] = time.monotonic() - start
    try:
        start = time.monotonic()
        seeds = read(folder / "seeds" / "seeds.jsonl")
        rounds = await engine_rate.in_turn(sampler, config, seeds, options.rounds, shape.frame)
        found["round"] = (time.monotonic() - start) / options.rounds
        found["rates"] = [ours.rate for ours, _ in rounds]
        found["bare"] = [ours.rate / alone.rate for ours, alone in rounds]
        found["memory"] = gpu_memory()
        pick = prompts.load_templates(config).pick

        async def ours(seed: Seed) -> int:
            rollout = await sampling.roll_out(seed, 0, pick(seed), config, sampler, "bench")
            assert rollout.error is None, rollout.error
            return sum(response.tokens for response in rollout.responses)

        for side in SIDES:
            if time.monotonic() + 0.75 * found["round"] > deadline:  # Half of one, if not larger.
                found["left out"] = [*found.get("left out", []), f"{side} px"]
                continue
            path = write_pictures(folder / f"seeds-{side}", options.seeds, side, first=side)
            some = read(path)
            _, seconds = await bare.run(sampler.engine, ours, some)
            found[side] = len(some) / seconds
        # Its rounds are all alike: few of them tell its rate.
        few = config.model_copy(update={"sampling": config.sampling.model_copy(update={"n": 2})})
        tokens, seconds = await reference_schedule.theirs(
            sampler.engine, few, seeds[:16], shape.frame
        )
        found["reference"] = [rate / (tokens / seconds) for rate in found["rates"]]
    finally:
        await sampler.close()


def write_pictures(folder: Path, count: int, side: int, *, first: int = 0) -> Path:
    """Seeds with a JPEG of `side` pixels each, smooth as photographs are; none is like another."""
    folder.mkdir(parents=True)
    rows = []
    for number in range(count):
        coarse = (side // 28, side // 28, 3)
        noise = np.random.default_rng(first + number).integers(0, 256, coarse, np.uint8)
        picture = Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number}.jpg", quality=90)
        question = f"<image>\nWhat is in part {number} of this picture?"
        rows.append({"image": f"{number}.jpg", "question": question, "answer": str(number)})
    path = folder / "seeds.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path) -> list[Seed]:
    return [item for item in read_seeds(str(path)) if isinstance(item, Seed)]


def missed(found: dict[Any, Any]) -> list[str]:
    """The goals that were measured and not reached."""
    return [n for n, goal in GOALS.items() if n in found and spread(found[n]).median < goal]


def report(shape: Shape, size: str, found: dict[Any, Any]) -> list[str]:
    """The section of one model."""
    rows: list[tuple[str, object]] = []
    if "rates" in found:
        rate = spread(found["rates"])
        rows += [
            ("tokens/s", rate),
            ("÷ bare engine, goal 0.97", spread(found["bare"], 3)),
            ("DropoutNTP pairs per GPU-hour", f"{3600 * rate.median / TOKENS_PER_PAIR:,.0f}"),
            ("memory of the GPU", found["memory"]),
        ]
    if "reference" in found:
        rows.append(("÷ the reference's schedule, goal 3", spread(found["reference"], 2)))
    if "build" in found:
        rows.append(("whole build on Ray ÷ bare engine", spread(found["build"], 3)))
    rows += [(f"images/s, {s} px", f"{found[s]:.2f}") for s in SIDES if s in found]
    if "loading" in found:
        rows.append(("loading the engine, s", f"{found['loading']:.0f}"))
    lines = [f"### {shape.title}{'' if size == 'full' else f', {size}'}", ""]
    lines += table(("", "measured"), rows)
    if "left out" in found:
        lines += ["", f"No time was left for: {', '.join(found['left out'])}."]
    if "failed" in found:
        lines += ["", f"Failed: {found['failed']}"]
    return lines


def gpu_name() -> str:
    return ", ".join(_ask_smi("name")) or "none"


def gpu_memory() -> str:
    return memory_of(_ask_smi("memory.used,memory.total"))


def memory_of(lines: Sequence[str]) -> str:
    """`70.1 of 79.6 GiB` from lines of MiB, `71784, 81559`; the fullest GPU of several."""
    pairs = [tuple(int(word) for word in line.split(",")) for line in lines]
    if not pairs:
        return "no GPU"
    used, total = max(pairs)
    return f"{used / 1024:.1f} of {total / 1024:.1f} GiB"


def _ask_smi(what: str) -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
