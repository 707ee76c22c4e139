"""Prompts as the engine takes them, rendered once per seed and kept in `Request.memo`.

    <|im_start|>user\\n<image>How many?<|im_end|>\\n<|im_start|>assistant\\n   token ids, tensors

The model's own chat template and image processor do it, through vLLM's renderer. What is kept
belongs to its text and its images, and goes with the seed's last request.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
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
        """Render one message, so that a model without a chat template is found out at once."""
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
        """Leave the images' tensors out of the kept prompt, now that the engine has them: they
        need not be held here, nor sent again with every response of a later round."""
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
        """Render the prompt with its images again when it is next asked for."""
        request.memo.pop(_key(request, "shown"), None)

    async def _with_images(self, request: Request) -> dict[str, Any]:
        if len(request.images) > self._limit:
            raise RowError(
                "too_many_images",
                f"{len(request.images)} images, the model is set up for {self._limit}:"
                " see engine.limit_mm_per_prompt",
            )
        shown = parts(request.prompt)
        if shown.count(None) != len(request.images):
            raise RowError(
                "image_count",
                f"{len(request.images)} images for {shown.count(None)} <image> in the prompt",
            )
        async with self._rendering:
            opened = [await asyncio.to_thread(open_image, data) for data in request.images]
            pictures = iter(opened)
            content = [
                {"type": "image_pil", "image_pil": next(pictures)}
                if part is None
                else {"type": "text", "text": part}
                for part in shown
            ]
            sizes = budgets.processor_arguments(self._images, request.tiles, self._architectures)
            return await self._render(content, sizes if opened else {})

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


def refused(error: BaseException) -> RowError:
    """A request that vLLM will not answer, as an error of its row."""
    too_long = getattr(error, "parameter", None) in ("input_tokens", "input_text")
    return RowError(
        "prompt_too_long" if too_long else "prompt_refused", vllm_internals.first_lines(error)
    )


def _key(request: Request, form: str) -> tuple[str, str, tuple[bytes, ...]]:
    return (form, request.prompt, request.images)


async def _once(
    request: Request, form: str, make: Callable[[], Coroutine[Any, Any, dict[str, Any]]]
) -> dict[str, Any]:
    """What `make` gives, made once for all requests that share the memo."""
    key = _key(request, form)
    known = request.memo.get(key)
    if known is None:
        known = request.memo[key] = asyncio.ensure_future(make())
    # Shielded: one response that is cancelled must not take it from its siblings.
    found: dict[str, Any] = await asyncio.shield(known)
    return found
