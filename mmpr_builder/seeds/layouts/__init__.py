"""Layouts of public data sets that are more than rows with the usual fields, a small file each.

    data/gqa/train_balanced_questions.json   {"02930152": {"question": "Is the sky dark?",
                                               "imageId": "2354786", "answer": "yes", …}, …}
      -> Row(1, {"id": "02930152", "question": …, "answer": "yes", "image": "2354786.jpg"})

A layout says which files of a folder hold questions, where images lie beside them unless the source
has a `root`, and turns their content into rows of the fields that `seeds.fields` understands. What
is wrong with one row is that row's error; only a file that is broken as a whole raises.
"""

from __future__ import annotations

from mmpr_builder.seeds.layouts.base import files_of, image_folder, read, watched
from mmpr_builder.seeds.layouts.public import LAYOUTS

__all__ = ["LAYOUTS", "files_of", "image_folder", "read", "watched"]
