"""TRL: a build's pairs are its format already; the export picks, checks and unites them.

What its collator does (trl 1.16, `DataCollatorForVisionPreference`): the image parts of a prompt
are filled from `images` in order and another number of them raises; rows without images carry
`images: []`. All shards must have one schema: pairs of older builds get null in columns they lack.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmpr_builder.errors import RowError
from mmpr_builder.export.destination import ParquetFiles
from mmpr_builder.export.faults import pair_faults
from mmpr_builder.export.items import Item
from mmpr_builder.export.options import ExportOptions
from mmpr_builder.export.writing import Format
from mmpr_builder.output.rows import pair_schema

_HOW = """
```py
import mmpr_builder as mb
from trl import DPOConfig, DPOTrainer

config = DPOConfig(
    loss_type=["sigmoid", "bco_pair", "sft"],
    loss_weights=[0.8, 0.2, 1.0],
    beta=0.1,
    max_length=None,
)
DPOTrainer("my-vlm", args=config, train_dataset=mb.load_pairs("DEST")).train()
```
"""


class SplitFiles:
    """Parquet for training in one folder, and in `validation` what is kept for that.

    Images are inside, not files.
    """

    def __init__(
        self, folder: Path, train: str, schema: pa.Schema, options: ExportOptions, **how: int
    ) -> None:
        self._names = {"train": train}
        if options.validation:
            self._names["validation"] = "validation"
        self._files = {
            split: ParquetFiles(folder / name, schema, **how) for split, name in self._names.items()
        }
        self.rows: Counter[str] = Counter()

    def put(self, item: Item, row: Mapping[str, Any]) -> None:
        """Append the row of an item to its side."""
        self._files[item.split].add(row)
        self.rows[item.split] += 1

    def finish(self) -> dict[str, Any]:
        for file in self._files.values():
            file.close()
        entries = {name: self.rows[split] for split, name in self._names.items()}
        return {"images": 0, "entries": entries}


class TrlWriter(SplitFiles):
    """Parquet shards of the schema of a build's pairs."""

    def __init__(self, folder: Path, home: Path, options: ExportOptions) -> None:
        super().__init__(folder, "pairs", pair_schema(), options)

    def add(self, item: Item) -> None:
        assert item.row is not None
        if any(picture.data is None for picture in item.pictures):
            raise RowError("image_missing", "the row holds no bytes for an image")
        row = {name: item.row.get(name) for name in pair_schema().names}
        # Pairs made elsewhere may have the conversations alone.
        texts = {f"{side}_text": text for side, text in item.sides}
        told = {"question": item.text, "prompt_text": item.text, **texts}
        self.put(item, row | {k: text for k, text in told.items() if row[k] is None})


FORMAT = Format("trl", pair_faults, TrlWriter, _HOW, whole_rows=True)
