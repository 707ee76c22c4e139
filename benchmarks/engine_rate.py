"""Does a build cost the engine anything? Token rates beside the bare `AsyncLLM`'s, same requests.

    python -m benchmarks.engine_rate [--seeds 48] [--n 32] [--rounds 5] [key=value …]

The bare engine is handed finished prompts and opened images and only has to generate. Two things
stand beside it, each with the bare engine in turn on one loaded engine, all caches emptied before:

    the sampler       `roll_out` on all seeds at once: images, prompts, chat template, records
    the whole build   `run_sampling` on a local Ray: units, actor, Parquet, publishing, progress;
                      from its first request to its last part on disk

Goal: 0.97 for both, at the 32 responses per seed that a build has by default. Opening an image and
rendering its prompt cost some 3 ms of CPU per seed, however many responses share them: with 8 they
are four times the share, and on a machine without a GPU the engine wants the same cores. What a
build costs before and after that window is listed apart.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import bare
from benchmarks.results import parser, record, spread, table
from benchmarks.watch import Stages, cpu_by_role
from mmpr_builder import prompts, sampling
from mmpr_builder.config import Config, load_config
from mmpr_builder.demo import write_seeds
from mmpr_builder.engines import make_sampler
from mmpr_builder.records import Continuation, Seed
from mmpr_builder.runs import run_sampling
from mmpr_builder.seeds import read_seeds

GOAL = 0.97
WARM = 16  # Seeds asked before anything is measured.
SETTINGS = ("sampling.max_tokens=512", "dropout.apply=none")
ROLES = {"engine": "vLLM's core", "front": "the process that asks it", "rest": "driver and Ray"}


@dataclass(frozen=True, slots=True)
class Run:
    """All seeds answered once: tokens per second, and CPU µs per token by role."""

    rate: float
    cpu: dict[str, float]


Rounds = list[tuple[Run, Run]]
"""(ours, the bare engine) of each round."""


def main(words: list[str]) -> int:
    """Measure and record; 1 if a goal is missed."""
    options = parser("engine_rate", seeds=48, n=32, rounds=5).parse_args(words)
    settings = [*SETTINGS, f"sampling.n={options.n}", *options.settings]
    with tempfile.TemporaryDirectory() as name:
        path = write_seeds(Path(name) / "seeds", options.seeds)
        config = load_config(None, [*settings, f"seeds={path}"])
        seeds = [item for item in read_seeds(path) if isinstance(item, Seed)]
        sampler = asyncio.run(sampler_rates(config, seeds, options.rounds))
        builds, stages = build_rates(config, seeds, options.rounds, Path(name))
    found = {"the sampler": sampler, "the whole build on Ray": builds}
    ratios = {
        what: spread((ours.rate / alone.rate for ours, alone in rounds), 3)
        for what, rounds in found.items()
    }
    best = ", ".join(f"{what} **{ratio}**" for what, ratio in ratios.items())
    lines = [
        f"Of the bare engine's token rate: {best}; goal {GOAL}. {options.seeds} seeds x"
        f" {options.n} responses, {options.rounds} rounds. The bare engine keeps as few statistics"
        " as ours; it sends its core a picture with every response, as vLLM does.",
        "",
        *table(
            ("", "tokens/s", "bare `AsyncLLM`, tokens/s", "ratio"),
            [
                (
                    what,
                    spread(ours.rate for ours, _ in rounds),
                    spread(alone.rate for _, alone in rounds),
                    ratios[what],
                )
                for what, rounds in found.items()
            ],
        ),
        "",
        "Where the difference goes, in µs of CPU per token, ours beside the bare engine's:",
        "",
        *table(("", *ROLES.values()), [(what, *by_role(rounds)) for what, rounds in found.items()]),
        "",
        "What a build costs before and after that window, in seconds, whatever its size:",
        "",
        *table(
            ("stage", "seconds"),
            [(name, spread((run[name] for run in stages), 1)) for name in stages[0]],
        ),
    ]
    record("engine_rate", "Beside the bare engine", lines, options.results)
    return 0 if min(ratio.median for ratio in ratios.values()) >= GOAL else 1


def by_role(rounds: Rounds) -> list[str]:
    """`210 / 204` for each role: ours and the bare engine's, medians."""
    return [
        " / ".join(
            f"{spread(pair[side].cpu.get(role, 0.0) for pair in rounds).median:,.0f}"
            for side in (0, 1)
        )
        for role in ROLES
    ]


async def sampler_rates(config: Config, seeds: Sequence[Seed], rounds: int) -> Rounds:
    """The sampler and the bare engine in turn; who goes first alternates."""
    sampler: Any = make_sampler(config)
    try:
        return await in_turn(sampler, config, seeds, rounds)
    finally:
        await sampler.close()


