"""Queries for verl: those of middling pass rate, as the model was asked, with a reward that judges
as the pairs were judged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trainer_loaders as loaders
from commands import mmpr
from pair_samples import LastWord, make_rollout, picture, sample_rollouts, write_build

from mmpr_builder import Config, Verdict
from mmpr_builder.errors import ConfigError, InputError
from mmpr_builder.export import FORMATS, Exported, ExportOptions, responses, write_export
from mmpr_builder.export.importing import import_pairs
from mmpr_builder.export.verl_reward import compute_score
from mmpr_builder.io import tables
from mmpr_builder.io.images import open_image, read_bytes
from mmpr_builder.records import Rollout, Seed
from mmpr_builder.seeds import read_seeds

pytestmark = pytest.mark.usefixtures("own_cache")


class Unsure(LastWord):
    """Cannot judge what ends in "maybe"."""

    def score_response(self, text: str, gold: Any, **options: Any) -> Verdict:
        if text.endswith("maybe"):
            return Verdict("undecided", rule="unsure")
        return super().score_response(text, gold, **options)


def write(rollouts: list[Rollout], dest: Path, **options: Any) -> Exported:
    config = Config()
    pairs = [(rollout, config) for rollout in rollouts]
    return write_export(
        ["out"], FORMATS["verl"], str(dest), ExportOptions(**options), lambda: pairs, Unsure()
    )


def with_rate(folder: Path, name: str, right: int, wrong: int, unsure: int = 0) -> Rollout:
    seed = Seed(
        name, "<image>\nHow many?", (picture(folder / f"{name}.png", "red"),), ("3",), source="grid"
    )
    texts = [f"{i} so 3" for i in range(right)] + [f"{i} so 4" for i in range(wrong)]
    return make_rollout(seed, [*texts, *(f"{i} maybe" for i in range(unsure))])


def test_the_loader_reads_queries_as_the_model_was_asked(tmp_path: Path) -> None:
    rollouts = sample_rollouts(tmp_path / "seeds")
    done = write(rollouts, tmp_path / "dest")
    read = list(loaders.verl(tmp_path / "dest" / "train.parquet"))
    assert [row["extra_info"]["id"] for _, row in read] == ["one", "two", "none"]
    assert [len(seen.images) for seen, _ in read] == [1, 2, 0]
    assert read[0][0].question == "<image>How many?\nEnd with Final answer: …"
    assert read[1][0].question.startswith("Is <image> redder than <image> ?")
    row = read[1][1]
    assert row["data_source"] == "grid"
    assert row["reward_model"] == {"style": "rule", "ground_truth": "yes"}
    assert row["extra_info"]["index"] == 1
    assert row["extra_info"]["choices"] == ["yes", "no"]
    assert row["extra_info"]["answers"] == ["yes"]
    assert row["extra_info"]["question"] == "Is <image> redder than <image> ?"
    assert done.rows == 3
    assert done.drops == {"no_truth": 1, "too_easy": 1, "image_missing": 1}
    dropped = [json.loads(line) for line in (tmp_path / "dest/drops.jsonl").open()]
    assert {drop["id"]: drop["reason"] for drop in dropped} == {
        "open": "no_truth",
        "easy": "too_easy",
        "gone": "image_missing",
    }


BY_RATE = [
    # right, wrong, undecided, bounds, reason it is left out (None: kept)
    (1, 4, 0, (0.2, 0.8), None),
    (4, 1, 0, (0.2, 0.8), None),
    (1, 5, 0, (0.2, 0.8), "too_hard"),
    (5, 1, 0, (0.2, 0.8), "too_easy"),
    (1, 4, 5, (0.2, 0.8), None),
    (0, 0, 3, (0.2, 0.8), "nothing_decided"),
    (5, 1, 0, (0.5, 1.0), None),
]


@pytest.mark.parametrize(("right", "wrong", "unsure", "bounds", "reason"), BY_RATE)
def test_the_pass_rate_is_over_decided_responses_ends_included(
    tmp_path: Path,
    right: int,
    wrong: int,
    unsure: int,
    bounds: tuple[float, float],
    reason: str | None,
) -> None:
    rollouts = [
        with_rate(tmp_path, "asked", right, wrong, unsure),
        with_rate(tmp_path, "middling", 3, 2),
    ]
    done = write(rollouts, tmp_path / "dest", pass_rate=bounds)
    assert done.drops == ({} if reason is None else {reason: 1})
    assert done.rows == (2 if reason is None else 1)


def test_a_mean_rate_that_is_rounded_past_the_end_is_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responses, "rate_of", lambda *_: sum([0.8] * 3) / 3)
    assert write([with_rate(tmp_path, "q", 4, 1)], tmp_path / "dest").rows == 1


def test_a_question_that_the_loader_would_miscount_is_left_out(tmp_path: Path) -> None:
    odd = with_rate(tmp_path, "odd", 1, 1)
    odd = replace(odd, prompt="<image>\nWhat does the <video> tag do?")
    done = write([odd, with_rate(tmp_path, "fine", 1, 1)], tmp_path / "dest")
    assert (done.rows, done.drops) == (1, {"placeholder_in_prompt": 1})


def test_images_that_changed_since_are_left_out(tmp_path: Path) -> None:
    changed, fine = with_rate(tmp_path, "changed", 1, 1), with_rate(tmp_path, "fine", 1, 1)
    picture(tmp_path / "changed.png", "blue")
    done = write([changed, fine], tmp_path / "dest")
    assert done.drops == {"image_changed": 1}


def test_the_same_rollouts_give_the_same_bytes(tmp_path: Path) -> None:
    rollouts = sample_rollouts(tmp_path / "seeds")
    write(rollouts, tmp_path / "a")
    write(rollouts, tmp_path / "b")
    assert (tmp_path / "a/train.parquet").read_bytes() == (
        tmp_path / "b/train.parquet"
    ).read_bytes()


def test_bounds_must_be_a_range_and_give_something(tmp_path: Path) -> None:
    rollouts = [with_rate(tmp_path, "x", 1, 1)]
    for bounds in ((0.8, 0.2), (-0.1, 0.5), (0.2, 1.5)):
        with pytest.raises(ConfigError, match="--pass-rate"):
            write(rollouts, tmp_path / "dest", pass_rate=bounds)
    with pytest.raises(InputError, match="1 too_easy"):
        write(rollouts, tmp_path / "dest", pass_rate=(0.0, 0.1))
    with pytest.raises(ConfigError, match="means nothing to verl"):
        write(rollouts, tmp_path / "dest", kinds=("format",))
    assert not (tmp_path / "dest").exists()


def test_the_command_takes_a_builds_own_settings_and_rollouts(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ref = picture(tmp_path / "red.png", "red")
    asked = [Seed(f"s{i}", "<image>\nHow many?", (ref,), ("3",), source="grid") for i in range(3)]
    texts = [f"I see {i}.\nFinal answer: {3 + i // 2}" for i in range(4)]
    rollouts = [
        replace(make_rollout(seed, texts if i else texts[:2]), index=i)
        for i, seed in enumerate(asked)
    ]
    write_build(out, rollouts)
    tables.write_parquet(tables.rollouts_to_table(rollouts), out / "rollouts/unit-00000.parquet")
    done = mmpr("export", str(out), str(tmp_path / "dest"), "--to", "verl")
    assert done.returncode == 0, done.stderr
    assert "2 rows for verl" in done.stderr
    assert "too_easy" in done.stderr
    read = list(loaders.verl(tmp_path / "dest" / "train.parquet"))
    assert [row["extra_info"]["pass_rate"] for _, row in read] == [0.5, 0.5]
    done = mmpr("export", str(out), str(tmp_path / "x"), "--to", "verl", "--sources", "gird")
    assert done.returncode == 2
    assert "there are grid" in done.stderr


def test_the_command_obeys_nothing_that_the_name_of_a_source_contains(tmp_path: Path) -> None:
    out = tmp_path / "out"
    seed = Seed("s", "How many?", (), ("3",), source="\x1b[31mred [bold]x[/]")
    rollout = make_rollout(seed, ["so\nFinal answer: 3", "so\nFinal answer: 4"])
    write_build(out, [rollout])
    tables.write_parquet(tables.rollouts_to_table([rollout]), out / "rollouts/unit-00000.parquet")
    done = mmpr("export", str(out), str(tmp_path / "dest"), "--to", "verl")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stderr
    assert "red [bold]x[/]" in done.stderr


def test_queries_are_seeds_again(tmp_path: Path) -> None:
    rollouts = sample_rollouts(tmp_path / "images")
    write(rollouts, tmp_path / "dest")
    seeds = [item for item in read_seeds(tmp_path / "dest/train.parquet") if isinstance(item, Seed)]
    asked = [rollout.seed for rollout in rollouts if rollout.seed.id in ("one", "two", "none")]
    for name in ("id", "choices", "source"):
        assert [getattr(seed, name) for seed in seeds] == [getattr(seed, name) for seed in asked]
    assert [seed.answers for seed in seeds] == [("3", "three"), ("A",), ("2",)]
    assert all(s.question.startswith(a.question) for s, a in zip(seeds, asked, strict=True))
    for seed, before in zip(seeds, asked, strict=True):
        both = [[open_image(read_bytes(ref)).tobytes() for ref in one.images] for one in
                (seed, before)]  # fmt: skip
        assert both[0] == both[1]


def test_mmpr_tiny_is_a_source_of_seeds_and_no_import(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", "red")
    row = {
        "data_source": "geo",
        "prompt": [{"role": "user", "content": "<image>\nFind x.\nAnswer in boxes."}],
        "images": [{"path": "a.png"}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "12"},
        "extra_info": {"index": 0, "question": "<image>\nFind x.", "answer": "12"},
    }
    bare = {**row, "extra_info": {**row["extra_info"], "question": None}}
    file = tmp_path / "mmpr_tiny.parquet"
    pq.write_table(pa.Table.from_pylist([row, bare]), file)
    first, second = read_seeds(file)
    assert isinstance(first, Seed)
    assert isinstance(second, Seed)
    assert (first.question, first.answers, first.source) == ("<image>\nFind x.", ("12",), "geo")
    assert second.question.startswith("<image>\nFind x.\nAnswer")
    assert len(first.images) == 1
    with pytest.raises(InputError, match="source of seeds"):
        import_pairs(str(file), str(tmp_path / "out"))


REWARDS = [
    # response, extra_info, reward
    ("so it is\nFinal answer: 3", {"style": "final_answer", "answers": ["three", "3"]}, 1.0),
    ("so it is\nFinal answer: 4", {"style": "final_answer", "answers": ["three", "3"]}, 0.0),
    ("no answer at all", {"style": "final_answer", "answers": ["3"]}, 0.0),
    (
        r"thus \boxed{B}",
        {"style": "boxed", "answers": ["12 cm"], "choices": ["5 cm", "12 cm"]},
        1.0,
    ),
    ("Final answer: 3", None, 1.0),
    ("Final answer: 3", {"style": None, "answers": [], "choices": [], "scorer": None}, 1.0),
]


@pytest.mark.parametrize(("response", "info", "reward"), REWARDS)
def test_the_reward_judges_by_style_truths_and_options(
    response: str, info: dict[str, Any] | None, reward: float
) -> None:
    assert compute_score("grid", response, "3", info) == reward
