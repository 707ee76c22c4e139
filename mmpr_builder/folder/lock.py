"""One driver per build folder, and no stale lock that a person has to remove.

    out/build.lock   {"id": "9f…", "host": "node7", "pid": 4711, "started": 1795226400.0, "beat": …}

On a local disk the kernel holds the lock (`flock`) and releases it when the process dies. Across
machines and on object stores the file's content counts: its holder renews `beat` every 15 s.
Clocks of two machines are never compared: a lock held by another machine is polled; without a
heartbeat for 90 s it is stale and is taken over. An object store that creates a file only where
there is none (S3 `If-None-Match`) decides between two runs that start at once.

A run whose storage was away so long that another took over notices at its next heartbeat and stops
in good order. Both do the same work, so neither spoils the other's.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mmpr_builder.errors import BuildConflictError, SetupError, StorageError
from mmpr_builder.folder import join
from mmpr_builder.io.stores import is_local, is_passing, naming, resolve

LOCK_NAME = "build.lock"
BEAT_S = 15.0
SILENT_S = 90.0
"""Six missed heartbeats make a lock stale: storage may fail for a minute."""
SETTLE_S = 2.0
"""Pause after taking over a stale lock: of two that do so at once the last wins."""

Content = dict[str, Any]


@dataclass
class Lock:
    """A folder held by this process."""

    out: str
    mine: Content
    taken_by: Content | None = None
    """The run that took the folder over; None while this one holds it."""
    _stops: list[Callable[[int], None]] = field(default_factory=list)

    def check(self) -> None:
        """Raise `BuildConflictError` when another run has taken the folder over."""
        if self.taken_by is not None:
            raise _conflict(self.out, self.taken_by)

    def when_lost(self, stop: Callable[[int], None]) -> None:
        """Call `stop` with SIGTERM's number, in another thread, as soon as `check` would raise."""
        self._stops.append(stop)
        if self.taken_by is not None:
            stop(signal.SIGTERM)

    def lose(self, taken_by: Content) -> None:
        """Note the run that has taken the folder over."""
        stops = [] if self.taken_by else self._stops
        self.taken_by = taken_by
        for stop in stops:
            stop(signal.SIGTERM)


@contextmanager
def build_lock(out: str, note: Callable[[str], object] = lambda _: None) -> Iterator[Lock]:
    """Hold a build folder for this process; `note` gets a message when that takes a while.

    Raises `BuildConflictError` naming host, process and age of another run that holds it,
    `SetupError` when the folder cannot be reached or written.
    """
    fs, path = resolve(join(out, LOCK_NAME))
    lock = Lock(out, _me())
    take = _on_disk(Path(path), lock, note) if is_local(fs) else _in_store(fs, path, lock, note)
    with take as (read, write, remove):
        try:
            with _beating(lock, read, write):
                yield lock
        finally:
            # After the last heartbeat, which would write it again. If storage is away now, the
            # lock stays and becomes stale.
            with suppress(Exception):
                if read().get("id") == lock.mine["id"]:
                    remove()


File = tuple[Callable[[], Content], Callable[[Content], None], Callable[[], object]]
"""Reads, writes and removes the lock's file."""


@contextmanager
def _on_disk(path: Path, lock: Lock, note: Callable[[str], object]) -> Iterator[File]:
    try:
        with naming(lock.out):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, by_kernel = _flock(path, lock.out)
    except StorageError as error:
        raise SetupError(str(error)) from None
    except OSError as error:
        raise SetupError(
            f"{lock.out}: no folder can be made here ({error}): give another out="
        ) from None

    def read() -> Content:
        return _parse(os.pread(handle, 4096, 0))

    def write(content: Content) -> None:
        data = json.dumps(content).encode()
        with naming(lock.out):
            os.pwrite(handle, data, 0)
            os.ftruncate(handle, len(data))

    try:
        found = read()
        # The kernel sees all holders on this machine, but perhaps not those on others.
        ours = found.get("host") == lock.mine["host"] if by_kernel else _is_dead_neighbour(found)
        if found and not ours:
            _watch(read, found, lock.out, note)
        yield read, write, path.unlink
    finally:
        os.close(handle)


