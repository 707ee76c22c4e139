"""The stages as functions, for programs that bring their own client, scheduler or loop.

    seeds = [s for s in mb.read_seeds("seeds.jsonl") if isinstance(s, mb.Seed)]
    request = mb.chat_request(seed, template)         {"messages": […]}, pictures as data URLs
    completion = client.chat.completions.create(model="m", n=8, **request)
    responses = mb.read_responses(completion)
    rollout = mb.make_rollout(seed, template, responses, model="m")
    verdicts, pairs, drops = mb.judge_rollout(rollout)
    mb.write_pairs(pairs, "out", [rollout])

All of it is safe in threads, processes, tasks of Ray and `datasets.map`; only what samples has an
asynchronous twin, whose name begins with `a`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmpr_builder import engines, output, prompts
from mmpr_builder.config import Config
from mmpr_builder.dropout import truncate
from mmpr_builder.errors import InputError
from mmpr_builder.folder.manifest import has_manifest
from mmpr_builder.io import images, tables
from mmpr_builder.io.access import access_of, source_of
from mmpr_builder.pairing import judge_and_pair, read_labels, settled
from mmpr_builder.records import (
    Continuation,
    Drop,
    ImageRef,
    Pair,
    Response,
    Rollout,
    Seed,
    Template,
    Verdict,
)
from mmpr_builder.sampling import (
    Request,
    Sampler,
    roll_out as roll_out_one,
    scores_while_sampling,
    without_images,
)


def read_images(seed: Seed | ImageRef, *, allow: Sequence[str] = ()) -> tuple[bytes, ...]:
    """The encoded bytes of each image, as they lie in files, tables or `data:` URLs.

    URLs are asked only where `allow` names their protocol, or their beginning. Raises `RowError`:
    an image that is missing, too large or not allowed.
    """
    refs = (seed,) if isinstance(seed, ImageRef) else seed.images
    return images.read_all(refs, access_of([source_of("", allow=allow)]))


def chat_request(
    seed: Seed, template: Template, *, pictures: Sequence[bytes] | None = None
) -> dict[str, Any]:
    """`{"messages": […]}` of an OpenAI-style chat request, pictures in it as PNG data URLs.

    `pictures` are the images' bytes; without them they are read. Raises `RowError` for images that
    do not open, `InputError` for a template without `{question}`.
    """
    from mmpr_builder.engines.endpoint import content_of

    shown = read_images(seed) if pictures is None else tuple(pictures)
    content = content_of(Request(seed.id, prompts.render(template, seed), shown))
    return {"messages": [{"role": "user", "content": content}]}


def continuation_request(
    seed: Seed, response: Response | str, keep: float = 0.5, *, template: Template | None = None
) -> dict[str, Any]:
    """The request that has a model go on, without the images, where `keep` (0 to 1, in characters)
    of its response ends: DropoutNTP (arXiv 2411.10442, section 3.1).

    `{"messages": [user, assistant], "extra_body": {…}}`: the extra keys tell vLLM and SGLang to
    continue the last message; servers that do so by themselves need none. `template` is the one
    that the response was asked with, by default `open_en` or `open_zh`. Raises `ConfigError` for
    another `keep`.
    """
    template = template or prompts.load_template(f"open_{seed.language}")
    text = response if isinstance(response, str) else response.text
    asked = without_images(prompts.render(template, seed))
    messages = [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": truncate(text, keep)},
    ]
    going_on = {"continue_final_message": True, "add_generation_prompt": False}
    return {"messages": messages, "extra_body": going_on}


def read_responses(completion: Any, *, seed: int = 0) -> list[Response]:
    """The answers of a chat completion: an object of OpenAI's client, or its JSON as a dict.

    `seed` is that of the request; answer i counts as drawn with `seed + i`. Tokens are exact where
    the server tells them for each answer, else shares of the total by length. Raises `EngineError`
    for what is no completion.
    """
    from mmpr_builder.engines.endpoint import read_choices

    reply = completion.model_dump() if hasattr(completion, "model_dump") else completion
    return [
        Response(one.text, one.tokens, one.finish_reason, seed + one.seed, one.logprob)
        for one in read_choices(reply)
    ]


def join(response: Response, continued: Response | str, keep: float = 0.5) -> Response:
    """`response` with a continuation: what was said after its first `keep`, cut as
    `continuation_request` cuts. A reply that repeats the kept part is taken without it."""
    prefix = truncate(response.text, keep)
    said = Response(continued, 0, "stop", 0) if isinstance(continued, str) else continued
    text = said.text.removeprefix(prefix) if prefix else said.text
    made = Continuation(prefix, text, said.tokens, said.finish_reason, said.seed, keep)
    return response.with_continuations([*response.continuations, made])


def make_rollout(
    seed: Seed,
    template: Template,
    responses: Iterable[Response],
    *,
    model: str = "",
    pictures: Sequence[bytes] | None = None,
    index: int = 0,
) -> Rollout:
    """A seed with its prompt and all its responses, as a build stores it: the hashes of its images
    (read where `pictures` are not given) tell later whether they are still those that were shown.

    `index` is the seed's place in the input. Raises `RowError` for images that cannot be read.
    """
    shown = read_images(seed) if pictures is None else pictures
    return Rollout(
        seed=seed,
        prompt=prompts.render(template, seed),
        template=template.name,
        style=template.style,
        model=model,
        image_sha256=tuple(hashlib.sha256(data).hexdigest() for data in shown),
        responses=tuple(responses),
        index=index,
    )


def judge_rollout(
    rollout: Rollout, config: Config | None = None
) -> tuple[list[Verdict], list[Pair], list[Drop]]:
    """Verdicts on all responses (in their order), and pairs, or one drop that says why none.

    Without a truth all are undecided, and pairs come of continuations.
    """
    from mmpr_builder import scoring

    config = config or Config()
    labels = read_labels(config.scoring.labels)
    return judge_and_pair(settled(rollout, config, scoring), config, scoring, labels=labels)


async def aroll_out(
    seeds: Iterable[Seed], config: Config, *, sampler: Sampler | None = None
) -> list[Rollout]:
    """Rollouts of seeds, in their order: sampled, and continued where `config.dropout` says so.

    Without a `sampler` the one that the settings name is made, and closed in the end. What is wrong
    with one seed is its `Rollout.error`. Raises `SetupError`, `EngineError`. Nothing is stored: for
    more than a few seeds use `sample`, which can be interrupted.
    """
    from mmpr_builder.sampling.scoring_threads import ScoringThreads

    templates = prompts.load_templates(config)
    judge = await asyncio.to_thread(engines.make_judge, config)
    mine = None if sampler is not None else await asyncio.to_thread(engines.make_sampler, config)
    uses: Sampler | None = sampler or mine
    assert uses is not None
    scoring = ScoringThreads(config) if scores_while_sampling(config) else None
    room = asyncio.Semaphore(config.distributed.unit_queries)

    async def one(index: int, seed: Seed) -> Rollout:
        async with room:
            template = templates.pick(seed)
            how = (template, config, uses, config.model, scoring, judge)
            return await roll_out_one(seed, index, *how)

    try:
        return list(await asyncio.gather(*(one(i, seed) for i, seed in enumerate(seeds))))
    finally:
        if scoring is not None:
            scoring.close()
        for made in (mine, judge):
            if made is not None:
                await made.close()


def roll_out(seeds: Iterable[Seed], config: Config) -> list[Rollout]:
    """`aroll_out` for code that is not asynchronous, also where a loop runs already (notebooks)."""
    with ThreadPoolExecutor(1) as apart:
        return apart.submit(lambda: asyncio.run(aroll_out(seeds, config))).result()


def read_rollouts(path: str | Path) -> Iterator[Rollout]:
    """All rollouts of a build's folder, its `rollouts` folder or one Parquet file, in order.

    Raises `InputError` where there are none.
    """
    base = os.fspath(path).rstrip("/")
    parts = [base] if base.endswith(".parquet") else tables.list_parts(f"{base}/rollouts")
    parts = parts or tables.list_parts(base)
    if not parts:
        raise InputError(f"{base}: no rollouts here: give a build's folder or a Parquet file")
    return output.read_rollouts(parts)


def write_rollouts(rollouts: Iterable[Rollout], path: str | Path) -> int:
    """Write rollouts to `path/rollouts/unit-00000.parquet`, in place of what is there; returns how
    many. `mmpr pair out=PATH` and `sampling.replay_from=PATH/rollouts` take the folder.

    They are numbered anew where two have the same `index`. Raises `InputError` for the folder of a
    build, whose rollouts stay.
    """
    if has_manifest(os.fspath(path)):
        raise InputError(f"{os.fspath(path)}: holds a build's rollouts: give another folder")
    found = list(rollouts)
    if len({rollout.index for rollout in found}) < len(found):
        found = [replace(rollout, index=i) for i, rollout in enumerate(found)]
    uri = f"{os.fspath(path).rstrip('/')}/rollouts/unit-00000.parquet"
    tables.write_parquet(tables.rollouts_to_table(found), uri)
    return len(found)
