"""OCR-VQA: `dataset.json` of all splits, an object by book, several questions each; `images/`.

{"0761183272": {"imageURL": "http://…/51a.jpg", "questions": ["Who wrote this book?", …],
                "answers": ["Sandra Boynton", …], "split": 1, "title": "…", …}, …}

Split 1 is train, 2 validation, 3 test. Images are saved as `0761183272.jpg`, or with the ending
that their URL has.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from mmpr_builder.errors import RowError
from mmpr_builder.files import SeedFile, split_name
from mmpr_builder.seeds.formats import Row
from mmpr_builder.seeds.json_entries import quote
from mmpr_builder.seeds.layouts.reading import Layout, each, need, rows

_SPLITS = {1: "train", 2: "validation", 3: "test"}


def _read(file: SeedFile) -> Iterator[Row]:
    wanted = split_name(file.split)

    def fields(name: str, value: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
        if _SPLITS.get(need(value, "split", (int,))) != wanted:
            return None
        questions, answers = value.get("questions"), value.get("answers")
        lists = isinstance(questions, list) and isinstance(answers, list)
        if not lists or len(questions) != len(answers):  # type: ignore[arg-type]
            detail = f"{quote(questions)} with answers {quote(answers)}"
            raise RowError("questions_answers_mismatch", f"book {name}: {detail}")
        url = value.get("imageURL")
        suffix = posixpath.splitext(url)[1] if isinstance(url, str) else ""
        image = f"{name}{suffix or '.jpg'}"
        asked = zip(questions or (), answers or (), strict=True)
        return [
            {"id": f"{name}_{i}", "question": q, "answer": a, "image": image}
            for i, (q, a) in enumerate(asked)
        ]

    return rows(file, fields)


LAYOUT = Layout(r"(?:\A|/)dataset\.json\Z", each(_read), images="images")
