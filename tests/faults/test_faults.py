"""Whatever dies, the end is the same: nothing lost, nothing twice, nobody left behind.

The tests marked `faults` make a hundred kills (`make test-faults`, about twenty minutes); a few of
each common kind run with all other tests.
"""

from __future__ import annotations

import os
import random
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

import fsspec
import pytest
from commands import mmpr
from fault_build import AT, DELAY, POISON
from fault_harness import (
    AGENTS_S,
    HERE,
    Build,
    Outcome,
    awaited,
    digests,
    disturb,
    family,
    judge,
    kill_driver,
    kill_one,
    orphans,
    rollouts,
    titled,
)
from moto.server import ThreadedMotoServer
from small_builds import sample_here

from mmpr_builder import demo
from mmpr_builder.config import load_config
from mmpr_builder.engines import make_sampler
from mmpr_builder.folder import parts
from mmpr_builder.io.tables import read_parquet

SEEDS = 160
UNIT = 4
kill_actor = kill_one("ray::SamplerActor")
kill_engine = kill_one("VLLM::Engine", "VLLM::Worker")

LONG = pytest.mark.faults
SHORT = pytest.mark.slow


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeds, and a pool of answers to all of them."""
    folder = tmp_path_factory.mktemp("world")
    written = demo.write_seeds(folder / "seeds", SEEDS)
    config = load_config(
        "demo",
        [
            *("sampling.engine=endpoint", "sampling.endpoint.url=http://127.0.0.1:9/v1"),
            *("sampling.n=4", f"seeds={written}", f"out={folder / 'pool'}"),
        ],
    )
    sample_here(config)
    return folder


def replay(world: Path, out: str, *more: str) -> list[str]:
    return [
        *("demo", f"seeds={world / 'seeds' / 'seeds.jsonl'}", f"out={out}", "sampling.n=4"),
        *("sampling.engine=replay", f"sampling.replay_from={world / 'pool' / 'rollouts'}"),
        *(f"distributed.unit_queries={UNIT}", "distributed.units_in_flight=2", *more),
    ]


def a_build(world: Path, tmp_path: Path, out: str | None = None, *more: str, **env: str) -> Build:
    out = out or str(tmp_path / "out")
    return Build(out, replay(world, out, *more), tmp_path / "log", {DELAY: "0.6"} | env)


@pytest.fixture(scope="session")
def undisturbed(world: Path) -> str:
    """The same build without a disturbance; without Ray, which must not matter."""
    out = str(world / "undisturbed")
    words = replay(world, out)
    sample_here(load_config(words[0], words[1:]), make_sampler)
    done = mmpr("pair", *words)
    assert done.returncode == 0, done.stderr
    return out


def conclude(outcomes: list[Outcome], outcome: Outcome, build: Build, expected: str) -> None:
    """Finish the build, compare it, look for orphans, and add the line to the table."""
    build.finish()
    outcome.resumed += build.starts - 1
    judge(outcome, build.out, expected)
    left = orphans(outcome.others)
    outcome.orphans += len(left)
    if outcome not in outcomes:
        outcomes.append(outcome)
    assert not left
    assert (outcome.lost, outcome.doubled) == (0, 0)


def torment(
    outcomes: list[Outcome],
    outcome: Outcome,
    kills: int,
    kill: Callable[[Build, random.Random], bool],
    make: Callable[[str], Build],
    expected: str,
    seed: int,
    *,
    gap_s: tuple[float, float],
    need_progress: float,
) -> None:
    """Kill in one build after the other (named by `make`'s argument) until there were enough."""
    chance = random.Random(seed)
    for number in range(6):
        build = make(str(number))
        more = kills - outcome.kills
        outcome.kills += disturb(
            build, more, kill, chance, gap_s=gap_s, need_progress=need_progress
        )
        conclude(outcomes, outcome, build, expected)
        if outcome.kills == kills:
            return
    raise AssertionError(f"{outcome.kills} kills only: the builds are too quick")


@pytest.fixture
def outcome(outcomes: list[Outcome]) -> Iterator[Outcome]:
    """Ends before `outcomes` does, so that what is told has its time."""
    one = Outcome("", "bytes", others={process.pid for process in family()})
    began = time.monotonic()
    yield one
    one.seconds = time.monotonic() - began


# --- kills of a local run -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kills", "seed"),
    [pytest.param(2, 1, marks=SHORT), *(pytest.param(11, s, marks=LONG) for s in (2, 3, 4))],
)
def test_the_driver_is_killed(
    kills: int,
    seed: int,
    world: Path,
    undisturbed: str,
    tmp_path: Path,
    outcomes: list[Outcome],
    outcome: Outcome,
) -> None:
    outcome.victim = "driver"
    # From its first second (imports, planning, Ray's start) to well into sampling.
    torment(
        outcomes,
        outcome,
        kills,
        kill_driver,
        lambda name: a_build(world, tmp_path, str(tmp_path / name)),
        undisturbed,
        seed,
        gap_s=(0.5, 9),
        need_progress=0.6,
    )


