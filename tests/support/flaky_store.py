"""A file system that fails on demand, for tests: `flaky:///any/local/path`.

What it does wrong stands in the file that the variable FLAKY_STORE names, so that all processes
of a run meet the same trouble at the same time:

    (no file)   it works
    away        every call raises an exception of its own, as clients of object stores do
    ENOSPC      writing raises that error
    tear        an upload leaves half of the file under its name, and raises
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

VARIABLE = "FLAKY_STORE"


class Away(Exception):
    """No `OSError`: back ends have types of their own."""


class FlakyFileSystem(LocalFileSystem):  # type: ignore[misc]
    protocol = "flaky"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(LocalFileSystem._strip_protocol(str(path).removeprefix("flaky://")))

    def unstrip_protocol(self, name: str) -> str:
        return f"flaky://{self._strip_protocol(name)}"

    def info(self, path: str, **how: Any) -> Any:
        _trouble()
        return super().info(path, **how)

    def ls(self, path: str, detail: bool = False, **how: Any) -> Any:
        _trouble()
        return super().ls(path, detail=detail, **how)

    def _open(self, path: str, mode: str = "rb", **how: Any) -> Any:
        _trouble(writing="r" not in mode)
        return super()._open(path, mode=mode, **how)

    def cp_file(self, path1: str, path2: str, **how: Any) -> None:
        _trouble(writing=True)
        super().cp_file(path1, path2, **how)

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        _trouble()
        super().rm(path, recursive=recursive, maxdepth=maxdepth)

    def rm_file(self, path: str) -> None:
        _trouble()
        super().rm_file(path)

    def put_file(self, lpath: str, rpath: str, callback: Any = None, **how: Any) -> None:
        _trouble(writing=True)
        target = Path(self._strip_protocol(rpath))
        if not target.parent.is_dir():
            raise FileNotFoundError(str(target.parent))
        data = Path(lpath).read_bytes()
        if _what() == "tear":
            target.write_bytes(data[: len(data) // 2])
            raise Away("the connection broke in the middle")
        target.write_bytes(data)


def _what() -> str:
    with suppress(FileNotFoundError, KeyError):
        return Path(os.environ[VARIABLE]).read_text().strip()
    return ""


def _trouble(*, writing: bool = False) -> None:
    what = _what()
    if what == "away":
        raise Away("503 Slow Down")
    if writing and what.startswith("E"):
        number = getattr(errno, what)
        raise OSError(number, os.strerror(number))


fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
