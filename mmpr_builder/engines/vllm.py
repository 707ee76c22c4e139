"""vLLM as a sampler: one `AsyncLLM`, many requests at a time, samples as they finish.

vLLM's own renderer applies the model's chat template (rendering.py) and knows how every model
family writes image placeholders; no file here knows a model by name. A continuation is the same
conversation without its images, the assistant's turn left open, then the response's kept tokens:

    <|im_start|>user\\nHow many?<|im_end|>\\n<|im_start|>assistant\\nRow 1: red circle,
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mmpr_builder.config import Config
from mmpr_builder.dropout import cut_tokens, joint
from mmpr_builder.engines import arguments, budgets, models, vllm_internals
from mmpr_builder.engines.rendering import Prompts, Trial, refused, try_prompts
from mmpr_builder.engines.vllm_internals import (
    WHOLE,
    CacheCounter,
    first_lines,
    only_ours,
    send_pictures_once,
)
from mmpr_builder.errors import ConfigError, EngineError, MmprError, RowError
from mmpr_builder.escaping import redacted
from mmpr_builder.extraction import opened_by
from mmpr_builder.records import Continuation
from mmpr_builder.sampling import CacheHits, Continue, Request, Sample

_TAIL = 16  # Tokens at the end of a prompt in which it may open a thought.
# Seconds for the engine to end by itself before its processes are killed. They hold nothing that is
# not on disk or with us, and take five to ten times as long.
_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class _Order:
    """Number of responses to a prompt, their longest length, and the first random seed."""

    n: int
    max_tokens: int
    seed: int


class VllmSampler:
    """Holds the engine: a process tree with the model in it. Use one per replica; close it."""

    def __init__(self, config: Config) -> None:
        """Load the model. Raises `SetupError` or `EngineError`, quoting vLLM's reason."""
        arguments.check(config)
        arguments.quiet_environment()
        self._counter = CacheCounter()
        prepared = vllm_internals.prepare_forks()
        vllm_config, trial = prepare(config)
        self.notes = trial.notes
        """What the user should know of the prompts."""
        self._engine = _start(config, vllm_config, self._counter, prepared=prepared)
        only_ours(self._engine)
        self._limit: int = self._engine.model_config.max_model_len
        self._lora = config.lora and vllm_internals.lora_request(models.resolve(config.lora))
        self._tokenizer = self._engine.renderer.get_tokenizer()
        self._numbers = itertools.count()
        try:
            if vllm_internals.image_data_is_kept(self._engine.renderer):
                send_pictures_once(self._engine)
            self._prompts = Prompts(config, self._engine, keeps_budgets=trial.keeps_budgets)
        except BaseException:
            self._engine.shutdown()
            raise

    @property
    def engine(self) -> Any:
        """The `AsyncLLM` itself, for benchmarks."""
        return self._engine

    def cache_hits(self) -> CacheHits:
        """See `sampling.HasCaches`."""
        return self._counter.total()

    async def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
        """See `sampling.Sampler`. Response i has seed `request.seed + i`, vLLM's own numbering."""

        async def shown() -> dict[str, Any]:
            return await self._prompts.shown(request)

        lead: str | None = None
        order = _Order(request.n, request.max_tokens, request.seed + request.first)
        async with contextlib.aclosing(self._completions(request, shown, order)) as stream:
            async for done, used in stream:
                if lead is None:
                    lead = await self._thought_opened(request)
                yield _sample(request, done, used, lead)

    async def continue_response(
        self, request: Request, sample: Sample, how: Continue
    ) -> Continuation | None:
        """See `sampling.Sampler`. The prefix is cut as tokens, not as text."""
        cut = cut_tokens(sample.token_ids, sample.text, how.keep, self._decode, how.part)
        if cut is None:
            return None

        async def shown() -> dict[str, Any]:
            render = self._prompts.shown if how.image else self._prompts.bare
            whole = await render(request)
            prompt = {key: value for key, value in whole.items() if key != "prompt"}
            prompt["prompt_token_ids"] = [*whole["prompt_token_ids"], *cut.ids]
            return prompt

        order = _Order(1, how.max_tokens, how.seed)
        made = [found async for found, _ in self._completions(request, shown, order)]
        if not made:
            return None
        done = _sample(request, made[0], 0)
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

    async def close(self) -> None:
        """End the engine's processes. Safe to call twice."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.shutdown(timeout=_GRACE_S)
            await asyncio.sleep(0)  # Let the cancelled output task end before the loop does.
        # An engine that is collected at interpreter exit ends in a traceback.
        del engine
        gc.collect()

    async def _thought_opened(self, request: Request) -> str:
        """`<think>` and what follows it at the end of a prompt that opens the thought: responses
        are read, judged and trained on with it. "" where tags are special tokens, which are left
        out of responses, too."""
        prompt = await self._prompts.shown(request)
        return opened_by(self._decode(prompt["prompt_token_ids"][-_TAIL:]))

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    async def _completions(
        self, request: Request, shown: Callable[[], Awaitable[dict[str, Any]]], order: _Order
    ) -> AsyncGenerator[tuple[Any, int], None]:
        """vLLM's finished outputs with the length of the prompt in tokens, each index once.

        Pictures that were left out may have been displaced from the engine, or be too large for it
        to keep: what failed for that is asked for again, each response with its pictures.
        """
        given: set[int] = set()
        for retry in (False, True):
            prompt = await shown()
            used = len(prompt["prompt_token_ids"])
            params = self._parameters(request, used, order)
            missed = False
            name = WHOLE + request.id if retry else request.id
            async with contextlib.aclosing(self._generate(name, prompt, params)) as stream:
                async for output in stream:
                    self._prompts.lighten(request)
                    for done in output.outputs:
                        if done.finish_reason is None or done.index in given:
                            continue
                        if done.finish_reason == "error" and request.images and not retry:
                            missed = True
                            continue
                        given.add(done.index)
                        yield done, used
            if not missed:
                return
            self._prompts.forget(request)

    def _parameters(self, request: Request, used: int, order: _Order) -> Any:
        if used >= self._limit:
            raise RowError(
                "prompt_too_long",
                f"{used} tokens, images included; the context holds {self._limit}"
                " (engine.max_model_len) and must leave room for an answer",
            )
        return vllm_internals.sampling_parameters(
            streamed=request.one_by_one and order.n > 1,
            n=order.n,
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            max_tokens=min(order.max_tokens, self._limit - used),
            seed=order.seed,
            logprobs=0 if request.logprobs else None,
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


def prepare(config: Config) -> tuple[Any, Trial]:
    """vLLM's `VllmConfig` for a model, and what its prompts look like; no weights are loaded.

    Raises `SetupError` for a model that vLLM, or its processor, cannot serve so.
    """
    from vllm import AsyncEngineArgs

    cpu = vllm_internals.runs_on_cpu()
    given = arguments.engine_arguments(config, cpu=cpu)
    try:
        model = AsyncEngineArgs(**given).create_model_config()
        if "max_model_len" not in config.engine:
            given["max_model_len"] = arguments.default_context(config, model.max_model_len, cpu=cpu)
        room = budgets.engine_arguments(config, model.architectures)
        vllm_config = AsyncEngineArgs(**given | room).create_engine_config(
            **vllm_internals.usage_context()
        )
        trial = try_prompts(config, vllm_config)
        if room and not trial.keeps_budgets:
            vllm_config = AsyncEngineArgs(**given).create_engine_config(
                **vllm_internals.usage_context()
            )
        return vllm_config, trial
    except MmprError:
        raise
    except Exception as error:  # A model's own code may fail in any way.
        cause = vllm_internals.cause_of(error)
        raise ConfigError(
            f"vLLM cannot load model = {config.model!r} with engine = {redacted(config.engine)!r}:"
            f" {first_lines(cause)}{_how_to_install(cause)}"
        ) from error


def _how_to_install(cause: BaseException) -> str:
    """The command that brings the package that is missing; "" where it is something else."""
    name = (cause.name or "").partition(".")[0] if isinstance(cause, ModuleNotFoundError) else ""
    # Its ordinary wheel beside CPU torch: "operator torchvision::nms does not exist".
    if vllm_internals.runs_on_cpu() and (name == "torchvision" or "torchvision::" in str(cause)):
        name = f"--force-reinstall --no-deps torchvision --index-url {vllm_internals.CPU_INDEX}"
    return f": run pip install {name}" if name else ""


def _start(config: Config, vllm_config: Any, counter: CacheCounter, *, prepared: bool) -> Any:
    """The running `AsyncLLM`, whose caches tell `counter` what they save.

    Raises `EngineError` when it does not come up.
    """
    from vllm import AsyncLLMEngine

    try:
        with vllm_internals.forked(prepared=prepared):
            return AsyncLLMEngine.from_vllm_config(
                vllm_config,
                **vllm_internals.usage_context(),
                disable_log_stats=True,
                stat_loggers=vllm_internals.recorder(counter),
            )
    except (ValueError, RuntimeError, OSError) as error:
        raise EngineError(
            f"the vLLM engine of model = {config.model!r} did not start: {first_lines(error)}"
            " (its own messages are in the log; VLLM_LOGGING_LEVEL=INFO shows more)"
        ) from error


def _sample(request: Request, done: Any, prompt_tokens: int, lead: str = "") -> Sample:
    ids = tuple(done.token_ids)
    if done.finish_reason not in ("stop", "length"):
        raise EngineError(f"request {request.id!r}: vLLM ended it with {done.finish_reason!r}")
    stopped = done.finish_reason == "stop" and not isinstance(done.stop_reason, str)
    total = done.cumulative_logprob if request.logprobs else None
    return Sample(
        index=request.first + done.index,
        text=lead + done.text,
        tokens=len(ids),
        finish_reason=done.finish_reason,
        seed=request.seed + request.first + done.index,
        logprob=None if total is None or not ids else total / len(ids),
        prompt_tokens=prompt_tokens,
        token_ids=ids[:-1] if stopped else ids,  # The last one is the stop token itself.
    )


@contextlib.contextmanager
def _translated(engine: Any) -> Iterator[None]:
    """vLLM's errors as ours: what one request caused is a `RowError`, all else `EngineError`."""
    kinds = vllm_internals.errors()
    try:
        yield
    except kinds.of_request as error:
        raise refused(error) from error
    except kinds.generating as error:
        if not engine.errored and isinstance(error.__cause__, ValueError):
            raise refused(error.__cause__) from error
        raise EngineError(f"vLLM failed: {first_lines(error.__cause__ or error)}") from error
    except kinds.dead as error:
        raise EngineError("the vLLM engine died; its own messages are in the log") from error
