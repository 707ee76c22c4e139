"""Where files lie: this machine's disk or any fsspec file system, with retries.

    out/demo                              a path
    s3://bucket/builds/run-1              an object store (package s3fs)
    gs://…  abfs://…  hdfs://…  sftp://…  what else fsspec knows

A file appears under its name whole or not at all. `patiently` retries a storage that fails; a full
disk or a missing permission is an error at once that names the place and the fix.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import fsspec

from mmpr_builder.errors import InputError, MissingExtraError, MmprError, StorageError
from mmpr_builder.escaping import redacted

T = TypeVar("T")

PATIENCE_S = 300.0
"""How long a failing storage is retried before a run gives up; see `patience`."""

_patience: ContextVar[float] = ContextVar("patience", default=PATIENCE_S)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 15.0
_PASSING = {
    getattr(errno, name)
    for name in (
        *("EAGAIN", "EBUSY", "ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "EHOSTDOWN", "EINTR"),
        *("EHOSTUNREACH", "EIO", "ENETDOWN", "ENETRESET", "ENETUNREACH", "ENOTCONN", "EPIPE"),
        *("EREMOTEIO", "ESTALE", "ETIMEDOUT"),
    )
    if hasattr(errno, name)
}
# Our own mistakes, and Arrow's complaints about content.
_NOT_THE_STORAGES = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError),
    *(MmprError, NameError, RuntimeError, TypeError, ValueError),
)
_FIXES = {
    errno.ENOSPC: "free some space or move the folder to a larger disk",
    errno.EDQUOT: "free some space or have the quota raised",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f)",
    errno.EROFS: "make the file system writable or name another place",
    errno.EACCES: "make it readable and writable for this user, or name another place",
    errno.EPERM: "make it readable and writable for this user, or name another place",
}
_log = logging.getLogger(__name__)


def resolve(uri: str | Path) -> tuple[Any, str]:
    """The fsspec file system of a path or URL, and the path inside it.

    Raises `InputError` for an unknown protocol, `MissingExtraError` when its package is missing.
    """
    try:
        fs, path = fsspec.core.url_to_fs(os.fspath(uri))
    except ImportError as error:
        raise MissingExtraError(f"{os.fspath(uri)!r} needs another package: {error}") from None
    except ValueError as error:
        raise InputError(f"{os.fspath(uri)!r}: {error}: give a path or an fsspec URL") from None
    return fs, path


def is_url(path: str) -> bool:
    return "://" in path and not path.startswith("file://")


def absolute(path: str) -> str:
    """A local path made absolute (`~` and `file://` too); a URL as it is."""
    if is_url(path):
        return path
    return os.path.abspath(os.path.expanduser(path.removeprefix("file://")))


def is_local(fs: Any) -> bool:
    """Whether an fsspec file system is this machine's disk, where files appear by rename."""
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Override `PATIENCE_S` inside the block; statistics retry for less long."""
    token = _patience.set(seconds)
    try:
        yield
    finally:
        _patience.reset(token)


def patiently(action: Callable[[], T], uri: str | Path) -> T:
    """The result of `action`, retried with growing pauses while the storage of `uri` fails.

    Raises `StorageError` once `patience` has run out, or at once where waiting cannot help. Errors
    that are no failure of the storage (a missing file) are raised as they are.
    """
    patience_s = _patience.get()
    deadline = time.monotonic() + patience_s
    pause = _FIRST_PAUSE_S
    while True:
        try:
            with naming(uri):
                return action()
        except Exception as error:
            if not is_passing(error):
                raise
            if time.monotonic() + pause > deadline:
                raise StorageError(
                    f"{os.fspath(uri)}: no answer from the storage for {patience_s:.0f} s"
                    f" ({_said(error)}): check it, then run again; finished parts are kept"
                ) from error
            place = redacted(os.fspath(uri))
            _log.warning("%s: trying again in %.1f s: %s", place, pause, redacted(_said(error)))
        time.sleep(pause * random.uniform(0.7, 1.0))  # Many actors wait for one storage.
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def is_passing(error: BaseException) -> bool:
    """Whether retrying may help: a time-out, a lost connection, for which back ends raise types of
    their own. For missing files, missing rights and full disks they raise `OSError`."""
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError):
        return error.errno in _PASSING
    return isinstance(error, Exception) and not isinstance(error, _NOT_THE_STORAGES)


def is_there(uri: str | Path) -> bool:
    """Whether a file or folder exists. Unlike fsspec's `exists`, an outage is an error."""
    fs, path = resolve(uri)
    fs.invalidate_cache()  # Another process may have written it a moment ago.
    try:
        patiently(lambda: fs.info(path), uri)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def names_in(folder: str | Path) -> list[str]:
    """The names in a folder, sorted; none if it does not exist."""
    fs, path = resolve(folder)
    fs.invalidate_cache()  # Object stores keep listings; another process may have published.
    try:
        found = patiently(lambda: fs.ls(path, detail=False), folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    names = {PurePosixPath(entry.rstrip("/")).name for entry in found}
    # A bucket can hold an object with the folder's own name, and a file lists itself.
    return sorted(names - {PurePosixPath(path.rstrip("/")).name})


def read_bytes(uri: str | Path, *, last: int | None = None) -> bytes:
    """The content of a file, or its last so many bytes. Raises `OSError` as the storage does."""
    fs, path = resolve(uri)
    start = None if last is None else -last
    return bytes(patiently(lambda: fs.cat_file(path, start=start), uri))


def remove_folder(uri: str | Path) -> None:
    """Remove a folder with its content, if it exists."""
    fs, path = resolve(uri)

    def remove() -> None:
        fs.invalidate_cache()
        with suppress(FileNotFoundError):
            fs.rm(path, recursive=True)

    patiently(remove, uri)


def remove_file(uri: str | Path) -> None:
    """Remove a file, if it exists."""
    fs, path = resolve(uri)

    def remove() -> None:
        with suppress(FileNotFoundError):
            fs.rm_file(path)

    patiently(remove, uri)


def put_file(source: Path, uri: str | Path) -> None:
    """Publish a finished local file under `uri`: it appears there whole or not at all."""
    fs, path = resolve(uri)
    if is_local(fs):
        publish(partial(shutil.copyfile, source), uri)
        return

    def upload() -> None:
        try:
            fs.put_file(str(source), path)
        except FileNotFoundError:  # Where folders are real they have to be made; in a bucket not.
            fs.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
            fs.put_file(str(source), path)

    patiently(upload, uri)


def publish(write: Callable[[Path], object], uri: str | Path) -> None:
    """Publish the file that `write` makes under the path it is given, whole or not at all. `write`
    is called again when the disk fails for a moment."""
    fs, path = resolve(uri)
    if is_local(fs):
        patiently(lambda: _in_place(write, Path(path)), uri)
        return
    with scratch_folder() as folder:
        write(folder / "file")
        put_file(folder / "file", uri)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder on this machine's disk for files before they are published. Raises `StorageError`
    when that disk is full."""
    with tempfile.TemporaryDirectory(prefix="mmpr-") as name, naming(name):
        yield Path(name)


def sync(path: Path) -> None:
    """Push a file, or a folder's list of names, down to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def naming(uri: str | Path) -> Iterator[None]:
    """Turn errors of a full, read-only or forbidden disk into `StorageError`s that name the place
    and the fix; all others pass."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        code = errno.EACCES if isinstance(error, PermissionError) else error.errno
        if code not in _FIXES:
            raise
        raise StorageError(
            f"{os.fspath(uri)}: {_said(error)}: {_FIXES[code]}, then run again to go on;"
            " finished parts are kept"
        ) from error


def _said(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"[:300]


def remove_leftovers(folder: str | Path) -> None:
    """Remove the hidden files that killed writers left in a folder of a disk, in which no other
    process may be writing."""
    fs, path = resolve(folder)
    if is_local(fs):
        for file in Path(path).glob(".*.tmp"):
            if f".{os.getpid()}-" not in file.name:
                file.unlink(missing_ok=True)


def _in_place(write: Callable[[Path], object], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    hidden = target.with_name(f".{target.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        write(hidden)
        sync(hidden)
        os.replace(hidden, target)
        sync(target.parent)
    finally:
        hidden.unlink(missing_ok=True)
