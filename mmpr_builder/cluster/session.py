"""A Ray to run on: the configured cluster, else a private Ray for the length of the run.

The private Ray has its own temporary folder (it never meets leftovers of crashed runs or other
users) and its own token in the environment. By default Ray 2.60 writes a token file under the home
folder, which later breaks `ray start` and `ray job submit`; without authentication the port would
be open to the network.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmpr_builder.config import Config
from mmpr_builder.errors import ConfigError, Interrupted, SetupError
from mmpr_builder.escaping import redacted
from mmpr_builder.folder.status import ray_job
from mmpr_builder.progress import Progress

_OBJECT_STORE_BYTES = 256 * 2**20  # Rollouts go to disk, not through it.
_FOLDER = "mmpr-ray"
_START_TRIES = 8  # Ray waits half a minute for itself; a busy machine needs longer.
_SOCKET_PATH_ROOM = 40  # Of the 107 bytes of a Unix socket's path, Ray adds about 65.


def has_ray_at_hand(config: Config) -> bool:
    """Whether there is a Ray to use: the configured one, or one in this process."""
    ray = sys.modules.get("ray")  # Not imported for this.
    return _address(config) is not None or (ray is not None and bool(ray.is_initialized()))


def refuse_passing_folder(config: Config) -> None:
    """Raise `ConfigError` if `out` would lie in the folder that Ray unpacks a job into.

    That folder ends with the job, and every node has its own.
    """
    unpacked = "working_dir" in ((ray_job() or {}).get("runtime_env") or {})
    if unpacked and "://" not in config.out and not Path(config.out).is_absolute():
        raise ConfigError(
            f"out={config.out}: a relative path in a Ray job lies in the job's passing folder: give"
            " an absolute path that all nodes reach, or a URL such as s3://bucket/build"
        )


@contextmanager
def ray_session(config: Config, progress: Progress) -> Iterator[bool]:
    """A connected Ray with the figures of `progress` as metrics. What was started or connected here
    ends with the block (the connection of a Ray job: with its process).

    Gives whether it is a private one, which no other node will join. Raises `SetupError` when the
    configured cluster does not answer.
    """
    import ray

    if ray.is_initialized():
        with exported(config, progress):
            yield False
        return
    address = _address(config)
    folder = _temporary_folder() if address is None else None
    try:
        with progress.stage("starting Ray" if address is None else f"connecting to {address}"):
            try:
                _connect(address, folder)
            except SystemExit as end:  # Ray handles SIGTERM so, in the place of whoever did.
                raise Interrupted(
                    "stopped by signal 15 while starting Ray: run the same command again to go on",
                    signal.SIGTERM,
                ) from end
        with exported(config, progress):
            yield address is None
    finally:
        # When a job's driver disconnects, Ray removes the job's folder, with the code and the
        # current folder of what has still to run.
        if ray_job() is None:
            ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _address(config: Config) -> str | None:
    address = config.distributed.address or os.environ.get("RAY_ADDRESS") or None
    return None if address == "local" else address


def _connect(address: str | None, folder: Path | None) -> None:
    import ray

    # `mmpr --verbose` asks for the logs of the engines; else they stay in files.
    shown = os.environ.get("VLLM_LOGGING_LEVEL") in ("INFO", "DEBUG")
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": shown}
    if address is not None:
        try:
            # Within a job the address is RAY_ADDRESS, which Ray parses itself.
            ray.init(address=address, ignore_reinit_error=True, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise SetupError(
                f"no Ray cluster at {address!r} ({error}): start one there, or set"
                " distributed.address=local to use this machine only"
            ) from error
        return
    _use_own_token()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    for tries_left in range(_START_TRIES - 1, -1, -1):
        before = _children()
        try:
            with _on_loopback():
                ray.init(
                    address="local",
                    include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    _temp_dir=f"{folder}/r",  # Ray opens this one to all users.
                    **quiet,
                )
            return
        except Exception as error:  # Ray raises a bare one when it gives up after 30 s.
            ray.shutdown()
            # Processes of a failed start would disturb the next one.
            for pid in _children() - before:
                os.kill(pid, signal.SIGKILL)
            if not tries_left:
                raise SetupError(
                    f"Ray did not start on this machine in {_START_TRIES} tries ({error}):"
                    " if it is busy with other work, run again later"
                ) from error


def _children() -> set[int]:
    """Running children of this process (on Linux)."""
    lists = Path("/proc/self/task").glob("*/children")
    return {int(pid) for one in lists for pid in one.read_text().split()}


@contextmanager
def _on_loopback() -> Iterator[None]:
    """A Ray that starts in the block has no port that the network reaches; its own ones listen on
    all interfaces. The switch is that for systems on which Ray makes no clusters."""
    from ray._private import ray_constants as constants

    before = constants.ENABLE_RAY_CLUSTER
    # The engines look for this Ray's node by the address that vLLM is told.
    told = {constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0", "VLLM_HOST_IP": "127.0.0.1"}
    told = {name: value for name, value in told.items() if name not in os.environ}
    os.environ.update(told)
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before
        for name in told:
            del os.environ[name]


def _use_own_token() -> None:
    """Authenticate by a token in the environment of this process and its children."""
    from ray._raylet import Config as RayConfig  # type: ignore[attr-defined]

    if "RAY_AUTH_MODE" in os.environ:
        return  # The user decided.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # Ray has read its environment already, when it was imported; this reads it again.
    RayConfig.initialize("")


def _temporary_folder() -> Path:
    """A new folder for Ray's logs and sockets, named after this process."""
    parent = Path(tempfile.gettempdir())
    if len(str(parent)) > _SOCKET_PATH_ROOM - len(f"/{_FOLDER}-1234567-12345678"):
        parent = Path("/tmp")
    for left in parent.glob(f"{_FOLDER}-*-*"):  # Those of killed runs.
        pid = left.name.split("-")[2]
        if pid.isdigit() and not Path("/proc", pid).exists() and Path("/proc").exists():
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_FOLDER}-{os.getpid()}-", dir=parent))


