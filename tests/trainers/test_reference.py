"""Reference log-probabilities of sampling against the trainer's own forward pass, on real engines;
and the rounds of docs/rounds.md as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from bed import FAMILIES
from build_files import write_jsonl
from pair_samples import picture

import mmpr_builder as mb
from mmpr_builder.demo import model_path
from mmpr_builder.errors import InputError
from mmpr_builder.reference import StoredReference

pytestmark = [pytest.mark.trainers, pytest.mark.usefixtures("own_cache")]

ROOT = Path(__file__).parents[2]
SIDES = ("ref_chosen_logps", "ref_rejected_logps")
LOSSES: dict[str, Any] = {"loss_type": ["sigmoid", "bco_pair"], "loss_weights": [0.8, 0.2]}


def mmpr(folder: Path, *words: str) -> None:
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "mmpr_builder", *words],
        cwd=folder, env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def sampled(folder: Path, model: str, *words: str) -> Any:
    """Pairs of a build; its continuations are read with the image again."""
    asked = (f"model={model}", f"out={folder / 'out'}", "sampling.logprobs=tokens")
    mmpr(folder, "build", *words, *asked, "sampling.n=4")
    return mb.load_pairs(folder / "out")


def trainer(model: str, pairs: Any, folder: Path, *bases: type, **more: Any) -> Any:
    import trl

    kind = type("Trainer", (*bases, trl.DPOTrainer), {})
    how = {
        **{"output_dir": str(folder / "log"), "max_length": None, "max_steps": 2, "beta": 0.1},
        **{"per_device_train_batch_size": 2, "logging_steps": 1, "save_strategy": "no"},
        **{"report_to": [], "use_cpu": True, "gradient_checkpointing": False, **LOSSES, **more},
    }
    return kind(model=model, args=trl.DPOConfig(**how), train_dataset=pairs)


def apart(plain: Any, pairs: Any) -> Iterator[tuple[str, float]]:
    """(kind, nats per token) between a column and the trainer's forward pass, side by side."""
    for row in pairs:
        batch = plain.data_collator([dict(row)])
        tokens = batch["completion_mask"].sum(1).tolist()
        own = plain.compute_ref_log_probs(plain.ref_model, batch)
        for side, found, n in zip(SIDES, own, tokens, strict=True):
            yield row["kind"], abs(row[side] - found.item()) / n


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("demo")
    small = ("limit=8", "sampling.max_tokens=256", "dropout.apply=all")
    return folder, sampled(folder, "demo", str(ROOT / "pipelines" / "demo.yaml"), *small)


