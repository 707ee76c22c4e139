"""Every seed exactly once, whatever dies; and pairs that do not depend on who made them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import fake_samplers
import psutil
import pytest
import ray
import small_builds
from build_files import drops_in, files_in, rollouts_in, rows_in
from old_builds import recorded
from ray_nodes import is_agent
from small_builds import ids, make_config, sample_here
from waiting import wait_for

from mmpr_builder.cluster.capacity import Shape
from mmpr_builder.cluster.replicas import start_replica
from mmpr_builder.cluster.session import refuse_passing_folder
from mmpr_builder.config import Config, load_config
from mmpr_builder.errors import ConfigError, EngineError, InputError, LimitReached, SetupError
from mmpr_builder.folder import parts
from mmpr_builder.folder.manifest import read_manifest
from mmpr_builder.io.tables import list_parts, read_parquet, rollouts_from_table
from mmpr_builder.progress import Progress
from mmpr_builder.records import Rollout
from mmpr_builder.runs import SamplingSummary, plan, run_pairing, run_sampling
from mmpr_builder.runs.actors import SamplerActor
from mmpr_builder.runs.sample_run import spent


@pytest.mark.slow
def test_pairs_do_not_depend_on_the_size_of_units_or_the_number_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("mmpr_builder.runs.pair_workers._RESPONSES_WORTH_A_PROCESS", 1)
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
        made.append((files_in(config.out, "pairs", "drops"), summary.run["counts"]))
    assert made[0][1]["pairs"]["total"] > 20
    assert made[0][1]["seeds"]["read"] == 34
    assert made[0] == made[1]
    assert made[0] == made[2]


def test_pairing_again_changes_no_byte_and_another_policy_needs_no_sampling(tmp_path: Path) -> None:
    config = make_config(tmp_path, 12)
    sample_here(config)
    run_pairing(config, Progress())
    first = files_in(config.out, "pairs", "drops", "rollouts")
    run_pairing(config, Progress())
    assert files_in(config.out, "pairs", "drops", "rollouts") == first
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


def test_what_is_sampled_of_a_build_can_be_paired_and_the_build_goes_on(tmp_path: Path) -> None:
    """A budget that is spent costs nothing that was paid for."""
    config = make_config(tmp_path, 12)
    sample_here(config)
    run_pairing(config, Progress())
    whole = {kind: files_in(tmp_path / "out" / kind) for kind in ("rollouts", "pairs", "drops")}
    _, begun, waiting = read_manifest(config.out).units
    kept = rollouts_from_table(read_parquet(parts.rollouts_uri(config.out, begun)))[1:3]
    for unit in (begun, waiting):
        Path(parts.rollouts_uri(config.out, unit)).unlink()
    parts.deliver(config.out, begun, kept)

    counts = run_pairing(config, Progress(), partial=True).run["counts"]
    assert counts["drops"]["sampling"] == {"not_sampled": 6}
    assert counts["seeds"]["read"] == counts["seeds"]["with_pairs"] + counts["seeds"]["dropped"]
    assert counts["seeds"]["read"] == 16, "four of them bad rows"
    there = {f"q{i}" for i in range(4)} | {one.seed.id for one in kept}
    assert {row["seed_id"] for row in rows_in(tmp_path / "out" / "pairs", ["seed_id"])} <= there
    told = {drop.item_id for drop in drops_in(config.out) if drop.reason == "not_sampled"}
    assert told == {f"q{i}" for i in range(12)} - there
    assert "6 of 16 questions were not sampled" in (tmp_path / "out" / "README.md").read_text()

    sample_here(config)
    run_pairing(config, Progress())
    assert whole == {kind: files_in(tmp_path / "out" / kind) for kind in whole}
    assert "were not sampled" not in (tmp_path / "out" / "README.md").read_text()


def test_without_a_seed_that_is_sampled_there_is_nothing_to_pair(tmp_path: Path) -> None:
    config = make_config(tmp_path, 3)
    plan(config)
    with pytest.raises(InputError, match=r"1 of 1 units are not sampled yet.*to finish them$"):
        run_pairing(config, Progress(), partial=True)
    with pytest.raises(ConfigError, match="--partial is for one build"):
        run_pairing(make_config(tmp_path, 3, "rollouts=[a,b]"), Progress(), partial=True)


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


class Notes(small_builds.Notes):
    """Keeps the figures shown, too."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[int] = []

    def update(self, **figures: object) -> None:
        super().update(**figures)
        if self.snapshot()["stage"] == "sampling":
            self.done.append(self.snapshot()["done"])


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """One private Ray for all tests that do not kill it."""
    from mmpr_builder.cluster.session import ray_session

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(
            "PYTHONPATH", str(Path(fake_samplers.__file__).parent)
        )  # Workers import the fakes.
        with ray_session(load_config(None, ["distributed.address=local"]), Progress()):
            yield


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_private_ray_is_open_to_nobody_else() -> None:
    import ray

    @ray.remote
    def ready() -> bool:
        return True

    assert ray.get(ready.remote())
    here = psutil.Process()
    sockets = [
        (process.name(), found.laddr.ip)
        for process in (here, *here.children(recursive=True))
        for found in process.net_connections()
        if found.status == psutil.CONN_LISTEN
    ]
    assert {"gcs_server", "raylet"} <= {name for name, _ in sockets}
    assert {ip.removeprefix("::ffff:") for _, ip in sockets} <= {"127.0.0.1", "::1"}
    (folder,) = Path(tempfile.gettempdir()).glob(f"mmpr-ray-{os.getpid()}-*")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    # Others leave a token there; ours is in the environment only.
    left = Path.home() / ".ray" / "auth_token"
    assert not left.exists() or left.read_text().strip() != os.environ["RAY_AUTH_TOKEN"]


