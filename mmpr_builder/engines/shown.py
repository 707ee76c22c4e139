"""What an engine would be given for a seed; no weights are loaded, nothing is asked or sampled.

vllm       <|im_start|>user\\n[<image> × 64]How many?<|im_end|>\\n<|im_start|>assistant\\n
endpoint   [{"role": "user", "content": [{"type": "image_url", …}, {"type": "text", …}]}]
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from types import SimpleNamespace
from typing import Any

from mmpr_builder import engines
from mmpr_builder.config import Config
from mmpr_builder.engines import rendering, vllm_internals
from mmpr_builder.engines.endpoint import content_of
from mmpr_builder.engines.server import open_turn, run
from mmpr_builder.errors import RowError
from mmpr_builder.escaping import json_text
from mmpr_builder.sampling import Request, without_images

Ask = Callable[[Request, bool, str], Awaitable[tuple[str, int | None, int | None]]]
"""(request, whether without its images, beginning of an answer) -> what a model is given, its
tokens, and those among them that stand for images."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A prompt with the model's own chat template, repeated image tokens counted; for a server its
    messages as JSON. `blind` has no images, `continued` is what DropoutNTP goes on with (both ""
    for a seed without images). `error` says why a build would drop the seed."""

    prompt: str = ""
    tokens: int | None = None
    image_tokens: int | None = None
    blind: str = ""
    continued: str = ""
    error: str = ""


def show_prompts(
    config: Config, requests: Iterable[Request], *, with_images: bool
) -> tuple[list[Shown], tuple[str, ...]]:
    """What a model would be given for each request, taken one by one, and notes. Raises
    `SetupError`, of `with_images` also for a model that takes none."""
    if config.sampling.engine == "endpoint":
        return _show(config, requests, _as_messages), ()
    if config.sampling.engine == "replay":
        return _show(config, requests, _as_text), ("no model is asked: rollouts are read again",)
    engines.check_engine(config)
    if with_images:
        engines.check_images(config)
    prepared = engines.prepared(config)
    if prepared is None:
        return _show(config, requests, _as_text), (engines.NO_DEVICE,)
    vllm_config, trial = prepared
    with vllm_internals.renderer_of(vllm_config) as made:
        engine = SimpleNamespace(renderer=made, model_config=vllm_config.model_config)
        prompts = rendering.Prompts(config, engine, keeps_budgets=trial.keeps_budgets)
        decode = partial(made.get_tokenizer().decode, skip_special_tokens=False)
        return _show(config, requests, partial(_rendered, prompts, decode)), trial.notes


def _show(config: Config, requests: Iterable[Request], ask: Ask) -> list[Shown]:
    shares = " or ".join(f"{100 * keep:g} %" for keep in config.dropout.keep)
    part = "response" if config.dropout.part == "whole" else f"response's {config.dropout.part}"
    kept = f"⟨the first {shares} of a {part}⟩"

    async def show(request: Request) -> Shown:
        try:
            shown = Shown(*await ask(request, False, ""))
            if not request.images:
                return shown
            blind, *_ = await ask(request, True, "")
            continued, *_ = await ask(request, not config.dropout.image, kept)
            return replace(shown, blind=blind, continued=continued)
        except RowError as error:
            return Shown(error=f"{error.reason}: {error.detail}")

    async def show_all() -> list[Shown]:
        return [await show(request) for request in requests]

    return run(show_all())


async def _rendered(
    prompts: Any, decode: Callable[[list[int]], str], request: Request, bare: bool, begun: str
) -> tuple[str, int, int]:
    found = await (prompts.bare if bare else prompts.shown)(request)
    ids = list(found["prompt_token_ids"])
    places = (found.get("mm_placeholders") or {}).get("image", ())
    text, count = counted_images(ids, places, decode)
    return text + begun, len(ids), count


def counted_images(
    ids: Sequence[int], places: Sequence[Any], decode: Callable[[list[int]], str]
) -> tuple[str, int]:
    """The text of a prompt, `[<image> × 64]` in it for a repeated token of its images, and how many
    tokens stand for images. `places` are vLLM's `PlaceholderRange`s."""
    text, repeated, count = decode(list(ids)), set(), 0
    for place in places:
        count += place.length if place.is_embed is None else int(place.is_embed.sum())
        inside = ids[place.offset : place.offset + place.length]
        repeated |= {token for token, run in groupby(inside) if len(list(run)) > 1}
    for mark in filter(None, (decode([token]).strip() for token in sorted(repeated))):
        pieces = re.split(rf"((?:{re.escape(mark)}\s*){{2,}})", text)
        pieces[1::2] = [f"[{mark} × {piece.count(mark)}]" for piece in pieces[1::2]]
        text = "".join(pieces)
    return text, count


async def _as_messages(request: Request, bare: bool, begun: str) -> tuple[str, None, None]:
    content = without_images(request.prompt) if bare else content_of(request)
    messages = [{"role": "user", "content": content}]
    if begun:
        messages = open_turn(messages, begun)["messages"]
    text = json_text(messages, indent=2)
    return re.sub(r"(base64,.{12})[\w+/=]+", r"\1…", text), None, None


async def _as_text(request: Request, bare: bool, begun: str) -> tuple[str, None, None]:
    """The prompt before any chat template."""
    text = without_images(request.prompt) if bare else request.prompt
    return f"{text}\n{begun}" if begun else text, None, None
