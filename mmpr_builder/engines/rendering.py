"""Prompts as vLLM takes them, rendered once per seed and kept in `Request.memo`.

    <|im_start|>user\\n<image>How many?<|im_end|>\\n<|im_start|>assistant\\n   token ids, tensors

vLLM's renderer applies the model's own chat template and image processor.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from mmpr_builder.config import Config
from mmpr_builder.engines import arguments, budgets, vllm_internals
from mmpr_builder.errors import InputError, RowError
from mmpr_builder.io.images import open_image
from mmpr_builder.prompts import parts
from mmpr_builder.sampling import Request, without_images


class Prompts:
    """Renders for one engine."""

    def __init__(self, config: Config, engine: Any) -> None:
        """Raises `InputError` when the model has no chat template."""
        self._images = config.images
        self._renderer = engine.renderer
        self._architectures = engine.model_config.architectures
        vllm_internals.keep_budgets_from_videos(engine.renderer)
        self._limit = vllm_internals.image_limit(engine.model_config)
        template = arguments.chat_template(config)
        self._chat, self._tokenize = vllm_internals.chat_parameters(engine, template, config.engine)
        self._engine_keeps = vllm_internals.image_data_is_kept(engine.renderer)
        # Decoded pictures and their tensors are large: only a few prompts are rendered at a time.
        self._rendering = asyncio.Semaphore(max(4, os.cpu_count() or 1))
        self._check_template(config.model)

    def _check_template(self, model: str) -> None:
        """Render one message: a model without a chat template fails here."""
        refusals: tuple[type[Exception], ...] = (ValueError, *vllm_internals.errors().any)
        try:
            self._renderer.render_messages([{"role": "user", "content": "?"}], self._chat)
        except refusals as error:
            raise InputError(
                f"model = {model!r} cannot be asked: {vllm_internals.first_lines(error)}: give a"
                " Jinja chat template with engine.chat_template=FILE"
            ) from error

    async def shown(self, request: Request) -> dict[str, Any]:
        """The prompt with its images. Raises `RowError`."""
        return await _once(request, "shown", lambda: self._with_images(request))

    async def bare(self, request: Request) -> dict[str, Any]:
        """The prompt without its images. Raises `RowError`."""
        content = [{"type": "text", "text": without_images(request.prompt)}]
        return await _once(request, "bare", lambda: self._render(content))

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
        pictures = ({"type": "image_pil", "image_pil": open_image(d)} for d in request.images)
        async with self._rendering:
            content = await asyncio.to_thread(content_parts, request, pictures)
            sizes = budgets.processor_arguments(self._images, request.tiles, self._architectures)
            return await self._render(content, sizes if request.images else {})

    async def _render(
        self, content: list[dict[str, Any]], sizes: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        messages = [{"role": "user", "content": content}]
        try:
            _, rendered = await self._renderer.render_chat_async(
                [messages],
                self._chat,
                self._tokenize,
                prompt_extras={"mm_processor_kwargs": sizes} if sizes else None,
            )
        except Exception as error:  # A model's own processor may fail in any way.
            raise refused(error) from error
        prompt: dict[str, Any] = rendered[0]
        return prompt


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