# --- figures of a running build as Ray metrics --------------------------------------------------
#     ray_mmpr_seeds{build="mmpr", out="s3://b/run-1", stage="sampling"} 1024
#
# Prometheus reads them from the driver's node (`ray start --metrics-export-port`).

_EVERY_S = 2.0  # Ray exports them every ten seconds.

# Name here (Ray puts `ray_` before it) -> (figure of `Progress.snapshot`, meaning).
GAUGES = {
    "mmpr_seeds": ("done", "Seeds finished, those of earlier runs too."),
    "mmpr_seeds_planned": ("total", "Seeds of the build."),
    "mmpr_units": ("units", "Units of work whose part is published."),
    "mmpr_units_planned": ("units_total", "Units of work of the build."),
    "mmpr_engines": ("engines", "Engines that work now."),
    "mmpr_seeds_per_second": ("per_second", "Seeds finished per second of this run."),
    "mmpr_tokens_per_second": ("tokens_per_second", "Generated tokens per second, last 30 s."),
    "mmpr_seconds_left": ("seconds_left", "Seconds until the stage ends at this rate."),
    "mmpr_undecided": ("undecided", "Responses that could not be judged for certain."),
    "mmpr_pairs": ("pairs", "Pairs written."),
}
COUNTERS = {
    "mmpr_tokens": ("tokens", "Tokens generated by this run."),
    "mmpr_responses": ("responses", "Responses sampled by this run."),
    "mmpr_retries": ("retries", "Units of work tried again in this run."),
    "mmpr_responses_decided": ("decided", "Responses judged right or wrong while sampling."),
    "mmpr_responses_correct": ("correct", "Responses judged right while sampling."),
    "mmpr_responses_saved": ("saved", "Responses that adaptive sampling did not need."),
}


@contextmanager
def exported(config: Config, progress: Progress) -> Iterator[None]:
    """Keep Ray's metrics in step with `progress` until the block ends; needs a connected Ray.

    Where Ray refuses one, the run goes on without them.
    """
    from ray.util.metrics import Counter, Gauge

    tags = {"build": config.name, "out": redacted(config.out)}
    # Ray takes ASCII only.
    tags = {k: v.encode("ascii", "backslashreplace").decode() for k, v in tags.items()}
    metrics: dict[str, Any] = {}
    counted: dict[str, float] = {}
    next_at = 0.0

    def export(now: dict[str, Any]) -> None:
        here = {**tags, "stage": now["stage"]}
        for kind, table in ((Gauge, GAUGES), (Counter, COUNTERS)):
            for name, (figure, meaning) in table.items():
                value = now.get(figure)
                if value is None:
                    continue
                if name not in metrics:
                    metrics[name] = kind(name, description=meaning, tag_keys=tuple(here))
                # A counter cannot go back when work is done again after a failure.
                more = value - counted.get(name, 0)
                if kind is Gauge:
                    metrics[name].set(value, here)
                elif more > 0:
                    counted[name] = value
                    metrics[name].inc(more, here)

    def watch(progress: Progress, ended: bool) -> None:
        """In the working thread, never during Ray's shutdown."""
        nonlocal next_at
        if next_at == math.inf or (not ended and time.monotonic() < next_at):
            return
        next_at = time.monotonic() + _EVERY_S
        try:
            export(progress.snapshot())
        except Exception as error:  # noqa: BLE001
            next_at = math.inf
            more = "more " if metrics else ""
            progress.note(f"no {more}metrics of this run in Ray: {error!r}"[:300])

    with progress.watched_by(watch):
        yield
