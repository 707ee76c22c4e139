"""One driver per build folder, and no lock left behind that a person has to remove.

    out/build.lock   {"host": "node7", "pid": 4711, "boot": "…", "started": 1795226400.0, "beat": …}

On a local disk the kernel holds the lock (`flock`) and lets go when the process dies, however it
dies. What the kernel cannot see (another machine on a shared disk, an object store) is settled by
the file's content: its holder renews `beat` every 15 s, and one silent for 90 s is taken over.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmpr_builder.distributed.storage import join
from mmpr_builder.errors import BuildConflictError
from mmpr_builder.tables import is_local, resolve

LOCK_NAME = "build.lock"
BEAT_S = 15.0
SILENT_S = 90.0  # Six missed beats: clocks of two machines may differ by seconds.


@contextmanager
def build_lock(out: str) -> Iterator[None]:
    """Hold a build folder for this process.

    Raises `BuildConflictError` naming host, process and age of another run that holds it.
    """
    fs, path = resolve(join(out, LOCK_NAME))
    if is_local(fs):
        with _local_lock(Path(path), out):
            yield
    else:
        with _remote_lock(fs, path, out):
            yield


@contextmanager
def _local_lock(path: Path, out: str) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _flock(path, out)
    try:
        content = _parse(os.pread(handle, 4096, 0))
        # The kernel of another machine may not have told ours: trust a fresh beat from there.
        if content.get("host") != socket.gethostname() and _is_fresh(content):
            raise _conflict(out, content)
        with _beating(lambda content: _overwrite(handle, content)):
            try:
                yield
            finally:
                # Before letting go: afterwards it could be the next holder's.
                path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _flock(path: Path, out: str) -> int:
    """An exclusive handle on the file that now has this name."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            content = _parse(os.pread(handle, 4096, 0))
            os.close(handle)
            raise _conflict(out, content) from None
        with suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(handle).st_ino:
                return handle
        os.close(handle)  # Its last holder removed it between our two calls: take the new one.


@contextmanager
def _remote_lock(fs: Any, path: str, out: str) -> Iterator[None]:
    fs.invalidate_cache()
    if fs.exists(path):
        content = _parse(fs.cat_file(path))
        if _is_fresh(content) and not _is_dead_neighbour(content):
            raise _conflict(out, content)
    with _beating(lambda content: fs.pipe_file(path, json.dumps(content).encode())):
        try:
            yield
        finally:
            fs.rm_file(path)


@contextmanager
def _beating(write: Any) -> Iterator[None]:
    """Write who holds the lock, now and every `BEAT_S` seconds until the block ends."""
    mine = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "boot": _boot_id(),
        "started": time.time(),
    }
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_S):
            # A beat that fails (storage away for a moment) is made up for by the next one.
            with suppress(OSError):
                write({**mine, "beat": time.time()})

    write({**mine, "beat": time.time()})
    thread = threading.Thread(target=beat, name="mmpr-lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _overwrite(handle: int, content: dict[str, Any]) -> None:
    data = json.dumps(content).encode()
    os.pwrite(handle, data, 0)
    os.ftruncate(handle, len(data))


def _parse(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _is_fresh(content: dict[str, Any]) -> bool:
    beat = content.get("beat")
    return isinstance(beat, int | float) and time.time() - beat < SILENT_S


def _is_dead_neighbour(content: dict[str, Any]) -> bool:
    """Whether the holder ran on this machine and is gone (or the machine was started anew)."""
    if content.get("host") != socket.gethostname():
        return False
    pid = content.get("pid")
    if content.get("boot") != _boot_id() or not isinstance(pid, int):
        return True
    try:
        os.kill(pid, 0)  # Signal 0 only asks.
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _boot_id() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _conflict(out: str, content: dict[str, Any]) -> BuildConflictError:
    started = content.get("started")
    age = f", {time.time() - started:.0f} s old" if isinstance(started, int | float) else ""
    who = f"process {content.get('pid', '?')} on {content.get('host', 'an unknown host')}"
    return BuildConflictError(
        f"{out}: another run holds this folder ({who}{age}): wait for it or end it,"
        " or give another out="
    )
