"""Preference pairs that make vision-language models reason better.

    import mmpr_builder as mb

    template = mb.load_template("final_answer_en")
    for seed in mb.read_seeds("seeds.jsonl"):
        ...

`library` has the stages for programs with a client of their own, `stages` whole builds. Importing
any name here loads neither ray, vllm, torch nor sympy.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

_MODULE_OF = {
    alias.name: node.module
    for node in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    if isinstance(node, ast.ImportFrom) and node.module
    for alias in node.names
}
__all__ = sorted([*_MODULE_OF, "__version__"])


def __getattr__(name: str) -> Any:
    """Names are looked up where they live on first use, so that importing the package is light."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'mmpr_builder' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
