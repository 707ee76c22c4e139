"""Every seed exactly once, whatever dies; and pairs that do not depend on who made them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from itertools import pairwise
from pathlib import Path

import fake_samplers
import psutil
import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st
from ray_nodes import wait_for

from mmpr_builder.config import Config, load_config
from mmpr_builder.distributed import SamplingSummary, parts, plan, run_pairing, run_sampling
from mmpr_builder.distributed.actors import Counts, SamplerActor, seats
from mmpr_builder.distributed.capacity import Shape
from mmpr_builder.distributed.cluster import refuse_passing_folder
from mmpr_builder.distributed.manifest import Unit, read_manifest
from mmpr_builder.distributed.replicas import start_replica
from mmpr_builder.distributed.units import Work, WorkQueue
from mmpr_builder.errors import ConfigError, EngineError, InputError, SetupError
from mmpr_builder.progress import Progress
from mmpr_builder.records import Rollout
from mmpr_builder.tables import list_parts, read_parquet, rollouts_from_table


def make_config(tmp_path: Path, count: int, *overrides: str, out: str = "out") -> Config:
    """A build of `count` small questions (one in five without a truth) and of four bad rows."""
    rows = [
        {
            "id": f"q{i}",
            "question": f"What is {i} + 1?",
            **({"answer": str(i % 3)} if i % 5 else {}),
        }
        for i in range(count)
    ] + [{"id": f"bad{i}"} for i in range(4)]
    rows = rows[-2:] + rows[:-2]
    (tmp_path / "seeds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_config(
        None,
        [
            "sampling.engine=endpoint",
            "sampling.endpoint.url=http://127.0.0.1:9/v1",
            "sampling.n=4",
            "model=fake",
            f"seeds={tmp_path / 'seeds.jsonl'}",
            f"out={tmp_path / out}",
            "distributed.unit_queries=4",
            *overrides,
        ],
    )


def rollouts(config: Config) -> list[Rollout]:
    return [
        rollout
        for uri in list_parts(f"{config.out}/rollouts")
        for rollout in rollouts_from_table(read_parquet(uri))
    ]


def ids(config: Config) -> list[str]:
    return [rollout.seed.id for rollout in rollouts(config)]


def test_what_was_asked_of_an_actor_is_answered_before_its_engine_loads(tmp_path: Path) -> None:
    """Where it runs, that is; while it loads nothing can be told."""
    order: list[str] = []

    def load(config: Config) -> fake_samplers.FakeSampler:
        order.append("loads")
        return fake_samplers.answers(config)

    async def work() -> None:
        where = asyncio.ensure_future(asyncio.sleep(0))
        where.add_done_callback(lambda _: order.append("answered"))
        await SamplerActor(make_config(tmp_path, 1), load).start()

    asyncio.run(work())
    assert order == ["answered", "loads"]


def sample_here(config: Config) -> None:
    """The first half without Ray: one actor as a plain object, unit after unit."""

    async def work() -> None:
        actor = SamplerActor(config, fake_samplers.answers)
        assert (await actor.start())[1] == ""
        for key, unit in enumerate(plan(config).units):
            assert (await actor.sample(key, unit, None)).published
        await actor.close()

    asyncio.run(work())


# --- which work is next ---------------------------------------------------------------------


def unit(number: int, count: int = 8) -> Unit:
    return Unit(f"unit-{number:05}", number * 100, count, 0, f"digest{number}")


def rows_of(one: Unit) -> list[int]:
    return [one.first + i for i in range(one.count)]


def test_units_are_handed_out_in_order_up_to_the_limit() -> None:
    queue = WorkQueue(map(unit, range(3)), 3, rows_of)
    works: list[Work] = []
    while (work := queue.take(works, 2)) is not None:
        works.append(work)
    assert [work.unit.name for work in works] == ["unit-00000", "unit-00001"]
    assert len(queue) == 1


def test_a_suspect_gets_an_engine_to_itself() -> None:
    queue = WorkQueue([unit(0), unit(1)], 3, rows_of)
    for _ in range(2):
        works = [queue.take([], 4), queue.take([], 4)]
        queue.died([work for work in works if work])
    first = queue.take([], 4)
    assert first is not None
    assert first.alone
    assert queue.take([first], 4) is None
    innocent = Work(unit(7))
    assert queue.take([innocent], 4) is None


def test_one_death_together_with_others_convicts_nobody() -> None:
    queue = WorkQueue(map(unit, range(4)), 1, rows_of)
    works = [queue.take([], 9) for _ in range(4)]
    assert queue.died([work for work in works if work]) == []
    assert all(work.rows is None for work in queue._waiting)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    poison=st.sets(st.tuples(st.integers(0, 5), st.integers(0, 8)), max_size=3),
    max_tries=st.integers(1, 4),
    limit=st.integers(1, 3),
)
def test_exactly_the_rows_that_kill_are_set_aside(
    sizes: list[int], poison: set[tuple[int, int]], max_tries: int, limit: int
) -> None:
    units = [unit(i, size) for i, size in enumerate(sizes)]
    deadly = {u * 100 + row for u, row in poison if u < len(sizes) and row < sizes[u]}
    queue = WorkQueue(units, max_tries, rows_of)
    delivered: list[int] = []
    guilty: list[int] = []
    for _ in range(10_000):
        works: list[Work] = []
        while (work := queue.take(works, limit)) is not None:
            works.append(work)
        if not works:
            break
        rows = [row for w in works for row in (rows_of(w.unit) if w.rows is None else w.rows)]
        if deadly & set(rows):
            guilty += [w.rows[0] for w in queue.died(works) if w.rows]
        else:
            delivered += rows
    assert not len(queue)
    assert sorted(guilty) == sorted(deadly)
    assert sorted(delivered) == sorted({r for u in units for r in rows_of(u)} - deadly)


def test_work_that_fails_without_a_death_is_given_up_after_max_tries() -> None:
    queue = WorkQueue([unit(0)], 2, rows_of)
    work = queue.take([], 1)
    assert work is not None
    assert queue.try_again(work)
    again = queue.take([], 1)
    assert again is not None
    assert not queue.try_again(again)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["sampling.n=32"], 32),
        (["sampling.n=1"], 256),
        (["sampling.n=4096"], 8),
        (["sampling.n=8", "engine.max_num_seqs=64"], 16),
        (["sampling.engine=endpoint", "sampling.endpoint.concurrency=7"], 7),
    ],
)
def test_seats_keep_an_engine_full_and_memory_bounded(overrides: list[str], expected: int) -> None:
    assert seats(load_config(None, overrides)) == expected


# --- parts ----------------------------------------------------------------------------------


def test_a_torn_and_a_foreign_part_are_noticed(tmp_path: Path) -> None:
    config = make_config(tmp_path, 12)
    sample_here(config)
    manifest = read_manifest(config.out)
    assert len(parts.published(config.out, manifest.units)) == 3
    first, second, third = (Path(parts.rollouts_uri(config.out, u)) for u in manifest.units)
    first.write_bytes(first.read_bytes()[:-20])
    second.write_bytes(third.read_bytes())
    assert list(parts.published(config.out, manifest.units)) == [manifest.units[2].name]


def test_rows_kept_of_an_unfinished_unit_are_not_sampled_again(tmp_path: Path) -> None:
    config = make_config(tmp_path, 4)
    (one,) = plan(config).units
    indices = [index for index, _ in parts.read_seeds(config.out, one)]

    async def work(rows: list[int] | None) -> tuple[int, bool]:
        actor = SamplerActor(config, fake_samplers.answers)
        await actor.start()
        result = await actor.sample(0, one, rows)
        return result.kept.seeds, result.published

    assert asyncio.run(work(indices[1:3])) == (2, False)
    assert ids(config) == []
    assert asyncio.run(work(None)) == (2, True)
    assert ids(config) == ["q0", "q1", "q2", "q3"]
    assert not (Path(config.out) / "partial" / one.name).exists()


STOPS = {
    "at once: what is finished": (2, "0", 2, False),
    "with a grace: what is under way, too, and nothing is begun": (1, "30", 2, False),
    "with a grace: the whole unit": (2, "30", 4, True),
}


@pytest.mark.parametrize(("at_once", "grace", "kept", "published"), STOPS.values(), ids=STOPS)
def test_a_stop_keeps(at_once: int, grace: str, kept: int, published: bool, tmp_path: Path) -> None:
    overrides = (f"sampling.endpoint.concurrency={at_once}", f"distributed.grace_s={grace}")
    config = make_config(tmp_path, 4, *overrides)
    (one,) = plan(config).units

    async def work() -> int:
        actor = SamplerActor(config, fake_samplers.answers_slowly)
        await actor.start()
        job = asyncio.create_task(actor.sample(0, one, None))
        while not any(counts.seeds == at_once for counts in (await actor.progress()).values()):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)  # The next seeds are under way.
        drained = await actor.drain()
        assert len(asyncio.all_tasks()) <= 2, "nothing is left that nobody waits for"
        with suppress(asyncio.CancelledError):
            result = await job
            assert result.published
            return drained.seeds + result.kept.seeds
        return drained.seeds

    assert asyncio.run(work()) == kept
    assert len(parts.read_partial(config.out, one)) == (0 if published else kept)
    assert bool(list_parts(f"{config.out}/rollouts")) is published


# --- the second half ------------------------------------------------------------------------


def folder_bytes(out: str, *names: str) -> dict[str, bytes]:
    return {
        f"{name}/{path.name}": path.read_bytes()
        for name in names
        for path in sorted((Path(out) / name).iterdir())
    }


@pytest.mark.slow
def test_pairs_do_not_depend_on_the_size_of_units_or_the_number_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("mmpr_builder.distributed.workers._RESPONSES_WORTH_A_PROCESS", 1)
    made = []
    for out, size, workers in [("a", 4, 1), ("b", 7, 2), ("c", 100, 1)]:
        overrides = [
            f"distributed.unit_queries={size}",
            f"distributed.scoring_workers={workers}",
            "dropout.apply=all",
        ]
        config = make_config(tmp_path, 30, *overrides, out=out)
        sample_here(config)
        summary = run_pairing(config, Progress())
        made.append((folder_bytes(config.out, "pairs", "drops"), summary.run["counts"]))
    assert made[0][1]["pairs"]["total"] > 20
    assert made[0][1]["seeds"]["read"] == 34
    assert made[0] == made[1]
    assert made[0] == made[2]


def test_pairing_again_changes_no_byte_and_another_policy_needs_no_sampling(tmp_path: Path) -> None:
    config = make_config(tmp_path, 12)
    sample_here(config)
    run_pairing(config, Progress())
    first = folder_bytes(config.out, "pairs", "drops", "rollouts")
    run_pairing(config, Progress())
    assert folder_bytes(config.out, "pairs", "drops", "rollouts") == first
    fewer = make_config(tmp_path, 12, "pairing.max_per_seed=1")
    summary = run_pairing(fewer, Progress())
    pairs = summary.run["counts"]["pairs"]["total"]
    assert 0 < pairs == summary.run["counts"]["seeds"]["with_pairs"]


def test_every_row_of_the_input_ends_in_pairs_or_one_drop(tmp_path: Path) -> None:
    config = make_config(tmp_path, 20)
    sample_here(config)
    run_pairing(config, Progress())
    paired = set(read_parquet(f"{config.out}/pairs/part-00000.parquet")["seed_id"].to_pylist())
    dropped = read_parquet(f"{config.out}/drops/part-00000.parquet")["item_id"].to_pylist()
    assert len(dropped) == len(set(dropped))
    assert not paired & set(dropped)
    assert len(paired) + len(dropped) == 24


def test_half_a_build_is_not_paired(tmp_path: Path) -> None:
    config = make_config(tmp_path, 12)
    sample_here(config)
    Path(parts.rollouts_uri(config.out, read_manifest(config.out).units[1])).unlink()
    with pytest.raises(InputError, match="1 of 3 units are not sampled yet"):
        run_pairing(config, Progress())


def test_a_folder_without_rollouts_is_not_paired(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rollouts"):
        run_pairing(make_config(tmp_path, 3), Progress())


def test_rollouts_without_their_plan_can_be_paired(tmp_path: Path) -> None:
    config = make_config(tmp_path, 12)
    sample_here(config)
    (Path(config.out) / "manifest.json").unlink()
    assert run_pairing(config, Progress()).run["counts"]["seeds"]["read"] == 12


def test_dropped_rows_take_their_place_among_the_others(tmp_path: Path) -> None:
    config = make_config(tmp_path, 12, "pairing.kinds=truncated")  # Of which there are none.
    sample_here(config)
    run_pairing(config, Progress())
    dropped = read_parquet(f"{config.out}/drops/part-00000.parquet")["item_id"].to_pylist()
    assert len(dropped) == 16
    assert dropped[2:-2] == [f"q{i}" for i in range(12)]
    assert all("q" not in name for name in dropped[:2] + dropped[-2:])


@pytest.mark.parametrize(("out", "refused"), [("out/x", True), ("/x", False), ("s3://b/x", False)])
def test_a_ray_job_must_not_build_into_its_passing_folder(
    out: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(None, [f"out={out}"])
    refuse_passing_folder(config)
    unpacked = {"runtime_env": {"working_dir": "gcs://_ray_pkg_7.zip"}, "metadata": {}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(unpacked))
    with pytest.raises(ConfigError, match="all nodes reach") if refused else nullcontext():
        refuse_passing_folder(config)


# --- the first half on a real Ray -----------------------------------------------------------


class Notes(Progress):
    """Keeps what a person would have been told, and the figures shown."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []
        self.done: list[int] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def update(self, **figures: object) -> None:
        super().update(**figures)
        if self.snapshot()["stage"] == "sampling":
            self.done.append(self.snapshot()["done"])


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """One private Ray for all tests that do not kill it."""
    from mmpr_builder.distributed.cluster import ray_session

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(Path(__file__).parent))  # Workers import the fakes.
        with ray_session(load_config(None, ["distributed.address=local"]), Progress()):
            yield


