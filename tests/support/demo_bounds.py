"""What the demo model has to be able to do: see, and be wrong often enough for pairs."""

from __future__ import annotations


def assert_it_makes_pairs(
    *, accuracy: float, both_outcomes: float, no_answer: float, accuracy_blind: float
) -> None:
    """All as shares, at temperature 1.0 with eight responses or so to each question."""
    assert 0.45 <= accuracy <= 0.8
    assert both_outcomes >= 0.5
    assert no_answer < 0.05
    assert accuracy - accuracy_blind >= 0.25