@pytest.mark.parametrize(
    ("kills", "seed"),
    [pytest.param(3, 1, marks=SHORT), *(pytest.param(8, s, marks=LONG) for s in (2, 3, 4, 5))],
)
def test_the_process_of_an_engine_is_killed(
    kills: int,
    seed: int,
    world: Path,
    undisturbed: str,
    tmp_path: Path,
    outcomes: list[Outcome],
    outcome: Outcome,
) -> None:
    outcome.victim = "actor"
    torment(
        outcomes,
        outcome,
        kills,
        kill_actor,
        lambda name: a_build(world, tmp_path, str(tmp_path / name)),
        undisturbed,
        seed,
        gap_s=(0.1, 2),
        need_progress=0.9,
    )


# --- kills between the stages ---------------------------------------------------------------

RUNS, OUTPUT = "mmpr_builder.runs", "mmpr_builder.output"
MOMENTS = {
    "planning to sampling": (
        f"{RUNS}.planning:write_manifest:before:1",
        f"{RUNS}.planning:write_manifest:after:1",
        f"{RUNS}.sample_run:ray_session:before:1",
        f"{RUNS}.driver:Fleet:after:1",
    ),
    "last unit to pairing": (
        "mmpr_builder.folder.parts:tidy:before:1",
        "mmpr_builder.folder.parts:tidy:after:1",
        f"{RUNS}:run_pairing:before:1",
    ),
    "within pairing": (
        f"{OUTPUT}.writer:BuildWriter.add:after:3",
        f"{OUTPUT}.shards:publish:before:1",
        # The folders of pairs and drops go, then the new ones come.
        *(f"pathlib:Path.rename:after:{number}" for number in (1, 2, 3, 4)),
    ),
    "pairing to report": (
        f"{RUNS}.pair_run:finish_build:before:1",
        f"{OUTPUT}.card:render_card:after:1",
        f"{RUNS}.pair_run:finish_build:after:1",
        "mmpr_builder.stages:write_report:before:1",
        "mmpr_builder.stages:write_report:after:1",
    ),
    "extending": (
        f"{RUNS}.planning:write_order:before:1",
        f"{RUNS}.planning:write_manifest:before:1",
        f"{RUNS}.planning:write_manifest:after:1",
        f"{RUNS}.driver:Driver._on_result:after:3",
    ),
    "pooling": (
        f"{RUNS}.pair_run:Pool:after:1",
        f"{OUTPUT}.writer:BuildWriter.add:after:2",
        f"{OUTPUT}.shards:publish:before:1",
    ),
}
HALF = SEEDS // 2


@pytest.fixture(scope="session")
def before(world: Path, undisturbed: str) -> dict[str, tuple[str, list[str]]]:
    """Stage -> what the folder has when the run starts that is killed, and more words for it."""
    half = a_build(world, world, str(world / "half"), f"limit={HALF}", **{DELAY: ""})
    half.finish(limit=1)
    paired, more = (undisturbed, ["pairing.max_per_seed=1"]), ["limit=160", "--extend"]
    return {
        "planning to sampling": ("", []),
        "last unit to pairing": (undisturbed, []),
        "within pairing": paired,
        "pairing to report": paired,
        "extending": (half.out, more),
        "pooling": ("", [f"rollouts=[{undisturbed},{half.out}]"]),
    }