def sampled(config: Config, factory: object, progress: Progress | None = None) -> SamplingSummary:
    return run_sampling(config, progress or Progress(), sampler_factory=factory)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_all_seeds_are_sampled_once_and_nothing_is_done_twice(tmp_path: Path) -> None:
    config = make_config(tmp_path, 21, "distributed.replicas=2", "sampling.endpoint.concurrency=3")
    progress = Notes()
    summary = sampled(config, fake_samplers.answers_slowly, progress)
    assert ids(config) == [f"q{i}" for i in range(21)]
    assert (summary.units, summary.units_before, summary.seeds, summary.drops) == (6, 0, 21, 4)
    assert (summary.sampled.seeds, summary.sampled.responses) == (21, 84)
    assert summary.sampled.tokens == 84 * 7
    assert summary.quarantined == summary.retries == 0
    assert progress.done[-1] == 21
    assert all(before <= after for before, after in pairwise(progress.done))
    # Units hold four seeds and the last one: other figures are of units not finished yet.
    assert any(done % 4 > 1 for done in progress.done), "figures move within units, too"
    again = sampled(config, fake_samplers.does_not_start)  # Which would be an error, if asked.
    assert again.units_before == again.units
    assert again.sampled.seeds == 0


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_row_that_kills_its_process_is_set_aside_and_all_others_are_delivered(
    tmp_path: Path,
) -> None:
    config = make_config(tmp_path, 10, "distributed.max_tries=1")
    clean = make_config(tmp_path, 10, out="clean")
    sample_here(clean)
    text = (tmp_path / "seeds.jsonl").read_text()
    (tmp_path / "seeds.jsonl").write_text(text.replace("What is 5 +", "What is POISON 5 +"))
    progress = Notes()
    summary = sampled(config, fake_samplers.answers, progress)
    assert summary.quarantined == 1
    assert ids(config) == [f"q{i}" for i in range(10)]
    by_id = {rollout.seed.id: rollout for rollout in rollouts(config)}
    error = by_id["q5"].error
    assert error is not None
    assert error[0] == "killed_engine"
    for rollout in rollouts(clean):
        if rollout.seed.id != "q5":
            assert by_id[rollout.seed.id] == rollout
    assert any("'q5'" in note for note in progress.notes)
    assert sampled(config, fake_samplers.answers).quarantined == 1, "a rerun says so, too"
    drops = run_pairing(config, Progress()).run["counts"]["drops"]
    assert drops["sampling"] == {"killed_engine": 1}


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_an_engine_that_dies_is_replaced_and_its_work_done_again(tmp_path: Path) -> None:
    config = make_config(tmp_path, 10)
    summary = sampled(config, fake_samplers.DiesOnce(tmp_path / "died"))
    assert ids(config) == [f"q{i}" for i in range(10)]
    assert summary.retries > 0
    assert summary.quarantined == 0
    assert not any(rollout.error for rollout in rollouts(config))


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_the_death_of_an_engine_without_work_shows(tmp_path: Path) -> None:
    replica = start_replica(make_config(tmp_path, 1), fake_samplers.answers, Shape(), [])
    try:
        assert ray.get(replica.started)[1] == ""
        replica.started = None
        replica.poll()
        assert ray.get(replica.progress_ref) == {}
        assert not replica.died_idle
        ray.kill(replica.actor)
        wait_for(lambda: replica.poll() == Counts() and replica.died_idle, 60)
    finally:
        replica.end()


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(
    ("factory", "says"),
    [
        (fake_samplers.does_not_start, "the model needs 80 GiB"),
        (fake_samplers.kills_its_process, "process died"),
    ],
)
def test_an_engine_that_cannot_start_ends_the_run_with_the_reason(
    factory: object, says: str, tmp_path: Path
) -> None:
    began = time.monotonic()
    with pytest.raises(SetupError, match=says):
        sampled(make_config(tmp_path, 3), factory)
    assert time.monotonic() - began < 120


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_storage_that_stays_away_ends_the_run_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmpr_builder.distributed.driver._STORAGE_PAUSE_S", 0.1)
    config = make_config(tmp_path, 3)
    plan(config)
    (tmp_path / "out" / "rollouts").write_text("a file where the folder should be")
    with pytest.raises(EngineError, match="run again to go on"):
        sampled(config, fake_samplers.answers)


