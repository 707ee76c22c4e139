"""Preference pairs that make vision-language models reason better.

    import mmpr_builder as mb

    template = mb.load_template("final_answer_en")
    for seed in mb.read_seeds("seeds.jsonl"):
        ...

`library` has the stages for programs with a client of their own, `stages` whole builds. Importing
any name here loads neither ray, vllm, torch nor sympy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmpr_builder.config import Config, load_config
    from mmpr_builder.dropout import truncate
    from mmpr_builder.engines import make_sampler
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
    from mmpr_builder.library import (
        aroll_out,
        chat_request,
        continuation_request,
        join,
        judge_rollout,
        make_rollout,
        read_images,
        read_responses,
        read_rollouts,
        roll_out,
        write_rollouts,
    )
    from mmpr_builder.output import load_pairs, write_pairs
    from mmpr_builder.pairing import build_pairs
    from mmpr_builder.previews import Preview, preview
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
    from mmpr_builder.stages import build, pair, plan, sample

__version__ = "0.1.0"

_HOME = {
    "config": ("Config", "load_config"),
    "dropout": ("truncate",),
    "engines": ("make_sampler",),
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
    "library": (
        "aroll_out",
        "chat_request",
        "continuation_request",
        "join",
        "judge_rollout",
        "make_rollout",
        "read_images",
        "read_responses",
        "read_rollouts",
        "roll_out",
        "write_rollouts",
    ),
    "output": ("load_pairs", "write_pairs"),
    "pairing": ("build_pairs",),
    "previews": ("Preview", "preview"),
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
    "stages": ("build", "pair", "plan", "sample"),
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
    "Preview",
    "Response",
    "Rollout",
    "RowError",
    "Seed",
    "SetupError",
    "Template",
    "Verdict",
    "__version__",
    "aroll_out",
    "build",
    "build_pairs",
    "chat_request",
    "continuation_request",
    "extract_answer",
    "join",
    "judge_rollout",
    "load_config",
    "load_pairs",
    "load_template",
    "make_rollout",
    "make_sampler",
    "pair",
    "plan",
    "preview",
    "read_images",
    "read_responses",
    "read_rollouts",
    "read_seeds",
    "render",
    "roll_out",
    "sample",
    "score_answer",
    "score_response",
    "truncate",
    "write_pairs",
    "write_rollouts",
]


def __getattr__(name: str) -> Any:
    """Names are looked up where they live on first use, so that importing the package is light."""
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'mmpr_builder' has no attribute {name!r}")
    return getattr(importlib.import_module(f"mmpr_builder.{module}"), name)


def __dir__() -> list[str]:
    return __all__
