"""IconQA: a folder for each question, of three kinds; options can be images.

train/choose_txt/7/data.json      {"question": "What has been done to this letter?",
                                   "choices": ["turn", "slide"], "answer": 0, "grade": "grade3"}
train/choose_img/288/data.json    {"question": "Which shape is a rectangle?",
                                   "choices": ["choice_0.png", "choice_1.png"], "answer": 0, …}
train/fill_in_blank/2/data.json   {"question": "How many shapes are blue?", "answer": "3", …}
train/…/image.png                 the picture that goes with the question
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmpr_builder.errors import RowError
from mmpr_builder.files import SeedFile
from mmpr_builder.records import IMAGE_PLACEHOLDER
from mmpr_builder.seeds.json_entries import quote
from mmpr_builder.seeds.layouts.reading import Layout, need, single


def _fields(file: SeedFile, value: Mapping[str, Any]) -> Mapping[str, Any]:
    *_, kind, number = file.folder.split("/")
    question, choices = need(value, "question", (str,)), value.get("choices")
    fields = {"id": f"iconqa_{kind}_{number}", "image": f"{file.folder}/image.png"}
    if kind != "choose_img":
        answer = value.get("answer")
        return {**fields, "question": question, "choices": choices, "answer": answer}
    answer = value.get("answer")
    if not isinstance(choices, list) or not all(isinstance(name, str) for name in choices):
        raise RowError("bad_choices_field", f"expected names of images, got {quote(choices)}")
    if not isinstance(answer, int) or not 0 <= answer < len(choices):
        detail = f"answer {quote(answer)} is no position in {quote(choices)}"
        raise RowError("answer_not_in_choices", detail)
    letters = [chr(ord("A") + i) for i in range(len(choices))]
    options = "\n".join(f"{letter}. {IMAGE_PLACEHOLDER}" for letter in letters)
    images = [fields["image"], *(f"{file.folder}/{name}" for name in choices)]
    asked = f"{IMAGE_PLACEHOLDER}\n{question}\n{options}"
    return {**fields, "question": asked, "image": images, "answer": letters[answer]}


LAYOUT = Layout(r"(?:choose_txt|choose_img|fill_in_blank)/\d+/data\.json\Z", single(_fields))
