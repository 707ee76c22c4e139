"""The seeds `demo`: written into the build's folder, then read like anybody's."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mmpr_builder.config import Config, SourceConfig
from mmpr_builder.distributed.manifest import has_manifest
from mmpr_builder.distributed.storage import exists, join, remove_folder
from mmpr_builder.errors import BuildConflictError
from mmpr_builder.stores import is_local, read_bytes, resolve

DEMO = "demo"
DEMO_SEEDS = 512
"""How many when neither the source nor the build sets a limit."""


def with_demo(config: Config, *, extend: bool = False) -> tuple[SourceConfig, ...]:
    """The sources with `demo` replaced by `<out>/demo_seeds`, written if it is not there.

    Raises `BuildConflictError` when a planned build there uses fewer of them, unless it is to be
    extended: seed i is the same however many there are.
    """
    return tuple(
        source.model_copy(update={"path": _write_demo(config, extend)})
        if source.path == DEMO
        else source
        for source in config.seeds
    )


def remove_demo(config: Config) -> None:
    """Forget the demo seeds of a plan that was never completed (it may have had another limit)."""
    remove_folder(_folder(config.out))


def demo_fingerprint(config: Config) -> dict[str, str]:
    """What stands for the demo's files: they are made again when they were deleted."""
    return {DEMO: f"{_count(config)} seeds"}


def shrink_demo(out: str, inputs: Mapping[str, str]) -> None:
    """Write the demo seeds of a planned build (`Identity.inputs`) again where there are more: for
    an extension that did not come to its end."""
    said = [value for name, value in inputs.items() if name.partition(":")[2] == DEMO]
    counts = [int(match[1]) for value in said if (match := re.fullmatch(r"(\d+) seeds", value))]
    target = join(_folder(out), "seeds.jsonl")
    if counts and exists(target) and read_bytes(target).count(b"\n") > max(counts):
        remove_folder(_folder(out))
        _write(out, max(counts))


def _folder(out: str) -> str:
    return join(out, "demo_seeds")


def _count(config: Config) -> int:
    limits = [(source.limit, config.limit) for source in config.seeds if source.path == DEMO]
    # An explicit number may ask for more than the default, but not for more than is used.
    return max(min((n for n in both if n is not None), default=DEMO_SEEDS) for both in limits)


def _write_demo(config: Config, extend: bool) -> str:
    target = join(_folder(config.out), "seeds.jsonl")
    if exists(target):
        there, wanted = read_bytes(target).count(b"\n"), _count(config)
        if there == wanted or (there > wanted and has_manifest(config.out)):
            return target
        if has_manifest(config.out) and not extend:
            raise BuildConflictError(
                f"{config.out}: holds a build of {there} demo seeds, not {wanted}: give another"
                " out=, restore limit, or add --extend to sample only the new ones"
            )
        remove_demo(config)  # Of a look at a plan that was never made, or to be written larger.
    return _write(config.out, _count(config))


def _write(out: str, count: int) -> str:
    """Write so many where none are; returns where their list is."""
    from mmpr_builder import demo

    fs, path = resolve(_folder(out))
    if is_local(fs):
        return str(demo.write_seeds(Path(path), count))
    with tempfile.TemporaryDirectory(prefix="mmpr-demo-") as scratch:
        written = demo.write_seeds(Path(scratch) / "seeds", count)
        # The list goes last: where it is, its pictures are.
        fs.put(f"{written.parent}/images/", f"{path}/images/", recursive=True)
        fs.put_file(str(written), f"{path}/{written.name}")
    return join(_folder(out), written.name)
