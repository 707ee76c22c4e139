"""On a real Ray of several nodes: jobs that are submitted and stopped, nodes that come and go."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fake_samplers
import psutil
import pytest
import ray
from build_files import files_in, rollouts_in, write_jsonl
from openai_server import OpenAIServer, choices
from pair_samples import make_rollout
from ray_nodes import BIN, RayNodes, free_port, is_agent
from small_builds import make_config, sample_here
from waiting import wait_for

from mmpr_builder.cli.looking import state
from mmpr_builder.cluster.replicas import CallError
from mmpr_builder.config import Config, load_config
from mmpr_builder.folder.status import look
from mmpr_builder.io.tables import list_parts, rollouts_to_table, write_parquet
from mmpr_builder.progress import Progress
from mmpr_builder.records import Seed
from mmpr_builder.runs import run_pairing

ROOT = Path(__file__).parents[1]


def test_an_engine_ended_where_memory_runs_low_is_lost_by_its_node() -> None:
    starved = CallError(ray.exceptions.OutOfMemoryError("killed: the node runs low on memory"))
    gone = CallError(ray.exceptions.ActorUnavailableError("gone", None))
    dead = CallError(ray.exceptions.ActorDiedError())
    failed = CallError(ray.exceptions.RayTaskError("start", "", ValueError("no model")))
    assert [(e.lost, e.of_the_node) for e in (starved, gone, dead, failed)] == [
        (True, True), (True, True), (True, False), (False, False)]  # fmt: skip


# --- nodes that come and go -----------------------------------------------------------------

DRIVER = """
import faulthandler, signal, sys
from pathlib import Path
import fake_samplers
from mmpr_builder.config import load_config
from mmpr_builder.folder import status
from mmpr_builder.runs import fleet, run_sampling
from mmpr_builder.errors import MmprError
from mmpr_builder.progress import Progress
faulthandler.register(signal.SIGUSR1)
fleet._LOOK_S, status.EVERY_S = 1.0, 0.5
factory = fake_samplers.Gated(Path(sys.argv[1]))
try:
    with Progress.auto() as progress:
        run_sampling(load_config(None, sys.argv[2:]), progress, sampler_factory=factory)
except MmprError as error:
    sys.exit(str(error))
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    with RayNodes() as running:
        yield running


def figures(config: Config) -> dict[str, Any]:
    with suppress(FileNotFoundError):
        return dict(json.loads((Path(config.out) / "status.json").read_text())["figures"])
    return {}


def engines(config: Config) -> int:
    return int(figures(config).get("engines") or 0)


def hold(config: Config, first: int) -> None:
    """Have answers to all questions from `first` on held back."""
    path = Path(config.seeds[0].path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        if "question" in row and int(row["id"][1:]) >= first:
            row["question"] += f" {fake_samplers.HELD}"
    write_jsonl(path, rows)


def words(config: Config, **changed: str) -> list[str]:
    """What a command line says to get this config."""
    return [
        f"sampling.engine={config.sampling.engine}",
        f"sampling.n={config.sampling.n}",
        f"seeds={config.seeds[0].path}",
        f"out={config.out}",
        f"model={config.model}",
        f"distributed.unit_queries={config.distributed.unit_queries}",
        *(f"{key}={value}" for key, value in changed.items()),
    ]


@pytest.mark.slow
def test_engines_follow_the_nodes_and_nothing_is_lost(tmp_path: Path, nodes: RayNodes) -> None:
    config = make_config(tmp_path, 60, "sampling.engine=vllm", "model=demo")
    hold(config, 20)
    sample_here(clean := make_config_like(config, "undisturbed"))
    gate, log = tmp_path / "gate", tmp_path / "log"
    first = nodes.add(cpus=2, gpus=2)
    with log.open("w") as stream:
        driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(gate), *words(config)],
            env={**nodes.env, "RAY_ADDRESS": nodes.address},
            stderr=stream,
        )

    def until(condition: Callable[[], bool]) -> None:
        try:
            wait_for(lambda: driver.poll() is not None or condition())
        except AssertionError:
            driver.send_signal(signal.SIGUSR1)  # Where it is, into its log.
            time.sleep(1)
            pytest.fail(f"{figures(config)}\n{log.read_text()}")
        assert driver.poll() is None, log.read_text()

    try:
        until(lambda: engines(config) == 2)
        until(lambda: len(list_parts(f"{config.out}/rollouts")) == 5)
        second = nodes.add(gpus=1)
        until(lambda: engines(config) == 3)
        nodes.kill(first)
        until(lambda: engines(config) == 1)
        check_metrics(nodes, config)
        nodes.kill(second)
        until(lambda: "waiting for 1 GPU on one node" in figures(config).get("detail", ""))
        assert state(look(config.out)) == "running"
        third = nodes.add(cpus=2, gpus=2)
        until(lambda: engines(config) == 2)
        gate.touch()
        assert driver.wait(300) == 0, log.read_text()
    finally:
        driver.kill()
    nodes.kill(third)
    assert rollouts_in(config.out) == rollouts_in(clean.out)
    found = look(config.out)
    assert (state(found), found.units, found.units_total) == ("sampled", 15, 15)
    assert found.status is not None
    assert found.status.figures["done"] == 60
    assert "seed 'q" not in log.read_text(), "nobody was set aside for the death of a node"
    assert "room for 3 engines" in log.read_text()


