"""Scoring against labelled cases that lie beside the checkout; skipped where they do not."""

from __future__ import annotations

import runpy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmpr_builder.scoring import Judge

SHARED = Path(__file__).parents[2] / "shared" / "data" / "scoring"
BENCH = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "scoring_cases.py"))
run: Callable[[Path, Judge], Any] = BENCH["run"]

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="no labelled cases beside the checkout")


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge() as shared:
        yield shared
        assert not [name for name in shared.stats() if name.startswith("rule.error:")]


@pytest.mark.parametrize("name", ["answers.jsonl", "responses.jsonl"])
def test_false_positives_and_misses_stay_below_their_bounds(name: str, judge: Judge) -> None:
    result = run(SHARED / name, judge)
    wrong, missed = result.confusion.false_positives, result.confusion.misses
    assert wrong.of
    assert missed.of
    assert wrong.hits <= 0.002 * wrong.of, result.wrong
    assert missed.hits <= 0.03 * missed.of, result.wrong


def test_hostile_cases_are_answered_in_time_and_never_correct(judge: Judge) -> None:
    start = time.perf_counter()
    result = run(SHARED / "hostile.jsonl", judge)
    assert result.wrong == []
    assert result.slowest < 120
    assert time.perf_counter() - start < 600
