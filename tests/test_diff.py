"""Two builds compared: what differs is found, what does not is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from pair_samples import make_rollout, sample_rollouts, write_build

from mmpr_builder.config import Config, PairingConfig
from mmpr_builder.diff import Change, compare_builds
from mmpr_builder.errors import InputError
from mmpr_builder.io.tables import rollouts_to_table, write_parquet
from mmpr_builder.records import Rollout, Seed


def build(out: Path, rollouts: Sequence[Rollout], config: Config | None = None) -> str:
    write_build(out, rollouts, config)
    return str(out)


def test_a_build_does_not_differ_from_itself(tmp_path: Path) -> None:
    rollouts = sample_rollouts(tmp_path)
    left = build(tmp_path / "a", rollouts)
    diff = compare_builds(left, left)
    assert not any([diff.settings, diff.versions, diff.counts, diff.seeds, diff.rates, diff.flips])
    assert diff.pairs == {
        "total": (0, 0, 10),
        "correctness": (0, 0, 4),
        "format": (0, 0, 3),
        "dropout_ntp": (0, 0, 3),
    }
    assert all(change.left == change.right for change in diff.pass_rates)


def test_another_pairing_shows_in_settings_counts_and_pairs(tmp_path: Path) -> None:
    rollouts = sample_rollouts(tmp_path)
    left = build(tmp_path / "a", rollouts)
    config = Config(pairing=PairingConfig(kinds=("dropout_ntp",)))
    diff = compare_builds(left, build(tmp_path / "b", rollouts, config))
    settings = {change.name: (change.left, change.right) for change in diff.settings}
    assert settings.keys() == {"out", "pairing.kinds"}
    assert settings["pairing.kinds"][1] == ["dropout_ntp"]
    counts = {change.name: (change.left, change.right) for change in diff.counts}
    assert counts["pairs.correctness"] == (4, 0)
    assert counts["seeds.dropped"] == (3, 6)
    assert diff.pairs["total"] == (7, 0, 3)
    ends = {change.name: (change.left, change.right) for change in diff.seeds}
    assert ends["one"][0] == "pairs"
    assert ends["one"][1] not in (None, "pairs")
    assert "easy" not in ends
    assert diff.flips == ()


def test_verdicts_that_flipped_and_pass_rates_that_moved_are_named(tmp_path: Path) -> None:
    texts = ["I see 3", "so 3 it is 3", "I see 4"]
    seed = Seed("q", "How many?", (), ("3",), source="grid")
    left = build(tmp_path / "a", [make_rollout(seed, texts)])
    right = build(tmp_path / "b", [make_rollout(replace(seed, answers=("4",)), texts)])
    diff = compare_builds(left, right)
    flips = {flip.text: (flip.left, flip.right) for flip in diff.flips}
    assert flips == {
        "I see 3": ("correct", "incorrect"),
        "so 3 it is 3": ("correct", "incorrect"),
        "I see 4": ("incorrect", "correct"),
    }
    assert {flip.left_rule for flip in diff.flips} == {"last_word"}
    (rate,) = diff.rates
    assert (rate.name, round(rate.left, 3), round(rate.right, 3)) == ("q", 0.667, 0.333)
    means = {change.name: (change.left, change.right) for change in diff.pass_rates}
    assert means["grid"] == pytest.approx((0.667, 0.333), abs=1e-3)


def test_seeds_that_gave_pairs_once_and_none_the_other_time_keep_their_rates(
    tmp_path: Path,
) -> None:
    seed = Seed("q", "How many?", (), ("3",))
    left = build(tmp_path / "a", [make_rollout(seed, ["so 3", "so 4"])])
    right = build(tmp_path / "b", [make_rollout(seed, ["so 3", "then 3"])])
    diff = compare_builds(left, right)
    assert [(c.name, c.left, c.right) for c in diff.rates] == [("q", 0.5, 1.0)]
    assert [(c.name, c.left, c.right) for c in diff.seeds] == [("q", "pairs", "all_correct")]


def test_a_seed_only_one_build_has_is_named(tmp_path: Path) -> None:
    a = make_rollout(Seed("a", "How many?", (), ("3",)), ["so 3", "so 4"])
    b = make_rollout(Seed("b", "How many?", (), ("3",)), ["so 3", "so 4"], index=1)
    diff = compare_builds(build(tmp_path / "a", [a]), build(tmp_path / "b", [a, b]))
    assert [(c.name, c.left, c.right) for c in diff.seeds] == [("b", None, "pairs")]
    assert diff.pairs["total"] == (0, 1, 1)


def test_no_build_is_an_input_error(tmp_path: Path) -> None:
    left = build(tmp_path / "a", sample_rollouts(tmp_path))
    with pytest.raises(InputError, match="no finished build"):
        compare_builds(left, str(tmp_path / "b"))


def test_drift_is_measured_on_the_questions_that_both_builds_asked(tmp_path: Path) -> None:
    def asked(seed: str, words: Sequence[str], index: int, tokens: int) -> Rollout:
        made = make_rollout(
            Seed(seed, "How many?", (), ("3",), source="sums"),
            [f"{i} so\nFinal answer: {word}" for i, word in enumerate(words)],
            index=index,
        )
        return replace(made, responses=tuple(replace(r, tokens=tokens) for r in made.responses))

    first = [asked("a", "3345", 0, 10), asked("b", "3333", 1, 30), asked("c", "4444", 2, 99)]
    second = [asked("a", "34", 0, 20), asked("b", "3344", 1, 50)]
    folders = [build(tmp_path / "first", first), build(tmp_path / "second", second)]
    for folder, rollouts in zip(folders, (first, second), strict=True):
        write_parquet(rollouts_to_table(rollouts), f"{folder}/rollouts/unit-00000.parquet")
    drift = compare_builds(*folders).drift
    assert drift["tokens of a response"] == (Change("all sources", 20, 35), Change("sums", 20, 35))
    assert drift["share right"][1] == Change("sums", 0.75, 0.5)
    _, differ = drift["two answers differ"]
    # Of 3, 3, 4, 5 five pairs in six differ; of 3, 3, 4, 4 four.
    assert (differ.left, differ.right) == pytest.approx(
        ((5 / 6 + 0) / 2, (1 + 4 / 6) / 2), abs=1e-4
    )
    assert compare_builds(folders[0], build(tmp_path / "bare", first)).drift == {}
