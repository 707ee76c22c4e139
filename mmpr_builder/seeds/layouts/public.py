"""The public data sets that have a layout of their own, each with a sample of its files.

A function `_fields_…` makes fields of one entry, a function `_entries_…` finds those of one file.
"""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from mmpr_builder.errors import InputError, RowError
from mmpr_builder.io.seed_files import SeedFile, full_name, split_name
from mmpr_builder.io.stores import resolve
from mmpr_builder.records import IMAGE_PLACEHOLDER
from mmpr_builder.seeds.formats import entries, quote
from mmpr_builder.seeds.layouts.base import (
    Entry,
    Layout,
    members,
    need,
    one_object,
    read_text,
)

_TEST_IDS = "ai2d_test_ids.csv"


def _named(
    image: str, ending: str = "", kinds: tuple[type, ...] = (str,), **roles: str
) -> Callable[[SeedFile, str, Entry], Entry]:
    """Fields that lie under these names; `key` is the key of the entry."""

    def fields(_: SeedFile, key: str, value: Entry) -> Entry:
        found = {**value, "key": key}
        named = {role: found.get(name) for role, name in roles.items()}
        return {**named, "image": f"{need(value, image, kinds)}{ending}"}

    return fields


def _entries_ai2d(file: SeedFile) -> Iterator[tuple[str, Any]]:
    """AI2D: `questions/0.png.json`; `images/0.png`, with letters for its labels in `abc_images/`;
    `ai2d_test_ids.csv` with the numbers of the test diagrams.

    {"questions": {"What is A?": {"abcLabel": true, "answerTexts": ["crust", …],
                                  "correctAnswer": 1, …}}}
    """
    is_test = file.name.split(".", 1)[0] in _test_ids(posixpath.dirname(file.folder))
    if is_test == (split_name(file.split) == "test"):
        for _, content in one_object(file):
            yield from need(content, "questions", (dict,)).items()


@lru_cache(maxsize=1)  # Each of 5,000 files asks for them.
def _test_ids(root: str) -> frozenset[str]:
    fs, inside = resolve(f"{root}/{_TEST_IDS}")
    if not fs.exists(inside):
        raise InputError(
            f"{root}: {_TEST_IDS} is missing, without which test diagrams cannot be told from"
            " training ones: put it there, it comes with the data set"
        )
    lines = read_text(SeedFile(f"{root}/{_TEST_IDS}", "json")).replace(",", "\n").split()
    return frozenset(line.strip("\"'").removesuffix(".png") for line in lines)


def _fields_ai2d(file: SeedFile, question: str, value: Entry) -> Entry:
    if not isinstance(value.get("answerTexts"), list):
        detail = f"{quote(question)}: answerTexts = {quote(value.get('answerTexts'))}"
        raise RowError("bad_choices_field", detail)
    folder = "abc_images" if value.get("abcLabel") else "images"
    return {
        "id": value.get("questionId"),
        "question": question,
        "choices": value.get("answerTexts"),
        "answer": value.get("correctAnswer"),
        "image": f"{folder}/{file.name.removesuffix('.json')}",
    }


def _image(value: Entry) -> str:
    for name in ("image", "image_local_name", "file_path", "image_id"):
        found = value.get(name)
        if isinstance(found, str) and found.strip():
            return f"{found}.jpg" if name == "image_id" else found
    raise RowError("missing_image", f"no image in {quote(dict(value))}")


def _fields_answer_lists(_: SeedFile, __: str, value: Entry) -> Entry:
    """DocVQA, InfographicVQA (`image_local_name`), ST-VQA (`file_path`), TextVQA (`image_id`).

    {"data": [{"questionId": 337, "question": "what is the date?", "answers": ["1/8/93"],
               "image": "documents/xnbl0037_1.png", …}, …]}
    """
    return {
        "id": value.get("questionId", value.get("question_id")),
        "question": value.get("question"),
        "image": _image(value),
        "answer": value.get("answers"),
    }


def _entries_chartqa(file: SeedFile) -> Iterator[tuple[str, Any]]:
    """ChartQA: `train/train_human.json`, `train/train_augmented.json` (or .csv); `train/png/`.

    [{"imgname": "41699051005347.png", "query": "How many food item is shown?", "label": "14"}, …]
    """
    if not file.name.endswith(".csv"):
        return members()(file)
    return (("", value) for value in csv.DictReader(io.StringIO(read_text(file))))


def _fields_geometry3k(file: SeedFile, _: str, value: Entry) -> Entry:
    """Geometry3K (Inter-GPS): `train/15/data.json`, and the figure `img_diagram.png` beside it.

    {"id": 15, "problem_text": "Find y.", "answer": "C", "choices": ["5", "8", "9", "10"], …}
    """
    return {
        "id": f"geometry3k_{file.folder.rsplit('/', 1)[-1]}",
        "question": value.get("problem_text"),
        "choices": value.get("choices"),
        "answer": value.get("answer"),
        "image": f"{file.folder}/img_diagram.png",
    }


