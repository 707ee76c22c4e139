"""Does the CPU half keep up with the GPUs? Responses per core-second from rollouts to pairs.

    python -m benchmarks.cpu_half [--seeds 2048] [--rounds 5]

Rollouts of a demo build, each copy with texts and images of its own, are paired by one worker on
one core. What counts is CPU time, of all processes together, so that neighbours on the machine
change little. Goal: 3,000 responses per core-second.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path

from benchmarks import pool
from benchmarks.results import Spread, cpu_seconds, parser, record, spread, table
from mmpr_builder import output, pairing, scoring
from mmpr_builder.config import Config, load_config
from mmpr_builder.extraction import extract_answer
from mmpr_builder.io import tables
from mmpr_builder.progress import Progress
from mmpr_builder.runs import run_pairing

GOAL = 3_000
SHOWN = 16  # Functions of the profile.


def main(words: list[str]) -> int:
    """Measure and record; 1 if the goal is missed."""
    options = parser("cpu_half", seeds=2048, rounds=5, pool=pool.SEEDS).parse_args(words)
    rollouts = pool.load(options.pool)
    with on_one_core(), tempfile.TemporaryDirectory(prefix="cpu-half-", dir=pool.WORK) as name:
        folder = Path(name)
        (folder / "images").mkdir()
        pool.write_units(pool.many(rollouts, options.seeds, folder / "images"), folder)
        config = load_config(
            None, [f"out={folder}", "distributed.scoring_workers=1", *options.settings]
        )
        whole, responses, pairs = whole_half(config, options.rounds)
        rows = [*phases(config, responses)]
        functions = profiled(config)
    lines = [
        f"**{whole} responses per core-second**, goal {GOAL:,}: {options.seeds:,} seeds,"
        f" {responses:,} responses, {pairs:,} pairs, {options.rounds} rounds. CPU time of all"
        " processes, the start of the symbolic one included.",
        "",
        "Where it goes, each phase by itself on the same rollouts:",
        "",
        *table(("phase", "µs of CPU per response", "share"), rows),
        "",
        "Functions by their own time in one profiled run (blocking waits left out):",
        "",
        *table(("function", "share", "calls"), functions),
    ]
    record("cpu_half", "The CPU half: rollouts to pairs on one core", lines, options.results)
    return 0 if whole.median >= GOAL else 1


@contextmanager
def on_one_core() -> Iterator[None]:
    """This process and what it starts meanwhile run on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def whole_half(config: Config, rounds: int) -> tuple[Spread, int, int]:
    """(responses per core-second, responses, pairs) of `mmpr pair`."""
    import datasets  # noqa: F401 (loading it is no part of the work)

    rates = []
    for _ in range(rounds):
        before = cpu_seconds()
        counts = run_pairing(config, Progress()).run["counts"]
        rates.append(counts["responses"]["sampled"] / (cpu_seconds() - before))
    return spread(rates), counts["responses"]["sampled"], counts["pairs"]["total"]


def phases(config: Config, responses: int) -> list[tuple[str, str, str]]:
    """What each step costs: (name, µs per response, share of all), the dearest first."""
    laps = Laps()
    children = cpu_seconds() - time.process_time()
    with scoring.Judge(config.scoring) as judge:
        laps.end("")
        with output.BuildWriter(config) as writer:
            for part in tables.list_parts(f"{config.out}/rollouts"):
                rollouts = tables.rollouts_from_table(tables.read_parquet(part))
                laps.end("reading")
                for rollout in rollouts:
                    for response in rollout.responses if rollout.seed.has_truth else ():
                        extract_answer(response.text, rollout.style)
                laps.end("extraction")
                said = [pairing.judge_responses(r, config, judge) for r in rollouts]
                laps.end("extraction and scoring")
                judged = [
                    (r, verdicts, *pairing.build_pairs(r.seed, kept, verdicts, config))
                    for r, (verdicts, kept) in zip(rollouts, said, strict=True)
                ]
                laps.end("pairing")
                block = output.make_block(judged, config)
                laps.end("rows and images")
                writer.add(block)
                laps.end("writing")
        laps.end("writing")
    spent = laps.spent
    spent["symbolic process"] = cpu_seconds() - time.process_time() - children
    spent["scoring"] = spent.pop("extraction and scoring") - spent["extraction"]
    del spent[""]
    total = sum(spent.values())
    return [
        (name, f"{1e6 * seconds / responses:.1f}", f"{100 * seconds / total:.0f} %")
        for name, seconds in sorted(spent.items(), key=itemgetter(1), reverse=True)
    ]


class Laps:
    """CPU time of this process, lap by lap, summed up by name."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)
        self._last = time.process_time()

    def end(self, name: str) -> None:
        """What was used since the last lap was for `name`."""
        now = time.process_time()
        self.spent[name] += now - self._last
        self._last = now


def profiled(config: Config) -> list[tuple[str, str, str]]:
    """(function, share of the CPU, calls) by own time."""
    profile = cProfile.Profile(time.process_time)
    profile.runcall(run_pairing, config, Progress())
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    total = sum(own for _, _, own, _, _ in stats.values())
    dearest = sorted(stats.items(), key=lambda item: -item[1][2])[:SHOWN]
    return [
        (shown(*place), f"{100 * own / total:.1f} %", f"{calls:,}")
        for place, (_, calls, own, _, _) in dearest
    ]


def shown(file: str, line: int, function: str) -> str:
    """`scoring/judge.py score_answer`, for our own, a library's and a built-in function."""
    for mark in ("mmpr_builder/", "site-packages/"):
        file = file.rpartition(mark)[2]
    name = function.removeprefix("<built-in method ").removesuffix(">")
    return f"`{name}`" if file == "~" else f"`{file.rpartition('/python3')[2] or file} {name}`"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
