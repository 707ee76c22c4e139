"""How a build is doing: OUT/status.json, and what its folder shows.

    {"format": 1, "state": "running", "half": "sampling", "message": "", "host": "node7",
     "pid": 4711, "job": "raysubmit_x", "started": 1795226400.0, "updated": 1795226460.0,
     "every_s": 5.0, "figures": {"stage": "sampling", "done": 1024, "total": 4096, …}}

States: running; sampled (all rollouts are there); done (so are the pairs); interrupted; failed. A
thread of the run that holds the folder writes the file from planning on, so that a long step does
not look like death, and once more when the run ends. A killed run leaves `running` behind; the age
of `updated`, and on the same machine the process, tell that it is gone. A run that is refused
before it changed anything restores the file.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from mmpr_builder.config import Config
from mmpr_builder.errors import InputError, Interrupted, MmprError, SetupError, cause_of
from mmpr_builder.folder import join, read_json, write_json
from mmpr_builder.folder.lock import Lock, is_process, repeated
from mmpr_builder.folder.manifest import MANIFEST_NAME, has_manifest, read_manifest
from mmpr_builder.io.stores import (
    is_local,
    is_there,
    names_in,
    patience,
    read_bytes,
    remove_file,
    resolve,
)
from mmpr_builder.io.tables import put_text
from mmpr_builder.progress import Progress

STATUS_NAME = "status.json"
FORMAT = 1
EVERY_S, REMOTE_EVERY_S = 5.0, 30.0  # Every write to an object store is a request.
_MISSED = 6  # Late writes that make a run silent.
_PUT_BACK_S = 10.0  # Retry window for restoring the file, which no later write makes up for.

State = Literal["running", "sampled", "done", "interrupted", "failed"]
Half = Literal["sampling", "pairing"]
Life = Literal["alive", "silent", "gone"]
"""Of the run that wrote a status: it works; it missed its writes; its process has ended."""


@dataclass(frozen=True, slots=True)
class Status:
    """The content of status.json. Times are seconds since 1970."""

    state: State
    half: Half
    host: str
    pid: int
    job: str
    """Submission id of the Ray job, if it is one."""
    started: float
    updated: float
    every_s: float
    message: str = ""
    """What interrupted it, or why it failed."""
    figures: dict[str, Any] = field(default_factory=dict)
    """`Progress.snapshot` of the half's own stage, or of the one before it."""
    paired: bool = False
    """Of a run that samples: whether the folder's pairs are still those of all its seeds."""


@contextmanager
def reported(config: Config, progress: Progress, half: Half, lock: Lock) -> Iterator[Reporter]:
    """Keep status.json in step with `progress` until the block ends, then write how it ended.

    Once another run has taken the folder's `lock`, the file is that run's. A failed write does not
    fail the run; the next one makes up for it.
    """
    reporter = Reporter(config.out, progress, half, lock)
    with progress.watched_by(reporter.watch):
        reporter.write()
        try:
            with repeated(reporter.write, reporter.every_s, "mmpr-status"):
                yield reporter
        except (Interrupted, KeyboardInterrupt) as error:
            reporter.end("interrupted", str(error) or "stopped from the keyboard")
            raise
        except BaseException as error:
            if isinstance(error, SetupError) and reporter.may_put_back:
                reporter.put_back()
            else:
                ours = isinstance(error, MmprError)
                reporter.end("failed", str(error) if ours else cause_of(error))
            raise
        reporter.end("sampled" if half == "sampling" else "done", "")


def read_status(out: str) -> Status | None:
    """The status in a build's folder, if any. Raises `InputError` for a damaged one or another
    format."""
    uri = join(out, STATUS_NAME)
    if not is_there(uri):
        return None
    content = read_json(uri)
    names = {f.name for f in fields(Status)}
    try:
        if content["format"] != FORMAT:
            raise KeyError(f"format {content['format']!r}")
        return Status(**{name: value for name, value in content.items() if name in names})
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{uri}: not a status that this version reads ({error}): remove it; the next run"
            " writes a new one"
        ) from None


def life(status: Status, now: float | None = None) -> Life:
    """Whether the run that wrote `status` is still there."""
    ended = status.host == socket.gethostname() and not is_process(status.pid)
    if status.state != "running" or ended:
        return "gone"
    age = (time.time() if now is None else now) - status.updated
    return "alive" if age < _MISSED * status.every_s else "silent"


