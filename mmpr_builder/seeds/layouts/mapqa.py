"""MapQA: `train-QA.json` of MapQA_U, MapQA_R and MapQA_S; their `images/`.

[{"question_id": "…", "question": "Which states have a value below 5%?", "map_id": "map_1.png",
  "answer": ["Ohio", "Utah"], "question_type": "retrieval", …}, …]

A list is one answer of several parts here, not several answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmpr_builder.files import SeedFile
from mmpr_builder.seeds.formats import Row
from mmpr_builder.seeds.layouts.reading import Layout, each, need, rows


def _fields(_: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    answer = value.get("answer")
    if isinstance(answer, list):
        answer = ", ".join(str(part) for part in answer)
    return {
        "id": value.get("question_id"),
        "question": value.get("question"),
        "image": need(value, "map_id", (str,)),
        "answer": answer,
    }


def _read(file: SeedFile) -> Iterator[Row]:
    return rows(file, _fields)


LAYOUT = Layout(r"(?:\A|/)(?:train|dev|test)-QA\.json\Z", each(_read), images="images")
