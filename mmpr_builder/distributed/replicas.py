"""The engines of a run as Ray actors: how many, with which resources, started and ended."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from mmpr_builder.config import Config
from mmpr_builder.distributed.actors import Counts, SamplerActor, SamplerFactory
from mmpr_builder.distributed.units import Work
from mmpr_builder.errors import SetupError

_KEYS: Iterator[int] = itertools.count()
_CLOSE_S = 30.0


@dataclass(eq=False)
class Replica:
    """One actor with its engine, and what it is working on."""

    actor: Any
    started: Any
    """Reference to the result of `start`; None once the engine is there."""
    open: dict[Any, tuple[int, Work]] = field(default_factory=dict)
    """Result reference -> (key, work)."""
    progress_ref: Any = None
    progress: dict[int, Counts] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        return self.started is None

    @property
    def works(self) -> list[Work]:
        return [work for _, work in self.open.values()]

    def submit(self, work: Work) -> None:
        key = next(_KEYS)
        self.open[self.actor.sample.remote(key, work.unit, work.rows)] = (key, work)

    def poll(self) -> Counts:
        """What the open work has so far, as of the last answer; asks for the next one."""
        import ray

        if self.progress_ref is not None and ray.wait([self.progress_ref], timeout=0)[0]:
            # If it died meanwhile, the run hears of that through the open work.
            with suppress(ray.exceptions.RayError):
                self.progress.update(ray.get(self.progress_ref))
            self.progress_ref = None
        if self.progress_ref is None and self.ready:
            self.progress_ref = self.actor.progress.remote()
        # An answer may be older or newer than a result under way: work counts here from its first
        # figure until its result is in, and then elsewhere.
        open_keys = {key for key, _ in self.open.values()}
        self.progress = {key: counts for key, counts in self.progress.items() if key in open_keys}
        return sum(self.progress.values(), Counts())


def start_replica(config: Config, factory: SamplerFactory) -> Replica:
    """Start an actor and begin to load its engine. Ray itself never restarts or retries it."""
    import ray

    remote = ray.remote(SamplerActor).options(
        num_cpus=1,
        num_gpus=gpus_per_replica(config),
        max_restarts=0,
        max_task_retries=0,
        max_concurrency=1000,  # Only calls wait here; the actor's seats bound the real work.
    )
    actor = remote.remote(config, factory)
    return Replica(actor, actor.start.remote())


def close_replicas(replicas: list[Replica]) -> None:
    """Shut engines down in good order, and end those that do not answer."""
    import ray

    closing = [replica.actor.close.remote() for replica in replicas if replica.ready]
    if closing:
        ray.wait(closing, num_returns=len(closing), timeout=_CLOSE_S)
    for replica in replicas:
        ray.kill(replica.actor)


def gpus_per_replica(config: Config) -> int:
    """GPUs that one engine spans; 0 where the cluster has none or the engine is elsewhere."""
    import ray

    if config.sampling.engine != "vllm" or not ray.cluster_resources().get("GPU"):
        return 0
    sizes = (config.engine.get(f"{kind}_parallel_size", 1) for kind in ("tensor", "pipeline"))
    tensor, pipeline = (size if isinstance(size, int) else 1 for size in sizes)
    return tensor * pipeline


def replica_count(config: Config) -> int:
    """Engines to run. Raises `SetupError` when the cluster has too few GPUs for them."""
    import ray

    gpus = int(ray.cluster_resources().get("GPU", 0))
    each = gpus_per_replica(config)
    wanted = config.distributed.replicas
    if each == 0:
        return 1 if wanted == "auto" else wanted
    if each > gpus:
        raise SetupError(
            f"one engine needs {each} GPUs (engine.tensor_parallel_size), but Ray has {gpus}:"
            " lower it, or use a larger cluster (distributed.address)"
        )
    if wanted == "auto":
        return gpus // each
    if wanted * each > gpus:
        raise SetupError(
            f"distributed.replicas = {wanted} engines of {each} GPUs need {wanted * each},"
            f" but Ray has {gpus}: set distributed.replicas={gpus // each} or auto"
        )
    return wanted
