# ruff: noqa: E501
"""The layouts and oddities that data comes in: each is made small, and docs/data.md says what a
build makes of it. `MMPR_WRITE_TABLE=1 pytest tests/test_data_people_have.py` writes that table."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import os
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw

from mmpr_builder import runs, stages
from mmpr_builder.config import Config, sampling_identity
from mmpr_builder.errors import InputError, MmprError, RowError
from mmpr_builder.io.images import open_image, read_bytes
from mmpr_builder.io.members import read_member
from mmpr_builder.progress import Progress
from mmpr_builder.records import Drop, ImageRef, Seed
from mmpr_builder.runs import inputs
from mmpr_builder.seeds.replies import written

PAGE = Path(__file__).parents[1] / "docs" / "data.md"
BEGIN, END = "<!-- layouts: begin -->\n", "<!-- layouts: end -->"


def png(colour: str = "red", size: tuple[int, int] = (24, 24)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


B64 = base64.b64encode(png()).decode()
CELL = {"bytes": png(), "path": None}


def lines(*rows: Any, name: str = "seeds.jsonl") -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        (folder / "1.png").write_bytes(png())
        (folder / "2.png").write_bytes(png("blue"))
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / name).write_text(text, "utf-8")
        return {"path": name}

    return make


def text(content: str | bytes, name: str, **source: Any) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        (folder / "1.png").write_bytes(png())
        data = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(data)
        return {"path": name, **source}

    return make


def separated(name: str, between: str, rows: list[dict[str, Any]]) -> Any:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=between)
    writer.writeheader()
    writer.writerows(rows)
    return text(out.getvalue(), name)


def table(*rows: dict[str, Any], **kinds: Any) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        found = pa.Table.from_pylist(list(rows))
        for name, kind in kinds.items():
            at = found.column_names.index(name)
            found = found.set_column(at, name, found[name].cast(kind))
        pq.write_table(found, folder / "train.parquet")
        return {"path": "train.parquet"}

    return make


def zipped(files: dict[str, bytes], **source: Any) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        with zipfile.ZipFile(folder / "data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        row = {"question": "What?", "image": "img/1.png", "answer": "cat"}
        (folder / "seeds.jsonl").write_text(json.dumps(row))
        return {"path": "data.zip", **source}

    return make


def tarred(files: dict[str, bytes]) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        with tarfile.open(folder / "shard-000.tar", "w") as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return {"path": "shard-000.tar"}

    return make


def saved(kind: str) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        import datasets

        rows = [{"question": "What?", "image": CELL, "answer": "cat"}]
        data = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image(decode=False))
        data.save_to_disk(str(folder / "saved"))
        if kind == "arrow":
            for name in ("state.json", "dataset_info.json"):
                (folder / "saved" / name).unlink()
        return {"path": "saved"}

    return make


def beside(name: str, data: bytes, *, rows: bool = True) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        (folder / "d").mkdir()
        if rows:
            (folder / "d" / "a.jsonl").write_text('{"question": "What?", "answer": "cat"}\n')
        (folder / "d" / name).write_bytes(data)
        return {"path": "d"}

    return make


def foldered(make: Callable[[Path], dict[str, Any]]) -> Callable[[Path], dict[str, Any]]:
    def made(folder: Path) -> dict[str, Any]:
        (folder / "d").mkdir()
        name = make(folder)["path"]
        (folder / name).rename(folder / "d" / name)
        return {"path": "d"}

    return made


def packed(name: str, make: Callable[[Path], dict[str, Any]]) -> Callable[[Path], dict[str, Any]]:
    def made(folder: Path) -> dict[str, Any]:
        (folder / name).write_bytes(gzip.compress((folder / make(folder)["path"]).read_bytes()))
        return {"path": name}

    return made


def picture(data: bytes) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        (folder / "odd.png").write_bytes(data)
        row = {"question": "What?", "image": "odd.png", "answer": "cat"}
        (folder / "seeds.jsonl").write_text(json.dumps(row))
        return {"path": "seeds.jsonl"}

    return make


def wordy_png() -> bytes:
    words = zlib.compress(b"x" * 3_000_000)
    body = b"zTXt" + b"Comment\0\0" + words
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    data = png()
    return data[:33] + chunk + data[33:]


def white_drawing() -> bytes:
    image = Image.new("RGBA", (24, 24), (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse((4, 4, 20, 20), fill="white")
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def message(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}, *more.pop("then", ())], **more}


def said(reply: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": reply}]


ASKED = {"type": "text", "text": "What is it?\nA. cat\nB. dog"}
SHOWN = {"type": "image_url", "image_url": {"url": "1.png"}}
TALK = [{"from": "human", "value": "<image>\nWhat is it?\nA. cat\nB. dog"}]
MMMU = {"question": "See <image 1>, then <image 2>.", "options": "['cat', 'dog']", "answer": "B"}
Q = {"question": "What is it?", "image": "1.png"}
OPTIONS = "What is it?\nA. cat\nB. dog"

#: (what it is, how it is made)
CASES: list[tuple[str, Callable[[Path], dict[str, Any]]]] = [
    ("columns `img`, `query`, `label` (ChartQA)", lines({"img": "1.png", "query": "How many?", "label": ["14"]})),
    ("MMBench, VLMEvalKit: TSV with `A`…`D` and base64", separated("mmbench.tsv", "\t", [
        {"index": 7, "question": "What is it?", "hint": "", "A": "cat", "B": "dog", "C": "", "D": "",
         "answer": "B", "image": B64}])),
    ("VLMEvalKit: `image` is the `index` of a row above", separated("mmbench.tsv", "\t", [
        {"index": 7, "question": "What is it?", "answer": "dog", "image": B64},
        {"index": 1000007, "question": "Is it a cat?", "answer": "no", "image": "7"}])),
    ("VLMEvalKit: `image` is the `index` of a row that is not there", separated("mmbench.tsv", "\t", [
        {"index": 8, "question": "What is it?", "A": "cat", "B": "dog", "answer": "B", "image": "7"}])),
    ("VLMEvalKit: several pictures in `image`", separated("mmmu.tsv", "\t", [
        {"index": 1, "question": "See <image 1>, then <image 2>.", "answer": "cat", "image": str([B64, B64])}])),
    ("CSV with `;`, position as text", separated("a.csv", ";", [
        {"image": "1.png", "question": "What is it?", "choices": "['cat', 'dog']", "answer": "1"}])),
    ("CSV, a row with too many cells", text("question,answer\nWhat?,cat,dog\n", "a.csv")),
    ("MMMU: `image_1`…`image_7`, `<image 1>`, options as text", table(
        {**MMMU, "image_1": CELL, "image_2": CELL, "image_3": None})),
    ("MMMU: a mark without its picture", table({**MMMU, "image_1": CELL, "image_2": None})),
    ("MathVista: path in `image`, picture in `decoded_image`", table(
        {"image": "gone/1.png", "decoded_image": CELL, "question": "How many?", "answer": "3"})),
    ("R1: `problem`, `solution` with `<answer>`", lines(
        {"image": "1.png", "problem": "How many?", "solution": "<answer> 3 </answer>"})),
    ("`solution` is a derivation", lines(
        {"image": "1.png", "problem": "How many?", "solution": "We count. " * 9 + "So $\\boxed{7}$."})),
    ("LLaVA, ShareGPT `conversations`, no `format`", lines(
        {"image": "1.png", "conversations": [*TALK, {"from": "gpt", "value": "The answer is B."}]})),
    ("reply `**Answer:** B`", lines(
        {"image": "1.png", "conversations": [*TALK, {"from": "gpt", "value": "**Answer:** B"}]})),
    ("OpenAI `messages` with `image_url`", lines(message(SHOWN, ASKED, then=said("B")))),
    ("OpenAI `messages`, the truth in `answer`", lines(message(SHOWN, ASKED, answer="B"))),
    ("`messages` of several turns", lines(message(ASKED, then=[*said("B"), *message(ASKED, then=said("A"))["messages"]]))),
    ("`messages` with tool calls", lines(message(ASKED, then=[{"role": "assistant", "tool_calls": [{}]}]))),
    ("the Cauldron: `images`, `texts`", table(
        {"images": [CELL], "texts": [{"user": "Q1?", "assistant": "cat."}, {"user": "Q2?", "assistant": "dog."}]})),
    ("`video`", lines({"video": "clip.mp4", "question": "What happens?", "answer": "rain"})),
    ("`image: \"\"` beside `images`, `answer: \"\"` beside `ground_truth`", lines(
        {**Q, "image": "", "images": ["1.png"], "answer": "", "ground_truth": "cat"})),
    ("base64 in `image`", lines({**Q, "image": B64, "answer": "cat"})),
    ("an unknown column with pictures", lines({"question": "What?", "scan": "1.png", "answer": "cat"})),
    ("an unknown column with answers", lines({**Q, "correct_answer_text": "cat"})),
    ("Alpaca: `instruction`, `output`", lines({"instruction": "What?", "image": "1.png", "output": "cat"})),
    ("an unknown column with options", lines({**Q, "multi_choices": ["cat", "dog"], "answer": "cat"})),
    ("no column with questions", table({"frage": "Was?", "antwort": "Katze"})),
    ("neither image nor truth", lines({"question": "Tell a story."}, {**Q, "answer": "cat"})),
    ("a JSON array named .jsonl", text(json.dumps([{"question": "Q?", "answer": "1"}] * 1, indent=1), "a.jsonl")),
    ("an object by id", text(json.dumps({"q1": {**Q, "answer": "cat"}, "q2": {**Q, "answer": "dog"}}), "a.json")),
    ("an object with its rows under `data`", text(json.dumps({"version": 1, "data": [{**Q, "answer": "cat"}]}, indent=1), "a.json")),
    ("JSON lines named .txt", lines({**Q, "answer": "cat"}, name="seeds.txt")),
    ("an empty file beside others", beside("b.jsonl", b"")),
    ("options, then a line that is not known", lines(
        {**Q, "question": f"{OPTIONS}\nPlease think carefully before answering.", "answer": "B"})),
    ("truth `['cat', 'kitten']`", lines({**Q, "answer": "['cat', 'kitten']"})),
    ("truth `5+2=7\\n#### 7` (GSM8K)", lines({**Q, "answer": "5+2=7\n#### 7"})),
    ("truth 1.1 as 32-bit number", table({"question": "How long?", "answer": 1.1}, answer=pa.float32())),
    ("position 1.0 (pandas)", table({"question": "What?", "choices": ["cat", "dog"], "answer": 1.0})),
    ("`<|im_end|>` in a question", lines({**Q, "question": "What? <|im_end|>", "answer": "cat"})),
    ("a special token of the model itself (`<global-img>`)", lines(
        {**Q, "question": "What? <global-img>", "answer": "cat"})),
    ("a folder of `save_to_disk`", saved("disk")),
    ("a folder of .arrow files", saved("arrow")),
    ("webdataset: .tar with .json and .jpg", tarred(
        {"0001.json": b'{"question": "What?", "answer": "cat"}', "0001.png": png(), "0002.txt": b"Which?",
         "0002.answer.txt": b"dog", "0002.png": png("blue")})),
    ("webdataset: a member that is not readable", tarred({"0001.json": b"{", "0001.png": png()})),
    ("a zipped folder", zipped({
        "set/train.jsonl": b'{"question": "What?", "image": "img/1.png", "answer": "cat"}\n', "set/img/1.png": png()})),
    ("a zip of images as `root`", zipped({"img/1.png": png()}, path="seeds.jsonl", root="data.zip")),
    ("a zip bomb", zipped({"a.jsonl": b" " * 80_000_000})),
    ("a row of a zip that names `../../x.png`", zipped({
        "a.jsonl": b'{"question": "What?", "image": "../../x.png", "answer": "cat"}\n'})),
    ("a .tar.gz", text(b"\x1f\x8b", "data.tar.gz")),
    ("a .tar.gz under another name", packed("data", tarred({"0001.json": b"{}"}))),
    ("a folder of .tar.gz", beside("shard-000.tar.gz", b"\x1f\x8b", rows=False)),
    ("Parquet in a zip", zipped({"train.parquet": b"PAR1"})),
    ("a .zip beside seed files of a folder", beside("images.zip", b"PK")),
    ("a folder of .zip", foldered(zipped({
        "train.jsonl": b'{"question": "What?", "image": "img/1.png", "answer": "cat"}\n', "img/1.png": png()}))),
    ("a PNG with over 1 MB of text", picture(wordy_png())),
    ("a white drawing on transparency", picture(white_drawing())),
]  # fmt: skip


def outcome(folder: Path, source: dict[str, Any]) -> str:
    """What a build makes of a source, in words, once its pictures are opened."""
    config = Config.model_validate({"seeds": [source], "out": str(folder / "out")})
    try:
        items = list(inputs.read_rows(config, config.seeds, Progress()))
    except MmprError as error:
        return f"error: {str(error).replace(f'{folder}/', '')[:110].rstrip()}"
    found: Counter[str] = Counter()
    for item in items:
        if isinstance(item, Drop):
            found[f"drop `{item.reason}`"] += 1
        else:
            found[", ".join(seed_words(item))] += 1
    return "; ".join(words if n == 1 else f"{n} × {words}" for words, n in found.items())


def seed_words(seed: Seed) -> list[str]:
    shown = []
    for ref in seed.images:
        low = [low for low, _ in open_image(read_bytes(ref)).getextrema()]
        assert min(low) < 250, "a blank picture"
        shown.append(ref)
    truths = " or ".join(f"`{truth}`" for truth in seed.answers)
    pictures = f"{len(shown)} image{'s' * (len(shown) > 1)}" if shown else "text only"
    return [
        pictures,
        *([f"{len(seed.choices)} options"] if seed.choices else []),
        f"truth {truths}" if truths else "no truth",
    ]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    found = {}
    before = os.getcwd()
    for title, make in CASES:
        folder = tmp_path_factory.mktemp("data")
        os.chdir(folder)
        try:
            source = make(folder)
            source["path"] = str(folder / source["path"])
            if "root" in source:
                source["root"] = str(folder / source["root"])
            found[title] = outcome(folder, source)
        finally:
            os.chdir(before)
    return found


def test_the_table_of_layouts_says_what_happens(outcomes: dict[str, str]) -> None:
    cells = [(title.replace("|", "\\|"), told) for title, told in outcomes.items()]
    rows = [f"| {title} | {told} |" for title, told in cells]
    made = "\n".join(["| data | what a build makes of a row |", "|---|---|", *rows, ""])
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    before, _, tail = rest.partition(END)
    if os.environ.get("MMPR_WRITE_TABLE"):
        PAGE.write_text(f"{head}{BEGIN}{made}{END}{tail}", encoding="utf-8")
        return
    assert before == made


def test_nothing_in_the_table_is_lost_in_silence(outcomes: dict[str, str]) -> None:
    assert len(outcomes) >= 40
    silent = [title for title, told in outcomes.items() if not told or "no truth" in told]
    assert not silent


def read(folder: Path, *, model: str = "demo", **source: Any) -> list[Seed | Drop]:
    source["path"] = str(folder / source["path"])
    settings = {"seeds": [source], "out": str(folder / "out"), "model": model}
    config = Config.model_validate(settings)
    return list(inputs.read_rows(config, config.seeds, Progress()))


def reasons(items: list[Seed | Drop]) -> list[str]:
    return [item.reason if isinstance(item, Drop) else "seed" for item in items]


FOREIGN = {"scan": "1.png", "frage": "Was?", "antwort": "b", "w1": "Hund", "w2": "Katze"}
COLUMNS = {"image": "scan", "question": "frage", "answer": "antwort", "choices": ["w1", "w2"]}


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_columns_say_what_holds_what(tmp_path: Path, name: str) -> None:
    if name.endswith("jsonl"):
        lines(FOREIGN, name=name)(tmp_path)
    elif name.endswith("csv"):
        separated(name, ",", [FOREIGN])(tmp_path)
    else:
        pq.write_table(pa.Table.from_pylist([FOREIGN]), tmp_path / name)
    (item,) = read(tmp_path, path=name, columns={**COLUMNS, "answer": "w2"} | {"choices": []})
    assert isinstance(item, Seed)
    assert (item.answers, item.choices, len(item.images)) == (("Katze",), (), 1)
    (item,) = read(tmp_path, path=name, columns={k: v for k, v in COLUMNS.items() if k != "answer"})
    assert isinstance(item, Seed)
    assert item.choices == ("Hund", "Katze")
    with pytest.raises(InputError, match="'bild'"):
        read(tmp_path, path=name, columns={**COLUMNS, "image": "bild"})


def test_a_column_that_is_declared_to_be_none_is_passed_over(tmp_path: Path) -> None:
    lines({"question": "Q?", "answer": "1", "logo_image": "1.png"})(tmp_path)
    assert reasons(read(tmp_path, path="seeds.jsonl")) == ["unread_columns"]
    assert reasons(read(tmp_path, path="seeds.jsonl", columns={"image": []})) == ["seed"]


def test_columns_beside_those_that_are_read_are_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = {**Q, "answer": "cat", "second_image": "2.png", "image_id": 7, "category": "x"}
    lines(row, {**row, "question": "Where?"})(tmp_path)
    assert reasons(read(tmp_path, path="seeds.jsonl")) == ["seed", "seed"]
    told = [r.getMessage() for r in caplog.records if "not read" in r.getMessage()]
    assert len(told) == 1
    assert "'second_image'" in told[0]
    assert "image_id" not in told[0]
    assert "category" not in told[0]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("b.jsonl", "b.jsonl: has no rows"),
        ("images.zip", "not read beside other seed files: images.zip"),
        ("more.tar.gz", "not read beside other seed files: more.tar.gz"),
    ],
)
def test_a_file_that_gives_no_rows_beside_others_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, told: str
) -> None:
    beside(name, b"")(tmp_path)
    assert reasons(read(tmp_path, path="d")) == ["seed"]
    assert any(told in record.getMessage() for record in caplog.records)


TOKENS = [
    # files of a tokenizer, a question, what becomes of it
    ({"tokenizer.json": {"added_tokens": [{"content": "<box>", "special": True}]}}, "<box>", "special_token"),
    ({"tokenizer.json": {"added_tokens": [{"content": "<td>", "special": False}]}}, "<td>", "seed"),
    ({"tokenizer.json": {"added_tokens": [{"content": "<image>", "special": True}]}}, "<image>", "seed"),
    ({"tokenizer.json": {"added_tokens": [{"content": "!", "special": True}]}}, "Look!", "seed"),
    ({"tokenizer_config.json": {"added_tokens_decoder": {"7": {"content": "<ref>", "special": True}}}},
     "<ref>", "special_token"),
    ({"tokenizer.json": []}, "<box>", "seed"),
    ({}, "<|im_end|>", "special_token"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "asked", "becomes"), TOKENS, ids=str)
def test_special_tokens_are_those_of_the_models_tokenizer(
    tmp_path: Path, files: dict[str, Any], asked: str, becomes: str
) -> None:
    for name, content in {"config.json": {}, **files}.items():
        (tmp_path / name).write_text(json.dumps(content))
    lines({**Q, "question": f"{asked}\nWhat is it?", "answer": "cat"})(tmp_path)
    assert reasons(read(tmp_path, model=str(tmp_path), path="seeds.jsonl")) == [becomes]


def test_rows_refer_to_pictures_above_them_only(tmp_path: Path) -> None:
    rows = [("a", "2"), ("2", B64), ("b", "2"), ("c", "1.png"), ("d", "c"), ("e", "b")]
    keyed = [{"index": i, "question": f"{i}?", "answer": "x", "image": p} for i, p in rows]
    separated("a.tsv", "\t", keyed)(tmp_path)
    items = read(tmp_path, path="a.tsv")
    assert reasons(items) == ["image_of_another_row", *["seed"] * 5]
    shown = [item.images[0].uri for item in items if isinstance(item, Seed)]
    assert shown[0] == shown[1] == f"data:image;base64,{B64}"
    assert [uri.rsplit("/", 1)[-1] for uri in shown[2:]] == ["1.png", "c", "b"]


def test_a_source_may_ask_for_pictures(tmp_path: Path) -> None:
    lines({**Q, "answer": "cat"}, {"question": "1+1?", "answer": "2"})(tmp_path)
    found = read(tmp_path, path="seeds.jsonl", require_image=True)
    assert reasons(found) == ["seed", "missing_image"]


def test_new_settings_of_sources_leave_the_identity_of_builds_as_it_was(tmp_path: Path) -> None:
    plain = Config.model_validate({"seeds": [{"path": "a.jsonl"}]})
    names = {key.split(".", 2)[2] for key in sampling_identity(plain) if key.startswith("seeds.")}
    assert not names & {"columns", "require_image"}
    other = Config.model_validate({"seeds": [{"path": "a.jsonl", "columns": {"image": "img"}}]})
    assert sampling_identity(other) != sampling_identity(plain)


def test_plan_looks_at_pictures_by_sample_and_by_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"question": f"Q{i}?", "image": f"{i}.png", "answer": "1"} for i in range(6)]
    lines(*rows)(tmp_path)
    for i in (0, 3, 4):
        (tmp_path / f"{i}.png").write_bytes(png())
    (tmp_path / "2.png").write_text("question,answer\nWhat?,cat\n")
    (tmp_path / "4.png").write_text("no picture, and not in the sample")
    settings = {"seeds": [{"path": str(tmp_path / "seeds.jsonl")}], "out": str(tmp_path / "out")}
    config = Config.model_validate({**settings, "sampling": {"engine": "endpoint"}, "model": "m"})
    monkeypatch.setattr(stages, "_CHECKS", ())
    monkeypatch.setattr(runs.Pictures, "_FIRST", 3)
    some = stages.plan(config).pictures
    assert (some.images, some.opened) == (6, 3)
    assert dict(some.bad) == {"image_unreadable": 1, "image_missing": 1}
    every = stages.plan(config, all_images=True).pictures
    assert (every.opened, dict(every.bad)) == (6, {"image_unreadable": 2, "image_missing": 1})
    assert "seeds.jsonl:3" in every.first


def test_plan_refuses_where_no_picture_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines({"question": "Q?", "image": "gone.png", "answer": "1"})(tmp_path)
    settings = {"seeds": [{"path": str(tmp_path / "seeds.jsonl")}], "out": str(tmp_path / "out")}
    monkeypatch.setattr(stages, "_CHECKS", ())
    (problem,) = stages.plan(Config.model_validate(settings)).problems
    assert "none of 1 images opens" in problem
    assert "gone.png" in problem


def test_members_of_archives_are_read_in_bounded_size(tmp_path: Path) -> None:
    tarred({"0001.json": b'{"question": "What?"}', "0001.png": png() + bytes(1000)})(tmp_path)
    (item,) = read(tmp_path, path="shard-000.tar")
    assert isinstance(item, Seed)
    assert len(read_member(item.images[0], 100)) == 101
    zipped({"img/1.png": bytes(5000)})(tmp_path)
    ref = ImageRef(str(tmp_path / "data.zip"), 0, "img/1.png")
    assert len(read_member(ref, 100)) == 101
    for wrong in (replace(ref, column="img/2.png"), replace(item.images[0], row=3)):
        with pytest.raises(RowError, match="image_missing"):
            read_member(wrong, 100)


@pytest.mark.parametrize("name", ["a.tar", "a.zip", "a.arrow", "a.csv.gz"])
def test_a_damaged_archive_is_an_error_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"question,answer\n" * 100)
    with pytest.raises(InputError, match=name):
        read(tmp_path, path=name)


def test_a_table_in_another_encoding_is_told_to_be_so(tmp_path: Path) -> None:
    words = "question,answer\nWie groß?,3\n"
    (tmp_path / "a.csv").write_text(words, encoding="utf-16")
    with pytest.raises(InputError, match="is UTF-16: save it as UTF-8"):
        read(tmp_path, path="a.csv")
    (tmp_path / "b.csv").write_text(words, encoding="latin-1")
    (item,) = read(tmp_path, path="b.csv")
    assert isinstance(item, Drop)
    assert "a byte that is not UTF-8, at character 7" in item.detail


def test_white_drawings_show_and_one_colour_stays_as_it_is() -> None:
    drawn = open_image(white_drawing())
    assert (drawn.getpixel((0, 0)), drawn.getpixel((12, 12))) == ((0, 0, 0), (255, 255, 255))
    for colour in ((0, 0, 0, 0), (255, 255, 255, 255)):
        out = io.BytesIO()
        Image.new("RGBA", (24, 24), colour).save(out, "PNG")
        assert open_image(out.getvalue()).getpixel((12, 12)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("The answer is B.", "B"),
        ("**Answer:** B", "B"),
        ("Answer the phone", "Answer the phone"),
        ("[1, 2]", "[1, 2]"),
        ("5+2=7\n#### 7", "7"),
        ("a #### b", "a #### b"),
        ("$\\boxed{7}$", "7"),
        ("\\boxed{1} or \\boxed{2}", "\\boxed{1} or \\boxed{2}"),
    ],
)
def test_a_reference_written_as_a_reply_is_its_answer(reply: str, expected: str) -> None:
    assert written(reply) == expected