@LONG
@pytest.mark.parametrize("stage", MOMENTS)
def test_the_driver_is_killed_between_stages(
    stage: str,
    world: Path,
    before: dict[str, tuple[str, list[str]]],
    tmp_path: Path,
    outcomes: list[Outcome],
    outcome: Outcome,
) -> None:
    outcome.victim = f"driver, {stage}"
    there, more = before[stage]
    command = "pair" if stage == "pooling" else "build"

    def build(name: str, **env: str) -> Build:
        out = str(tmp_path / name)
        if there:
            shutil.copytree(there, out)
        words = [word for word in replay(world, out, *more) if stage != "pooling" or
                 not word.startswith("seeds=")]  # fmt: skip
        return Build(out, words, tmp_path / "log", env, command)

    expected = build("expected")
    expected.finish(limit=1)
    for number, moment in enumerate(MOMENTS[stage]):
        killed = build(str(number), **{AT: moment})
        assert killed.start().wait(timeout=300) == -signal.SIGKILL, killed.tail()
        killed.process, killed.environment = None, {}
        outcome.kills += 1
        conclude(outcomes, outcome, killed, expected.out)


@LONG
def test_a_machine_short_of_memory_ends_a_start_with_a_message(world: Path, tmp_path: Path) -> None:
    starved = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"}
    build = a_build(world, tmp_path, **starved)
    assert build.start().wait(timeout=300) == 2, build.tail()
    assert "error: the engine did not start: its process died" in build.tail()
    assert "the node running low on memory" in build.tail()
    assert "Traceback" not in build.tail()
    build.process, build.environment = None, {}
    build.finish(limit=1)


# --- kills on a cluster ---------------------------------------------------------------------


class Nodes:
    """Three nodes in a process of their own."""

    def __init__(self, seed: int, log: Path) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        environment |= {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(HERE)}
        environment |= {"RAY_USAGE_STATS_ENABLED": "0"}
        with log.open("ab") as errors:
            self._host = awaited(
                subprocess.Popen(
                    [sys.executable, str(HERE / "fault_nodes.py"), str(seed)],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                )
            )
        self.address = self._answer()

    def _answer(self) -> str:
        assert self._host.stdout is not None
        while line := self._host.stdout.readline():
            if line.strip().isdigit() or line.count(":") == 1:
                return line.strip()
        raise AssertionError("the cluster's process has ended")

    def order(self, word: str) -> None:
        assert self._host.stdin is not None
        self._host.stdin.write(f"{word}\n")
        self._host.stdin.flush()
        self._answer()

    def close(self) -> None:
        assert self._host.stdin is not None
        self._host.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._host.wait(timeout=30)
        self._host.kill()
        self._host.wait()


@pytest.mark.parametrize(
    ("kills", "replaced", "seed"),
    [
        pytest.param(2, True, 1, marks=SHORT),
        *(pytest.param(6, True, s, marks=LONG) for s in (2, 3)),
        *(pytest.param(2, False, s, marks=LONG) for s in (4, 5, 6)),
    ],
)
def test_a_node_of_three_is_killed(
    kills: int,
    replaced: bool,
    seed: int,
    world: Path,
    undisturbed: str,
    tmp_path: Path,
    outcomes: list[Outcome],
    outcome: Outcome,
) -> None:
    outcome.victim = f"node of three, {'replaced' if replaced else 'not replaced'}"
    clusters: list[Nodes] = []

    def kill_node(build: Build, chance: random.Random) -> bool:
        clusters[-1].order("kill")
        if replaced:
            clusters[-1].order("add")
        return True

    def make(name: str) -> Build:
        clusters.append(Nodes(seed, tmp_path / "nodes.log"))
        outcome.others |= {process.pid for process in family()}
        words = (f"distributed.address={clusters[-1].address}", "distributed.units_in_flight=1")
        env = {DELAY: "4" if kills > 2 else "2", "RAY_AUTH_MODE": "disabled"}
        return a_build(world, tmp_path, str(tmp_path / name), *words, **env)

    try:
        torment(
            outcomes,
            outcome,
            kills,
            kill_node,
            make,
            undisturbed,
            seed,
            gap_s=(0.5, 4),
            need_progress=1.0,
        )
    finally:
        for nodes in clusters:
            nodes.close()


# --- kills with the real engine -------------------------------------------------------------


def real(world: Path, out: Path) -> Build:
    words = [
        *("demo", f"seeds={world / 'seeds' / 'seeds.jsonl'}", "limit=48", f"out={out}"),
        *("sampling.n=4", "sampling.max_tokens=128", "distributed.unit_queries=4"),
        "distributed.units_in_flight=2",
    ]
    return Build(str(out), words, out.parent / f"{out.name}.log")


