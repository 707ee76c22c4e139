"""The trainers' loaders as their sources describe them, in small: written from their rules alone.

None of this shares code with `mmpr_builder.export`: where a real loader would raise, stop or take
another row, these raise. Each gives rows of (question, chosen, rejected, images).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image


@dataclass(frozen=True)
class Seen:
    """What a trainer gets of one row."""

    question: str
    chosen: str
    rejected: str
    images: tuple[bytes, ...] = ()


def internvl(meta: Path) -> Iterator[Seen]:
    """internvl_chat_mpo.py: `LazySupervisedDataset`, `build_datasets`; dataset.py: internvl2_5."""
    for entry in json.loads(meta.read_text(encoding="utf-8")).values():
        assert entry["annotation"].endswith("jsonl")
        assert entry["repeat_time"] < 1 or entry["repeat_time"] == int(entry["repeat_time"])
        with open(entry["annotation"], encoding="utf-8") as file:
            lines = file.readlines()
        assert len(lines) == entry["length"]
        if entry["repeat_time"] < 1:
            lines = lines[: int(len(lines) * entry["repeat_time"])]  # A random sample of so many.
        for line in lines:
            row = json.loads(line)
            names: list[str] = []
            if "image" in row and len(row["image"]) != 0:
                names = row["image"] if isinstance(row["image"], list) else [row["image"]]
                if isinstance(row["image"], str) and "<image>" not in row["question"]:
                    row["question"] = "<image>\n" + row["question"]
            # The assertion whose failure makes the loader draw another row.
            assert min(row["question"].count("<image>"), len(names)) == len(names)
            yield Seen(
                row["question"],
                row["chosen"],
                row["rejected"],
                tuple(_opened(os.path.join(entry["root"], name)) for name in names),
            )


def nemo_rl(recipe: Path) -> Iterator[Seen]:
    """nemo_rl/data/datasets/preference_datasets/mmpr.py: rows it would skip raise here."""
    placeholder = re.compile(r"<image(?:_\d+)?>")
    root = recipe.resolve().parent.parent
    for entry in json.loads(recipe.read_text(encoding="utf-8")).values():
        for line in (root / entry["annotation"]).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            names = [row["image"]] if isinstance(row["image"], str) else row["image"]
            paths = [(root / entry["root"] / name).resolve() for name in names]
            assert len(paths) == 1
            assert paths[0].is_file()
            # It adds an empty `system` turn, and `<think></think>` before sides without it.
            found = len(placeholder.findall(row["question"]))
            assert found in (0, len(paths))
            sides = [placeholder.sub("", row[side]) for side in ("chosen", "rejected")]
            yield Seen(row["question"], *sides, tuple(_opened(path) for path in paths))


def ms_swift(files: list[Path]) -> Iterator[Seen]:
    """swift/dataset/preprocessor/core.py, swift/template: files read by `datasets`, as it does."""
    for path in files:
        for row in _json_rows(path):
            *prompt, reply = row["messages"]
            assert [m["role"] for m in row["messages"]] == ["user", "assistant"]
            assert not re.search(r"\{\{ROUND[01]\}\}", prompt[0]["content"])  # Becomes a number.
            assert row["rejected_response"] != reply["content"]
            images = row.get("images") or []
            texts = [m["content"] for m in row["messages"]] + [row["rejected_response"]]
            # More is a warning and stays in the text, fewer are put in front of it.
            assert len(re.findall("<image>", "\n".join(texts))) == len(images)
            # Becomes an image of its own, or at least `<image>`, where there is no other.
            assert images or not re.search("<img>.+?</img>", "\n".join(texts))
            yield Seen(
                prompt[0]["content"],
                reply["content"],
                row["rejected_response"],
                tuple(_opened(name) for name in images),
            )


def llama_factory(dataset_dir: Path) -> Iterator[Seen]:
    """src/llamafactory/data/parser.py, converter.py, mm_plugin.py."""
    for entry in json.loads((dataset_dir / "dataset_info.json").read_text()).values():
        assert entry["ranking"] is True
        assert entry["formatting"] == "sharegpt"
        # Once there is `columns`, what it does not name is none.
        columns = {name: entry["columns"].get(name) for name in _LF_COLUMNS}
        tags = entry["tags"]
        role, content = tags["role_tag"], tags["content_tag"]
        for row in _json_rows(dataset_dir / entry["file_name"]):
            turns = row[columns["messages"]]
            chosen, rejected = row[columns["chosen"]], row[columns["rejected"]]
            assert [turn[role] for turn in turns] == [tags["user_tag"]]
            assert tags["system_tag"] == "system"  # Without it a system turn is an invalid role.
            assert [chosen[role], rejected[role]] == [tags["assistant_tag"]] * 2
            images = (row[columns["images"]] if columns["images"] else None) or []
            for side in (chosen, rejected):
                said = turns[0][content] + side[content]
                assert said.count("<image>") == len(images)
                assert "<video>" not in said
                assert "<audio>" not in said
            yield Seen(
                turns[0][content],
                chosen[content],
                rejected[content],
                tuple(_opened(dataset_dir / name) for name in images),
            )


_LF_COLUMNS = ("messages", "chosen", "rejected", "images")


def verl(path: Path) -> Iterator[tuple[Seen, dict[str, Any]]]:
    """verl/utils/dataset/rl_dataset.py: (what the model is asked, the row)."""
    from datasets import load_dataset

    for row in load_dataset("parquet", data_files=str(path), split="train"):
        images = list(row["images"] or [])
        used = 0
        (message,) = row["prompt"]
        # Without images no mark is looked for.
        marks = "(<image>|<video>|<audio>)" if images else r"(\Z\A)"
        for segment in re.split(marks, message["content"]):
            assert segment not in ("<video>", "<audio>")
            used += segment == "<image>"
        assert used == len(images)
        assert all(isinstance(image, Image.Image) for image in images)
        pixels = tuple(image.convert("RGB").tobytes() for image in images)
        yield Seen(message["content"], "", "", pixels), row


def _json_rows(path: Path) -> list[dict[str, Any]]:
    """By `datasets`, whose guess of a column's type must hold for the whole file."""
    from datasets import load_dataset

    return list(load_dataset("json", data_files=str(path), split="train"))


def _opened(path: str | Path) -> bytes:
    assert os.path.isabs(path)
    with Image.open(path) as image:
        suffix = {"PNG": ".png", "JPEG": ".jpg"}[str(image.format)]
        assert str(path).endswith(suffix)
        return image.convert("RGB").tobytes()
