"""VQAv2 and OK-VQA: questions in one file, the answers of ten people in another, COCO's images.

v2_OpenEnded_mscoco_train2014_questions.json
  {"questions": [{"image_id": 458752, "question": "What is this photo taken looking through?",
                  "question_id": 458752000}, …], "data_subtype": "train2014", …}
v2_mscoco_train2014_annotations.json
  {"annotations": [{"question_id": 458752000, "answers": [{"answer": "net", …}, …], …}, …]}
COCO_train2014_000000458752.jpg
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mmpr_builder.errors import RowError
from mmpr_builder.files import SeedFile, filesystem, full_name
from mmpr_builder.seeds.formats import Row
from mmpr_builder.seeds.json_entries import entries, quote
from mmpr_builder.seeds.layouts.reading import Layout, each, need, read_text, rows

_SUBTYPE = re.compile(r"_((?:train|val|test)[a-z-]*\d{4})_")
_ANNOTATIONS = r"annotations\.json\Z"


def _answers_of(file: SeedFile, subtype: str) -> dict[int, tuple[str, ...]] | None:
    """Question id -> answers, of the file beside it; None without one (a test split)."""
    fs, inside = filesystem(file.folder)
    for name in sorted(fs.ls(inside, detail=False)):
        base = posixpath.basename(name.rstrip("/"))
        if f"_{subtype}_" in base and re.search(_ANNOTATIONS, base):
            break
    else:
        return None
    beside = SeedFile(full_name(fs, file.folder, name), "json", None, file.split)
    known: dict[str, str] = {}  # Few answers are many times the same.
    found: dict[int, tuple[str, ...]] = {}
    for _, _, value in entries(read_text(beside), beside.uri, "annotations"):
        texts = [a.get("answer") for a in value.get("answers", ()) if isinstance(a, Mapping)]
        kept = (str(text) for text in texts if text is not None)
        found[value.get("question_id")] = tuple(known.setdefault(text, text) for text in kept)
    return found


def _read(file: SeedFile) -> Iterator[Row]:
    named = _SUBTYPE.search(file.name)
    subtype = named[1] if named else ""
    answers = _answers_of(file, subtype)

    def fields(_: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
        number = need(value, "image_id", (int,))
        key = need(value, "question_id", (int,))
        if answers is not None and key not in answers:
            detail = f"question_id {key} is not among the annotations: {quote(dict(value))}"
            raise RowError("missing_annotation", detail)
        return {
            "id": key,
            "question": value.get("question"),
            "image": f"COCO_{subtype}_{number:012}.jpg",
            "answer": list(answers[key]) if answers is not None else None,
        }

    return rows(file, fields, "questions")


LAYOUT = Layout(
    r"OpenEnded_mscoco_[^/]*_questions\.json\Z", each(_read), also=r"mscoco_.*" + _ANNOTATIONS
)
