"""The tool that measures the demo model for its card, on a few questions."""

from __future__ import annotations

import pytest

from mmpr_builder.demo import model_path
from tools.demo_model.measure import measure


@pytest.mark.families
def test_the_demo_model_is_measured_and_is_right_most_often_when_greedy() -> None:
    """That it sees is tested in `test_build` and `test_engines_real`, on more questions."""
    pytest.importorskip("vllm")
    figures = measure(model_path(), queries=20, n=2, seed=99)
    assert figures.accuracy_greedy > figures.accuracy > figures.accuracy_blind
    assert min(figures.accuracy_boxed, figures.accuracy_think_boxed) > figures.accuracy_blind
    assert set(figures.by_language) == {"en", "zh"}
