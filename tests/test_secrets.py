"""What settings keep secret is in no file of a build and in no line that it prints."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import mmpr, mmpr_alone
from openai_server import OpenAIServer, choices
from pair_samples import picture
from web import serving

from mmpr_builder.config import Config, load_config, sampling_identity
from mmpr_builder.errors import BuildConflictError, InputError, RowError
from mmpr_builder.escaping import json_text, public_url, redacted, visible
from mmpr_builder.folder.manifest import Manifest, refuse_other_build
from mmpr_builder.io.access import access_of
from mmpr_builder.io.images import read_bytes
from mmpr_builder.io.tables import list_parts, read_parquet
from mmpr_builder.records import Seed
from mmpr_builder.seeds import read_sources

SECRETS = ("bob", "pw-f3a9", "sig-77c1", "hf_planted", "key-planted", "cookie-planted")

REDACTED = [
    ("https://bob:pw@host/x.jsonl?sig=9f", "https://host/x.jsonl?…"),
    ("seeds=https://u:p@h/a?k=1,https://u:p@h/b?k=2: no rows", "seeds=https://h/a?…: no rows"),
    ("'https://bob:p'w@host/x'", "'https://host/x'"),
    ("https://bob:p<w`@host/x?sig=9", "https://host/x?…"),
    ("https://bob:p w@host/x", "https://host/x"),
    ("https://bob:p/w@host/x", "https://host/x"),
    ('{"api_key": "a b", "n": 5}', '{"api_key": ***, "n": 5}'),
    ("engine.hf_token=hf_a", "engine.hf_token=***"),
    ("Authorization: Bearer abc.def", "***"),
    ("special_token: <x>, tokens=5, in Kansas", None),
    ("https://host:8080/a@2x.png", None),
    ("ftp://u:p@s@h:21/x#token", "ftp://h:21/x?…"),
    ("https://h/x.jsonl:118: bad", "https://h/x.jsonl:118: bad"),
    ("did you mean https://h/x?", "did you mean https://h/x?"),
    ("abfs://container@account.dfs.core.windows.net/x", None),
    ("abfs://key:secret@account/x", "abfs://account/x"),
    ("hf://datasets/org/name@main/x.parquet", None),
    ("s3://bucket/a b.jsonl", None),
    ("no URL? none", None),
]


@pytest.mark.parametrize(("text", "expected"), REDACTED)
def test_urls_lose_what_gives_access(text: str, expected: str | None) -> None:
    assert redacted(text) == (text if expected is None else expected)
    assert redacted(redacted(text)) == redacted(text)


def test_settings_with_secret_names_lose_their_value_whatever_they_are_in() -> None:
    engine = {
        "hf_token": "hf_a",
        "hf_overrides": {"api-key": "b", "max_tokens": "5"},
        "loader": [{"aws_secret_access_key": "c", "password": "d"}],
        "hf_token_set": True,
        "api_key_env": "OPENAI_API_KEY",
        "pwd": 77712,
        "credentials": {"v": "c"},
        "headers": ["Authorization: Bearer x"],
        "authToken": ["t"],
    }
    assert redacted({"engine": engine}) == {
        "engine": {
            "hf_token": "***",
            "hf_overrides": {"api-key": "***", "max_tokens": "5"},
            "loader": [{"aws_secret_access_key": "***", "password": "***"}],
            "hf_token_set": True,
            "api_key_env": "OPENAI_API_KEY",
            **dict.fromkeys(("pwd", "credentials", "headers", "authToken"), "***"),
        }
    }


def test_names_that_come_from_data_hide_no_counts() -> None:
    counts = {"sources": {"auth": {"seeds": 3}, "kansas": {"seeds": 4}}}
    assert redacted(counts, names=False) == counts


def test_paths_of_a_storage_keep_the_marks_that_they_may_hold() -> None:
    assert public_url("s3://bucket/a#1/b?.png") == "s3://bucket/a#1/b?.png"
    assert public_url("https://u@h/a#1") == "https://h/a"
    assert public_url("/data/what?/x@y.png") == "/data/what?/x@y.png"


@pytest.mark.parametrize(
    "hostile",
    ["://" * 50_000, "a" * 100_000 + " ://", "https://h?" + "a'" * 50_000, "://a@" * 50_000],
)
def test_redacting_takes_time_in_proportion_to_the_text(hostile: str) -> None:
    began = time.process_time()
    redacted(hostile)
    assert time.process_time() - began < 60  # Some milliseconds; minutes where it was quadratic.


def test_errors_hold_no_secrets() -> None:
    for error in (InputError("https://bob:pw@h/x?sig=1"), RowError("bad", "https://bob:pw@h/x")):
        assert "pw" not in str(error)
    assert "pw" not in RowError("bad", "https://bob:pw@h/x").detail


def config_of(*words: str) -> Config:
    return load_config(None, ["sampling.engine=endpoint", "model=m", *words])


def test_another_signature_of_the_same_url_goes_on_with_the_build() -> None:
    one, other = (
        sampling_identity(config_of(f"seeds=https://bob:{word}@host/x.jsonl?sig={word}"))
        for word in ("pw-f3a9", "sig-77c1")
    )
    assert one == other
    assert one["seeds.0.path"] == "https://host/x.jsonl?…"


def test_a_manifest_of_earlier_versions_with_secrets_in_it_goes_on() -> None:
    identity = {"seeds.0.path": "https://bob:pw@host/x.jsonl?sig=1", "engine.hf_token": "hf_a"}
    content = {
        "identity": identity,
        "templates": {},
        "model": {},
        "inputs": {"0:https://bob:pw@host/x.jsonl?sig=1": "12"},
        "units": [],
        "drops": 0,
        "versions": {},
    }
    old = Manifest.from_json(content).identity
    assert "pw" not in json.dumps(old.__class__.__slots__) + repr(old)
    new = Manifest.from_json(
        {
            **content,
            "identity": {**identity, "seeds.0.path": "https://host/x.jsonl?…"},
            "inputs": {"0:https://host/x.jsonl?…": "12"},
        }
    ).identity
    refuse_other_build("out", old, new)
    with pytest.raises(BuildConflictError):
        refuse_other_build("out", old, Manifest.from_json({**content, "inputs": {}}).identity)


def test_an_image_of_a_signed_table_is_found_by_the_settings_alone(tmp_path: Path) -> None:
    with serving({"/t.parquet": table_of_seeds(tmp_path)}) as web:
        (source,) = config_of(f"seeds=http://bob:pw@127.0.0.1:{web.port}/t.parquet?sig=1").seeds
        (found,) = read_sources([source])
        assert isinstance(found, Seed)
        assert found.images[0].uri == f"http://127.0.0.1:{web.port}/t.parquet"
        assert read_bytes(found.images[0], access_of([source]))[:4] == b"\x89PNG"


def table_of_seeds(folder: Path) -> bytes:
    picture(folder / "p.png", "red")
    rows = {
        "question": ["How many?"],
        "answer": ["3"],
        "image": [{"bytes": (folder / "p.png").read_bytes(), "path": None}],
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(rows), buffer)
    return buffer.getvalue()


def every_output(folder: Path) -> dict[str, str]:
    """All that files below a folder say, tables by their values (Parquet compresses)."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[str(path)] = path.read_bytes().decode("latin-1")
        if path.suffix == ".parquet":
            found[str(path)] += repr(pq.read_table(path).to_pylist())
            found[str(path)] += repr(pq.read_schema(path).metadata)
    return found


