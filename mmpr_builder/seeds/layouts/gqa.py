"""GQA: `train_balanced_questions.json`, an object by question id; `images/2354786.jpg`.

{"02930152": {"question": "Is the sky dark?", "imageId": "2354786", "answer": "yes",
              "fullAnswer": "Yes, the sky is dark.", "semantic": […], …}, …}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmpr_builder.files import SeedFile
from mmpr_builder.seeds.formats import Row
from mmpr_builder.seeds.layouts.reading import Layout, each, need, rows


def _fields(name: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    image = f"{need(value, 'imageId')}.jpg"
    question, answer = value.get("question"), value.get("answer")
    return {"id": name, "question": question, "image": image, "answer": answer}


def _read(file: SeedFile) -> Iterator[Row]:
    return rows(file, _fields)


LAYOUT = Layout(r"questions[^/]*\.json\Z", each(_read), images="images")
