"""Geometry3K (Inter-GPS): a folder for each problem.

train/15/data.json         {"id": 15, "problem_text": "Find y.", "answer": "C",
                            "choices": ["5", "8", "9", "10"], …}
train/15/img_diagram.png   the figure as it is printed
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmpr_builder.files import SeedFile
from mmpr_builder.seeds.layouts.reading import Layout, single


def _fields(file: SeedFile, value: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "id": f"geometry3k_{file.folder.rsplit('/', 1)[-1]}",
        "question": value.get("problem_text"),
        "choices": value.get("choices"),
        "answer": value.get("answer"),
        "image": f"{file.folder}/img_diagram.png",
    }


LAYOUT = Layout(r"(?:\A|/)\d+/data\.json\Z", single(_fields))
