"""SIGINT and SIGTERM as a request to stop in good order; a further one interrupts that, too."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from mmpr_builder.errors import Interrupted


@dataclass
class StopRequest:
    """`signum` is the signal that asked for the stop, None as long as none did."""

    signum: int | None = None
    at_once: bool = False
    """Whether nothing may be waited for: the folder is another run's by now."""

    def ask(self, signum: int, *, at_once: bool = False) -> None:
        """Ask for the stop as that signal would."""
        self.signum = self.signum or signum
        self.at_once |= at_once


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Collect SIGINT and SIGTERM instead of dying of them, until the block ends.

    Outside the main thread, where Python allows no handlers, signals do what they did before.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(signum: int, _: FrameType | None) -> None:
        if request.signum is not None:
            raise KeyboardInterrupt
        request.ask(signum)

    before = {signum: signal.signal(signum, ask) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def ended_by_sigterm(doing: str) -> Iterator[None]:
    """Have SIGTERM raise `Interrupted` in the block, as SIGINT raises `KeyboardInterrupt`: so that
    what it does is tidied and reported. Outside the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(signum: int, _: FrameType | None) -> None:
        raise Interrupted(
            f"stopped by signal {signum} while {doing}: run the same command again to go on", signum
        )

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
