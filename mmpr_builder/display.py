"""What a person sees while a build runs: a live display in a terminal, plain lines elsewhere.

sampling  1,024/4,096 seeds  25 %  16/64 units  13.2 seeds/s  5,210 tokens/s  ETA 3:53
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Self, TextIO

from mmpr_builder.escaping import line
from mmpr_builder.progress import Progress, Stage

_LINES_EVERY_S = 10.0
_JOB_LINES_EVERY_S = 30.0  # In a cluster job's log, which is kept and read afterwards.


def display(stream: TextIO | None = None) -> Progress:
    """A live display if the stream (standard error) is a terminal, else a line every 10 s (30 s in
    a cluster's job)."""
    stream = stream or sys.stderr
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        return LiveProgress(stream)
    return LineProgress(stream, _JOB_LINES_EVERY_S if _in_job() else _LINES_EVERY_S)


class LineProgress(Progress):
    """A plain line when a stage begins and ends, and every `every_s` seconds in between."""

    def __init__(
        self,
        stream: TextIO,
        every_s: float = _LINES_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(clock)
        self._stream = stream
        self._every_s = every_s
        self._last = clock()

    def note(self, text: str) -> None:
        self._write(text)

    def _began(self, stage: Stage) -> None:
        self._write(f"{stage.name} …")

    def _changed(self, stage: Stage) -> None:
        if self._clock() - self._last >= self._every_s:
            self._write(f"{stage.name}  {describe(self.snapshot())}")

    def _ended(self, stage: Stage, *, completed: bool) -> None:
        shown = summary(self.snapshot()) if completed else "stopped"
        self._write(f"{stage.name}  {shown}")

    def _write(self, text: str) -> None:
        self._last = self._clock()
        self._stream.write(line(text) + "\n")
        self._stream.flush()


class LiveProgress(Progress):
    """A bar that moves several times a second, and one line for each stage that is over."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        super().__init__(clock)
        self._console = Console(file=stream)
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}", markup=True),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[shown]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._tasks: list[Any] = []

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        self._console.print(line(text), markup=False, highlight=False)

    def _began(self, stage: Stage) -> None:
        if self._tasks:
            self._bars.update(self._tasks[-1], visible=False)
        self._tasks.append(self._bars.add_task(stage.name, total=stage.total, shown=""))

    def _changed(self, stage: Stage) -> None:
        shown = line(describe(self.snapshot()))
        self._bars.update(self._tasks[-1], completed=stage.figures.done, shown=shown)

    def _ended(self, stage: Stage, *, completed: bool) -> None:
        self._bars.remove_task(self._tasks.pop())
        if self._tasks:
            self._bars.update(self._tasks[-1], visible=True)
        mark, shown = ("✓", summary(self.snapshot())) if completed else ("✗", "stopped")
        self.note(f"{mark} {stage.name}  {shown}")


def describe(snapshot: dict[str, Any]) -> str:
    """The figures of a snapshot on one line, those that are known."""
    left = snapshot["seconds_left"]
    words = [*_how_far(snapshot), *_how_good(snapshot)]
    if left is not None and snapshot["done"] != snapshot["total"]:
        words.append(f"ETA {clock_time(left)}")
    if snapshot["detail"]:
        words.append(snapshot["detail"])
    return "  ".join(words)


def _how_far(snapshot: dict[str, Any]) -> Iterator[str]:
    done, total, unit = snapshot["done"], snapshot["total"], snapshot["unit"]
    if total is not None:
        yield f"{done:,}/{total:,} {unit}  {100 * done // total if total else 100} %"
    else:
        yield f"{done:,} {unit}" if done else f"{snapshot['seconds']:.0f} s"
    if snapshot.get("units_total"):
        yield f"{snapshot.get('units', 0):,}/{snapshot['units_total']:,} units"
    if snapshot["per_second"]:
        yield f"{snapshot['per_second']:,.1f} {unit}/s"
    if snapshot["tokens_per_second"]:
        yield f"{snapshot['tokens_per_second']:,.0f} tokens/s"


def _how_good(snapshot: dict[str, Any]) -> Iterator[str]:
    if snapshot.get("decided"):
        yield f"{100 * snapshot.get('correct', 0) / snapshot['decided']:.0f} % right"
    if snapshot.get("undecided"):
        yield f"{snapshot['undecided']:,} undecided"
    if "pairs" in snapshot:
        yield f"{snapshot['pairs']:,} pairs"
    if snapshot.get("engines") is not None:
        yield f"{snapshot['engines']} engine{'' if snapshot['engines'] == 1 else 's'}"
    if snapshot.get("retries"):
        yield f"{snapshot['retries']} retries"


def summary(snapshot: dict[str, Any]) -> str:
    """What a finished stage did, and how long it took."""
    words = [f"{snapshot['done']:,} {snapshot['unit']}"] if snapshot["done"] else []
    words += [f"{snapshot[name]:,} {name}" for name in ("tokens", "pairs") if snapshot.get(name)]
    return "  ".join([*words, f"{snapshot['seconds']:.1f} s"])


def clock_time(seconds: float) -> str:
    """`4:07`, or `1:02:09` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _in_job() -> bool:
    # Ray sets the second one for what `ray job submit` runs.
    return "RAY_ADDRESS" in os.environ or "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
