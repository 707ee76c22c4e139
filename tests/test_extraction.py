"""The final answer of a response: by style, last marker wins, never the whole text."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from mmpr_builder.errors import ConfigError
from mmpr_builder.extraction import STYLES, extract_answer, opened_by

CASES = json.loads((Path(__file__).parent / "cases" / "extraction.json").read_text("utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['style']}:{case['text'][-40:]!r}")
def test_extraction_follows_the_table(case: dict[str, str]) -> None:
    assert extract_answer(case["text"], case["style"]) == case["answer"]


def test_open_responses_have_no_final_answer() -> None:
    assert extract_answer("Final answer: 5", "open") is None


def test_an_unknown_style_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'bold'.*final_answer"):
        extract_answer("Final answer: 5", "bold")


def test_the_whole_text_is_never_the_answer() -> None:
    for style in STYLES:
        assert extract_answer("The bar is 12 high, so it must be 12.", style) is None


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [
        ("user\nQ\nassistant\n<think>\n", "<think>\n"),
        ("Q assistant: ◁think▷", "◁think▷"),
        ("Q\nassistant\n<think>\n\n</think>\n\n", ""),
        ("Put your reasoning into <think> tags.\nassistant\n", ""),
        ("How many?\nassistant\n", ""),
    ],
)
def test_a_prompt_opens_a_thought_only_at_its_very_end(prompt: str, opened: str) -> None:
    assert opened_by(prompt) == opened


REPETITIVE = (
    *("final answer " * 40_000, "\\boxed{" * 40_000, "<think>" * 40_000, "*" * 400_000),
    *("final answer:" + " " * 400_000 + "x", "\n" * 400_000 + "answer", "answer: " * 40_000),
    *("Final answer: " + "{" * 400_000, "答案" * 200_000, "$" * 400_000),
)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("text", REPETITIVE, ids=lambda text: repr(text[:16]))
def test_extraction_is_quick_on_repetitive_text(text: str, style: str) -> None:
    start = time.process_time()
    extract_answer(text, style)
    assert time.process_time() - start < 60  # A tenth of a second; minutes where it was square.


@settings(deadline=None)
@given(st.text(max_size=300), st.sampled_from(STYLES))
def test_no_text_breaks_extraction(text: str, style: str) -> None:
    answer = extract_answer(text, style)
    assert answer is None or answer.strip()


@settings(deadline=None)
@given(st.integers(-(10**6), 10**6), st.text(alphabet="abc .,\n", max_size=80))
def test_the_last_marker_wins_whatever_came_before(value: int, before: str) -> None:
    text = f"Final answer: 1\n{before}\n\nFinal answer: {value}"
    assert extract_answer(text, "final_answer") == str(value)
    before = before.replace(",", ".")  # a comma makes one list of two boxes
    assert extract_answer(f"\\boxed{{1}} {before} \\boxed{{{value}}}", "boxed") == str(value)
