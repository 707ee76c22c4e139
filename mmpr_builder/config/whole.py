"""All settings of a build together: which sources, where they lie, and every section."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from mmpr_builder.config.licences import forbids_commercial_use
from mmpr_builder.config.sections import (
    DATA,
    Count,
    DistributedConfig,
    DropoutConfig,
    ImagesConfig,
    LimitsConfig,
    Names,
    OutputConfig,
    PairingConfig,
    PromptConfig,
    QualityConfig,
    SamplingConfig,
    ScoringConfig,
    Section,
    SourceConfig,
    StepsConfig,
)
from mmpr_builder.records import Seed

S = TypeVar("S", bound=Section)

# Types of pydantic's errors: a name in `sources` that no source has; `licenses` leaves out all.
NO_SUCH_SOURCE, NO_LICENSED_SOURCE = "no_such_source", "no_licensed_source"
OWN_LICENCE = "Apache-2.0"  # That of the small world, which this package draws itself.


class LeftOut(Section):
    """A source that was left out for its licence."""

    name: str
    reason: str


def paths_in(text: str) -> list[str]:
    """`a.jsonl, b.jsonl` -> ["a.jsonl", "b.jsonl"]"""
    return [part.strip() for part in text.split(",") if part.strip()]


class Config(Section):
    """Everything a build needs to know."""

    name: str = Field("mmpr", description="Name of the data set, for its card.")
    out: str = Field("out/mmpr", description="Build folder: path or fsspec URL.")
    model: str = Field("demo", description="Model path or hub id; `demo` is the shipped one.")
    lora: str | None = Field(None, description="LoRA adapter folder to sample with.")
    data: str = Field(
        "data", description="Folder of public data sets: `{data}` in paths of sources."
    )
    sources: Names | None = Field(None, description="Use only the sources of these names.")
    licenses: Literal["any", "commercial"] = Field(
        "any",
        description="`commercial` leaves out sources whose `license` forbids commercial use or is"
        " not known to allow it, before anything is read.",
    )
    seeds: tuple[SourceConfig, ...] = Field(
        (SourceConfig(path="demo"),),
        validate_default=True,
        description="Sources: paths (comma-separated on the command line) or tables of settings.",
    )
    left_out: tuple[LeftOut, ...] = Field((), json_schema_extra={"hidden": True})
    limit: Count | None = Field(None, description="Use only the first so many seeds in all.")
    prompts: PromptConfig = Field(default_factory=lambda: PromptConfig())
    rollouts: Names = Field(
        (), description="For `mmpr pair`: pair the pooled rollouts of these builds, not of `out`."
    )
    sampling: SamplingConfig = Field(default_factory=lambda: SamplingConfig())
    dropout: DropoutConfig = Field(default_factory=lambda: DropoutConfig())
    steps: StepsConfig = Field(default_factory=lambda: StepsConfig())
    images: ImagesConfig = Field(default_factory=lambda: ImagesConfig())
    engine: dict[str, Any] = Field(
        default_factory=dict, description="Any vLLM engine argument: dtype, quantization, …"
    )
    scoring: ScoringConfig = Field(default_factory=lambda: ScoringConfig())
    pairing: PairingConfig = Field(default_factory=lambda: PairingConfig())
    quality: QualityConfig = Field(default_factory=lambda: QualityConfig())
    output: OutputConfig = Field(default_factory=lambda: OutputConfig())
    distributed: DistributedConfig = Field(default_factory=lambda: DistributedConfig())
    limits: LimitsConfig = Field(default_factory=lambda: LimitsConfig())

    @field_validator("rollouts", mode="after")
    @classmethod
    def _each_build_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "" in value:
            raise ValueError("a build has no name: give the folder of each")
        folders = [folder.rstrip("/").removesuffix("/rollouts") for folder in value]
        twice = next((folder for folder in folders if folders.count(folder) > 1), None)
        if twice is not None:
            raise ValueError(
                f"{twice} is named more than once: its responses would count as often; name each"
                " build once"
            )
        return value

    @field_validator("seeds", mode="before")
    @classmethod
    def _accept_paths(cls, value: object) -> object:
        """`a.jsonl,b.jsonl`, a list of paths, a table, a list of tables, or tables by name."""
        if isinstance(value, str):
            value = paths_in(value)
        if isinstance(value, Mapping):
            named = value and all(isinstance(item, Mapping) for item in value.values())
            value = [{"name": k, **v} for k, v in value.items()] if named else [value]
        if isinstance(value, list | tuple):
            if not value:
                raise ValueError("name at least one file, folder or data set")
            return tuple({"path": item} if isinstance(item, str) else item for item in value)
        return value

    @field_validator("seeds", mode="after")
    @classmethod
    def _place_and_pick(
        cls, value: tuple[SourceConfig, ...], info: ValidationInfo
    ) -> tuple[SourceConfig, ...]:
        """Put `data` into paths, and leave out what `sources` does not name."""
        placed = tuple(_placed(source, str(info.data.get("data", DATA))) for source in value)
        wanted = info.data.get("sources")
        if wanted is None:
            return placed
        names = [source_label(source) for source in placed]
        for name in wanted:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
                raise PydanticCustomError(
                    NO_SUCH_SOURCE,
                    "{name} is none of the {count} sources; the nearest is {near}",
                    {"name": repr(name), "count": len(names), "near": repr(near[0])},
                )
        return tuple(s for s, name in zip(placed, names, strict=True) if name in wanted)

    @model_validator(mode="after")
    def _follow(self) -> Self:
        """Fill in the settings that follow others; recorded settings state them all."""
        limits, endpoint = self.pairing, self.sampling.endpoint
        aims = {
            # Steps are tried, and responses compared, once they are there.
            "target_kinds": tuple(k for k in limits.kinds if k not in ("step", "judged"))
            or ("correctness",),
            "target_per_response": limits.max_per_response,
            "target_gap": limits.max_gap,
        }
        if self.sampling.policy == "adaptive":
            self.__dict__["sampling"] = _filled(self.sampling, aims)
        asked = {
            "concurrency": max(1, endpoint.concurrency // 4),
            "timeout_s": endpoint.timeout_s / 10,
            "retries": endpoint.retries,
        }
        asked = {name: value for name, value in asked.items() if name in endpoint.model_fields_set}
        judge = _filled(self.scoring.judge, asked)
        self.__dict__["scoring"] = self.scoring.model_copy(update={"judge": judge})
        return self

    @model_validator(mode="after")
    def _is_sampled_what_is_used(self) -> Self:
        steps, pairing, quality = self.steps, self.pairing, self.quality
        unmade = sorted({*quality.balance.shares} - {*pairing.kinds})
        if unmade:
            raise ValueError(
                f"quality.balance.shares names {', '.join(unmade)}, which pairing.kinds does not"
                " make: add it there"
            )
        if any(source.branch == "majority" for source in self.seeds) and not self.sampling.blind:
            raise ValueError(
                "branch = 'majority' takes no answer that is given without the image, too, and"
                " sampling.blind = 0 samples none: set sampling.blind=8"
            )
        if self.rollouts:
            return self
        if "judged" in pairing.kinds and not self.scoring.judge.open:
            raise ValueError(
                "pairing.kinds has `judged`, and scoring.judge.open = 0 compares nothing: set"
                " scoring.judge.open=8, or leave the kind out"
            )
        if "step" in pairing.kinds and steps.apply == "none":
            raise ValueError(
                "pairing.kinds has `step`, and steps.apply = 'none' tries none: set"
                " steps.apply=frugal, or leave the kind out"
            )
        if (pairing.partner == "faithful" or quality.min_faithful) and not steps.faithful:
            raise ValueError(
                "pairing.partner = 'faithful' and quality.min_faithful need what steps.faithful"
                " samples: set steps.faithful=4, or leave them out"
            )
        return self

    @model_validator(mode="after")
    def _leave_out_by_licence(self) -> Self:
        """Move sources that `licenses` does not allow from `seeds` to `left_out`."""
        if self.licenses == "any":
            return self
        reasons = [(source, forbids_commercial_use(source.license)) for source in self.seeds]
        if all(reason is not None for _, reason in reasons):
            said = "; ".join(f"{source_label(source)}: {reason}" for source, reason in reasons)
            raise PydanticCustomError(
                NO_LICENSED_SOURCE,
                "no source is left: {said}. Set seeds.NAME.license where you know better",
                {"said": said},
            )
        left = (
            LeftOut(name=source_label(source), reason=reason)
            for source, reason in reasons
            if reason is not None
        )
        # The model is frozen for all others: this is the last step of its making.
        self.__dict__["left_out"] = (*self.left_out, *left)
        self.__dict__["seeds"] = tuple(source for source, reason in reasons if reason is None)
        return self


def _filled(section: S, values: Mapping[str, Any]) -> S:
    """A section with values for what it was not given."""
    given = section.model_fields_set
    return section.model_copy(update={k: v for k, v in values.items() if k not in given})


def _placed(source: SourceConfig, data: str) -> SourceConfig:
    folder = data.rstrip("/") or "/"
    texts = {"path": source.path, "root": source.root}
    found: dict[str, Any] = {k: v.replace(DATA, folder) for k, v in texts.items() if v}
    found["roots"] = tuple(root.replace(DATA, folder) for root in source.roots)
    if source.path == "demo":
        found["license"] = source.license or OWN_LICENCE
    return source.model_copy(update=found)


def source_label(source: SourceConfig) -> str:
    """The name of a source, or what its path is called: `data/a.jsonl` is `a`."""
    return source.name or source.path.rstrip("/").rsplit("/", 1)[-1].split(".", 1)[0]


def tiles_for(config: Config, name: str) -> int | None:
    """The tile budget of seeds of a source: its own, else `images.tiles`; None is unlimited."""
    own = (source.tiles for source in config.seeds if source_label(source) == name)
    return next((tiles for tiles in own if tiles is not None), config.images.tiles)


def comes_from(seed: Seed, source: SourceConfig) -> bool:
    """Whether a seed was read from this source: by name, else by the file that `origin` names."""
    path = PurePosixPath(source.path)
    if seed.source:
        names = (source.name,) if source.name else (path.stem, path.name.split(".", 1)[0])
        if seed.source in names:
            return True
    file = seed.origin.rpartition(":")[0]
    return bool(file) and fnmatch.fnmatchcase(PurePosixPath(file).name, path.name)


def sources_of(seed: Seed, config: Config) -> list[SourceConfig]:
    """The sources that a seed may have been read from: the only one there is, unless builds are
    pooled, else those that it `comes_from`."""
    only = len(config.seeds) == 1 and not config.rollouts
    return [source for source in config.seeds if only or comes_from(seed, source)]


def asks_majority(seed: Seed, config: Config) -> bool:
    """Whether a seed without a truth is asked for an answer, whose clear majority becomes one."""
    of = () if seed.has_truth else sources_of(seed, config)
    return any(source.branch == "majority" for source in of)


def compares(seed: Seed, config: Config) -> bool:
    """Whether a judge compares the responses to a seed: to an open question, where it is asked."""
    return config.scoring.judge.open > 0 and not (seed.has_truth or asks_majority(seed, config))
