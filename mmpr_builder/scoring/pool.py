"""The parent's side of symbolic mathematics: worker processes whose work is killed from outside.

Signals and threads do not stop sympy (an alarm waits for the bytecode after a GMP call), so the
only limit that holds is a kill. A worker is a plain subprocess with a pipe: it works from threads,
from Ray actors and from scripts without a `__main__` guard.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from multiprocessing import Pipe

from mmpr_builder.scoring.decision import Decision, Query, unknown

_START_S = 120.0
"""Importing sympy takes a second, on a machine under heavy load many."""
_GRACE_S = 10.0
"""The worker keeps the time limit itself; one that is silent for so much longer is dead."""


class JudgeClosedError(RuntimeError):
    """Something was to be scored after the end: the caller's mistake, and no answer's."""


class _Worker:
    """One worker process. Not thread-safe; the pool hands it to one thread at a time."""

    def __init__(self, memory_mb: int, timeout_s: float) -> None:
        # The child must import what we import, wherever that was found (checkout, wheel, a
        # cluster's working folder); -P keeps the current folder from shadowing it.
        paths = [path for path in sys.path if path]
        self._pipe, theirs = Pipe()
        descriptor = theirs.fileno()
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "mmpr_builder.scoring.worker"),
                    *(str(descriptor), str(timeout_s), str(memory_mb)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                pass_fds=[descriptor],
            )
        self._limit_s = _START_S + timeout_s

    def ask(self, query: Query, timeout_s: float) -> Decision:
        """Raises OSError or EOFError when the worker is of no more use."""
        request = {"kind": query.kind, "p": query.predicted, "g": query.gold}
        self._pipe.send_bytes(json.dumps(request).encode())
        if not self._pipe.poll(self._limit_s):
            raise TimeoutError("the worker is silent")
        reply = json.loads(self._pipe.recv_bytes())
        self._limit_s = 2 * timeout_s + _GRACE_S  # it has started
        if "killed" in reply:
            return unknown("timeout", str(reply["killed"]))
        if reply["equal"] is None:
            return unknown("unclear", str(reply["reason"]))
        return Decision(bool(reply["equal"]), "symbolic", str(reply["reason"]))

    def close(self) -> None:
        """Close the pipe, which ends the worker and its child; kill it if that does not."""
        self._pipe.close()
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:  # it is still importing
            self._process.kill()
            self._process.wait()


class WorkerPool:
    """Up to `size` workers, started when first needed. Thread-safe; `close` ends them all."""

    def __init__(self, timeout_s: float = 2.0, memory_mb: int = 1024, size: int = 1) -> None:
        self._timeout_s = timeout_s
        self._memory_mb = memory_mb
        self._slots = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._pid = os.getpid()
        self._closed = False

    def warm(self) -> None:
        """Start one worker without waiting for it, so that the first query finds it ready."""
        self._give_back(self._take())

    def __call__(self, query: Query) -> Decision:
        """Answer a query; a time-out, a crash and a refusal are undecided, never "no"."""
        with self._slots:
            worker = self._take()
            try:
                decision = worker.ask(query, self._timeout_s)
            except (OSError, EOFError) as reason:
                worker.close()
                return unknown("timeout", f"the worker has ended: {reason}")
            except BaseException:
                worker.close()  # interrupted between question and answer
                raise
            self._give_back(worker)
            return decision

    def _take(self) -> _Worker:
        with self._lock:
            if self._pid != os.getpid():  # forked: the pipes belong to the parent
                self._idle.clear()
                self._pid = os.getpid()
            if self._closed:
                raise JudgeClosedError(
                    "the judge is closed: make a new Judge to score more answers"
                )
            if self._idle:
                return self._idle.pop()
        return _Worker(self._memory_mb, self._timeout_s)

    def _give_back(self, worker: _Worker) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(worker)
                return
        worker.close()

    def close(self) -> None:
        """End all workers; idempotent."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        if self._pid == os.getpid():
            for worker in idle:
                worker.close()
