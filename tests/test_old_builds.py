"""Folders made by earlier versions stay good: resumed, extended, paired, pooled, exported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import old_builds
import pytest
from build_files import rows_in
from old_builds import OTHER, PLAIN, recorded, settings
from small_builds import make_config, sample_here

from mmpr_builder import load_pairs
from mmpr_builder.config import Config
from mmpr_builder.errors import InputError
from mmpr_builder.export import FORMATS, ExportOptions, write_export
from mmpr_builder.output import read_run
from mmpr_builder.progress import Progress
from mmpr_builder.report import write_report
from mmpr_builder.runs import run_pairing


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    with old_builds.unpacked(tmp_path) as found:
        yield found


def test_an_old_build_is_complete_and_pairs_again_as_it_did(home: Path) -> None:
    config = settings(PLAIN, home / "plain")
    before = {name: rows_in(home / "plain" / name) for name in ("pairs", "drops")}
    assert sample_here(config)[0] == []
    run = run_pairing(config, Progress()).run
    assert run["counts"]["seeds"]["read"] == 15
    assert {name: rows_in(home / "plain" / name) for name in before} == before


def test_an_old_build_goes_on_where_it_was(home: Path) -> None:
    config = settings(PLAIN, home / "plain")
    parts_there = sorted((home / "plain" / "rollouts").iterdir())
    parts_there[1].unlink()
    assert sample_here(config)[0] == ["unit-00001"]
    assert run_pairing(config, Progress()).run["counts"]["seeds"]["read"] == 15


def test_an_old_build_grows(home: Path) -> None:
    with (home / "seeds.jsonl").open("a") as file:
        file.write(json.dumps({"id": "new", "question": "What is 1 + 1?", "answer": "2"}) + "\n")
    config = settings(PLAIN, home / "plain")
    kept = {path.name: path.read_bytes() for path in (home / "plain" / "rollouts").iterdir()}
    assert sample_here(config, extend=True)[0] == ["unit-00004"]
    now = {path.name: path.read_bytes() for path in (home / "plain" / "rollouts").iterdir()}
    assert {name: now[name] for name in kept} == kept
    assert run_pairing(config, Progress()).run["counts"]["seeds"]["read"] == 16


def test_old_builds_are_pooled(home: Path) -> None:
    together = f"rollouts={home / 'plain'},{home / 'other'}"
    run = run_pairing(settings(PLAIN, home / "pool", together), Progress()).run
    assert [build["rollouts"] for build in run["pooled"]] == [
        str(home / name) for name in ("plain", "other")
    ]
    assert run["counts"]["pairs"]["total"] > 0


def test_old_builds_are_exported_loaded_and_shown(home: Path, tmp_path: Path) -> None:
    pairs = load_pairs(home / "plain")
    assert len(pairs) == 78
    assert pairs[0]["images"][0].size == (480, 480)
    for trainer in ("internvl", "ms-swift", "llama-factory"):
        dest = str(tmp_path / trainer)
        done = write_export([str(home / "plain")], FORMATS[trainer], dest, ExportOptions())
        assert done.rows == 78
    write_report(str(home / "plain"))
    assert "0.1.0" in (home / "plain" / "report" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["plain", "other"])
def test_the_recorded_settings_of_an_old_build_are_still_settings(home: Path, name: str) -> None:
    recorded = read_run(home / name)["config"]
    config = Config.model_validate(recorded)
    assert config.sampling.model_dump(mode="json") == recorded["sampling"]


def test_a_build_goes_on_with_values_that_recipes_cannot_give_any_more(tmp_path: Path) -> None:
    against = tmp_path / "eval.jsonl"
    against.write_text('{"id": "e", "question": "What else is there?", "answer": "1"}\n')
    words = ("sampling.policy=adaptive", f"quality.decontaminate.against={against}")
    config = make_config(tmp_path, 4, *words)
    screened = config.quality.decontaminate.model_copy(update={"question_words": 9})
    planned = recorded(recorded(config, "sampling", round=1), "quality", decontaminate=screened)
    assert sample_here(planned)[0] == ["unit-00000"]
    assert sample_here(config)[0] == []


def test_a_run_of_a_newer_schema_is_refused(home: Path) -> None:
    path = home / "plain" / "run.json"
    run = json.loads(path.read_text(encoding="utf-8"))
    assert "schema_version" not in run
    path.write_text(json.dumps({**run, "schema_version": 2}), encoding="utf-8")
    with pytest.raises(InputError, match="schema_version 2, this version reads 1"):
        read_run(home / "plain")
    written = run_pairing(settings(PLAIN, home / "plain"), Progress()).run
    assert written["schema_version"] == 1


def test_an_old_build_is_replayed(home: Path, tmp_path: Path) -> None:
    shutil.rmtree(home / "other" / "pairs")
    replay = ("sampling.engine=replay", f"sampling.replay_from={home / 'other' / 'rollouts'}")
    config = settings(OTHER, tmp_path / "again", *replay)
    assert run_pairing(settings(OTHER, home / "other"), Progress()).run["counts"]["pairs"]["total"]
    from mmpr_builder.engines import make_sampler

    sample_here(config, make_sampler)
    texts = [
        [r["text"] for r in row["responses"]] for row in rows_in(tmp_path / "again" / "rollouts")
    ]
    old = [[r["text"] for r in row["responses"]] for row in rows_in(home / "other" / "rollouts")]
    assert texts == old
