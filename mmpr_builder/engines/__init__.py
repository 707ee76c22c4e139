"""Who answers: vLLM in this process's care, any OpenAI-compatible server, or earlier rollouts.

    check_engine(config)            before anything is spent: is the engine set up as it should be?
    sampler = make_sampler(config)  a `sampling.Sampler`; vLLM loads its model here
    model_identity(config)          what the answers depend on beyond the settings

This is the only folder that imports vllm, and it does so inside the functions that need it.
"""

from __future__ import annotations

from mmpr_builder.config import Config
from mmpr_builder.errors import ConfigError
from mmpr_builder.sampling import Sampler


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


def check_engine(config: Config) -> None:
    """Raise `SetupError` for what cannot work: a wrong key, no such model, no such server.

    Costs no GPU time and, for vLLM, no import of it.
    """
    sampling = config.sampling
    for name in ("n", "blind"):
        times = getattr(sampling, name)
        if sampling.temperature == 0 and times > 1 and sampling.engine != "replay":
            raise ConfigError(
                f"sampling.temperature = 0 gives the same response {times} times (sampling.{name}):"
                f" set sampling.{name}=1 or a temperature above 0"
            )
    match sampling.engine:
        case "vllm":
            from mmpr_builder.engines import arguments

            arguments.check(config)
        case "endpoint":
            from mmpr_builder.engines import server

            server.check(config)
        case "replay":
            from mmpr_builder.engines import replay

            replay.check(config)


def check_images(config: Config) -> None:
    """Raise `InputError` when seeds with images are to be asked of a model that takes none.

    What neither the model's configuration nor vLLM's list of models tells is found out later.
    """
    if config.sampling.engine == "vllm":
        from mmpr_builder.engines import arguments

        arguments.check_images(config)


def model_identity(config: Config) -> dict[str, str]:
    """What decides the answers beyond the settings: the model's files, the replayed rollouts.

    Cheap: configuration files are hashed, weights are told apart by name and size.
    """
    match config.sampling.engine:
        case "vllm":
            from mmpr_builder.engines.models import identity

            return identity(config)
        case "endpoint":
            return {"model": config.model}
        case "replay":
            from mmpr_builder.engines import replay

            return {"model": config.model, **replay.identity(config)}
