"""What is asked: sources of seeds, prompts, the size of images."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from mmpr_builder.config.base import Section, Weight, split_commas

ScorerName = Literal["auto", "math", "choice", "relaxed", "vqa", "anls", "exact"]
Domain = Literal["general", "science", "chart", "math", "ocr", "document"]
Branch = Literal["auto", "correctness", "dropout", "both"]
LayoutName = Literal[
    "auto",
    "ai2d",
    "answer_lists",
    "chartqa",
    "clevr_math",
    "conversations",
    "geometry3k",
    "gqa",
    "iconqa",
    "mapqa",
    "ocrvqa",
    "scienceqa",
    "sroie",
    "vqa",
]
NETWORK = ("http", "https", "s3", "gs", "az", "abfs", "hf")
"""Protocols that `seeds.N.allow` can open to the image URLs of rows."""
DATA = "{data}"
"""In a source's `path` or `root`: stands for `data`, the folder of public data sets."""


class SourceConfig(Section):
    """One file, folder or data set of seeds, and what is particular about it."""

    path: str = Field(description="File, folder, glob, URL or hub id; `demo` is the small world.")
    name: str | None = Field(None, description="Source name; default: a row's own, or the stem.")
    root: str | None = Field(None, description="Where relative image paths start; default: beside.")
    roots: tuple[str, ...] = Field(
        (), description="Further folders whose images rows may name, by absolute paths or links."
    )
    allow: tuple[str, ...] = Field(
        (),
        description="Protocols of image URLs that rows may name (`https`, `s3`, …), or beginnings"
        " of URLs; private addresses only by such a beginning.",
    )
    split: str = Field("train", description="Split, for data sets from a hub or folder.")
    forbidden_splits: tuple[str, ...] = Field(
        (), description="Splits that must not be read, say because models are measured on them."
    )
    format: LayoutName = Field(
        "auto", description="Layout of its files, see docs/seeds.md; `auto` reads rows of any kind."
    )
    domain: Domain | None = Field(
        None, description="What it is about: picks the prompts of `prompts.mix`."
    )
    language: Literal["auto", "en", "zh"] = Field(
        "auto", description="Language of its questions; `auto` looks at each one."
    )
    branch: Branch = Field(
        "auto",
        description="Use truths (correctness), ignore them (dropout), both; `auto`: where given.",
    )
    scorer: ScorerName = Field("auto", description="How answers of this source are scored.")
    template: str | dict[str, str] | None = Field(
        None, description="Template name or path for seeds with a truth, or one per language."
    )
    templates: dict[str, Weight] | None = Field(
        None, description="Several of them with weights, as in `prompts.mix`; each seed gets one."
    )
    tiles: int | None = Field(
        None, ge=1, description="Image tiles at most; default: `images.tiles`."
    )
    limit: int | None = Field(None, ge=1, description="Read at most this many rows of it.")
    license: str | None = Field(None, description="Licence of its data, for card and report.")
    get: str | None = Field(None, description="Where it can be had, told when it is missing.")

    _accept_commas = field_validator("forbidden_splits", "roots", "allow", mode="before")(
        split_commas
    )

    @field_validator("roots", mode="after")
    @classmethod
    def _folders(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for root in value:
            if "://" in root:
                raise ValueError(f"{root!r} is a URL: name it in `allow`")
        return value

    @field_validator("allow", mode="after")
    @classmethod
    def _network(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            scheme, mark, host = entry.partition("://")
            if scheme not in NETWORK or (mark and not host.strip("/")) or "@" in entry:
                raise ValueError(
                    f"{entry!r} is neither one of {', '.join(NETWORK)} nor the beginning of such a"
                    " URL, with a host"
                )
        return value

    @field_validator("tiles", mode="after")
    @classmethod
    def _known_by_name(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and not info.data.get("name"):
            raise ValueError("a source with `tiles` needs a `name`, by which its seeds are known")
        return value


class PromptConfig(Section):
    """How a seed becomes a prompt; see `prompts/`."""

    style: Literal["final_answer", "boxed", "think_boxed"] = Field(
        "final_answer", description="How the answer is asked for: picks `prompts/STYLE_LANGUAGE`."
    )
    language: Literal["auto", "en", "zh"] = Field(
        "auto", description="Prompt language; `auto` follows each seed's own."
    )
    template: str | dict[str, str] | None = Field(
        None, description="Template name or path instead of the style's own, or one per language."
    )
    open_template: str | dict[str, str] | None = Field(
        None, description="Template for seeds without a truth; default: the bare question."
    )
    mix: dict[Domain, dict[str, Weight]] = Field(
        default_factory=dict,
        description="By domain: prompt variants with weights, such as {plain: 1, visual: 1}.",
    )
    open_mix: dict[Domain, dict[str, Weight]] = Field(
        default_factory=dict, description="The same for seeds without a truth."
    )


class ImagesConfig(Section):
    """How large the model sees images."""

    family: Literal["internvl", "qwen_vl"] | None = Field(
        None, description="How the model is told a tile budget; unset = it is told none."
    )
    tiles: int | None = Field(
        None, ge=1, description="Tiles of 448 x 448 pixels at most; unset = the model's own."
    )
    kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="For other families: arguments of the processor, with `{tiles}` or `{pixels}`.",
    )
