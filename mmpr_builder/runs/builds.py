"""A build's rollouts as pairing reads them: complete, in order, with their settings.

own_build(config)              those of `config.out`, whose settings must be the config's
pooled_build("out/a", config)  those of another folder, with the settings they were made with
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mmpr_builder.config import Config, DropoutConfig, SamplingConfig, StepsConfig
from mmpr_builder.errors import ConfigError, InputError
from mmpr_builder.escaping import redacted
from mmpr_builder.folder import join, parts as published_parts
from mmpr_builder.folder.manifest import (
    Manifest,
    Unit,
    has_manifest,
    read_manifest,
    refuse_other_settings,
)
from mmpr_builder.folder.order import Slice, in_order, read_order
from mmpr_builder.folder.parts import PlannedDrops
from mmpr_builder.io.tables import (
    ROLLOUT_SCHEMA,
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
    is_whole: bool = True
    """Whether all units are sampled."""


def own_build(config: Config, *, partial: bool = False) -> Build:
    """The build in `config.out`; with `partial` as far as it is sampled.

    Raises `InputError` where there is none or sampling is not complete, `BuildConflictError` when
    other settings made it.
    """
    if has_manifest(config.out):
        manifest = read_manifest(config.out)
        # Model and inputs may be gone by now; the settings go into every pair's provenance.
        refuse_other_settings(config.out, manifest.identity, config)
        return _planned(config.out, manifest, config, partial=partial)
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
    keys = ("chosen_from", "rejected_from")
    asked = [(key, name) for key in keys for name in getattr(config.pairing, key)]
    there = {name for build in builds for name in _models(build)} if asked else set()
    for key, name in asked:
        if name not in there:
            raise ConfigError(
                f"pairing.{key}: {name!r} wrote none of these rollouts; there are"
                f" {', '.join(map(repr, sorted(there)))}"
            )


def _models(build: Build) -> set[str]:
    """Who wrote a build's rollouts: one model, as its manifest cannot change; without a plan each
    part may have its own."""
    found: set[str] = set()
    for piece in build.slices[:1] if build.has_plan else build.slices:
        if piece.kept:
            found |= {rollout.model for rollout in piece.kept()}
        else:  # One column, not all responses.
            found |= {*read_parquet(piece.uri, ["model"])["model"].to_pylist()}
    return found


def _planned(out: str, manifest: Manifest, config: Config, *, partial: bool = False) -> Build:
    missing = _missing(out, manifest, partial=partial)
    left, model = {*missing}, redacted(config.model)
    read_kept = published_parts.read_kept
    parts = [
        (
            unit,
            Slice(
                published_parts.rollouts_uri(out, unit),
                image_bytes=unit.image_bytes,
                kept=functools.partial(read_kept, out, unit, model) if unit in left else None,
            ),
        )
        for unit in manifest.units
    ]
    return Build(
        folder=out,
        slices=tuple(in_order(parts, read_order(out, manifest))),
        drops=read_drops(out, manifest),
        rows=manifest.seeds + manifest.drops,
        has_plan=True,
        config=config,
        is_whole=not missing,
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
    rows = sum(read_parquet(uri, ["index"]).num_rows for uri in uris)
    return Build(out, slices, PlannedDrops(), rows, False, config)


def _missing(out: str, manifest: Manifest, *, partial: bool) -> list[Unit]:
    """Units that are not sampled yet. Raises `InputError` unless pairing may do without them."""
    finished = published_parts.published(out, manifest.units)
    missing = [unit for unit in manifest.units if unit.name not in finished]
    begun = finished or published_parts.units_with_partial(out, missing)
    if missing and not (partial and begun):
        last = ", or pair what is there with `mmpr pair --partial`" if begun else ""
        raise InputError(
            f"{out}: {len(missing)} of {len(manifest.units)} units are not sampled yet"
            f" (the first is {missing[0].name}): run `mmpr sample` or `mmpr build` with the same"
            f" arguments to finish them{last}"
        )
    return missing


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
                "steps": _section(StepsConfig, "steps", stated),
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
