"""Train the demo model from nothing: ``python -m tools.demo_model.train --out DIR``.

Two stages, on two cores within the hour:

1. *Sight.* The vision tower learns to say what lies under each patch, through a probe that is
   thrown away afterwards. Dense targets make this a matter of minutes.
2. *Speech.* The whole model learns the responses; the probe stays on with a small weight, so that
   sight is not unlearned while speech is still noise. First only careful writers speak, until
   reasoning is learned; then all writers, and the model picks up their habits.

`--on DIR` goes on from a trained model with habits alone, most of them in descriptions.

Seeded throughout: the same seed, steps and number of threads give the same model.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from mmpr_builder.demo import model_path
from mmpr_builder.demo.world import AXIS_TOP, COLOURS, SHAPES, Scene
from tools.demo_model.batches import batches
from tools.demo_model.card import TRAINING_FILE
from tools.demo_model.corpus import IGNORE, OPEN_SHARE, make_row, make_scenes, patch_targets, see
from tools.demo_model.network import POSITIONS, load, new_model, new_processor, save
from tools.demo_model.tokens import train_tokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import Idefics3ForConditionalGeneration, PreTrainedTokenizerFast

PROBE_CLASSES = (len(COLOURS) + 1, len(SHAPES) + 1, AXIS_TOP)
REPORT_SECONDS = 30


@dataclass(frozen=True)
class Plan:
    """How much of everything. The defaults took 50 minutes on two cores that had other work too."""

    seed: int = 0
    scenes: int = 24_000
    sight_steps: int = 600
    sight_batch: int = 192
    sight_rate: float = 2e-3
    steps: int = 4_600
    careful_steps: int = 3_200  # of them; the first ones
    batch: int = 32
    rate: float = 2e-3
    probe_weight: float = 0.2
    open_share: float = OPEN_SHARE
    tokenizer_rows: int = 12_000


class Pool:
    """The training scenes, as pixels and probe targets, prepared once by all cores."""

    def __init__(self, scenes: list[Scene]) -> None:
        self.scenes = scenes
        with multiprocessing.get_context("fork").Pool() as workers:
            pixels: list[NDArray[np.uint8]] = workers.map(see, scenes, chunksize=200)
        self._pixels = torch.from_numpy(np.stack(pixels))
        self._targets = torch.tensor([patch_targets(scene) for scene in scenes])

    def take(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Pixels from -1 to 1, and probe targets, of the scenes asked for."""
        return self._pixels[indices].float() / 127.5 - 1, self._targets[indices]


class Progress:
    """One line now and then: step, loss, time left. On a terminal the line is rewritten."""

    def __init__(self, name: str, steps: int) -> None:
        self._name, self._steps = name, steps
        self._start = self._last = time.monotonic()
        self._terminal = sys.stdout.isatty()

    def step(self, step: int, loss: float, note: str = "") -> None:
        """Report where the training is, if it is time to."""
        now, done = time.monotonic(), step == self._steps
        if not done and now - self._last < (1 if self._terminal else REPORT_SECONDS):
            return
        self._last = now
        left = (now - self._start) / step * (self._steps - step)
        line = f"{self._name} {step}/{self._steps}  loss {loss:.3f}{note}  {left / 60:.1f} min left"
        end = "\n" if done or not self._terminal else "\r"
        print(line, end=end, flush=True)


