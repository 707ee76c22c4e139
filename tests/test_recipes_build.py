"""Both recipes of MMPR on miniatures of all 22 sources, all controls on, one by the real engine."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from commands import mmpr
from public_layouts import SOURCES, make_all
from small_builds import sample_here

from mmpr_builder.config import load_config
from mmpr_builder.records import Drop, Seed
from mmpr_builder.runs import read_inputs

# The recipes' own models are not at hand, and the demo model takes no tiles.
SMALL = ("model=demo", "engine={}", "images.family=null", "sampling.n=4", "sampling.max_tokens=32")
ALL_CONTROLS = (
    "sampling.blind=4",
    "dropout.keep=0.25,0.5,0.75",
    "pairing.max_per_response=3",
    "pairing.rejected_first=distinct_answers",
    "pairing.partner=like_length",
    "pairing.max_gap=60",
    "quality.near_duplicates=true",
    "quality.hygiene=true",
    "quality.dropout_gate=true",
    "quality.distinct=0.95",
    "quality.balance.lengths=true",
    "quality.balance.answers=true",
    "quality.pass_rate=0.05,0.95",
    "quality.max_blind=0.3",
    "quality.suspect_truths=true",
)
LEAKED = "okvqa"
# The engine is started for the newer recipe; a fake answers the same sources for the other.
FAKED = "mmpr_v1"


def leak_of(folder: Path, words: list[str]) -> tuple[str, str]:
    """An evaluation set with one question of a source in it: its file, and that seed's id."""
    items = read_inputs(load_config(words[0], words[1:]))
    seed = next(item for item in items if isinstance(item, Seed) and item.source == LEAKED)
    path = folder / "evaluation.jsonl"
    row = {"question": seed.question, "images": [ref.uri for ref in seed.images]}
    path.write_text(json.dumps(row) + "\n")
    return str(path), seed.id


def table(out: Path, name: str) -> list[dict[str, object]]:
    parts = sorted((out / name).glob("*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["mmpr_v1", "mmpr_v1_2"])
def test_a_miniature_of_all_22_sources_builds_with_every_control_on(
    tmp_path: Path, recipe: str
) -> None:
    make_all(tmp_path / "data")
    out = tmp_path / "out"
    words = [recipe, f"data={tmp_path / 'data'}", f"out={out}", *SMALL]
    evaluation, leaked = leak_of(tmp_path, words)
    words += [*ALL_CONTROLS, f"quality.decontaminate.against={evaluation}"]
    if recipe == FAKED:
        sample_here(load_config(words[0], words[1:]))
    done = mmpr("pair" if recipe == FAKED else "build", *words)
    assert done.returncode == 0, done.stderr
    pairs, drops = table(out, "pairs"), table(out, "drops")
    with_pairs = {row["seed_id"] for row in pairs}
    dropped = Counter(row["item_id"] for row in drops)
    items = list(read_inputs(load_config(words[0], words[1:])))
    ids = {item.item_id if isinstance(item, Drop) else item.id for item in items}
    assert with_pairs | set(dropped) == ids
    assert not with_pairs & set(dropped)
    assert set(dropped.values()) == {1}
    rollouts = table(out, "rollouts")
    # Whatever the model writes of foreign pictures, each source was asked and accounted for.
    assert {row["source"] for row in rollouts} == set(SOURCES)
    assert {row["reason"] for row in drops if row["item_id"] == leaked} == {"contaminated"}
    assert pairs
    first = {part.name: part.read_bytes() for part in (out / "pairs").iterdir()}
    again = mmpr("pair", *words)
    assert again.returncode == 0, again.stderr
    assert {part.name: part.read_bytes() for part in (out / "pairs").iterdir()} == first
