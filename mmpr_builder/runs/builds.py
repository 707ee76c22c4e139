"""A build's rollouts as pairing reads them: complete, in order, with their settings.

own_build(config)              those of `config.out`, whose settings must be the config's
pooled_build("out/a", config)  those of another folder, with the settings they were made with
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mmpr_builder.config import Config, DropoutConfig, SamplingConfig
from mmpr_builder.errors import ConfigError, InputError
from mmpr_builder.folder import join
from mmpr_builder.folder import parts as published_parts
from mmpr_builder.folder.manifest import (
    Manifest,
    has_manifest,
    read_manifest,
    refuse_other_settings,
)
from mmpr_builder.folder.order import Slice, in_order, read_order
from mmpr_builder.folder.parts import PlannedDrops
from mmpr_builder.io.tables import (
    ROLLOUT_SCHEMA,
    ParquetFile,
    broken_parts,
    list_parts,
    read_parquet,
)
from mmpr_builder.runs.planning import read_drops

S = TypeVar("S", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Build:
    """A complete first half."""

    folder: str
    slices: tuple[Slice, ...]
    """Its parts, in the order of its input."""
    drops: PlannedDrops
    rows: int
    """Seeds and drops in all."""
    has_plan: bool
    """Whether the indices of its rollouts say where they stand in its input."""
    config: Config
    """The config of today with the settings that these rollouts were sampled with."""


def own_build(config: Config) -> Build:
    """The build in `config.out`.

    Raises `InputError` where there is none or sampling is not complete, `BuildConflictError` when
    other settings made it.
    """
    if has_manifest(config.out):
        manifest = read_manifest(config.out)
        # Model and inputs may be gone by now; the settings go into every pair's provenance.
        refuse_other_settings(config.out, manifest.identity, config)
        return _planned(config.out, manifest, config)
    return _bare(config.out, config)


def pooled_build(folder: str, config: Config) -> Build:
    """The build in `folder`, or whose `rollouts/` it is, whatever settings it was sampled with.

    Rollouts without a manifest count as sampled with `config`. Raises `InputError` as `own_build`
    does.
    """
    folder = folder.rstrip("/").removesuffix("/rollouts")
    if not has_manifest(folder):
        return _bare(folder, config)
    manifest = read_manifest(folder)
    return _planned(folder, manifest, _sampled_with(manifest, config, folder))


def check_models(config: Config, builds: Sequence[Build]) -> None:
    """Raise `ConfigError` when a model that pairing asks for wrote none of the rollouts."""
    policy = config.pairing
    asked = [("chosen_from", name) for name in policy.chosen_from]
    asked += [("rejected_from", name) for name in policy.rejected_from]
    if not asked:
        return
    there = {name for build in builds for name in _models(build)}
    for key, name in asked:
        if name not in there:
            raise ConfigError(
                f"pairing.{key}: {name!r} wrote none of these rollouts; there are"
                f" {', '.join(map(repr, sorted(there)))}"
            )


def _models(build: Build) -> set[str]:
    """Who wrote a build's rollouts: one model, as its manifest cannot change; without a plan each
    part may have its own."""
    uris = [build.slices[0].uri] if build.has_plan and build.slices else []
    uris = uris if build.has_plan else [piece.uri for piece in build.slices]
    return {name for uri in uris for name in read_parquet(uri, ["model"])["model"].to_pylist()}


def _planned(out: str, manifest: Manifest, config: Config) -> Build:
    _check_complete(out, manifest)
    uris = [published_parts.rollouts_uri(out, unit) for unit in manifest.units]
    pieces = in_order(list(zip(manifest.units, uris, strict=True)), read_order(out, manifest))
    sizes = {u: unit.image_bytes for u, unit in zip(uris, manifest.units, strict=True)}
    return Build(
        folder=out,
        slices=tuple(replace(piece, image_bytes=sizes[piece.uri]) for piece in pieces),
        drops=read_drops(out, manifest),
        rows=manifest.seeds + manifest.drops,
        has_plan=True,
        config=config,
    )


def _bare(out: str, config: Config) -> Build:
    folder = join(out, "rollouts")
    uris = list_parts(folder, ROLLOUT_SCHEMA)
    broken = broken_parts(folder, ROLLOUT_SCHEMA)
    if broken:
        raise InputError(f"{broken[0]}: not a complete part of rollouts: remove or restore it")
    if not uris:
        raise InputError(f"{folder}: no rollouts to pair: run `mmpr sample … out={out}` first")
    slices = tuple(Slice(uri) for uri in uris)
    return Build(out, slices, PlannedDrops(), _rows(uris), False, config)


def _check_complete(out: str, manifest: Manifest) -> None:
    finished = published_parts.published(out, manifest.units)
    missing = [unit.name for unit in manifest.units if unit.name not in finished]
    if missing:
        raise InputError(
            f"{out}: {len(missing)} of {len(manifest.units)} units are not sampled yet"
            f" (the first is {missing[0]}): run `mmpr sample` or `mmpr build` with the same"
            " arguments to finish them"
        )


def _rows(uris: Sequence[str]) -> int:
    total = 0
    for uri in uris:
        with ParquetFile(uri) as file:
            total += file.metadata.num_rows
    return total


def _sampled_with(manifest: Manifest, config: Config, folder: str) -> Config:
    """`config` with the model, sampling and continuations that a build's manifest states."""
    stated = manifest.identity.settings
    try:
        return config.model_copy(
            update={
                "model": stated.get("model", config.model),
                "lora": stated.get("lora"),
                "sampling": _section(SamplingConfig, "sampling", stated),
                "dropout": _section(DropoutConfig, "dropout", stated),
            }
        )
    except ValidationError as error:
        raise InputError(
            f"{folder}/manifest.json: settings of another version ({error.errors()[0]['msg']}):"
            " pool it with the version of mmpr-builder that made it"
        ) from None


def _section(section: type[S], name: str, stated: Mapping[str, Any]) -> S:
    """A section as flat keys state it; what this version has no setting for is left out."""
    keys = {field: f"{name}.{field}" for field in section.model_fields}
    return section.model_validate({k: stated[key] for k, key in keys.items() if key in stated})
