"""What Ray's errors say of the end of a process."""

from __future__ import annotations

import re

from mmpr_builder.distributed.actors import ERROR_LINE

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def cause_of(error: BaseException) -> str:
    """The telling line of Ray's page-long account of a death: the last error named, or the first
    line, which says how the process ended."""
    lines = [line.strip() for line in _ANSI.sub("", str(error)).splitlines() if line.strip()]
    named = [line for line in lines if ERROR_LINE.search(line)]
    return next(iter(named[-1:] or lines), repr(error))


def is_unreachable(error: BaseException) -> bool:
    """Whether Ray lost sight of the process without knowing that it ended: a machine's death
    takes half a minute to be noticed."""
    import ray

    return isinstance(error, ray.exceptions.ActorUnavailableError)
