"""The vLLM engine's arguments: which keys there are, and our defaults.

vLLM gets `config.engine` as it is, but for three keys that belong to its server: `chat_template`
(a file or the template itself), `chat_template_content_format` and `chat_template_kwargs`.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmpr_builder.config import Config
from mmpr_builder.engines import budgets, models, vllm_internals
from mmpr_builder.errors import ConfigError, InputError

CHAT_KEYS = ("chat_template", "chat_template_content_format", "chat_template_kwargs")

CONTEXT, CPU_CONTEXT = 32_768, 8_192
"""Longest prompt + response in tokens unless `engine.max_model_len` is set. Models announce 128 k
and more, whose cache does not fit a small GPU; questions with their images and responses of 4,096
tokens are far shorter."""

PROMPT_ROOM = 4_096
"""Tokens that the default context leaves for the prompt."""

CPU_CACHE_BYTES = 2 * 2**30
"""KV cache without a GPU; vLLM's own default takes most of the memory."""

CPU_BLOCK = 32
"""Tokens in a block of the KV cache without a GPU, the least that vLLM's CPU attention takes. The n
responses to a prompt share whole blocks: with vLLM's own 128 a short prompt is read n times."""

_QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "PYTHONWARNINGS": "ignore::FutureWarning",
}

_OURS = {
    "model": "set `model` beside `engine`, not in it",
    "enable_lora": "set `lora` to the adapter's folder",
    "seed": "set `sampling.seed`; each response has its own",
    "skip_tokenizer_init": "text is needed",
    "tokens_only": "text is needed",
    "runner": "only generation is of use here",
    "convert": "only generation is of use here",
}


def check(config: Config) -> None:
    """Raise `SetupError` for a missing vLLM, an unknown key, or a model that is not there."""
    keys = engine_keys()
    for key, value in config.engine.items():
        if key in _OURS:
            raise ConfigError(f"engine.{key} = {value!r} cannot be set: {_OURS[key]}")
        if keys and key not in keys:
            near = difflib.get_close_matches(key, keys, n=1, cutoff=0.0)
            raise ConfigError(
                f"engine.{key} = {value!r}: vLLM has no such engine argument;"
                f" the nearest one is {near[0]!r}"
            )
    mode = config.engine.get("logprobs_mode", "raw_logprobs")
    if config.sampling.traced and mode != "raw_logprobs":
        raise ConfigError(
            f"engine.logprobs_mode = {mode!r}: sampling.logprobs = 'tokens' needs 'raw_logprobs'"
        )
    budgets.check(config, _architectures(config))
    chat_template(config)
    models.check(config.model, revision=config.engine.get("revision"))
    if config.lora is not None:
        models.check(config.lora, setting="lora")
    _check_lengths(config)


def _check_lengths(config: Config) -> None:
    """Refuse responses longer than the model's whole context, where its configuration tells it."""
    found = models.read_config(config.model, config.engine.get("revision"))
    within = (found.get("text_config"), found.get("llm_config"))
    text = next((one for one in within if isinstance(one, dict) and one), found)
    own, scaling = (
        text.get("max_position_embeddings"),
        text.get("rope_scaling") or text.get("rope_parameters"),
    )
    factor = scaling.get("factor") if isinstance(scaling, dict) else None
    if isinstance(own, int) and isinstance(factor, int | float) and 1 < factor < 1e6 and own < 1e12:
        own = int(own * factor)
    context = config.engine.get("max_model_len") or own
    if isinstance(context, int):
        where = "engine.max_model_len" if context != own else "the model's configuration"
        check_room(config, context, where)


def check_room(config: Config, context: int, where: str) -> None:
    """Raise `ConfigError` where responses alone may fill the context.

    The default length may be just that: it ends where the context does.
    """
    for section, settings in (("sampling", config.sampling), ("dropout", config.dropout)):
        longest = settings.max_tokens or 0
        least = longest + ("max_tokens" in settings.model_fields_set)
        if 0 < context < least:
            raise ConfigError(
                f"{section}.max_tokens = {longest:,} leaves no room for a prompt in the whole"
                f" context of {context:,} tokens ({where}): set less"
            )


def engine_keys() -> list[str]:
    """All keys that `config.engine` may have, sorted; [] where this vLLM does not list them."""
    public = {name for name in vllm_internals.argument_names() if not name.startswith("_")}
    return sorted((public - _OURS.keys()) | set(CHAT_KEYS)) if public else []