async def in_turn(
    sampler: Any, config: Config, seeds: Sequence[Seed], rounds: int, frame: bare.Frame = bare.DEMO
) -> Rounds:
    """The same with a sampler that is there."""
    pick = prompts.load_templates(config).pick

    async def ours(seed: Seed) -> int:
        rollout = await sampling.roll_out(seed, 0, pick(seed), config, sampler, "bench")
        assert rollout.error is None, rollout.error
        return sum(response.tokens for response in rollout.responses)

    asks = {"ours": ours, "bare": bare.requests(sampler.engine, config, seeds, frame)}
    done: Rounds = []
    try:
        await bare.run(sampler.engine, ours, seeds[:WARM])
        for turn in range(rounds):
            found = {}
            for name in sorted(asks, reverse=bool(turn % 2)):
                found[name] = await measured(sampler.engine, asks[name], seeds, os.getpid())
            done.append((found["ours"], found["bare"]))
            print(f"round {turn + 1}: {found['ours'].rate / found['bare'].rate:.3f}", flush=True)
    finally:
        asks.clear()  # An engine that is still known to somebody ends in a traceback.
    return done


async def measured(engine: Any, ask: bare.Ask, seeds: Sequence[Seed], root: int) -> Run:
    """All seeds asked at once; `root` is the process whose descendants are counted in."""
    before = cpu_by_role(root, os.getpid())
    tokens, seconds = await bare.run(engine, ask, seeds)
    return Run(tokens / seconds, since(before, root, tokens))


def since(before: dict[str, float], root: int, tokens: int) -> dict[str, float]:
    """CPU µs per token by role since `before`."""
    now = cpu_by_role(root, os.getpid())
    return {role: 1e6 * (now[role] - before.get(role, 0.0)) / tokens for role in now}


class MeasuredSampler:
    """A sampler that has the bare engine answer everything first, when it is first asked.

    Leaves `left` when it is closed: how the bare engine did, when the build's own first request
    began, and the CPU time since then, all of `root`'s descendants counted in.
    """

    def __init__(
        self, config: Config, seeds: Sequence[Seed], left: Path, root: int, frame: bare.Frame
    ) -> None:
        self._frame = frame
        self._sampler: Any = make_sampler(config)
        self._config, self._seeds, self._left, self._root = config, seeds, left, root
        self._measured: asyncio.Task[None] | None = None
        self._alone = Run(0.0, {})
        self._began = 0.0
        self._before: dict[str, float] = {}
        self._tokens = 0

    async def sample(self, request: sampling.Request) -> AsyncGenerator[sampling.Sample, None]:
        """See `sampling.Sampler`."""
        if self._measured is None:
            self._measured = asyncio.create_task(self._measure())
        await self._measured
        async for sample in self._sampler.sample(request):
            self._tokens += sample.tokens
            yield sample

    async def continue_response(
        self, request: sampling.Request, sample: sampling.Sample, how: sampling.Continue
    ) -> Continuation | None:
        """See `sampling.Sampler`."""
        found: Continuation | None = await self._sampler.continue_response(request, sample, how)
        return found

    async def close(self) -> None:
        """See `sampling.Sampler`."""
        told = {
            "alone": asdict(self._alone),
            "began": self._began,
            "cpu": since(self._before, self._root, self._tokens),
        }
        self._left.write_text(json.dumps(told))
        await self._sampler.close()

    async def _measure(self) -> None:
        engine = self._sampler.engine
        ask = bare.requests(engine, self._config, self._seeds, self._frame)
        await bare.run(engine, ask, self._seeds[:WARM])
        self._alone = await measured(engine, ask, self._seeds, self._root)
        await bare.empty_caches(engine)
        self._before = cpu_by_role(self._root, os.getpid())
        self._began = time.time()


def measured_sampler(
    config: Config, *, seeds: Sequence[Seed], left: Path, root: int, frame: bare.Frame
) -> MeasuredSampler:
    """A sampler factory once all but the settings are given."""
    return MeasuredSampler(config, seeds, left, root, frame)


def build_rates(
    config: Config,
    seeds: Sequence[Seed],
    rounds: int,
    folder: Path,
    frame: bare.Frame = bare.DEMO,
) -> tuple[Rounds, list[dict[str, float]]]:
    """Whole builds, and the bare engine in the same actor; with the seconds outside the window."""
    done: Rounds = []
    outside: list[dict[str, float]] = []
    for turn in range(rounds):
        out, left = folder / f"build-{turn}", folder / f"left-{turn}.json"
        stages = Stages()
        make = functools.partial(
            measured_sampler, seeds=seeds, left=left, root=os.getpid(), frame=frame
        )
        summary = run_sampling(
            config.model_copy(update={"out": str(out)}), stages, sampler_factory=make
        )
        told = json.loads(left.read_text())
        last = max(part.stat().st_mtime for part in (out / "rollouts").glob("*.parquet"))
        ours = Run(summary.sampled.tokens / (last - told["began"]), told["cpu"])
        done.append((ours, Run(**told["alone"])))
        print(f"build {turn + 1}: {done[-1][0].rate / done[-1][1].rate:.3f}", flush=True)
        names = ("planning", "starting Ray", "loading the engine")
        before = {name: stages.seconds[name] for name in names}
        outside.append({**before, "ending the engine and Ray": time.time() - last})
    return done, outside


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
