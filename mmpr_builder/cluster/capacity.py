"""How many engines a cluster holds: what one needs, against the nodes that are there now.

    Shape(gpus=2)     on nodes with 8, 8 and 3 GPUs  -> 9 engines: the odd GPU is left over
    Shape(per_node)   vLLM on CPUs                   -> one on each node: it takes all cores
    Shape(stages=2)   pipeline parallel over nodes   -> GPU groups / stages

Nodes come and go while a build runs. All functions but `alive_nodes` are pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from mmpr_builder.config import Config


@dataclass(frozen=True, slots=True)
class Node:
    """A living node of the cluster with all its resources, in use or not."""

    id: str
    gpus: int
    cpus: int


@dataclass(frozen=True, slots=True)
class Shape:
    """What one engine needs; the same for all engines of a run."""

    gpus: int = 0
    """GPUs on one node; 0: it computes on CPUs or elsewhere."""
    stages: int = 1
    """Groups of `gpus` that may lie on different nodes (pipeline parallel)."""
    per_node: bool = False
    """At most one on a node: vLLM on CPUs binds all its cores."""

    def __str__(self) -> str:
        if not self.gpus:
            return "a node with CPUs"
        gpus = f"{self.gpus} GPU{'' if self.gpus == 1 else 's'} on one node"
        return gpus if self.stages == 1 else f"{self.stages} times {gpus}"


def engine_shape(config: Config, nodes: Sequence[Node]) -> Shape:
    """What one engine of this build needs.

    GPUs if the cluster has some or vLLM is not its CPU build: nodes with GPUs may still come.
    Only pipeline stages can lie on several nodes, and not with
    engine.distributed_executor_backend=mp.
    """
    if config.sampling.engine != "vllm":
        return Shape()
    if not any(node.gpus for node in nodes) and _is_cpu_build():
        return Shape(per_node=True)
    sizes = {kind: _size(config, kind) for kind in ("tensor", "data", "prefill_context")}
    together = sizes["tensor"] * sizes["data"] * sizes["prefill_context"]
    stages = _size(config, "pipeline")
    if config.engine.get("distributed_executor_backend", "ray") != "ray":
        return Shape(together * stages)
    return Shape(together, stages)


def capacity(shape: Shape, nodes: Sequence[Node]) -> int:
    """Engines of this shape that the nodes can hold without other users."""
    if shape.gpus and shape.stages == 1:  # Each holds a core, too.
        return sum(min(node.gpus // shape.gpus, node.cpus) for node in nodes)
    if shape.gpus:
        return sum(node.gpus // shape.gpus for node in nodes) // shape.stages
    with_cpus = sum(node.cpus > 0 for node in nodes)
    # More engines do not speed up an endpoint or a replay.
    return with_cpus if shape.per_node else min(1, with_cpus)


def alive_nodes() -> tuple[Node, ...]:
    """The nodes that the connected Ray reports as alive."""
    import ray

    return tuple(
        Node(
            node["NodeID"],
            int(node["Resources"].get("GPU", 0)),
            int(node["Resources"].get("CPU", 0)),
        )
        for node in ray.nodes()
        if node["Alive"]
    )


def _size(config: Config, kind: str) -> int:
    size = config.engine.get(f"{kind}_parallel_size", 1)
    return size if isinstance(size, int) and size > 0 else 1


def _is_cpu_build() -> bool:
    """Whether the installed vLLM is made for CPUs, without importing it."""
    try:
        return "cpu" in version("vllm")
    except PackageNotFoundError:
        return True
