"""The main job for real: the vLLM engine on a local Ray, from seeds to pairs and back in."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from commands import mmpr
from PIL import Image
from waiting import wait_for

import mmpr_builder as mb

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
RECIPE = str(ROOT / "pipelines" / "demo.yaml")

pytestmark = pytest.mark.slow


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def accounted(out: Path) -> tuple[set[str], list[str]]:
    """(seeds that have pairs, items that were dropped)."""
    pairs = pq.read_table(out / "pairs", columns=["seed_id"]).column("seed_id").to_pylist()
    return set(pairs), pq.read_table(out / "drops").column("item_id").to_pylist()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A small demo build by the real engine, and what the terminal said."""
    out = tmp_path_factory.mktemp("build") / "out"
    done = mmpr("build", RECIPE, f"out={out}", "limit=48")
    assert done.returncode == 0, done.stderr
    return out, done.stderr


def test_the_demo_gives_pairs_of_both_kinds(built: tuple[Path, str]) -> None:
    out, said = built
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert run["counts"]["pairs"]["correctness"] >= 40
    assert run["counts"]["pairs"]["dropout_ntp"] >= 20
    assert run["counts"]["tokens"]["generated"] > 0
    assert "tokens" in said
    assert "report/index.html" in said
    assert (out / "report" / "index.html").stat().st_size > 10_000


def test_every_seed_ends_in_pairs_or_in_one_drop(built: tuple[Path, str]) -> None:
    out, _ = built
    rows = (out / "demo_seeds" / "seeds.jsonl").read_text(encoding="utf-8").splitlines()
    with_pairs, dropped = accounted(out)
    assert len(dropped) == len(set(dropped))
    assert not with_pairs & set(dropped)
    assert with_pairs | set(dropped) == {json.loads(row)["id"] for row in rows}


def test_rejected_of_dropout_ntp_keeps_the_first_half(built: tuple[Path, str]) -> None:
    out, _ = built
    rows = [
        r
        for r in mb.load_pairs(out).select_columns(
            ["kind", "chosen_text", "rejected_text", "images", "prompt"]
        )
        if r["kind"] == "dropout_ntp"
    ]
    for row in rows:
        quarter = len(row["chosen_text"]) // 4
        assert row["chosen_text"][:quarter] == row["rejected_text"][:quarter]
        assert row["chosen_text"] != row["rejected_text"]
        assert all(isinstance(image, Image.Image) for image in row["images"])


def test_a_finished_build_is_not_sampled_again_and_pairs_are_byte_equal(
    built: tuple[Path, str], tmp_path: Path
) -> None:
    out, _ = built
    before = digests(out / "pairs"), digests(out / "rollouts"), digests(out / "drops")
    done = mmpr("build", RECIPE, f"out={out}", "limit=48")
    assert done.returncode == 0, done.stderr
    assert "loading the engine" not in done.stderr
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert run["this_run"]["seconds"]["sampling"] > 5  # What it took, not this run's nothing.
    assert (digests(out / "pairs"), digests(out / "rollouts"), digests(out / "drops")) == before


def test_another_sampling_setting_on_the_same_folder_is_refused(built: tuple[Path, str]) -> None:
    out, _ = built
    done = mmpr("build", RECIPE, f"out={out}", "limit=48", "sampling.n=4")
    assert done.returncode == 2
    assert "sampling.n" in done.stderr


def test_pairs_are_not_stamped_with_settings_that_did_not_make_them(
    built: tuple[Path, str],
) -> None:
    out, _ = built
    done = mmpr("pair", RECIPE, f"out={out}", "limit=48", "sampling.temperature=0.3")
    assert done.returncode == 2
    assert "sampling.temperature" in done.stderr
    again = mmpr("pair", RECIPE, f"out={out}", "limit=48")
    assert again.returncode == 0, again.stderr


def test_replayed_rollouts_give_the_same_pairs(built: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = built
    again = tmp_path / "again"
    done = mmpr(
        "build", RECIPE, f"out={again}", "limit=48", "sampling.engine=replay",
        f"sampling.replay_from={out / 'rollouts'}", "distributed.unit_queries=7",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    columns = ["seed_id", "kind", "chosen_text", "rejected_text"]
    first, second = (pq.read_table(d / "pairs", columns=columns) for d in (out, again))
    assert first.equals(second)


def test_an_interrupted_build_goes_on_where_it_was(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["build", RECIPE, f"out={out}", "limit=40", "distributed.unit_queries=4"]
    words.append("distributed.units_in_flight=1")
    process = subprocess.Popen(
        [sys.executable, "-m", "mmpr_builder", *words],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )

    def has_a_part() -> bool:
        assert process.poll() is None, process.communicate()[1]
        return any(out.glob("rollouts/*.parquet"))

    wait_for(has_a_part)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    kept = digests(out / "rollouts")
    assert kept
    done = mmpr(*words)
    assert done.returncode == 0, done.stderr
    after = digests(out / "rollouts")
    assert kept.items() <= after.items()
    assert len(after) == 10
    with_pairs, dropped = accounted(out)
    assert len(with_pairs) + len(dropped) == 40


@pytest.mark.skipif(not SHARED.exists(), reason="the shared real data are not here")
def test_real_data_end_normally_with_every_row_accounted_for(tmp_path: Path) -> None:
    out = tmp_path / "out"
    seeds = f"{SHARED / 'real'},{SHARED / 'real_bad'}"
    done = mmpr("build", RECIPE, f"out={out}", f"seeds={seeds}", "sampling.n=2",
                "sampling.max_tokens=64")  # fmt: skip
    assert done.returncode == 0, done.stderr
    files = [*sorted((SHARED / "real").glob("*.jsonl")), *(SHARED / "real_bad").glob("*.jsonl")]
    rows = [line for file in files for line in file.read_text("utf-8").splitlines() if line]
    with_pairs, dropped = accounted(out)
    assert len(with_pairs) + len(dropped) == len(rows)
    drops = pq.read_table(out / "drops").to_pylist()
    bad = [d for d in drops if d["item_id"].startswith("bad_")]
    assert len(bad) == 6
    assert all(d["reason"].startswith("image_") for d in bad)
