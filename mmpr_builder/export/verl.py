"""verl: queries of middling difficulty for online training, in the form of MMPR-Tiny.

    data_source, prompt: [{role, content}], images: [Image], ability,
    reward_model: {style, ground_truth}, extra_info: {index, question, answers, pass_rate, …}

MMPR-Tiny is the queries whose pass rate over the rollouts lies in 0.2-0.8 (InternVL3.5): a query
that always or never succeeds teaches nothing. The pass rate is that of the pairs, over decided
responses; the LLM judge is not asked again.

What the loader does (verl, `verl/utils/dataset/rl_dataset.py`): it splits the prompt at `<image>`
and `<video>` and asserts one image for each; images are decoded by the Parquet file's own metadata;
a query without images is text (older versions need the key to be missing).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mmpr_builder.config import Config
from mmpr_builder.export.destination import suffix_of
from mmpr_builder.export.faults import pair_faults
from mmpr_builder.export.items import Item
from mmpr_builder.export.options import ExportOptions
from mmpr_builder.export.responses import (
    SplitFiles,
    about_query,
    query_features,
    query_item,
    within,
)
from mmpr_builder.export.writing import Format
from mmpr_builder.io.tables import plain
from mmpr_builder.output import schema_of
from mmpr_builder.records import Rollout, Verdict

_MARKS = re.compile(r"<image>|<video>|<audio>")


def features() -> Any:
    """The `datasets.Features` of a row."""
    from datasets import Features, Image, List, Value

    text = Value("string")
    return Features(
        {
            "data_source": text,
            "prompt": List({"role": text, "content": text}),
            "images": List(Image()),
            "ability": text,
            "reward_model": {"style": text, "ground_truth": text},
            "extra_info": {"index": Value("int64"), "split": text, **query_features()},
        }
    )


class VerlWriter(SplitFiles):
    """One Parquet file of queries, and one of those kept for validation."""

    def __init__(self, folder: Path, home: Path, options: ExportOptions) -> None:
        schema = schema_of(features())
        super().__init__(folder, options, "train", schema, self._query, shard_bytes=2**62)
        self._folder = folder
        self._kept: Counter[str] = Counter()
        self._images: set[str] = set()

    def _query(self, item: Item) -> dict[str, Any]:
        assert item.row is not None
        images = [_image(picture.read()) for picture in item.pictures]
        self._images.update(image["path"] for image in images)
        self._kept[item.source or "unnamed"] += 1
        own = {"index": self.rows[item.split], "split": item.split}
        return {**item.row, "extra_info": {**item.row["extra_info"], **own}, "images": images}

    def finish(self) -> dict[str, Any]:
        for split in super().finish()["entries"]:
            folder = (self._folder / split).rename(self._folder / f".{split}")
            (folder / "part-00000.parquet").rename(self._folder / f"{split}.parquet")
            folder.rmdir()
        return {"images": len(self._images), "entries": dict(sorted(self._kept.items()))}


def _image(data: bytes) -> dict[str, Any]:
    return {"bytes": data, "path": f"{hashlib.sha256(data).hexdigest()}.{suffix_of(data)}"}


def _rows(
    rollout: Rollout, verdicts: Sequence[Verdict], config: Config, options: ExportOptions
) -> Iterator[Item]:
    rate = within(rollout, verdicts, config, options)
    item = query_item(rollout, config)
    about = about_query(rollout, config, rate)
    row = {
        "data_source": plain(rollout.seed.source) or "mmpr_builder",
        "prompt": [{"role": "user", "content": plain(item.shown)}],
        "ability": "multimodal_reasoning",
        "reward_model": {"style": "rule", "ground_truth": about["answer"]},
        "extra_info": {"split": "train", **about},
    }
    yield replace(item, row=row)


FORMAT = Format(
    "verl",
    partial(pair_faults, marks=_MARKS),
    VerlWriter,
    options=("pass_rate",),
    queries=True,
    rows=_rows,
)