def check_images(config: Config) -> bool:
    """Raise `SetupError` when the model, or its settings, take no images.

    Returns whether vLLM's list has the model's class, so that this is certain.
    """
    limits = config.engine.get("limit_mm_per_prompt")
    if isinstance(limits, dict) and limits.get("image") == 0:
        raise ConfigError(
            f"engine.limit_mm_per_prompt = {limits!r} allows no image, and the seeds have"
            " images: raise its `image`, or give seeds without images"
        )
    architectures = set(_architectures(config))
    known = vllm_internals.models_by_kind()
    text_only = known["_TEXT_GENERATION_MODELS"] - known["_MULTIMODAL_MODELS"]
    if architectures and text_only.issuperset(architectures):
        raise no_images(config)
    return not architectures or bool(architectures & known["_MULTIMODAL_MODELS"])


def no_images(config: Config) -> InputError:
    """What is said of a model that takes no images."""
    return InputError(
        f"model = {config.model!r} ({', '.join(_architectures(config))}) takes no images, and the"
        " seeds have images: give a vision-language model, or seeds without images"
    )


def _architectures(config: Config) -> list[str]:
    """The classes that a model's configuration names; [] where it cannot be read."""
    overrides = config.engine.get("hf_overrides")
    found = models.read_config(config.model, config.engine.get("revision"))
    if isinstance(overrides, dict):
        found = {**found, **overrides}
    names = found.get("architectures")
    return [str(name) for name in names] if isinstance(names, list) else []


def quiet_environment() -> None:
    """Have vLLM log errors only, to stderr, and report no usage, unless the user decided otherwise.

    Must run before vllm is imported; the engine's own processes inherit it.
    """
    if "VLLM_LOGGING_LEVEL" not in os.environ:
        # vLLM sets its loggers up late: while it is imported only this counts.
        logging.getLogger("vllm").setLevel(logging.ERROR)
    for key, value in _QUIET.items():
        os.environ.setdefault(key, value)


def engine_arguments(config: Config, *, cpu: bool) -> dict[str, Any]:
    """Keyword arguments of vLLM's `AsyncEngineArgs`: the user's over our defaults."""
    given = {key: value for key, value in config.engine.items() if key not in CHAT_KEYS}
    return {
        "model": models.resolve(config.model),
        **dict(_defaults(config, given, cpu=cpu)),
        **given,
    }


def default_context(config: Config, own: int, *, cpu: bool) -> int:
    """Tokens of context for a model that could take `own`."""
    usual = CPU_CONTEXT if cpu else CONTEXT
    return min(own, max(usual, config.sampling.max_tokens + PROMPT_ROOM))


def chat_template(config: Config) -> str | None:
    """The text of `engine.chat_template`, which is a file or the template itself."""
    value = config.engine.get("chat_template")
    if value is None:
        return None
    text = str(value)
    if "{" in text:
        return text
    try:
        return Path(text).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"engine.chat_template = {text!r} cannot be read ({error}): give a Jinja file"
        ) from None


def _defaults(config: Config, given: dict[str, Any], *, cpu: bool) -> Iterator[tuple[str, Any]]:
    yield "disable_log_stats", True
    yield "use_tqdm_on_load", False
    # Images stay where the question puts them, also where a template takes plain text.
    yield "interleave_mm_strings", True
    # Memory is reserved for the largest input of every kind a model takes; a video's is huge.
    yield "limit_mm_per_prompt", {"video": 0, "audio": 0}
    if given.get("pipeline_parallel_size", 1) > 1:
        # Its stages may lie on several nodes: the actor comes with a placement group.
        yield "distributed_executor_backend", "ray"
    elif given.get("tensor_parallel_size", 1) > 1:
        # Inside a Ray actor vLLM would hand its workers to Ray.
        yield "distributed_executor_backend", "mp"
    if config.lora is not None:
        yield "enable_lora", True
        # Rounded up to one that vLLM has kernels for; its own default is 16.
        rank = int(models.read_config(config.lora, file="adapter_config.json").get("r", 16))
        sizes = (8, 16, 32, 64, 128, 256, 320, 512)
        yield "max_lora_rank", next((size for size in sizes if size >= rank), rank)
    if cpu:
        # Compiling takes longer than it saves. Chunked prefill with seeds kills the CPU engine
        # ("CPU Generator does not use offset"); without it vLLM makes the longest prompt fit.
        yield "enforce_eager", True
        yield "enable_chunked_prefill", False
        yield "block_size", CPU_BLOCK
        sized = {"kv_cache_memory_bytes", "gpu_memory_utilization"} & given.keys()
        if not sized and not os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
            yield "kv_cache_memory_bytes", CPU_CACHE_BYTES
