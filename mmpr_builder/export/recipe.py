"""A `meta.json` recipe with one entry per source and kind, its annotations and its images.

    {"chartqa_correctness": {"root": "…/images/", "annotation": "…/annotations/chartqa_….jsonl",
                             "data_augment": false, "repeat_time": 1, "length": 512}}

This is the form of the released MMPR data sets, read by InternVL's trainer and by NeMo RL's MMPR
loader. Fields beyond `image`, `question`, `chosen` and `rejected` are ours; both loaders pass
over them, and `mmpr import` reads them back.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mmpr_builder.errors import ConfigError
from mmpr_builder.export.destination import ImageFiles, JsonlFiles, write_json
from mmpr_builder.export.items import Item
from mmpr_builder.export.options import ExportOptions
from mmpr_builder.records import content_id

_NAME_BYTES = 100  # Twice, of 255 that a file's name may have: a Chinese character takes three.


class RecipeWriter:
    """`base` stands before the paths in the recipe; `recipe` is its place in the folder."""

    def __init__(self, folder: Path, recipe: str, base: str, options: ExportOptions) -> None:
        self._recipe = folder / recipe
        self._base = base
        self._options = options
        self._lines = JsonlFiles(folder / "annotations")
        self._images = ImageFiles(folder / "images")
        self._entries: dict[str, tuple[str, str]] = {}

    def add(self, item: Item) -> None:
        """Append one row to the annotation of its source and kind."""
        names = [self._images.add(picture.read()) for picture in item.pictures]
        name = entry_name(item.source, item.kind)
        self._entries.setdefault(name, (item.source, item.kind))
        # A key without images would be taken for one: text-only rows have none.
        image = {} if not names else {"image": names[0] if len(names) == 1 else names}
        self._lines.add(
            f"{name}.jsonl",
            {
                **image,
                "question": item.text,
                "chosen": item.chosen,
                "rejected": item.rejected,
                "id": item.id,
                "seed_id": item.seed_id,
                "source": item.source,
                "kind": item.kind,
                "answer": item.answer,
            },
        )

    def finish(self) -> dict[str, Any]:
        """Write the recipe."""
        self._lines.flush()
        self._check_names()
        rows = {name: self._lines.rows[f"{name}.jsonl"] for name in sorted(self._entries)}
        self._recipe.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._recipe, {name: self._entry(name, count) for name, count in rows.items()})
        return {"images": len(self._images), "entries": rows}

    def _entry(self, name: str, count: int) -> dict[str, Any]:
        source, kind = self._entries[name]
        repeat = self._options.repeat_time.value(name, source, kind)
        patches = self._options.max_dynamic_patch.value(name, source, kind)
        entry = {
            "root": f"{self._base}images/",
            "annotation": f"{self._base}annotations/{name}.jsonl",
            "data_augment": False,
            "repeat_time": 1 if repeat is None else _whole(repeat),
            "length": count,
        }
        return entry if patches is None else {**entry, "max_dynamic_patch": int(patches)}

    def _check_names(self) -> None:
        known = [*self._entries, *(source for source, _ in self._entries.values())]
        for option in ("repeat_time", "max_dynamic_patch"):
            unused = getattr(self._options, option).unused(known)
            if unused:
                raise ConfigError(
                    f"--{option.replace('_', '-')}: {unused[0]!r} is no entry, source or kind of"
                    f" this export: entries are {', '.join(sorted(self._entries))}"
                )


def check_numbers(options: ExportOptions) -> None:
    """Raises `ConfigError` for numbers that InternVL's loader would cut silently."""
    repeats = options.repeat_time
    for value in [repeats.plain or 1.0, *(number for _, number in repeats.named)]:
        if value > 1 and value != int(value):
            raise ConfigError(
                f"--repeat-time {value}: the loader cuts it to {int(value)}: give a whole number,"
                " or one below 1 for a share of the rows"
            )
    patches = options.max_dynamic_patch
    for value in [patches.plain or 1.0, *(number for _, number in patches.named)]:
        if value != int(value):
            raise ConfigError(f"--max-dynamic-patch {value}: give a whole number of tiles")


def entry_name(source: str, kind: str) -> str:
    """`chartqa_correctness`; a source that makes no file name gets a hash of it behind it."""
    return f"{_file_name(source)}_{_file_name(kind) if kind else 'pairs'}"


def _file_name(text: str) -> str:
    plain = re.sub(r"[^\w.+-]+", "_", text).encode()[:_NAME_BYTES].decode(errors="ignore")
    plain = plain.strip(".")
    return plain if plain == text else f"{plain or 'unnamed'}-{content_id(text)[:6]}"


def _whole(value: float) -> float | int:
    return int(value) if value == int(value) else value
