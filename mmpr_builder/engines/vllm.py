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
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from mmpr_builder.config import Config
from mmpr_builder.dropout import cut_tokens, joint
from mmpr_builder.engines import arguments, budgets, models, vllm_internals
from mmpr_builder.engines.rendering import Prompts, Trial, refused, try_prompts
from mmpr_builder.engines.vllm_internals import (
    WHOLE,
    first_lines,
    only_ours,
    send_pictures_once,
)
from mmpr_builder.errors import ConfigError, EngineError, MmprError, RowError
from mmpr_builder.escaping import redacted
from mmpr_builder.extraction import opened_by
from mmpr_builder.records import Continuation, Trace
from mmpr_builder.sampling import Continue, Request, Sample

_TAIL = 16  # Tokens at the end of a prompt in which it may open a thought.
# Seconds for the engine to end by itself before its processes are killed. They hold nothing that is
# not on disk or with us, and take five to ten times as long.
_GRACE_S = 1.0


class VllmSampler:
    """Holds the engine: a process tree with the model in it. Use one per replica; close it."""

    def __init__(self, config: Config) -> None:
        """Load the model. Raises `SetupError` or `EngineError`, quoting vLLM's reason."""
        arguments.check(config)
        arguments.quiet_environment()
        self._hits = Counter[str]()
        prepared = vllm_internals.prepare_forks()
        vllm_config, trial = prepare(config)
        self.notes = trial.notes
        """What the user should know of the prompts."""
        with contextlib.ExitStack() as undone:
            sockets = undone.enter_context(vllm_internals.private_sockets())
            with vllm_internals.environment(**sockets):
                self._engine = _start(config, vllm_config, self._hits, prepared=prepared)
            self._sockets = undone.pop_all()
        only_ours(self._engine)
        self._limit: int = self._engine.model_config.max_model_len
        self._lora = config.lora and vllm_internals.lora_request(models.resolve(config.lora))
        self._tokenizer = self._engine.renderer.get_tokenizer()
        self._numbers = itertools.count()
        try:
            if vllm_internals.image_data_is_kept(self._engine.renderer):
                send_pictures_once(self._engine)
            self._prompts = Prompts(config, self._engine, keeps_budgets=trial.keeps_budgets)
            if config.sampling.traced:
                template = models.template_digest(self._prompts.written)
                self._by = models.reference_of(config, template)
        except BaseException:
            self._engine.shutdown()
            self._sockets.close()
            raise

    @property
    def engine(self) -> Any:
        """The `AsyncLLM` itself, for benchmarks."""
        return self._engine

    def cache_hits(self) -> Counter[str]:
        """See `sampling.HasCaches`."""
        return self._hits.copy()

    async def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
        """See `sampling.Sampler`. Response i has seed `request.seed + i`, vLLM's own numbering."""
        shown = partial(self._prompts.shown, request)
        lead: str | None = None
        how = {"n": request.n, "seed": request.seed + request.first}
        async with contextlib.aclosing(self._completions(request, shown, how)) as stream:
            async for done, output in stream:
                if lead is None:
                    lead = await self._thought_opened(request)
                yield _sample(request, done, len(output.prompt_token_ids), lead)

    async def traced(self, request: Request, sample: Sample) -> Trace:
        """See `sampling.HasReferences`. What was sampled is known; the end of the turn is added."""
        assert sample.trace is not None
        return await self._referenced(request, sample.text, sample.trace, sample.trace.token_ids)

    async def continue_response(
        self, request: Request, sample: Sample, how: Continue
    ) -> Continuation | None:
        """See `sampling.Sampler`. The prefix is cut as tokens, not as text."""
        cut = cut_tokens(sample.token_ids, sample.text, how.keep, self._decode, how.part, how.gap)
        if cut is None:
            return None
        shown = partial(self._prompts.continued, request, cut.ids, image=how.image)
        drawn = {"max_tokens": how.max_tokens, "seed": how.seed}
        made = [found async for found, _ in self._completions(request, shown, drawn)]
        if not made:
            return None
        done = _sample(request, made[0], 0)
        text = joint(cut, done.token_ids, done.text, self._decode)
        # Those of steps are many, and few of them end in pairs: they have no reference.
        trace = done.trace if how.number is None else None
        if trace is not None:
            trace = await self._referenced(request, cut.text + text, trace)
        return how.made(done, cut.text, text, prefix_tokens=len(cut.ids), trace=trace)

    async def _referenced(
        self, request: Request, text: str, trace: Trace, known: tuple[int, ...] = ()
    ) -> Trace:
        """`trace` with its reference. `known` are the tokens behind the shown prompt of which
        `trace` has the sum; where the text's own tokens begin otherwise, all are read again."""
        try:
            ids = await asyncio.to_thread(self._prompts.completion, text)
            if known and tuple(ids[: len(known)]) == known:
                total = trace.logprob
                for place in range(len(known), len(ids)):  # One cached step each.
                    only = {"allowed_token_ids": [ids[place]], "logprobs": 0}
                    done, _ = await self._step(request, ids[:place], only)
                    total += done.cumulative_logprob
            else:
                _, output = await self._step(request, ids, {"prompt_logprobs": 0})
                read = output.prompt_logprobs[len(output.prompt_logprobs) - len(ids) :]
                total = sum(at[one].logprob for at, one in zip(read, ids, strict=True))
        except RowError as error:
            return replace(trace, missing=error.reason, by=self._by)
        return replace(trace, reference=total, by=self._by)

    async def _step(
        self, request: Request, ids: Sequence[int], more: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        """One token behind the shown prompt and `ids`, and the output that it is in."""
        shown = partial(self._prompts.continued, request, ids, image=True)
        how = {"max_tokens": 1, "seed": 0, **more}
        async for found in self._completions(request, shown, how):
            return found
        raise RowError("no_answer", "the engine did not read it")

    async def close(self) -> None:
        """End the engine's processes. Safe to call twice."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.shutdown(timeout=_GRACE_S)
            self._sockets.close()
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
        self,
        request: Request,
        shown: Callable[[], Awaitable[dict[str, Any]]],
        how: Mapping[str, Any],
    ) -> AsyncGenerator[tuple[Any, Any], None]:
        """vLLM's finished completions, each index once, with the output that each is in; `how` has
        sampling parameters of vLLM beside the request's.

        Pictures that were left out may have been displaced from the engine, or be too large for it
        to keep: what failed for that is asked for again, each response with its pictures.
        """
        given: set[int] = set()
        for retry in (False, True):
            prompt = await shown()
            used = len(prompt["prompt_token_ids"])
            params = self._parameters(request, used, how)
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
                        yield done, output
            if not missed:
                return
            self._prompts.forget(request)

    def _parameters(self, request: Request, used: int, how: Mapping[str, Any]) -> Any:
        if used >= self._limit:
            raise RowError(
                "prompt_too_long",
                f"{used} tokens, images included; the context holds {self._limit}"
                " (engine.max_model_len) and must leave room for an answer",
            )
        asked = {
            "n": 1,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "top_k": request.top_k,
            "max_tokens": request.max_tokens,
            "logprobs": 0 if request.logprobs else None,
            **how,
        }
        asked["max_tokens"] = min(asked["max_tokens"], self._limit - used)
        streamed = request.one_by_one and asked["n"] > 1
        return vllm_internals.sampling_parameters(streamed=streamed, **asked)

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
    try:
        given = arguments.engine_arguments(config, cpu=cpu)
        model = AsyncEngineArgs(**given).create_model_config()
        if "max_model_len" not in config.engine:
            given["max_model_len"] = arguments.default_context(config, model.max_model_len, cpu=cpu)
        arguments.check_room(config, model.max_model_len, "as vLLM reads the model")
        room = budgets.engine_arguments(config, model.architectures)
        how = vllm_internals.usage_context()
        vllm_config = AsyncEngineArgs(**given | room).create_engine_config(**how)
        trial = try_prompts(config, vllm_config)
        if room and not trial.keeps_budgets:
            vllm_config = AsyncEngineArgs(**given).create_engine_config(**how)
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


def _start(config: Config, vllm_config: Any, hits: Counter[str], *, prepared: bool) -> Any:
    """The running `AsyncLLM`, whose caches count in `hits` what they save.

    Raises `EngineError` when it does not come up.
    """
    from vllm import AsyncLLMEngine

    try:
        with vllm_internals.forked(prepared=prepared):
            return AsyncLLMEngine.from_vllm_config(
                vllm_config,
                **vllm_internals.usage_context(),
                disable_log_stats=True,
                stat_loggers=vllm_internals.recorder(hits),
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
        trace=Trace(ids, total or 0.0) if request.logprobs == "tokens" else None,
    )


@contextlib.contextmanager
def _translated(engine: Any) -> Iterator[None]:
    """vLLM's errors as ours: what one request caused is a `RowError`, all else `EngineError`."""
    dead, generating = (
        vllm_internals.errors("v1.engine.exceptions", name)
        for name in ("EngineDeadError", "EngineGenerateError")
    )
    try:
        yield
    except vllm_internals.errors("exceptions", "VLLMClientError") as error:
        raise refused(error) from error
    except generating as error:
        if not engine.errored and isinstance(error.__cause__, ValueError):
            raise refused(error.__cause__) from error
        raise EngineError(f"vLLM failed: {first_lines(error.__cause__ or error)}") from error
    except dead as error:
        raise EngineError("the vLLM engine died; its own messages are in the log") from error
