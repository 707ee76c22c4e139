"""The recipes of MMPR on both layouts of the model that they name, with tiles by source."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_models
from commands import mmpr
from PIL import Image
from public_layouts import make_all
from typer.testing import CliRunner

from mmpr_builder.cli import app
from mmpr_builder.io.tables import list_parts, read_parquet, rollouts_from_table

TILES = {"iconqa": 1, "ai2d": 6, "chartqa": 12, "docvqa": 18, "infovqa": 24}
PARTS = {1: 1, 6: 2 * 2 + 1, 12: 3 * 3 + 1, 18: 4 * 4 + 1, 24: 4 * 4 + 1}
"""448 x 448 pieces of a large square picture: the most in a square within the budget, and the
whole picture once more in small where there are several."""
TOKENS = 256
"""Of one piece: (448 / 14)² patches, four to a token."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        tiny_models.internvl_hf,
        pytest.param(tiny_models.internvl_chat, marks=pytest.mark.families),
    ],
)
def test_mmpr_v1_2_samples_on_internvl_with_tiles_by_source(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    make_all(tmp_path / "data")
    Image.effect_noise((2000, 2000), 64).save(large := tmp_path / "large.jpg")
    for path in (tmp_path / "data").rglob("*"):
        if path.suffix in (".png", ".jpg", ".jpeg"):
            shutil.copyfile(large, path)  # Programs look at the content, not at the name.
    words = [
        *("mmpr_v1_2", f"data={tmp_path / 'data'}", f"out={tmp_path / 'out'}"),
        f"model={make(tmp_path / 'model')}",
        f"sources=[{','.join(TILES)}]",
        *(f"seeds.{name}.limit=1" for name in TILES),
        *(f"seeds.{name}.tiles={tiles}" for name, tiles in TILES.items()),
        *("sampling.n=2", "sampling.max_tokens=8"),
    ]
    done = CliRunner().invoke(app, ["sample", *words])
    assert done.exit_code == 0, done.output
    found = {}
    for part in list_parts(tmp_path / "out" / "rollouts"):
        for rollout in rollouts_from_table(read_parquet(part)):
            assert rollout.error is None
            assert len(rollout.responses) == 2
            pictures, text = divmod(rollout.prompt_tokens, TOKENS)
            assert text < TOKENS
            found[rollout.seed.source] = pictures / len(rollout.seed.images)
    assert found == {name: PARTS[tiles] for name, tiles in TILES.items()}


def test_a_text_model_is_refused_before_it_is_loaded_also_by_plan(tmp_path: Path) -> None:
    (tmp_path / "seeds.jsonl").write_text('{"question": "Q", "answer": "1", "image": "1.png"}\n')
    model = tiny_models.text_only(tmp_path / "model")
    words = [f"model={model}", f"seeds={tmp_path / 'seeds.jsonl'}", f"out={tmp_path / 'out'}"]
    for command in ("plan", "build"):
        done = mmpr(command, *words)
        assert done.returncode == 2, done.stderr
        assert "takes no images, and the seeds have images" in done.stderr
    assert not list_parts(tmp_path / "out" / "rollouts")
