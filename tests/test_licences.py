"""`licenses: commercial` leaves out what forbids commercial use or does not say, and says which."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import mmpr
from pair_samples import make_rollout
from public_layouts import make_all

from mmpr_builder import runs, stages
from mmpr_builder.config import Config, load_config, sampling_identity, shipped_names
from mmpr_builder.config.licences import ALLOWED, forbids_commercial_use
from mmpr_builder.errors import ConfigError
from mmpr_builder.io.tables import read_parquet, rollouts_to_table, write_parquet
from mmpr_builder.progress import Progress
from mmpr_builder.records import Seed
from mmpr_builder.runs import run_pairing

COMMERCIAL = {"vqav2", "m3cot", "chartqa", "clevr_math", "geometry3k", "textvqa"}
"""Of the 22 sources: CC BY, CC BY-SA, GPL and MIT."""

ALLOWING = [
    *("CC BY 4.0", "cc-by-4.0", "CC_BY_4.0", "CC BY-SA 3.0", "CC-BY-SA-4.0", "CC0", "CC0-1.0"),
    *("Creative Commons Attribution 4.0 International", "Creative Commons Zero v1.0 Universal"),
    *("MIT", "The MIT License", "Apache-2.0", "Apache License, 2.0", "Apache License 2.0"),
    *("BSD-3-Clause", "bsd 2-clause", "GPL-3.0", "gpl-3.0-or-later", "GPLv3", "LGPL-2.1-only"),
    *("AGPL-3.0", "MPL-2.0", "ODC-By-1.0", "ODbL-1.0", "CDLA-Permissive-2.0", "Public Domain"),
    *("MIT OR CC-BY-NC-4.0", "MIT AND CC BY 4.0", "(Apache-2.0 OR MIT)", "BSL-1.0"),
]
FORBIDDING = [
    # licence, what is said of it
    (None, "no licence is stated"),
    (" ", "no licence is stated"),
    ("unknown", "not known"),
    ("unknown, see https://example.org", "not known"),
    ("other", "not known"),
    ("not stated", "not known"),
    ("CC BY-NC 4.0", "non-commercial"),
    ("cc-by-nc-sa-3.0", "non-commercial"),
    ("CC BY NC ND", "non-commercial"),
    ("Attribution-NonCommercial-ShareAlike 4.0", "non-commercial"),
    ("free for non commercial use", "non-commercial"),
    ("for academic research only", "for research"),
    ("Educational use", "for research"),
    ("CC BY-ND 4.0", "no derived works"),
    ("MIT AND CC BY-NC 4.0", "non-commercial"),
    ("MIT, CC BY-NC 4.0", "non-commercial"),
    ("CC BY 4.0 (questions only)", "not among"),
    ("BSL 1.1", "not among"),
    ("Llama 3.1 Community", "not among"),
    ("MITx", "not among"),
    ("CC", "not among"),
    ("BY 4.0", "not among"),
]


@pytest.mark.parametrize("licence", ALLOWING)
def test_licences_that_allow_commercial_use(licence: str) -> None:
    assert forbids_commercial_use(licence) is None


@pytest.mark.parametrize(("licence", "says"), FORBIDDING)
def test_what_forbids_it_or_is_not_known_to_allow_it(licence: str | None, says: str) -> None:
    reason = forbids_commercial_use(licence)
    assert reason is not None
    assert says in reason


def test_every_licence_of_the_table_is_allowed_and_says_on_what_condition() -> None:
    assert all(forbids_commercial_use(licence) is None for licence in ALLOWED)
    assert all(ALLOWED.values())


def test_every_licence_of_the_shipped_recipes_is_decided_as_its_words_say() -> None:
    seen = set()
    for recipe in shipped_names("pipelines", ".yaml"):
        for source in load_config(recipe).seeds:
            seen.add(source.license)
            reason = forbids_commercial_use(source.license)
            assert source.license is not None, source.name
            if source.license.startswith("unknown"):
                assert reason is not None, source.name
                assert "not known" in reason
            elif "NC" in source.license:
                assert reason is not None, source.name
                assert "non-commercial" in reason
            else:
                assert reason is None, source.name
    assert {licence for licence in seen if not str(licence).startswith("unknown")} == {
        *("Apache-2.0", "CC BY 4.0", "CC BY-SA 4.0", "CC BY-NC-SA 4.0", "GPL-3.0", "MIT")
    }


@pytest.mark.parametrize("recipe", ["mmpr_v1", "mmpr_v1_2"])
def test_a_commercial_recipe_says_what_it_leaves_out_and_why(recipe: str) -> None:
    config = load_config(recipe, ["licenses=commercial"])
    assert {source.name for source in config.seeds} == COMMERCIAL
    left = {source.name: source.reason for source in config.left_out}
    assert len(left) == 16
    assert left["scienceqa"] == "CC BY-NC-SA 4.0 allows non-commercial use only"
    assert "not known" in left["gqa"]
    again = Config.model_validate(config.model_dump(mode="json"))
    assert again == config
    assert load_config(recipe).left_out == ()
    paths = {v for k, v in sampling_identity(config).items() if k.endswith(".path")}
    assert len(paths) == 6


def test_the_others_are_left_out_before_anything_is_looked_for(tmp_path: Path) -> None:
    make_all(tmp_path)
    for name in ("gqa", "scienceqa", "docvqa"):  # Not allowed, so nobody asks for them.
        for path in sorted((tmp_path / name).rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
    words = [f"data={tmp_path}", f"out={tmp_path}/out", "model=demo", "engine={}"]
    config = load_config(
        "mmpr_v1", [*words, "images.family=null", "licenses=commercial", "sampling.max_tokens=1024"]
    )
    stages.check(config)
    items = [item for item in runs.read_inputs(config) if isinstance(item, Seed)]
    assert {seed.source for seed in items} == COMMERCIAL


def test_a_licence_can_be_set_and_none_left_is_an_error() -> None:
    words = ["licenses=commercial", "sources=[ai2d,iconqa]"]
    with pytest.raises(ConfigError, match=r"no source is left: iconqa: CC BY-NC-SA.*ai2d: its"):
        load_config("mmpr_v1", words)
    config = load_config("mmpr_v1", [*words, "seeds.ai2d.license=CC BY 4.0"])
    assert [source.name for source in config.seeds] == ["ai2d"]
    assert [source.name for source in load_config("demo", ["licenses=commercial"]).seeds] == [None]
    with pytest.raises(ConfigError, match=r"seeds.NAME.license"):
        load_config(None, ["seeds=a.jsonl", "licenses=commercial"])


def test_the_command_line_tells_what_is_left_out(tmp_path: Path) -> None:
    words = ["plan", "mmpr_v1", f"data={tmp_path}", "licenses=commercial", f"out={tmp_path}/out"]
    done = mmpr(*words)
    assert done.returncode == 2
    assert "left out by its licence: iconqa: CC BY-NC-SA 4.0 allows non-comm" in done.stderr
    missing = done.stderr[done.stderr.index("source '") :]
    assert "source 'chartqa'" in missing
    assert "source 'iconqa'" not in missing


def test_pooled_rollouts_of_other_sources_are_dropped(tmp_path: Path) -> None:
    seeds = [
        Seed("a", "1 + 1?", answers=("2",), source="chartqa"),
        Seed("b", "1 + 2?", answers=("3",), source="iconqa"),
        Seed("c", "1 + 3?", answers=("4",), source="mine"),
    ]
    rollouts = [
        make_rollout(seed, [f"Final answer: {seed.answers[0]}", "Final answer: 9"], index=i)
        for i, seed in enumerate(seeds)
    ]
    write_parquet(rollouts_to_table(rollouts), tmp_path / "a" / "rollouts" / "unit-00000.parquet")
    words = [f"rollouts={tmp_path}/a", "licenses=commercial", f"out={tmp_path}/out"]
    run = run_pairing(load_config("mmpr_v1", words), Progress()).run
    assert run["counts"]["seeds"]["with_pairs"] == 1
    drops = read_parquet(tmp_path / "out" / "drops" / "part-00000.parquet").to_pylist()
    assert [(row["item_id"], row["reason"]) for row in drops] == [
        ("b", "licence_not_allowed"),
        ("c", "licence_not_allowed"),
    ]
    assert "non-commercial" in drops[0]["detail"]
    assert "no such source" in drops[1]["detail"]
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "- iconqa: CC BY-NC-SA 4.0 allows non-commercial use only" in card
    assert json.loads((tmp_path / "out/run.json").read_text())["config"]["left_out"]


def test_a_file_of_the_same_name_lends_no_licence(tmp_path: Path) -> None:
    """All of these lie in a `train.jsonl`."""
    seeds = [
        Seed(f"q{i}", f"{i} + 1?", answers=(str(i + 1),), source=source, origin="train.jsonl:1")
        for i, source in enumerate(["research", "free", "of_another_recipe"])
    ]
    rollouts = [
        make_rollout(seed, [f"Final answer: {seed.answers[0]}", "Final answer: 9"], index=i)
        for i, seed in enumerate(seeds)
    ]
    write_parquet(rollouts_to_table(rollouts), tmp_path / "a" / "rollouts" / "unit-00000.parquet")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "seeds:\n"
        "  research: {path: research/train.jsonl, license: CC BY-NC 4.0}\n"
        "  free: {path: free/train.jsonl, license: MIT}\n"
    )
    words = [f"rollouts={tmp_path}/a", "licenses=commercial", f"out={tmp_path}/out"]
    run = run_pairing(load_config(str(recipe), words), Progress()).run
    assert {name: of["with_pairs"] for name, of in run["counts"]["sources"].items()} == {
        "research": 0,
        "free": 1,
        "of_another_recipe": 0,
    }
    assert run["counts"]["drops"]["quality"] == {"licence_not_allowed": 2}
