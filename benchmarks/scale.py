"""Does a build stay linear in time and constant in memory? Real rollouts replayed, many times over.

    python -m benchmarks.scale [--sizes 10000,100000] [--seeds …]

For each size a build of that many seeds with 32 responses each: planned, sampled by the replay
engine on a real Ray, and paired, each half in a process of its own that is watched from outside.
The rollouts to replay are copies of a pool that the demo's engine sampled, with tiny pictures.
Goals: time per seed within 10 % of the smaller size's, the driver's memory within 20 %, one part
file per unit. A million seeds (`--sizes 1000000`) take about an hour and 10 GB of disk.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import pool
from benchmarks.results import parser, record, table
from benchmarks.watch import Stages, Watch
from mmpr_builder import prompts, stages
from mmpr_builder.config import Config, load_config
from mmpr_builder.io import tables
from mmpr_builder.io.images import open_image, read_bytes
from mmpr_builder.records import ImageRef, Rollout

TIME_GOAL, MEMORY_GOAL = 1.10, 1.20
PICTURE_PX = 24
MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Half:
    """What one half of one build took."""

    seconds: dict[str, float]
    cpu_seconds: float
    peak_bytes: int
    drift: float
    """See `watch.Watch`."""


@dataclass(frozen=True, slots=True)
class Sized:
    """What a build of some size took."""

    seeds: int
    units: int
    parts: int
    sampling: Half
    pairing: Half


def main(words: list[str]) -> int:
    """Measure and record; 1 if a goal is missed."""
    options_parser = parser("scale", pool=pool.SEEDS)
    options_parser.add_argument("--sizes", default="10000,100000", help="seeds, comma-separated")
    options_parser.add_argument("--half", choices=("sampling", "pairing"), help="used by itself")
    options = options_parser.parse_args(words)
    if options.half:
        return one_half(options.half, options.settings)
    sizes = [int(size) for size in options.sizes.split(",")]
    rollouts = pool.load(options.pool)
    with tempfile.TemporaryDirectory(prefix="scale-", dir=pool.WORK) as name:
        found = [sized(rollouts, size, Path(name), options.settings) for size in sizes]
    lines, good = report(found)
    record("scale", "Scale: the same build, larger and larger", lines, options.results)
    return 0 if good else 1


def sized(rollouts: Sequence[Rollout], seeds: int, folder: Path, settings: Sequence[str]) -> Sized:
    """Plan, sample and pair a build of so many seeds; leaves nothing behind."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        work = Path(name)
        inputs, out = work / "first", work / "out"
        write_inputs(rollouts, seeds, inputs)
        words = [
            f"out={out}",
            f"seeds={inputs / 'seeds.jsonl'}",
            "sampling.engine=replay",
            f"sampling.replay_from={inputs / 'rollouts'}",
            f"sampling.n={pool.SAMPLES}",
            *settings,
        ]
        sampling = watched("sampling", words)
        parts = tables.list_parts(out / "rollouts", tables.ROLLOUT_SCHEMA)
        units = json.loads((out / "manifest.json").read_text())["units"]
        pairing = watched("pairing", words)
        counts = json.loads((out / "run.json").read_text())["counts"]["seeds"]
        assert counts["with_pairs"] + counts["dropped"] == seeds, counts
    return Sized(seeds, len(units), len(parts), sampling, pairing)


def write_inputs(rollouts: Sequence[Rollout], seeds: int, folder: Path) -> None:
    """Seeds as JSON lines, and the rollouts that answer them."""
    templates = prompts.load_templates(Config())
    pictures = folder / "images"
    pictures.mkdir(parents=True)
    small = [with_small_pictures(r, number, pictures) for number, r in enumerate(rollouts)]

    def asked() -> Iterator[Rollout]:
        with (folder / "seeds.jsonl").open("w", encoding="utf-8") as lines:
            for index in range(seeds):
                copy, of_pool = divmod(index, len(small))
                found = pool.another(small[of_pool], copy, index)
                seed = found.seed
                row = {
                    "id": seed.id,
                    "image": [ref.uri for ref in seed.images],
                    "question": seed.question,
                    "answer": list(seed.answers) or None,
                    "source": seed.source,
                }
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
                yield replace(found, prompt=prompts.render(templates.pick(seed), seed))

    pool.write_units(asked(), folder)


def with_small_pictures(rollout: Rollout, number: int, folder: Path) -> Rollout:
    """A rollout of the pool whose images are tiny copies."""
    refs = []
    for place, ref in enumerate(rollout.seed.images):
        picture = open_image(read_bytes(ref)).resize((PICTURE_PX, PICTURE_PX))
        path = folder / f"{number}-{place}.png"
        picture.save(path)
        refs.append(ImageRef(str(path.resolve())))
    return replace(rollout, seed=replace(rollout.seed, images=tuple(refs)))


