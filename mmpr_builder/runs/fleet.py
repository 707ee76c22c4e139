"""The engines of a run: as many as the cluster holds now, while its nodes come and go.

    nodes 2 x 4 GPUs, TP 2    4 engines
    a node joins              6 engines: the cluster is polled every few seconds
    two nodes leave           2 engines: their open work is done again elsewhere
    all leave                 one stays requested; waits distributed.wait_s, then ends the run

A failed start is tried again, after longer and longer pauses, while other engines work; without any
it ends the run. Starts that fail because their node left do not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from mmpr_builder.cluster.capacity import Node, Shape, alive_nodes, capacity, engine_shape
from mmpr_builder.cluster.replicas import Replica, ended, start_replica
from mmpr_builder.config import Config
from mmpr_builder.errors import EngineError, SetupError
from mmpr_builder.progress import Progress
from mmpr_builder.runs.actors import SamplerActor, SamplerFactory

WAIT_S = 1800.0
"""`distributed.wait_s` when unset and engines have run already: clouds bring a node in less."""

_LOOK_S = 5.0
_CLOSE_S = 30.0
_PAUSES_S = (1.0, 5.0, 30.0, 120.0, 600.0)  # Before the next start, after so many failures.
_STARTS_IN_A_ROW = 3


class Fleet:
    """Holds the engines; needs a connected Ray. Ends them all by `close`."""

    def __init__(
        self,
        config: Config,
        factory: SamplerFactory,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
        *,
        alone: bool = False,
    ) -> None:
        """With `alone` no other node can join, so none is waited for."""
        self._config = config
        self._clock = clock
        self._alone = alone
        self._factory = factory
        self._progress = progress
        self._nodes: tuple[Node, ...] = ()
        self._shape = Shape()
        self._look_at = 0.0
        self._failures = 0
        self._start_at = 0.0
        self._no_room_since: float | None = None
        self.replicas: list[Replica] = []
        self.engine_seconds = 0.0
        """Seconds until the first engine was ready; 0 before."""
        self._look()

    @property
    def ready(self) -> list[Replica]:
        """The engines that take work."""
        return [replica for replica in self.replicas if replica.ready]

    def tend(self, useful: int) -> None:
        """Start missing engines, `useful` at most; called again and again.

        Raises `SetupError` (at the start) or `EngineError` (later) when no node could hold an
        engine for `distributed.wait_s`.
        """
        now = self._clock()
        if now >= self._look_at:
            self._look()
        for replica in [replica for replica in self.replicas if replica.died_idle]:
            self._progress.note("an engine without work died: another starts when work needs it")
            self.end(replica)
        self._check_room(now)
        if now < self._start_at:
            return
        for _ in range(min(self._wanted(), useful) - len(self.replicas)):
            aimed_at = self._free_node()
            arguments = (self._config, self._factory)
            self.replicas.append(
                start_replica(SamplerActor, arguments, self._shape, self._nodes, aimed_at)
            )

    def on_started(
        self, replica: Replica, seconds: float, problem: str, notes: Sequence[str] = ()
    ) -> None:
        """An engine has started, or failed with `problem`."""
        if problem:
            self.failed(replica, problem, final=not self.engine_seconds)
            return
        replica.started = None
        self._failures = 0
        for note in () if self.engine_seconds else notes:
            self._progress.note(note)
        self.engine_seconds = self.engine_seconds or seconds

    def died_early(self, replica: Replica, cause: str) -> None:
        """A process died before its engine was there. One such failure may be the machine's."""
        final = not self.engine_seconds and self._failures > 0
        self.failed(replica, f"its process died: {cause}", final=final)

    def failed(self, replica: Replica, problem: str, *, final: bool) -> None:
        """An engine did not start. The first engine of all must come up.

        Raises `SetupError` if it is `final`, `EngineError` when starts keep failing and no other
        engine works.
        """
        self.end(replica)
        if self.went_with_its_node(replica):
            self._progress.note("an engine's node left while it started: going on elsewhere")
            return
        pause = _PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)]
        self._failures += 1
        if final:
            raise SetupError(f"the engine did not start: {problem}")
        if self._failures >= _STARTS_IN_A_ROW and not self.ready:
            raise EngineError(f"engines keep failing to start; run again to go on: {problem}")
        self._start_at = self._clock() + pause
        self._progress.note(f"an engine did not start, next try in {pause:.0f} s: {problem}")

    def went_with_its_node(self, replica: Replica) -> bool:
        """Whether the replica's node has left the cluster, and not only its process ended."""
        self._look()
        alive = {node.id for node in self._nodes}
        home = replica.node or replica.aimed_at
        return home not in alive if home is not None else not replica.nodes_then <= alive

    def end(self, replica: Replica) -> None:
        """End one engine at once."""
        self.replicas.remove(replica)
        replica.end()

    def close(self) -> None:
        """Shut all engines down, and end those that do not answer."""
        closing = [replica.actor.close.remote() for replica in self.ready]
        ended(closing, _CLOSE_S, at_least=len(closing))
        for replica in self.replicas:
            replica.end()

    def state(self) -> str:
        """Why no engine works now; "" if one does."""
        if self.ready:
            return ""
        if not capacity(self._shape, self._nodes):
            return f"waiting for {self._shape}"
        if any(replica.placed for replica in self.replicas):
            return "an engine is loading"
        return "Ray is placing an engine" if self.replicas else "waiting to start an engine"

    def _look(self) -> None:
        """Update the nodes, and what depends on them."""
        before = self._nodes
        self._nodes = alive_nodes()
        self._look_at = self._clock() + _LOOK_S
        if not before:
            self._shape = engine_shape(self._config, self._nodes)
            asked, room = self._config.distributed.replicas, capacity(self._shape, self._nodes)
            if asked != "auto" and self._shape.gpus and room < asked:
                self._progress.note(
                    f"distributed.replicas = {asked}, {_engines(room)} now: others start as nodes"
                    " join"
                )
        elif capacity(self._shape, before) != (room := capacity(self._shape, self._nodes)):
            self._progress.note(f"the cluster changed: {len(self._nodes)} nodes, {_engines(room)}")
        if self._config.distributed.replicas == "auto":  # Request none for nodes that have left.
            surplus = max(0, len(self.replicas) - self._wanted())
            for replica in [one for one in self.replicas if not one.placed][:surplus]:
                self.end(replica)

    def _wanted(self) -> int:
        asked = self._config.distributed.replicas
        # If none fits, one stays requested: an autoscaler notices it.
        return max(1, capacity(self._shape, self._nodes)) if asked == "auto" else asked

    def _free_node(self) -> str | None:
        """A node to itself for an engine that takes all cores; None: Ray decides."""
        if not self._shape.per_node or self._config.distributed.replicas != "auto":
            return None
        taken = {replica.aimed_at for replica in self.replicas}
        free = (node.id for node in self._nodes if node.cpus and node.id not in taken)
        return next(free, None)

    def _check_room(self, now: float) -> None:
        if self.ready or capacity(self._shape, self._nodes):
            self._no_room_since = None
            return
        limit = self._config.distributed.wait_s
        if self._alone:
            limit = 0.0
        elif limit is None:
            limit = WAIT_S if self.engine_seconds else 0.0
        if self._no_room_since is None:
            self._no_room_since = now
            if limit:
                self._progress.note(
                    f"one engine needs {self._shape}: waiting up to {limit:.0f} s for nodes"
                )
        if now - self._no_room_since >= limit:
            raise self._no_room()

    def _no_room(self) -> SetupError | EngineError:
        if self.engine_seconds:
            why = (
                "the Ray of this machine has lost its only node"
                if self._alone
                else f"no node could hold an engine ({self._shape}) for distributed.wait_s"
            )
            return EngineError(f"{why}; finished units are kept, run again to go on")
        has = " + ".join(str(node.gpus if self._shape.gpus else node.cpus) for node in self._nodes)
        lower = "lower engine.tensor_parallel_size, " if self._shape.gpus > 1 else ""
        return SetupError(
            f"one engine needs {self._shape}, and the nodes of this Ray have {has or 0}: {lower}use"
            " a larger cluster (distributed.address), or set distributed.wait_s if nodes are still"
            " to come"
        )


def _engines(room: int) -> str:
    return f"room for {room} engine{'' if room == 1 else 's'}"
