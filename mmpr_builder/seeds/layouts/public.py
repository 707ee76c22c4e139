"""The public data sets that have a layout of their own, each with a sample of its files.

A function `_fields_…` makes fields of one entry, a function `_read_…` rows of one file.
"""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from mmpr_builder.errors import InputError, RowError
from mmpr_builder.io.seed_files import SeedFile, full_name, split_name
from mmpr_builder.io.stores import resolve
from mmpr_builder.records import IMAGE_PLACEHOLDER
from mmpr_builder.seeds.formats import Row, entries, quote
from mmpr_builder.seeds.layouts import conversations
from mmpr_builder.seeds.layouts.base import (
    Found,
    Layout,
    attempt,
    each,
    listed,
    need,
    one_object,
    read_text,
    rows,
    single,
)

_TEST_IDS = "ai2d_test_ids.csv"


def _read_ai2d(files: Sequence[SeedFile]) -> Found:
    """AI2D: a file of questions for each diagram; a further file lists the test diagrams.

    questions/0.png.json   {"imageName": "0.png", "questions": {"What is A?": {"abcLabel": true,
                            "answerTexts": ["crust", …], "correctAnswer": 1, …}}}
    images/0.png           the diagram; abc_images/0.png with its labels replaced by letters
    ai2d_test_ids.csv      numbers of the diagrams that are the test split, one a line
    """
    tests: dict[str, frozenset[str]] = {}
    for file in files:
        root = posixpath.dirname(file.folder)
        if root not in tests:
            tests[root] = _test_ids(root)
        stem = file.name.split(".", 1)[0]
        if (stem in tests[root]) != (split_name(file.split) == "test"):
            continue
        try:
            questions = _questions(one_object(file))
        except RowError as error:
            yield file, Row(1, None, error)
            continue
        for number, asked in enumerate(questions.items(), start=1):
            yield file, attempt(number, partial(_fields_ai2d, file, *asked))


def _test_ids(root: str) -> frozenset[str]:
    fs, inside = resolve(f"{root}/{_TEST_IDS}")
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


