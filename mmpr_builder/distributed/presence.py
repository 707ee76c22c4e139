"""Before an engine starts: are the images of the seeds that are left where the plan says?

A single image that is not there is a drop. Where none of those looked at is, the folder was moved,
is not mounted, or the root was wrong: going on would turn every seed into a drop, for good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from mmpr_builder.access import access_of
from mmpr_builder.config import Config
from mmpr_builder.distributed import parts
from mmpr_builder.distributed.cluster import has_ray_at_hand
from mmpr_builder.distributed.manifest import Unit
from mmpr_builder.errors import InputError, RowError
from mmpr_builder.images import read_bytes
from mmpr_builder.progress import Progress
from mmpr_builder.records import Seed

_PER_UNIT = 8
_LEAST = 3
"""Seeds that have to miss theirs before it is more than a bad row."""


def check_images(
    config: Config,
    todo: Sequence[Unit],
    finished: Sequence[Unit],
    progress: Progress,
    *,
    grown: bool = False,
) -> None:
    """Look at some seeds of the first, middle and last unit that is to be sampled.

    Raises `InputError` if none finds its first image, nor those of `finished` units, which once
    found theirs. It is a note where it may be right so: those do, the plan was `grown` just now,
    or other machines sample, which may see other folders than this one.
    """
    if config.sampling.engine == "replay" or not todo:
        return
    missing, found = _look(config, todo)
    if found or len(missing) < _LEAST:
        return
    seed, detail = missing[0]
    text = (
        f"none of the {len(missing)} seeds looked at finds its image; {seed.id!r} ({seed.origin}):"
        f" {detail}"
    )
    if has_ray_at_hand(config):
        progress.note(f"{text}; this machine may see other folders than those that sample")
    elif grown or _look(config, finished)[1]:
        progress.note(f"{text}; such seeds become drops")
    else:
        raise InputError(
            f"{text}: bring the images back to where they were when the build was planned (a link"
            " will do), mount them, or plan anew with another out="
        )


def _look(config: Config, units: Sequence[Unit]) -> tuple[list[tuple[Seed, str]], bool]:
    """The seeds without their image, up to the first one that has it; and whether there is one."""
    missing, access = [], access_of(config.seeds)
    for seed in _some(config.out, units) if units else ():
        try:
            read_bytes(seed.images[0], access)
        except RowError as error:
            if error.reason == "image_missing":
                missing.append((seed, error.detail))
                continue
        return missing, True
    return missing, False


def _some(out: str, units: Sequence[Unit]) -> Iterator[Seed]:
    for number in sorted({0, len(units) // 2, len(units) - 1}):
        seeds = (seed for _, seed in parts.read_seeds(out, units[number]) if seed.images)
        yield from islice(seeds, _PER_UNIT)
