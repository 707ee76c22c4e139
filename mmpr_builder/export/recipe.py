"""A `meta.json` recipe with one entry per source and kind, its annotations and its images.

    {"chartqa_correctness": {"root": "…/images/", "annotation": "…/annotations/chartqa_….jsonl",
                             "data_augment": false, "repeat_time": 1, "length": 512}}

This is the form of the released MMPR data sets. Fields beyond `image`, `question`, `chosen` and
`rejected` are ours; both loaders ignore them, and `mmpr import` reads them back.

What InternVL's loader does (OpenGVLab/InternVL, `internvl_chat/internvl/train/dataset.py` and
`internvl_chat_mpo.py`): `annotation` must end in `jsonl` and, like `root`, is opened as it stands,
so both are absolute here. A row without the key `image`, or with an empty one, is text only; `null`
raises. One image may go without a placeholder, it is put in front. Fewer placeholders than images
raise inside the loader, which then takes a *random other row* in silence; more are left in the
text. A `repeat_time` under 1 takes `int(rows x repeat_time)` random rows, one over 1 is cut to a
whole number. What is longer than `max_seq_length` is cut in silence. `system` is not read.

What NVIDIA NeMo RL does (NVIDIA-NeMo/RL, `nemo_rl/data/datasets/preference_datasets/mmpr.py`):
`root` and `annotation` are joined to the folder *above* the recipe's own, hence
`DEST/recipe/meta.json`. The key `image` must be there, and rows with other than one existing image
are passed over in silence. `<image>` and `<image_1>`, `<image_2>`, … all count as placeholders, and
a number of them other than 0 or the number of images raises; in responses they are deleted. A
response without `<think>` gets an empty `<think></think>` in front, a row without `system` an empty
system turn. `repeat_time` is not read. The loader is that of pull request 3345.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmpr_builder.errors import ConfigError
from mmpr_builder.export.destination import ImageFiles, JsonlFiles, write_json
from mmpr_builder.export.faults import Fault, pair_faults
from mmpr_builder.export.items import Item
from mmpr_builder.export.options import ExportOptions
from mmpr_builder.export.writing import Format
from mmpr_builder.records import content_id

_KEPT = "validation/"  # A folder of annotations; no name of an entry has a slash.
_NAME_BYTES = 100  # Twice, of 255 that a file's name may have: a Chinese character takes three.

# InternVL's tokenizer has <img>, </img> and <IMG_CONTEXT> as tokens and counts them as images.
_INTERNVL_MARKS = re.compile(r"<image>|<IMG_CONTEXT>|</?img>")
_NEMO_MARKS = re.compile(r"<image(?:_\d+)?>")


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
        names = [self._images.add(picture.read()) for picture in item.pictures]
        name = f"{_file_name(item.source)}_{_file_name(item.kind) if item.kind else 'pairs'}"
        if item.split == "validation":
            name = f"{_KEPT}{name}"
        self._entries.setdefault(name, (item.source, item.kind))
        # A key without images would be taken for one: text-only rows have none.
        image = {} if not names else {"image": names[0] if len(names) == 1 else names}
        row = {
            **image,
            **({"system": item.system} if item.system else {}),
            "question": item.text,
            "chosen": item.chosen,
            "rejected": item.rejected,
            "id": item.id,
            "seed_id": item.seed_id,
            "source": item.source,
            "kind": item.kind,
            "answer": item.answer,
        }
        self._lines.add(f"{name}.jsonl", row)

    def finish(self) -> dict[str, Any]:
        self._lines.flush()
        known = [*self._entries, *(source for source, _ in self._entries.values())]
        for option in ("repeat_time", "max_dynamic_patch"):
            if unused := getattr(self._options, option).unused(known):
                raise ConfigError(
                    f"--{option.replace('_', '-')}: {unused[0]!r} is no entry, source or kind of"
                    f" this export: entries are {', '.join(sorted(self._entries))}"
                )
        rows = {name: self._lines.rows[f"{name}.jsonl"] for name in sorted(self._entries)}
        entries: dict[str, Any] = {}
        kept: dict[str, Any] = {}
        lost = []  # Entries of which the loader will take none.
        for name, count in rows.items():
            entry = self._entry(name, count)
            (kept if name.startswith(_KEPT) else entries)[name] = entry
            if int(count * entry["repeat_time"]) == 0:
                lost.append(f"{name} ({count} x {entry['repeat_time']:g})")
        self._recipe.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._recipe, entries)
        if kept:
            write_json(self._recipe.with_name("validation.json"), kept)
        said = "the loader takes int(rows x repeat_time) of an entry, which is none of "
        warnings = [f"{said}{', '.join(lost)}: give a larger --repeat-time"] if lost else []
        return {"images": len(self._images), "entries": rows, "warnings": warnings}

    def _entry(self, name: str, count: int) -> dict[str, Any]:
        options, of = self._options, (name, *self._entries[name])
        repeat = 1 if name.startswith(_KEPT) else options.repeat_time.value(*of) or 1
        patches = options.max_dynamic_patch.value(*of)
        return {
            "root": f"{self._base}images/",
            "annotation": f"{self._base}annotations/{name}.jsonl",
            "data_augment": False,
            "repeat_time": int(repeat) if repeat == int(repeat) else repeat,
            "length": count,
            **({} if patches is None else {"max_dynamic_patch": int(patches)}),
        }


def _file_name(text: str) -> str:
    """`chartqa`; a text that makes no file name gets a hash of it behind it."""
    plain = re.sub(r"[^\w.+-]+", "_", text).encode()[:_NAME_BYTES].decode(errors="ignore")
    plain = plain.strip(".")
    return plain if plain == text else f"{plain or 'unnamed'}-{content_id(text)[:6]}"


def _internvl_faults(item: Item) -> Iterator[Fault]:
    yield from pair_faults(item, _INTERNVL_MARKS, may_lack=len(item.pictures) == 1)


def _open_internvl(folder: Path, home: Path, options: ExportOptions) -> RecipeWriter:
    """Raises `ConfigError` for numbers that InternVL's loader would cut silently."""
    for value in options.repeat_time.numbers():
        if value > 1 and value != int(value):
            raise ConfigError(
                f"--repeat-time {value}: the loader cuts it to {int(value)}: give a whole number,"
                " or one below 1 for a share of the rows"
            )
    for value in options.max_dynamic_patch.numbers():
        if value != int(value):
            raise ConfigError(f"--max-dynamic-patch {value}: give a whole number of tiles")
    return RecipeWriter(folder, "meta.json", f"{home}/", options)


def _nemo_faults(item: Item) -> Iterator[Fault]:
    count = len(item.pictures)
    if count != 1:
        has = f", this has {count}" if count else ""
        reason = "multi_image" if count else "text_only"
        yield Fault(reason, f"the loader takes rows with exactly one image{has}")
    yield from pair_faults(item, _NEMO_MARKS, may_lack=True)


INTERNVL = Format(
    "internvl",
    _internvl_faults,
    _open_internvl,
    options=("repeat_time", "max_dynamic_patch", "mount"),
)
NEMO_RL = Format(
    "nemo-rl",
    _nemo_faults,
    lambda folder, _, options: RecipeWriter(folder, "recipe/meta.json", "", options),
)
