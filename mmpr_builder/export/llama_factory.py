"""LLaMA-Factory: ShareGPT rows with a ranking, and the `dataset_info.json` that describes them.

What it does (hiyouga/LLaMA-Factory, `src/llamafactory/data/parser.py`, `converter.py`,
`mm_plugin.py`): once `columns` is given, every column not named in it is none, so all four are.
`<image>` is counted over prompt *and* response, and another number than that of images ends the
run; `<video>` and `<audio>` likewise, and `{{image}}` is its own stand-in for an image token.
Image paths are relative to `media_dir`, which is `dataset_dir` unless set. An all-text file has no
image column whose type could be inferred: text-only rows are a data set of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmpr_builder.export.destination import ImageFiles, JsonlFiles, write_json
from mmpr_builder.export.faults import Fault, pair_faults
from mmpr_builder.export.items import Item
from mmpr_builder.export.options import ExportOptions
from mmpr_builder.export.writing import Format

WITH_IMAGES, TEXT_ONLY = "mmpr", "mmpr_text_only"
INFO = "dataset_info.json"

_MARKS = re.compile(r"<image>|<video>|<audio>|\{\{(?:image|video|audio)\}\}")
_COLUMNS = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}
_TAGS = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"}

_HOW = """
In the training YAML (name only the data sets that `dataset_info.json` has):

```yaml
stage: dpo
dataset_dir: DEST
dataset: mmpr,mmpr_text_only
pref_loss: sigmoid
pref_beta: 0.1
pref_bco_weight: 0.2
pref_ftx: 1.0
```

Its DPO loss has weight 1 where MPO has 0.8. Images over `image_max_pixels` (768 x 768) are shrunk.
"""


class LlamaFactoryWriter:
    """One data set with images, one without, and their description."""

    def __init__(self, folder: Path, home: Path, options: ExportOptions) -> None:
        self._folder = folder
        self._lines = JsonlFiles(folder)
        self._images = ImageFiles(folder / "images")

    def add(self, item: Item) -> None:
        """Append one row."""
        names = [f"images/{self._images.add(picture.read())}" for picture in item.pictures]
        row: dict[str, Any] = {
            "conversations": [{"from": "human", "value": item.shown}],
            "chosen": {"from": "gpt", "value": item.chosen},
            "rejected": {"from": "gpt", "value": item.rejected},
            **({"images": names} if names else {}),
            "id": item.id,
            "source": item.source,
            "kind": item.kind,
        }
        self._lines.add(f"{WITH_IMAGES if names else TEXT_ONLY}.jsonl", row)

    def finish(self) -> dict[str, Any]:
        """Write what waits, and dataset_info.json."""
        self._lines.flush()
        rows = {
            name: self._lines.rows[f"{name}.jsonl"]
            for name in (WITH_IMAGES, TEXT_ONLY)
            if self._lines.rows[f"{name}.jsonl"]
        }
        images = {"images": "images"}
        info = {
            name: {
                "file_name": f"{name}.jsonl",
                "formatting": "sharegpt",
                "ranking": True,
                "columns": {**_COLUMNS, **(images if name == WITH_IMAGES else {})},
                "tags": _TAGS,
            }
            for name in rows
        }
        write_json(self._folder / INFO, info)
        return {"images": len(self._images), "entries": rows}


def faults(item: Item) -> Iterator[Fault]:
    """What would end a LLaMA-Factory run."""
    yield from pair_faults(item, _MARKS)


FORMAT = Format("llama-factory", faults, LlamaFactoryWriter, _HOW)
