"""What errors say of the end of a process: Ray's account of it, and an engine's own log."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from mmpr_builder.errors import ERROR_LINE, MmprError

_LOG_TAIL_BYTES = 64 * 2**10


def explained(error: BaseException) -> str:
    """The error, and what the engine's own processes said: their last error is the real cause."""
    own = isinstance(error, MmprError)
    said = str(error) if own else "".join(traceback.format_exception_only(error)).strip()
    found = (ERROR_LINE.search(line) for line in _own_log().splitlines())
    causes = dict.fromkeys(match["error"].strip() for match in found if match)
    fresh = [cause for cause in causes if cause not in said]
    return "\n".join([said, *(cause[:400] for cause in fresh[-2:])])


def _own_log() -> str:
    """The end of this process's standard error where that is a file, as under Ray."""
    try:
        path = Path(os.readlink("/proc/self/fd/2"))
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