def make_config_like(config: Config, out: str) -> Config:
    return config.model_copy(update={"out": str(Path(config.out).with_name(out))})


def check_metrics(nodes: RayNodes, config: Config) -> None:
    """The figures of status.json are among what Prometheus reads."""

    def value(name: str) -> float | None:
        pattern = rf'^ray_{name}\{{[^}}]*out="{re.escape(config.out)}"[^}}]*\}} (\S+)'
        found = re.search(pattern, nodes.metrics(), flags=re.M)
        return float(found[1]) if found else None

    wait_for(lambda: value("mmpr_seeds") == figures(config)["done"] == 20)
    wait_for(lambda: value("mmpr_engines") == 1)
    assert value("mmpr_seeds_planned") == 60
    assert value("mmpr_units") == 5
    assert value("mmpr_tokens_total") == figures(config)["tokens"]


# --- jobs -----------------------------------------------------------------------------------


@pytest.fixture
def held_server() -> Iterator[tuple[OpenAIServer, threading.Event]]:
    """Answers twenty times, which ends two units at least, and goes on after a sign."""
    asked, go_on = itertools.count(), threading.Event()

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        if next(asked) >= 20:
            go_on.wait()
        return 200, choices(*(f"Final answer: {i % 3}" for i in range(body.get("n", 1))))

    with OpenAIServer(answer, model="fake") as server:
        yield server, go_on
        go_on.set()


def held_build(tmp_path: Path, server: OpenAIServer) -> tuple[Config, list[str]]:
    config = make_config(tmp_path, 60, "dropout.apply=none")
    changed = {
        "sampling.endpoint.url": server.url,
        "sampling.endpoint.concurrency": "2",
        "dropout.apply": "none",
        "distributed.grace_s": "1",
    }
    return config, words(config, **changed)


