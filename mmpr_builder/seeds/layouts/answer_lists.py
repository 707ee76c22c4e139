"""DocVQA, InfographicVQA, ST-VQA and TextVQA: a list `data` of questions with accepted answers.

{"dataset_name": "docvqa", "dataset_split": "train", "data": [
  {"questionId": 337, "question": "what is the date mentioned in this letter?",
   "image": "documents/xnbl0037_1.png", "answers": ["1/8/93"], "data_split": "train", …}, …]}

The image is called `image` (DocVQA), `image_local_name` (InfographicVQA), `file_path` (ST-VQA), or
is `image_id` with .jpg (TextVQA). Answers may repeat: TextVQA has those of ten people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmpr_builder.errors import RowError
from mmpr_builder.files import SeedFile
from mmpr_builder.seeds.formats import Row
from mmpr_builder.seeds.json_entries import quote
from mmpr_builder.seeds.layouts.reading import Layout, each, rows


def _image(value: Mapping[str, Any]) -> str:
    for name in ("image", "image_local_name", "file_path", "image_id"):
        found = value.get(name)
        if isinstance(found, str) and found.strip():
            return f"{found}.jpg" if name == "image_id" else found
    raise RowError("missing_image", f"no image in {quote(dict(value))}")


def _fields(_: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "id": value.get("questionId", value.get("question_id")),
        "question": value.get("question"),
        "image": _image(value),
        "answer": value.get("answers"),
    }


def _read(file: SeedFile) -> Iterator[Row]:
    return rows(file, _fields, "data")


LAYOUT = Layout(r"(?:\A|[_/])(?:train|val|test)[^/]*\.json\Z", each(_read))
