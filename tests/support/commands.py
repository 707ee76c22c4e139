"""`mmpr` as a user runs it: here, or in a process of its own where that matters."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from mmpr_builder import cli

ROOT = Path(__file__).parents[2]


def mmpr(
    *words: str | Path, cwd: Path = ROOT, width: int = 200, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run it in a terminal of `width` columns; `env` goes on top of the environment.

    It runs in this process, which has imported already what a new one would import first.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with _environment(width, env), chdir(cwd), redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main([*map(str, words)])
            code: object = 0
        except SystemExit as end:
            code = end.code
        finally:
            cli.console.quiet = False
    assert code is None or isinstance(code, int), code
    out.seek(0)
    err.seek(0)
    return subprocess.CompletedProcess(words, code or 0, out.read(), err.read())


def mmpr_alone(
    *words: str | Path, width: int = 200, timeout: float = 600, **env: str
) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own: all that it and its children print is seen."""
    with _environment(width, env):
        return subprocess.run(
            [sys.executable, "-m", "mmpr_builder", *map(str, words)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
        )


@contextmanager
def _environment(width: int, env: dict[str, str]) -> Iterator[None]:
    said = {"HF_HUB_OFFLINE": "1", "COLUMNS": str(width), "NO_COLOR": "1", "TERM": "xterm", **env}
    # With one of these, Rich takes any stream for a terminal.
    forced = {"FORCE_COLOR", "TTY_COMPATIBLE"} - set(env)
    before = {name: os.environ.get(name) for name in {*said, *forced}}
    os.environ.update(said)
    for name in forced:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})
