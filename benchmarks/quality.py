"""What the controls of the second half cost, and whether it stays linear with all of them on.

    python -m benchmarks.quality [--sizes 10000,100000]

For each size the rollouts of so many seeds, 32 responses each, are paired twice, each time in a
process of its own that is watched from outside: with all controls off, and with all of them on that
work on rollouts. The rollouts are copies of a pool that the demo's engine sampled, with tiny
pictures, continuations at three ratios and eight samples without the image; faults for the controls
to find are planted at fixed places. Goals, both on and off: time per seed within 10 % of the
smallest size's, and the driver's memory steady while it works: in the last third of the time within
20 % of the middle third. (A small build ends before its buffers are full, so sizes do not tell.)
What works on seeds while a build is planned is measured by benchmarks/screening.py. 100,000 seeds
take about a quarter of an hour.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks import pool
from benchmarks.results import parser, record, table
from benchmarks.scale import MEMORY_GOAL, MOST, TIME_GOAL, Half, with_small_pictures
from benchmarks.watch import Stages, Watch
from mmpr_builder import stages
from mmpr_builder.config import load_config
from mmpr_builder.io import tables
from mmpr_builder.io.images import read_bytes
from mmpr_builder.io.tables import optional_columns
from mmpr_builder.records import Continuation, Response, Rollout

BLIND, RATIOS = 8, (0.25, 0.5, 0.75)
SHAPE = (
    f"sampling.n={pool.SAMPLES}",
    f"sampling.blind={BLIND}",
    f"dropout.keep={','.join(map(str, RATIOS))}",
)
"""What both runs know of the rollouts."""
ALL_ON = (
    "quality.hygiene=true",
    "quality.dropout_gate=true",
    "quality.distinct=0.95",
    "quality.max_blind=0.3",
    "quality.pass_rate=0.05,0.95",
    "quality.suspect_truths=true",
    "quality.balance.lengths=true",
    "quality.balance.answers=true",
    "pairing.max_per_response=4",
    "pairing.rejected_first=distinct_answers",
    "pairing.partner=like_length",
    "pairing.max_gap=200",
)
RUNS = {"off": SHAPE, "on": (*SHAPE, *ALL_ON)}
REFUSAL = "I'm sorry, but I cannot help with that. "
MISSING = " I cannot see the image. Please provide the image."


@dataclass(frozen=True, slots=True)
class Sized:
    """What pairing some number of seeds took and gave, by the name of the run."""

    seeds: int
    halves: dict[str, Half]
    counts: dict[str, dict[str, Any]]


def main(words: list[str]) -> int:
    """Measure and record; 1 if a goal is missed."""
    options_parser = parser("quality", pool=pool.SEEDS)
    options_parser.add_argument("--sizes", default="10000,100000", help="seeds, comma-separated")
    options_parser.add_argument("--pair", action="store_true", help="used by itself")
    options = options_parser.parse_args(words)
    if options.pair:
        return pair(options.settings)
    sizes = sorted(int(size) for size in options.sizes.split(","))
    rollouts = pool.load(options.pool)
    with tempfile.TemporaryDirectory(prefix="quality-", dir=pool.WORK) as name:
        found = [sized(rollouts, size, Path(name), options.settings) for size in sizes]
    lines, good = report(found)
    title = "Quality controls of the second half: all on against all off"
    record("quality", title, lines, options.results)
    return 0 if good else 1


def sized(rollouts: Sequence[Rollout], seeds: int, folder: Path, settings: Sequence[str]) -> Sized:
    """Pair rollouts of so many seeds in each way; leaves nothing behind."""
    halves: dict[str, Half] = {}
    counts: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        out = Path(name)
        write_rollouts(rollouts, seeds, out)
        for run, words in RUNS.items():
            halves[run] = watched([f"out={out}", *words, *settings])
            counts[run] = json.loads((out / "run.json").read_text(encoding="utf-8"))["counts"]
            of_seeds = counts[run]["seeds"]
            assert of_seeds["with_pairs"] + of_seeds["dropped"] == seeds, of_seeds
    return Sized(seeds, halves, counts)


def write_rollouts(rollouts: Sequence[Rollout], seeds: int, out: Path) -> None:
    """Rollouts of so many seeds, the pool over and over, with faults planted, in the parts of a
    build."""
    pictures = out / "images"
    pictures.mkdir(parents=True)
    small = [
        with_faults(with_own_hashes(with_small_pictures(rollout, number, pictures)), number)
        for number, rollout in enumerate(rollouts)
    ]
    copies = (
        pool.another(small[index % len(small)], index // len(small), index)
        for index in range(seeds)
    )
    optional = optional_columns(load_config(None, list(SHAPE)))
    for number, part in enumerate(_chunks(copies, pool.UNIT)):
        rows = tables.rollouts_to_table(part, optional)
        tables.write_parquet(rows, out / "rollouts" / f"unit-{number:06}.parquet")


def with_own_hashes(rollout: Rollout) -> Rollout:
    """A rollout that knows its images as they are now."""
    hashes = (hashlib.sha256(read_bytes(ref)).hexdigest() for ref in rollout.seed.images)
    return replace(rollout, image_sha256=tuple(hashes))


def with_faults(rollout: Rollout, number: int) -> Rollout:
    """The same with something for each control to find; nothing is drawn at random."""
    responses = tuple(_faulty(response, i) for i, response in enumerate(rollout.responses))
    blind: tuple[Response, ...] = ()
    if rollout.seed.has_truth and rollout.seed.images:
        # Every tenth question is solved without its picture.
        texts = [r.text for r in rollout.responses[:BLIND]]
        if number % 10 == 0:
            texts = [f"Final answer: {rollout.seed.answers[0]}"] * BLIND
        blind = tuple(Response(text, 40, "stop", i) for i, text in enumerate(texts))
    return replace(rollout, responses=responses, blind=blind)


def _faulty(response: Response, i: int) -> Response:
    text = {5: f"{REFUSAL}{response.text}", 11: f"{response.text}<|im_end|>"}.get(i, response.text)
    response = replace(response, text=text)
    if response.continuation is None:
        return response
    made = [_at_ratio(response.continuation, keep, i) for keep in RATIOS]
    return response.with_continuations(made)


def _at_ratio(continuation: Continuation, keep: float, i: int) -> Continuation:
    text = MISSING if (i + round(4 * keep)) % 8 == 0 else f" {keep}{continuation.text}"
    return replace(continuation, keep=keep, text=text)


def _chunks(rollouts: Iterator[Rollout], size: int) -> Iterator[list[Rollout]]:
    while part := list(islice(rollouts, size)):
        yield part


def watched(words: Sequence[str]) -> Half:
    """One pairing in a process of its own."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.quality", "--pair", *words],
        stdout=subprocess.PIPE,
        text=True,
    )
    with Watch(process.pid) as watch:
        said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"benchmarks.quality --pair ended with {process.returncode}")
    seconds = {"all": time.monotonic() - began, **json.loads(said.splitlines()[-1])}
    return Half(seconds, watch.cpu_seconds, watch.peak_bytes, watch.drift)