def _flock(path: Path, out: str) -> tuple[int, bool]:
    """An exclusive handle on the file of this name; False if the kernel does not lock it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            content = _parse(os.pread(handle, 4096, 0))
            os.close(handle)
            raise _conflict(out, content) from None
        except OSError:
            return handle, False  # Some network file systems have no locks.
        with suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(handle).st_ino:
                return handle, True
        os.close(handle)  # Its holder removed it between our two calls: open the new one.


@contextmanager
def _in_store(fs: Any, path: str, lock: Lock, note: Callable[[str], object]) -> Iterator[File]:
    def read() -> Content:
        fs.invalidate_cache()
        try:
            return _parse(fs.cat_file(path))
        except FileNotFoundError:
            return {}

    def write(content: Content) -> None:
        fs.pipe_file(path, json.dumps(content).encode())

    def take() -> None:
        found = read()
        if not found:
            try:
                return _create(fs, path, lock.mine)
            except Exception:
                found = read()
                if not found:
                    raise  # No other lock came in between: the storage failed.
        if found.get("id") == lock.mine["id"]:
            return None  # Our first attempt succeeded, its answer was lost.
        if not _is_dead_neighbour(found):
            _watch(read, found, lock.out, note)
        write(lock.mine)
        time.sleep(SETTLE_S)
        now = read()
        if now.get("id") != lock.mine["id"]:
            raise _conflict(lock.out, now)
        return None

    try:
        take()
    except Exception as error:
        # The run's first request to the storage: a wrong address or key fails here.
        if isinstance(error, OSError) or is_passing(error):
            raise SetupError(
                f"{lock.out}: cannot be reached or written ({error}): check the address, the"
                " credentials and that it exists, or give another out="
            ) from error
        raise
    yield read, write, lambda: fs.rm_file(path)


def _create(fs: Any, path: str, mine: Content) -> None:
    """Write the lock where there is none; raises the storage's own error if there is one."""
    data = json.dumps(mine).encode()
    try:
        fs.pipe_file(path, data, mode="create")
    except FileNotFoundError:  # Where folders are real they have to be made.
        fs.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
        fs.pipe_file(path, data)
    except (TypeError, NotImplementedError):  # No such mode; the next heartbeat notices.
        fs.pipe_file(path, data)


def _watch(
    read: Callable[[], Content], found: Content, out: str, note: Callable[[str], object]
) -> None:
    """Raise `BuildConflictError` if the lock changes; returns when it stays silent or goes."""
    beat = found.get("beat")
    age = time.time() - beat if isinstance(beat, int | float) else SILENT_S
    # An old heartbeat by our clock shortens the wait; no clock decides.
    window = SILENT_S if 0 <= age < SILENT_S else 3 * BEAT_S
    note(f"{_who(out, found)}: watching for up to {window:.0f} s whether it is alive")
    deadline = time.monotonic() + window
    while time.monotonic() < deadline:
        time.sleep(min(1.0, window / 10))
        now = read()
        if not now:
            return
        if now != found:
            raise _conflict(out, now)


@contextmanager
def _beating(
    lock: Lock, read: Callable[[], Content], write: Callable[[Content], None]
) -> Iterator[None]:
    """Write the holder and a heartbeat, now and every `BEAT_S` seconds until the block ends."""

    def beat() -> None:
        # If one fails (storage away for a moment), the next one makes up for it.
        with suppress(Exception):
            found = read()
            if found.get("id", lock.mine["id"]) != lock.mine["id"]:
                lock.lose(found)
            if lock.taken_by is None:
                write({**lock.mine, "beat": time.time()})

    write({**lock.mine, "beat": time.time()})
    with repeated(beat, BEAT_S, "mmpr-lock"):
        yield


@contextmanager
def repeated(action: Callable[[], object], every_s: float, name: str) -> Iterator[None]:
    """Call `action` every so many seconds, in a thread of this name, until the block ends."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(every_s):
            action()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _me() -> Content:
    now = time.time()
    return {
        "id": uuid.uuid4().hex,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "boot": _boot_id(),
        "started": now,
        "beat": now,
    }


def _parse(data: bytes) -> Content:
    try:
        content = json.loads(data)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _is_dead_neighbour(content: Content) -> bool:
    """Whether the holder ran on this machine since its last start, and has ended."""
    pid = content.get("pid")
    here = content.get("host") == socket.gethostname() and content.get("boot") == _boot_id()
    return here and isinstance(pid, int) and not is_process(pid)


def is_process(pid: int) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(pid, 0)  # Signal 0 only asks.
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _boot_id() -> str:
    """This start of the machine, and the container whose process numbers we see."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return ""


def _who(out: str, content: Content) -> str:
    started = content.get("started")
    age = f", {time.time() - started:.0f} s old" if isinstance(started, int | float) else ""
    who = f"process {content.get('pid', '?')} on {content.get('host', 'an unknown host')}"
    return f"{out}: another run holds this folder ({who}{age})"


def _conflict(out: str, content: Content) -> BuildConflictError:
    return BuildConflictError(f"{_who(out, content)}: wait for it or end it, or give another out=")
