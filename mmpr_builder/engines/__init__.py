"""The engines: vLLM, any OpenAI-compatible server, or earlier rollouts.

    check_engine(config)            before anything is spent: is the engine set up as it should be?
    sampler = make_sampler(config)  a `sampling.Sampler`; vLLM loads its model here
    model_identity(config)          what the answers depend on beyond the settings

Only this folder imports vllm, inside the functions that need it.
"""

from __future__ import annotations

from typing import Any

from mmpr_builder.config import Config
from mmpr_builder.errors import ConfigError
from mmpr_builder.sampling import Sampler

_SPREAD = (
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "distributed_executor_backend",
)
NO_DEVICE = "there is no device for vLLM on this machine: the model's prompts were not tried"


def make_sampler(config: Config) -> Sampler:
    """The sampler that `config.sampling.engine` names, ready to answer.

    With vLLM this loads the model (seconds to minutes; blocking). Raises `SetupError` when the
    engine refuses its arguments, `EngineError` when it does not come up.
    """
    match config.sampling.engine:
        case "vllm":
            from mmpr_builder.engines.vllm import VllmSampler

            return VllmSampler(config)
        case "endpoint":
            from mmpr_builder.engines.endpoint import EndpointSampler

            return EndpointSampler(config)
        case "replay":
            from mmpr_builder.engines.replay import ReplaySampler

            return ReplaySampler(config)


def make_judge(config: Config) -> Sampler | None:
    """The server that compares responses to open questions; None where the engine does it, or
    nothing does. Raises `SetupError` as `make_sampler` does."""
    judge = config.scoring.judge
    if not (judge.open and judge.url):
        return None
    from mmpr_builder.engines.endpoint import EndpointSampler

    same = {"url", "api_key_env", "concurrency", "timeout_s", "retries"}
    endpoint = {**judge.model_dump(include=same), "continuation": "none"}
    asked = {"n": 1, "temperature": 0, "max_tokens": judge.max_tokens, "endpoint": endpoint}
    return EndpointSampler(Config.model_validate({"model": judge.model, "sampling": asked}))


def check_engine(config: Config) -> None:
    """Raise `SetupError` for what cannot work: a wrong key, no such model, no such server.

    Costs no GPU time and does not import vLLM.
    """
    from mmpr_builder.engines import arguments

    sampling = config.sampling
    for name in ("n", "blind"):
        times = getattr(sampling, name)
        if sampling.temperature == 0 and times > 1 and sampling.engine != "replay":
            raise ConfigError(
                f"sampling.temperature = 0 gives the same response {times} times (sampling.{name}):"
                f" set sampling.{name}=1 or a temperature above 0"
            )
    if sampling.traced and sampling.engine == "endpoint":
        raise ConfigError(
            "sampling.logprobs = 'tokens' needs sampling.engine=vllm: servers do not tell what is"
            " asked for; set sampling.logprobs=true, or let vLLM sample here"
        )
    judge = config.scoring.judge
    if judge.open and judge.url:
        from mmpr_builder.engines import llm_judge

        llm_judge.check_sees(judge)
    elif judge.open and judge.model:
        raise ConfigError(
            f"scoring.judge.model = {judge.model!r} is not asked without scoring.judge.url: set it,"
            " or leave the model out to have the engine compare what it sampled"
        )
    match sampling.engine:
        case "vllm":
            arguments.check(config)
        case "endpoint":  # Only these need the client of servers.
            from mmpr_builder.engines import budgets, endpoint

            budgets.check_named(config)
            endpoint.check(config)
        case "replay":
            from mmpr_builder.engines import replay

            replay.check(config)


def check_images(config: Config) -> None:
    """Raise `SetupError` when seeds with images would go to a model that takes none.

    The model's configuration and vLLM's list of models tell; vLLM itself is asked (seconds) of a
    class that is not in its list.
    """
    if config.sampling.engine == "vllm":
        from mmpr_builder.engines import arguments, vllm_internals

        found = None if arguments.check_images(config) else prepared(config)
        if found and not vllm_internals.image_limit(found[0].model_config):
            raise arguments.no_images(config)


def try_model(config: Config) -> tuple[str, ...]:
    """All that can be known of a model without its weights; notes for the user.

    Raises `SetupError` for a model that the engine cannot serve as asked: no model, a package that
    its processor lacks, no chat template, an image budget that it does not keep or hold. Imports
    vLLM (seconds), except for the shipped model.
    """
    from mmpr_builder.engines import budgets

    if config.sampling.engine != "vllm" or (config.model == "demo" and not budgets.wanted(config)):
        return ()
    found = prepared(config)
    return found[1].notes if found else (NO_DEVICE,)


def prepared(config: Config) -> Any:
    """What `vllm.prepare` gives; None on a machine without a device for vLLM."""
    from mmpr_builder.engines import arguments, vllm_internals
    from mmpr_builder.engines.vllm import prepare

    arguments.quiet_environment()
    if not vllm_internals.has_device():
        return None
    # Over how many devices a model is spread changes no prompt, and they may be elsewhere.
    engine = {key: value for key, value in config.engine.items() if key not in _SPREAD}
    return prepare(config.model_copy(update={"engine": engine}))


def model_identity(config: Config) -> dict[str, str]:
    """What decides the answers beyond the settings: the model's files, the replayed rollouts.

    Cheap: hashes configuration files, and only names and sizes of weights.
    """
    from mmpr_builder.engines import models, replay

    match config.sampling.engine:
        case "vllm":
            return models.identity(config)
        case "endpoint":
            return {"model": config.model}
        case "replay":
            return {"model": config.model, **replay.identity(config)}
