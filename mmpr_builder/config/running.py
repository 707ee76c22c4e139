"""How a build is written, and where it runs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mmpr_builder.config.base import Section


class OutputConfig(Section):
    """How Parquet is written."""

    shard_bytes: int = Field(512 * 2**20, ge=2**16, description="New file after this many bytes.")
    row_group_bytes: int = Field(64 * 2**20, ge=2**14, description="Row group size at most.")


class DistributedConfig(Section):
    """Where and how wide it runs."""

    address: str | None = Field(
        None, description="Ray cluster to use; default: RAY_ADDRESS if set, else a local Ray."
    )
    replicas: int | Literal["auto"] = Field(
        "auto",
        description="Engines; `auto`: as many as the GPUs hold now, on CPUs one per node.",
    )
    wait_s: float | None = Field(
        None,
        ge=0,
        description="Wait while no node can hold an engine; default: 0 at first, 1800 later.",
    )
    unit_queries: int = Field(64, ge=1, le=4096, description="Seeds in one unit of work.")
    unit_bytes: int = Field(
        256 * 2**20, ge=2**20, description="Image bytes in one unit at most, as read from disk."
    )
    units_in_flight: int = Field(4, ge=1, description="Units open in one engine at a time.")
    grace_s: float = Field(
        10,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="On SIGINT or SIGTERM wait so long for seeds under way; a second one ends it.",
    )
    max_tries: int = Field(3, ge=1, description="Tries of a unit before it is split.")
    scoring_workers: int | Literal["auto"] = Field("auto", description="Processes that score.")