@pytest.mark.slow
def test_secrets_planted_everywhere_are_in_no_output_of_a_build(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", "red")
    rows: list[dict[str, Any]] = [
        {"id": f"q{i}", "question": f"What is {i}?", "answer": "1", "image": "a.png"}
        for i in range(3)
    ]
    rows += [{"id": "open", "question": "Describe.", "image": "a.png"}]
    rows += [{"id": "bad"}, {"id": "gone", "question": "Q", "answer": "1", "image": "none.png"}]
    rows += [{"question": "Q", "answer": "1", "image": "../x.png"}]
    files = {
        "/s.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode(),
        "/a.png": (tmp_path / "a.png").read_bytes(),
        "/t.parquet": table_of_seeds(tmp_path),
        "/eval.jsonl": json.dumps({"question": "Something else entirely?"}).encode(),
    }

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        texts = [f"So.\nFinal answer: {n % 2}" for n in range(body.get("n", 1))]
        return 200, choices(*texts)

    with serving(files) as web, OpenAIServer(answer, model="m") as server:
        base = f"http://bob:pw-f3a9@127.0.0.1:{web.port}"
        words = [
            *("sampling.engine=endpoint", "model=m", f"sampling.endpoint.url={server.url}"),
            f"seeds={base}/s.jsonl?X-Amz-Signature=sig-77c1,{base}/t.parquet?sig=sig-77c1",
            f"quality.decontaminate.against={base}/eval.jsonl?sig=sig-77c1",
            *("engine.hf_token=hf_planted", "engine.hf_overrides={api_key: key-planted}"),
            "engine.model_loader_extra_config={cookie_secret: cookie-planted}",
            *("sampling.n=4", f"out={tmp_path / 'out'}", "name=planted"),
        ]
        printed = ""
        for command in ("plan", "build", "pair"):
            # Of a process that starts others everything is seen, by whomever it is written.
            done = (mmpr_alone if command == "build" else mmpr)(command, *words)
            assert done.returncode == 0, done.stderr
            printed += done.stdout + done.stderr
        for command in ("status", "show", "audit"):
            more = words if command == "audit" else [str(tmp_path / "out")]
            done = mmpr(command, *more)
            printed += done.stdout + done.stderr
        # A run that is refused tells no more.
        for bad in ("limit=2", f"seeds.0.path={base}/none.jsonl?sig=sig-77c1"):
            done = mmpr("build", *words, bad)
            assert done.returncode == 2, done.stderr
            printed += done.stdout + done.stderr
    outputs = {**every_output(tmp_path / "out"), "printed": printed}
    assert {"card", "run.json", "manifest.json", "status.json"} <= {
        Path(name).name.replace("README.md", "card") for name in outputs
    }
    leaks = [(name, word) for name, text in outputs.items() for word in SECRETS if word in text]
    assert not leaks
    pairs = [row for part in list_parts(tmp_path / "out" / "pairs") for row in rows_of(part)]
    assert {row["seed_id"] for row in pairs} > {"q0", "open"}
    assert "s.jsonl:1" in {row["origin"] for row in pairs}


def rows_of(part: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_parquet(part, ["seed_id", "origin"]).to_pylist()
    return found


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2J\0b\x9b\u202e\tc\n", "a␛[2J␀b\ufffd\ufffd\tc\n"),
        ("pay\u200bpal \u200fx\ufeff", "pay\ufffdpal \ufffdx\ufffd"),
        ("so 3\U000e0049\U000e0047", "so 3\ufffd\ufffd"),  # Letters of a hidden message.
        ("a\u2028b\u2029c\ud800", "a\ufffdb\ufffdc\ufffd"),
        ("no\u200djoin x\ufe0f", "no\ufffdjoin x\ufffd"),
        ("3\U000e0100\U000e0101葛\U000e0100\U000e0101", "3\ufffd\ufffd葛\U000e0100\ufffd"),
        ("❤\ufe0f\u200d🔥 1\ufe0f\u20e3", "❤\ufe0f\u200d🔥 1\ufe0f\u20e3"),
        ("می\u200cروم क\u094d\u200dष", "می\u200cروم क\u094d\u200dष"),
    ],
)  # fmt: skip
def test_what_cannot_be_seen_is_shown_by_a_sign(text: str, shown: str) -> None:
    assert visible(text) == shown
    written = json_text([text])
    assert json.loads(written) == [text]
    assert visible(written) == written
