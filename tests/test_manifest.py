"""A plan is made once, is complete when it is there, and is never continued with other settings."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from build_files import write_jsonl
from PIL import Image
from small_builds import SERVED
from waiting import wait_for

from mmpr_builder.config import Config, load_config
from mmpr_builder.errors import BuildConflictError, InputError, NothingUsableError, SetupError
from mmpr_builder.folder import lock
from mmpr_builder.folder.lock import LOCK_NAME, build_lock
from mmpr_builder.folder.manifest import as_planned, read_manifest, refuse_other_build
from mmpr_builder.io.stores import resolve
from mmpr_builder.io.tables import read_parquet, seeds_from_table, write_parquet
from mmpr_builder.records import ImageRef, Seed
from mmpr_builder.runs import plan
from mmpr_builder.runs.inputs import with_demo
from mmpr_builder.runs.planning import ASSUMED_IMAGE_BYTES, cut, image_size, read_drops, seed_size


def write_rows(path: Path, count: int, bad: tuple[int, ...] = ()) -> Path:
    """Seeds q0, q1, …; those in `bad` have no question."""
    rows = [
        {"id": f"q{i}", "question": "" if i in bad else f"What is {i} + 1?", "answer": str(i + 1)}
        for i in range(count)
    ]
    return write_jsonl(path, rows)


def make_config(tmp_path: Path, *overrides: str) -> Config:
    """Settings whose model is a server's, so that planning needs no model."""
    return load_config(
        None,
        [
            *SERVED,
            "model=some-model",
            f"seeds={tmp_path / 'seeds.jsonl'}",
            f"out={tmp_path / 'out'}",
            "distributed.unit_queries=4",
            *overrides,
        ],
    )


def planned_ids(out: str | Path) -> list[tuple[int, str]]:
    manifest = read_manifest(str(out))
    return [
        (index, seed.id)
        for unit in manifest.units
        for index, seed in seeds_from_table(read_parquet(f"{out}/seeds/{unit.name}.parquet"))
    ]


def test_every_row_is_a_seed_of_one_unit_or_a_drop(tmp_path: Path) -> None:
    write_rows(tmp_path / "seeds.jsonl", 11, bad=(0, 5, 10))
    config = make_config(tmp_path)
    manifest = plan(config)
    drops = list(read_drops(config.out, manifest))
    assert [unit.count for unit in manifest.units] == [4, 4]
    assert [unit.first for unit in manifest.units] == [1, 6]
    assert planned_ids(config.out) == [(i, f"q{i}") for i in (1, 2, 3, 4, 6, 7, 8, 9)]
    assert [index for index, _ in drops] == [0, 5, 10]
    assert {drop.reason for _, drop in drops} == {drops[0][1].reason}
    assert (manifest.seeds, manifest.drops) == (8, 3)


def test_the_limit_counts_rows_in_all(tmp_path: Path) -> None:
    write_rows(tmp_path / "seeds.jsonl", 11)
    assert plan(make_config(tmp_path, "limit=5")).seeds == 5


def test_a_second_plan_reads_the_first_one(tmp_path: Path) -> None:
    write_rows(tmp_path / "seeds.jsonl", 6)
    first = plan(make_config(tmp_path))
    before = (tmp_path / "out" / "manifest.json").stat().st_mtime_ns
    assert plan(make_config(tmp_path)) == first
    assert (tmp_path / "out" / "manifest.json").stat().st_mtime_ns == before


def test_a_plan_that_was_not_finished_is_made_again(tmp_path: Path) -> None:
    write_rows(tmp_path / "seeds.jsonl", 9)
    plan(make_config(tmp_path))
    (tmp_path / "out" / "manifest.json").unlink()
    write_rows(tmp_path / "seeds.jsonl", 3)
    assert plan(make_config(tmp_path)).seeds == 3
    assert sorted(p.name for p in (tmp_path / "out" / "seeds").iterdir()) == [
        "drops.parquet",
        "unit-00000.parquet",
    ]


