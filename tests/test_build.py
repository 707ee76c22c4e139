"""The main job for real: the vLLM engine on a local Ray, from seeds to pairs and back in."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import attrgetter
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow.parquet as pq
import pytest
from commands import mmpr
from demo_bounds import assert_it_makes_pairs
from PIL import Image
from small_builds import sample_here
from waiting import wait_for

import mmpr_builder as mb
from mmpr_builder.config import load_config
from mmpr_builder.engines import make_sampler
from mmpr_builder.library import read_rollouts
from mmpr_builder.output import read_run
from mmpr_builder.records import Rollout, generated_tokens
from mmpr_builder.steps import gaps_of
from tools.demo_model.measure import answer_of

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


@dataclass(frozen=True)
class Built:
    """A demo build by the real engine, stopped after its first part and started again."""

    out: Path
    stopped: tuple[int, str]
    """The exit code of the first run, and what it said."""
    kept: dict[str, str]
    """The parts that it left, by their digests."""
    said: str
    """What the second run said."""

    @cached_property
    def counts(self) -> dict[str, Any]:
        return dict(read_run(str(self.out))["counts"])

    @cached_property
    def rollouts(self) -> list[Rollout]:
        return list(read_rollouts(self.out))


# One build for all that only the real engine shows: its starts take longer than its answers.
SEEDS = 64
WORDS = [
    *(RECIPE, f"limit={SEEDS}", "sampling.n=8", "sampling.blind=3", "dropout.keep=0.25,0.5"),
    *("distributed.unit_queries=16", "distributed.units_in_flight=1"),
    "pairing.kinds=correctness,format,dropout_ntp,step",
    *("steps.apply=exact", "steps.samples=2", "steps.responses=1", "steps.faithful=1"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    out = tmp_path_factory.mktemp("build") / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "mmpr_builder", "build", *WORDS, f"out={out}"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )

    def has_a_part() -> bool:
        assert process.poll() is None, process.communicate()[1]
        return any(out.glob("rollouts/*.parquet"))

    try:
        wait_for(has_a_part)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=600)
    finally:
        process.kill()
    kept = digests(out / "rollouts")
    done = mmpr("build", *WORDS, f"out={out}")
    assert done.returncode == 0, done.stderr
    return Built(out, (process.returncode, said), kept, done.stderr)


@pytest.fixture(scope="module")
def replayed(built: Built) -> Path:
    """The same from its rollouts, in other units, with as few continuations of steps as need be."""
    again = built.out.with_name("again")
    words = [
        *WORDS,
        *(f"out={again}", "sampling.engine=replay", f"sampling.replay_from={built.out}/rollouts"),
        *("steps.apply=frugal", "distributed.unit_queries=7"),
    ]
    sample_here(load_config(words[0], words[1:]), make_sampler)
    done = mmpr("pair", *words)
    assert done.returncode == 0, done.stderr
    return again


def test_the_demo_gives_pairs_of_both_kinds(built: Built) -> None:
    assert built.counts["pairs"]["correctness"] >= 40
    assert built.counts["pairs"]["dropout_ntp"] >= 20
    assert built.counts["tokens"]["generated"] == sum(map(generated_tokens, built.rollouts)) > 0
    assert "tokens" in built.said
    assert "report/index.html" in built.said
    assert (built.out / "report" / "index.html").stat().st_size > 10_000


def test_every_seed_ends_in_pairs_or_in_one_drop(built: Built) -> None:
    rows = (built.out / "demo_seeds" / "seeds.jsonl").read_text(encoding="utf-8").splitlines()
    with_pairs, dropped = accounted(built.out)
    assert len(dropped) == len(set(dropped))
    assert not with_pairs & set(dropped)
    assert with_pairs | set(dropped) == {json.loads(row)["id"] for row in rows}


def test_rejected_of_dropout_ntp_keeps_the_first_half(built: Built) -> None:
    columns = ["kind", "chosen_text", "rejected_text", "images", "prompt", "dropout_keep"]
    pairs = mb.load_pairs(built.out).select_columns(columns)
    rows = [row for row in pairs if row["kind"] == "dropout_ntp"]
    assert {row["dropout_keep"] for row in rows} == {0.25, 0.5}
    for row in rows:
        # The cut is made between tokens: it may lie before the place in characters.
        kept = int(len(row["chosen_text"]) * row["dropout_keep"] / 2)
        assert row["chosen_text"][:kept] == row["rejected_text"][:kept]
        assert row["chosen_text"] != row["rejected_text"]
        assert all(isinstance(image, Image.Image) for image in row["images"])


def test_a_finished_build_is_not_sampled_again_and_pairs_are_byte_equal(built: Built) -> None:
    folders = [built.out / name for name in ("pairs", "rollouts", "drops")]
    before = [digests(folder) for folder in folders]
    took = read_run(str(built.out))["this_run"]["seconds"]["sampling"]
    done = mmpr("build", *WORDS, f"out={built.out}")
    assert done.returncode == 0, done.stderr
    assert "loading the engine" in built.said
    assert "loading the engine" not in done.stderr
    now = read_run(str(built.out))["this_run"]["seconds"]["sampling"]
    assert now == took > 0  # What it took, not this run's nothing.
    assert [digests(folder) for folder in folders] == before


def test_another_sampling_setting_on_the_same_folder_is_refused(built: Built) -> None:
    done = mmpr("build", *WORDS, f"out={built.out}", "sampling.n=4")
    assert done.returncode == 2
    assert "sampling.n" in done.stderr


def test_pairs_are_not_stamped_with_settings_that_did_not_make_them(built: Built) -> None:
    done = mmpr("pair", *WORDS, f"out={built.out}", "sampling.temperature=0.3")
    assert done.returncode == 2
    assert "sampling.temperature" in done.stderr
    again = mmpr("pair", *WORDS, f"out={built.out}")
    assert again.returncode == 0, again.stderr


def test_replayed_rollouts_give_the_same_pairs(built: Built, replayed: Path) -> None:
    columns = ["seed_id", "kind", "chosen_text", "rejected_text"]
    first, second = (
        [row for row in pq.read_table(out / "pairs", columns=columns).to_pylist()
         if row["kind"] != "step"]
        for out in (built.out, replayed)
    )  # fmt: skip
    assert first == second


def test_an_interrupted_build_goes_on_where_it_was(built: Built) -> None:
    code, said = built.stopped
    assert code == 130, said
    assert "Traceback" not in said
    assert built.kept
    after = digests(built.out / "rollouts")
    assert built.kept.items() <= after.items()
    assert len(built.kept) < len(after) == 4
    with_pairs, dropped = accounted(built.out)
    assert len(with_pairs) + len(dropped) == SEEDS


def test_a_real_build_has_both_samples_without_images_and_several_ratios(built: Built) -> None:
    rollouts, run = built.rollouts, built.counts
    assert {len(r.blind) for r in rollouts if r.seed.has_truth} == {3}
    assert {len(r.blind) for r in rollouts if not r.seed.has_truth} <= {0}
    assert len({sample.text for r in rollouts for sample in r.blind}) > 3
    both = [r for rollout in rollouts for r in rollout.responses if len(r.continuations) == 2]
    assert len(both) > 16
    for response in both:
        quarter, half = response.continuations
        assert (quarter.keep, half.keep) == (0.25, 0.5)
        assert len(quarter.prefix) < len(half.prefix) < len(response.text)
        assert response.text.startswith(half.prefix)
        assert quarter.seed != half.seed
    assert run["blind"]["seeds"]["measured"] == sum(r.seed.has_truth for r in rollouts)
    columns = ["kind", "dropout_keep", "blind_pass_rate"]
    rows = pq.read_table(built.out / "pairs", columns=columns).to_pylist()
    kept = {row["dropout_keep"] for row in rows if row["kind"] == "dropout_ntp"}
    assert kept == {0.25, 0.5}
    assert {"0.25", "0.5"} == {*run["continuations"]}
    assert any(row["blind_pass_rate"] is not None for row in rows)


def test_the_demo_model_goes_on_from_its_steps(built: Built, replayed: Path) -> None:
    exact, frugal = built.counts, read_run(str(replayed))["counts"]
    assert exact["tokens"]["responses"] == frugal["tokens"]["responses"]
    assert 0 < frugal["tokens"]["steps"] < exact["tokens"]["steps"]
    ends = exact["steps"]["continuations"]
    assert min(ends["correct"], ends["incorrect"]) > 0
    assert exact["steps"]["middle"]["correct"] > 0
    for rollout in built.rollouts:
        for response in rollout.responses:
            for one in response.with_image:
                assert response.text.startswith(one.prefix)
                assert one.image
                if one.keep >= 1:
                    end, start = gaps_of(response.text, "lines")[int(one.keep) - 1]
                    assert end <= len(one.prefix) <= start


def test_the_shipped_model_sees_in_the_real_engine(built: Built) -> None:
    """That it is right most often when greedy is in `test_engines_real`."""
    asked = [rollout for rollout in built.rollouts if rollout.seed.has_truth]
    seen, unseen = (
        [[answer_of(sample.text, r.style) for sample in samples(r)] for r in asked]
        for samples in (attrgetter("responses"), attrgetter("blind"))
    )
    truths = [rollout.seed.answers[0] for rollout in asked]
    right = [[said == truth for said in group] for group, truth in zip(seen, truths, strict=True)]
    assert_it_makes_pairs(
        accuracy=fmean(chain(*right)),
        both_outcomes=fmean(0 < sum(marks) < len(marks) for marks in right),
        no_answer=fmean(said is None for said in chain(*seen)),
        accuracy_blind=fmean(
            said == truth for group, truth in zip(unseen, truths, strict=True) for said in group
        ),
    )


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
