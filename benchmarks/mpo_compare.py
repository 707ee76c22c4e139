"""Intervals for benchmarks/mpo.py: what another draw of questions and repeats could have given.

    paired(before, after, clusters, rng_seed=0)    Interval(10.4, 8.0, 12.8)

The questions are the same before and after and in every repeat, so the range of the repeats says
nothing of the questions. A bootstrap draws them again: pictures with all their questions (those of
one picture go wrong together), and repeats, before and after as pairs (Cameron, Gelbach, Miller
2008, Rev. Econ. Stat. 90, "Bootstrap-Based Improvements for Inference with Clustered Errors").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 4000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % interval, in points."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.1f} ({self.low:+.1f} to {self.high:+.1f})"


def paired(
    before: Sequence[Sequence[float]],
    after: Sequence[Sequence[float]],
    clusters: Sequence[str],
    rng_seed: int = 0,
) -> Interval:
    """The gain from `before` to `after`: a row per repeat, in it a value (0 to 1) per question;
    `clusters` names the picture of each question."""
    gains = 100 * (np.asarray(after, float) - np.asarray(before, float))
    _, place = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.array([np.bincount(place, row) for row in gains])
    sizes = np.bincount(place)
    rng = np.random.default_rng(rng_seed)
    repeats = rng.integers(0, len(gains), (DRAWS, len(gains)))
    drawn = rng.integers(0, len(sizes), (DRAWS, len(sizes)))
    means = [sums[some][:, own].sum() / (len(some) * sizes[own].sum())
             for some, own in zip(repeats, drawn, strict=True)]  # fmt: skip
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(gains.mean()), float(low), float(high))


def pass_at(k: int, right: int, n: int) -> float:
    """The chance that one of k samples is right, from n with so many right ones, without bias
    (Chen et al. 2021, arXiv 2107.03374)."""
    return 1 - math.comb(n - right, k) / math.comb(n, k)


def agreement(answers: Sequence[str]) -> float:
    """The chance that two samples of a question give the same answer; 0 for less than two."""
    counts = np.unique(np.asarray(answers), return_counts=True)[1] if answers else np.zeros(0)
    return float((counts * (counts - 1)).sum()) / max(1, len(answers) * (len(answers) - 1))
