"""The victim: `mmpr build` as a user runs it, only that replayed answers take a little time.

Started as a process of its own by fault_harness.py, which kills it and starts it again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from functools import partial, reduce
from importlib import import_module
from itertools import count
from typing import Any

from mmpr_builder import engines
from mmpr_builder.config import Config
from mmpr_builder.records import Continuation
from mmpr_builder.sampling import Continue, Request, Sample, Sampler

DELAY, POISON = "FAULT_DELAY_S", "FAULT_POISON"
"""Environment: seconds that an answer takes at most; the id of a seed that kills its process."""
AT = "FAULT_AT"
"""Environment: where the driver kills itself: `MODULE:FUNCTION:before` or `…:after`, and in which
call, counted from 1: `mmpr_builder.runs.planning:write_manifest:before:1`."""


class SlowSampler:
    """Another sampler, whose answers come after a while that depends on the seed's id alone."""

    def __init__(self, inner: Sampler) -> None:
        self._inner = inner
        self._delay_s = float(os.environ.get(DELAY, "0"))
        self._poison = os.environ.get(POISON)

    async def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
        await asyncio.sleep(self._delay_s * (request.seed % 100) / 100)
        if request.id == self._poison:
            os.kill(os.getpid(), signal.SIGKILL)
        async for sample in self._inner.sample(request):
            yield sample

    async def continue_response(
        self, request: Request, sample: Sample, how: Continue
    ) -> Continuation | None:
        return await self._inner.continue_response(request, sample, how)

    async def close(self) -> None:
        await self._inner.close()


def slowly(config: Config) -> SlowSampler:
    return SlowSampler(engines.make_sampler(config))


def killed_at(place: str) -> None:
    """Put a SIGKILL of this process before or behind a call of a function of the package."""
    module, name, when, number = place.split(":")
    *path, last = name.split(".")
    owner = reduce(getattr, path, import_module(module))
    inner, calls = getattr(owner, last), count(1)

    def killing(*args: Any, **kwargs: Any) -> Any:
        now = next(calls) == int(number)
        if now and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        done = inner(*args, **kwargs)
        if now:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    setattr(owner, last, killing)


if __name__ == "__main__":
    # Ray's workers import this module by its name; what __main__ defines they would not find.
    import fault_build

    from mmpr_builder import cli, runs, stages

    if os.environ.get(DELAY) or os.environ.get(POISON):
        slow = partial(runs.run_sampling, sampler_factory=fault_build.slowly)
        stages.runs.run_sampling = slow  # type: ignore[attr-defined]
    if os.environ.get(AT):
        killed_at(os.environ[AT])
    cli.main(sys.argv[1:])
