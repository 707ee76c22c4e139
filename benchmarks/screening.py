"""How far does the screening of seeds spread? Pictures opened in one process, and by Ray's workers.

    python -m benchmarks.screening --seeds data/*.jsonl

Near-duplicates and decontamination over the rows of the given files (without any: the demo's
world), each copied `--copies` times with another question; a tenth of them is the evaluation set.
Each way runs in a process of its own that is kept to so many cores: in threads of one process on
one core and on all, and by Ray's workers on all. Ray's start is left out. What the driver itself
takes when workers do the rest is what cannot be spread: it says how many cores one driver can keep
busy. All ways must drop the same seeds.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.decontamination import demo_rows
from benchmarks.results import parser, record, table
from mmpr_builder.cluster import parallel
from mmpr_builder.cluster.session import ray_session
from mmpr_builder.config import Config
from mmpr_builder.io.ordered_map import Spread, in_threads
from mmpr_builder.progress import Progress
from mmpr_builder.quality.screening import screen_seeds
from mmpr_builder.records import Drop, Seed
from mmpr_builder.seeds import read_seeds

CORES = len(os.sched_getaffinity(0))
WAYS = {"threads, 1 core": ("threads", 1), "threads": ("threads", CORES), "Ray": ("ray", CORES)}


@dataclass(frozen=True, slots=True)
class Run:
    """What one way took."""

    seeds: int
    drops: int
    seconds: float
    driver_cpu: float
    digest: str


def main(words: list[str]) -> int:
    """Measure and record; 1 if two ways differ in what they drop."""
    options_parser = parser("screening", copies=6, synthetic=400)
    options_parser.add_argument("--seeds", nargs="*", default=[], help="files of real questions")
    options_parser.add_argument("--way", choices=("threads", "ray"), help="used by itself")
    options_parser.add_argument("--folder", help="used by itself")
    options = options_parser.parse_args(words)
    if options.way:
        print(json.dumps(run(options.way, options.seeds, options.copies, Path(options.folder))))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        files = options.seeds or [write_demo(Path(folder), options.synthetic)]
        found = {
            name: in_own_process(way, cores, files, options.copies, folder)
            for name, (way, cores) in WAYS.items()
        }
    same = len({one.digest for one in found.values()}) == 1
    record(
        "screening", "Screening of seeds, spread over cores", report(found, same), options.results
    )
    return 0 if same else 1


def write_demo(folder: Path, count: int) -> str:
    """Questions about the demo's world as a file."""
    lines = [
        json.dumps({"id": s.id, "image": s.images[0].uri, "question": s.question, "answer": "3"})
        for s in (row.seed for row in demo_rows(folder, count))
    ]
    (folder / "demo.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder / "demo.jsonl")


def in_own_process(way: str, cores: int, files: Sequence[str], copies: int, folder: str) -> Run:
    """One way, on so many cores."""
    allowed = set(sorted(os.sched_getaffinity(0))[:cores])
    told = ["--way", way, "--folder", folder, "--copies", str(copies), "--seeds", *files]
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.screening", *told],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
    )
    return Run(**json.loads(process.stdout.splitlines()[-1]))


def run(way: str, files: Sequence[str], copies: int, folder: Path) -> dict[str, object]:
    """What `in_own_process` starts."""
    rows = [item for file in files for item in read_seeds(file) if isinstance(item, Seed)]
    evaluation = folder / "evaluation.jsonl"
    evaluation.write_text("\n".join(json.dumps(as_row(s)) for s in rows[::10]), encoding="utf-8")
    settings = {"against": [str(evaluation)], "unreadable": "skip"}
    config = Config.model_validate(
        {"quality": {"near_duplicates": True, "decontaminate": settings}}
    )
    if way == "threads":
        return measured(rows, copies, config, in_threads)
    with ray_session(config, Progress()):
        list(parallel.on_ray(lambda: abs, range(4096), lambda i: i))  # Its workers have started.
        return measured(rows, copies, config, parallel.on_ray)


def as_row(seed: Seed) -> dict[str, object]:
    """A seed as a line of an evaluation set."""
    return {
        "id": seed.id,
        "image": [ref.uri for ref in seed.images],
        "question": seed.question,
        "answer": list(seed.answers) or None,
    }


def copied(rows: Sequence[Seed], copies: int) -> Iterator[Seed]:
    """The rows over and over, with other questions; every fifth repeats an earlier one."""
    for copy in range(copies):
        for number, seed in enumerate(rows):
            told = copy - 1 if copy and number % 5 == 0 else copy
            yield replace(
                seed, id=f"{seed.id}-{copy}", question=f"{seed.question} Part {told} of it?"
            )


def measured(
    rows: Sequence[Seed], copies: int, config: Config, spread: Spread
) -> dict[str, object]:
    """Screen all copies."""
    began, cpu = time.monotonic(), time.process_time()
    found = list(screen_seeds(copied(rows, copies), config, spread))
    took, used = time.monotonic() - began, time.process_time() - cpu
    drops = [f"{item.item_id} {item.detail}" for item in found if isinstance(item, Drop)]
    digest = hashlib.sha256("\n".join(drops).encode()).hexdigest()
    return {
        "seeds": len(found),
        "drops": len(drops),
        "seconds": took,
        "driver_cpu": used,
        "digest": digest,
    }


def report(found: dict[str, Run], same: bool) -> list[str]:
    """Lines for the page."""
    first, spread = found["threads, 1 core"], found["Ray"]
    rows = [
        (
            f"{name}, {CORES} cores" if cores > 1 else name,
            f"{one.seeds / one.seconds:,.1f} ({first.seconds / one.seconds:.2f})",
            f"{1e3 * one.driver_cpu / one.seeds:,.2f}",
        )
        for (name, one), (_, cores) in zip(found.items(), WAYS.values(), strict=True)
    ]
    header = ("where pictures are opened", "seeds per second", "ms of CPU in the driver per seed")
    share = spread.driver_cpu / first.driver_cpu
    text = (
        f"{first.seeds:,} seeds, {first.drops:,} of them dropped, {'' if same else 'NOT '}"
        "the same ones in each way. In brackets: against one core."
        f" Left to the driver is {share:.1%} of the work, so one driver can keep about"
        f" {1 / share:,.0f} cores busy."
    )
    return [*table(header, rows), "", text]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
