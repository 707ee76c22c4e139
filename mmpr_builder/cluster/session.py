"""A Ray to run on: the cluster we are told of, else a private one for the length of the run.

The private Ray keeps to itself: its own temporary folder (a crashed run's leftovers are never
followed, other users' never fought over) and a token of its own in the environment. Left alone,
Ray 2.60 writes a token file under the home folder, and later `ray start` and `ray job submit`
follow it and fail; switching authentication off would open the port to the network.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmpr_builder.cluster.metrics import exported
from mmpr_builder.config import Config
from mmpr_builder.errors import ConfigError, SetupError
from mmpr_builder.progress import Progress

_OBJECT_STORE_BYTES = 256 * 2**20  # Rollouts go to disk, not through it.
_FOLDER = "mmpr-ray"
_START_TRIES = 4  # Ray waits half a minute for itself; a machine with much else to do needs longer.
_SOCKET_PATH_ROOM = 40  # Of the 107 bytes of a Unix socket's path, Ray adds about 65.


def uses_cluster(config: Config) -> bool:
    """Whether an existing Ray is to be used: one in this process, or one we are told of."""
    import ray

    return bool(ray.is_initialized()) or _address(config) is not None


def has_ray_at_hand(config: Config) -> bool:
    """`uses_cluster` without importing Ray where nobody did."""
    import sys

    return _address(config) is not None or ("ray" in sys.modules and uses_cluster(config))


def refuse_passing_folder(config: Config) -> None:
    """Raise `ConfigError` if `out` would lie in the folder that Ray unpacks a job into.

    That one goes with the job, and every node has its own.
    """
    unpacked = "working_dir" in ((_job() or {}).get("runtime_env") or {})
    if unpacked and "://" not in config.out and not Path(config.out).is_absolute():
        raise ConfigError(
            f"out={config.out}: a relative path in a Ray job lies in the job's passing folder: give"
            " an absolute path that all nodes reach, or a URL such as s3://bucket/build"
        )


@contextmanager
def ray_session(config: Config, progress: Progress) -> Iterator[None]:
    """A connected Ray that gets the figures of `progress`; what was started or connected here ends
    with the block (the connection of a Ray job: with its process).

    Raises `SetupError` when the cluster at the given address does not answer.
    """
    import ray

    if ray.is_initialized():
        with exported(config, progress):
            yield
        return
    address = _address(config)
    folder = _temporary_folder() if address is None else None
    try:
        with progress.stage("starting Ray" if address is None else f"connecting to {address}"):
            _connect(address, folder)
        with exported(config, progress):
            yield
    finally:
        # When a job's driver disconnects, Ray removes the folder that the job was unpacked into,
        # and with it the code and the current folder of what has still to run.
        if _job() is None:
            ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _job() -> dict[str, Any] | None:
    """What Ray tells the process that `ray job submit` runs; None in any other."""
    said = os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR")
    return dict(json.loads(said)) if said else None


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
            # Within a job RAY_ADDRESS says where, and Ray's own parsing of it is the right one.
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
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                _temp_dir=str(folder),
                **quiet,
            )
            return
        except Exception as error:  # Ray raises a bare one when it gives up after 30 s.
            ray.shutdown()
            # What a start that failed leaves running would be in the way of the next one.
            for pid in _children() - before:
                os.kill(pid, signal.SIGKILL)
            if not tries_left:
                raise SetupError(
                    f"Ray did not start on this machine in {_START_TRIES} tries ({error}):"
                    " if it is busy with other work, run again later"
                ) from error


def _children() -> set[int]:
    """Processes that this one has started and not yet seen end (on Linux)."""
    lists = Path("/proc/self/task").glob("*/children")
    return {int(pid) for one in lists for pid in one.read_text().split()}


def _use_own_token() -> None:
    """Authentication by a token that lives in this process's environment and its children's."""
    from ray._raylet import Config as RayConfig  # type: ignore[attr-defined]

    if "RAY_AUTH_MODE" in os.environ:
        return  # Somebody decided; Ray follows.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # Ray reads its environment when it is imported, which is over; its own switch does the same.
    RayConfig.initialize("")


def _temporary_folder() -> Path:
    """A new folder for Ray's logs and sockets; its name holds the number of this process."""
    parent = Path(tempfile.gettempdir())
    if len(str(parent)) > _SOCKET_PATH_ROOM - len(f"/{_FOLDER}-1234567-12345678"):
        parent = Path("/tmp")
    _remove_leftovers(parent)
    return Path(tempfile.mkdtemp(prefix=f"{_FOLDER}-{os.getpid()}-", dir=parent))


def _remove_leftovers(parent: Path) -> None:
    """Folders of runs that were killed."""
    for folder in parent.glob(f"{_FOLDER}-*-*"):
        pid = folder.name.split("-")[2]
        if pid.isdigit() and not Path("/proc", pid).exists() and Path("/proc").exists():
            shutil.rmtree(folder, ignore_errors=True)
