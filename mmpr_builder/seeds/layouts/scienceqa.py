"""ScienceQA: `problems.json` of all splits, an object by number; `images/train/1/image.png`.

{"1": {"question": "Which of these states is farthest north?", "choices": ["West Virginia", …],
       "answer": 0, "hint": "", "image": "image.png" or null, "split": "train", …}, …}

Problems without an image are text-only seeds. Lectures and solutions are not used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmpr_builder.errors import RowError
from mmpr_builder.files import SeedFile, split_name
from mmpr_builder.seeds.formats import Row
from mmpr_builder.seeds.json_entries import quote
from mmpr_builder.seeds.layouts.reading import Layout, each, need, rows


def _choices(value: Mapping[str, Any]) -> list[Any]:
    """The options; without them an answer, which is a position, would pass for a number."""
    found = value.get("choices")
    if not isinstance(found, list) or not found:
        raise RowError("bad_choices_field", f"field 'choices' must be a list, got {quote(found)}")
    return found


def _read(file: SeedFile) -> Iterator[Row]:
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


LAYOUT = Layout(r"problems\.json\Z", each(_read), images="images")
