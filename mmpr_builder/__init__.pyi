"""The public names and where they live; `__init__.py` looks them up on first use."""

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

__version__: str

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
