"""What a run takes: seconds by stage, and memory and CPU time of a process with all it started."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from statistics import median
from typing import Self

import psutil

from mmpr_builder.progress import Progress

_EVERY_S = 0.2


class Stages(Progress):
    """Notes how long each stage took and shows nothing; `seconds` has the sums by name."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, *, total: int | None = None, unit: str = "seeds") -> Iterator[Self]:
        began = time.monotonic()
        try:
            with super().stage(name, total=total, unit=unit) as progress:
                yield progress
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began


def cpu_by_role(root: int, front: int) -> dict[str, float]:
    """CPU seconds so far of a process and its descendants: `engine` is vLLM's core, `front` the
    process of that number, which asks it, `rest` all others (a driver, Ray's own)."""
    used: dict[str, float] = defaultdict(float)
    process = psutil.Process(root)
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            is_engine = one.name().startswith("VLLM") or one.ppid() == front
            role = "front" if one.pid == front else "engine" if is_engine else "rest"
            used[role] += times.user + times.system
    return used


class Watch:
    """Looks at a process and its descendants several times a second, in a thread.

    `cpu_seconds` is what all of them used, those that have ended included (up to their last fifth
    of a second); `peak_bytes` the most memory that the process itself held; `drift` what it held
    in the last third of the time, as a multiple of the third before (medians): 1 where memory does
    not depend on how much work there is.
    """

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._cpu: dict[tuple[int, float], float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._held: list[int] = []

    @property
    def peak_bytes(self) -> int:
        return max(self._held, default=0)

    @property
    def drift(self) -> float:
        third = len(self._held) // 3
        if not third:
            return 1.0
        return median(self._held[-third:]) / median(self._held[third : 2 * third])

    @property
    def cpu_seconds(self) -> float:
        """User and system time of all processes seen so far."""
        return sum(self._cpu.values())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            try:
                self._held.append(self._process.memory_info().rss)
                tree = [self._process, *self._process.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            for process in tree:
                self._note(process)

    def _note(self, process: psutil.Process) -> None:
        try:
            used = process.cpu_times()
            self._cpu[process.pid, process.create_time()] = used.user + used.system
        except psutil.NoSuchProcess:
            pass  # It ended; what was seen of it stays.
