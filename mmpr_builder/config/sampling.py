"""What is sampled, and what is continued without its image."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_serializer, field_validator

from mmpr_builder.config.base import Section, split_commas
from mmpr_builder.records import Kind

Ratio = Annotated[float, Field(ge=0, le=0.95)]


class EndpointConfig(Section):
    """An OpenAI-compatible server, for `sampling.engine=endpoint`."""

    url: str | None = Field(None, description="Base URL, such as `http://127.0.0.1:8000/v1`.")
    api_key_env: str = Field(
        "OPENAI_API_KEY", description="Environment variable that holds the key; may be unset."
    )
    concurrency: int = Field(64, ge=1, description="Requests in flight at once.")
    timeout_s: float = Field(600.0, gt=0, description="Seconds to wait for one request.")
    retries: int = Field(5, ge=0, description="Tries again on 429, 5xx and broken connections.")
    continuation: Literal["continue_final_message", "none"] = Field(
        "continue_final_message",
        description="How the server continues an open assistant turn (vLLM and SGLang can).",
    )


class SamplingConfig(Section):
    """What is sampled. Defaults are the paper's: 32 at temperature 1.0 (arXiv 2411.10442, 7)."""

    engine: Literal["vllm", "endpoint", "replay"] = Field("vllm", description="Who answers.")
    policy: Literal["fixed", "adaptive"] = Field(
        "fixed",
        description="`fixed`: n responses; `adaptive`: in rounds until the pairs are there.",
    )
    n: int = Field(32, ge=1, le=4096, description="Responses per seed (adaptive: at most).")
    temperature: float = Field(1.0, ge=0, le=10, description="Sampling temperature.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling; 1 = off.")
    top_k: int = Field(0, ge=0, description="Sample from the k likeliest tokens; 0 = off.")
    max_tokens: int = Field(4096, ge=1, description="Longest response in tokens.")
    seed: int = Field(0, ge=0, description="Run seed; each seed's own derives from it by hash.")
    logprobs: bool = Field(False, description="Keep each response's mean log-probability.")
    blind: int = Field(
        0,
        ge=0,
        le=256,
        description="Further samples without its images, for each seed with images and a truth: do"
        " its answers need them?",
    )
    target_pairs: int = Field(
        15, ge=1, description="Adaptive: a seed has enough when it can give this many pairs."
    )
    target_kinds: tuple[Kind, ...] = Field(
        ("correctness", "format", "dropout_ntp"),
        description="Adaptive: kinds of pairs that count towards it.",
    )
    min_distinct: int = Field(
        1, ge=1, description="Adaptive: so many different texts it has on each side, too."
    )
    target_per_response: int | None = Field(
        None,
        ge=1,
        description="Adaptive: pairs that one text counts for on a side; set it like"
        " `pairing.max_per_response`.",
    )
    target_gap: int | None = Field(
        None,
        ge=0,
        description="Adaptive: tokens by which the sides of a pair that counts may differ; set it"
        " like `pairing.max_gap`.",
    )
    stop_error: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Adaptive: share of the seeds with pairs that giving up early may lose.",
    )
    round: int = Field(2, ge=1, description="Adaptive: responses in a later round at least.")
    replay_from: str | None = Field(
        None, description="`DIR/rollouts` of an earlier build, for `sampling.engine=replay`."
    )
    endpoint: EndpointConfig = Field(default_factory=lambda: EndpointConfig())

    _accept_commas = field_validator("target_kinds", mode="before")(split_commas)


class DropoutConfig(Section):
    """DropoutNTP: cut a response, let the same model go on without the image."""

    apply: Literal["no_truth", "all", "none"] = Field(
        "no_truth", description="Which seeds get continuations: those without a truth, all, none."
    )
    keep: tuple[Ratio, ...] = Field(
        (0.5,),
        description="Part of the response kept; 0.5 is best in the paper. With several, as in"
        " `0.25,0.5,0.75`, each response is continued at each.",
    )
    image: bool = Field(False, description="Show the image to the continuation (ablation).")
    max_tokens: int | None = Field(
        None, ge=1, description="Longest continuation; default: sampling.max_tokens."
    )

    @field_validator("keep", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        value = split_commas(value)
        return value if value is None or isinstance(value, list | tuple) else (value,)

    @field_validator("keep", mode="after")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or len(set(value)) < len(value):
            raise ValueError("name at least one ratio, and each once")
        return tuple(sorted(value))

    @field_serializer("keep")
    def _one_as_a_number(self, value: tuple[float, ...]) -> float | list[float]:
        """As it was written before there could be several: folders of that time go on."""
        return value[0] if len(value) == 1 else list(value)
