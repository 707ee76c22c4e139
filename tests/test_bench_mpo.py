"""Intervals of the proof: they hold the truth, which the range of repeats does not."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.mpo_compare import agreement, paired, pass_at


def drawn(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Three repeats over 120 pictures with two questions each; the true gain is 10 points."""
    picture = np.repeat(rng.normal(0, 0.15, 120), 2)
    own = np.clip(0.5 + picture, 0.05, 0.85)
    effect = np.repeat(rng.normal(0.10, 0.15, 120), 2)
    before = np.array([rng.binomial(16, own) / 16 for _ in range(3)])
    after = np.array([rng.binomial(16, np.clip(own + effect, 0, 1)) / 16 for _ in range(3)])
    return before, after, [f"p{i // 2}" for i in range(240)]


def test_the_interval_holds_the_true_gain_and_the_range_of_repeats_does_not() -> None:
    rng = np.random.default_rng(1)
    held = by_range = 0
    for _ in range(60):
        before, after, clusters = drawn(rng)
        found = paired(before, after, clusters)
        gains = 100 * (after - before).mean(1)
        held += found.low <= 9.8 <= found.high  # What clipping leaves of ten.
        by_range += bool(gains.min() <= 9.8 <= gains.max())
    assert held >= 52
    assert by_range <= 40


def test_the_same_on_both_sides_is_no_gain() -> None:
    before, _, clusters = drawn(np.random.default_rng(2))
    found = paired(before, before, clusters)
    assert (found.mean, found.low, found.high) == (0, 0, 0)


def test_pass_at_eight_is_the_chance_that_one_of_eight_is_right() -> None:
    assert pass_at(1, 4, 16) == 0.25
    assert pass_at(8, 0, 16) == 0.0
    assert pass_at(8, 9, 16) == 1.0
    assert pass_at(8, 1, 16) == pytest.approx(0.5)


def test_agreement_is_the_share_of_equal_pairs() -> None:
    assert agreement(["3", "3", "4"]) == pytest.approx(1 / 3)
    assert agreement(["3"] * 5) == 1.0
    assert agreement([]) == agreement(["3"]) == 0.0