def test_rollouts_without_a_manifest_are_not_overwritten(tmp_path: Path) -> None:
    write_rows(tmp_path / "seeds.jsonl", 3)
    plan(make_config(tmp_path))
    part = read_parquet(tmp_path / "out" / "seeds" / "unit-00000.parquet")
    write_parquet(part, tmp_path / "out" / "rollouts" / "unit-00000.parquet")
    (tmp_path / "out" / "manifest.json").unlink()
    with pytest.raises(BuildConflictError, match="no manifest"):
        plan(make_config(tmp_path))


CONFLICTS = [
    (["sampling.n=8"], ["sampling.n: 32 in that build, 8 now"]),
    (["sampling.temperature=0.7"], ["sampling.temperature: 1.0 in that build, 0.7 now"]),
    (["model=other"], ['model: "some-model" in that build, "other" now']),
    (["limit=2"], ["limit: unset in that build, 2 now"]),
    (["dropout.keep=0.25"], ["dropout.keep: 0.5 in that build, 0.25 now"]),
    (["prompts.style=boxed"], ['prompts.style: "final_answer" in that build, "boxed" now']),
    (["engine.dtype=float32"], ['engine.dtype: unset in that build, "float32" now']),
    (["sampling.n=8", "sampling.seed=1"], ["sampling.n: 32", "sampling.seed: 0"]),
]


@pytest.mark.parametrize(("overrides", "named"), CONFLICTS, ids=lambda value: value[0])
def test_other_settings_are_refused_by_name(
    overrides: list[str], named: list[str], tmp_path: Path
) -> None:
    write_rows(tmp_path / "seeds.jsonl", 3)
    plan(make_config(tmp_path))
    with pytest.raises(BuildConflictError) as caught:
        plan(make_config(tmp_path, *overrides))
    message = str(caught.value)
    assert all(line in message for line in named)
    assert message.count("in that build") == len(named)
    assert "another out=" in message


@pytest.mark.parametrize(
    "override",
    [
        "distributed.unit_queries=2",
        "distributed.replicas=3",
        "sampling.endpoint.url=http://elsewhere/v1",
        "scoring.timeout_s=1",
        "pairing.max_per_seed=3",
        "name=other",
    ],
)
def test_settings_that_no_rollout_depends_on_may_change(override: str, tmp_path: Path) -> None:
    write_rows(tmp_path / "seeds.jsonl", 6)
    first = plan(make_config(tmp_path))
    assert plan(make_config(tmp_path, override)) == first


def test_a_plan_keeps_what_adaptive_sampling_aims_for(tmp_path: Path) -> None:
    write_rows(tmp_path / "seeds.jsonl", 6)
    first = plan(make_config(tmp_path, "sampling.policy=adaptive", "pairing.max_gap=9"))
    later = make_config(tmp_path, "sampling.policy=adaptive", "pairing.kinds=format")
    assert plan(later) == first
    assert (later.sampling.target_gap, later.sampling.target_kinds) == (None, ("format",))
    sampling = as_planned(later).sampling
    assert (sampling.target_gap, len(sampling.target_kinds)) == (9, 3)


def test_a_plan_whose_recipe_named_the_family_goes_on_without_it(tmp_path: Path) -> None:
    write_rows(tmp_path / "seeds.jsonl", 3)
    first = plan(make_config(tmp_path, "images.tiles=6", "images.family=internvl"))
    later = make_config(tmp_path, "images.tiles=6")
    assert plan(later) == first
    assert as_planned(later).images.family == "internvl"
    with pytest.raises(BuildConflictError, match=r'images\.family: "internvl" in that build'):
        plan(make_config(tmp_path, "images.tiles=6", "images.family=qwen_vl"))