def pair(words: Sequence[str]) -> int:
    """What `watched` starts; prints the seconds by stage as JSON."""
    watched_stages = Stages()
    stages.pair(load_config(None, words), watched_stages)
    print(json.dumps(watched_stages.seconds))
    return 0


def report(found: Sequence[Sized]) -> tuple[list[str], bool]:
    """Lines for the page, and whether time is linear and memory constant."""
    first, rows, good = found[0], [], True
    for one in found:
        cells = [f"{one.seeds:,}"]
        for run in RUNS:
            ratio = per_seed(one, run) / per_seed(first, run)
            good = good and ratio <= TIME_GOAL
            cells.append(f"{1e6 * per_seed(one, run):,.0f} ({ratio:.2f})")
        cells.append(f"{per_seed(one, 'on') / per_seed(one, 'off'):.2f}")
        cells.append(f"{one.halves['on'].cpu_seconds / one.halves['off'].cpu_seconds:.2f}")
        for run in RUNS:
            half = one.halves[run]
            good = good and half.drift <= MEMORY_GOAL
            cells.append(f"{half.peak_bytes / 2**20:,.0f} ({half.drift:.2f})")
        rows.append(cells)
    header = (
        *("seeds", "off, µs per seed", "on, µs per seed", "on ÷ off", "on ÷ off, CPU time"),
        *("driver's peak off, MiB", "driver's peak on, MiB"),
    )
    return [*table(header, rows), "", *found_by(found[-1]), "", *notes(found)], good


def per_seed(one: Sized, run: str) -> float:
    """Wall-clock seconds of pairing and report per seed."""
    seconds = one.halves[run].seconds
    return (seconds["pairing"] + seconds["writing the report"]) / one.seeds


def found_by(one: Sized) -> list[str]:
    """What the controls came to in the largest run."""
    rows = []
    for run in RUNS:
        counts = one.counts[run]
        drops = ", ".join(f"{r} {n:,}" for r, n in counts["drops"].get("quality", {}).items())
        left = (counts.get("balance") or {}).get("left_out", {})
        pairs = ", ".join(f"{r} {sum(by.values()):,}" for r, by in left.items())
        rows.append(
            (run, f"{counts['seeds']['with_pairs']:,}", f"{counts['pairs']['total']:,}",
             drops or "–", pairs or "–")
        )  # fmt: skip
    header = ("controls", "seeds with pairs", "pairs", "seeds dropped by them", "pairs left out")
    return [f"What {one.seeds:,} seeds gave:", "", *table(header, rows)]


def notes(found: Sequence[Sized]) -> list[str]:
    """What the tables leave out."""
    last = found[-1]
    rates = ", ".join(
        f"{run} {last.seeds * pool.SAMPLES / last.halves[run].cpu_seconds:,.0f}" for run in RUNS
    )
    text = (
        "In brackets: time divided by the first size's; memory in the last third of a run divided"
        " by that in the middle third. Time is by the clock, of pairing and report;"
        f" responses per core-second at {last.seeds:,} seeds: {rates}."
    )
    if last.seeds < MOST:
        minutes = " and ".join(f"{per_seed(last, run) * MOST / 60:,.0f} {run}" for run in RUNS)
        text += (
            f" A million seeds were not run here: at the time per seed of {last.seeds:,} they take"
            f" {minutes} minutes (extrapolated)."
        )
    return [text]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
