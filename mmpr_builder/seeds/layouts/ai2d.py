"""AI2D: a file of questions for each diagram; the test diagrams are listed in a file of their own.

questions/0.png.json   {"imageName": "0.png", "questions": {"What is A?": {"abcLabel": true,
                        "answerTexts": ["crust", …], "correctAnswer": 1, "questionId": "0.png-0"}}}
images/0.png           the diagram; abc_images/0.png with its labels replaced by letters
ai2d_test_ids.csv      numbers of the diagrams that are the test split, one a line
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from mmpr_builder.errors import InputError, RowError
from mmpr_builder.files import SeedFile, filesystem, split_name
from mmpr_builder.seeds.formats import Row
from mmpr_builder.seeds.json_entries import quote
from mmpr_builder.seeds.layouts.reading import Found, Layout, one_object, read_text

_TEST_IDS = "ai2d_test_ids.csv"


def _read(files: Sequence[SeedFile]) -> Found:
    tests: dict[str, frozenset[str]] = {}
    for file in files:
        root = posixpath.dirname(file.folder)
        if root not in tests:
            tests[root] = _test_ids(root)
        stem = file.name.split(".", 1)[0]
        if (stem in tests[root]) != (split_name(file.split) == "test"):
            continue
        number = 0
        try:
            for question, value in _questions(one_object(file)).items():
                number += 1
                yield file, _row(number, file, question, value)
        except RowError as error:
            yield file, Row(number + 1, None, error)


def _test_ids(root: str) -> frozenset[str]:
    fs, inside = filesystem(f"{root}/{_TEST_IDS}")
    if not fs.exists(inside):
        raise InputError(
            f"{root}: {_TEST_IDS} is missing, without which test diagrams cannot be told from"
            " training ones: put it there, it comes with the data set"
        )
    lines = read_text(SeedFile(f"{root}/{_TEST_IDS}", "json")).replace(",", "\n").split()
    return frozenset(line.strip("\"'").removesuffix(".png") for line in lines)


def _questions(content: Mapping[str, Any]) -> Mapping[str, Any]:
    found = content.get("questions")
    if not isinstance(found, Mapping):
        raise RowError("missing_questions", f"no table 'questions', got {quote(dict(content))}")
    return found


def _row(number: int, file: SeedFile, question: str, value: Any) -> Row:
    if not isinstance(value, Mapping):
        return Row(number, None, RowError("not_an_object", f"{quote(question)}: {quote(value)}"))
    if not isinstance(value.get("answerTexts"), list):
        detail = f"{quote(question)}: answerTexts = {quote(value.get('answerTexts'))}"
        return Row(number, None, RowError("bad_choices_field", detail))
    folder = "abc_images" if value.get("abcLabel") else "images"
    return Row(
        number,
        {
            "id": value.get("questionId"),
            "question": question,
            "choices": value.get("answerTexts"),
            "answer": value.get("correctAnswer"),
            "image": f"{folder}/{file.name.removesuffix('.json')}",
        },
    )


LAYOUT = Layout(
    r"(?:\A|/)questions/[^/]+\.json\Z|\A[^/]+\.png\.json\Z", _read, images="..", also=_TEST_IDS
)
