"""Prompts as vLLM takes them, rendered once per seed and kept in `Request.memo`.

    <|im_start|>user\\n<image>How many?<|im_end|>\\n<|im_start|>assistant\\n   token ids, tensors

vLLM's renderer applies the model's own chat template and image processor.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from PIL.Image import Image, new as new_image

from mmpr_builder.config import Config, ImagesConfig
from mmpr_builder.engines import arguments, budgets, models, vllm_internals
from mmpr_builder.engines.server import shown
from mmpr_builder.errors import ConfigError, InputError, RowError
from mmpr_builder.prompts import parts
from mmpr_builder.sampling import Request, without_images


@dataclass(frozen=True, slots=True)
class Trial:
    """What prompts look like before the model is loaded."""

    notes: tuple[str, ...] = ()
    keeps_budgets: bool = True
    """False: the model's pictures have one size, whatever a budget says."""


class Prompts:
    """Renders for one engine."""

    def __init__(self, config: Config, engine: Any, *, keeps_budgets: bool = True) -> None:
        """Raises `InputError` when the model has no chat template."""
        self._images = config.images
        self._keeps_budgets = keeps_budgets
        self._renderer = engine.renderer
        self._architectures = engine.model_config.architectures
        vllm_internals.keep_budgets_from_videos(engine.renderer)
        self._limit = vllm_internals.image_limit(engine.model_config)
        template = arguments.chat_template(config)
        self._chat, self._tokenize = vllm_internals.chat_parameters(engine, template, config.engine)
        self._engine_keeps = vllm_internals.image_data_is_kept(engine.renderer)
        # Decoded pictures and their tensors are large: only a few prompts are rendered at a time.
        self._rendering = asyncio.Semaphore(max(4, os.cpu_count() or 1))
        self._context = engine.model_config.max_model_len
        self._by_url = vllm_internals.wants_urls(engine.renderer)
        self._check_template(config.model)

    def _check_template(self, model: str) -> None:
        """Render one message: a model without a chat template fails here.

        A beginning that the template leaves out is the tokenizer's to put in front, as the family's
        own processor has it.
        """
        own = vllm_internals.errors("exceptions", "VLLMError")
        refusals: tuple[type[Exception], ...] = (ValueError, *own)
        try:
            _, found = self._renderer.render_messages(
                [{"role": "user", "content": "?"}], self._chat
            )
            bos = getattr(self._renderer.tokenizer, "bos_token", None)
            if self._limit and bos and not found.get("prompt", bos).startswith(bos):
                self._tokenize = replace(self._tokenize, add_special_tokens=True)
        except refusals as error:
            raise InputError(
                f"model = {model!r} cannot be asked: {vllm_internals.first_lines(error)}: give a"
                " Jinja chat template with engine.chat_template=FILE"
            ) from error

    def written(self, messages: list[dict[str, Any]], opened: bool) -> str:
        """What the chat template makes of messages; `opened`: an assistant's turn follows.

        Raises `ConfigError` for a template that writes no text, but tokens.
        """
        how = {**self._chat.chat_template_kwargs, "add_generation_prompt": opened}
        chat = replace(self._chat, chat_template_kwargs=how)
        text = self._renderer.render_messages(messages, chat)[1].get("prompt")
        if not isinstance(text, str):
            raise ConfigError(
                "sampling.logprobs = 'tokens': this model's chat template writes tokens, which"
                " trainers do not have: set sampling.logprobs=true"
            )
        return text

    def completion(self, text: str) -> list[int]:
        """The tokens that a trainer has behind the prompt: a text and the end of its turn, cut off
        the conversation and tokenized alone (trl 1.16, `data_utils.apply_chat_template`).

        Raises `RowError` where the template does not go on from the prompt as the model saw it.
        """
        question = models.turn("user", "?")
        asked = self.written([question], True)
        whole = self.written([question, models.turn("assistant", text)], False)
        if not whole.startswith(asked):
            raise RowError("template_differs", "the chat template writes an answer differently")
        found: list[int] = self._renderer.get_tokenizer().encode(
            whole[len(asked) :], add_special_tokens=False
        )
        return found

    def tokens(self, side: int, images: ImagesConfig, tiles: int | None) -> int | None:
        """Tokens of a prompt with one square picture; None where the context cannot hold it.

        Blocks. Raises `RowError` where it cannot be rendered.
        """
        content = [self._part(new_image("RGB", (side, side)))]
        sizes = budgets.processor_arguments(images, tiles, self._architectures)
        try:
            _, (prompt,) = self._renderer.render_chat(*self._asked(content), **_told(sizes))
        except Exception as error:  # A model's own processor may fail in any way.
            found = refused(error)
            if found.reason == "prompt_too_long":
                return None
            raise found from error
        used = len(prompt["prompt_token_ids"])
        return used if used < self._context else None

    def _asked(self, content: list[dict[str, Any]]) -> tuple[Any, ...]:
        return [[{"role": "user", "content": content}]], self._chat, self._tokenize

    async def shown(self, request: Request) -> dict[str, Any]:
        """The prompt with its images. Raises `RowError`."""
        return await _once(request, "shown", lambda: self._with_images(request))

    async def bare(self, request: Request) -> dict[str, Any]:
        """The prompt without its images. Raises `RowError`."""
        content = [{"type": "text", "text": without_images(request.prompt)}]
        return await _once(request, "bare", lambda: self._render(content))

    async def continued(
        self, request: Request, ids: Sequence[int], *, image: bool
    ) -> dict[str, Any]:
        """The prompt, with its images or without, and a response's beginning. Raises `RowError`."""
        whole = await (self.shown if image else self.bare)(request)
        prompt = {key: value for key, value in whole.items() if key != "prompt"}
        return {**prompt, "prompt_token_ids": [*whole["prompt_token_ids"], *ids]}

    def lighten(self, request: Request) -> None:
        """Leave the images' tensors out of the kept prompt once the engine has them: they need not
        be held here, nor sent again with every response of a later round."""
        kept = request.memo.get(_key(request, "shown"))
        if not self._engine_keeps or kept is None or not kept.done():
            return
        prompt = kept.result()
        items = prompt.get("mm_kwargs")
        if items is None or all(item is None for found in items.values() for item in found):
            return
        left_out = type(items)({kind: [None] * len(found) for kind, found in items.items()})
        light = asyncio.get_running_loop().create_future()
        light.set_result({**prompt, "mm_kwargs": left_out})
        request.memo[_key(request, "shown")] = light

    def forget(self, request: Request) -> None:
        """Drop the prompt with its images; the next call of `shown` renders it again."""
        request.memo.pop(_key(request, "shown"), None)

    async def _with_images(self, request: Request) -> dict[str, Any]:
        if len(request.images) > self._limit:
            raise RowError(
                "too_many_images",
                f"{len(request.images)} images, the model is set up for {self._limit}:"
                " see engine.limit_mm_per_prompt",
            )
        pictures = map(self._part, request.opened())
        async with self._rendering:
            content = await asyncio.to_thread(content_parts, request, pictures)
            sizes = budgets.processor_arguments(self._images, request.tiles, self._architectures)
            told = request.images and self._keeps_budgets
            return await self._render(content, sizes if told else {})

    def _part(self, opened: Image) -> dict[str, Any]:
        """A picture as a part of a message: itself, or a URL for a tokenizer that opens it."""
        return shown(opened) if self._by_url else {"type": "image_pil", "image_pil": opened}

    async def _render(
        self, content: list[dict[str, Any]], sizes: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        try:
            _, rendered = await self._renderer.render_chat_async(
                *self._asked(content), **_told(sizes)
            )
        except Exception as error:  # A model's own processor may fail in any way.
            raise refused(error) from error
        prompt: dict[str, Any] = rendered[0]
        return prompt


def _told(sizes: dict[str, Any] | None) -> dict[str, Any]:
    return {"prompt_extras": {"mm_processor_kwargs": sizes}} if sizes else {}


def content_parts(request: Request, pictures: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """The prompt as a chat message's content: `pictures` (opened one by one) among texts.

    Raises `RowError` unless there is one image for each <image>.
    """
    shown = parts(request.prompt)
    if shown.count(None) != len(request.images):
        raise RowError(
            "image_count",
            f"{len(request.images)} images for {shown.count(None)} <image> in the prompt",
        )
    return [next(pictures) if part is None else {"type": "text", "text": part} for part in shown]


_SMALL, _LARGE = 224, 2_000
"""Pixels: the sides of pictures that most models make larger, and smaller."""


def try_prompts(config: Config, vllm_config: Any) -> Trial:
    """Render what a model will be asked, before its weights are loaded.

    Its chat template and its processor are there when this returns. A large picture is rendered
    with the smallest and the largest image budget. Raises `SetupError` where a budget changes
    nothing, or the context cannot hold such a picture.
    """
    model = vllm_config.model_config
    with vllm_internals.complaints() as ignored, vllm_internals.renderer_of(vllm_config) as made:
        prompts = Prompts(config, SimpleNamespace(renderer=made, model_config=model))
        found = budgets.wanted(config)
        if not prompts._limit or not (found or config.model != "demo"):
            return Trial()
        useless = _useless(config, prompts, found, model.architectures) if found else ""
        told = bool(found) and not useless
        images = config.images if told else ImagesConfig()
        try:
            used = prompts.tokens(_LARGE, images, found[-1] if told else None)
        except RowError as error:
            raise ConfigError(
                f"model = {config.model!r} cannot be shown a picture: {error.detail}"
            ) from error
    # A budget was seen to work, whichever step on its way leaves it out.
    works = told and not budgets.takes_one(images, model.architectures)
    sizes = budgets.processor_arguments(images, found[-1], model.architectures) if works else {}
    ignored = [said for said in ignored if not any(f"'{key}'" in said for key in sizes)]
    notes = [*([useless] if useless else []), *_room(config, used, model.max_model_len), *ignored]
    return Trial(tuple(notes), not useless)


def _useless(
    config: Config, prompts: Prompts, found: list[int | None], architectures: list[str]
) -> str:
    """Why the image budgets `found` cannot be kept; "" where they can.

    Raises `ConfigError` unless the model's pictures have one size, or only a shipped recipe sets
    the budgets.
    """
    images = config.images
    least, most = found[0], found[-1]
    wide, more = images, most
    if len(found) == 1:  # Against four times as much.
        if budgets.takes_one(images, architectures):
            return ""
        more = None if most is None else 4 * most
        wide = images.model_copy(update={"pixels": 4 * (images.pixels or 0) or None})
    side = max(_LARGE, 2 * math.isqrt(budgets.pixels(images, most)))
    try:
        small, large = prompts.tokens(side, images, least), prompts.tokens(side, wide, more)
        if small != large or small is None:
            return ""
        why = f"a picture of {side} x {side} pixels takes {small} tokens with any"
        plain = ImagesConfig()
        fixed = prompts.tokens(_SMALL, plain, None) == prompts.tokens(side, plain, None)
    except RowError as error:
        why, fixed = f"its processor refuses them: {error.detail}", False
    budget = "images.pixels" if most is None else f"tiles = {most}"
    text = f"{budget} does nothing for model = {config.model!r} ({', '.join(architectures)}): {why}"
    if fixed or not images.asked:
        return f"{text}; its pictures are as large as it takes them"
    raise ConfigError(
        f"{text}: set images.family to the argument that its image processor takes, as in"
        ' {max_crops: "{tiles}"}, or leave the budget out'
    )


def _room(config: Config, used: int | None, context: int) -> list[str]:
    """What is to be said of the context of `context` tokens, of which a large picture takes `used`.

    Raises `ConfigError` where it leaves no room, and the user's own budget is what asks for it.
    """
    longest = config.sampling.max_tokens
    if used is not None and used + longest <= context:
        return []
    takes = f"over {context}" if used is None else f"{used}"
    text = f"a prompt with one large picture takes {takes} of the {context} tokens of context"
    fix = "raise engine.max_model_len or lower the image budget (images.tiles)"
    if used is not None:
        return [f"{text}, so its responses end before sampling.max_tokens = {longest}: {fix}"]
    if config.images.asked and budgets.wanted(config):
        raise ConfigError(f"{text}: {fix}")
    return [f"{text}, so rows with such pictures are dropped: {fix}"]


def refused(error: BaseException) -> RowError:
    """A request that vLLM refuses, as an error of its row."""
    too_long = getattr(error, "parameter", None) in ("input_tokens", "input_text")
    return RowError(
        "prompt_too_long" if too_long else "prompt_refused", vllm_internals.first_lines(error)
    )


def _key(request: Request, form: str) -> tuple[str, str, tuple[bytes, ...]]:
    return (form, request.prompt, request.images)


async def _once(
    request: Request, form: str, make: Callable[[], Coroutine[Any, Any, dict[str, Any]]]
) -> dict[str, Any]:
    """The result of `make`, made once for all requests that share the memo."""
    key = _key(request, form)
    known = request.memo.get(key)
    if known is None:
        known = request.memo[key] = asyncio.ensure_future(make())
    # Shielded: a cancelled response must not take it from its siblings.
    found: dict[str, Any] = await asyncio.shield(known)
    return found