def train(
    out: Path, plan: Plan, *, checkpoint_minutes: float = 0.0, on: Path | None = None
) -> None:
    """Train the model, from nothing or `on` from a model folder, and write its folder to `out`."""
    torch.manual_seed(plan.seed)
    torch.use_deterministic_algorithms(True)
    start = time.monotonic()
    pool = Pool(make_scenes(plan.seed, plan.scenes))
    if on is None:
        rows = (make_row(pool.scenes, plan.seed, -1 - i) for i in range(plan.tokenizer_rows))
        tokenizer = train_tokenizer(row.prompt + row.response for row in rows)
        model = new_model(tokenizer)
    else:
        tokenizer, model = load(on)
    probe = nn.Linear(model.config.text_config.hidden_size, sum(PROBE_CLASSES))
    size = sum(weights.numel() for weights in model.parameters())
    print(
        f"{plan.scenes} scenes, {len(tokenizer)} tokens, {size / 1e6:.2f} million parameters, "
        f"ready after {time.monotonic() - start:.0f} s",
        flush=True,
    )
    if plan.sight_steps:
        _learn_to_see(model, probe, pool, plan)
    processor = new_processor(tokenizer)
    last = time.monotonic()
    for _ in _learn_to_speak(model, probe, pool, tokenizer, plan):
        if checkpoint_minutes and time.monotonic() - last > checkpoint_minutes * 60:
            save(model, processor, out)
            last = time.monotonic()
    save(model, processor, out)
    minutes = (time.monotonic() - start) / 60
    record = {
        **asdict(plan),
        "parameters": size / 1e6,
        "positions": POSITIONS,
        "minutes": round(minutes, 1),
        "threads": torch.get_num_threads(),
    }
    if on is not None:
        record["on"] = json.loads((on / TRAINING_FILE).read_text(encoding="utf-8"))
    (out / TRAINING_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"trained in {minutes:.1f} minutes: {out}", flush=True)


def _learn_to_see(
    model: Idefics3ForConditionalGeneration, probe: nn.Linear, pool: Pool, plan: Plan
) -> None:
    modules = nn.ModuleList([model.model.vision_model, model.model.connector, probe])
    optimizers = _optimizers(modules, plan.sight_rate, plan.sight_steps)
    progress = Progress("sight", plan.sight_steps)
    for step in range(1, plan.sight_steps + 1):
        chosen = torch.randint(len(pool.scenes), (plan.sight_batch,)).tolist()
        pixels, targets = pool.take(chosen)
        with torch.autocast("cpu", torch.bfloat16, enabled=_fast_bfloat16()):
            found = probe(_image_features(model, pixels))
        loss = _probe_loss(found, targets)
        _update(loss, modules, optimizers)
        progress.step(step, loss.item(), f"  right {_probe_accuracy(found, targets)}")


def _learn_to_speak(
    model: Idefics3ForConditionalGeneration,
    probe: nn.Linear,
    pool: Pool,
    tokenizer: PreTrainedTokenizerFast,
    plan: Plan,
) -> Iterator[int]:
    modules = nn.ModuleList([model, probe])
    optimizers = _optimizers(modules, plan.rate, plan.steps)
    progress = Progress("speech", plan.steps)
    rows = batches(
        pool.scenes,
        tokenizer,
        seed=plan.seed,
        steps=plan.steps,
        careful_steps=plan.careful_steps,
        size=plan.batch,
        open_share=plan.open_share,
    )
    image_token, smooth = model.config.image_token_id, 0.0
    for step, batch in enumerate(rows, start=1):
        pixels, targets = pool.take(batch.scenes)
        with torch.autocast("cpu", torch.bfloat16, enabled=_fast_bfloat16()):
            features = _image_features(model, pixels)
            states = model.model.text_model.embed_tokens(batch.tokens)
            here = (batch.tokens == image_token).unsqueeze(-1)
            states = states.masked_scatter(here, features.to(states.dtype))
            states = model.model.text_model(inputs_embeds=states, use_cache=False)[0]
            bearing = batch.labels != IGNORE  # logits only where there is loss to bear
            logits = model.lm_head(states[bearing])
            found = probe(features)
        speech = nn.functional.cross_entropy(logits.float(), batch.labels[bearing])
        loss = speech + plan.probe_weight * _probe_loss(found, targets)
        _update(loss, modules, optimizers)
        smooth = speech.item() if step == 1 else 0.98 * smooth + 0.02 * speech.item()
        progress.step(step, smooth, f"  sight {_probe_accuracy(found, targets)}")
        yield step


