"""Preference pairs that make vision-language models reason better.

    import mmpr_builder as mb

    template = mb.load_template("final_answer_en")
    for seed in mb.read_seeds("seeds.jsonl"):
        ...

Everything here is pure, typed and light: importing it loads neither ray, vllm, torch nor sympy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmpr_builder.config import Config, load_config
    from mmpr_builder.dropout import truncate
    from mmpr_builder.errors import (
        BuildConflictError,
        ConfigError,
        EngineError,
        InputError,
        MissingExtraError,
        MmprError,
        RowError,
        SetupError,
    )
    from mmpr_builder.extraction import extract_answer
    from mmpr_builder.output import load_pairs
    from mmpr_builder.pairing import build_pairs
    from mmpr_builder.prompts import load_template, render
    from mmpr_builder.records import (
        Continuation,
        Drop,
        ImageRef,
        Pair,
        Response,
        Rollout,
        Seed,
        Template,
        Verdict,
    )
    from mmpr_builder.scoring import score_answer, score_response
    from mmpr_builder.seeds import read_seeds

__version__ = "0.1.0"

_HOME = {
    "config": ("Config", "load_config"),
    "dropout": ("truncate",),
    "errors": (
        "BuildConflictError",
        "ConfigError",
        "EngineError",
        "InputError",
        "MissingExtraError",
        "MmprError",
        "RowError",
        "SetupError",
    ),
    "extraction": ("extract_answer",),
    "output": ("load_pairs",),
    "pairing": ("build_pairs",),
    "prompts": ("load_template", "render"),
    "records": (
        "Continuation",
        "Drop",
        "ImageRef",
        "Pair",
        "Response",
        "Rollout",
        "Seed",
        "Template",
        "Verdict",
    ),
    "scoring": ("score_answer", "score_response"),
    "seeds": ("read_seeds",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "BuildConflictError",
    "Config",
    "ConfigError",
    "Continuation",
    "Drop",
    "EngineError",
    "ImageRef",
    "InputError",
    "MissingExtraError",
    "MmprError",
    "Pair",
    "Response",
    "Rollout",
    "RowError",
    "Seed",
    "SetupError",
    "Template",
    "Verdict",
    "__version__",
    "build_pairs",
    "extract_answer",
    "load_config",
    "load_pairs",
    "load_template",
    "read_seeds",
    "render",
    "score_answer",
    "score_response",
    "truncate",
]


def __getattr__(name: str) -> Any:
    """Names are looked up where they live on first use, so that importing the package is light."""
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'mmpr_builder' has no attribute {name!r}")
    return getattr(importlib.import_module(f"mmpr_builder.{module}"), name)


def __dir__() -> list[str]:
    return __all__