def sampled(config: Config, factory: object, progress: Progress | None = None) -> SamplingSummary:
    return run_sampling(config, progress or Progress(), sampler_factory=factory)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_all_seeds_are_sampled_once_and_nothing_is_done_twice(tmp_path: Path) -> None:
    overrides = ("distributed.replicas=2", "sampling.endpoint.concurrency=3", "name=größe ☃")
    # Ray's metrics take tags in ASCII only; a build may be called and lie where it likes.
    config = make_config(tmp_path, 21, *overrides, out="out-größe-构建")
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
def test_a_build_stops_at_its_limit_and_goes_on_with_a_higher_one(tmp_path: Path) -> None:
    words = ("sampling.endpoint.concurrency=1", "distributed.units_in_flight=1")
    tokens = 28  # Of a seed.
    config = make_config(tmp_path, 9, *words, f"limits.tokens={2 * tokens}")
    with pytest.raises(LimitReached, match=r"limits.tokens=56 is reached; \d seeds.*raise it"):
        sampled(config, fake_samplers.answers_slowly)
    kept = spent(config.out)[1]["tokens"]
    assert 2 * tokens <= kept < 9 * tokens
    with pytest.raises(LimitReached, match=r"is reached; 0 seeds"):
        sampled(config, fake_samplers.does_not_start)  # Which would be another error, if asked.
    more = make_config(tmp_path, 9, *words, f"limits.tokens={9 * tokens}")
    assert sampled(more, fake_samplers.answers).sampled.tokens == 9 * tokens - kept
    assert ids(more) == [f"q{i}" for i in range(9)]
    other = make_config(tmp_path, 9, *words, out="other")
    sampled(other, fake_samplers.answers)
    assert rollouts_in(tmp_path / "out") == rollouts_in(tmp_path / "other")


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_row_that_kills_its_process_is_set_aside_and_all_others_are_delivered(
    tmp_path: Path,
) -> None:
    config = recorded(make_config(tmp_path, 10), "distributed", max_tries=1)
    clean = make_config(tmp_path, 10, out="clean")
    sample_here(clean)
    text = (tmp_path / "seeds.jsonl").read_text()
    (tmp_path / "seeds.jsonl").write_text(text.replace("What is 5 +", "What is POISON 5 +"))
    progress = Notes()
    summary = sampled(config, fake_samplers.answers, progress)
    assert summary.quarantined == 1
    assert ids(config) == [f"q{i}" for i in range(10)]
    by_id = {rollout.seed.id: rollout for rollout in rollouts_in(config.out)}
    error = by_id["q5"].error
    assert error is not None
    assert error[0] == "killed_engine"
    for rollout in rollouts_in(clean.out):
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
    assert not any(rollout.error for rollout in rollouts_in(config.out))


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_the_death_of_an_engine_without_work_shows(tmp_path: Path) -> None:
    replica = start_replica(
        SamplerActor, (make_config(tmp_path, 1), fake_samplers.answers), Shape(), []
    )
    try:
        assert ray.get(replica.started)[1] == ""
        replica.started = None
        replica.poll()
        assert ray.get(replica.progress_ref) == {}
        assert not replica.died_idle
        ray.kill(replica.actor)
        wait_for(lambda: replica.poll() == [] and replica.died_idle)
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
    with pytest.raises(SetupError, match=says):
        sampled(make_config(tmp_path, 3), factory)


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_storage_that_stays_away_ends_the_run_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmpr_builder.runs.driver._STORAGE_PAUSE_S", 0.1)
    config = make_config(tmp_path, 3)
    plan(config)
    (tmp_path / "out" / "rollouts").write_text("a file where the folder should be")
    with pytest.raises(EngineError, match="run again to go on"):
        sampled(config, fake_samplers.answers)


