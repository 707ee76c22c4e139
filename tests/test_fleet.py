"""As many engines as the nodes hold, while nodes come and go and starts fail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fake_samplers
import pytest

from mmpr_builder.cluster.capacity import Node, Shape, capacity, engine_shape
from mmpr_builder.cluster.replicas import bundles
from mmpr_builder.config import load_config
from mmpr_builder.engines.arguments import engine_arguments
from mmpr_builder.errors import EngineError, SetupError
from mmpr_builder.progress import Progress
from mmpr_builder.runs import fleet

# --- how many engines fit -------------------------------------------------------------------


def gpu_nodes(*gpus: int) -> list[Node]:
    return [Node(f"n{i}", count, 8) for i, count in enumerate(gpus)]


@pytest.mark.parametrize(
    ("shape", "nodes", "engines"),
    [
        (Shape(1), gpu_nodes(8, 8), 16),
        (Shape(2), gpu_nodes(8, 3, 1), 5),  # GPUs left over on two nodes do not make an engine.
        (Shape(4), gpu_nodes(2, 2), 0),
        (Shape(1), [Node("n", 8, 3)], 3),
        (Shape(8, stages=2), gpu_nodes(8, 8, 8), 1),
        (Shape(per_node=True), gpu_nodes(0, 0, 0), 3),
        (Shape(per_node=True), [Node("head", 0, 0), Node("n", 0, 4)], 1),
        (Shape(), gpu_nodes(0, 0), 1),
        (Shape(), [], 0),
    ],
)
def test_engines_are_counted_node_by_node(shape: Shape, nodes: list[Node], engines: int) -> None:
    assert capacity(shape, nodes) == engines


@pytest.mark.parametrize(
    ("overrides", "gpus", "shape"),
    [
        ([], 8, Shape(1)),
        ([], 0, Shape(per_node=True)),
        (["engine.tensor_parallel_size=4"], 8, Shape(4)),
        (["engine.tensor_parallel_size=4", "engine.pipeline_parallel_size=2"], 8, Shape(4, 2)),
        (
            ["engine.pipeline_parallel_size=2", "engine.distributed_executor_backend=mp"],
            8,
            Shape(2),
        ),
        (["sampling.engine=endpoint"], 8, Shape()),
    ],
)
def test_what_an_engine_needs_follows_from_its_parallel_sizes(
    overrides: list[str], gpus: int, shape: Shape
) -> None:
    assert engine_shape(load_config(None, overrides), gpu_nodes(gpus)) == shape


def test_a_cuda_build_of_vllm_waits_for_gpus_where_none_is_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mmpr_builder.cluster.capacity._is_cpu_build", lambda: False)
    assert engine_shape(load_config(None), gpu_nodes(0)) == Shape(1)


def test_pipeline_stages_get_bundles_of_one_gpu_as_vllm_asks() -> None:
    assert bundles(Shape(2, stages=2)) == [{"GPU": 1, "CPU": 1}, {"GPU": 1}, {"GPU": 1}, {"GPU": 1}]


@pytest.mark.parametrize(
    ("sizes", "backend"),
    [
        (["engine.tensor_parallel_size=2"], "mp"),
        (["engine.tensor_parallel_size=2", "engine.pipeline_parallel_size=2"], "ray"),
        (["engine.pipeline_parallel_size=2", "engine.distributed_executor_backend=mp"], "mp"),
        ([], None),
    ],
)
def test_only_pipeline_stages_leave_their_node(sizes: list[str], backend: str | None) -> None:
    arguments = engine_arguments(load_config(None, sizes), cpu=True)
    assert arguments.get("distributed_executor_backend") == backend


# --- the fleet, without a Ray ---------------------------------------------------------------


class FakeReplica:
    """Stands for an actor: waits, is placed, or has its engine."""

    def __init__(self, nodes: Sequence[Node], aimed_at: str | None) -> None:
        self.nodes_then = frozenset(node.id for node in nodes)
        self.aimed_at = aimed_at
        self.node: str | None = None
        self.started: object = object()
        self.ended = False
        self.died_idle = False

    @property
    def ready(self) -> bool:
        return self.started is None

    @property
    def placed(self) -> bool:
        return self.node is not None

    def end(self) -> None:
        self.ended = True


class FakeCluster:
    """What Ray would say of its nodes, a clock, and a fleet on them."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        nodes: list[Node],
        *words: str,
        alone: bool = False,
    ) -> None:
        self.nodes = nodes
        self.now = 100.0
        self.notes: list[str] = []
        progress = Progress()
        monkeypatch.setattr(progress, "note", self.notes.append)
        monkeypatch.setattr(fleet, "alive_nodes", lambda: tuple(self.nodes))
        monkeypatch.setattr(fleet, "start_replica", lambda *words: FakeReplica(*words[3:]))
        config = load_config(None, list(words))
        self.fleet = fleet.Fleet(
            config, fake_samplers.answers, progress, lambda: self.now, alone=alone
        )

    @property
    def replicas(self) -> list[Any]:
        return self.fleet.replicas

    def tend(self, useful: int = 99) -> list[Any]:
        self.now += 6
        self.fleet.tend(useful)
        return self.replicas

    def all_start(self) -> None:
        for replica in self.replicas:
            replica.node = self.nodes[0].id
            if not replica.ready:
                self.fleet.on_started(replica, 2.0, "")


