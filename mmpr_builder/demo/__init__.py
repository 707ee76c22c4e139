"""The embedded default: a small world of pictures, and a small model that really sees them.

world       scenes: grids of coloured shapes, bar charts; which split each belongs to
drawing     the picture of a scene
wording     the words for what a scene holds, in English and Chinese
questions   questions on a scene and their truths, of several families
model/      the trained model; `tools/demo_model/` in a checkout trains it

Seeds of this world are written as anybody would hand in theirs: JSONL beside a folder of images.

    {"id": "demo-00017", "image": "images/00017.png", "question": "<image>\\nHow many red shapes
     are there?", "answer": "3", "source": "demo_grid"}

An open question has no `answer`, and its source is `demo_open`. Scenes come from the evaluation
split, so the demo model has seen none of them.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from mmpr_builder.demo.drawing import draw
from mmpr_builder.demo.questions import ask
from mmpr_builder.demo.world import Grid, make_scene, stream

__all__ = ["model_path", "write_seeds"]

OPEN_SHARE = 0.3  # of the seeds have no truth, for DropoutNTP
PLACEHOLDER_SHARE = 0.7  # of the questions say where the image stands; the others leave it out
SEED = 2024


def model_path() -> Path:
    """The folder of the shipped model, as vLLM and transformers load it."""
    return Path(__file__).parent / "model"


def write_seeds(directory: Path, count: int, seed: int = SEED) -> Path:
    """Write `count` seeds below `directory`; the path of its `seeds.jsonl`.

    The same count and seed give the same bytes. A folder that holds these seeds is left as it is.
    Raises `FileExistsError` for one that holds anything else.
    """
    target = directory / "seeds.jsonl"
    rows = [_row(seed, index) for index in range(count)]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if target.is_file() and target.read_text(encoding="utf-8") == text:
        return target
    if directory.exists() and any(directory.iterdir()):
        raise FileExistsError(
            f"{directory} is not empty and does not hold the {count} demo seeds of seed {seed}: "
            "remove it or name another folder"
        )
    directory.parent.mkdir(parents=True, exist_ok=True)
    # Written beside it and moved there last: a folder that exists is complete.
    draft = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        (draft / "images").mkdir()
        for index, row in enumerate(rows):
            draw(make_scene(seed, index, "eval")).save(draft / row["image"], optimize=False)
        (draft / "seeds.jsonl").write_text(text, encoding="utf-8")
        draft.chmod(0o755)  # mkdtemp makes it private
        os.replace(draft, directory)
    except OSError:
        # Another process may have been quicker with the same.
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _row(seed: int, index: int) -> dict[str, str]:
    scene = make_scene(seed, index, "eval")
    question = ask(scene, seed, index, open_share=OPEN_SHARE)
    marked = stream("placeholder", seed, index).random() < PLACEHOLDER_SHARE
    row = {
        "id": f"demo-{index:05d}",
        "image": f"images/{index:05d}.png",
        "question": f"<image>\n{question.text}" if marked else question.text,
    }
    if question.answer is None:
        return {**row, "source": "demo_open"}
    source = "demo_grid" if isinstance(scene, Grid) else "demo_chart"
    return {**row, "answer": question.answer, "source": source}