def _fields_ai2d(file: SeedFile, question: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise RowError("not_an_object", f"{quote(question)}: {quote(value)}")
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


def _image(value: Mapping[str, Any]) -> str:
    for name in ("image", "image_local_name", "file_path", "image_id"):
        found = value.get(name)
        if isinstance(found, str) and found.strip():
            return f"{found}.jpg" if name == "image_id" else found
    raise RowError("missing_image", f"no image in {quote(dict(value))}")


def _fields_answer_lists(_: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    """DocVQA, InfographicVQA, ST-VQA and TextVQA: a list `data` of questions with accepted answers.

    {"dataset_name": "docvqa", "dataset_split": "train", "data": [
      {"questionId": 337, "question": "what is the date mentioned in this letter?",
       "image": "documents/xnbl0037_1.png", "answers": ["1/8/93"], "data_split": "train", …}, …]}

    The image is called `image` (DocVQA), `image_local_name` (InfographicVQA), `file_path` (ST-VQA),
    or is `image_id` with .jpg (TextVQA). Answers may repeat: TextVQA has those of ten people.
    """
    return {
        "id": value.get("questionId", value.get("question_id")),
        "question": value.get("question"),
        "image": _image(value),
        "answer": value.get("answers"),
    }


def _fields_chartqa(_: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    image = need(value, "imgname", (str,))
    return {"image": image, "question": value.get("query"), "answer": value.get("label")}


def _read_chartqa(file: SeedFile) -> Iterator[Row]:
    """ChartQA: `train/train_human.json`, `train/train_augmented.json` (or .csv); `train/png/`.

    [{"imgname": "41699051005347.png", "query": "How many food item is shown?", "label": "14"}, …]
    """
    if not file.name.endswith(".csv"):
        yield from rows(file, _fields_chartqa)
        return
    for number, value in enumerate(csv.DictReader(io.StringIO(read_text(file))), start=1):
        yield attempt(number, partial(_fields_chartqa, "", value))


def _fields_clevr_math(_: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    """CLEVR-Math: a list `questions`; CLEVR's images, `CLEVR_v1.0/images/train/`.

    {"questions": [{"question": "Subtract all cubes. How many objects are left?", "answer": "6",
                    "image_filename": "CLEVR_train_000000.png", "template": "subtraction", …}, …]}
    """
    image = need(value, "image_filename", (str,))
    return {"question": value.get("question"), "image": image, "answer": value.get("answer")}


def _fields_geometry3k(file: SeedFile, value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Geometry3K (Inter-GPS): a folder for each problem.

    train/15/data.json         {"id": 15, "problem_text": "Find y.", "answer": "C",
                                "choices": ["5", "8", "9", "10"], …}
    train/15/img_diagram.png   the figure as it is printed
    """
    return {
        "id": f"geometry3k_{file.folder.rsplit('/', 1)[-1]}",
        "question": value.get("problem_text"),
        "choices": value.get("choices"),
        "answer": value.get("answer"),
        "image": f"{file.folder}/img_diagram.png",
    }


def _fields_gqa(name: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    """GQA: `train_balanced_questions.json`, an object by question id; `images/2354786.jpg`.

    {"02930152": {"question": "Is the sky dark?", "imageId": "2354786", "answer": "yes",
                  "fullAnswer": "Yes, the sky is dark.", "semantic": […], …}, …}
    """
    image = f"{need(value, 'imageId')}.jpg"
    question, answer = value.get("question"), value.get("answer")
    return {"id": name, "question": question, "image": image, "answer": answer}


def _fields_iconqa(file: SeedFile, value: Mapping[str, Any]) -> Mapping[str, Any]:
    """IconQA: a folder for each question, of three kinds; options can be images.

    train/choose_txt/7/data.json      {"question": "What has been done to this letter?",
                                       "choices": ["turn", "slide"], "answer": 0, "grade": "grade3"}
    train/choose_img/288/data.json    {"question": "Which shape is a rectangle?",
                                       "choices": ["choice_0.png", "choice_1.png"], "answer": 0, …}
    train/fill_in_blank/2/data.json   {"question": "How many shapes are blue?", "answer": "3", …}
    train/…/image.png                 the picture that goes with the question
    """
    *_, kind, number = file.folder.split("/")
    question, choices = need(value, "question", (str,)), value.get("choices")
    fields = {"id": f"iconqa_{kind}_{number}", "image": f"{file.folder}/image.png"}
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


def _fields_mapqa(_: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    """MapQA: `train-QA.json` of MapQA_U, MapQA_R and MapQA_S; their `images/`.

    [{"question_id": "…", "question": "Which states have a value below 5%?", "map_id": "map_1.png",
      "answer": ["Ohio", "Utah"], "question_type": "retrieval", …}, …]

    A list is one answer of several parts here, not several answers.
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


_SPLITS = {1: "train", 2: "validation", 3: "test"}


def _read_ocrvqa(file: SeedFile) -> Iterator[Row]:
    """OCR-VQA: `dataset.json` of all splits, an object by book, several questions each; `images/`.

    {"0761183272": {"imageURL": "http://…/51a.jpg", "questions": ["Who wrote this book?", …],
                    "answers": ["Sandra Boynton", …], "split": 1, "title": "…", …}, …}

    Split 1 is train, 2 validation, 3 test. Images are saved as `0761183272.jpg`, or with the ending
    that their URL has.
    """
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


def _choices(value: Mapping[str, Any]) -> list[Any]:
    """The options; without them an answer, which is a position, would pass for a number."""
    found = value.get("choices")
    if not isinstance(found, list) or not found:
        raise RowError("bad_choices_field", f"field 'choices' must be a list, got {quote(found)}")
    return found


def _read_scienceqa(file: SeedFile) -> Iterator[Row]:
    """ScienceQA: `problems.json` of all splits, an object by number; `images/train/1/image.png`.

    {"1": {"question": "Which of these states is farthest north?", "choices": ["West Virginia", …],
           "answer": 0, "hint": "", "image": "image.png" or null, "split": "train", …}, …}

    Problems without an image are text-only seeds. Lectures and solutions are not used.
    """
    wanted = split_name(file.split)

    def fields(name: str, value: Mapping[str, Any]) -> Mapping[str, Any] | None:
        split = need(value, "split", (str,))
        if split_name(split) != wanted:
            return None
        image = value.get("image")
        return {
            "id": f"scienceqa_{name}",
            "question": value.get("question"),
            "context": value.get("hint"),
            "choices": _choices(value),
            "answer": value.get("answer"),
            "image": f"{split}/{name}/{image}" if image else None,
        }

    return rows(file, fields)


QUESTIONS = {
    "company": "Which company issued this receipt?",
    "date": "What is the date printed on this receipt?",
    "address": "What is the address of the store on this receipt?",
    "total": "What is the total amount on this receipt?",
}


def _read_sroie(file: SeedFile) -> Iterator[Row]:
    """SROIE: a file of four values for each receipt; the questions for them are ours.

    key/000.json   {"company": "BOOK TA .K (TAMAN DAYA) SDN BHD", "date": "25/12/2018",
                    "address": "NO.53 55,57 & 59, …", "total": "9.00"}
    img/000.jpg

    The competition's own archives have them as .txt, with the images beside them (`root`).
    """
    try:
        values = one_object(file)
    except RowError as error:
        yield Row(1, None, error)
        return

    def fields(key: str) -> Mapping[str, Any]:
        answer, image = need(values, key, (str,)), f"{file.stem}.jpg"
        name = f"sroie_{file.stem}_{key}"
        return {"id": name, "question": QUESTIONS[key], "answer": answer, "image": image}

    for number, key in enumerate(QUESTIONS, start=1):
        yield attempt(number, partial(fields, key))


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
    for _, _, value in entries(read_text(beside), beside.uri, "annotations"):
        number = value.get("question_id") if isinstance(value, Mapping) else None
        answers = value.get("answers") if isinstance(value, Mapping) else None
        if not isinstance(number, int) or not isinstance(answers, list):
            continue  # Its question, if there is one, has no annotation.
        texts = [a.get("answer") for a in answers if isinstance(a, Mapping)]
        kept = (str(text) for text in texts if text is not None)
        found[number] = tuple(known.setdefault(text, text) for text in kept)
    return found


def _read_vqa(file: SeedFile) -> Iterator[Row]:
    """VQAv2 and OK-VQA: questions in one file, the answers of ten people in another, COCO's images.

    v2_OpenEnded_mscoco_train2014_questions.json
      {"questions": [{"image_id": 458752, "question": "What is this photo taken looking through?",
                      "question_id": 458752000}, …], "data_subtype": "train2014", …}
    v2_mscoco_train2014_annotations.json
      {"annotations": [{"question_id": 458752000, "answers": [{"answer": "net", …}, …], …}, …]}
    COCO_train2014_000000458752.jpg
    """
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


LAYOUTS: dict[str, Layout] = {
    "ai2d": Layout(
        r"(?:\A|/)questions/[^/]+\.json\Z|\A[^/]+\.png\.json\Z",
        _read_ai2d,
        images="..",
        also=_TEST_IDS,
    ),
    "answer_lists": Layout(
        r"(?:\A|[_/])(?:train|val|test)[^/]*\.json\Z", listed(_fields_answer_lists, "data")
    ),
    # Beside them lie tables/*.csv (what the charts show) and annotations/*.json (where it stands).
    "chartqa": Layout(
        r"(?:\A|/)(?:train|val|test)_[a-z]+\.(?:json|csv)\Z", each(_read_chartqa), images="png"
    ),
    "clevr_math": Layout(r"clevr[^/]*\.json\Z", listed(_fields_clevr_math, "questions")),
    "conversations": conversations.CONVERSATIONS,
    "geometry3k": Layout(r"(?:\A|/)\d+/data\.json\Z", single(_fields_geometry3k)),
    "gqa": Layout(r"questions[^/]*\.json\Z", listed(_fields_gqa), images="images"),
    "iconqa": Layout(
        r"(?:choose_txt|choose_img|fill_in_blank)/\d+/data\.json\Z", single(_fields_iconqa)
    ),
    "mapqa": Layout(
        r"(?:\A|/)(?:train|dev|test)-QA\.json\Z", listed(_fields_mapqa), images="images"
    ),
    "ocrvqa": Layout(r"(?:\A|/)dataset\.json\Z", each(_read_ocrvqa), images="images"),
    "scienceqa": Layout(r"problems\.json\Z", each(_read_scienceqa), images="images"),
    "sroie": Layout(r"(?:\A|/)[^/]+\.(?:json|txt)\Z", each(_read_sroie), images="../img"),
    "vqa": Layout(
        r"OpenEnded_mscoco_[^/]*_questions\.json\Z",
        each(_read_vqa),
        also=r"mscoco_.*" + _ANNOTATIONS,
    ),
}
"""By the name that `seeds.N.format` takes."""