class Reporter:
    """Writes the file; holds what it said before, and the last figures."""

    def __init__(self, out: str, progress: Progress, half: Half, lock: Lock) -> None:
        self._uri = join(out, STATUS_NAME)
        self._progress = progress
        self._lock = lock
        self._own: dict[str, Any] = {}
        self._latest: dict[str, Any] = {}
        self._before: str | None = None
        earlier: Status | None = None
        with suppress(InputError, OSError):
            self._before = read_bytes(self._uri).decode("utf-8", "replace")
            earlier = read_status(out)
        self.may_put_back = _holds_build(out)
        self._writing = threading.Lock()
        self.every_s = EVERY_S if is_local(resolve(self._uri)[0]) else REMOTE_EVERY_S
        # The submission id of a Ray job.
        job_id = ((ray_job() or {}).get("metadata") or {}).get("job_submission_id", "")
        host, pid, now = socket.gethostname(), os.getpid(), time.time()
        # Where a process samples and goes on to pair, that is one run.
        goes_on = (host, pid, "sampling", "pairing")
        if earlier and (earlier.host, earlier.pid, earlier.half, half) == goes_on:
            began = earlier.started
        else:
            began = now
        self._status = Status(
            *("running", half, host, pid, job_id, began, now, self.every_s),
            paired=earlier is not None and (earlier.state == "done" or earlier.paired),
        )

    def begin(self, *, changes: bool = True) -> None:
        """The run is not refused any more; with `changes` the folder's pairs become outdated."""
        self.may_put_back = False
        if changes:
            self.write(paired=False)

    def watch(self, progress: Progress, ended: bool) -> None:
        """Keep the figures of ended stages: of the half's own, and of the latest for a failure."""
        if ended:
            self._latest = progress.snapshot()
            if self._latest["stage"] == self._status.half:
                self._own = self._latest

    def end(self, state: State, message: str) -> None:
        if state == "sampled" and self._status.paired:
            state = "done"  # Nothing was left to sample, and the pairs are those of all seeds.
        if state in ("interrupted", "failed"):
            self._own = self._own or self._latest
        self.write(state=state, message=message)

    def put_back(self) -> None:
        """End with the file as it was."""
        if self._lock.taken_by is not None:
            return
        with suppress(OSError), patience(_PUT_BACK_S):
            if self._before is None:
                remove_file(self._uri)
            else:
                put_text(self._before, self._uri)

    def write(self, **changed: Any) -> None:
        """Write the file as things are now, unless it is another run's."""
        figures = self._own or self._progress.snapshot()
        with self._writing:
            told = replace(self._status, updated=time.time(), figures=figures, **changed)
            self._status = told
            if self._lock.taken_by is None:
                with suppress(OSError), patience(0):
                    write_json(self._uri, {"format": FORMAT, **asdict(told)})


def _holds_build(out: str) -> bool:
    """Whether the folder has a build, which a refused run leaves as it is."""
    with suppress(OSError):
        files = (MANIFEST_NAME, "run.json")  # Pooled builds have only the second.
        return any(is_there(join(out, name)) for name in files) or bool(
            names_in(join(out, "rollouts"))
        )
    return True


def ray_job() -> dict[str, Any] | None:
    """Ray's configuration of this job; None in a process that `ray job submit` did not start."""
    said = os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR")
    return dict(json.loads(said)) if said else None


@dataclass(frozen=True, slots=True)
class Overview:
    """A build by its folder alone, for `mmpr status`: a killed run could not report its progress.

    Overview(life="alive", status=Status(…), units=16, units_total=64, seeds=4096, paired=False)
    """

    status: Status | None
    """Of the last run, if it left one."""
    life: Life
    units: int
    """Units whose part is in the folder (by name: contents are not read)."""
    units_total: int
    """0 before planning is complete."""
    seeds: int
    paired: bool
    """Whether there is a run.json, which pairing writes last."""


def look(out: str) -> Overview:
    """Read a build's folder without its lock. Raises `InputError` when there is no build."""
    status = read_status(out)
    if status is None and not has_manifest(out):
        raise InputError(f"{out}: no build here (neither status.json nor manifest.json)")
    units = read_manifest(out).units if has_manifest(out) else ()
    there = set(names_in(join(out, "rollouts")))
    return Overview(
        status=status,
        life="gone" if status is None else life(status),
        units=sum(f"{unit.name}.parquet" in there for unit in units),
        units_total=len(units),
        seeds=sum(unit.count for unit in units),
        paired=is_there(join(out, "run.json")),
    )
