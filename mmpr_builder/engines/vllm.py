"""vLLM as a sampler: one `AsyncLLM`, many requests at a time, samples as they finish.

The prompt is rendered by the model's own chat template, through vLLM's own renderer, which knows
for every model family how content parts and image placeholders are written; this file knows no
model by name. A continuation is the same conversation without its images, the assistant's turn
left open, and the kept tokens of the response behind it:

    <|im_start|>user\\nHow many?<|im_end|>\\n<|im_start|>assistant\\nRow 1: red circle,
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

from mmpr_builder.config import Config
from mmpr_builder.dropout import cut_tokens, joint
from mmpr_builder.engines import arguments, loading
from mmpr_builder.errors import EngineError, RowError
from mmpr_builder.images import open_image
from mmpr_builder.prompts import parts
from mmpr_builder.records import Continuation
from mmpr_builder.sampling import Continue, Request, Sample, without_images

# A stream that speaks only twice, at the first token and at the end: nobody reads along.
_SILENT = 2**30
_GRACE_S = 10.0  # Seconds for the engine to end by itself before its processes are killed.
_PROMPTS_KEPT = 512  # Image-free prompts (token ids) kept for a seed's other responses.


class VllmSampler:
    """Holds the engine: a process tree with the model in it. Use one per replica; close it."""

    def __init__(self, config: Config) -> None:
        """Load the model. Raises `SetupError` or `EngineError`, quoting vLLM's reason."""
        arguments.check(config)
        arguments.quiet_environment()
        self._engine = loading.start(config)
        self._limit: int = self._engine.model_config.max_model_len
        self._images = loading.image_limit(self._engine.model_config)
        self._lora = loading.lora_request(config)
        self._chat, self._tokenize = loading.chat_parameters(config, self._engine)
        self._tokenizer = self._engine.renderer.get_tokenizer()
        self._bare: OrderedDict[str, asyncio.Future[Any]] = OrderedDict()
        self._numbers = itertools.count()
        # Decoded pictures and their tensors are large: only a few prompts are rendered at a time.
        self._rendering = asyncio.Semaphore(max(4, os.cpu_count() or 1))
        try:
            loading.check_template(self._engine.renderer, self._chat, config)
        except BaseException:
            self._engine.shutdown()
            raise

    @property
    def engine(self) -> Any:
        """The `AsyncLLM` itself, for measuring what this class adds to it."""
        return self._engine

    async def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
        """See `sampling.Sampler`. Response i has seed `request.seed + i`, vLLM's own numbering."""
        prompt = await self._prompt(request)
        params = self._parameters(request, prompt, request.n, request.max_tokens, request.seed)
        async for output in self._generate(request.id, prompt, params):
            for done in output.outputs:
                if done.finish_reason is not None:
                    yield _sample(request, done, len(prompt["prompt_token_ids"]))

    async def continue_response(
        self, request: Request, sample: Sample, how: Continue
    ) -> Continuation | None:
        """See `sampling.Sampler`. The prefix is cut and handed on as tokens, not as text."""
        cut = cut_tokens(sample.token_ids, sample.text, how.keep, self._decode)
        if cut is None:
            return None
        shown = await (self._prompt(request) if how.image else self._bare_prompt(request.prompt))
        prompt = {key: value for key, value in shown.items() if key != "prompt"}
        prompt["prompt_token_ids"] = [*shown["prompt_token_ids"], *cut.ids]
        params = self._parameters(request, prompt, 1, how.max_tokens, how.seed)
        async for output in self._generate(request.id, prompt, params):
            done = _sample(request, output.outputs[0], 0)
            return Continuation(
                prefix=cut.text,
                text=joint(cut, done.token_ids, done.text, self._decode),
                tokens=done.tokens,
                finish_reason=done.finish_reason,
                seed=how.seed,
                keep=how.keep,
                image=how.image,
                prefix_tokens=len(cut.ids),
            )
        return None

    async def close(self) -> None:
        """End the engine's processes. Safe to call twice."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.shutdown(timeout=_GRACE_S)
            await asyncio.sleep(0)  # Let the cancelled output task end before the loop does.
        # The engine must not outlive this call: collected at interpreter exit, it ends in a
        # traceback.
        del engine
        gc.collect()

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    async def _prompt(self, request: Request) -> dict[str, Any]:
        if len(request.images) > self._images:
            raise RowError(
                "too_many_images",
                f"{len(request.images)} images, the model is set up for {self._images}:"
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
            return await self._render(content)

    async def _bare_prompt(self, prompt: str) -> dict[str, Any]:
        """The rendered prompt without its images; a seed's responses share one rendering."""
        known = self._bare.get(prompt)
        if known is None:
            content = [{"type": "text", "text": without_images(prompt)}]
            known = self._bare[prompt] = asyncio.ensure_future(self._render(content))
            if len(self._bare) > _PROMPTS_KEPT:
                self._bare.popitem(last=False)
        # Shielded: one response that is cancelled must not take it from its siblings.
        rendered: dict[str, Any] = await asyncio.shield(known)
        return rendered

    async def _render(self, content: list[dict[str, Any]]) -> dict[str, Any]:
        messages = [{"role": "user", "content": content}]
        try:
            _, rendered = await self._engine.renderer.render_chat_async(
                [messages], self._chat, self._tokenize
            )
        except Exception as error:  # A model's own processor may fail in any way.
            raise _refused(error) from error
        prompt: dict[str, Any] = rendered[0]
        return prompt

    def _parameters(
        self, request: Request, prompt: dict[str, Any], n: int, max_tokens: int, seed: int
    ) -> Any:
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        used = len(prompt["prompt_token_ids"])
        if used >= self._limit:
            raise RowError(
                "prompt_too_long",
                f"{used} tokens, images included; the context holds {self._limit}"
                " (engine.max_model_len) and must leave room for an answer",
            )
        streamed = request.one_by_one and n > 1
        return SamplingParams(
            n=n,
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            max_tokens=min(max_tokens, self._limit - used),
            seed=seed,
            logprobs=0 if request.logprobs else None,
            output_kind=(
                RequestOutputKind.CUMULATIVE if streamed else RequestOutputKind.FINAL_ONLY
            ),
            stream_interval=_SILENT if streamed else None,
        )

    async def _generate(
        self, name: str, prompt: dict[str, Any], params: Any
    ) -> AsyncGenerator[Any, None]:
        request_id = f"{name}-{next(self._numbers)}"
        stream = self._engine.generate(prompt, params, request_id, lora_request=self._lora)
        async with contextlib.aclosing(stream):
            with _translated(self._engine):
                async for output in stream:
                    yield output


