"""A miniature of each of MMPR's 22 sources in its true layout, as the recipes expect it.

Each has sound rows and, where the layout has a way to be broken, broken ones.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image


@dataclass(frozen=True)
class Expected:
    """What a miniature gives: seeds with and without a use of their truths, and drops by reason."""

    rows: int
    """Sound rows."""
    truths: int
    """How many of these have a truth."""
    drops: dict[str, int] = field(default_factory=dict)
    text_only: int = 0
    """How many have no image."""


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shade = sum(path.name.encode()) % 200
    Image.new("RGB", (32, 24), (shade, 90, 60)).save(path)


def as_bytes(shade: int) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.new("RGB", (24, 24), (shade, 20, 20)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": f"{shade}.png"}


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")


def parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def _coco(folder: Path, prefix: str) -> Expected:
    questions = [
        {"image_id": 9, "question": "What color is the plate?", "question_id": 9000},
        {"image_id": 25, "question": "Is it raining?", "question_id": 25000},
        {"image_id": 25, "question": "How many people?", "question_id": 25001},  # no annotation
        {"question": "Where is this?", "question_id": 25002},  # no image_id
    ]
    said = {9000: ["red"] * 6 + ["dark red"] * 4, 25000: ["no"] * 10, 25002: ["here"] * 10}
    annotations = [
        {
            "question_id": key,
            "image_id": 9,
            "answer_type": "other",
            "multiple_choice_answer": texts[0],
            "answers": [
                {"answer": text, "answer_confidence": "yes", "answer_id": i + 1}
                for i, text in enumerate(texts)
            ],
        }
        for key, texts in said.items()
    ]
    head = {"info": {"year": 2014}, "task_type": "Open-Ended", "data_subtype": "train2014"}
    name = f"{prefix}OpenEnded_mscoco_train2014_questions.json"
    write(folder / name, {**head, "questions": questions})
    write(
        folder / f"{prefix}mscoco_train2014_annotations.json",
        {**head, "annotations": annotations},
    )
    # The validation files of the same archive must not be read.
    other = f"{prefix}OpenEnded_mscoco_val2014_questions.json"
    write(folder / other, {**head, "questions": questions})
    for number in (9, 25):
        picture(folder / "train2014" / f"COCO_train2014_{number:012}.jpg")
    return Expected(2, 2, {"missing_annotation": 1, "missing_image_id": 1})


def vqav2(folder: Path) -> Expected:
    return _coco(folder, "v2_")


def okvqa(folder: Path) -> Expected:
    return _coco(folder, "")


def gqa(folder: Path) -> Expected:
    write(
        folder / "train_balanced_questions.json",
        {
            "02930152": {
                "semantic": [{"operation": "select", "dependencies": [], "argument": "sky (1)"}],
                "question": "Is the sky dark?",
                "imageId": "2354786",
                "answer": "yes",
                "isBalanced": True,
                "fullAnswer": "Yes, the sky is dark.",
            },
            "07333408": {"question": "What is on the wall?", "imageId": "9", "answer": "pipe"},
            "07333409": {"question": "What is it?", "answer": "pipe"},
            "07333410": {"imageId": "9", "answer": "pipe"},
        },
    )
    for name in ("2354786", "9"):
        picture(folder / "images" / f"{name}.jpg")
    return Expected(2, 2, {"missing_image_id": 1, "missing_question": 1})


def iconqa(folder: Path) -> Expected:
    train = folder / "train"
    rows: dict[str, Any] = {
        "choose_txt/7": {
            "question": "What has been done to this letter?",
            "choices": ["turn", "slide", "flip"],
            "answer": 2,
            "ques_type": "choose_txt",
            "grade": "grade3",
        },
        "choose_img/288": {
            "question": "Which shape is a rectangle?",
            "choices": ["choice_0.png", "choice_1.png"],
            "answer": 1,
            "ques_type": "choose_img",
        },
        "fill_in_blank/2": {"question": "How many shapes are blue?", "answer": "3"},
        "choose_img/9": {"question": "Which?", "choices": ["choice_0.png"], "answer": 5},
        "fill_in_blank/3": "{broken",
    }
    for name, content in rows.items():
        write(train / name / "data.json", content)
        picture(train / name / "image.png")
    for i in range(2):
        picture(train / "choose_img" / "288" / f"choice_{i}.png")
    # A test question: off limits, and not read.
    write(folder / "test" / "choose_txt" / "1" / "data.json", rows["choose_txt/7"])
    return Expected(3, 3, {"answer_not_in_choices": 1, "invalid_json": 1})


def ai2d(folder: Path) -> Expected:
    def questions(name: str, abc: bool, correct: int) -> dict[str, Any]:
        return {
            "imageName": name,
            "questions": {
                f"What does A show in {name}?": {
                    "abcLabel": abc,
                    "answerTexts": ["crust", "mantle", "core", "shell"],
                    "correctAnswer": correct,
                    "questionId": f"{name}-0",
                }
            },
        }

    for name, abc, correct in (("0.png", True, 1), ("2.png", False, 3), ("5.png", False, 9)):
        write(folder / "questions" / f"{name}.json", questions(name, abc, correct))
        for kind in ("images", "abc_images"):
            picture(folder / kind / name)
    write(folder / "questions" / "7.png.json", questions("7.png", False, 0))  # a test diagram
    write(folder / "questions" / "8.png.json", {"imageName": "8.png"})
    write(folder / "ai2d_test_ids.csv", "7\n1021\n")
    return Expected(2, 2, {"answer_not_in_choices": 1, "missing_questions": 1})


def scienceqa(folder: Path) -> Expected:
    row = {
        "question": "Which of these states is farthest north?",
        "choices": ["West Virginia", "Louisiana", "Arizona", "Oklahoma"],
        "answer": 0,
        "hint": "",
        "image": "image.png",
        "task": "closed choice",
        "grade": "grade2",
        "subject": "social science",
        "lecture": "Maps have four cardinal directions.",
        "solution": "To find the answer, look at the compass rose.",
        "split": "train",
    }
    write(
        folder / "problems.json",
        {
            "1": row,
            "2": {**row, "image": None, "hint": "The passage below describes an experiment."},
            "3": {**row, "split": "test"},
            "4": {**row, "choices": []},
            "5": {k: v for k, v in row.items() if k != "split"},
        },
    )
    picture(folder / "images" / "train" / "1" / "image.png")
    return Expected(2, 2, {"missing_split": 1, "bad_choices_field": 1}, text_only=1)


def m3cot(folder: Path) -> Expected:
    row = {
        "id": "physical-commonsense-1",
        "category": "physical",
        "question": "Which magnet pulls more?",
        "choices": ["pair 1", "pair 2"],
        "context": "Two magnets lie on a table.",
        "answer": "A",
        "rationale": "The distance is smaller.",
        "image": as_bytes(30),
        "domain": "commonsense",
    }
    rows = [row, {**row, "id": "x-2", "answer": "D"}]
    parquet(folder / "train-00000-of-00001.parquet", rows)
    return Expected(1, 1, {"answer_not_in_choices": 1})


def chartqa(folder: Path) -> Expected:
    train = folder / "train"
    human = [
        {"imgname": "41699051005347.png", "query": "How many food items are shown?", "label": "14"},
        {"query": "No picture?", "label": "1"},
    ]
    augmented = [{"imgname": "two_col_1.png", "query": "What was the total in 2019?", "label": "5"}]
    write(train / "train_human.json", human)
    write(train / "train_augmented.json", augmented)
    write(train / "tables" / "two_col_1.csv", "Year,Total\n2019,5\n")
    for row in (human[0], augmented[0]):
        picture(train / "png" / row["imgname"])
    write(folder / "test" / "test_human.json", human)
    return Expected(2, 2, {"missing_imgname": 1})


def dvqa(folder: Path) -> Expected:
    name = "bar_train_00000001.png"
    row = {
        "question": "How many bars are there?",
        "question_id": 1,
        "template_id": "structure",
        "answer": "2",
        "answer_bbox": [],
        "image": name,
    }
    bad = {**row, "question_id": 2, "question": ""}
    write(folder / "train_qa.json", [row, bad])
    picture(folder / "images" / name)
    return Expected(1, 1, {"missing_question": 1})


def mapqa(folder: Path) -> Expected:
    row = {
        "question_id": "train-1",
        "question": "Which states have a value below 5%?",
        "map_id": "map_1.png",
        "answer": ["Ohio", "Utah"],
        "question_type": "retrieval",
    }
    other = {**row, "question_id": "train-2", "question": "Does Ohio have one?", "answer": "Yes"}
    bare = {k: v for k, v in row.items() if k != "map_id"}
    write(folder / "MapQA_U" / "train-QA.json", [row, other, {**bare, "question_id": "train-3"}])
    write(folder / "MapQA_U" / "test-QA.json", [row])
    picture(folder / "MapQA_U" / "images" / "map_1.png")
    return Expected(2, 2, {"missing_map_id": 1})


def _llava(question: str, reply: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": reply}]


def geoqa_plus(folder: Path) -> Expected:
    zh = "<image>\n如图，求∠ABC的度数。\nChoices:\n(A) 30°\n(B) 60°"
    rows = [
        {"id": "g1", "image": as_bytes(40), "conversations": _llava(zh, "B"), "data_source": "g"},
        {"id": "g2", "image": as_bytes(41), "conversations": [], "data_source": "g"},
    ]
    parquet(folder / "train-00000-of-00001.parquet", rows)
    return Expected(1, 1, {"missing_conversation": 1})


def clevr_math(folder: Path) -> Expected:
    row = {
        "template": "subtraction",
        "id": "CLEVR_train_000000_0",
        "question": "Subtract all cubes. How many objects are left?",
        "image_filename": "CLEVR_train_000000.png",
        "answer": "6",
    }
    write(
        folder / "clevr-math-train.json",
        {"info": {"split": "train"}, "questions": [row, {**row, "image_filename": None}]},
    )
    picture(folder / "CLEVR_v1.0" / "images" / "train" / "CLEVR_train_000000.png")
    return Expected(1, 1, {"missing_image_filename": 1})


def geometry3k(folder: Path) -> Expected:
    row = {
        "id": 15,
        "problem_text": "Find y.",
        "choices": ["5", "5 \\sqrt { 2 }", "5 \\sqrt { 3 }", "10"],
        "precise_value": [5.0, 7.07, 8.66, 10.0],
        "answer": "C",
        "data_type": "train",
    }
    for number, content in ((15, row), (16, {**row, "answer": "E"})):
        write(folder / "train" / str(number) / "data.json", content)
        picture(folder / "train" / str(number) / "img_diagram.png")
    write(folder / "test" / "2401" / "data.json", row)
    return Expected(1, 1, {"answer_not_in_choices": 1})


def geos(folder: Path) -> Expected:
    text = "<image>\nWhat is the area of the circle?\nChoices:\n(A) 4\n(B) 9"
    talk = _llava(text, "The answer: A")
    rows = [{"id": "s1", "image": as_bytes(50), "conversations": talk, "data_source": "GEOS"}]
    parquet(folder / "train-00000-of-00001.parquet", rows)
    return Expected(1, 1)


def geomverse(folder: Path) -> Expected:
    talk = {
        "user": "Compute the perimeter. Round to 2 decimal places.",
        "assistant": "The sides are 3, 4 and 5, so it is 3 + 4 + 5 = 12. Final Answer: 12.\n",
        "source": "GeomVerse",
    }
    longer = {**talk, "user": "Describe the figure.", "assistant": "A triangle that " * 9}
    rows = [{"images": [as_bytes(60)], "texts": [talk, longer]}]
    parquet(folder / "train-00000-of-00001.parquet", rows)
    return Expected(2, 1)


def geo170k(folder: Path) -> Expected:
    text = "First perform reasoning, then answer.\n<image>\nFind AB.\nChoices:\nA. 3\nB. 4"
    reply = "Since the triangles are similar, AB = 4. So the answer is B.\nAnswer:B"
    rows = [
        {"image": "geoqa_plus/1.png", "conversations": _llava(text, reply)},
        {"image": "geoqa_plus/1.png", "conversations": [{"from": "human", "value": "?"}]},
    ]
    write(folder / "qa_tuning.json", rows)
    picture(folder / "images" / "geoqa_plus" / "1.png")
    return Expected(1, 1, {"bad_conversation": 1})


def ocrvqa(folder: Path) -> Expected:
    book = {
        "imageURL": "http://ecx.images-amazon.com/images/I/51l6XIoa3rL.jpg",
        "questions": ["Who wrote this book?", "What is the genre of this book?"],
        "answers": ["Sandra Boynton", "Humor & Entertainment"],
        "title": "Mom's Family Wall Calendar",
        "authorName": "Sandra Boynton",
        "genre": "Calendars",
        "split": 1,
    }
    short = {**book, "answers": ["Sandra Boynton"]}
    books = {"761183272": book, "761183273": {**book, "split": 3}, "761183274": short}
    write(folder / "dataset.json", books)
    picture(folder / "images" / "761183272.jpg")
    return Expected(2, 2, {"questions_answers_mismatch": 1})


def _answer_list(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"dataset_name": name, "dataset_split": "train", "dataset_version": "1.0", "data": rows}


def infovqa(folder: Path) -> Expected:
    row = {
        "questionId": 65718,
        "question": "Which platform has the heaviest traffic?",
        "image_local_name": "20471.jpeg",
        "image_url": "https://example.org/1.jpeg",
        "ocr_output_file": "20471.json",
        "answers": ["Android", "android"],
        "data_split": "train",
    }
    bare = {k: v for k, v in row.items() if k != "image_local_name"}
    rows = [row, {**bare, "questionId": 65719}]
    write(folder / "infographicsVQA_train_v1.0.json", _answer_list("infographicVQA", rows))
    picture(folder / "images" / "20471.jpeg")
    return Expected(1, 1, {"missing_image": 1})


def textvqa(folder: Path) -> Expected:
    row = {
        "question": "what is the brand of phone?",
        "image_id": "0054c91397f2fe05",
        "image_classes": ["Belt"],
        "answers": ["nokia"] * 9 + ["toshiba"],
        "question_id": 0,
        "set_name": "train",
    }
    bad = {**row, "question": 7, "question_id": 1}
    write(folder / "TextVQA_0.5.1_train.json", _answer_list("textvqa", [row, bad]))
    picture(folder / "train_images" / "0054c91397f2fe05.jpg")
    return Expected(1, 1, {"bad_question_field": 1})


def stvqa(folder: Path) -> Expected:
    row = {
        "question": "What is the price of the bananas per kg?",
        "image": "COCO_train2014_000000122637.jpg",
        "file_name": "COCO_train2014_000000122637.jpg",
        "file_path": "coco-text/COCO_train2014_000000122637.jpg",
        "answers": ["$11.98", "11.98"],
        "question_id": 13,
        "dataset": "coco-text",
        "set_name": "train",
    }
    plain = {k: v for k, v in row.items() if k != "image"}
    rows = [plain, {**plain, "question_id": 14, "answers": [["nested"]]}]
    write(folder / "train_task_3.json", _answer_list("st-vqa", rows))
    picture(folder / "coco-text" / "COCO_train2014_000000122637.jpg")
    return Expected(1, 1, {"bad_answer_field": 1})


def sroie(folder: Path) -> Expected:
    values = {
        "company": "BOOK TA .K (TAMAN DAYA) SDN BHD",
        "date": "25/12/2018",
        "address": "NO.53 55,57 & 59, JALAN SAGU 18, TAMAN DAYA",
        "total": "9.00",
    }
    write(folder / "key" / "000.json", values)
    write(folder / "key" / "001.json", {**values, "total": ""})
    write(folder / "key" / "002.json", "[]")
    for name in ("000", "001"):
        picture(folder / "img" / f"{name}.jpg")
    return Expected(7, 7, {"missing_total": 1, "not_an_object": 1})


def docvqa(folder: Path) -> Expected:
    row = {
        "questionId": 337,
        "question": "what is the date mentioned in this letter?",
        "question_types": ["handwritten", "form"],
        "image": "documents/xnbl0037_1.png",
        "docId": 279,
        "ucsf_document_id": "xnbl0037",
        "ucsf_document_page_no": "1",
        "answers": ["1/8/93"],
        "data_split": "train",
    }
    rows: list[Any] = [row, "not a row"]
    write(folder / "train_v1.0_withQT.json", _answer_list("docvqa", rows))
    picture(folder / "documents" / "xnbl0037_1.png")
    return Expected(1, 1, {"not_an_object": 1})


SOURCES = {
    make.__name__: make
    for make in (
        *(vqav2, gqa, okvqa, iconqa, ai2d, scienceqa, m3cot, chartqa, dvqa, mapqa, geoqa_plus),
        *(clevr_math, geometry3k, geos, geomverse, geo170k, ocrvqa, infovqa, textvqa, stvqa),
        *(sroie, docvqa),
    )
}


def make_all(folder: Path) -> dict[str, Expected]:
    """All 22 below `folder`, each in the folder of its name."""
    return {name: make(folder / name) for name, make in SOURCES.items()}