def test_a_key_that_the_older_version_did_not_know_counts_as_its_default(tmp_path: Path) -> None:
    write_rows(tmp_path / "seeds.jsonl", 3)
    plan(make_config(tmp_path))
    path = tmp_path / "out" / "manifest.json"
    content = json.loads(path.read_text())
    for key in ("sampling.top_k", "seeds.0.split"):
        del content["identity"][key]
    path.write_text(json.dumps(content))
    plan(make_config(tmp_path))
    with pytest.raises(BuildConflictError, match=r"sampling\.top_k: 0 in that build, 5 now"):
        plan(make_config(tmp_path, "sampling.top_k=5"))


def test_other_weights_of_the_same_size_are_another_model(tmp_path: Path) -> None:
    write_rows(tmp_path / "seeds.jsonl", 3)
    plan(make_config(tmp_path))
    earlier = read_manifest(str(tmp_path / "out")).identity
    old, new = (replace(earlier, model={**earlier.model, "model.content": c}) for c in "ab")
    refuse_other_build("out", old, old)
    refuse_other_build("out", earlier, new)  # Plans of earlier versions have no digest.
    with pytest.raises(BuildConflictError, match=r'model\.content: "a" in that build, "b" now'):
        refuse_other_build("out", old, new)


def test_changed_input_is_noticed_and_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "seeds.jsonl", 3)
    plan(make_config(tmp_path))
    write_rows(tmp_path / "seeds.jsonl", 4)
    with pytest.raises(BuildConflictError, match=r"input 0:.*seeds\.jsonl.*changed"):
        plan(make_config(tmp_path))


def test_a_changed_prompt_text_is_noticed_and_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "seeds.jsonl", 3)
    own = tmp_path / "own_en.txt"
    own.write_text("{question}\nFinish with 'Final answer: ' and the answer.")
    plan(make_config(tmp_path, f"prompts.template={own}"))
    own.write_text("{question}\nThink. Finish with 'Final answer: ' and the answer.")
    with pytest.raises(BuildConflictError, match=r"template .*own_en.*changed"):
        plan(make_config(tmp_path, f"prompts.template={own}"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content | {"format": 99},
        lambda content: [content],
        lambda content: {"format": 1},
    ],
)
def test_a_damaged_manifest_is_an_error_with_a_fix(
    damage: Callable[[dict[str, Any]], Any], tmp_path: Path
) -> None:
    write_rows(tmp_path / "seeds.jsonl", 3)
    plan(make_config(tmp_path))
    path = tmp_path / "out" / "manifest.json"
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(InputError, match="out="):
        plan(make_config(tmp_path))


def test_no_rows_at_all_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "seeds.jsonl").write_text("")
    with pytest.raises(NothingUsableError, match="no rows"):
        plan(make_config(tmp_path))
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"x": 1}, {"y": 1}], r"none of 2 rows .* 2 missing_question. The first is missing_q"),
        ([{"question": "Q", "verdict": "A"}] * 2, "1 no_possible_pair"),
        ([{"question": "Q", "scan": "1.png"}, {"x": 1}], r"1 unread_columns.*'scan'"),
    ],
)
def test_seeds_of_which_no_pair_can_come_are_an_error_before_anything_starts(
    tmp_path: Path, rows: list[dict[str, Any]], says: str
) -> None:
    config = make_config(tmp_path)
    write_jsonl(tmp_path / "seeds.jsonl", rows)
    with pytest.raises(NothingUsableError, match=says):
        plan(config)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_the_demos_plan_does_not_depend_on_where_it_lies(tmp_path: Path) -> None:
    plans = []
    for place in ("a", "deep/b"):
        config = make_config(tmp_path, "seeds=demo", "limit=3", f"out={tmp_path / place}")
        plans.append(plan(config).identity)
        assert len(planned_ids(config.out)) == 3
    assert plans[0] == plans[1]


