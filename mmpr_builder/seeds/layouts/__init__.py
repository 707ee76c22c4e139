"""Layouts of public data sets that are more than rows with the usual fields, a small file each.

    data/gqa/train_balanced_questions.json   {"02930152": {"question": "Is the sky dark?",
                                               "imageId": "2354786", "answer": "yes", …}, …}
      -> Row(1, {"id": "02930152", "question": …, "answer": "yes", "image": "2354786.jpg"})

A layout says which files of a folder hold questions, where images lie beside them unless the source
has a `root`, and turns their content into rows of the fields that `seeds.fields` understands. What
is wrong with one row is that row's error; only a file that is broken as a whole raises.
"""

from __future__ import annotations

from mmpr_builder.seeds.layouts import (
    ai2d,
    answer_lists,
    chartqa,
    clevr_math,
    conversations,
    geometry3k,
    gqa,
    iconqa,
    mapqa,
    ocrvqa,
    scienceqa,
    sroie,
    vqa,
)
from mmpr_builder.seeds.layouts.reading import Layout, files_of, image_folder, watched

__all__ = ["LAYOUTS", "Layout", "files_of", "image_folder", "watched"]

LAYOUTS: dict[str, Layout] = {
    "ai2d": ai2d.LAYOUT,
    "answer_lists": answer_lists.LAYOUT,
    "chartqa": chartqa.LAYOUT,
    "clevr_math": clevr_math.LAYOUT,
    "conversations": conversations.LAYOUT,
    "geometry3k": geometry3k.LAYOUT,
    "gqa": gqa.LAYOUT,
    "iconqa": iconqa.LAYOUT,
    "mapqa": mapqa.LAYOUT,
    "ocrvqa": ocrvqa.LAYOUT,
    "scienceqa": scienceqa.LAYOUT,
    "sroie": sroie.LAYOUT,
    "vqa": vqa.LAYOUT,
}
"""By the name that `seeds.N.format` takes."""
