"""ChartQA: `train/train_human.json`, `train/train_augmented.json` (or .csv); `train/png/`.

[{"imgname": "41699051005347.png", "query": "How many food item is shown?", "label": "14"}, …]
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from mmpr_builder.errors import RowError
from mmpr_builder.files import SeedFile
from mmpr_builder.seeds.formats import Row
from mmpr_builder.seeds.layouts.reading import Layout, each, need, read_text, rows


def _fields(_: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    image = need(value, "imgname", (str,))
    return {"image": image, "question": value.get("query"), "answer": value.get("label")}


def _read(file: SeedFile) -> Iterator[Row]:
    if not file.name.endswith(".csv"):
        yield from rows(file, _fields)
        return
    for number, value in enumerate(csv.DictReader(io.StringIO(read_text(file))), start=1):
        try:
            yield Row(number, _fields("", value))
        except RowError as error:
            yield Row(number, None, error)


# Beside them lie tables/*.csv (what the charts show) and annotations/*.json (where it stands).
LAYOUT = Layout(r"(?:\A|/)(?:train|val|test)_[a-z]+\.(?:json|csv)\Z", each(_read), images="png")