def _fast_bfloat16() -> bool:
    """Whether the processor computes in bfloat16; emulated, it is 40 times slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _image_features(model: Idefics3ForConditionalGeneration, pixels: Tensor) -> Tensor:
    seen: Tensor = model.model.vision_model(pixels).last_hidden_state
    features: Tensor = model.model.connector(seen)
    return features


def _probe_loss(found: Tensor, targets: Tensor) -> Tensor:
    losses = [
        nn.functional.cross_entropy(
            part.float().flatten(0, 1), targets[..., i].flatten(), ignore_index=IGNORE
        )
        for i, part in enumerate(found.split(PROBE_CLASSES, dim=-1))
    ]
    return torch.stack([loss for loss in losses if not loss.isnan()]).sum()


def _probe_accuracy(found: Tensor, targets: Tensor) -> str:
    """Share of patches right, as `colour/shape/value`."""
    shares = []
    for i, part in enumerate(found.split(PROBE_CLASSES, dim=-1)):
        asked = targets[..., i] != IGNORE
        right = part.argmax(-1)[asked] == targets[..., i][asked]
        shares.append(f"{right.float().mean().item():.3f}")
    return "/".join(shares)


def _optimizers(
    modules: nn.Module, rate: float, steps: int
) -> list[tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]]:
    """Muon for the matrices inside the layers, AdamW for the rest; a short rise, a long decay.

    Muon halves the steps that a transformer of this size needs; it is not for embeddings, biases
    and norms, and torch computes it in bfloat16.
    """
    hidden: list[Tensor] = []
    rest: list[Tensor] = []
    for name, weights in modules.named_parameters():
        inside = _fast_bfloat16() and weights.ndim == 2 and ("layers" in name or "proj" in name)
        (hidden if inside else rest).append(weights)

    def share(step: int) -> float:
        warm = min(1.0, (step + 1) / 100)
        return warm * max(0.01, min(1.0, 2.5 * (1 - step / steps)))

    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.0)
    ]
    if hidden:
        optimizers.append(
            torch.optim.Muon(hidden, lr=rate, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
        )
    return [(opt, torch.optim.lr_scheduler.LambdaLR(opt, share)) for opt in optimizers]


def _update(
    loss: Tensor,
    modules: nn.Module,
    optimizers: list[tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]],
) -> None:
    loss.backward()
    nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
    for optimizer, schedule in optimizers:
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)


def main() -> None:
    """The command line."""
    default = Plan()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--out", type=Path, default=model_path(), help="model folder; default: the shipped one"
    )
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--scenes", type=int, default=default.scenes)
    parser.add_argument("--sight-steps", type=int, default=default.sight_steps)
    parser.add_argument("--steps", type=int, default=default.steps, help="of the second stage")
    parser.add_argument("--batch", type=int, default=default.batch, help="of the second stage")
    parser.add_argument("--checkpoint-minutes", type=float, default=0.0, help="0: only at the end")
    parser.add_argument("--on", type=Path, help="model folder to go on from, with habits only")
    args = parser.parse_args()
    plan = Plan(
        seed=args.seed,
        scenes=args.scenes,
        sight_steps=args.sight_steps,
        steps=args.steps,
        batch=args.batch,
        careful_steps=round(args.steps * default.careful_steps / default.steps),
    )
    if args.on:
        # A new probe would disturb what the vision tower knows. What is new are descriptions.
        plan = replace(plan, sight_steps=0, careful_steps=0, probe_weight=0.0)
        plan = replace(plan, rate=plan.rate / 4, open_share=0.75)
    train(args.out, plan, checkpoint_minutes=args.checkpoint_minutes, on=args.on)
    # In a process of its own: the engine wants the memory that training still holds.
    module = "tools.demo_model.measure"
    measure = [sys.executable, "-m", module, "--model", str(args.out), "--card"]
    sys.exit(subprocess.run(measure, check=False).returncode)


if __name__ == "__main__":
    main()