def _fields_iconqa(file: SeedFile, _: str, value: Entry) -> Entry:
    """IconQA: a folder for each question, with `image.png`; options can be images.

    train/choose_txt/7/data.json      {"question": "…", "choices": ["turn", "slide"], "answer": 0}
    train/choose_img/288/data.json    {…, "choices": ["choice_0.png", "choice_1.png"], "answer": 0}
    train/fill_in_blank/2/data.json   {"question": "How many shapes are blue?", "answer": "3"}
    """
    kind, number = file.folder.split("/")[-2:]
    question, choices = need(value, "question", (str,)), value.get("choices")
    fields: Entry = {"id": f"iconqa_{kind}_{number}", "image": f"{file.folder}/image.png"}
    answer = value.get("answer")
    if kind != "choose_img":
        return {**fields, "question": question, "choices": choices, "answer": answer}
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


def _fields_mapqa(_: SeedFile, __: str, value: Entry) -> Entry:
    """MapQA: `train-QA.json`, `images/`. A list is one answer of several parts here.

    [{"question_id": "…", "question": "Which states …?", "map_id": "map_1.png",
      "answer": ["Ohio", "Utah"], …}, …]
    """
    answer = value.get("answer")
    if isinstance(answer, list):
        answer = ", ".join(str(part) for part in answer)
    return {
        "id": value.get("question_id"),
        "question": value.get("question"),
        "image": need(value, "map_id", (str,)),
        "answer": answer,
    }


_SPLITS = {1: "train", 2: "validation", 3: "test"}  # Of OCR-VQA.


def _fields_ocrvqa(file: SeedFile, name: str, value: Entry) -> list[Entry]:
    """OCR-VQA: `dataset.json` of all splits, an object by book; `images/0761183272.jpg`.

    {"0761183272": {"imageURL": "http://…/51a.jpg", "questions": ["Who wrote this book?", …],
                    "answers": ["Sandra Boynton", …], "split": 1, …}, …}
    """
    if _SPLITS.get(need(value, "split", (int,))) != split_name(file.split):
        return []
    questions, answers = value.get("questions"), value.get("answers")
    if not (
        isinstance(questions, list) and isinstance(answers, list) and len(questions) == len(answers)
    ):
        detail = f"{quote(questions)} with answers {quote(answers)}"
        raise RowError("questions_answers_mismatch", f"book {name}: {detail}")
    url = value.get("imageURL")
    image = f"{name}{(isinstance(url, str) and posixpath.splitext(url)[1]) or '.jpg'}"
    return [
        {"id": f"{name}_{i}", "question": question, "answer": answer, "image": image}
        for i, (question, answer) in enumerate(zip(questions, answers, strict=True))
    ]


def _fields_scienceqa(file: SeedFile, name: str, value: Entry) -> Entry | None:
    """ScienceQA: `problems.json` of all splits, an object by number; `images/train/1/image.png`.

    {"1": {"question": "…", "choices": ["West Virginia", …], "answer": 0, "hint": "",
           "image": "image.png" or null, "split": "train", …}, …}
    """
    split, image, choices = need(value, "split", (str,)), value.get("image"), value.get("choices")
    if split_name(split) != split_name(file.split):
        return None
    if not isinstance(choices, list) or not choices:  # The answer would pass for a number.
        raise RowError("bad_choices_field", f"field 'choices' must be a list, got {quote(choices)}")
    return {
        "id": f"scienceqa_{name}",
        "question": value.get("question"),
        "context": value.get("hint"),
        "choices": choices,
        "answer": value.get("answer"),
        "image": f"{split}/{name}/{image}" if image else None,
    }


QUESTIONS = {
    "company": "Which company issued this receipt?",
    "date": "What is the date printed on this receipt?",
    "address": "What is the address of the store on this receipt?",
    "total": "What is the total amount on this receipt?",
}


def _fields_sroie(file: SeedFile, key: str, values: Entry) -> Entry:
    """SROIE: `key/000.json` (or .txt) for each receipt, `img/000.jpg`; the questions are ours.

    {"company": "BOOK TA .K (TAMAN DAYA) SDN BHD", "date": "25/12/2018", "total": "9.00", …}
    """
    answer, image = need(values, key, (str,)), f"{file.stem}.jpg"
    name = f"sroie_{file.stem}_{key}"
    return {"id": name, "question": QUESTIONS[key], "answer": answer, "image": image}


_SUBTYPE = re.compile(r"_((?:train|val|test)[a-z-]*\d{4})_")
_ANNOTATIONS = r"annotations\.json\Z"


