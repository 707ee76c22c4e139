"""A build's folder as it is now, whoever works on it or did: for `mmpr status`.

    Overview(life="alive", status=Status(…), units=16, units_total=64, seeds=4096, paired=False)

What is on disk counts: a run that was killed could not say how far it had come.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmpr_builder.distributed.manifest import has_manifest, read_manifest
from mmpr_builder.distributed.status import Life, Status, life, read_status
from mmpr_builder.distributed.storage import exists, join
from mmpr_builder.errors import InputError
from mmpr_builder.tables import resolve


@dataclass(frozen=True, slots=True)
class Overview:
    """What is known of a build from its folder alone."""

    status: Status | None
    """What the last run said of itself; None if none did."""
    life: Life
    """Whether that run is still there."""
    units: int
    """Units of work whose part is in the folder (by name: contents are not read)."""
    units_total: int
    """All units; 0 before planning is complete."""
    seeds: int
    """Seeds in all units."""
    paired: bool
    """Whether there is a run.json, the last thing that pairing writes."""


def look(out: str) -> Overview:
    """Read a build's folder; nothing is changed and no lock is needed.

    Raises `InputError` when there is no build.
    """
    status = read_status(out)
    if status is None and not has_manifest(out):
        raise InputError(f"{out}: no build here (neither status.json nor manifest.json)")
    units = read_manifest(out).units if has_manifest(out) else ()
    there = _names(join(out, "rollouts"))
    return Overview(
        status=status,
        life="gone" if status is None else life(status),
        units=sum(f"{unit.name}.parquet" in there for unit in units),
        units_total=len(units),
        seeds=sum(unit.count for unit in units),
        paired=exists(join(out, "run.json")),
    )


def _names(folder: str) -> set[str]:
    fs, path = resolve(folder)
    fs.invalidate_cache()
    if not fs.exists(path):
        return set()
    return {name.rsplit("/", 1)[-1] for name in fs.ls(path, detail=False)}
