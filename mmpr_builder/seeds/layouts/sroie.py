"""SROIE: a file of four values for each receipt; the questions for them are ours.

key/000.json   {"company": "BOOK TA .K (TAMAN DAYA) SDN BHD", "date": "25/12/2018",
                "address": "NO.53 55,57 & 59, …", "total": "9.00"}
img/000.jpg

The competition's own archives have them as .txt, with the images beside them (`root`).
"""

from __future__ import annotations

from collections.abc import Iterator

from mmpr_builder.errors import RowError
from mmpr_builder.files import SeedFile
from mmpr_builder.seeds.formats import Row
from mmpr_builder.seeds.layouts.reading import Layout, each, need, one_object

QUESTIONS = {
    "company": "Which company issued this receipt?",
    "date": "What is the date printed on this receipt?",
    "address": "What is the address of the store on this receipt?",
    "total": "What is the total amount on this receipt?",
}


def _read(file: SeedFile) -> Iterator[Row]:
    try:
        values = one_object(file)
    except RowError as error:
        yield Row(1, None, error)
        return
    for number, (key, question) in enumerate(QUESTIONS.items(), start=1):
        try:
            answer = need(values, key, (str,))
        except RowError as error:
            yield Row(number, None, error)
            continue
        image = f"{file.stem}.jpg"
        row = {"id": f"sroie_{file.stem}_{key}", "question": question, "answer": answer}
        yield Row(number, {**row, "image": image})


LAYOUT = Layout(r"(?:\A|/)[^/]+\.(?:json|txt)\Z", each(_read), images="../img")
