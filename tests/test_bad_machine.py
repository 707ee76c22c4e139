"""A machine that misbehaves: a disk that errs, a clock that jumps."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from build_files import files_in
from small_builds import make_config, sample_here

from mmpr_builder.cli.looking import rows
from mmpr_builder.errors import RowError, StorageError
from mmpr_builder.export import FORMATS, ExportOptions, write_export
from mmpr_builder.folder.status import look
from mmpr_builder.io import images
from mmpr_builder.progress import Progress
from mmpr_builder.records import ImageRef
from mmpr_builder.report import write_report
from mmpr_builder.runs import plan, run_pairing

DAY_S = 86_400.0


@pytest.mark.parametrize(
    ("code", "times", "tries", "ends"),
    [
        (errno.EIO, 1, 2, "read"),
        (errno.ESTALE, 2, 3, "read"),
        (errno.EIO, 99, 3, "image_unreadable"),
        # What a row says, not the disk: waiting would cost a hostile data set's time, and ours.
        (errno.ENAMETOOLONG, 99, 1, "image_unreadable"),
        (errno.ELOOP, 99, 1, "image_unreadable"),
    ],
)
def test_a_disk_that_fails_for_a_moment_costs_no_picture(
    code: int, times: int, tries: int, ends: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(b"some bytes")
    opened, calls = os.open, itertools.count(1)
    tried: list[int] = []

    def failing(path: Any, *how: Any, **more: Any) -> int:
        if str(path).endswith("a.png"):
            tried.append(next(calls))
            if tried[-1] <= times:
                raise OSError(code, os.strerror(code))
        return opened(path, *how, **more)

    monkeypatch.setattr(os, "open", failing)
    monkeypatch.setattr(images.time, "sleep", lambda seconds: None)
    if ends == "read":
        assert images.read_bytes(ImageRef(str(tmp_path / "a.png"))) == b"some bytes"
    else:
        with pytest.raises(RowError, match=ends):
            images.read_bytes(ImageRef(str(tmp_path / "a.png")))
    assert len(tried) == tries


def test_a_clock_that_jumps_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day forward, three back, with every look at it."""
    builds = {}
    now, jumps = time.time, itertools.cycle([0, 1, -2, 3, -1])
    for out in ("steady", "jumping"):
        config = make_config(tmp_path, 9, out=out)
        if out == "jumping":
            monkeypatch.setattr(time, "time", lambda: now() + next(jumps) * DAY_S)
        sample_here(config)
        run = run_pairing(config, Progress(), lambda out=config.out: write_report(out)).run
        assert all(seconds >= 0 for seconds in run["this_run"]["seconds"].values())
        builds[out] = files_in(config.out, "rollouts", "pairs", "drops")
        told = dict(rows(config.out, look(config.out), time.time()))
        assert "-" not in told["started"].partition("ran")[2]
        assert told["state"] == "done"
    assert builds["steady"] == builds["jumping"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Gives a disk of so many KiB, the same one with its content at every call."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made: list[Path] = []

    def sized(kib: int) -> Path:
        how = ["-o", f"remount,size={kib}k"] if made else ["-t", "tmpfs", "-o", f"size={kib}k"]
        mount = ["mount", *how, "tmpfs", str(folder)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("no right to mount a small disk here")
        made.append(folder)
        return folder

    yield sized
    if made:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_stage_costs_nothing_but_another_run(
    tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    """It is a little larger at every try, so that each stage meets its end."""
    whole = make_config(tmp_path, 9, out="whole")
    sample_here(whole)
    run_pairing(whole, Progress(), lambda: write_report(whole.out))
    config = make_config(tmp_path, 9, out="disk/out")
    stages: dict[str, Callable[[], object]] = {
        "planning": lambda: plan(config),
        "sampling": lambda: sample_here(config),
        "pairing": lambda: run_pairing(config, Progress(), lambda: None),
        "report": lambda: write_report(config.out),
        "export": lambda: write_export(
            [config.out], FORMATS["trl"], str(tmp_path / "disk" / "export"), ExportOptions()
        ),
    }
    met, kib = dict[str, str](), 8
    disk = small_disk(kib)
    for name, stage in stages.items():
        while said := _refused(stage):
            met[name] = said
            assert str(disk) in said
            assert "No space left on device: free some space" in said
            assert not (disk / "export").exists()
            kib += max(8, kib // 8)
            small_disk(kib)
    assert [*met] == [*stages]
    names = ("seeds", "rollouts", "pairs", "drops")
    assert files_in(config.out, *names) == files_in(whole.out, *names)
    assert not list(Path(config.out).rglob(".*.tmp"))


def _refused(stage: Callable[[], object]) -> str:
    """What was said of a full disk; "" if there was room. An actor's is in an assertion."""
    try:
        stage()
    except (StorageError, AssertionError) as error:
        return str(error)
    return ""
