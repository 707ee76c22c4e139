"""`mmpr` as a user runs it, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def mmpr(
    *words: str | Path, cwd: Path = ROOT, width: int = 200, timeout: float = 600, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run it in a terminal of `width` columns; `env` goes on top of the environment."""
    return subprocess.run(
        [sys.executable, "-m", "mmpr_builder", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": str(width), "NO_COLOR": "1", **env},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
