"""Layouts of public data sets that are more than rows with the usual fields, a small file each.

    data/gqa/train_balanced_questions.json   {"02930152": {"question": "Is the sky dark?",
                                               "imageId": "2354786", "answer": "yes", …}, …}
      -> Row(1, {"id": "02930152", "question": …, "answer": "yes", "image": "2354786.jpg"})

A layout says which files of a folder hold questions, where images lie beside them unless the source
has a `root`, and turns their content into rows of the fields that `seeds.fields` understands. What
is wrong with one row is that row's error; only a file that is broken as a whole raises.
"""

from __future__ import annotations

from mmpr_builder.seeds.layouts import conversations, public
from mmpr_builder.seeds.layouts.base import Layout, files_of, image_folder, watched

__all__ = ["LAYOUTS", "Layout", "files_of", "image_folder", "watched"]

LAYOUTS: dict[str, Layout] = {
    "ai2d": public.AI2D,
    "answer_lists": public.ANSWER_LISTS,
    "chartqa": public.CHARTQA,
    "clevr_math": public.CLEVR_MATH,
    "conversations": conversations.CONVERSATIONS,
    "geometry3k": public.GEOMETRY3K,
    "gqa": public.GQA,
    "iconqa": public.ICONQA,
    "mapqa": public.MAPQA,
    "ocrvqa": public.OCRVQA,
    "scienceqa": public.SCIENCEQA,
    "sroie": public.SROIE,
    "vqa": public.VQA,
}
"""By the name that `seeds.N.format` takes."""
