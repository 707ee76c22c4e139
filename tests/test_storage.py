"""A build's folder on any storage: whole or not there, and an outage costs time, not work."""

from __future__ import annotations

import errno
import itertools
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import fake_samplers
import flaky_store
import fsspec
import pyarrow as pa
import pytest
from growing_builds import FIRST, SECOND, make_config, sample, write
from moto.server import ThreadedMotoServer

import mmpr_builder as mb
from mmpr_builder.config import Config
from mmpr_builder.errors import BuildConflictError, InputError, SetupError, StorageError
from mmpr_builder.folder import lock, parts, read_json, write_json
from mmpr_builder.folder.lock import LOCK_NAME, build_lock
from mmpr_builder.folder.manifest import read_manifest
from mmpr_builder.io import stores, tables
from mmpr_builder.io.stores import is_there, remove_folder
from mmpr_builder.output import pair_parts
from mmpr_builder.progress import Progress
from mmpr_builder.report import write_report
from mmpr_builder.runs import plan, run_pairing, run_sampling

BUCKET = "builds"


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadedMotoServer]:
    moto = ThreadedMotoServer("127.0.0.1", port=0)
    moto.start()
    yield moto
    moto.stop()


@pytest.fixture
def s3(server: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A folder on a real S3 server, reached as a user would say: by the environment."""
    import s3fs

    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    fs = fsspec.filesystem("s3")
    if not fs.exists(BUCKET):
        fs.mkdir(BUCKET)
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture
def flaky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write what is to go wrong into this file."""
    trouble = tmp_path / "trouble"
    monkeypatch.setenv(flaky_store.VARIABLE, str(trouble))
    monkeypatch.setattr(stores, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(stores, "_LONGEST_PAUSE_S", 0.1)
    return trouble


def away_for(trouble: Path, seconds: float) -> threading.Timer:
    trouble.write_text("away")
    timer = threading.Timer(seconds, trouble.unlink)
    timer.start()
    return timer


def content(folder: str) -> dict[str, bytes]:
    return {name: stores.read_bytes(f"{folder}/{name}") for name in stores.names_in(folder)}


def on(config: Config, out: str) -> Config:
    return config.model_copy(update={"out": out})


def build_here(config: Config) -> None:
    sample(config)
    run_pairing(config, Progress())
    write_report(config.out)


# --- S3 -------------------------------------------------------------------------------------


def test_a_build_on_s3_is_the_build_on_a_disk(s3: str, tmp_path: Path) -> None:
    write(tmp_path, a=[*FIRST, {"id": "bad"}])
    here = make_config(tmp_path, "a")
    there = on(here, f"{s3}/out")
    build_here(here)
    build_here(there)
    for name in ("pairs", "drops", "rollouts", "seeds"):
        assert content(f"{there.out}/{name}") == content(f"{here.out}/{name}"), name
    assert stores.names_in(there.out) == stores.names_in(here.out)
    run, again = (read_json(f"{c.out}/run.json")["counts"] for c in (here, there))
    assert run == again
    pairs = mb.load_pairs(there.out)
    assert len(pairs) == run["pairs"]["total"] > 0
    assert pairs[0]["chosen"] == mb.load_pairs(here.out)[0]["chosen"]


def test_a_build_on_s3_goes_on_is_paired_again_and_grows(s3: str, tmp_path: Path) -> None:
    write(tmp_path, a=FIRST, b=SECOND)
    config = on(make_config(tmp_path, "a"), f"{s3}/out")
    sample(config)
    first, *_ = read_manifest(config.out).units
    uri = parts.rollouts_uri(config.out, first)
    whole = stores.read_bytes(uri)
    fs, path = stores.resolve(uri)
    for torn in (whole[:-20], whole[: len(whole) // 2], b"", b"PAR1"):
        fs.pipe_file(path, torn)
        assert first.name not in parts.published(config.out, [first]), "a torn part is none"
        with pytest.raises(InputError, match="not sampled yet"):
            run_pairing(config, Progress())
    assert sample(config) == [f"q{i}" for i in range(4)]
    assert stores.read_bytes(uri) == whole
    run_pairing(config, Progress())
    many = config.model_copy(update={"output": config.output.model_copy()})
    run_pairing(many, Progress())
    before = content(f"{config.out}/pairs")
    run_pairing(config, Progress())
    assert content(f"{config.out}/pairs") == before
    grown = on(make_config(tmp_path, "ab"), f"{s3}/out")
    assert sample(grown, extend=True) == [row["id"] for row in SECOND]


def test_builds_on_s3_and_on_a_disk_are_pooled(s3: str, tmp_path: Path) -> None:
    write(tmp_path, a=FIRST)
    here = make_config(tmp_path, "a")
    there = on(here, f"{s3}/other")
    for config in (here, there):
        sample(config)
    made = []
    for name, other in (("one", there.out), ("two", here.out)):
        words = {"rollouts": (here.out, other), "out": f"{s3}/{name}"}
        run_pairing(here.model_copy(update=words), Progress())
        made.append(content(f"{s3}/{name}/pairs"))
    assert made[0] == made[1] != {}


def test_two_drivers_on_one_s3_folder_the_second_is_refused(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.2)
    monkeypatch.setattr(lock, "_is_dead_neighbour", lambda content: False)
    out = f"{s3}/out"
    with build_lock(out):
        with pytest.raises(BuildConflictError, match=f"process {os.getpid()}"), build_lock(out):
            pass
        # S3 itself decides between two who both saw no lock.
        fs, path = stores.resolve(f"{out}/{LOCK_NAME}")
        held = fs.cat_file(path)
        with pytest.raises(OSError, match="pre-conditions"):
            lock._create(fs, path, {"id": "late"})
        assert json.loads(fs.cat_file(path))["id"] == json.loads(held)["id"]
    assert not is_there(f"{out}/{LOCK_NAME}")


class Troubled:
    """An S3 server of which every eighth answer goes wrong, in the way that `kind` names."""

    def __init__(self, app: Any, kind: str) -> None:
        self.app, self.kind, self.wrong = app, kind, 0
        self._calls = itertools.count(1)

    def __call__(self, environ: Any, start: Any) -> Iterable[bytes]:
        if next(self._calls) % 8 or (self.kind == "short" and environ["REQUEST_METHOD"] != "GET"):
            return self.app(environ, start)  # type: ignore[no-any-return]
        self.wrong += 1
        if self.kind.isdigit():
            start(f"{self.kind} Trouble", [])
            return []
        if self.kind == "silent":
            time.sleep(1.2)
            return self.app(environ, start)  # type: ignore[no-any-return]
        told: list[Any] = []
        body = b"".join(self.app(environ, lambda *head: told.append(head)))
        start(*told[0])
        return [body[: len(body) // 2]]


LONG = [pytest.param(kind, marks=pytest.mark.faults) for kind in ("500", "503", "429", "silent")]


@pytest.mark.parametrize("kind", ["short", *LONG])
def test_a_build_on_an_s3_server_in_trouble_is_the_build_on_a_disk(
    kind: str,
    s3: str,
    server: ThreadedMotoServer,
    flaky: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    import s3fs

    write(tmp_path, a=FIRST[:2])
    here = make_config(tmp_path, "a")
    there = on(here, f"{s3}/out")
    build_here(here)
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 0.6}})
    s3fs.S3FileSystem.clear_instance_cache()
    inner = server._server.app  # type: ignore[union-attr]
    troubled = Troubled(inner, kind)
    monkeypatch.setattr(server._server, "app", troubled)
    build_here(there)
    monkeypatch.setattr(server._server, "app", inner)
    s3fs.S3FileSystem.clear_instance_cache()
    assert troubled.wrong > 2
    for name in ("pairs", "drops", "rollouts", "seeds"):
        assert content(f"{there.out}/{name}") == content(f"{here.out}/{name}"), name


@pytest.mark.slow
def test_an_s3_server_that_is_not_there_is_named_at_once(
    s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    write(tmp_path, a=FIRST)
    began = time.monotonic()
    with pytest.raises(SetupError, match="check the address"):
        plan(on(make_config(tmp_path, "a"), f"{s3}/out"))
    assert time.monotonic() - began < 300  # It would try for ever.
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.slow
def test_an_s3_server_that_is_stopped_for_a_while_costs_time_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import s3fs

    moto = ThreadedMotoServer("127.0.0.1", port=0)
    moto.start()
    host, port = moto.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    s3fs.S3FileSystem.clear_instance_cache()
    fsspec.filesystem("s3").mkdir("away")
    config = on(make_config(tmp_path, "a"), "s3://away/out")
    write(tmp_path, a=FIRST)
    planned = plan(config)
    moto.stop()
    again = ThreadedMotoServer("127.0.0.1", port=port)
    timer = threading.Timer(2.0, again.start)
    timer.start()
    try:
        assert sorted(sample(config, planned=planned)) == sorted(row["id"] for row in FIRST)
        assert not timer.is_alive(), "it was waited for"
        run_pairing(config, Progress())
        assert len(mb.load_pairs(config.out))
    finally:
        timer.join()
        again.stop()
        s3fs.S3FileSystem.clear_instance_cache()


# --- storage that fails ---------------------------------------------------------------------


def test_an_outage_costs_time_and_nothing_else(flaky: Path, tmp_path: Path) -> None:
    write(tmp_path, a=FIRST)
    here = make_config(tmp_path, "a")
    sample(here)
    there = on(here, f"flaky://{tmp_path}/there")
    planned = plan(there)
    timer = away_for(flaky, 1.5)
    sample(there, planned=planned)
    assert not timer.is_alive(), "it was waited for"
    assert content(f"{there.out}/rollouts") == content(f"{here.out}/rollouts")


@pytest.mark.parametrize(
    "look",
    [
        lambda out: is_there(f"{out}/here.json"),
        lambda out: read_json(f"{out}/here.json") == {"a": 1},
        lambda out: stores.names_in(out) == ["here.json", "part.parquet"],
        lambda out: tables.list_parts(out) == [f"{out}/part.parquet"],
        lambda out: tables.read_parquet(f"{out}/part.parquet").num_rows == 1,
        lambda out: tables.read_footer(f"{out}/part.parquet").num_rows == 1,
        lambda out: write_json(f"{out}/new.json", 1) is None,
        lambda out: remove_folder(f"{out}/nothing") is None,
    ],
)
def test_an_outage_is_never_taken_for_an_absence(look: Any, flaky: Path, tmp_path: Path) -> None:
    out = f"flaky://{tmp_path}/there"
    write_json(f"{out}/here.json", {"a": 1})
    tables.write_parquet(pa.table({"a": [1]}), f"{out}/part.parquet")
    timer = away_for(flaky, 0.3)
    assert look(out)
    timer.join()


def test_a_storage_that_stays_away_ends_the_run_by_name(flaky: Path, tmp_path: Path) -> None:
    flaky.write_text("away")
    said = r"flaky://.*/x\.json: no answer from the storage.*503 Slow Down"
    with stores.patience(0.3), pytest.raises(StorageError, match=said):
        write_json(f"flaky://{tmp_path}/x.json", {})


def test_an_upload_that_breaks_in_the_middle_is_done_again(flaky: Path, tmp_path: Path) -> None:
    uri = f"flaky://{tmp_path}/part.parquet"
    flaky.write_text("tear")
    timer = threading.Timer(0.2, flaky.unlink)
    timer.start()
    seen: set[bool] = set()

    def look() -> None:
        while timer.is_alive():
            seen.add((tmp_path / "part.parquet").exists() and tables.is_complete(uri))

    thread = threading.Thread(target=look)
    thread.start()
    tables.write_parquet(pa.table({"a": list(range(1000))}), uri)
    thread.join()
    assert seen == {False}, "half a file is no part"
    assert tables.read_parquet(uri).num_rows == 1000


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (flaky_store.Away("503"), True),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (OSError(errno.EIO, "input/output error"), True),
        (OSError(errno.ENOSPC, "no space"), False),
        (FileNotFoundError(), False),
        (PermissionError(), False),
        (pa.ArrowInvalid("not a Parquet file"), False),
        (KeyError("x"), False),
        (OSError("Couldn't deserialize thrift"), False),
    ],
    ids=repr,
)
def test_only_what_waiting_can_mend_is_waited_for(error: Exception, passes: bool) -> None:
    assert stores.is_passing(error) is passes


def test_what_a_killed_writer_left_is_removed_at_the_end(tmp_path: Path) -> None:
    write(tmp_path, a=FIRST)
    config = make_config(tmp_path, "a")
    sample(config)
    folders = [tmp_path / "out", tmp_path / "out" / "rollouts", tmp_path / "out" / "seeds"]
    before = [sorted(folder.iterdir()) for folder in folders]
    for folder in folders:
        (folder / ".unit-00001.parquet.1-0c0ffee0.tmp").write_bytes(b"half")
    (tmp_path / "out" / "partial" / "unit-00001").mkdir(parents=True)
    mine = tmp_path / "out" / f".status.json.{os.getpid()}-0c0ffee0.tmp"
    mine.touch()
    run_sampling(config, Progress(), sampler_factory=fake_samplers.does_not_start)
    assert mine.exists(), "this process may be writing it"
    mine.unlink()
    after = [[p for p in sorted(folder.iterdir()) if p.suffix != ".json"] for folder in folders]
    assert after == [[p for p in names if p.suffix != ".json"] for names in before]


# --- full and closed disks ------------------------------------------------------------------


@pytest.mark.parametrize("what", ["ENOSPC", "EROFS", "EACCES", "EDQUOT"])
def test_a_disk_that_cannot_be_written_is_named_with_the_fix(
    what: str, flaky: Path, tmp_path: Path
) -> None:
    write(tmp_path, a=FIRST)
    config = on(make_config(tmp_path, "a"), f"flaky://{tmp_path}/there")
    sample(config)
    run_pairing(config, Progress())
    before = content(f"{config.out}/rollouts"), content(f"{config.out}/pairs")
    flaky.write_text(what)
    with pytest.raises((StorageError, SetupError)) as caught:
        run_pairing(config, Progress())
    flaky.unlink()
    said = str(caught.value)
    assert f"flaky://{tmp_path}/there" in said
    assert os.strerror(getattr(errno, what)) in said
    assert any(fix in said for fix in ("free some", "give another out="))
    assert (content(f"{config.out}/rollouts"), content(f"{config.out}/pairs")) == before
    run_pairing(config, Progress())


def test_a_reader_is_told_of_pairs_that_are_being_replaced(flaky: Path, tmp_path: Path) -> None:
    write(tmp_path, a=FIRST)
    config = on(make_config(tmp_path, "a"), f"flaky://{tmp_path}/there")
    sample(config)
    run_pairing(config, Progress())
    before = content(f"{config.out}/pairs")
    # As a run leaves it that dies while it publishes.
    (tmp_path / "there" / "pairs" / ".incomplete").touch()
    for path in (config.out, f"{config.out}/pairs"):
        with pytest.raises(InputError, match="not all parts are there"):
            pair_parts(path)
    run_pairing(config, Progress())
    assert content(f"{config.out}/pairs") == before
    assert len(mb.load_pairs(tmp_path / "there")) > 0
