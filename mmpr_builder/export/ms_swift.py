"""ms-swift's RLHF format: messages that end with the chosen response, and `rejected_response`.

What it does (modelscope/ms-swift, `swift/dataset/preprocessor/core.py` and `swift/template`): a row
whose `rejected_response` equals the chosen one is deleted. `<image>` tags are counted over the
whole text, both responses included; missing ones are put in front, surplus ones stay in the text
with a warning. Relative image paths start at the working folder, so they are absolute here. An
all-text file has no image column whose type could be inferred: text-only rows are a second file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmpr_builder.export.destination import ImageFiles, JsonlFiles
from mmpr_builder.export.faults import Fault, pair_faults
from mmpr_builder.export.items import Item
from mmpr_builder.export.options import ExportOptions
from mmpr_builder.export.writing import Format

WITH_IMAGES, TEXT_ONLY = "pairs.jsonl", "pairs_text_only.jsonl"

_HOW = """
MPO with ms-swift (name only the files that are here):

```sh
swift rlhf --rlhf_type dpo --model my-vlm \\
    --loss_type sigmoid bco_pair sft --loss_weights 0.8 0.2 1.0 --beta 0.1 \\
    --dataset DEST/pairs.jsonl DEST/pairs_text_only.jsonl
```

Image paths are absolute: export with `--mount` if the trainer sees the folder elsewhere.
"""


class SwiftWriter:
    """Two files: rows with images, and rows without."""

    def __init__(self, folder: Path, home: Path, options: ExportOptions) -> None:
        self._home = home
        self._lines = JsonlFiles(folder)
        self._images = ImageFiles(folder / "images")

    def add(self, item: Item) -> None:
        """Append one row."""
        names = [f"{self._home}/images/{self._images.add(p.read())}" for p in item.pictures]
        row: dict[str, Any] = {
            "messages": [
                {"role": "user", "content": item.shown},
                {"role": "assistant", "content": item.chosen},
            ],
            "rejected_response": item.rejected,
            **({"images": names} if names else {}),
            "id": item.id,
            "source": item.source,
            "kind": item.kind,
        }
        self._lines.add(WITH_IMAGES if names else TEXT_ONLY, row)

    def finish(self) -> dict[str, Any]:
        """Write what waits."""
        self._lines.flush()
        return {"images": len(self._images), "entries": dict(sorted(self._lines.rows.items()))}


def faults(item: Item) -> Iterator[Fault]:
    """What ms-swift would delete or read wrongly."""
    yield from pair_faults(item, may_lack=True)


FORMAT = Format("ms-swift", faults, SwiftWriter, _HOW, options=("mount",))
