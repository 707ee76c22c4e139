"""Real traffic to measure with: rollouts of demo seeds by the real engine, made once, used again.

    out/bench/pool-192x32/rollouts/     about a minute and a half on two cores

`many` makes as many rollouts of them as a benchmark wants. Each copy of a rollout gets another id,
question, texts and images, so that nothing that was worked out for one can be used for another.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from mmpr_builder.config import load_config
from mmpr_builder.errors import BuildConflictError
from mmpr_builder.io import tables
from mmpr_builder.io.images import read_bytes
from mmpr_builder.progress import Progress
from mmpr_builder.records import ImageRef, Response, Rollout
from mmpr_builder.runs import run_sampling

WORK = Path("out/bench")
"""Where benchmarks leave what can be used again; git ignores it."""
SEEDS, SAMPLES = 192, 32
UNIT = 64


def load(seeds: int = SEEDS, n: int = SAMPLES) -> list[Rollout]:
    """The pool, sampled by the demo's engine if it is not there yet."""
    folder = WORK / f"pool-{seeds}x{n}"
    config = load_config("demo", [f"out={folder}", f"seeds.0.limit={seeds}", f"sampling.n={n}"])
    with Progress.auto() as progress:
        try:
            run_sampling(config, progress)
        except BuildConflictError:  # Made by a version with other prompts or settings.
            shutil.rmtree(folder)
            run_sampling(config, progress)
    parts = tables.list_parts(folder / "rollouts", tables.ROLLOUT_SCHEMA)
    return [r for part in parts for r in tables.rollouts_from_table(tables.read_parquet(part))]


def many(pool: Sequence[Rollout], count: int, images: Path) -> Iterator[Rollout]:
    """`count` rollouts, the pool over and over; the images of each go into the folder `images`."""
    for index in range(count):
        copy, of_pool = divmod(index, len(pool))
        yield another(with_own_images(pool[of_pool], index, images), copy, index)


def write_units(rollouts: Iterator[Rollout], folder: Path) -> int:
    """Write rollouts as the parts of a build, 64 to a unit; returns how many parts."""
    number = 0
    while part := list(islice(rollouts, UNIT)):
        table = tables.rollouts_to_table(part)
        tables.write_parquet(table, folder / "rollouts" / f"unit-{number:05}.parquet")
        number += 1
    return number


def with_own_images(rollout: Rollout, index: int, folder: Path) -> Rollout:
    """The same rollout on image files that no other has."""
    refs, hashes = [], []
    for number, ref in enumerate(rollout.seed.images):
        # What follows a PNG's end is no picture, but makes other bytes.
        data = read_bytes(ref) + f"{index}-{number}".encode()
        path = folder / f"{index}-{number}.png"
        path.write_bytes(data)
        refs.append(ImageRef(str(path.resolve())))
        hashes.append(hashlib.sha256(data).hexdigest())
    seed = replace(rollout.seed, images=tuple(refs))
    return replace(rollout, seed=seed, image_sha256=tuple(hashes))


def another(rollout: Rollout, copy: int, index: int) -> Rollout:
    """A rollout like this one with texts that no other copy has."""
    mark = f"[{copy}] "
    seed = rollout.seed
    return replace(
        rollout,
        seed=replace(seed, id=f"{seed.id}-{copy}", question=mark + seed.question),
        prompt=mark + rollout.prompt,
        responses=tuple(_marked(response, mark) for response in rollout.responses),
        index=index,
    )


def _marked(response: Response, mark: str) -> Response:
    continuation = response.continuation
    if continuation is not None:
        continuation = replace(continuation, prefix=mark + continuation.prefix)
    return replace(response, text=mark + response.text, continuation=continuation)
