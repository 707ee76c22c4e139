"""Pushing a build: what goes, to a hub that is a small server on loopback, and what is said."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pair_samples import sample_rollouts, write_build

from mmpr_builder.errors import InputError
from mmpr_builder.io import tables
from mmpr_builder.push import uploads
from mmpr_builder.report import write_report


class Hub(ThreadingHTTPServer):
    """As much of the hub's API as one commit needs; keeps the files that were committed."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {".gitattributes": b"", "pairs/part-00009.parquet": b"old"}
        self.created: dict[str, Any] = {}
        self.message = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        if "/tree/" in self.path:
            tree = [{"type": "file", "path": p, "size": 1, "oid": "0"} for p in self.server.files]
            self._answer(tree)
        else:
            siblings = [{"rfilename": path} for path in self.server.files]
            self._answer({"id": "me/pairs", "sha": "1" * 40, "siblings": siblings, "tags": []})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"] or 0))
        if self.headers.get("authorization") != "Bearer hf_good":
            self._answer({"error": "Invalid credentials"}, 401)
        elif self.path == "/api/repos/create":
            self.server.created = json.loads(body)
            self._answer({"url": f"{self.server.url}/datasets/me/pairs", "name": "me/pairs"})
        elif "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        elif "/commit/" in self.path:
            self._commit([json.loads(line) for line in body.splitlines()])
        else:
            self._answer({"warnings": [], "errors": []})

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            if line["key"] == "header":
                self.server.message = line["value"]["summary"]
            elif line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.server.files[line["value"]["path"]] = content
            elif line["key"] == "deletedFile":
                del self.server.files[line["value"]["path"]]
        url = f"{self.server.url}/datasets/me/pairs/commit/abc"
        self._answer({"commitUrl": url, "commitOid": "2" * 40, "success": True})

    def _answer(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def built(tmp_path: Path) -> Path:
    rollouts = sample_rollouts(tmp_path)
    out = tmp_path / "out"
    write_build(out, rollouts)
    write_report(out)
    tables.write_parquet(tables.rollouts_to_table(rollouts), out / "rollouts" / "unit-0.parquet")
    (out / "manifest.json").write_text("{}", encoding="utf-8")
    return out


USUAL = [
    "README.md",
    "drops/part-00000.parquet",
    "pairs/part-00000.parquet",
    "report/index.html",
    "run.json",
]


def mmpr(
    *words: str, endpoint: str, token: str, home: Path, **extra: str
) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "NO_COLOR": "1", **extra}
    if token:
        env["HF_TOKEN"] = token
    return subprocess.run(
        [sys.executable, "-m", "mmpr_builder", "push", *words],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_pairs_card_drops_and_report_go_and_rollouts_only_when_asked_for(built: Path) -> None:
    assert list(uploads(str(built))) == USUAL
    with_rollouts = uploads(str(built), rollouts=True)
    assert sorted({*with_rollouts} - {*USUAL}) == ["rollouts/unit-0.parquet"]
    assert uploads(str(built))["run.json"] == (built / "run.json").stat().st_size


def test_what_is_no_build_is_not_sent(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished build"):
        uploads(str(tmp_path))
    with pytest.raises(InputError, match="copy the build here"):
        uploads("memory://build")


def test_a_build_goes_up_in_one_commit_that_removes_what_is_no_longer_there(
    built: Path, hub: Hub, tmp_path: Path
) -> None:
    done = mmpr(
        str(built), "me/pairs", "--private", "--message", "first",
        endpoint=hub.url, token="hf_good", home=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{hub.url}/datasets/me/pairs/commit/abc" in done.stderr
    assert hub.created["type"] == "dataset"
    assert hub.created["visibility"] == "private" or hub.created.get("private") is True
    assert hub.message == "first"
    assert sorted(hub.files) == sorted([".gitattributes", *USUAL])
    for name in USUAL:
        assert hub.files[name] == (built / name).read_bytes()


def test_a_dry_run_lists_and_asks_nobody(built: Path, tmp_path: Path) -> None:
    done = mmpr(
        str(built), "me/pairs", "--dry-run", "--rollouts",
        endpoint="http://127.0.0.1:9", token="", home=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in [*USUAL, "rollouts/unit-0.parquet", "6 files"]:
        assert name in done.stderr


def test_what_stops_a_push_is_said_with_the_remedy(built: Path, hub: Hub, tmp_path: Path) -> None:
    cases: list[tuple[str, str, dict[str, str], int, str]] = [
        # repository, token, environment, exit code, words
        ("me/pairs", "", {}, 2, "hf auth login"),
        ("me/pairs", "hf_good", {"HF_HUB_OFFLINE": "1"}, 2, "HF_HUB_OFFLINE"),
        ("me/pairs", "hf_bad", {}, 1, "a token that may write"),
        ("me//pairs", "hf_good", {}, 2, "NAME/DATASET"),
        ("me/pairs", "hf_good", {"HF_ENDPOINT": "http://127.0.0.1:9"}, 1, "cannot be reached"),
    ]
    for repo, token, extra, code, words in cases:
        env = {"HF_ENDPOINT": hub.url} | extra
        endpoint = env.pop("HF_ENDPOINT")
        done = mmpr(str(built), repo, endpoint=endpoint, token=token, home=tmp_path, **env)
        assert done.returncode == code, done.stderr
        assert words in done.stderr, (repo, token, extra, done.stderr)
        assert "Traceback" not in done.stderr
