"""The public surface: what can be imported, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import mmpr_builder as mb

HEAVY = ("ray", "vllm", "torch", "sympy", "transformers", "datasets")


def test_all_is_sorted_and_every_name_resolves() -> None:
    assert mb.__all__ == sorted(mb.__all__)
    for name in mb.__all__:
        assert getattr(mb, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(mb, "score_everything")


def test_the_pure_stages_load_no_heavy_library() -> None:
    code = (
        "import sys, mmpr_builder as mb\n"
        "[getattr(mb, name) for name in mb.__all__]\n"
        "t = mb.load_template('final_answer_en')\n"
        "v = mb.score_answer('12', '12')\n"
        "assert v.outcome == 'correct', v\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