@pytest.fixture(scope="session")
def really_undisturbed(world: Path) -> str:
    build = real(world, world / "real")
    build.finish(limit=1)
    return build.out


@LONG
@pytest.mark.parametrize(
    ("victim", "kills"), [("vLLM's engine core", 5), ("vLLM's actor", 3), ("vLLM's driver", 3)]
)
def test_with_the_real_engine(
    victim: str,
    kills: int,
    world: Path,
    really_undisturbed: str,
    tmp_path: Path,
    outcomes: list[Outcome],
    outcome: Outcome,
) -> None:
    outcome.victim, outcome.compared = victim, "ids, seeds"
    kill = {"vLLM's engine core": kill_engine, "vLLM's actor": kill_actor}.get(victim, kill_driver)
    torment(
        outcomes,
        outcome,
        kills,
        kill,
        lambda name: real(world, tmp_path / name),
        really_undisturbed,
        kills,
        gap_s=(2, 20) if kill is kill_driver else (0.1, 1.0),
        need_progress=0.7,
    )


# --- object stores and disks ----------------------------------------------------------------


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A real S3 server whose content outlives a stop; gives (environment, stop, start again)."""
    import s3fs

    servers = [ThreadedMotoServer("127.0.0.1", port=0)]
    servers[0].start()
    host, port = servers[0].get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    fs = fsspec.filesystem("s3")
    if not fs.exists("faults"):
        fs.mkdir("faults")

    def again() -> None:
        servers.append(ThreadedMotoServer("127.0.0.1", port=port))
        servers[-1].start()

    yield environment, servers[0].stop, again
    servers[-1].stop()
    s3fs.S3FileSystem.clear_instance_cache()


@LONG
def test_the_driver_of_a_build_on_s3_is_killed(
    world: Path,
    undisturbed: str,
    tmp_path: Path,
    s3: Any,
    outcomes: list[Outcome],
    outcome: Outcome,
) -> None:
    outcome.victim = "driver, build on S3"
    torment(
        outcomes,
        outcome,
        6,
        kill_driver,
        lambda name: a_build(world, tmp_path, f"s3://faults/{tmp_path.name}/{name}"),
        undisturbed,
        7,
        gap_s=(0.5, 10),
        need_progress=0.6,
    )


@LONG
def test_s3_is_away_for_a_minute(
    world: Path,
    undisturbed: str,
    tmp_path: Path,
    s3: Any,
    outcomes: list[Outcome],
    outcome: Outcome,
) -> None:
    _, stop, again = s3
    build = a_build(world, tmp_path, f"s3://faults/{tmp_path.name}")
    build.start()
    while build.parts() < 3:
        assert build.running(), build.tail()
        time.sleep(0.1)
    stop()
    timer = threading.Timer(60, again)
    timer.start()
    try:
        outcome.victim = "storage away for a minute"
        conclude(outcomes, outcome, build, undisturbed)
    finally:
        timer.join()
    assert outcome.resumed == 0, "the same run waited and went on"


@LONG
def test_the_disk_is_full_and_then_is_not(
    world: Path, undisturbed: str, tmp_path: Path, outcomes: list[Outcome], outcome: Outcome
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk here")
    try:
        build = a_build(world, tmp_path, str(small / "out"))
        assert build.start().wait(timeout=300) in (1, 2)
        said = " ".join(build.tail().split())
        assert "No space left on device" in said
        assert str(small / "out") in said
        assert "free some space" in said
        kept = digests(build.out, "rollouts")
        assert kept, "what was finished is there"
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        build.process = None
        outcome.victim = "disk full, then larger"
        conclude(outcomes, outcome, build, undisturbed)
        assert kept.items() <= digests(build.out, "rollouts").items()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


# --- poison and signals ---------------------------------------------------------------------


@LONG
def test_a_row_that_kills_its_process_is_set_aside(
    world: Path, undisturbed: str, tmp_path: Path, outcomes: list[Outcome], outcome: Outcome
) -> None:
    poison = rollouts(undisturbed)[37].seed.id
    build = a_build(world, tmp_path, **{POISON: poison, DELAY: "0.1"})
    assert build.finish(limit=1, codes=(3,)) == 3
    found = {rollout.seed.id: rollout for rollout in rollouts(build.out)}
    error = found.pop(poison).error
    assert error is not None
    assert error[0] == parts.KILLED_ENGINE
    for rollout in rollouts(undisturbed):
        assert rollout.seed.id == poison or found[rollout.seed.id] == rollout
    assert poison in build.tail()
    drops = read_parquet(f"{build.out}/drops/part-00000.parquet").to_pylist()
    assert [d["item_id"] for d in drops if d["reason"] == parts.KILLED_ENGINE] == [poison]
    outcome.victim = "a row that kills (set aside)"
    outcome.doubled, outcome.orphans = (
        len(rollouts(build.out)) - SEEDS,
        len(orphans(outcome.others)),
    )
    outcomes.append(outcome)
    assert (outcome.doubled, outcome.orphans) == (0, 0)


@LONG
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_keeps_what_it_has_and_leaves_nobody_behind(
    signum: signal.Signals,
    world: Path,
    undisturbed: str,
    tmp_path: Path,
    outcomes: list[Outcome],
    outcome: Outcome,
) -> None:
    build = a_build(world, tmp_path)
    chance = random.Random(signum)
    for _ in range(2):
        process = build.start()
        target = build.parts() + 2
        while build.parts() < target and build.running():
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 1))
        process.send_signal(signum)
        assert process.wait(timeout=60) == 128 + signum, build.tail()
        assert not orphans(outcome.others)
        assert (Path(build.out) / "partial").exists() or build.parts() >= target
        build.process = None
    outcome.victim = f"{signum.name} (stops in good order)"
    conclude(outcomes, outcome, build, undisturbed)


@LONG
def test_at_the_end_even_rays_agents_are_gone() -> None:
    scorers = {p.pid for p in titled(sys.executable)}
    assert not orphans(scorers, AGENTS_S, agents=True)


PARENT = """
import pathlib, subprocess, sys, tempfile, time
from mmpr_builder.cluster.replicas import end_children_with_us
if len(sys.argv) > 1:
    end_children_with_us()
