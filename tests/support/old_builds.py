"""Builds made by version 0.1.0, unpacked to the very place where they were made.

    plain/   15 rows, sampled with continuations at two ratios and without images, extended once
    other/   the same rows, sampled adaptively with another seed

Seeds, rollouts and manifests name files by their absolute path. So the place is a fixed one, a link
to a temporary folder, held by one test run at a time.
"""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from mmpr_builder.config import Config, load_config

ARCHIVE = Path(__file__).parents[1] / "old_builds" / "v0.1.0.tar.gz"
HOME = Path("/var/tmp/mmpr_builder_old_build")
SEEDS = HOME / "seeds.jsonl"
PLAIN = (
    *(f"seeds={SEEDS}", "limit=99", "name=old", "model=demo-model", "sampling.engine=endpoint"),
    *("sampling.endpoint.url=http://127.0.0.1:9/v1", "sampling.n=6", "sampling.max_tokens=160"),
    *("sampling.logprobs=true", "sampling.blind=2", "dropout.keep=0.25,0.5"),
    "distributed.unit_queries=4",
)
OTHER = (
    *(f"seeds={SEEDS}", "name=other", "model=demo-model", "sampling.engine=endpoint"),
    *("sampling.endpoint.url=http://127.0.0.1:9/v1", "sampling.n=6", "sampling.max_tokens=160"),
    *("sampling.logprobs=true", "sampling.seed=7", "sampling.policy=adaptive"),
    *("sampling.target_pairs=4", "distributed.unit_queries=8"),
)


@contextlib.contextmanager
def unpacked(folder: Path) -> Iterator[Path]:
    """`HOME`, which lies in `folder` as long as the block lasts."""
    with FileLock(f"{HOME}.lock"), tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder / "old", filter="data")
        HOME.unlink(missing_ok=True)
        HOME.symlink_to(folder / "old")
        try:
            yield HOME
        finally:
            HOME.unlink()


def recorded(config: Config, section: str, **values: object) -> Config:
    """Settings as an earlier version recorded them, with values that recipes cannot give now."""
    return config.model_copy(
        update={section: getattr(config, section).model_copy(update=values)},
    )


def settings(words: tuple[str, ...], out: Path, *more: str) -> Config:
    """The settings that a build was made with, `more` over them."""
    return load_config("demo", [*words, f"out={out}", *more])
