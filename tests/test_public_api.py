"""The public surface: what can be imported, and what importing it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import mmpr_builder as mb

HEAVY = ("ray", "vllm", "torch", "sympy", "transformers", "datasets")


def test_all_is_sorted_and_every_name_resolves() -> None:
    assert mb.__all__ == sorted(mb.__all__)
    for name in mb.__all__:
        assert getattr(mb, name) is not None


def test_type_checkers_and_docs_see_the_names_that_there_are() -> None:
    stub = Path(mb.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    (listed,) = (node for node in ast.parse(stub).body if isinstance(node, ast.Assign))
    assert ast.literal_eval(listed.value) == mb.__all__


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
