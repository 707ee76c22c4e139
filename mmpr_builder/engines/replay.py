"""Earlier rollouts as a sampler: the same answers again, without a model and without a GPU.

    sampling.engine=replay sampling.replay_from=out/first/rollouts

Seeds are found by id and must have the very same prompt: answers to another prompt would be wrongly
labelled. Of more stored responses than asked for the first ones come back, of fewer all; a further
round (`sampling.policy=adaptive`) that needs more is an error of its seed. A stored continuation
must have been made with the same `dropout.keep` and `dropout.image`. A ratio at which nothing was
continued, and samples without images (`sampling.blind`) where there are none, are refused before
anything is sampled; what single responses lack is counted in pairing (`not_made` in run.json).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mmpr_builder.config import Config, DropoutConfig
from mmpr_builder.dropout import part_of, wants_continuation
from mmpr_builder.errors import ConfigError, InputError, RowError
from mmpr_builder.io import tables
from mmpr_builder.io.stores import resolve
from mmpr_builder.records import Continuation, Response, Rollout
from mmpr_builder.sampling import Continue, Request, Sample, without_images

_PARTS_KEPT = 8  # Parts held decoded at a time; builds read their seeds in the order of the parts.
_PARTS_AT_ONCE = 16  # Parts whose ratios are read together: object stores answer slowly.
_WAYS = tuple(
    f"{place}.{field}"
    for place in (
        "responses.list.element.continuation",
        f"{tables.FURTHER}.list.element.list.element",
    )
    for field in ("keep", "image")
)
"""Columns of a part that say how its responses were continued, without their texts."""


class ReplaySampler:
    """Holds the index of the stored rollouts: seed id -> part."""

    def __init__(self, config: Config) -> None:
        """Read the ids of all stored rollouts. Raises `InputError` when there are none."""
        self._folder, self._judge = check(config), config.scoring.judge
        self._place: dict[str, str] = {}
        for part in tables.list_parts(self._folder):
            ids = tables.read_parquet(part, columns=["id"])["id"].to_pylist()
            self._place |= {seed_id: part for seed_id in ids if seed_id not in self._place}
        self._kept: OrderedDict[str, dict[str, Rollout]] = OrderedDict()
        self._reading = asyncio.Lock()  # Neighbouring seeds share a part: decode it once.

    async def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
        """See `sampling.Sampler`.

        Raises `RowError`: "not_in_replay", "replay_prompt_differs", "replay_too_short".
        """
        rollout = await self._find(request)
        last = request.first + request.n
        if request.first and last > len(rollout.responses):
            raise RowError(
                "replay_too_short",
                f"{self._folder} has {len(rollout.responses)} responses of {request.id!r}, and"
                f" number {last} is asked for: set sampling.n to what was sampled, or replay a"
                " build with more",
            )
        stored = rollout.blind if request.blind else rollout.responses
        wanted = stored[request.first : last]
        for index, response in enumerate(wanted, start=request.first):
            yield Sample(
                index=index,
                text=response.text,
                tokens=response.tokens,
                finish_reason=response.finish_reason,
                seed=response.seed,
                logprob=response.logprob,
                prompt_tokens=rollout.prompt_tokens,
                trace=response.trace,
                compared=() if self._judge.url or not self._judge.open else response.compared,
            )

    async def continue_response(
        self, request: Request, sample: Sample, how: Continue
    ) -> Continuation | None:
        """The stored continuation; None if there is none of this kind."""
        rollout = await self._find(request)
        response: Response = rollout.responses[sample.index]
        if how.number is not None:
            same = [c for c in response.with_image if c.keep == how.keep]
            return next(iter(same[how.number :]), None)
        span = part_of(response.text, how.part) or (1, 0)
        return next(
            (
                c
                for c in response.continuations
                if (c.keep, c.image) == (how.keep, how.image)
                and span[0] <= len(c.prefix) <= span[1]
            ),
            None,
        )

    async def close(self) -> None:
        """Forget what was read."""
        self._kept.clear()

    async def _find(self, request: Request) -> Rollout:
        part = self._place.get(request.id)
        if part is None:
            raise RowError("not_in_replay", f"{self._folder} has no rollout of {request.id!r}")
        rollout = (self._kept.get(part) or await self._read(part))[request.id]
        prompt = without_images(rollout.prompt) if request.blind else rollout.prompt
        if prompt != request.prompt:
            raise RowError(
                "replay_prompt_differs",
                f"{part} answers the prompt {prompt[:200]!r}, not {request.prompt[:200]!r}",
            )
        if rollout.error is not None:
            raise RowError(*rollout.error)
        return rollout

    async def _read(self, part: str) -> dict[str, Rollout]:
        async with self._reading:
            found = self._kept.get(part)
            if found is None:
                table = await asyncio.to_thread(tables.read_parquet, part)
                rollouts = await asyncio.to_thread(tables.rollouts_from_table, table)
                found = self._kept[part] = {one.seed.id: one for one in rollouts}
            self._kept.move_to_end(part)
            if len(self._kept) > _PARTS_KEPT:
                self._kept.popitem(last=False)
        return found


def check(config: Config) -> str:
    """The folder of rollouts to replay.

    Raises `SetupError` when it is not set or holds none, or when none has what the settings ask
    for: samples without images, continuations at a ratio.
    """
    folder, parts = _parts(config)
    sampling, steps, judge = config.sampling, config.steps, config.scoring.judge
    unseen = f"sampling.blind = {sampling.blind}"
    tried = f"steps.apply = {steps.apply!r}, steps.faithful = {steps.faithful}"
    judged = f"scoring.judge.open = {judge.open} and no scoring.judge.url"
    asked: dict[str, tuple[Any, str, str]] = {
        tables.BLIND: (sampling.blind, unseen, "samples without images"),
        tables.WITH_IMAGE: (steps.is_on, tried, "continuations with the image"),
        tables.TRACES: (sampling.traced, "sampling.logprobs = 'tokens'", "tokens"),
        tables.COMPARED: (judge.open and not judge.url, judged, "comparisons"),
    }
    held = tables.column_names(parts[0])
    for column, (is_asked, setting, what) in asked.items():
        if is_asked and column not in held:
            raise ConfigError(
                f"{setting}, but sampling.replay_from = {folder!r} holds no {what}: leave it out,"
                " or replay a build that has them"
            )
    _check_ratios(config.dropout, folder, parts)
    return folder


def identity(config: Config) -> dict[str, str]:
    """A hash over the names and sizes of the replayed parts."""
    listed = []
    for part in _parts(config)[1]:
        fs, path = resolve(part)
        listed.append([path.rsplit("/", 1)[-1], fs.size(path)])
    return {"replay": hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]}


def _parts(config: Config) -> tuple[str, list[str]]:
    """The folder of rollouts to replay, and its parts."""
    folder = config.sampling.replay_from
    if not folder:
        raise ConfigError(
            "sampling.engine = 'replay' needs sampling.replay_from,"
            " the rollouts/ folder of an earlier build"
        )
    parts = tables.list_parts(folder)
    if not parts:
        raise InputError(
            f"sampling.replay_from = {folder!r} holds no finished rollouts: give the rollouts/"
            " folder of an earlier build"
        )
    return folder, parts


def _check_ratios(dropout: DropoutConfig, folder: str, parts: Sequence[str]) -> None:
    """Refuse ratios at which no stored response was continued, if any is to be continued at all.

    Stops reading once every ratio was met, usually in the first parts.
    """
    if dropout.apply == "none":
        return
    wanted = {(keep, dropout.image) for keep in dropout.keep}
    found: set[tuple[float, bool]] = set()
    any_wanted = False
    for part in _read_ways(parts):
        found |= _ways_in(part)
        if wanted <= found:
            return
        any_wanted = any_wanted or _wants_any(part, dropout)
    if any_wanted:
        raise ConfigError(_no_such_ratio(dropout, folder, found))


def _read_ways(parts: Sequence[str]) -> Iterator[pa.Table]:
    columns = [*tables.SEED_SCHEMA.names, *_WAYS]
    with ThreadPoolExecutor(tables.readers(parts[0])) as pool:
        for start in range(0, len(parts), _PARTS_AT_ONCE):
            some = parts[start : start + _PARTS_AT_ONCE]
            yield from pool.map(lambda part: tables.read_parquet(part, columns), some)


def _ways_in(part: pa.Table) -> set[tuple[float, bool]]:
    """(keep, image) of all continuations in a part."""
    stored = [pc.struct_field(pc.list_flatten(part["responses"]), "continuation")]
    if tables.FURTHER in part.column_names:
        stored.append(pc.list_flatten(pc.list_flatten(part[tables.FURTHER])))
    found: set[tuple[float, bool]] = set()
    for continuations in stored:
        keep, image = (pc.struct_field(continuations, name) for name in ("keep", "image"))
        found |= {*zip(keep.to_pylist(), image.to_pylist(), strict=True)}
    return {(keep, image) for keep, image in found if keep is not None}


def _wants_any(part: pa.Table, dropout: DropoutConfig) -> bool:
    """Whether the settings would continue some response in a part."""
    answered = part.filter(pc.greater(pc.list_value_length(part["responses"]), 0))
    seeds = tables.seeds_from_table(answered.select(tables.SEED_SCHEMA.names))
    return any(wants_continuation(seed, dropout) for _, seed in seeds)


def _no_such_ratio(dropout: DropoutConfig, folder: str, found: set[tuple[float, bool]]) -> str:
    how = "with the image" if dropout.image else "without the image"
    held = sorted(keep for keep, image in found if image == dropout.image)
    missing = [keep for keep in dropout.keep if keep not in held]
    place = f"sampling.replay_from = {folder!r} holds no continuations"
    other = "or replay a build that has them"
    if held:
        return (
            f"dropout.keep = {_listed(dropout.keep)}, but {place} at {_listed(missing)} {how}, only"
            f" at {_listed(held)}: set dropout.keep={_listed(held)}, {other}"
        )
    if found:
        image = str(dropout.image).lower()
        return (
            f"dropout.image = {image}, but {place} {how}: set"
            f" dropout.image={str(not dropout.image).lower()}, {other}"
        )
    return (
        f"dropout.apply = {dropout.apply!r}, but {place}: set dropout.apply=none, {other} at"
        f" {_listed(dropout.keep)}"
    )


def _listed(ratios: Sequence[float]) -> str:
    """As on the command line: `0.25,0.5`."""
    return ",".join(map(repr, ratios))
