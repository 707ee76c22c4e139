"""The seeds `demo`: written into the build's folder, then read like anybody's."""

from __future__ import annotations

import tempfile
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
    remove_folder(_folder(config))


def demo_fingerprint(config: Config) -> dict[str, str]:
    """What stands for the demo's files: they are made again when they were deleted."""
    return {DEMO: f"{_count(config)} seeds"}


def _folder(config: Config) -> str:
    return join(config.out, "demo_seeds")


def _count(config: Config) -> int:
    limits = [(source.limit, config.limit) for source in config.seeds if source.path == DEMO]
    # An explicit number may ask for more than the default, but not for more than is used.
    return max(min((n for n in both if n is not None), default=DEMO_SEEDS) for both in limits)


def _write_demo(config: Config, extend: bool) -> str:
    from mmpr_builder import demo

    target = join(_folder(config), "seeds.jsonl")
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
    fs, path = resolve(_folder(config))
    if is_local(fs):
        return str(demo.write_seeds(Path(path), _count(config)))
    with tempfile.TemporaryDirectory(prefix="mmpr-demo-") as scratch:
        written = demo.write_seeds(Path(scratch) / "seeds", _count(config))
        # The list goes last: where it is, its pictures are.
        fs.put(f"{written.parent}/images/", f"{path}/images/", recursive=True)
        fs.put_file(str(written), f"{path}/{written.name}")
    return target
