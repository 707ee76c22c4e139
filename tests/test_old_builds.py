"""Folders made by earlier versions stay good: resumed, extended, paired, pooled, exported."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import fake_samplers
import old_builds
import pytest
from old_builds import OTHER, PLAIN, settings

from mmpr_builder import load_pairs
from mmpr_builder.config import Config
from mmpr_builder.errors import InputError
from mmpr_builder.export import FORMATS, ExportOptions, write_export
from mmpr_builder.folder import parts
from mmpr_builder.io.tables import list_parts, read_parquet
from mmpr_builder.output import read_run
from mmpr_builder.progress import Progress
from mmpr_builder.report import write_report
from mmpr_builder.runs import plan, run_pairing
from mmpr_builder.runs.actors import SamplerActor


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    with old_builds.unpacked(tmp_path) as found:
        yield found


def rows(out: Path, name: str) -> list[dict[str, object]]:
    return [row for part in list_parts(out / name) for row in read_parquet(part).to_pylist()]


def sample(config: Config, *, extend: bool = False) -> list[str]:
    """What is not sampled yet, by a fake; returns the units."""

    async def work() -> list[str]:
        actor = SamplerActor(config, fake_samplers.answers)
        assert (await actor.start())[1] == ""
        manifest = plan(config, extend=extend)
        done = parts.published(config.out, manifest.units)
        todo = [unit for unit in manifest.units if unit.name not in done]
        for key, unit in enumerate(todo):
            assert (await actor.sample(key, unit, None)).published
        await actor.close()
        return [unit.name for unit in todo]

    return asyncio.run(work())


def test_an_old_build_is_complete_and_pairs_again_as_it_did(home: Path) -> None:
    config = settings(PLAIN, home / "plain")
    before = {name: rows(home / "plain", name) for name in ("pairs", "drops")}
    assert sample(config) == []
    run = run_pairing(config, Progress()).run
    assert run["counts"]["seeds"]["read"] == 15
    assert {name: rows(home / "plain", name) for name in before} == before


def test_an_old_build_goes_on_where_it_was(home: Path) -> None:
    config = settings(PLAIN, home / "plain")
    parts_there = sorted((home / "plain" / "rollouts").iterdir())
    parts_there[1].unlink()
    assert sample(config) == ["unit-00001"]
    assert run_pairing(config, Progress()).run["counts"]["seeds"]["read"] == 15


def test_an_old_build_grows(home: Path) -> None:
    with (home / "seeds.jsonl").open("a") as file:
        file.write(json.dumps({"id": "new", "question": "What is 1 + 1?", "answer": "2"}) + "\n")
    config = settings(PLAIN, home / "plain")
    kept = {path.name: path.read_bytes() for path in (home / "plain" / "rollouts").iterdir()}
    assert sample(config, extend=True) == ["unit-00004"]
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

    async def work() -> None:
        actor = SamplerActor(config, make_sampler)
        assert (await actor.start())[1] == ""
        for key, unit in enumerate(plan(config).units):
            assert (await actor.sample(key, unit, None)).published
        await actor.close()

    asyncio.run(work())
    texts = [[r["text"] for r in row["responses"]] for row in rows(tmp_path / "again", "rollouts")]
    old = [[r["text"] for r in row["responses"]] for row in rows(home / "other", "rollouts")]
    assert texts == old