def watched(half: str, words: Sequence[str]) -> Half:
    """One half of a build in a process of its own."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.scale", "--half", half, *words],
        stdout=subprocess.PIPE,
        text=True,
    )
    with Watch(process.pid) as watch:
        said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"benchmarks.scale --half {half} ended with {process.returncode}")
    seconds = {"all": time.monotonic() - began, **json.loads(said.splitlines()[-1])}
    return Half(seconds, watch.cpu_seconds, watch.peak_bytes, watch.drift)


def one_half(half: str, words: Sequence[str]) -> int:
    """What `watched` starts; prints the seconds by stage as JSON."""
    config, watched_stages = load_config(None, words), Stages()
    if half == "sampling":
        summary = stages.sample(config, watched_stages).sampling
        assert summary is not None
        assert summary.sampled.errors == 0, "some seeds were not found in the pool"
    else:
        stages.pair(config, watched_stages)
    print(json.dumps(watched_stages.seconds))
    return 0


def report(found: Sequence[Sized]) -> tuple[list[str], bool]:
    """Lines for the page, and whether time is linear, memory constant, and no part too many."""
    first = found[0]
    rows, good = [], True
    for one in found:
        responses = one.seeds * pool.SAMPLES
        work = per_seed(one)
        cells = [f"{one.seeds:,}", f"{responses:,}", f"{one.parts:,} of {one.units:,}"]
        good = good and one.parts == one.units
        for name, seconds in work.items():
            ratio = seconds / per_seed(first)[name]
            good = good and ratio <= TIME_GOAL
            cells.append(f"{1e6 * seconds:,.0f} ({ratio:.2f})")
        for half, base in ((one.sampling, first.sampling), (one.pairing, first.pairing)):
            ratio = half.peak_bytes / base.peak_bytes
            good = good and ratio <= MEMORY_GOAL
            cells.append(f"{half.peak_bytes / 2**20:,.0f} ({ratio:.2f})")
        rows.append(cells)
    header = [
        *("seeds", "responses", "part files of units"),
        *(f"{name}, µs per seed" for name in per_seed(first)),
        *("driver's peak when sampling, MiB", "when pairing, MiB"),
    ]
    return [*table(header, rows), "", *processor(found), "", *notes(found)], good


def processor(found: Sequence[Sized]) -> list[str]:
    """CPU time, which neighbours on the machine change less than the clock's."""
    rows = []
    for one in found:
        halves = ((one.sampling, found[0].sampling), (one.pairing, found[0].pairing))
        cells = [f"{one.seeds:,}"]
        for half, base in halves:
            mine, first = half.cpu_seconds / one.seeds, base.cpu_seconds / found[0].seeds
            cells.append(f"{1e6 * mine:,.0f} ({mine / first:.2f})")
        rows.append(cells)
    header = ("seeds", "sampling half, µs of CPU per seed", "pairing half, µs of CPU per seed")
    return table(header, rows)


def per_seed(one: Sized) -> dict[str, float]:
    """Wall-clock seconds per seed and step, without what costs the same at any size."""
    return {
        "planning": one.sampling.seconds["planning"] / one.seeds,
        "sampling": one.sampling.seconds["sampling"] / one.seeds,
        "pairing": one.pairing.seconds["pairing"] / one.seeds,
        "report": one.pairing.seconds["writing the report"] / one.seeds,
    }


def notes(found: Sequence[Sized]) -> list[str]:
    """What the table leaves out."""
    last = found[-1]
    fixed = ", ".join(
        f"{name} {last.sampling.seconds[name]:.1f} s"
        for name in ("starting Ray", "loading the engine")
        if name in last.sampling.seconds
    )
    responses = last.seeds * pool.SAMPLES
    cpu = {"sampling": last.sampling.cpu_seconds, "pairing": last.pairing.cpu_seconds}
    rates = ", ".join(f"{name} {responses / spent:,.0f}" for name, spent in cpu.items())
    text = (
        "In brackets: divided by the first size's. CPU time is that of all processes, starts of"
        f" Ray and of workers included. Fixed costs by the clock: {fixed}. Responses per"
        f" core-second at {last.seeds:,} seeds: {rates}."
    )
    largest = max(one.seeds for one in found)
    if largest < MOST:
        scaled = sum(per_seed(last).values()) * MOST / 60
        text += (
            f" A million seeds were not run here: at the time per seed of {last.seeds:,} they take"
            f" {scaled:,.0f} minutes (extrapolated)."
        )
    return [text]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