def test_the_columns_are_what_the_trainer_computes_and_train_the_same(
    demo: tuple[Path, Any], tmp_path: Path
) -> None:
    _, pairs = demo
    assert {"correctness", "dropout_ntp"} <= {*pairs["kind"]}
    assert None not in [*pairs[SIDES[0]], *pairs[SIDES[1]]]
    model = str(model_path())
    plain = trainer(model, pairs, tmp_path)
    found = list(apart(plain, pairs.select(range(0, len(pairs), max(1, len(pairs) // 16)))))
    for kind in {name for name, _ in found}:
        assert median(value for name, value in found if name == kind) <= 0.02, found
    stored = trainer(model, pairs, tmp_path, StoredReference)
    assert stored.ref_model is None
    losses = []
    for each in (plain, stored):
        each.train()
        losses.append([e["loss"] for e in each.state.log_history if "loss" in e])
    # The engine computes in bfloat16, the trainer in float32: a tenth of a nat in a response.
    assert losses[1] == pytest.approx(losses[0], abs=0.02)
    assert len(losses[0]) == 2


def spoilt_template(pairs: Any) -> Any:
    by = json.loads(pairs[0]["reference"])
    other = json.dumps({**by, "template": "0" * 16}, sort_keys=True)
    return pairs.map(lambda _: {"reference": other})


SPOILT = {
    "another template": spoilt_template,
    "nats per token off": lambda pairs: pairs.map(
        lambda row: {SIDES[0]: row[SIDES[0]] - row["chosen_tokens"],
                     SIDES[1]: row[SIDES[1]] - row["rejected_tokens"]}
    ),
    "have no reference": lambda pairs: pairs.map(
        lambda _, at: {SIDES[1]: None if at == 1 else -1.0}, with_indices=True
    ),
    "no column": lambda pairs: pairs.remove_columns(["reference"]),
}  # fmt: skip


@pytest.mark.parametrize("message", SPOILT)
def test_columns_that_do_not_fit_are_refused(
    demo: tuple[Path, Any], tmp_path: Path, message: str
) -> None:
    pairs = demo[1].select(range(8))
    with pytest.raises(InputError, match=message):
        trainer(str(model_path()), SPOILT[message](pairs), tmp_path, StoredReference)


def test_another_model_is_refused(demo: tuple[Path, Any], tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    other = AutoModelForImageTextToText.from_pretrained(model_path())
    for value in other.parameters():
        value.data.mul_(1.02)  # Less is nothing in bfloat16.
    other.save_pretrained(tmp_path / "other")
    AutoProcessor.from_pretrained(model_path()).save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match="of another model than"):
        trainer(str(tmp_path / "other"), demo[1], tmp_path, StoredReference)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "internvl_hf"])
def test_the_columns_are_those_of_a_tiny_model_of_a_family(tmp_path: Path, name: str) -> None:
    family = FAMILIES[name]
    model = str(family.make(tmp_path / "model"))
    # Random weights end a text after some 400 tokens, and never with a right answer.
    rows = [
        {
            "id": str(i),
            "image": picture(tmp_path / f"{i}.png", colour).uri,
            "question": "What is it?",
        }
        for i, colour in enumerate(("red", "green", "blue", "white"))
    ]
    seeds = write_jsonl(tmp_path / "seeds.jsonl", rows)
    words = (f"seeds={seeds}", "sampling.max_tokens=600", *family.settings)
    pairs = sampled(tmp_path, model, *words)
    pairs = pairs.filter(lambda *sums: None not in sums, input_columns=list(SIDES))
    assert len(pairs) >= 4
    found = [value for _, value in apart(trainer(model, pairs, tmp_path), pairs)]
    assert median(found) <= 0.02, found


def blocks() -> Iterator[tuple[str, str]]:
    page = (ROOT / "docs" / "rounds.md").read_text(encoding="utf-8")
    yield from re.findall(r"^```(sh|py)\n(.*?)^```", page, flags=re.S | re.M)


def test_the_rounds_of_the_documentation_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = "seeds: [{path: demo, limit: 8}]\nsampling: {n: 4, max_tokens: 256}\n"
    (tmp_path / "my_recipe.yaml").write_text(recipe, encoding="utf-8")
    few = (
        'output_dir="out/log", max_steps=3, per_device_train_batch_size=2, use_cpu=True,'
        " bf16=False, gradient_checkpointing=False, report_to=[],"
    )
    for language, code in blocks():
        if language == "py":
            text = code.replace('"my-vlm"', repr(str(model_path())))
            text = text.replace('output_dir="out/log",', few)
            exec(compile(text, "rounds.md", "exec"), {})  # noqa: S102 (our own text)
            continue
        for line in code.strip().splitlines():
            program, *words = line.split()
            assert program == "mmpr"
            mmpr(tmp_path, *words)
    asked = {rollout.seed.id: rollout for rollout in mb.read_rollouts("out/round-2")}
    first = {rollout.seed.id: rollout for rollout in mb.read_rollouts("out/round-1")}
    assert 0 < len(asked) < len(first)
    assert asked.keys() <= first.keys()
    run = json.loads(Path("out/both/run.json").read_text(encoding="utf-8"))
    assert run["counts"]["models"].keys() == {"demo", "out/model-1"}
    assert all(found["responses"] for found in run["counts"]["models"].values())
