"""The settings of a build: a recipe in YAML, `key=value` overrides, and what they mean.

    config = load_config("pipelines/demo.yaml", ["sampling.n=16", "seeds=a.jsonl", "out=out/x"])

Unknown keys are errors that name the nearest valid one. What is in `sampling_identity` decides
what a rollout says; a build folder made with other values of those is refused, all the rest can
change between runs.
"""

from __future__ import annotations

from mmpr_builder.config.identity import (
    as_stated as as_stated,
    flattened as flattened,
    identity_hash as identity_hash,
    sampling_identity as sampling_identity,
)
from mmpr_builder.config.recipes import (
    as_written as as_written,
    find_shipped as find_shipped,
    load_config as load_config,
    settings_table as settings_table,
    shipped_folder as shipped_folder,
    shipped_names as shipped_names,
    valid_keys as valid_keys,
)
from mmpr_builder.config.sections import (
    NETWORK as NETWORK,
    BalanceConfig as BalanceConfig,
    Branch as Branch,
    DecontaminateConfig as DecontaminateConfig,
    DropoutConfig as DropoutConfig,
    EndpointConfig as EndpointConfig,
    ImagesConfig as ImagesConfig,
    JudgeConfig as JudgeConfig,
    LayoutName as LayoutName,
    LimitsConfig as LimitsConfig,
    OutputConfig as OutputConfig,
    PairingConfig as PairingConfig,
    QualityConfig as QualityConfig,
    SamplingConfig as SamplingConfig,
    ScoringConfig as ScoringConfig,
    SourceConfig as SourceConfig,
    StepsConfig as StepsConfig,
)
from mmpr_builder.config.whole import (
    Config as Config,
    asks_majority as asks_majority,
    comes_from as comes_from,
    compares as compares,
    source_label as source_label,
    sources_of as sources_of,
    tiles_for as tiles_for,
)
