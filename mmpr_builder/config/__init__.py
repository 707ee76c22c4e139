"""The settings of a build: a recipe in YAML, `key=value` overrides, and what they mean.

    config = load_config("pipelines/demo.yaml", ["sampling.n=16", "seeds=a.jsonl", "out=out/x"])

Unknown keys are errors that name the nearest valid one. What is in `sampling_identity` decides
what a rollout says; a build folder made with other values of those is refused, all the rest can
change between runs.
"""

from __future__ import annotations

from mmpr_builder.config.identity import (
    as_stated,
    flattened,
    identity_hash,
    sampling_identity,
)
from mmpr_builder.config.recipes import (
    find_shipped,
    load_config,
    settings_table,
    shipped_folder,
    shipped_names,
    valid_keys,
)
from mmpr_builder.config.sections import (
    NETWORK,
    BalanceConfig,
    Branch,
    DecontaminateConfig,
    DropoutConfig,
    EndpointConfig,
    ImagesConfig,
    JudgeConfig,
    LayoutName,
    LimitsConfig,
    OutputConfig,
    PairingConfig,
    QualityConfig,
    SamplingConfig,
    ScoringConfig,
    SourceConfig,
    StepsConfig,
)
from mmpr_builder.config.whole import (
    Config,
    asks_majority,
    comes_from,
    compares,
    source_label,
    sources_of,
    tiles_for,
)

__all__ = [
    "NETWORK",
    "BalanceConfig",
    "Branch",
    "Config",
    "DecontaminateConfig",
    "DropoutConfig",
    "EndpointConfig",
    "ImagesConfig",
    "JudgeConfig",
    "LayoutName",
    "LimitsConfig",
    "OutputConfig",
    "PairingConfig",
    "QualityConfig",
    "SamplingConfig",
    "ScoringConfig",
    "SourceConfig",
    "StepsConfig",
    "as_stated",
    "asks_majority",
    "comes_from",
    "compares",
    "find_shipped",
    "flattened",
    "identity_hash",
    "load_config",
    "sampling_identity",
    "settings_table",
    "shipped_folder",
    "shipped_names",
    "source_label",
    "sources_of",
    "tiles_for",
    "valid_keys",
]
