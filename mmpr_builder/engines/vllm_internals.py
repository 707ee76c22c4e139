"""Loading a model into vLLM: the engine, how it is spoken to, and what is wrong when it is not."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any

from mmpr_builder.config import Config
from mmpr_builder.engines import arguments, budgets, models
from mmpr_builder.errors import ConfigError, EngineError, InputError
from mmpr_builder.escaping import redacted
from mmpr_builder.sampling import CacheHits

# ---- caches
# What the engine's caches save: counted by vLLM's own statistics, step by step.
#
#     prefix   prompt tokens looked up in the KV cache, and found there: computed before
#     image    pictures whose processed form was looked up in the front end's cache, and found
#
# A round after the first asks for neither its picture's processing (the prompt is kept rendered)
# nor
# its encoding (the cached prefix covers the image tokens), so later rounds show as prefix hits.


class CacheCounter:
    """Sums up what `recorder` is told."""

    def __init__(self) -> None:
        self._prefix = [0, 0]
        self._image = [0, 0]

    def add(self, prefix: Any, image: Any) -> None:
        """Add one step's statistics; each has `queries` and `hits`, or is None."""
        for sums, found in ((self._prefix, prefix), (self._image, image)):
            if found is not None:
                sums[0] += found.queries
                sums[1] += found.hits

    def total(self) -> CacheHits:
        """All so far."""
        return CacheHits(*self._prefix, *self._image)


def recorder(counter: CacheCounter) -> Any:
    """What vLLM takes in `stat_loggers`: a class whose instances tell the counter."""
    from vllm.v1.metrics.loggers import StatLoggerBase

    class Recorder(StatLoggerBase):  # type: ignore[misc]
        def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
            pass

        def record(
            self,
            scheduler_stats: Any,
            iteration_stats: Any,
            mm_cache_stats: Any = None,
            engine_idx: int = 0,
        ) -> None:
            prefix = None if scheduler_stats is None else scheduler_stats.prefix_cache_stats
            counter.add(prefix, mm_cache_stats)

        def log_engine_initialized(self) -> None:
            pass

    return Recorder


def only_ours(engine: Any) -> None:
    """Take off what comes with every recorder and costs time at every token: vLLM's Prometheus
    exporter, which nobody asks, and the times it shows."""
    from vllm.v1.metrics.loggers import PrometheusStatLogger

    manager = engine.logger_manager
    manager.stat_loggers = [
        logger for logger in manager.stat_loggers if not isinstance(logger, PrometheusStatLogger)
    ]
    # Times of every request at every token are a third of what the front end does, and nobody reads
    # them; what the engine's own process counts comes all the same. A handler that runs already has
    # taken the old setting along: the first request starts another.
    engine.log_stats = engine.output_processor.log_stats = False
    if engine.output_handler is not None:
        engine.output_handler.cancel()
        engine.output_handler = None