def _answers_of(file: SeedFile, subtype: str) -> dict[int, tuple[str, ...]] | None:
    """Question id -> answers, of the file beside it; None without one (a test split)."""
    fs, inside = resolve(file.folder)
    for name in sorted(fs.ls(inside, detail=False)):
        base = posixpath.basename(name.rstrip("/"))
        if f"_{subtype}_" in base and re.search(_ANNOTATIONS, base):
            break
    else:
        return None
    beside = SeedFile(full_name(fs, file.folder, name), "json", None, file.split)
    known: dict[str, str] = {}  # Few answers are many times the same.
    found: dict[int, tuple[str, ...]] = {}
    for _, value in entries(read_text(beside), beside.uri, "annotations"):
        number = value.get("question_id") if isinstance(value, Mapping) else None
        answers = value.get("answers") if isinstance(value, Mapping) else None
        if not isinstance(number, int) or not isinstance(answers, list):
            continue  # Its question, if there is one, has no annotation.
        texts = [a.get("answer") for a in answers if isinstance(a, Mapping)]
        kept = (str(text) for text in texts if text is not None)
        found[number] = tuple(known.setdefault(text, text) for text in kept)
    return found


def _entries_vqa(file: SeedFile) -> Iterator[tuple[str, Any]]:
    """VQAv2 and OK-VQA: questions in one file, answers in another, COCO's images.

    …questions.json     {"questions": [{"image_id": 458752, "question": "…",
                                        "question_id": 458752000}, …], …}
    …annotations.json   {"annotations": [{"question_id": 458752000,
                                          "answers": [{"answer": "net", …}, …], …}, …]}
    """
    answers = _answers_of(file, _subtype(file))
    for key, value in members("questions")(file):
        if not isinstance(value, Mapping):
            yield key, value
            continue
        number = value.get("question_id")
        known = answers is None or not isinstance(number, int) or answers.get(number)
        yield key, {"asked": value, "answers": known}


def _subtype(file: SeedFile) -> str:
    named = _SUBTYPE.search(file.name)
    return named[1] if named else ""


def _fields_vqa(file: SeedFile, _: str, value: Entry) -> Entry:
    asked, answers = value["asked"], value["answers"]
    number, key = need(asked, "image_id", (int,)), need(asked, "question_id", (int,))
    if answers is None:
        detail = f"question_id {key} is not among the annotations: {quote(dict(asked))}"
        raise RowError("missing_annotation", detail)
    return {
        "id": key,
        "question": asked.get("question"),
        "image": f"COCO_{_subtype(file)}_{number:012}.jpg",
        "answer": list(answers) if isinstance(answers, tuple) else None,
    }


LAYOUTS: dict[str, Layout] = {
    "ai2d": Layout(
        r"(?:\A|/)questions/[^/]+\.json\Z|\A[^/]+\.png\.json\Z",
        _fields_ai2d,
        _entries_ai2d,
        images="..",
        also=_TEST_IDS,
    ),
    "answer_lists": Layout(
        r"(?:\A|[_/])(?:train|val|test)[^/]*\.json\Z", _fields_answer_lists, members("data")
    ),
    # Beside them lie tables/*.csv (what the charts show) and annotations/*.json (where it stands).
    "chartqa": Layout(
        r"(?:\A|/)(?:train|val|test)_[a-z]+\.(?:json|csv)\Z",
        _named("imgname", question="query", answer="label"),
        _entries_chartqa,
        images="png",
    ),
    # {"questions": [{"question": "Subtract all cubes. How many objects are left?", "answer": "6",
    #                 "image_filename": "CLEVR_train_000000.png", "template": "subtraction", …}, …]}
    "clevr_math": Layout(
        r"clevr[^/]*\.json\Z",
        _named("image_filename", question="question", answer="answer"),
        members("questions"),
    ),
    "geometry3k": Layout(r"(?:\A|/)\d+/data\.json\Z", _fields_geometry3k, one_object),
    # {"02930152": {"question": "Is the sky dark?", "imageId": "2354786", "answer": "yes",
    #               "fullAnswer": "Yes, the sky is dark.", "semantic": […], …}, …}
    "gqa": Layout(
        r"questions[^/]*\.json\Z",
        _named("imageId", ".jpg", (str, int), id="key", question="question", answer="answer"),
        members(),
        images="images",
    ),
    "iconqa": Layout(
        r"(?:choose_txt|choose_img|fill_in_blank)/\d+/data\.json\Z", _fields_iconqa, one_object
    ),
    "mapqa": Layout(
        r"(?:\A|/)(?:train|dev|test)-QA\.json\Z", _fields_mapqa, members(), images="images"
    ),
    "ocrvqa": Layout(r"(?:\A|/)dataset\.json\Z", _fields_ocrvqa, members(), images="images"),
    "scienceqa": Layout(r"problems\.json\Z", _fields_scienceqa, members(), images="images"),
    "sroie": Layout(
        r"(?:\A|/)[^/]+\.(?:json|txt)\Z",
        _fields_sroie,
        lambda file: ((key, values) for _, values in one_object(file) for key in QUESTIONS),
        images="../img",
    ),
    "vqa": Layout(
        r"OpenEnded_mscoco_[^/]*_questions\.json\Z",
        _fields_vqa,
        _entries_vqa,
        also=r"mscoco_.*" + _ANNOTATIONS,
    ),
}
"""By the name that `seeds.N.format` takes; `conversations` is one of rows of any kind."""
