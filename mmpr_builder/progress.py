"""The figures of a running build, and what a person sees of them.

    with Progress.auto() as progress:
        with progress.stage("sampling", total=4096):
            progress.update(done=1720, tokens=9_000_000, engines=2)

    sampling  41 % |████▏     | ETA 3:53  1,720/4,096 seeds  5,210 tokens/s  2 engines

All figures are totals so far, never increments, so that an update that comes twice or late does
no harm. Rates and the time left are worked out here, from one clock for each stage.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self, TextIO

from tqdm import tqdm
from tqdm.utils import disp_len

from mmpr_builder.escaping import line

_WINDOW_S = 30.0  # A token rate over less jumps, over more it hides that an engine went idle.
_LINES_EVERY_S = 10.0
_JOB_LINES_EVERY_S = 30.0  # In a cluster job's log, which is kept and read afterwards.
_DRAW_EVERY_S = 0.2
_BAR = 10
"""Columns of the bar, so that share and time left stay in the same place on any terminal."""

Watcher = Callable[["Progress", bool], None]
"""Is called at every update, and with True when a stage ends (its figures are still there)."""


_COUNTS = (
    *("units", "units_total"),  # Shards whose rollouts are in the folder, and all.
    *("tokens", "responses"),
    *("correct", "decided", "undecided"),  # Known where responses are scored while sampling.
    "saved",  # Responses that adaptive sampling did not need.
    "pairs",
    "engines",  # Those that work now.
    "retries",
)


@dataclass
class Stage:
    name: str
    total: int | None
    unit: str
    started: float
    figures: dict[str, Any] = field(default_factory=lambda: {"done": 0, "detail": ""})
    base: int | None = None
    """Done at the first figures: what was there before (a resumed build) is no speed."""
    base_at: float = 0.0
    recent: deque[tuple[float, int]] = field(default_factory=deque)


class Progress:
    """Keeps the figures and shows nothing; `auto` picks the subclass that suits the terminal."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage: Stage | None = None
        self._watchers: list[Watcher] = []

    @staticmethod
    def auto(
        *, quiet: bool = False, verbose: bool = False, stream: TextIO | None = None
    ) -> Progress:
        """A bar on a terminal (standard error), else a line every 10 s, in a cluster's job 30 s.

        `quiet` shows nothing; `verbose` shows lines on a terminal, too, beside an engine's log.
        """
        if quiet:
            return Progress()
        stream = stream or sys.stderr
        if stream.isatty() and os.environ.get("TERM") != "dumb" and not verbose:
            return BarProgress(stream)
        # Ray sets the second one for what `ray job submit` runs.
        in_job = os.environ.keys() & {"RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"}
        return LineProgress(stream, _JOB_LINES_EVERY_S if in_job else _LINES_EVERY_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @contextmanager
    def stage(self, name: str, *, total: int | None = None, unit: str = "seeds") -> Iterator[Self]:
        """Show the work of this block as `name`, with `total` items of `unit` (None: unknown).

        An inner stage (say, loading the engine) takes the display over and hands it back.
        """
        outer, self._stage = self._stage, Stage(name, total, unit, self._clock())
        self._began(name)
        completed = False
        try:
            yield self
            completed = True
        finally:
            self._tell(ended=True)
            said = summary(self.snapshot()) if completed else "stopped"
            self._stage = outer
            self._ended(f"{name}  {said}", completed=completed)

    @contextmanager
    def watched_by(self, watcher: Watcher) -> Iterator[None]:
        """Call `watcher` at every update, in the thread that made it."""
        self._watchers.append(watcher)
        try:
            yield
        finally:
            self._watchers.remove(watcher)

    def update(self, **figures: Any) -> None:
        """Set figures of the running stage: `done`, `detail` in words, `_COUNTS`; others stay."""
        stage = self._stage
        if stage is None:
            return
        now = self._clock()
        if unknown := figures.keys() - {"done", "detail", *_COUNTS}:
            raise TypeError(f"no figures of a stage: {', '.join(sorted(unknown))}")
        stage.figures = {**stage.figures, **figures}  # Anew: a thread may be drawing the others.
        if stage.base is None:
            stage.base, stage.base_at = stage.figures["done"], now
        if not stage.recent or now - stage.recent[-1][0] >= 1.0:
            stage.recent.append((now, stage.figures.get("tokens") or 0))
            while len(stage.recent) > 2 and now - stage.recent[0][0] > _WINDOW_S:
                stage.recent.popleft()
        self._changed()
        self._tell(ended=False)

    def note(self, text: str) -> None:
        """One line that stays, such as what was retried or where the files are."""

    def snapshot(self) -> dict[str, Any]:
        """Stage, figures, rates (per second, None at first) and seconds left; {} between stages."""
        stage = self._stage
        if stage is None:
            return {}
        now, figures = self._clock(), stage.figures
        done, tokens = figures["done"], figures.get("tokens")
        per_second = _rate(done - (stage.base or 0), now - stage.base_at)
        left = None if stage.total is None else max(0, stage.total - done)
        token_rate = None
        if stage.recent and tokens is not None:
            since, before = stage.recent[0]
            token_rate = _rate(tokens - before, now - since)
        return {
            "stage": stage.name,
            "unit": stage.unit,
            "done": done,
            "total": stage.total,
            **{name: figures[name] for name in _COUNTS if figures.get(name) is not None},
            "per_second": per_second,
            "tokens_per_second": token_rate,
            "seconds": now - stage.started,
            "seconds_left": None if left is None or not per_second else left / per_second,
            "detail": figures["detail"],
        }

    def _tell(self, *, ended: bool) -> None:
        for watcher in self._watchers:
            watcher(self, ended)

    def _began(self, name: str) -> None: ...

    def _changed(self) -> None: ...

    def _ended(self, said: str, *, completed: bool) -> None: ...


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
        self.every_s = every_s
        self._last = clock()

    def note(self, text: str) -> None:
        self._last = self._clock()
        self._stream.write(line(text) + "\n")
        self._stream.flush()

    def _began(self, name: str) -> None:
        self.note(f"{name} …")

    def _changed(self) -> None:
        if self._clock() - self._last >= self.every_s:
            snapshot = self.snapshot()
            self.note("  ".join([snapshot["stage"], *told(snapshot)]))

    def _ended(self, said: str, *, completed: bool) -> None:
        self.note(said)


class BarProgress(Progress):
    """A bar at the foot of a terminal, and above it a line for each stage that is over.

    A thread draws it: its clock moves, too, while the work has nothing to tell for a minute.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._stream = stream
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self._bar = _Bar(self, self._stream)
        self._drawing = threading.Thread(target=self._draw, daemon=True)
        self._drawing.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._drawing.join()
        self._bar.close()

    def note(self, text: str) -> None:
        _Bar.write(line(text), file=self._stream)

    def _draw(self) -> None:
        while not self._over.wait(_DRAW_EVERY_S):
            self._bar.refresh()

    def _ended(self, said: str, *, completed: bool) -> None:
        self.note(f"{'✓' if completed else '✗'} {said}")


class _Bar(tqdm):  # type: ignore[misc]
    """One line that shows the running stage of a `Progress`, as much of it as the width takes."""

    def __init__(self, progress: Progress, stream: TextIO) -> None:
        self._progress = progress
        # Said explicitly: TQDM_DISABLE may be set to keep the bars of other libraries away.
        super().__init__(file=stream, disable=False, leave=False, dynamic_ncols=True)

    @property
    def format_dict(self) -> dict[str, Any]:
        """What tqdm draws from; `head` and `tail` are fields, so nothing in them is a format."""
        drawn: dict[str, Any] = super().format_dict
        snapshot = self._progress.snapshot()
        head, tail = laid_out(snapshot, drawn["ncols"] or 80) if snapshot else ("", "")
        total = snapshot.get("total")
        look = f"{{head}} |{{bar:{_BAR}}}|{{tail}}" if total else "{head}{tail}"
        done = min(snapshot["done"], total) if total else 0
        ours = {"bar_format": look, "total": total, "n": done, "head": head, "tail": tail}
        return {**drawn, **ours}


def laid_out(snapshot: dict[str, Any], width: int) -> tuple[str, str]:
    """The texts before and behind the bar, with it at most `width` columns: what fits of them."""
    first, *more = told(snapshot)
    head = line(f"{snapshot['stage']}  {first:>{len('100 %')}}")
    room = width - disp_len(head) - (_BAR + 3 if snapshot["total"] else 0)
    tail = ""
    for word in map(line, more):
        left = room - disp_len(tail) - 2
        if disp_len(word) > left and word == line(snapshot["detail"]) and left > _BAR:
            word = f"{word[: left - 1]}…"
        if disp_len(word) <= left:
            tail += f"  {word}"
    return head, tail[1:] if snapshot["total"] else tail


def told(snapshot: dict[str, Any]) -> Iterator[str]:
    """What is known of a stage, in words, the most important first."""
    done, total, unit = snapshot["done"], snapshot["total"], snapshot["unit"]
    left = snapshot["seconds_left"]
    if total is None:
        yield clock_time(snapshot["seconds"])
        if done:
            yield f"{done:,} {unit}"
    else:
        yield f"{100 * done // total if total else 100} %"
        if left is not None and done != total:
            yield f"ETA {clock_time(left)}"
        yield f"{done:,}/{total:,} {unit}"
    if snapshot["detail"]:
        yield snapshot["detail"]
    if snapshot["tokens_per_second"]:
        yield f"{snapshot['tokens_per_second']:,.0f} tokens/s"
    if snapshot["per_second"]:
        yield f"{snapshot['per_second']:,.1f} {snapshot['unit']}/s"
    if (engines := snapshot.get("engines")) is not None:
        yield f"{engines} engine{'' if engines == 1 else 's'}"
    if snapshot.get("retries"):
        yield f"{snapshot['retries']} retries"
    if "pairs" in snapshot:
        yield f"{snapshot['pairs']:,} pairs"
    if snapshot.get("decided"):
        yield f"{100 * snapshot.get('correct', 0) / snapshot['decided']:.0f} % right"
    if snapshot.get("undecided"):
        yield f"{snapshot['undecided']:,} undecided"
    if snapshot.get("units_total"):
        yield f"{snapshot.get('units', 0):,}/{snapshot['units_total']:,} shards"
    if snapshot["total"] is not None:
        yield f"after {clock_time(snapshot['seconds'])}"


def summary(snapshot: dict[str, Any]) -> str:
    """What a finished stage did, and how long it took."""
    words = [f"{snapshot['done']:,} {snapshot['unit']}"] if snapshot["done"] else []
    words += [f"{snapshot[name]:,} {name}" for name in ("tokens", "pairs") if snapshot.get(name)]
    return "  ".join([*words, f"{snapshot['seconds']:.1f} s"])


def clock_time(seconds: float) -> str:
    """`4:07`, or `1:02:09` from an hour on; never negative, though clocks are set back."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _rate(amount: float, seconds: float) -> float | None:
    return amount / seconds if seconds > 0 and amount > 0 else None