@pytest.mark.slow
def test_a_stopped_job_keeps_finished_rows_leaves_no_process_and_is_continued_by_make_submit(
    nodes: RayNodes, held_server: tuple[OpenAIServer, threading.Event], tmp_path: Path
) -> None:
    server, go_on = held_server
    config, settings = held_build(tmp_path, server)
    how = [
        *("--working-dir", str(ROOT), "--submission-id", tmp_path.name[-40:]),
        *("--runtime-env-json", json.dumps({"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "600"}})),
    ]
    nodes.job(
        "submit", "--no-wait", *how, "--", "python", "pipelines/build_mmpr.py", "demo", *settings
    )
    wait_for(lambda: has_parts(config, 2))
    nodes.job("stop", how[3])
    assert "was stopped" in nodes.job("status", how[3]).stdout
    assert "finished rows are being kept" in nodes.job("logs", how[3]).stdout
    found = look(config.out)
    assert (state(found), found.life) == ("interrupted", "gone")
    assert found.status is not None
    assert found.status.job == how[3]
    assert 2 <= found.units < 15
    wait_for(lambda: not nodes.processes("SamplerActor"))
    assert not nodes.processes("build_mmpr.py")
    had = {path: Path(path).stat().st_mtime_ns for path in list_parts(f"{config.out}/rollouts")}
    go_on.set()
    log = make_submit(nodes, settings)
    assert "sampling  60 seeds" in log, "the job's log is the build's"
    assert state(look(config.out)) == "done"
    assert sorted(r.seed.id for r in rollouts_in(config.out)) == sorted(f"q{i}" for i in range(60))
    assert {path: Path(path).stat().st_mtime_ns for path in had} == had
    run = json.loads((Path(config.out) / "run.json").read_text())
    assert run["counts"]["pairs"]["total"] > 10


def has_parts(config: Config, count: int) -> bool:
    with suppress(FileNotFoundError):
        said = json.loads((Path(config.out) / "status.json").read_text())
        assert said["state"] != "failed", said["message"]
    return len(list_parts(f"{config.out}/rollouts")) >= count


def make_submit(nodes: RayNodes, settings: list[str]) -> str:
    done = subprocess.run(
        # The Ray that this test runs in is the one to submit with: nothing to set up.
        [
            *("make", "-s", "submit", f"BIN={BIN}", f"ADDRESS={nodes.dashboard}"),
            *(f"ARGS={' '.join(settings)}", "-o", "setup"),
        ],
        cwd=ROOT,
        env=nodes.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


PAIRING = """
import sys
from mmpr_builder.config import load_config
from mmpr_builder.progress import Progress
from mmpr_builder.records import Seed
from mmpr_builder.runs import run_pairing
run_pairing(load_config(None, sys.argv[1:]), Progress())
"""


@pytest.mark.slow
def test_a_node_lost_while_pairing_costs_nothing(tmp_path: Path, nodes: RayNodes) -> None:
    """A silent LLM judge holds all tasks: none can end before its node is lost."""
    judging = threading.Event()
    judging.set()

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        judging.wait()
        return 200, choices("SAME")

    with OpenAIServer(answer) as server:
        settings = [
            *(f"out={tmp_path}", f"scoring.judge.url={server.url}", "scoring.judge.model=org/vlm"),
            "sampling.endpoint.timeout_s=6000",  # A tenth for the judge.
        ]
        undecided_rollouts(tmp_path, parts=12)
        run_pairing(load_config(None, settings), Progress())
        expected = files_in(tmp_path, "pairs", "drops")
        for name in ("pairs", "drops", "judge"):
            shutil.rmtree(tmp_path / name)
        judging.clear()
        node = nodes.add(cpus=2)
        driver = subprocess.Popen(
            [sys.executable, "-c", PAIRING, *settings],
            env={**nodes.env, "RAY_ADDRESS": nodes.address},
        )
        try:
            wait_for(lambda: driver.poll() is not None or nodes.processes("ray::_pair_in_t", node))
            assert driver.poll() is None
            nodes.kill(node)
            judging.set()
            assert driver.wait(300) == 0
        finally:
            judging.set()
            driver.kill()
    assert files_in(tmp_path, "pairs", "drops") == expected
    assert expected
    assert state(look(str(tmp_path))) == "done"


def undecided_rollouts(out: Path, parts: int) -> None:
    """A seed a part, with an answer of which no rule knows whether it is right."""
    for part in range(parts):
        seed = Seed(f"q{part}", f"What is the area, case {part}?", answers=("1/2",))
        texts = [f"By way {part}.\nFinal answer: {x}" for x in ("\\int_0^1 x\\,dx", "0.5", "7")]
        rollout = make_rollout(seed, texts, index=part)
        write_parquet(rollouts_to_table([rollout]), out / "rollouts" / f"unit-{part:05}.parquet")


# --- other schedulers -----------------------------------------------------------------------

SRUN = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
exec "$@"
"""
SCONTROL = """#!/bin/sh
[ "$1" = show ] && printf 'node1\\nnode2\\n' || echo "$@" > requeued
"""


@pytest.mark.slow
def test_a_slurm_job_stops_before_its_time_is_up_and_is_queued_again(
    held_server: tuple[OpenAIServer, threading.Event], tmp_path: Path
) -> None:
    config, settings = held_build(tmp_path, held_server[0])
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith("RAY_")},
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "MMPR_BIN": str(BIN),
        "SLURM_JOB_ID": str(free_port()),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_CPUS_PER_TASK": "1",
    }
    script = ROOT / "pipelines" / "cluster" / "slurm.sh"
    log = tmp_path / "log"
    with log.open("w") as stream:
        job = subprocess.Popen(
            ["bash", str(script), *settings],
            **{"cwd": tmp_path, "env": env, "stdout": stream, "stderr": stream},
        )
    try:
        wait_for(lambda: job.poll() is not None or has_parts(config, 2))
        assert job.poll() is None, log.read_text()
        family = psutil.Process(job.pid).children(recursive=True)
        job.send_signal(signal.SIGUSR1)
        assert job.wait(300) == 128 + signal.SIGTERM, log.read_text()
    finally:
        job.kill()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE and not is_agent(p)]
    assert state(look(config.out)) == "interrupted"
    assert (tmp_path / "requeued").read_text().split() == ["requeue", env["SLURM_JOB_ID"]]
