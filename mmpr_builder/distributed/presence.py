"""Before an engine starts: are the images of the seeds that are left where the plan says?

A single image that is not there is a drop. Where none of those looked at is, the folder was moved,
is not mounted, or the root was wrong: going on would turn every seed into a drop, for good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

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


def check_images(config: Config, todo: Sequence[Unit], progress: Progress) -> None:
    """Look at some seeds of the first, middle and last unit that is to be sampled.

    Raises `InputError` if none finds its first image; where other machines sample, which may see
    other folders than this one, it is a note.
    """
    if config.sampling.engine == "replay" or not todo:
        return
    missing = []
    for seed in _some(config.out, todo):
        try:
            read_bytes(seed.images[0])
        except RowError as error:
            if error.reason != "image_missing":
                return
            missing.append((seed, error.detail))
        else:
            return
    if len(missing) < _LEAST:
        return
    seed, detail = missing[0]
    text = (
        f"none of the {len(missing)} seeds looked at finds its image; {seed.id!r} ({seed.origin}):"
        f" {detail}: bring the images back to where they were when the build was planned (a link"
        " will do), mount them, or plan anew with another out="
    )
    if not has_ray_at_hand(config):
        raise InputError(text)
    progress.note(f"{text}; this machine may see other folders than those that sample")


def _some(out: str, todo: Sequence[Unit]) -> Iterator[Seed]:
    for number in sorted({0, len(todo) // 2, len(todo) - 1}):
        seeds = (seed for _, seed in parts.read_seeds(out, todo[number]) if seed.images)
        yield from islice(seeds, _PER_UNIT)
