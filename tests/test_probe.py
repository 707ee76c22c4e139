"""The probe behind `mmpr plan --probe`: a fair draw, an honest range, the true sum inside it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pair_samples import make_rollout

from mmpr_builder.config import Config, SamplingConfig, SourceConfig
from mmpr_builder.errors import InputError
from mmpr_builder.io import tables
from mmpr_builder.probe import draw, estimate, run_probe
from mmpr_builder.progress import Progress
from mmpr_builder.prompts import load_template, render
from mmpr_builder.records import Drop, Seed

ROOT = Path(__file__).parents[1]


def seeds(sizes: dict[str, int]) -> list[Seed | Drop]:
    found: list[Seed | Drop] = [Drop("x", "seeds", "empty")]
    for source, n in sizes.items():
        found += [Seed(f"{source}-{i}", "How many?", (), ("3",), source=source) for i in range(n)]
    return found


def test_every_source_is_drawn_from_in_proportion_but_two_seeds_at_least() -> None:
    drawn = draw(seeds({"big": 900, "mid": 95, "tiny": 4, "one": 1}), 50)
    assert {name: (size, len(some)) for name, (size, some) in drawn.items()} == {
        "big": (900, 45),
        "mid": (95, 5),
        "one": (1, 1),
        "tiny": (4, 2),
    }


def test_the_draw_does_not_depend_on_the_order_of_the_seeds() -> None:
    items = seeds({"a": 60, "b": 60})
    shuffled = random.Random(0).sample(items, len(items))
    first, second = (draw(some, 20) for some in (items, shuffled))
    for name in ("a", "b"):
        drawn = [{seed.id for seed in found[name][1]} for found in (first, second)]
        assert drawn[0] == drawn[1]
        assert drawn[0] != {f"{name}-{i}" for i in range(10)}


def test_a_sum_over_all_is_exact_when_all_were_probed() -> None:
    found = estimate({"a": 3, "b": 2}, {"a": [1, 2, 3], "b": [10, 20]})
    assert (found.mean, found.low, found.high) == (36, 36, 36)


POPULATIONS: dict[str, tuple[Callable[[random.Random], float], float | None]] = {
    "normal": (lambda r: min(15.0, max(0.0, r.gauss(7, 2))), 15),
    "mostly none": (lambda r: 15.0 * (r.random() < 0.3), 15),
    "rare": (lambda r: 15.0 * (r.random() < 0.02), 15),
    "lengths": (lambda r: r.lognormvariate(6, 1), None),
    "long tail": (lambda r: r.expovariate(1 / 400), None),
}


@pytest.mark.parametrize("name", POPULATIONS)
@pytest.mark.parametrize("probed", [2, 4, 24])
def test_the_range_holds_the_true_sum_as_often_as_it_says(name: str, probed: int) -> None:
    value, most = POPULATIONS[name]
    chance = random.Random(7)
    population = [value(chance) for _ in range(1000)]
    found = [
        estimate({"a": 1000}, {"a": chance.sample(population, probed)}, most) for _ in range(300)
    ]
    held = sum(one.low <= sum(population) <= one.high for one in found)
    assert held / 300 >= 0.9
    if most is not None:
        assert all(0 <= one.low <= one.mean <= one.high <= 1000 * most for one in found)


def test_the_range_over_many_small_sources_is_narrower_than_that_of_each() -> None:
    chance, sizes = random.Random(8), {f"s{i}": 100 for i in range(20)}
    values = {name: [chance.gauss(100, 20) for _ in range(3)] for name in sizes}
    whole = estimate(sizes, values)
    alone = estimate({"s0": 100}, {"s0": values["s0"]})
    assert whole.low <= 200_000 <= whole.high
    assert (whole.high - whole.low) / whole.mean < 0.5 * (alone.high - alone.low) / alone.mean


def test_one_value_alone_takes_its_spread_from_the_others() -> None:
    alone = estimate({"a": 100, "b": 10}, {"a": [5, 15, 10], "b": [100]})
    assert alone.high - alone.mean > 10 * 1.0


@pytest.fixture
def replayed(tmp_path: Path) -> Config:
    """A build to be of forty seeds in two sources, answered by replay."""
    rows, rollouts = [], []
    for i in range(40):
        source = "a" if i < 30 else "b"
        seed = Seed(f"q{i}", f"How many are {i}?", (), ("3",), source=source)
        rows.append({"id": seed.id, "question": seed.question, "answer": "3", "source": source})
        # Every third question of "a" gives no pair.
        answers = (3, 3) if source == "a" and i % 3 == 0 else (3, 4)
        texts = [f"Way {way} to {i}.\nFinal answer: {said}" for way, said in enumerate(answers)]
        made = make_rollout(seed, texts, index=i)
        rollouts.append(replace(made, prompt=render(load_template("final_answer_en"), seed)))
    for source in ("a", "b"):
        lines = [json.dumps(row) + "\n" for row in rows if row["source"] == source]
        (tmp_path / f"{source}.jsonl").write_text("".join(lines), encoding="utf-8")
    table = tables.rollouts_to_table(rollouts)
    tables.write_parquet(table, tmp_path / "old" / "rollouts" / "unit-0.parquet")
    return Config(
        out=str(tmp_path / "out"),
        seeds=tuple(SourceConfig(path=str(tmp_path / f"{name}.jsonl")) for name in "ab"),
        sampling=SamplingConfig(
            engine="replay", n=2, replay_from=str(tmp_path / "old" / "rollouts")
        ),
    )


def test_a_probe_of_all_seeds_says_what_the_build_gives(replayed: Config) -> None:
    probe = run_probe(replayed, 40, Progress())
    assert (probe.seeds, probe.probed) == (40, 40)
    assert probe.pairs.mean == probe.pairs.low == probe.pairs.high
    by_source = {source.source: source for source in probe.sources}
    assert (by_source["a"].pairs.mean, by_source["b"].pairs.mean) == (20, 10)
    assert probe.tokens.mean == sum(s.tokens.mean for s in probe.sources)
    assert probe.rollout_bytes > 0
    assert probe.pair_bytes > 0
    assert not (Path(replayed.out) / "rollouts").exists()
    assert not (Path(replayed.out) / "pairs").exists()


def test_a_small_probe_extrapolates_by_source(replayed: Config) -> None:
    probe = run_probe(replayed, 8, Progress())
    assert {s.source: (s.seeds, s.probed) for s in probe.sources} == {"a": (30, 6), "b": (10, 2)}
    assert probe.pairs.low <= 30 <= probe.pairs.high
    assert probe.pairs.low < probe.pairs.mean
    assert probe.hours.mean == pytest.approx(probe.tokens.mean / probe.tokens_per_second / 3600)


def test_no_seeds_is_said(replayed: Config, tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text('{"id": "x"}\n', encoding="utf-8")
    config = replayed.model_copy(update={"seeds": (SourceConfig(path=f"{tmp_path}/none.jsonl"),)})
    with pytest.raises(InputError, match="no seeds to probe"):
        run_probe(config, 4, Progress())
