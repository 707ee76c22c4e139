"""A real Ray of several nodes on this machine: each is a `ray start --block` of its own.

with RayNodes() as nodes:
    nodes.add(gpus=2)      # what Ray believes; no GPU is needed
    nodes.kill(node)       # as a power cut: no process of it gets a word out
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil
from waiting import wait_for

BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class RayNodes:
    """A head with a dashboard, and what is added to it. Ends all of it, whatever became of it."""

    def __init__(self, cpus: int = 2) -> None:
        self._cpus = cpus
        self._folder = Path(tempfile.mkdtemp(prefix="mmpr-t", dir="/tmp"))  # Sockets: a short path.
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._metrics_ports: list[int] = []
        self._port, self._dashboard_port = free_port(), free_port()
        self.dashboard = f"http://127.0.0.1:{self._dashboard_port}"
        self.address = f"127.0.0.1:{self._port}"
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("RAY_")},
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path(__file__).parent),  # Workers import the fakes.
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_metrics_report_interval_ms": "1000",
        }

    def __enter__(self) -> RayNodes:
        try:
            self._start(
                "--head",
                f"--port={self._port}",
                f"--dashboard-port={self._dashboard_port}",
                f"--ray-client-server-port={free_port()}",
                f"--temp-dir={self._folder}",
                f"--num-cpus={self._cpus}",
                "--num-gpus=0",
            )
            wait_for(lambda: self.job("list", check=False).returncode == 0)
            wait_for(self._alive)  # Else the head itself may pass for the first one added.
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in list(self._nodes):
            self.kill(node)
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, *, cpus: int = 1, gpus: int = 0) -> subprocess.Popen[bytes]:
        """A new node; returns once the head knows of it."""
        before: set[str] = set()
        wait_for(lambda: before.update(self._alive()) or before)  # The head itself is one.
        words = (f"--address={self.address}", f"--num-cpus={cpus}", f"--num-gpus={gpus}")
        node = self._start(*words)
        wait_for(lambda: self._alive() - before)
        return node

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        self._nodes.remove(node)
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(node.pid)
            for one in [process, *process.children(recursive=True)]:
                with suppress(ProcessLookupError):
                    os.kill(one.pid, signal.SIGKILL)
        node.wait()

    def processes(
        self, name: str, on: subprocess.Popen[bytes] | None = None
    ) -> list[psutil.Process]:
        """Living processes on any of the nodes, or on one, whose title holds `name`."""
        found = []
        for node in self._nodes if on is None else [on]:
            for process in psutil.Process(node.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if name in " ".join([process.name(), *process.cmdline()]):
                        found.append(process)
        return found

    def job(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`ray job WORDS` against this cluster; standard error comes with the output."""
        done = subprocess.run(
            [str(BIN / "ray"), "job", words[0], "--address", self.dashboard, *words[1:]],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        assert not check or done.returncode == 0, done.stdout
        return done

    def _alive(self) -> set[str]:
        request = urllib.request.Request(
            f"{self.dashboard}/api/v0/nodes",
            headers={"Authorization": f"Bearer {self.env['RAY_AUTH_TOKEN']}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                rows = json.load(reply)["data"]["result"]["result"]
        except OSError:  # On a busy machine the dashboard is away for a moment now and then.
            return set()
        return {row["node_id"] for row in rows if row["state"] == "ALIVE"}

    def metrics(self) -> str:
        """What Prometheus would read of all nodes together."""
        texts = []
        for port in self._metrics_ports:
            with (
                suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply,
            ):
                texts.append(reply.read().decode())
        return "\n".join(texts)

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        self._metrics_ports.append(free_port())
        node = subprocess.Popen(
            [
                *(str(BIN / "ray"), "start", "--block", "--disable-usage-stats"),
                f"--metrics-export-port={self._metrics_ports[-1]}",
                f"--dashboard-agent-listen-port={free_port()}",
                f"--object-store-memory={100 * 2**20}",
                *words,
            ],
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._nodes.append(node)
        return node


def is_agent(process: psutil.Process) -> bool:
    """Ray's two idle agents, which try for a minute to tell their dead server of its death."""
    with suppress(psutil.NoSuchProcess):
        return process.name() in ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
    return False
