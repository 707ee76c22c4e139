"""The quality controls, all off."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from mmpr_builder.config.base import Section, split_commas


class DecontaminateConfig(Section):
    """Evaluation sets that must not be trained on; see `quality/contamination.py`."""

    against: tuple[str, ...] = Field(
        (),
        description="Evaluation sets to keep out: files, folders or hub ids, as for seeds; set it"
        " whenever the model is to be measured on them.",
    )
    split: str = Field("test", description="Their split, for data sets from a hub or folder.")
    policy: Literal["question_and_image", "image"] = Field(
        "question_and_image",
        description="`image`: drop a seed for its picture alone, too; use it where evaluation"
        " pictures must not be seen at all.",
    )
    question_similarity: float = Field(
        0.4, ge=0, le=1, description="Share of words in common that counts beside the same picture."
    )
    text_similarity: float = Field(
        0.8, ge=0, le=1, description="The same where a question stands alone, without a picture."
    )
    question_words: int = Field(
        12, ge=4, description="Shortest question that counts alone; two Chinese characters are one."
    )
    unreadable: Literal["stop", "skip"] = Field(
        "stop", description="What to do with a row of them that cannot be read, hence not found."
    )

    _accept_commas = field_validator("against", mode="before")(split_commas)


class BalanceConfig(Section):
    """What must not tell chosen from rejected over a build; see `pairing/balance.py`."""

    lengths: bool = Field(
        False,
        description="Balance the mean length of chosen and rejected by kind and source; use it when"
        " the report shows one side longer, or the trained model's answers grow or shrink.",
    )
    answers: bool = Field(
        False,
        description="Balance how often yes, no and letters of options are chosen and rejected, by"
        " source; use it when the report shows an answer more often on one side.",
    )
    tolerance: float = Field(
        0.02,
        ge=0,
        le=1,
        description="Difference that counts as none: share of the mean length, or of the pairs with"
        " such answers.",
    )
    floor: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of the pairs that stays at least; what leans further than leaving out"
        " the others could mend stays as it is, and is reported.",
    )


class QualityConfig(Section):
    """Controls that drop seeds, responses or continuations; all off unless asked for."""

    balance: BalanceConfig = Field(default_factory=lambda: BalanceConfig())
    min_pass_rate: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Drop seeds of which a smaller share of responses is right; 0.2 leaves out what"
        " is too hard yet, or wrong itself.",
    )
    max_pass_rate: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Drop seeds of which a larger share is right; 0.8 leaves out what the model"
        " knows already.",
    )
    decontaminate: DecontaminateConfig = Field(default_factory=lambda: DecontaminateConfig())
    near_duplicates: bool = Field(
        False,
        description="Drop seeds that ask the same of the same picture as an earlier one, or nearly"
        " the same long text; use it when sources overlap. Opens every picture while planning.",
    )
    hygiene: bool = Field(
        False,
        description="No response with a loop, the wrong language, leaked tokens, a refusal or a"
        " contradiction is chosen; use it with any model whose responses you have not read.",
    )
    dropout_gate: bool = Field(
        False,
        description="No continuation that nearly equals the original, misses the image, loops or"
        " runs away is rejected; use it wherever DropoutNTP pairs are trained on.",
    )
    max_blind: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Drop seeds solved without their images more often than this, luck taken off"
        " (0 is guessing); unset only marks. Use 0.3 with `sampling.blind=8` where pairs shall"
        " teach to look.",
    )
    suspect_truths: bool = Field(
        False,
        description="Drop seeds whose responses clearly agree on another answer than the truth; use"
        " it where truths were not checked by hand, with a model that is often right.",
    )
    distinct: float | None = Field(
        None,
        gt=0.5,
        le=1,
        description="Responses with this share of words in common on one side count once; 0.95 is a"
        " start for models that repeat themselves.",
    )

    @model_validator(mode="after")
    def _band_has_room(self) -> QualityConfig:
        if self.min_pass_rate > self.max_pass_rate:
            raise ValueError(
                f"min_pass_rate ({self.min_pass_rate}) is above max_pass_rate"
                f" ({self.max_pass_rate}): no seed could stay"
            )
        return self