DRIVER = """
import sys
import fake_samplers
from mmpr_builder.config import load_config
from mmpr_builder.distributed import run_sampling
from mmpr_builder.errors import Interrupted
from mmpr_builder.progress import Progress
try:
    with Progress.auto() as progress:
        run_sampling(
            load_config(None, sys.argv[1:]), progress,
            sampler_factory=fake_samplers.answers_slowly,
        )
except Interrupted as stop:
    sys.exit(128 + stop.signum)
"""


def start_driver(config: Config, *overrides: str) -> subprocess.Popen[str]:
    """A run in a process (and process group) of its own."""
    words = [
        *(f"sampling.{key}" for key in ("engine=endpoint", "n=4")),
        f"sampling.endpoint.url={config.sampling.endpoint.url}",
        f"model={config.model}",
        f"seeds={config.seeds[0].path}",
        f"out={config.out}",
        f"distributed.unit_queries={config.distributed.unit_queries}",
        *overrides,
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment["PYTHONPATH"] = str(Path(__file__).parent)
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, *words],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_parts(config: Config, count: int, driver: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while len(list_parts(f"{config.out}/rollouts")) < count:
        assert driver.poll() is None, driver.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def family(driver: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(driver.pid).children(recursive=True)


def is_agent(process: psutil.Process) -> bool:
    """Ray's two idle agents, which try for a minute to tell their dead server of its death."""
    with suppress(psutil.NoSuchProcess):
        return process.name() in ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
    return False


def assert_gone(processes: list[psutil.Process], within_s: float) -> None:
    _, alive = psutil.wait_procs(processes, timeout=within_s)
    alive = [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not alive


@pytest.fixture
def undisturbed(tmp_path: Path) -> list[Rollout]:
    config = make_config(tmp_path, 60, out="undisturbed")
    sample_here(config)
    return rollouts(config)


@pytest.mark.slow
def test_a_run_whose_driver_was_killed_goes_on_where_it_was(
    tmp_path: Path, undisturbed: list[Rollout]
) -> None:
    config = make_config(tmp_path, 60)
    driver = start_driver(config, "sampling.endpoint.concurrency=4")
    wait_for_parts(config, 3, driver)
    children = [process for process in family(driver) if not is_agent(process)]
    driver.kill()
    driver.wait()
    assert_gone(children, within_s=30)
    had = {
        path: path.stat().st_mtime_ns for path in map(Path, list_parts(f"{config.out}/rollouts"))
    }
    assert 3 <= len(had) < 15
    second = start_driver(config)
    assert second.wait(timeout=180) == 0, second.communicate()[1]
    assert rollouts(config) == undisturbed
    assert {path: path.stat().st_mtime_ns for path in had} == had


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_run_asked_to_stop_keeps_finished_rows_and_leaves_no_process(
    signum: signal.Signals, tmp_path: Path, undisturbed: list[Rollout]
) -> None:
    config = make_config(tmp_path, 60)
    driver = start_driver(config, "sampling.endpoint.concurrency=3")
    wait_for_parts(config, 2, driver)
    children = family(driver)
    os.killpg(driver.pid, signum)  # As a terminal's Ctrl-C does: everybody gets it.
    assert driver.wait(timeout=40) == 128 + signum, driver.communicate()[1]
    assert_gone(children, within_s=15)
    manifest = read_manifest(config.out)
    done = list(parts.published(config.out, manifest.units))
    assert 2 <= len(done) < 15
    sample_here_what_is_left(config)
    assert rollouts(config) == undisturbed


def sample_here_what_is_left(config: Config) -> None:
    async def work() -> None:
        actor = SamplerActor(config, fake_samplers.answers)
        await actor.start()
        manifest = plan(config)
        done = parts.published(config.out, manifest.units)
        for key, one in enumerate(manifest.units):
            if one.name not in done:
                assert (await actor.sample(key, one, None)).published

    asyncio.run(work())