def test_there_are_never_more_engines_than_work(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster(monkeypatch, gpu_nodes(8))
    assert len(cluster.tend(useful=3)) == 3


def test_a_fixed_number_of_engines_is_asked_for_and_starts_as_nodes_join(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = FakeCluster(monkeypatch, gpu_nodes(1), "distributed.replicas=4")
    assert len(cluster.tend()) == 4
    assert "others start as nodes join" in cluster.notes[0]


def test_engines_on_cpus_get_a_node_each(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster(monkeypatch, gpu_nodes(0, 0))
    assert [replica.aimed_at for replica in cluster.tend()] == ["n0", "n1"]
    cluster.nodes = gpu_nodes(0, 0, 0)
    assert [replica.aimed_at for replica in cluster.tend()] == ["n0", "n1", "n2"]


def test_too_few_gpus_for_one_engine_are_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster(monkeypatch, gpu_nodes(2, 1), "engine.tensor_parallel_size=4")
    with pytest.raises(SetupError, match=r"4 GPUs on one node.* have 2 \+ 1: lower"):
        cluster.tend()


def test_nodes_that_are_still_to_come_are_waited_for_if_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["engine.tensor_parallel_size=4", "distributed.wait_s=60"]
    cluster = FakeCluster(monkeypatch, gpu_nodes(2), *words)
    for _ in range(9):
        assert len(cluster.tend()) == 1, "one is asked for: an autoscaler acts upon that"
    cluster.nodes = gpu_nodes(2, 8)
    assert len(cluster.tend()) == 2


@pytest.mark.parametrize("words", [[], ["distributed.wait_s=60"]])
def test_a_private_ray_that_lost_its_only_node_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    cluster = FakeCluster(monkeypatch, gpu_nodes(1), *words, alone=True)
    cluster.tend()
    cluster.all_start()
    cluster.fleet.end(cluster.replicas[0])
    cluster.nodes = []
    with pytest.raises(EngineError, match=r"lost its only node.*run again to go on"):
        cluster.tend()


def test_a_cluster_that_lost_its_gpus_is_waited_for_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = FakeCluster(monkeypatch, gpu_nodes(1))
    cluster.tend()
    cluster.all_start()
    cluster.fleet.end(cluster.replicas[0])
    cluster.nodes = []
    cluster.tend()
    assert cluster.fleet.state() == "waiting for 1 GPU on one node"
    assert "waiting up to 1800 s" in cluster.notes[-1]
    cluster.now += 1800
    with pytest.raises(EngineError, match="run again to go on"):
        cluster.tend()


def test_places_on_nodes_that_left_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster(monkeypatch, gpu_nodes(2, 2))
    lost = cluster.tend()[2:]
    cluster.replicas[0].node = cluster.replicas[1].node = "n0"
    cluster.nodes = gpu_nodes(2)
    assert len(cluster.tend()) == 2
    assert all(replica.ended for replica in lost)


def test_an_engine_that_died_without_work_is_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster(monkeypatch, gpu_nodes(2))
    cluster.tend()
    cluster.all_start()
    dead, other = cluster.replicas
    dead.died_idle = True
    assert cluster.tend(useful=1) == [other], "one is enough for what is left"
    assert dead.ended
    assert len(cluster.tend()) == 2


def test_a_start_aimed_at_a_dying_node_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster(monkeypatch, gpu_nodes(1, 1))
    for _ in range(5):
        (first, *_) = cluster.tend()
        cluster.nodes = [Node(f"next{cluster.now}", 1, 8), cluster.nodes[0]]
        cluster.fleet.died_early(first, "the node is gone")
    assert len(cluster.tend()) == 2


def test_the_first_engine_of_all_must_start(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster(monkeypatch, gpu_nodes(1))
    with pytest.raises(SetupError, match="out of memory"):
        cluster.fleet.on_started(cluster.tend()[0], 1.0, "out of memory")


def test_a_bad_node_does_not_end_a_run_whose_other_engines_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = FakeCluster(monkeypatch, gpu_nodes(1))
    cluster.tend()
    cluster.all_start()
    cluster.nodes = gpu_nodes(1, 1)
    tries = 0
    for _ in range(100):
        (good, *bad) = cluster.tend()
        for replica in bad:
            tries += 1
            cluster.fleet.on_started(replica, 1.0, "driver too old")
    assert good.ready
    assert 3 < tries < 10, "tried again and again, and ever more rarely"


def test_starts_that_keep_failing_end_a_run_without_engines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = FakeCluster(monkeypatch, gpu_nodes(1))
    cluster.tend()
    cluster.all_start()
    cluster.fleet.end(cluster.replicas[0])
    for _ in range(2):
        cluster.fleet.on_started(cluster.tend()[0], 1.0, "driver too old")
        cluster.now += 60
    with pytest.raises(EngineError, match="driver too old"):
        cluster.fleet.on_started(cluster.tend()[0], 1.0, "driver too old")
