"""The figures of a running build: set by who does the work, read by who shows or stores them.

    with Progress.auto() as progress:
        with progress.stage("sampling", total=4096, unit="seeds"):
            progress.update(done=12, tokens=90_000, engines=2)

All figures are totals so far, never increments, so that a report that comes twice or late does
no harm. Rates and the time left are worked out here. What a terminal shows is in display.py.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self, TextIO

from mmpr_builder.escaping import line

_WINDOW_S = 30.0  # A token rate over less jumps, over more it hides that an engine went idle.

Watcher = Callable[["Progress", bool], None]
"""Is called at every update, and with True when a stage ends (its figures are still there)."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Totals of the running stage. None means: not a figure of this stage."""

    done: int = 0
    units: int | None = None
    """Units of work whose part is in the folder, of `units_total`."""
    units_total: int | None = None
    tokens: int | None = None
    responses: int | None = None
    correct: int | None = None
    """Responses judged right, of the `decided` ones; known where judging goes with sampling."""
    decided: int | None = None
    undecided: int | None = None
    saved: int | None = None
    """Responses that adaptive sampling did not need."""
    pairs: int | None = None
    engines: int | None = None
    """Engines that work now."""
    retries: int | None = None
    detail: str = ""


_COUNTS = tuple(f.name for f in fields(Figures) if f.name not in ("done", "detail"))


@dataclass
class Stage:
    name: str
    total: int | None
    unit: str
    started: float
    figures: Figures = field(default_factory=Figures)
    base: Figures | None = None
    """The first figures: what was there before (a resumed build) does not count as speed."""
    base_at: float = 0.0
    recent: deque[tuple[float, int]] = field(default_factory=deque)


class Progress:
    """Keeps the figures and shows nothing; `auto` picks the subclass that suits the terminal."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage: Stage | None = None
        self._watchers: list[Watcher] = []

    @staticmethod
    def auto(*, quiet: bool = False, stream: TextIO | None = None) -> Progress:
        """A live display if standard error is a terminal, else a line every 10 s (30 s in a
        cluster's job), or nothing at all if `quiet`."""

        return Progress() if quiet else display(stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @contextmanager
    def stage(self, name: str, *, total: int | None = None, unit: str = "seeds") -> Iterator[Self]:
        """The work until the block ends is `name`: `total` (None = unknown) pieces of `unit`.

        An inner stage (say, loading the engine) takes the display over and hands it back.
        """
        outer, self._stage = self._stage, Stage(name, total, unit, self._clock())
        self._began(self._stage)
        completed = False
        try:
            yield self
            completed = True
        finally:
            self._tell(ended=True)
            self._ended(self._stage, completed=completed)
            self._stage = outer

    @contextmanager
    def watched_by(self, watcher: Watcher) -> Iterator[None]:
        """Have `watcher` called with what happens, in the thread where it does."""
        self._watchers.append(watcher)
        try:
            yield
        finally:
            self._watchers.remove(watcher)

    def update(self, **figures: Any) -> None:
        """Set figures of the running stage (see `Figures`); what is not named stays."""
        stage = self._stage
        if stage is None:
            return
        now = self._clock()
        stage.figures = replace(stage.figures, **figures)
        if stage.base is None:
            stage.base, stage.base_at = stage.figures, now
        if not stage.recent or now - stage.recent[-1][0] >= 1.0:
            stage.recent.append((now, stage.figures.tokens or 0))
            while len(stage.recent) > 2 and now - stage.recent[0][0] > _WINDOW_S:
                stage.recent.popleft()
        self._changed(stage)
        self._tell(ended=False)

    def note(self, text: str) -> None:
        """One line that stays, such as what was retried or where the files are."""

    def snapshot(self) -> dict[str, Any]:
        """Stage, figures, rates (per second) and seconds left, ready for JSON; {} between stages.

        A rate is None until there is something to divide by.
        """
        stage = self._stage
        if stage is None:
            return {}
        now, figures = self._clock(), stage.figures
        per_second = _rate(figures.done - (stage.base or figures).done, now - stage.base_at)
        known = {name: value for name in _COUNTS if (value := getattr(figures, name)) is not None}
        left = None if stage.total is None else max(0, stage.total - figures.done)
        return {
            "stage": stage.name,
            "unit": stage.unit,
            "done": figures.done,
            "total": stage.total,
            **known,
            "per_second": per_second,
            "tokens_per_second": _token_rate(stage, now),
            "seconds": now - stage.started,
            "seconds_left": None if left is None or not per_second else left / per_second,
            "detail": figures.detail,
        }

    def _tell(self, *, ended: bool) -> None:
        for watcher in self._watchers:
            watcher(self, ended)

    def _began(self, stage: Stage) -> None: ...

    def _changed(self, stage: Stage) -> None: ...

    def _ended(self, stage: Stage, *, completed: bool) -> None: ...


def _rate(amount: float, seconds: float) -> float | None:
    return amount / seconds if seconds > 0 and amount > 0 else None


def _token_rate(stage: Stage, now: float) -> float | None:
    if not stage.recent or stage.figures.tokens is None:
        return None
    since, before = stage.recent[0]
    return _rate(stage.figures.tokens - before, now - since)


# ---- display
# What a person sees while a build runs: a live display in a terminal, plain lines elsewhere.
#
# sampling  1,024/4,096 seeds  25 %  16/64 units  13.2 seeds/s  5,210 tokens/s  ETA 3:53


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
