"""How a build is doing, for whoever looks from outside: OUT/status.json.

    {"format": 1, "state": "running", "half": "sampling", "message": "", "host": "node7",
     "pid": 4711, "job": "raysubmit_x", "started": 1795226400.0, "updated": 1795226460.0,
     "every_s": 5.0, "figures": {"stage": "sampling", "done": 1024, "total": 4096, …}}

States: running; sampled (all rollouts are there); done (so are the pairs); interrupted; failed.
The file is written whole by the run that holds the folder: while it runs by a thread, so that a
long step does not look like death, and once more when it ends. A run that was killed leaves
`running` behind; what tells is the age of `updated`, and on the same machine the process.
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
from mmpr_builder.distributed.deaths import cause_of
from mmpr_builder.distributed.storage import exists, join, read_json, write_json
from mmpr_builder.errors import BuildConflictError, InputError, Interrupted, MmprError
from mmpr_builder.progress import Progress
from mmpr_builder.stores import is_local, patience, resolve

STATUS_NAME = "status.json"
FORMAT = 1
EVERY_S, REMOTE_EVERY_S = 5.0, 30.0  # Every write to an object store is a request.
_MISSED = 6  # Writes that may be late before a run counts as silent.

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


@contextmanager
def reported(config: Config, progress: Progress, half: Half) -> Iterator[None]:
    """Keep status.json in step with `progress` until the block ends, then say how it ended.

    For the holder of the folder's lock. A write that fails is made up for by the next one: a run
    does not fail because nobody can be told of it.
    """
    reporter = _Reporter(config.out, progress, half)
    with progress.watched_by(reporter.watch):
        reporter.start()
        try:
            yield
        except BuildConflictError:
            reporter.stop()  # The folder is another run's by now, and so is the file.
            raise
        except (Interrupted, KeyboardInterrupt) as error:
            reporter.end("interrupted", str(error) or "stopped from the keyboard")
            raise
        except BaseException as error:
            ours = isinstance(error, MmprError)
            reporter.end("failed", str(error) if ours else cause_of(error))
            raise
        reporter.end("sampled" if half == "sampling" else "done", "")


def _was_done(out: str) -> bool:
    try:
        status = read_status(out)
    except (InputError, OSError):
        return False
    return status is not None and status.state == "done"


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


class _Reporter:
    """The thread that writes, and the last figures of the half's own stage."""

    def __init__(self, out: str, progress: Progress, half: Half) -> None:
        self._uri = join(out, STATUS_NAME)
        self._progress = progress
        self._last: dict[str, Any] = {}
        self._was_done = _was_done(out)
        self._ended = threading.Event()
        fs, _ = resolve(self._uri)
        every_s = EVERY_S if is_local(fs) else REMOTE_EVERY_S
        now = time.time()
        self._status = Status(
            "running", half, socket.gethostname(), os.getpid(), _job_id(), now, now, every_s
        )
        self._thread = threading.Thread(target=self._beat, name="mmpr-status", daemon=True)

    def watch(self, progress: Progress, ended: bool) -> None:
        """Keep what the half's own stage came to: it is asked for after its end."""
        if ended and (snapshot := progress.snapshot())["stage"] == self._status.half:
            self._last = snapshot

    def start(self) -> None:
        self._write()
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def end(self, state: State, message: str) -> None:
        self.stop()
        if state == "sampled" and self._was_done and not self._last:
            state = "done"  # There was nothing left to sample: the pairs are still those of all.
        self._status = replace(self._status, state=state, message=message)
        self._write()

    def _beat(self) -> None:
        while not self._ended.wait(self._status.every_s):
            self._write()

    def _write(self) -> None:
        figures = self._last or self._progress.snapshot()
        self._status = replace(self._status, updated=time.time(), figures=figures)
        with suppress(OSError), patience(0):
            write_json(self._uri, {"format": FORMAT, **asdict(self._status)})


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