def test_demo_seeds_that_were_deleted_are_made_again(tmp_path: Path) -> None:
    config = make_config(tmp_path, "seeds=demo", "limit=3")
    first = plan(config)
    written = Path(config.out) / "demo_seeds" / "seeds.jsonl"
    text = written.read_text()
    written.unlink()
    for image in (written.parent / "images").iterdir():
        image.unlink()
    (written.parent / "images").rmdir()
    assert plan(config) == first
    assert written.read_text() == text


def test_a_look_at_other_demo_seeds_leaves_a_planned_build_alone(tmp_path: Path) -> None:
    three = make_config(tmp_path, "seeds=demo", "limit=3")
    two = make_config(tmp_path, "seeds=demo", "limit=2")
    with_demo(two)
    plan(three)
    assert len(planned_ids(three.out)) == 3
    with_demo(two)
    with pytest.raises(BuildConflictError, match="3 demo seeds, not 4"):
        with_demo(make_config(tmp_path, "seeds=demo", "limit=4"))
    assert len(list((tmp_path / "out" / "demo_seeds" / "images").iterdir())) == 3


def seeds_of(count: int, image: str | None = None) -> list[tuple[int, Seed]]:
    images = () if image is None else (ImageRef(image),)
    return [(i, Seed(f"s{i}", "?", images)) for i in range(count)]


@pytest.mark.parametrize(
    ("count", "max_rows", "max_images", "sizes"),
    [
        (0, 4, 100, []),
        (4, 4, 100, [4]),
        (9, 4, 100, [4, 4, 1]),
        (5, 100, 2, [2, 2, 1]),
        (3, 100, 0.5, [1, 1, 1]),
    ],
)
def test_units_are_bounded_in_rows_and_in_bytes(
    count: int, max_rows: int, max_images: float, sizes: list[int], tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    size = (tmp_path / "x.png").stat().st_size
    rows = seeds_of(count, str(tmp_path / "x.png"))
    units = list(cut(rows, seed_size, max_rows, int(max_images * size)))
    assert [len(part) for part, _ in units] == sizes
    assert [row for part, _ in units for row in part] == rows
    assert [image_bytes for _, image_bytes in units] == [size * n for n in sizes]


@pytest.mark.parametrize(
    "ref", [ImageRef("s3://b/x.png"), ImageRef("/no/such.png"), ImageRef("/etc/hostname", row=3)]
)
def test_sizes_that_are_not_cheap_to_know_are_assumed(ref: ImageRef) -> None:
    assert image_size(ref) == ASSUMED_IMAGE_BYTES


HOLD = """
import sys, time
from mmpr_builder.folder.lock import build_lock
with build_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def hold_in_another_process(out: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_driver_is_refused_and_a_killed_ones_lock_is_no_hindrance(tmp_path: Path) -> None:
    process = hold_in_another_process(tmp_path)
    try:
        with pytest.raises(BuildConflictError) as caught, build_lock(str(tmp_path)):
            pass
        assert f"process {process.pid} on {socket.gethostname()}" in str(caught.value)
        assert "s old" in str(caught.value)
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / LOCK_NAME).exists()
    with build_lock(str(tmp_path)):
        pass
    assert not (tmp_path / LOCK_NAME).exists()


def test_a_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), build_lock(str(tmp_path)):
        raise ZeroDivisionError
    with build_lock(str(tmp_path)):
        pass


@pytest.fixture
def quick_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats of a twentieth of a second; a lock is dead after one second."""
    monkeypatch.setattr(lock, "BEAT_S", 0.05)
    monkeypatch.setattr(lock, "SILENT_S", 1.0)
    monkeypatch.setattr(lock, "SETTLE_S", 0.1)


def holder(**more: object) -> dict[str, object]:
    now = time.time()
    who = {"id": "theirs", "host": "elsewhere", "pid": 1, "boot": "b", "started": now, "beat": now}
    return who | more


@pytest.fixture(params=["disk", "store"])
def locked(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Any]:
    """A folder, and how to write somebody's lock into it."""
    if request.param == "disk":
        return str(tmp_path), lambda c: (tmp_path / LOCK_NAME).write_text(json.dumps(c))
    memory = fsspec.filesystem("memory")
    folder = f"{tmp_path.name}-{uuid.uuid4().hex}"
    return f"memory://{folder}", lambda c: memory.pipe_file(
        f"/{folder}/{LOCK_NAME}", json.dumps(c).encode()
    )


@pytest.mark.usefixtures("quick_lock")
@pytest.mark.parametrize("skew_s", [0.0, -5000.0, 5000.0], ids=["same", "slow", "fast"])
def test_another_machines_lock_holds_while_it_beats_whatever_the_clocks_say(
    skew_s: float, locked: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "SILENT_S", 60.0)  # A thread of a busy machine may pause for long.
    out, write = locked
    write(holder(beat=time.time() + skew_s))
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.03):
            write(holder(beat=time.time() + skew_s))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(BuildConflictError, match="process 1 on elsewhere"), build_lock(out):
            pass
    finally:
        ended.set()
        thread.join()


