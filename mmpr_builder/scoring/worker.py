"""The process that does symbolic mathematics: `python -m mmpr_builder.scoring.worker FD S MB`.

Reads requests on a socket and answers them there, in JSON. It imports sympy once, then forks a
child that evaluates, and only watches: a child over its time or memory is killed with SIGKILL and
forked anew, which takes milliseconds where a fresh start takes seconds. It ends, child included,
when its parent closes the socket or dies.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait

_MAX_CHECKS = 1000
"""A child is replaced after so many comparisons, because sympy's caches only grow."""
_PATIENCE = 0.4
"""On a machine under load, where a child has had little of the processor when its time is over, it
gets so much of its limit again: a verdict should depend on the answer, not on what else is running.
"""


@dataclass
class _Child:
    """A forked process that evaluates."""

    pid: int
    pipe: Connection
    checks: int = 0

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.pipe.close()


def _fork(parent: Connection, memory_mb: int) -> _Child:
    ours, theirs = Pipe()
    pid = os.fork()
    if pid == 0:
        ours.close()
        parent.close()
        with suppress(EOFError, OSError):
            _evaluate(theirs, memory_mb)
        os._exit(0)
    theirs.close()
    return _Child(pid, ours)


def _limit_memory(megabytes: int) -> None:
    """Bound the address space to what is in use now plus `megabytes`."""
    with suppress(OSError, ValueError):  # macOS refuses; the time limit remains
        with open("/proc/self/statm", encoding="ascii") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
        limit = used + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _evaluate(pipe: Connection, memory_mb: int) -> None:
    """The child's loop; raises EOFError when the pipe closes."""
    from mmpr_builder.scoring.maths import symbolic

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_memory(memory_mb)
    while True:
        request = json.loads(pipe.recv_bytes())
        try:
            equal, reason = symbolic.compare(request["kind"], request["p"], request["g"])
        except MemoryError:
            os._exit(3)  # a heap at its limit is not to be trusted with the next request
        except Exception as error:  # noqa: BLE001 -- sympy raises anything; it is an answer here
            equal, reason = None, f"{type(error).__name__}: {str(error)[:200]}"
        pipe.send_bytes(json.dumps({"equal": equal, "reason": reason}).encode())


def _ask(child: _Child, parent: Connection, request: bytes, timeout_s: float) -> bytes | None:
    """The child's reply; None when it died or ran out of time. Raises EOFError when the parent
    has gone meanwhile."""
    started = _cpu_seconds(child.pid)
    child.pipe.send_bytes(request)
    for wait_s in (timeout_s, _PATIENCE * timeout_s):
        ready = wait([child.pipe, parent], wait_s)
        if child.pipe in ready:
            with suppress(EOFError, OSError):
                return child.pipe.recv_bytes()
            return None
        if ready:  # the parent sends nothing before it has its answer
            raise EOFError
        if not _cpu_seconds(child.pid) - started < 0.8 * timeout_s:
            break
    return None


def _cpu_seconds(pid: int) -> float:
    """CPU time that a process has used; infinite where the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return math.inf
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serve(parent: Connection, timeout_s: float, memory_mb: int) -> None:
    """Answer requests until the parent closes its end."""
    from mmpr_builder.scoring.maths import symbolic

    symbolic.warm_up()  # before the fork, so that each child has it
    child: _Child | None = None
    try:
        while True:
            request = parent.recv_bytes()
            child = child or _fork(parent, memory_mb)
            reply = _ask(child, parent, request, timeout_s)
            child.checks += 1
            if reply is None or child.checks >= _MAX_CHECKS:
                child.kill()
                child = None
            parent.send_bytes(reply or b'{"killed": "over its time or memory limit"}')
    except (EOFError, OSError):
        pass
    finally:
        if child is not None:
            child.kill()


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), float(sys.argv[2]), int(sys.argv[3]))
