"""How responses are judged and paired."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from mmpr_builder.config.base import Section, Weight, split_commas
from mmpr_builder.config.inputs import ScorerName
from mmpr_builder.records import Kind


class JudgeConfig(Section):
    """A model behind an OpenAI-compatible server that is asked what no rule can decide."""

    url: str | None = Field(
        None, description="Base URL of a server to ask what stays undecided; unset = nobody."
    )
    model: str | None = Field(None, description="The model to ask there.")
    api_key_env: str = Field(
        "OPENAI_API_KEY", description="Environment variable that holds the key; may be unset."
    )
    prompt: str = Field(
        "judge_en", description="Its prompt: a shipped name or a text file, see `prompts/`."
    )
    concurrency: int = Field(
        16, ge=1, description="Requests in flight at once, for each process that scores."
    )
    timeout_s: float = Field(60.0, gt=0, description="Seconds to wait for one answer.")
    retries: int = Field(3, ge=0, description="Tries again on 429, 5xx and broken connections.")
    max_tokens: int = Field(8, ge=1, description="Longest answer; one word is asked for.")


class ScoringConfig(Section):
    """How responses are judged."""

    scorer: ScorerName = Field("auto", description="Scorer where a source does not fix one.")
    timeout_s: float = Field(2.0, gt=0, le=60, description="Limit for one symbolic comparison.")
    memory_mb: int = Field(1024, ge=256, description="Memory limit of one symbolic worker.")
    unusable_truth: Literal["drop", "open"] = Field(
        "drop",
        description="A seed with no usable truth: drop it before sampling, or treat it as without.",
    )
    judge: JudgeConfig = Field(default_factory=lambda: JudgeConfig())


class PairingConfig(Section):
    """Which pairs are made of judged responses."""

    max_per_seed: int = Field(15, ge=1, description="Pairs per seed at most (the paper's 15).")
    kinds: tuple[Kind, ...] = Field(
        ("correctness", "format", "dropout_ntp"),
        description="Kinds to make; add `truncated` to use responses cut at max_tokens.",
    )
    seed: int = Field(0, ge=0, description="Breaks ties between equally good pairs.")
    max_per_response: int | None = Field(
        None,
        ge=1,
        description="Pairs of a seed that one text may stand in on the same side; set it where a"
        " few texts would fill most pairs of hard and easy questions.",
    )
    rejected_first: Literal["spread", "frequent_answer", "distinct_answers"] = Field(
        "spread",
        description="Wrong responses that come first. `spread`: all in turn; `frequent_answer`:"
        " those with the commonest wrong answer, to work on what the model mistakes most;"
        " `distinct_answers`: each wrong answer once before any twice, for variety.",
    )
    partner: Literal["spread", "shared_prefix", "like_length"] = Field(
        "spread",
        description="Right responses that they meet. `shared_prefix`: that with the longest common"
        " beginning, so that a pair differs from the error on; `like_length`: that nearest in"
        " tokens, where lengths tell right from wrong.",
    )
    max_gap: int | None = Field(
        None,
        ge=0,
        description="Tokens by which chosen and rejected may differ in length at most; set it where"
        " single pairs of very unlike length must not be there at all.",
    )
    shares: dict[Kind, Weight] = Field(
        default_factory=dict,
        description="Shares of kinds among the pairs of a seed, such as {correctness: 0.6, format:"
        " 0.1, dropout_ntp: 0.3}, for a recipe that fixes the mix; what a kind lacks others fill.",
    )
    reject_list: str | None = Field(
        None, description="File of pair ids to leave out, as saved from a report."
    )
    chosen_from: tuple[str, ...] = Field(
        (), description="Models that may write the chosen side, as `model` names them; none: all."
    )
    rejected_from: tuple[str, ...] = Field(
        (),
        description="The same for the rejected side; `rollouts` pools builds of several models.",
    )

    _accept_commas = field_validator("kinds", "chosen_from", "rejected_from", mode="before")(
        split_commas
    )

    @model_validator(mode="after")
    def _shares_of_kinds_that_are_made(self) -> PairingConfig:
        unmade = [kind for kind in self.shares if kind not in self.kinds]
        if unmade:
            raise ValueError(
                f"shares names {', '.join(unmade)}, which kinds does not make: add it there"
            )
        if self.shares and not any(self.shares.values()):
            raise ValueError("shares are all 0: give at least one kind a share, or leave it out")
        return self
