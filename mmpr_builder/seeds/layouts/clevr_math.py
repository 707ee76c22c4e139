"""CLEVR-Math: a list `questions`; CLEVR's images, `CLEVR_v1.0/images/train/`.

{"questions": [{"question": "Subtract all cubes. How many objects are left?", "answer": "6",
                "image_filename": "CLEVR_train_000000.png", "template": "subtraction", …}, …]}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmpr_builder.files import SeedFile
from mmpr_builder.seeds.formats import Row
from mmpr_builder.seeds.layouts.reading import Layout, each, need, rows


def _fields(_: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    image = need(value, "image_filename", (str,))
    return {"question": value.get("question"), "image": image, "answer": value.get("answer")}


def _read(file: SeedFile) -> Iterator[Row]:
    return rows(file, _fields, "questions")


LAYOUT = Layout(r"clevr[^/]*\.json\Z", each(_read))