DRIVER = """
import os, sys
import fake_samplers
from mmpr_builder.config import load_config
from mmpr_builder.runs import run_sampling
from mmpr_builder.errors import Interrupted
from mmpr_builder.progress import Progress
try:
    with Progress.auto() as progress:
        run_sampling(
            load_config(None, sys.argv[1:]), progress,
            sampler_factory=getattr(fake_samplers, os.environ["FACTORY"]),
        )
except Interrupted as stop:
    sys.exit(128 + stop.signum)
"""


def start_driver(
    config: Config, *overrides: str, factory: str = "answers_slowly"
) -> subprocess.Popen[str]:
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
    environment |= {"PYTHONPATH": str(Path(fake_samplers.__file__).parent), "FACTORY": factory}
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, *words],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_parts(config: Config, count: int, driver: subprocess.Popen[str]) -> None:
    def are_there() -> bool:
        assert driver.poll() is None, driver.communicate()[1]
        return len(list_parts(f"{config.out}/rollouts")) >= count

    wait_for(are_there)


def family(driver: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(driver.pid).children(recursive=True)


def assert_gone(processes: list[psutil.Process], within_s: float) -> None:
    _, alive = psutil.wait_procs(processes, timeout=within_s)
    alive = [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not alive


@pytest.fixture
def undisturbed(tmp_path: Path) -> list[Rollout]:
    config = make_config(tmp_path, 60, out="undisturbed")
    sample_here(config)
    return rollouts_in(config.out)


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
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
    sampled(config, fake_samplers.answers)
    assert rollouts_in(config.out) == undisturbed
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
    assert driver.wait(timeout=300) == 128 + signum, driver.communicate()[1]
    assert_gone(children, within_s=30)
    manifest = read_manifest(config.out)
    done = list(parts.published(config.out, manifest.units))
    assert 2 <= len(done) < 15
    sample_here_what_is_left(config)
    assert rollouts_in(config.out) == undisturbed


@pytest.mark.slow
def test_a_second_signal_ends_the_grace_and_what_is_finished_is_kept(tmp_path: Path) -> None:
    config = make_config(tmp_path, 8)
    path = tmp_path / "seeds.jsonl"
    path.write_text(path.read_text().replace("What is 6 +", "HELD: what is 6 +"))
    driver = start_driver(config, "distributed.grace_s=120", factory="holds")
    wait_for_parts(config, 1, driver)
    children = family(driver)
    os.killpg(driver.pid, signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        driver.wait(timeout=2)
    os.killpg(driver.pid, signal.SIGINT)
    assert driver.wait(timeout=300) == 128 + signal.SIGINT, driver.communicate()[1]
    assert_gone(children, within_s=30)
    done, open_unit = read_manifest(config.out).units
    assert list(parts.published(config.out, [done, open_unit])) == [done.name]
    kept = parts.read_partial(config.out, open_unit).values()
    assert {rollout.seed.id for rollout in kept} == {"q4", "q5", "q7"}


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
