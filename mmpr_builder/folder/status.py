"""How a build is doing, for whoever looks from outside: OUT/status.json.

    {"format": 1, "state": "running", "half": "sampling", "message": "", "host": "node7",
     "pid": 4711, "job": "raysubmit_x", "started": 1795226400.0, "updated": 1795226460.0,
     "every_s": 5.0, "figures": {"stage": "sampling", "done": 1024, "total": 4096, …}}

States: running; sampled (all rollouts are there); done (so are the pairs); interrupted; failed.
The file is written whole by the run that holds the folder, from planning on: while it runs by a
thread, so that a long step does not look like death, and once more when it ends. A run that was
killed leaves `running` behind; what tells is the age of `updated`, and on the same machine the
process. A run that is refused before it changed anything puts back what the file said of the build
that is there.
"""

from __future__ import annotations

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
from mmpr_builder.folder.files import exists, join, read_json, write_json
from mmpr_builder.folder.lock import Lock
from mmpr_builder.folder.manifest import MANIFEST_NAME, has_manifest, read_manifest
from mmpr_builder.io.stores import is_local, names_in, patience, read_bytes, remove_file, resolve
from mmpr_builder.io.tables import put_text
from mmpr_builder.progress import Progress

STATUS_NAME = "status.json"
FORMAT = 1
EVERY_S, REMOTE_EVERY_S = 5.0, 30.0  # Every write to an object store is a request.
_MISSED = 6  # Writes that may be late before a run counts as silent.
_PUT_BACK_S = 10.0  # Patience with storage for what no later write makes up for.

State = Literal["running", "sampled", "done", "interrupted", "failed"]
Half = Literal["sampling", "pairing"]
Life = Literal["alive", "silent", "gone"]
"""Of the run that wrote a status: it works; nothing was heard of it; its process is not there."""


@dataclass(frozen=True, slots=True)
class Status:
    """The content of status.json. Times are seconds since 1970."""

    state: State
    half: Half
    host: str
    pid: int
    job: str
    """Submission id of the Ray job; "" if it is none."""
    started: float
    updated: float
    every_s: float
    message: str = ""
    """What interrupted it, or why it failed."""
    figures: dict[str, Any] = field(default_factory=dict)
    """`Progress.snapshot` of the half's own stage, or of what comes before it."""
    paired: bool = False
    """Whether the pairs in the folder are still those of all its seeds; known of a run that
    samples."""


@contextmanager
def reported(config: Config, progress: Progress, half: Half, lock: Lock) -> Iterator[Reporter]:
    """Keep status.json in step with `progress` until the block ends, then say how it ended.

    `lock` is that of the folder: once another run has taken it, the file is that run's. A write
    that fails is made up for by the next one: a run does not fail because nobody can be told of it.
    """
    reporter = Reporter(config.out, progress, half, lock)
    with progress.watched_by(reporter.watch):
        reporter.start()
        try:
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
    """The status of a build's folder; None if no run has left one.

    Raises `InputError` when it is damaged or of another format.
    """
    uri = join(out, STATUS_NAME)
    if not exists(uri):
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
    if status.state != "running":
        return "gone"
    if status.host == socket.gethostname() and not _is_process(status.pid):
        return "gone"
    age = (time.time() if now is None else now) - status.updated
    return "alive" if age < _MISSED * status.every_s else "silent"


class Reporter:
    """The thread that writes, what the file said before, and the last figures."""

    def __init__(self, out: str, progress: Progress, half: Half, lock: Lock) -> None:
        self._uri = join(out, STATUS_NAME)
        self._progress = progress
        self._lock = lock
        self._own: dict[str, Any] = {}
        self._latest: dict[str, Any] = {}
        self._before, earlier = _earlier(out)
        self.may_put_back = _holds_build(out)
        self._ended, self._writing = threading.Event(), threading.Lock()
        fs, _ = resolve(self._uri)
        every_s = EVERY_S if is_local(fs) else REMOTE_EVERY_S
        now = time.time()
        self._status = Status(
            *("running", half, socket.gethostname(), os.getpid(), _job_id(), now, now, every_s),
            paired=earlier is not None and (earlier.state == "done" or earlier.paired),
        )
        self._thread = threading.Thread(target=self._beat, name="mmpr-status", daemon=True)

    def begin(self, *, changes: bool = True) -> None:
        """Say that what the run was asked for is no longer refused; with `changes` the pairs that
        are there will not be those of the build any more."""
        self.may_put_back = False
        if changes:
            self._write(paired=False)

    def watch(self, progress: Progress, ended: bool) -> None:
        """Keep what stages came to: the half's own is asked for after its end, any one after a
        failure."""
        if ended:
            self._latest = progress.snapshot()
            if self._latest["stage"] == self._status.half:
                self._own = self._latest

    def start(self) -> None:
        self._write()
        self._thread.start()

    def end(self, state: State, message: str) -> None:
        self._stop()
        if state == "sampled" and self._status.paired:
            state = "done"  # There was nothing left to sample: the pairs are still those of all.
        if state in ("interrupted", "failed"):
            self._own = self._own or self._latest
        self._write(state=state, message=message)

    def put_back(self) -> None:
        """End with the file as it was."""
        self._stop()
        with suppress(OSError), patience(_PUT_BACK_S):
            if self._lock.taken_by is None and self._before is None:
                remove_file(self._uri)
            elif self._lock.taken_by is None and self._before is not None:
                put_text(self._before, self._uri)

    def _stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._ended.wait(self._status.every_s):
            self._write()

    def _write(self, **changed: Any) -> None:
        figures = self._own or self._progress.snapshot()
        with self._writing:
            told = replace(self._status, updated=time.time(), figures=figures, **changed)
            self._status = told
            if self._lock.taken_by is None:
                with suppress(OSError), patience(0):
                    write_json(self._uri, {"format": FORMAT, **asdict(told)})


def _earlier(out: str) -> tuple[str | None, Status | None]:
    """What the file says before it is written over, as text and, where it can be read, as such."""
    text = None
    with suppress(OSError):
        text = read_bytes(join(out, STATUS_NAME)).decode("utf-8", "replace")
    with suppress(InputError, OSError):
        return text, read_status(out)
    return text, None


def _holds_build(out: str) -> bool:
    """Whether there is something that a refused run leaves as it is."""
    with suppress(OSError):
        files = (MANIFEST_NAME, "run.json")  # The first one is missing where builds were pooled.
        return any(exists(join(out, name)) for name in files) or bool(
            names_in(join(out, "rollouts"))
        )
    return True


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # Signal 0 only asks.
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _job_id() -> str:
    """The id that `ray job submit` gave to what runs here."""
    import json

    # Ray hands it to the job's process in this variable.
    with suppress(ValueError, KeyError, TypeError):
        content = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", ""))
        return str(content["metadata"]["job_submission_id"])
    return ""


# --- the folder as it is now, for `mmpr status` -----------------------------------------------
#     Overview(life="alive", status=Status(…), units=16, units_total=64, seeds=4096, paired=False)
#
# What is on disk counts: a run that was killed could not report how far it had come.


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
