"""One Ray actor of a run: started, given work, polled for progress, ended with all its children.

The actor's class has the methods `start`, `sample`, `progress` and `close`.

Tensor parallel stays within a node: one actor holds the GPUs, and vLLM's own processes share them
(`distributed_executor_backend="mp"`, see engines/arguments.py). Pipeline stages may lie on several
nodes: then a placement group holds one GPU a bundle, as vLLM's Ray executor expects, and the actor
runs in the first. This follows vLLM 0.32's rules; it was not tried on GPUs of several nodes.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmpr_builder.cluster.capacity import Node, Shape
from mmpr_builder.errors import ERROR_LINE, MmprError, cause_of

# vLLM's engine core and its workers are processes of their own, which Ray ends with their actor as
# long as Ray itself lives; measured, one in three kills of a driver left them behind, with all
# their memory. So the actor gets its own process group, which its children inherit, and a small
# process outside of it that ends the group once the actor is gone and removes its temporary files
# (vLLM leaves four sockets for each engine).
#
# It polls the actor's process: a forked child would hold a pipe open, and older kernels have no
# pidfd. It forks, because Ray ends the children of a worker that ends. A process number and its
# start time together are never used again; systems without /proc tell the number only.
_WATCH = """
import os, shutil, signal, sys, time
group, scratch = int(sys.argv[1]), sys.argv[2]
def started():
    if not os.path.isdir("/proc/self"):
        try:
            os.kill(group, 0)
        except ProcessLookupError:
            return None
        return "there"
    try:
        with open(f"/proc/{group}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
actor = started()
os.mkdir(scratch, 0o700)
if os.fork():
    os._exit(0)
while actor is not None and started() == actor:
    time.sleep(0.5)
try:
    os.killpg(group, signal.SIGKILL)
except ProcessLookupError:
    pass
time.sleep(0.5)
shutil.rmtree(scratch, ignore_errors=True)
"""


def end_children_with_us() -> None:
    """From now on all children of this process, and theirs, end soon after it, however it ends, and
    their temporary files are removed."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    # The other process makes and removes it: this one may end before the other has begun.
    scratch = os.path.join(tempfile.gettempdir(), f"mmpr-engine-{secrets.token_hex(4)}")
    subprocess.run(
        [sys.executable, "-I", "-S", "-c", _WATCH, str(os.getpid()), scratch],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    os.environ["TMPDIR"] = scratch
    tempfile.tempdir = None  # Python looks it up again.


_LOG_TAIL_BYTES = 64 * 2**10


@dataclass(eq=False)
class Replica:
    """One actor with its engine and its open work."""

    actor: Any
    started: Any
    """Reference to the result of `start`; None once the engine is there."""
    where: Any
    """Reference to the id of its node."""
    aimed_at: str | None = None
    """The only node that it may start on, if any."""
    nodes_then: frozenset[str] = frozenset()
    """The nodes that were alive when it was requested."""
    group: Any = None
    """Its own placement group, if any."""
    open: dict[Any, Any] = field(default_factory=dict)
    """Result reference -> work."""
    progress_ref: Any = None
    progress: dict[Any, Any] = field(default_factory=dict)
    """Work -> its progress, as of the last answer."""
    failure: Exception | None = None
    """Why it no longer answers requests for progress."""

    @property
    def died_idle(self) -> bool:
        """Whether it is gone without open work, whose loss would show it."""
        return self.failure is not None and not self.open

    @property
    def ready(self) -> bool:
        return self.started is None

    @property
    def placed(self) -> bool:
        """Whether its process runs somewhere (and loads its engine, or has it)."""
        return bool(ended([self.where], 0, at_least=1))

    @property
    def node(self) -> str | None:
        """Where it runs; None while it waits for resources."""
        with suppress(CallError):  # If it died, `started` or the open work tells the run.
            return str(fetched(self.where)) if self.placed else None
        return None

    @property
    def works(self) -> list[Any]:
        return list(self.open.values())

    def submit(self, work: Any, *arguments: Any) -> None:
        """Call `sample(work, *arguments)` of the actor; `work` is kept until it ends."""
        self.open[self.actor.sample.remote(work, *arguments)] = work

    def poll(self) -> list[Any]:
        """Progress of the open work, as of the last answer; requests the next one."""
        import ray

        if self.progress_ref is not None and ray.wait([self.progress_ref], timeout=0)[0]:
            try:
                self.progress.update(ray.get(self.progress_ref))
                self.failure = None
            except ray.exceptions.ActorUnavailableError:
                pass  # It may answer again; a lost node shows in the open work, or soon.
            except ray.exceptions.RayError as error:
                self.failure = error  # Open work tells the run of it.
            self.progress_ref = None
        if self.progress_ref is None and self.ready:
            self.progress_ref = self.actor.progress.remote()
        # An answer may be older or newer than a result under way: work counts here until its result
        # is in, and then elsewhere.
        works = {*self.open.values()}
        self.progress = {work: counts for work, counts in self.progress.items() if work in works}
        return list(self.progress.values())

    def end(self) -> None:
        """End its process at once and release its placement group."""
        import ray
        from ray.util.placement_group import remove_placement_group

        ray.kill(self.actor)
        if self.group is not None:
            remove_placement_group(self.group)


def start_replica(
    kind: type,
    arguments: Sequence[Any],
    shape: Shape,
    nodes: Sequence[Node],
    aimed_at: str | None = None,
) -> Replica:
    """Request an actor `kind(*arguments)` and call its `start`; Ray never restarts or retries it.

    It waits for free resources, which an autoscaler notices. With `aimed_at` it starts on that node
    or fails.
    """
    import ray
    from ray.util.placement_group import placement_group
    from ray.util.scheduling_strategies import (
        NodeAffinitySchedulingStrategy,
        PlacementGroupSchedulingStrategy,
    )

    group: Any = None
    strategy: Any = "SPREAD" if shape.per_node else "DEFAULT"
    if shape.stages > 1:
        # Filling node after node keeps the GPUs of one stage together.
        group = placement_group(bundles(shape), strategy="PACK")
        strategy = PlacementGroupSchedulingStrategy(
            group, 0, placement_group_capture_child_tasks=True
        )
    elif aimed_at is not None:
        strategy = NodeAffinitySchedulingStrategy(aimed_at, soft=False)
    remote = ray.remote(kind).options(
        num_cpus=1,
        num_gpus=0 if group is not None else shape.gpus,
        scheduling_strategy=strategy,
        max_restarts=0,
        max_task_retries=0,
        max_concurrency=1000,  # Only calls wait here; the actor itself bounds the work.
    )
    actor = remote.remote(*arguments)
    # Before `start`, which keeps the actor busy until its engine is loaded.
    actor.__ray_call__.remote(lambda _: end_children_with_us())
    where = actor.__ray_call__.remote(lambda _: str(ray.get_runtime_context().get_node_id()))
    return Replica(
        actor,
        actor.start.remote(),
        where,
        aimed_at,
        nodes_then=frozenset(node.id for node in nodes),
        group=group,
    )


class CallError(Exception):
    """A call of an actor that gave no result; the message is its cause."""

    def __init__(self, error: Exception) -> None:
        import ray

        super().__init__(cause_of(error))
        starved = isinstance(error, ray.exceptions.OutOfMemoryError)
        self.lost = starved or isinstance(error, ray.exceptions.RayActorError)
        """Whether the actor's process ended, or cannot be reached."""
        self.of_the_node = starved or isinstance(error, ray.exceptions.ActorUnavailableError)
        """Whether its machine may be why: Ray ends processes where memory runs low, and notices a
        machine's death half a minute later."""


def fetched(ref: Any) -> Any:
    """The result of a call; raises `CallError` if there is none."""
    import ray

    try:
        return ray.get(ref)
    except ray.exceptions.RayError as error:
        raise CallError(error) from error


def ended(refs: Sequence[Any], timeout_s: float, *, at_least: int) -> list[Any]:
    """The calls that have ended once `at_least` of them have, or after `timeout_s` seconds."""
    import ray

    if refs:
        ray.wait(refs, num_returns=at_least, timeout=timeout_s)
        return list(ray.wait(refs, num_returns=len(refs), timeout=0)[0])
    return []


def bundles(shape: Shape) -> list[dict[str, float]]:
    """One GPU each, as vLLM's Ray executor expects; the first also has the actor's CPU."""
    gpus: list[dict[str, float]] = [{"GPU": 1.0} for _ in range(shape.gpus * shape.stages)]
    gpus[0]["CPU"] = 1.0
    return gpus


def explained(error: BaseException) -> str:
    """The error, with the last ones that the engine's own processes logged: the real cause."""
    own = isinstance(error, MmprError)
    said = str(error) if own else "".join(traceback.format_exception_only(error)).strip()
    found = (ERROR_LINE.search(line) for line in _own_log().splitlines())
    causes = dict.fromkeys(match["error"].strip() for match in found if match)
    fresh = [cause for cause in causes if cause not in said]
    return "\n".join([said, *(cause[:400] for cause in fresh[-2:])])


def _own_log() -> str:
    """The end of this process's standard error if that is a file, as under Ray."""
    try:
        path = Path(os.readlink("/proc/self/fd/2"))
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