def _sample(request: Request, done: Any, prompt_tokens: int) -> Sample:
    ids = tuple(done.token_ids)
    if done.finish_reason not in ("stop", "length"):
        raise EngineError(f"request {request.id!r}: vLLM ended it with {done.finish_reason!r}")
    stopped = done.finish_reason == "stop" and not isinstance(done.stop_reason, str)
    total = done.cumulative_logprob if request.logprobs else None
    return Sample(
        index=done.index,
        text=done.text,
        tokens=len(ids),
        finish_reason=done.finish_reason,
        seed=request.seed + done.index,
        logprob=None if total is None or not ids else total / len(ids),
        prompt_tokens=prompt_tokens,
        token_ids=ids[:-1] if stopped else ids,  # The last one is the stop token itself.
    )


@contextlib.contextmanager
def _translated(engine: Any) -> Iterator[None]:
    """vLLM's errors as ours: what one request caused is a `RowError`, all else `EngineError`."""
    from vllm.exceptions import VLLMClientError
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    try:
        yield
    except VLLMClientError as error:
        raise _refused(error) from error
    except EngineGenerateError as error:
        if not engine.errored and isinstance(error.__cause__, ValueError):
            raise _refused(error.__cause__) from error
        raise EngineError(
            f"vLLM failed: {loading.first_lines(error.__cause__ or error)}"
        ) from error
    except EngineDeadError as error:
        raise EngineError("the vLLM engine died; its own messages are in the log") from error


def _refused(error: BaseException) -> RowError:
    too_long = getattr(error, "parameter", None) in ("input_tokens", "input_text")
    return RowError("prompt_too_long" if too_long else "prompt_refused", loading.first_lines(error))
