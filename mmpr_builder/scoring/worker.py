"""The process that does symbolic mathematics: `python -m mmpr_builder.scoring.worker TIMEOUT_S MB`.

Reads requests on stdin and answers on stdout, each a 4-byte big-endian length and JSON. It imports
sympy once, then forks a child that evaluates, and only watches: a child over its time or memory is
killed with SIGKILL and forked anew, which takes milliseconds where a fresh start takes seconds.
It ends, child included, when its parent closes the pipe or dies.
"""

from __future__ import annotations

import json
import math
import os
import resource
import select
import signal
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass

MAX_FRAME = 1 << 20
"""No message is longer (1 MiB); screened queries are below 2 KiB."""
_MAX_CHECKS = 1000
"""A child is replaced after so many comparisons, because sympy's caches only grow."""


def frame(message: object) -> bytes:
    """A message as it goes over the pipe."""
    body = json.dumps(message, ensure_ascii=True).encode("ascii")
    return struct.pack(">I", len(body)) + body


def read_exactly(descriptor: int, size: int) -> bytes:
    """`size` bytes; fewer at the end of the stream."""
    data = b""
    while len(data) < size:
        part = os.read(descriptor, size - len(data))
        if not part:
            break
        data += part
    return data


def read_frame(descriptor: int) -> bytes | None:
    """The body of one message, or None at the end of the stream."""
    header = read_exactly(descriptor, 4)
    if len(header) < 4:
        return None
    (size,) = struct.unpack(">I", header)
    body = read_exactly(descriptor, size) if size <= MAX_FRAME else b""
    return body if len(body) == size else None


_PATIENCE = 0.4
"""On a machine under load, where a child has had little of the processor when its time is over, it
gets so much of its limit again: a verdict should depend on the answer, not on what else is running.
"""


@dataclass
class _Child:
    """A forked process that evaluates; `requests` and `replies` are this side's pipe ends."""

    pid: int
    requests: int
    replies: int
    checks: int = 0

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.requests)
        os.close(self.replies)


def _fork(memory_mb: int) -> _Child:
    request_in, request_out = os.pipe()
    reply_in, reply_out = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(request_out)
        os.close(reply_in)
        _evaluate(request_in, reply_out, memory_mb)
        os._exit(0)
    os.close(request_in)
    os.close(reply_out)
    return _Child(pid, request_out, reply_in)


def _limit_memory(megabytes: int) -> None:
    """Bound the address space to what is in use now plus `megabytes`."""
    with suppress(OSError, ValueError):  # macOS refuses; the time limit remains
        with open("/proc/self/statm", encoding="ascii") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
        limit = used + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _evaluate(requests: int, replies: int, memory_mb: int) -> None:
    """The child's loop: answer requests until the pipe closes."""
    from mmpr_builder.scoring.maths import symbolic

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_memory(memory_mb)
    while (body := read_frame(requests)) is not None:
        request = json.loads(body)
        try:
            equal, reason = symbolic.compare(request["kind"], request["p"], request["g"])
        except MemoryError:
            os._exit(3)  # a heap at its limit is not to be trusted with the next request
        except Exception as error:  # noqa: BLE001 -- sympy raises anything; it is an answer here
            equal, reason = None, f"{type(error).__name__}: {str(error)[:200]}"
        os.write(replies, frame({"equal": equal, "reason": reason}))


def _ask(child: _Child, body: bytes, timeout_s: float) -> bytes | None:
    """The child's reply; None when it died or ran out of time. Raises EOFError when the parent
    has gone meanwhile."""
    os.write(child.requests, struct.pack(">I", len(body)) + body)
    started = _cpu_seconds(child.pid)
    for wait_s in (timeout_s, _PATIENCE * timeout_s):
        ready, _, _ = select.select([child.replies, 0], [], [], wait_s)
        if child.replies in ready:
            return read_frame(child.replies)
        if 0 in ready:  # the parent sends nothing before it has its answer
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


def serve(out: int, timeout_s: float, memory_mb: int) -> None:
    """Answer requests from descriptor 0 on `out` until the input ends."""
    from mmpr_builder.scoring.maths import symbolic

    symbolic.warm_up()  # before the fork, so that each child has it
    child: _Child | None = None
    try:
        while (body := read_frame(0)) is not None:
            child = child or _fork(memory_mb)
            reply = _ask(child, body, timeout_s)
            child.checks += 1
            if reply is None or child.checks >= _MAX_CHECKS:
                child.kill()
                child = None
            limit = "over its time or memory limit"
            answer = json.loads(reply) if reply else {"equal": None, "killed": limit}
            os.write(out, frame(answer))
    except (EOFError, BrokenPipeError):
        pass
    finally:
        if child is not None:
            child.kill()


def main() -> None:
    # Whatever a library prints must not get between the frames.
    out = os.dup(1)
    os.dup2(2, 1)
    serve(out, float(sys.argv[1]), int(sys.argv[2]))


if __name__ == "__main__":
    main()
