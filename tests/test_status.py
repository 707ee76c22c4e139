"""What a build says of itself to those who look from outside, and what they make of it."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from test_distributed import make_config, sample_here

from mmpr_builder.cli import main
from mmpr_builder.cli.status import rows, state
from mmpr_builder.config import Config
from mmpr_builder.distributed import parts, plan, run_pairing, status
from mmpr_builder.distributed.manifest import read_manifest
from mmpr_builder.distributed.overview import look
from mmpr_builder.distributed.status import Status, life, read_status, reported
from mmpr_builder.errors import BuildConflictError, EngineError, InputError, Interrupted
from mmpr_builder.progress import Progress


def content(config: Config) -> dict[str, Any]:
    return dict(json.loads((Path(config.out) / "status.json").read_text()))


def end_with(error: BaseException | None) -> None:
    if error is not None:
        raise error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, ("sampled", "")),
        (Interrupted("stopped by signal 15; 3 seeds", 15), ("interrupted", "signal 15")),
        (KeyboardInterrupt(), ("interrupted", "keyboard")),
        (EngineError("CUDA out of memory"), ("failed", "CUDA out of memory")),
        (
            RuntimeError("\x1b[36mray::x()\n  File x\nNameError: no y"),
            ("failed", "NameError: no y"),
        ),
    ],
)
def test_the_last_word_says_how_it_ended(
    error: BaseException | None, expected: tuple[str, str], tmp_path: Path
) -> None:
    config = make_config(tmp_path, 3)
    progress = Progress()
    raised = nullcontext() if error is None else pytest.raises(type(error))
    with raised, reported(config, progress, "sampling"):
        assert content(config)["state"] == "running"
        with progress.stage("sampling", total=9):
            progress.update(done=4, units=1, units_total=3, tokens=70, engines=2, retries=1)
            end_with(error)
    found = content(config)
    assert found["state"] == expected[0]
    assert expected[1] in found["message"]
    assert "\n" not in found["message"]
    kept = ("done", "total", "units", "units_total", "tokens", "engines", "retries")
    assert [found["figures"][name] for name in kept] == [4, 9, 1, 3, 70, 2, 1]


def test_a_long_step_does_not_look_like_death(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "EVERY_S", 0.02)
    config = make_config(tmp_path, 3)
    with reported(config, Progress(), "sampling"):
        first = content(config)["updated"]
        deadline = time.monotonic() + 30
        while content(config)["updated"] == first:  # Nobody updates anything here.
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_run_that_lost_the_folder_leaves_the_file_to_the_other(tmp_path: Path) -> None:
    config = make_config(tmp_path, 3)

    def notice_the_other() -> None:
        (Path(config.out) / "status.json").write_text("of another run")
        raise BuildConflictError("another run holds this folder")

    with pytest.raises(BuildConflictError), reported(config, Progress(), "sampling"):
        notice_the_other()
    assert (Path(config.out) / "status.json").read_text() == "of another run"


def test_storage_that_is_away_does_not_end_a_run(tmp_path: Path) -> None:
    config = make_config(tmp_path, 3)
    Path(config.out).write_text("a file where the folder should be")
    with reported(config, Progress(), "pairing"):
        pass


def test_nothing_left_to_sample_leaves_a_finished_build_finished(tmp_path: Path) -> None:
    config = make_config(tmp_path, 3)
    with reported(config, Progress(), "pairing"):
        pass
    with reported(config, Progress(), "sampling"):
        pass
    assert content(config)["state"] == "done"


def test_a_ray_job_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = json.dumps({"metadata": {"job_submission_id": "raysubmit_7"}})
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", said)
    config = make_config(tmp_path, 3)
    with reported(config, Progress(), "sampling"):
        assert content(config)["job"] == "raysubmit_7"


def running(**changed: Any) -> Status:
    plain: dict[str, Any] = {
        **{"state": "running", "half": "sampling", "host": "elsewhere", "pid": 1, "job": ""},
        **{"started": 1000.0, "updated": 2000.0, "every_s": 5.0},
    }
    return Status(**{**plain, **changed})


@pytest.mark.parametrize(
    ("changed", "now", "expected"),
    [
        ({}, 2004.0, "alive"),
        ({}, 2100.0, "silent"),
        ({"every_s": 30.0}, 2100.0, "alive"),
        ({"state": "done"}, 2004.0, "gone"),
        ({"host": socket.gethostname(), "pid": os.getpid()}, 2004.0, "alive"),
        ({"host": socket.gethostname(), "pid": 2**22 + 1}, 2004.0, "gone"),
    ],
)
def test_a_driver_is_alive_silent_or_gone(
    changed: dict[str, Any], now: float, expected: str
) -> None:
    assert life(running(**changed), now) == expected


def test_a_build_is_told_from_its_folder_at_every_step(tmp_path: Path) -> None:
    config = make_config(tmp_path, 12)
    with pytest.raises(InputError, match="no build here"):
        look(config.out)
    plan(config)
    assert (state(look(config.out)), look(config.out).units) == ("killed", 0)
    sample_here(config)
    Path(parts.rollouts_uri(config.out, read_manifest(config.out).units[1])).unlink()
    found = look(config.out)
    assert (state(found), found.units, found.units_total, found.seeds) == ("killed", 2, 3, 12)
    sample_here(config)
    assert state(look(config.out)) == "sampled"
    run_pairing(config, Progress())
    found = look(config.out)
    assert (state(found), found.life) == ("done", "gone")
    assert found.status is not None
    assert found.status.figures["pairs"] > 0
    (Path(config.out) / "status.json").unlink()
    assert state(look(config.out)) == "done"


def test_the_command_shows_what_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(tmp_path, 12)
    plan(config)
    progress = Progress()
    with reported(config, progress, "sampling"), progress.stage("sampling", total=12):
        progress.update(done=0, decided=40, correct=10, undecided=2, engines=0)
        progress.update(done=3, tokens=90, retries=1, detail="waiting for 1 GPU on one node")
    for words in ([config.out], [config.out, "--json"]):
        with pytest.raises(SystemExit) as ended:
            main(["status", *words])
        assert ended.value.code == 0
    table, _, line = capsys.readouterr().out.rstrip().rpartition("\n")
    for expected in ("0/3 sampled", "3/12  25 %", "25% of judged, 2 undecided", "90 tokens"):
        assert expected in table
    assert json.loads(line)["units_total"] == 3


def test_what_to_do_next_is_said(tmp_path: Path) -> None:
    config = make_config(tmp_path, 3)
    with reported(config, Progress(), "sampling"):
        shown = dict(rows(config.out, look(config.out), time.time()))
        assert shown["state"] == "running (sampling)"
        assert "next" not in shown
    with pytest.raises(EngineError), reported(config, Progress(), "sampling"):
        raise EngineError("CUDA out of memory")
    shown = dict(rows(config.out, look(config.out), time.time()))
    assert shown["state"] == "failed (sampling): CUDA out of memory"
    assert shown["next"] == "run the same command again to go on"


def test_a_damaged_status_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text('{"format": 1, "state": "running"}')
    with pytest.raises(InputError, match="remove it"):
        read_status(str(tmp_path))
