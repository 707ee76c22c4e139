"""Rows of messages for ms-swift and LLaMA-Factory: a question and two responses.

What ms-swift does (modelscope/ms-swift, `swift/dataset/preprocessor/core.py` and `swift/template`):
a row whose `rejected_response` equals the chosen one is deleted. `<image>` tags are counted over
the whole text, both responses included; missing ones are put in front, surplus ones stay in the
text with a warning. `<img>FILE</img>` becomes an image, or at least `<image>`, where a row has no
other; `{{ROUND0}}` and `{{ROUND1}}` in a question become numbers. Relative image paths start at the
working folder, so they are absolute here.

What LLaMA-Factory does (hiyouga/LLaMA-Factory, `src/llamafactory/data/parser.py`, `converter.py`,
`mm_plugin.py`): once `columns` is given, every column not named in it is none, so all four are.
`<image>` is counted over prompt *and* response, and another number than that of images ends the
run; `<video>` and `<audio>` likewise, and `{{image}}` is its own stand-in for an image token.
Image paths are relative to `media_dir`, which is `dataset_dir` unless set.

An all-text file has no image column whose type could be inferred, so text-only rows are a file of
their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mmpr_builder.export.destination import ImageFiles, JsonlFiles, write_json
from mmpr_builder.export.faults import pair_faults
from mmpr_builder.export.items import Item
from mmpr_builder.export.options import ExportOptions
from mmpr_builder.export.writing import Format

_SWIFT_MARKS = re.compile(r"<image>|<img>.+?</img>|\{\{ROUND[01]\}\}")
_FACTORY_MARKS = re.compile(r"<image>|<video>|<audio>|\{\{(?:image|video|audio)\}\}")


class ConversationWriter:
    """Writes `NAME.jsonl` and `NAME_text_only.jsonl`; `told` gives the texts of a row.

    `base` stands before the paths of images.
    """

    def __init__(
        self, folder: Path, name: str, base: str, told: Callable[[Item], dict[str, Any]]
    ) -> None:
        self._folder, self._name, self._base, self._told = folder, name, base, told
        self._lines = JsonlFiles(folder)
        self._images = ImageFiles(folder / "images")

    def add(self, item: Item) -> None:
        names = [f"{self._base}images/{self._images.add(p.read())}" for p in item.pictures]
        images = {"images": names} if names else {}
        own = {"id": item.id, "source": item.source, "kind": item.kind}
        name = self._name if item.split == "train" else f"{self._name}_validation"
        file = f"{name}{'' if names else '_text_only'}.jsonl"
        self._lines.add(file, {**self._told(item), **images, **own})

    def finish(self) -> dict[str, Any]:
        self._lines.flush()
        return {"images": len(self._images), "entries": dict(sorted(self._lines.rows.items()))}


class LlamaFactoryWriter(ConversationWriter):
    """Adds the description of the data sets, `dataset_info.json`."""

    def __init__(self, folder: Path, home: Path, options: ExportOptions) -> None:
        super().__init__(folder, "mmpr", "", _sharegpt)

    def finish(self) -> dict[str, Any]:
        made = super().finish()
        rows = {file.removesuffix(".jsonl"): n for file, n in made["entries"].items()}
        columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}
        shown = {**columns, "images": "images"}
        tags = {
            "role_tag": "from",
            "content_tag": "value",
            "user_tag": "human",
            "assistant_tag": "gpt",
            "system_tag": "system",
        }
        info = {
            name: {
                "file_name": f"{name}.jsonl",
                "formatting": "sharegpt",
                "ranking": True,
                "columns": columns if name.endswith("_text_only") else shown,
                "tags": tags,
            }
            for name in rows
        }
        write_json(self._folder / "dataset_info.json", info)
        return {**made, "entries": rows}


def _messages(item: Item) -> dict[str, Any]:
    turns = (("system", item.system), ("user", item.shown), ("assistant", item.chosen))
    said = [{"role": role, "content": text} for role, text in turns if role != "system" or text]
    return {"messages": said, "rejected_response": item.rejected}


def _sharegpt(item: Item) -> dict[str, Any]:
    system = [{"from": "system", "value": item.system}] if item.system else []
    return {
        "conversations": [*system, {"from": "human", "value": item.shown}],
        "chosen": {"from": "gpt", "value": item.chosen},
        "rejected": {"from": "gpt", "value": item.rejected},
    }


MS_SWIFT = Format(
    "ms-swift",
    partial(pair_faults, marks=_SWIFT_MARKS, may_lack=True),
    lambda folder, home, _: ConversationWriter(folder, "pairs", f"{home}/", _messages),
    options=("mount",),
)
LLAMA_FACTORY = Format(
    "llama-factory", partial(pair_faults, marks=_FACTORY_MARKS), LlamaFactoryWriter
)