child = "import subprocess; subprocess.run(['sleep', '99'])"
subprocess.Popen([sys.executable, "-c", child])
folder = tempfile.mkdtemp()
pathlib.Path(folder, "socket").touch()
print(folder, flush=True)
time.sleep(99)
"""


@pytest.mark.parametrize("guarded", [True, False])
def test_children_of_a_guarded_process_do_not_outlive_it(guarded: bool, outcome: Outcome) -> None:
    words = [sys.executable, "-c", PARENT, *(["guarded"] if guarded else [])]
    parent = awaited(subprocess.Popen(words, stdout=subprocess.PIPE))
    assert parent.stdout is not None
    left_there = Path(parent.stdout.readline().decode().strip())
    while not titled("sleep 99"):
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    left = orphans(outcome.others, within_s=10 if guarded else 0.5)
    assert bool(left) is not guarded, left
    deadline = time.monotonic() + (10 if guarded else 1)
    while left_there.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left_there.exists() is not guarded
    shutil.rmtree(left_there, ignore_errors=True)


def test_the_harness_sees_an_orphan(outcome: Outcome) -> None:
    """A check that could not fail would prove nothing."""
    child = "import subprocess; subprocess.Popen(['sleep', '99'])"
    awaited(subprocess.Popen([sys.executable, "-c", child])).wait()
    (left,) = orphans(outcome.others, within_s=0.5)
    assert "sleep 99" in left
    assert not orphans(outcome.others)


def test_the_harness_sees_a_lost_and_a_doubled_row(world: Path, tmp_path: Path) -> None:
    pool = world / "pool"
    for change, lost, doubled in [("remove", 32, 0), ("copy", 0, 32)]:
        out = tmp_path / change
        shutil.copytree(pool / "rollouts", out / "rollouts")
        first = sorted((out / "rollouts").iterdir())[0]
        if change == "remove":
            first.unlink()
        else:
            shutil.copyfile(first, first.with_name("unit-99999.parquet"))
        outcome = Outcome("", "bytes")
        with pytest.raises(AssertionError):
            judge(outcome, str(out), str(pool))
        assert (outcome.lost, outcome.doubled) == (lost, doubled)
