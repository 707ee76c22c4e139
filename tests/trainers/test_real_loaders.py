"""The trainers' own loaders read what is exported: the same texts, pixels and rows.

`make test-trainers` installs each trainer into an environment of its own (tools/trainers.py) and
runs `readers.py` there. The loaders of InternVL and NeMo RL are in no package: INTERNVL and NEMO_RL
name checkouts.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pair_samples import LastWord, make_rollout, picture, sample_rollouts, write_build

from mmpr_builder import load_pairs
from mmpr_builder.config import Config
from mmpr_builder.demo import model_path
from mmpr_builder.export import FORMATS, ExportOptions, write_export
from mmpr_builder.records import Rollout, Seed
from mmpr_builder.scoring import Judge

pytestmark = [pytest.mark.trainers, pytest.mark.usefixtures("own_cache")]

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = Path(os.environ.get("TRAINERS", ROOT / ".trainers"))
LOADERS = [
    # loader, format, environment
    ("datasets", "trl", "datasets36"),
    ("datasets", "trl", "llama-factory"),
    ("datasets", "trl", "trl"),
    ("trl", "trl", "trl"),
    ("llama-factory", "llama-factory", "llama-factory"),
    ("ms-swift", "ms-swift", "ms-swift"),
    ("internvl", "internvl", "trl"),
    ("nemo-rl", "nemo-rl", "trl"),
]
CHECKOUTS = {"internvl": "INTERNVL", "nemo-rl": "NEMO_RL"}


def rollouts(folder: Path) -> list[Rollout]:
    """Those of the other tests, and texts that a loader may stumble over."""
    odd = picture(folder / "odd.png", "green")
    hostile = '\u2028"quoted" \\ {{ 7*7 }} {{ROUND9}} 图 <b>&amp;</b> \\frac{1}{2}'
    seeds = [
        Seed("zh", "<image>\n图中有几个图形？\r\n（数一数）", (odd,), ("3",), source="图/a b"),
        Seed("five", "a<image>b<image>c<image>d<image>e<image>?", (odd,) * 5, ("3",), source="n"),
        Seed("text", f"What is it? {hostile}", (), ("3",), source="sums"),
    ]
    more = [make_rollout(s, [f"{hostile}\n因此 3", "so 3", "\r\n\tit is 4", "hm"]) for s in seeds]
    made = [*sample_rollouts(folder), *more]
    return [replace(rollout, index=i) for i, rollout in enumerate(made)]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("build")
    (home / "seeds").mkdir()
    write_build(home / "out", rollouts(home / "seeds"))
    return home / "out"


def read_by(name: str, environment: str, dest: Path, output: Path) -> list[dict[str, Any]]:
    """The rows of an export as a trainer's own code gives them."""
    python = ENVIRONMENTS / environment / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{environment} is not installed: python -m tools.trainers")
    variable = CHECKOUTS.get(name)
    if variable and not os.environ.get(variable):
        pytest.skip(f"{variable} names no checkout")
    caches = {"HF_HOME": str(output.parent / "hf"), "MODELSCOPE_CACHE": str(output.parent / "ms")}
    caches |= {"MMPR_BUILDER": str(ROOT), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    command = [str(python), str(Path(__file__).with_name("readers.py")), name, str(dest)]
    done = subprocess.run(
        [*command, str(model_path()), str(output)],
        env={**os.environ, **caches},
        cwd=output.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def pixels(image: Any) -> str:
    rgb = image.convert("RGB")
    return hashlib.sha256(repr(rgb.size).encode() + rgb.tobytes()).hexdigest()


def expected(pair: dict[str, Any], loader: str) -> dict[str, Any]:
    parts = pair["prompt"][0]["content"]
    texts = [part["text"] if part["type"] == "text" else "<image>" for part in parts]
    question = "".join(texts)
    if loader == "internvl":
        question = pair["prompt_text"]
    if loader == "nemo-rl":  # It strips every piece of text.
        texts = [text.strip() for text in pair["prompt_text"].split("<image>")]
        question = "<image>".join(texts)
    sides = {side: pair[f"{side}_text"] for side in ("chosen", "rejected")}
    return {"question": question, **sides, "images": [pixels(one) for one in pair["images"]]}


def by_text(row: dict[str, Any]) -> str:
    return json.dumps(row, sort_keys=True)


@pytest.mark.parametrize(("loader", "form", "environment"), LOADERS)
def test_a_real_loader_reads_every_row(
    out: Path, tmp_path: Path, loader: str, form: str, environment: str
) -> None:
    dest = tmp_path / "dest"
    done = write_export([str(out)], FORMATS[form], str(dest), ExportOptions())
    found = read_by(loader, environment, dest, tmp_path / "rows.jsonl")
    pairs = [p for p in load_pairs(out) if form != "nemo-rl" or len(p["images"]) == 1]
    wanted = [expected(pair, loader) for pair in pairs]
    assert sorted(found, key=by_text) == sorted(wanted, key=by_text)
    assert len(found) == done.rows


def test_verl_reads_every_query_and_its_reward_knows_the_answer(tmp_path: Path) -> None:
    (tmp_path / "seeds").mkdir()
    config = Config()
    sampled = []
    for rollout in rollouts(tmp_path / "seeds"):
        right = [f"so\nFinal answer: {a}" for a in rollout.seed.answers[:1]]
        if right:
            sampled.append(make_rollout(rollout.seed, [*right, "no\nFinal answer: 1000"]))
    dest = tmp_path / "dest"
    options = ExportOptions()
    with Judge() as judge:
        pairs = [(rollout, config) for rollout in sampled]
        done = write_export(["out"], FORMATS["verl"], str(dest), options, lambda: pairs, judge)
    assert done.rows >= 5
    found = read_by("verl", "verl", dest, tmp_path / "rows.jsonl")
    assert len(found) == done.rows
    assert {len(row["images"]) for row in found} >= {0, 1, 2, 5}
    by_datasets = read_by("datasets", "datasets36", dest, tmp_path / "again.jsonl")
    assert by_datasets == found


@pytest.mark.parametrize("stage", ["sft", "kto", "grpo"])
def test_trl_reads_every_row_of_another_stage(tmp_path: Path, stage: str) -> None:
    (tmp_path / "seeds").mkdir()
    dest, form = tmp_path / "dest", FORMATS[stage]
    made = [(rollout, Config()) for rollout in rollouts(tmp_path / "seeds")]
    done = write_export(["out"], form, str(dest), ExportOptions(), lambda: made, LastWord())
    found = read_by("trl-stage", "trl", dest, tmp_path / "rows.jsonl")
    assert len(found) == done.rows >= 4
    assert {len(row["images"]) for row in found} >= ({1, 2, 5} if stage == "grpo" else {0, 1, 2, 5})
    by_datasets = read_by("datasets", "datasets36", dest, tmp_path / "again.jsonl")
    assert by_datasets == found
