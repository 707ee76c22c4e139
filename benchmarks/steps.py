"""The first wrong step: what `steps.apply=frugal` costs and finds beside `exact`.

    python -m benchmarks.steps [--seeds 120] [--results FILE] [key=value …]

The demo model answers each question once; its responses are then continued three times, each time
with random numbers of their own: exactly, exactly again, frugally. Two exact runs do not agree on
every first wrong step, for a step from which one way in twenty leads on is right in one of them
only. So the frugal way is measured by the share on which two exact ones agree.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from pathlib import Path

import mmpr_builder as mb
from benchmarks.results import parser, record, table
from mmpr_builder.demo import write_seeds
from mmpr_builder.pairing import judge_responses
from mmpr_builder.records import Continuation, Rollout, Seed, derived_seed
from mmpr_builder.sampling import Continue, Request, Sample, Sampler
from mmpr_builder.scoring import Judge

TOKENS, AGREEING = 0.25, 0.95
"""At most so much of the exact way's tokens, at least so much of the agreement of two of them."""
RUNS = {"exact": "exact", "exact again": "exact", "frugal": "frugal"}

Found = dict[tuple[str, str], tuple[int | None, int, bool]]
"""Steps before the first wrong one, tokens and whether it is right, by question and response."""


class Otherwise:
    """The same responses, continued with other random numbers."""

    def __init__(self, sampler: Sampler, run: str) -> None:
        self._sampler, self._run = sampler, run

    def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
        """The engine's own."""
        return self._sampler.sample(request)

    async def continue_response(
        self, request: Request, sample: Sample, how: Continue
    ) -> Continuation | None:
        """The engine's, from another random seed."""
        seed = derived_seed(how.seed, self._run)
        return await self._sampler.continue_response(request, sample, replace(how, seed=seed))

    async def close(self) -> None:
        """The engine stays."""


def main(words: list[str]) -> int:
    """Sample, compare, write the table; 1 if a goal is missed."""
    args = parser("steps", seeds=120).parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        path = write_seeds(Path(folder, "seeds"), args.seeds, seed=940_001)
        every = [one for one in mb.read_seeds(path) if isinstance(one, Seed) and one.has_truth]
        found = dict(zip(RUNS, asyncio.run(_runs(every, args.settings)), strict=True))
    exact, again, frugal = found.values()
    common = exact.keys() & again.keys() & frugal.keys()
    tokens = {name: sum(one[key][1] for key in common) for name, one in found.items()}
    # Of wrong responses; in right ones no step is wrong.
    known = [key for key in common if not exact[key][2] and exact[key][0] is not None]
    agreed = _agreement(exact, again, known)
    ratio, relative = tokens["frugal"] / tokens["exact"], _agreement(exact, frugal, known) / agreed
    lines = [
        f"{len(common)} responses to {len(every)} questions, {len(known)} of them wrong from a step"
        f" on that is known. Two exact runs agree on {agreed:.3f} of their first wrong steps.",
        "",
        *table(
            ("frugal ÷ exact", "goal", "found"),
            [
                ("tokens per labelled response", f"at most {TOKENS}", f"{ratio:.3f}"),
                ("agreement on the first wrong step", f"at least {AGREEING}", f"{relative:.3f}"),
            ],
        ),
    ]
    record("steps", "The first wrong step, frugally", lines, args.results)
    return 0 if ratio <= TOKENS and relative >= AGREEING else 1


async def _runs(seeds: list[Seed], settings: list[str]) -> list[Found]:
    common = ["model=demo", "sampling.n=8", "sampling.max_tokens=256", "dropout.apply=none"]
    configs = [
        mb.load_config(None, [*common, f"steps.apply={w}", *settings]) for w in RUNS.values()
    ]
    sampler = await asyncio.to_thread(mb.make_sampler, configs[0])
    found: list[Found] = []
    try:
        for run, config in zip(RUNS, configs, strict=True):
            other = Otherwise(sampler, run)
            with Judge(config.scoring) as judge:
                done = await mb.aroll_out(seeds, config, sampler=other)
                found.append(dict(one for each in done for one in _told(each, config, judge)))
    finally:
        await sampler.close()
    return found


def _told(
    rollout: Rollout, config: mb.Config, judge: Judge
) -> Iterator[tuple[tuple[str, str], tuple[int | None, int, bool]]]:
    assert rollout.error is None, rollout.error
    verdicts, usable = judge_responses(rollout, config, judge)
    for response, verdict in zip(usable, verdicts, strict=True):
        if response.with_image or verdict.outcome == "correct":
            tokens = sum(one.tokens for one in response.with_image)
            yield (
                (rollout.seed.id, response.text),
                (response.first_wrong, tokens, verdict.outcome == "correct"),
            )


def _agreement(one: Found, other: Found, keys: list[tuple[str, str]]) -> float:
    return sum(one[key][0] == other[key][0] for key in keys) / len(keys)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