@pytest.mark.usefixtures("quick_lock")
@pytest.mark.parametrize("skew_s", [0.0, -5000.0, 5000.0], ids=["same", "slow", "fast"])
def test_another_machines_lock_that_fell_silent_is_taken_over(
    skew_s: float, locked: tuple[str, Any]
) -> None:
    out, write = locked
    write(holder(beat=time.time() + skew_s))
    said: list[str] = []
    with build_lock(out, said.append) as held:
        time.sleep(0.2)
        held.check()
    assert "watching" in said[0]
    with build_lock(out, said.append):  # It was left in good order: nothing to watch.
        pass
    assert len(said) == 1


@pytest.mark.usefixtures("quick_lock")
def test_a_holder_whose_folder_was_taken_over_stops(locked: tuple[str, Any]) -> None:
    out, write = locked
    asked: list[int] = []
    with build_lock(out) as held:
        held.when_lost(asked.append)
        write(holder())
        wait_for(lambda: asked)
        with pytest.raises(BuildConflictError, match="elsewhere"):
            held.check()
    assert asked == [signal.SIGTERM]
    fs, path = resolve(f"{out}/{LOCK_NAME}")
    assert json.loads(fs.cat_file(path))["id"] == "theirs", "not ours to remove"


def test_two_who_find_no_lock_at_the_same_time_do_not_both_get_it() -> None:
    fs = fsspec.filesystem("memory")
    path = f"/{uuid.uuid4().hex}/{LOCK_NAME}"
    lock._create(fs, path, {"id": "first"})
    with pytest.raises(FileExistsError):
        lock._create(fs, path, {"id": "second"})
    assert json.loads(fs.cat_file(path)) == {"id": "first"}


def test_an_object_stores_lock_of_a_dead_neighbour_is_taken_over_at_once() -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    memory = fsspec.filesystem("memory")
    with build_lock("memory://locked") as held:
        mine = held.mine
    gone = {**mine, "id": "gone", "pid": dead.pid}
    memory.pipe_file("/locked/build.lock", json.dumps(gone).encode())
    said: list[str] = []
    with build_lock("memory://locked", said.append):
        assert memory.exists("/locked/build.lock")
    assert not said
    assert not memory.exists("/locked/build.lock")


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_spent(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("no folder")
    with (
        pytest.raises(SetupError, match="Not a directory") as caught,
        build_lock(str(tmp_path / "file" / "out")),
    ):
        pass
    assert "file" in str(caught.value)
    with pytest.raises(SetupError, match="cannot be reached"), build_lock("http://127.0.0.1:9/out"):
        pass


def test_a_plan_can_lie_on_an_object_store(tmp_path: Path) -> None:
    write_rows(tmp_path / "seeds.jsonl", 6, bad=(2,))
    config = make_config(tmp_path, f"out=memory://{tmp_path.name}/out")
    first = plan(config)
    assert plan(config) == first
    assert [index for index, _ in planned_ids(config.out)] == [0, 1, 3, 4, 5]
