"""What a build says of itself to those who look from outside, and what they make of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from small_builds import make_config, sample_here
from waiting import wait_for

from mmpr_builder import stages
from mmpr_builder.cli import main
from mmpr_builder.cli.looking import rows, state
from mmpr_builder.config import Config
from mmpr_builder.errors import (
    BuildConflictError,
    EngineError,
    InputError,
    Interrupted,
    SetupError,
)
from mmpr_builder.folder import parts, status
from mmpr_builder.folder.lock import Lock, build_lock
from mmpr_builder.folder.manifest import read_manifest
from mmpr_builder.folder.status import Half, Reporter, Status, life, look, read_status, reported
from mmpr_builder.progress import Progress
from mmpr_builder.records import Seed
from mmpr_builder.runs import inputs, pair_run, plan, run_pairing, run_sampling, sample_run
from mmpr_builder.runs.planning import make_plan


def told(config: Config, progress: Progress, half: Half) -> AbstractContextManager[Reporter]:
    return reported(config, progress, half, Lock(config.out, {}))


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
    with raised, told(config, progress, "sampling"):
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
    with told(config, Progress(), "sampling"):
        first = content(config)["updated"]
        wait_for(lambda: content(config)["updated"] != first)  # Nothing here updates it.


@pytest.mark.parametrize("begun", [False, True])
def test_a_run_that_lost_the_folder_leaves_the_file_to_the_other(
    begun: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "EVERY_S", 0.01)
    config = make_config(tmp_path, 3)
    lock = Lock(config.out, {})

    def run() -> None:
        with reported(config, Progress(), "sampling", lock) as reporter:
            if begun:
                reporter.begin()
            lock.lose({"host": "node7", "pid": 1})
            time.sleep(1)  # A write that was under way is over.
            (Path(config.out) / "status.json").write_text("of another run")
            time.sleep(0.05)
            lock.check()

    with pytest.raises(BuildConflictError):
        run()
    assert (Path(config.out) / "status.json").read_text() == "of another run"


def test_storage_that_is_away_does_not_end_a_run(tmp_path: Path) -> None:
    config = make_config(tmp_path, 3)
    Path(config.out).write_text("a file where the folder should be")
    with told(config, Progress(), "pairing"):
        pass


def test_nothing_left_to_sample_leaves_a_finished_build_finished(tmp_path: Path) -> None:
    config = make_config(tmp_path, 3)
    with told(config, Progress(), "pairing"):
        pass
    with told(config, Progress(), "sampling") as reporter:
        reporter.begin(changes=False)
    assert content(config)["state"] == "done"
    with told(config, Progress(), "sampling") as reporter:
        reporter.begin(changes=True)
    assert content(config)["state"] == "sampled"


def test_a_ray_job_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = json.dumps({"metadata": {"job_submission_id": "raysubmit_7"}})
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", said)
    config = make_config(tmp_path, 3)
    with told(config, Progress(), "sampling"):
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
    with told(config, progress, "sampling"), progress.stage("sampling", total=12):
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
    with told(config, Progress(), "sampling"):
        shown = dict(rows(config.out, look(config.out), time.time()))
        assert shown["state"] == "running (sampling)"
        assert "next" not in shown
    with pytest.raises(EngineError), told(config, Progress(), "sampling"):
        raise EngineError("CUDA out of memory")
    shown = dict(rows(config.out, look(config.out), time.time()))
    assert shown["state"] == "failed (sampling): CUDA out of memory"
    assert shown["next"] == "run the same command again to go on"


def test_a_damaged_status_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text('{"format": 1, "state": "running"}')
    with pytest.raises(InputError, match="remove it"):
        read_status(str(tmp_path))


# --- planning -------------------------------------------------------------------------------


def test_planning_is_reported_while_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "EVERY_S", 0.02)
    config = make_config(tmp_path, 3)
    seen: list[dict[str, str]] = []

    def rows_of_hours(*_: object, **__: object) -> Iterator[Seed]:
        yield from (Seed(f"q{i}", f"What is {i}?") for i in range(600))
        wait_for(lambda: content(config)["figures"].get("done", 0) >= 512)
        seen.append(dict(rows(config.out, look(config.out), time.time())))
        raise InputError("a.jsonl: torn")

    monkeypatch.setattr(inputs.seeds, "read_sources", rows_of_hours)
    with pytest.raises(InputError):
        run_sampling(config, Progress())
    assert seen[0]["state"] == "running (sampling)"
    assert seen[0]["step"] == "planning  512 seeds"
    assert "seeds/s" in seen[0]["rate"]
    ended = dict(rows(config.out, look(config.out), time.time()))
    assert ended["state"] == "failed (sampling): a.jsonl: torn"
    assert ended["step"] == "planning  512 seeds"


def test_evaluation_sets_are_told_of_before_the_first_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "_TOLD_EVERY", 2)
    Image.new("RGB", (40, 40), "red").save(tmp_path / "x.png")
    row = {"question": "<image>\nWhich colour?", "image": "x.png"}
    lines = (json.dumps({"id": f"e{i}", **row}) + "\n" for i in range(4))
    (tmp_path / "eval.jsonl").write_text("".join(lines))
    against = f"quality.decontaminate.against={tmp_path / 'eval.jsonl'}"
    config = make_config(tmp_path, 3, against)
    progress, details = Progress(), []

    def watch(now: Progress, _: bool) -> None:
        details.append(now.snapshot()["detail"])

    with progress.watched_by(watch), progress.stage("planning"):
        assert len(list(inputs.read_rows(config, config.seeds, progress))) == 7
    told_of = list(dict.fromkeys(details))
    assert told_of == [
        *("evaluation sets", "evaluation sets: 2 pictures", "evaluation sets: 4 pictures", "")
    ]


def test_near_duplicates_alone_are_not_told_of_as_evaluation_sets(tmp_path: Path) -> None:
    config = make_config(tmp_path, 3, "quality.near_duplicates=true")
    progress, details = Progress(), []

    def watch(now: Progress, _: bool) -> None:
        details.append(now.snapshot()["detail"])

    with progress.watched_by(watch), progress.stage("planning"):
        assert len(list(inputs.read_rows(config, config.seeds, progress))) == 7
    assert set(details) == {""}


def test_a_run_told_to_end_while_it_plans_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(tmp_path, 3)

    def plan_for_long(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(sample_run, "make_plan", plan_for_long)
    with pytest.raises(Interrupted, match="signal 15 while planning"):
        run_sampling(config, Progress())
    status = read_status(config.out)
    assert status is not None
    assert status.state == "interrupted"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("step", "doing"), [("pair_parts", "pairing"), ("report", "writing the report")]
)
def test_a_run_told_to_end_while_it_pairs_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, doing: str, signum: int
) -> None:
    config = make_config(tmp_path, 3)
    sample_here(config)

    def for_long(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signum)
        time.sleep(60)

    if step == "pair_parts":
        monkeypatch.setattr(pair_run, step, for_long)
    with pytest.raises(Interrupted, match=f"signal {signum:d} while {doing}") as stopped:
        run_pairing(config, Progress(), for_long)
    assert stopped.value.signum == signum
    status = read_status(config.out)
    assert status is not None
    assert (status.state, status.half) == ("interrupted", "pairing")
    assert doing in status.message


def test_a_finished_build_tells_of_all_its_steps(tmp_path: Path) -> None:
    config = make_config(tmp_path, 12)
    with told(config, Progress(), "sampling"):
        sample_here(config)
    began = content(config)["started"]
    run_pairing(config, Progress())
    assert content(config)["started"] == began
    shown = dict(rows(config.out, look(config.out), time.time()))
    assert "16 seeds, 48 responses" in shown["sampling"]
    assert "pairs of" in shown["pairing"]
    assert shown["report"] == f"not written: mmpr report {config.out}"
    stages.pair(config, Progress())
    shown = dict(rows(config.out, look(config.out), time.time()))
    assert shown["report"].endswith("report/index.html")


def test_nothing_is_written_before_the_folder_is_held(tmp_path: Path) -> None:
    config = make_config(tmp_path, 3)
    with build_lock(config.out):
        with pytest.raises(BuildConflictError, match="another run holds this folder"):
            run_sampling(config, Progress())
        assert not (Path(config.out) / "status.json").exists()


def paired_build(tmp_path: Path) -> Config:
    config = make_config(tmp_path, 12)
    sample_here(config)
    run_pairing(config, Progress())
    assert content(config)["state"] == "done"
    return config


NOBODY = "http://127.0.0.1:9/v1"
REFUSED: dict[str, tuple[str, list[str], str]] = {
    "other settings": ("sample", ["sampling.n=5"], r"sampling\.n: 4 in that build"),
    "other prompts": ("sample", ["prompts.style=boxed"], r"prompts\.style"),
    "inputs that changed": ("sample", [], "content changed"),
    "seeds that are gone": ("extend", [], "12 seeds of this build are no longer in the inputs"),
    "a judge that does not answer": (
        *("pair", [f"scoring.judge.url={NOBODY}", "scoring.judge.model=m"], "does not answer"),
    ),
}


@pytest.mark.parametrize(
    ("case", "before"),
    [
        *((case, "done") for case in REFUSED),
        *(("other settings", "interrupted"), ("other settings", None)),
    ],
)
def test_what_is_refused_leaves_the_word_of_the_build_that_is_there(
    case: str, before: str | None, tmp_path: Path
) -> None:
    command, overrides, message = REFUSED[case]
    config = paired_build(tmp_path)
    file = Path(config.out) / "status.json"
    if before is None:
        file.unlink()
    else:
        file.write_text(json.dumps({**content(config), "state": before}))
    said = file.read_bytes() if before else None
    other = make_config(tmp_path, 12, *overrides)
    if "seeds" in case or "inputs" in case:
        Path(config.seeds[0].path).write_text('{"id": "new", "question": "What is new?"}\n')
    run = run_pairing if command == "pair" else partial(run_sampling, extend=command == "extend")
    with pytest.raises(SetupError, match=message):
        run(other, Progress())
    assert (file.read_bytes() if file.exists() else None) == said


def test_an_extension_that_fails_says_so_and_the_build_is_done_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = paired_build(tmp_path)

    def away(*_: object, **__: object) -> Iterator[Seed]:
        raise OSError("the disk is away")
        yield

    source = Path(config.seeds[0].path)
    rows_before, when = source.read_text(), source.stat()
    source.write_text(rows_before + '{"id": "new", "question": "What is new?"}\n')
    with monkeypatch.context() as patch:
        patch.setattr(inputs.seeds, "read_sources", away)
        with pytest.raises(OSError, match="away"):
            run_sampling(config, Progress(), extend=True)
    found = content(config)
    assert (found["state"], found["message"]) == ("failed", "the disk is away")
    source.write_text(rows_before)
    os.utime(source, ns=(when.st_atime_ns, when.st_mtime_ns))
    run_sampling(config, Progress())  # Nothing is left to sample: neither Ray nor an engine starts.
    assert content(config)["state"] == "done"


def test_a_plan_is_not_published_by_a_run_that_lost_the_folder(tmp_path: Path) -> None:
    config = make_config(tmp_path, 3)
    lock = Lock(config.out, {})
    lock.lose({"host": "node7", "pid": 1})
    with pytest.raises(BuildConflictError, match="node7"):
        make_plan(config, Progress(), lock)
    assert not (Path(config.out) / "manifest.json").exists()
    stopped: list[int] = []
    lock.when_lost(stopped.append)
    assert stopped, "who listens only now is told, too"
