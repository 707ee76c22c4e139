# ruff: noqa: E501
"""The layouts and oddities that data comes in: each is made small, and docs/data.md says what a
build makes of it. `MMPR_WRITE_TABLE=1 pytest tests/test_data_people_have.py` writes that table."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw

from mmpr_builder.config import Config
from mmpr_builder.errors import MmprError
from mmpr_builder.io.images import open_image, read_bytes
from mmpr_builder.progress import Progress
from mmpr_builder.records import Drop, Seed
from mmpr_builder.runs import inputs

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


def beside(folder: Path) -> dict[str, Any]:
    (folder / "d").mkdir()
    (folder / "d" / "a.jsonl").write_text('{"question": "What?", "answer": "cat"}\n')
    (folder / "d" / "b.jsonl").write_text("")
    return {"path": "d"}


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
    ("VLMEvalKit: `image` is the number of another row", separated("mmbench.tsv", "\t", [
        {"index": 8, "question": "What is it?", "A": "cat", "B": "dog", "answer": "B", "image": "7"}])),
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
    ("an unknown column with options", lines({**Q, "multi_choices": ["cat", "dog"], "answer": "cat"})),
    ("no column with questions", table({"frage": "Was?", "antwort": "Katze"})),
    ("neither image nor truth", lines({"question": "Tell a story."}, {**Q, "answer": "cat"})),
    ("a JSON array named .jsonl", text(json.dumps([{"question": "Q?", "answer": "1"}] * 1, indent=1), "a.jsonl")),
    ("an object by id", text(json.dumps({"q1": {**Q, "answer": "cat"}, "q2": {**Q, "answer": "dog"}}), "a.json")),
    ("an object with its rows under `data`", text(json.dumps({"version": 1, "data": [{**Q, "answer": "cat"}]}, indent=1), "a.json")),
    ("JSON lines named .txt", lines({**Q, "answer": "cat"}, name="seeds.txt")),
    ("an empty file beside others", beside),
    ("options, then a line that is not known", lines(
        {**Q, "question": f"{OPTIONS}\nPlease think carefully before answering.", "answer": "B"})),
    ("truth `['cat', 'kitten']`", lines({**Q, "answer": "['cat', 'kitten']"})),
    ("truth `5+2=7\\n#### 7` (GSM8K)", lines({**Q, "answer": "5+2=7\n#### 7"})),
    ("truth 1.1 as 32-bit number", table({"question": "How long?", "answer": 1.1}, answer=pa.float32())),
    ("position 1.0 (pandas)", table({"question": "What?", "choices": ["cat", "dog"], "answer": 1.0})),
    ("`<|im_end|>` in a question", lines({**Q, "question": "What? <|im_end|>", "answer": "cat"})),
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