def start(config: Config, counter: CacheCounter) -> Any:
    """The running `AsyncLLM`, whose caches tell `counter` what they save.

    Raises `ConfigError`, or `EngineError` when it does not come up.
    """
    from vllm import AsyncEngineArgs
    from vllm.platforms import current_platform
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    cpu = current_platform.is_cpu()
    given = arguments.engine_arguments(config, cpu=cpu)
    try:
        model = AsyncEngineArgs(**given).create_model_config()
        given |= budgets.engine_arguments(config, model.architectures)
        if "max_model_len" not in config.engine:
            given["max_model_len"] = arguments.default_context(config, model.max_model_len, cpu=cpu)
        settings = AsyncEngineArgs(**given)
        # Only under this name does vLLM take its settings for throughput (on an H100 1,024
        # sequences in batches of 16,384 tokens instead of 128 and 2,048).
        vllm_config = settings.create_engine_config(UsageContext.LLM_CLASS)
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise ConfigError(
            f"vLLM cannot load model = {config.model!r} with engine = {redacted(config.engine)!r}:"
            f" {first_lines(error)}"
        ) from error
    try:
        return AsyncLLM.from_vllm_config(
            vllm_config,
            usage_context=UsageContext.LLM_CLASS,
            disable_log_stats=True,
            stat_loggers=[recorder(counter)],
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise EngineError(
            f"the vLLM engine of model = {config.model!r} did not start: {first_lines(error)}"
            " (its own messages are in the log; VLLM_LOGGING_LEVEL=INFO shows more)"
        ) from error


def chat_parameters(config: Config, engine: Any) -> tuple[Any, Any]:
    """How messages become text, and text becomes tokens: as in vLLM's own server.

    In particular no special tokens are added to what a chat template wrote: it writes its own.
    """
    from vllm.renderers import ChatParams
    from vllm.utils.mistral import is_mistral_tokenizer

    renderer = engine.renderer
    chat = ChatParams(
        chat_template=arguments.chat_template(config),
        chat_template_content_format=config.engine.get("chat_template_content_format", "auto"),
        chat_template_kwargs={
            **config.engine.get("chat_template_kwargs", {}),
            "add_generation_prompt": True,
            "continue_final_message": False,
            "tokenize": is_mistral_tokenizer(renderer.tokenizer),
        },
    )
    return chat, replace(renderer.default_chat_tok_params, add_special_tokens=False)


def check_template(renderer: Any, chat: Any, config: Config) -> None:
    """Render one message, so that a model without a chat template is found out at once."""
    from vllm.exceptions import VLLMError

    try:
        renderer.render_messages([{"role": "user", "content": "?"}], chat)
    except (ValueError, VLLMError) as error:
        raise InputError(
            f"model = {config.model!r} cannot be asked: {first_lines(error)}: give a Jinja"
            " chat template with engine.chat_template=FILE"
        ) from error


def keep_budgets_from_videos(renderer: Any) -> None:
    """Have InternVL's processor build no video processor, which refuses a picture's budget.

    vLLM 0.30 to 0.32 build both with the arguments of a request. No request here has a video.
    """
    if renderer.mm_processor is not None and hasattr(renderer.mm_processor.info, "ctx_video_token"):
        renderer.mm_processor.info.ctx_video_token = None


def image_limit(model_config: Any) -> int:
    """Images that one prompt may hold; 0 for a model that takes none."""
    found = model_config.multimodal_config
    return 0 if found is None else int(found.get_limit_per_prompt("image"))


def lora_request(config: Config) -> Any:
    """What names the LoRA adapter in each request; None without one."""
    if config.lora is None:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest("adapter", 1, models.resolve(config.lora))


def first_lines(error: BaseException) -> str:
    """An error's text on one line, at most 500 characters of it."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 500 else text[:500] + " …"


def image_data_is_kept(renderer: Any) -> bool:
    """Whether the engine's process keeps the processed pictures that it was sent, by their hash.

    Then a further request may leave them out, and is answered with an error in the rare case that
    they were displaced meanwhile.
    """
    from vllm.multimodal.cache.lru import LruKeyReplicatedSenderCache

    return isinstance(renderer.mm_processor_cache, LruKeyReplicatedSenderCache)


# ---- sending
# A picture's tensors go to the engine once per request, not once per response.
#
#     n = 32:   [tensors] [-] [-] [-] … [-]        instead of        [tensors] [tensors] … [tensors]
#
# vLLM makes one request of its own for each response, and sends each with the processed pictures,
# megabytes of them, although the engine's process keeps what it was sent, by its hash. Here only
# the
# first one of a request has them.


WHOLE = "whole-"
"""Requests whose name begins so are sent as vLLM does it, each response with its pictures."""

_KNOWN = 1024  # Requests whose responses are remembered; they leave in one go, so few would do.


def send_pictures_once(engine: Any) -> None:
    """Change how `engine` (an `AsyncLLM` whose process keeps pictures) sends its requests."""
    if engine.vllm_config.parallel_config.data_parallel_size == 1:  # Else siblings go apart.
        engine.engine_core.add_request_async = _Once(engine.engine_core.add_request_async)


class _Once:
    """Stands before `AsyncMPClient.add_request_async`."""

    def __init__(self, send: Any) -> None:
        self._send = send
        self._light: OrderedDict[str, list[Any]] = OrderedDict()

    async def __call__(self, request: Any) -> None:
        name = request.external_req_id
        if request.mm_features and name is not None and not name.startswith(WHOLE):
            if name in self._light:
                request.mm_features = self._light[name]
            else:
                self._light[name] = [replace(f, data=None) for f in request.mm_features]
                if len(self._light) > _KNOWN:
                    self._light.popitem(last=False)
        await self._send(request)
