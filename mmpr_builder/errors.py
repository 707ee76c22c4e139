"""Everything this package raises on purpose.

    MmprError
    ├── SetupError             the run cannot start as asked: fix the call, nothing was spent
    │   ├── NothingUsableError no row of the seeds can give a pair
    │   ├── ConfigError        a recipe or a key=value override is wrong
    │   ├── InputError         a seeds file, template or model is not there or not what it should be
    │   ├── MissingExtraError  an optional dependency is not installed
    │   └── BuildConflictError the out folder holds a build made with other sampling settings
    ├── RowError               one row cannot be used; caught where rows are handled: a `Drop`
    ├── StorageError           a folder is full, read-only or does not answer; also an OSError
    ├── EngineError            the sampler died; its unit is tried again elsewhere
    └── Interrupted            the run was asked to stop; what was finished is published
        └── LimitReached       it has taken what `limits` allows

A bad *row* (an unreadable image, an empty question) never ends a run: it is a `Drop`.
Every message quotes the value, names the place and ends with the fix.
"""

from __future__ import annotations

import re

from mmpr_builder.escaping import redacted

ERROR_LINE = re.compile(r"(?:^|\s)(?P<error>[\w.]*(?:Error|Exception): \S.*)")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class MmprError(Exception):
    """Base of all errors raised by mmpr_builder. Their messages hold no secrets of settings."""

    def __init__(self, *args: object) -> None:
        super().__init__(*map(redacted, args))


class SetupError(MmprError):
    """The run cannot start as asked; raised before any GPU time is spent."""


class ConfigError(SetupError):
    """A recipe or an override is wrong: unknown key, wrong type, impossible value."""


class InputError(SetupError):
    """A seeds file, template, model or rollout folder is missing or malformed as a whole."""


class NothingUsableError(SetupError):
    """No row of the seeds can be read, or none has anything that a pair could come from."""


class MissingExtraError(SetupError):
    """An optional dependency is not installed; the message gives the command that installs it."""


class BuildConflictError(SetupError):
    """The out folder belongs to a build with other sampling settings, or another run holds it."""


class RowError(MmprError):
    """One row cannot be used. `reason` is a stable snake_case word for counting, `detail` prose."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = redacted(detail)


class StorageError(MmprError, OSError):
    """A place cannot be read or written: full, read-only, or away for longer than we wait; or a
    server that judges is."""


class EngineError(MmprError):
    """The sampling engine died or answered nonsense; the work unit can be tried again."""


class Interrupted(MmprError):
    """A run stopped by a signal after publishing what was finished; `signum` is the signal."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum = signum


class LimitReached(Interrupted):
    """A run that stopped by itself where `limits` says so; resumable with a higher limit."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 0)


def cause_of(error: BaseException) -> str:
    """The telling line of Ray's page-long account of a death: the last error named, or the first
    line, which says how the process ended."""
    lines = [line.strip() for line in _ANSI.sub("", str(error)).splitlines() if line.strip()]
    named = [line for line in lines if ERROR_LINE.search(line)]
    return next(iter(named[-1:] or lines), repr(error))
