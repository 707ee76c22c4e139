"""Exported folders read back as their trainers' loaders read them.

    read_export("export/demo", "internvl")  ->  Item("…/chartqa_correctness.jsonl:12", …)

Each reader finds files the way its loader does (see the format's own module), so that a path which
is wrong for the trainer is wrong here. What no loader could read comes as a `BadRow`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmpr_builder.errors import InputError, RowError
from mmpr_builder.export.destination import MARK
from mmpr_builder.export.items import BadRow, Item, Picture, read_items, read_rows
from mmpr_builder.io.tables import storable
from mmpr_builder.prompts import split_images

_VERL = ("prompt", "images", "extra_info", "reward_model")


def read_export(folder: str, trainer: str) -> Iterator[Item | BadRow]:
    """The rows of an export of this trainer's format, in the order of its files.

    Raises `InputError` where no such export is.
    """
    base = Path(folder)
    mark = _json(base / MARK) if (base / MARK).exists() else {}
    if mark and mark.get("format") != trainer:
        raise InputError(f"{folder}: an export for {mark.get('format')}: lint it --for that")
    mount = (mark.get("options") or {}).get("mount")

    def here(path: str) -> Path:
        """A path as the trainer will see it, on this machine."""
        if mount and (path == mount or path.startswith(f"{mount.rstrip('/')}/")):
            return base / os.path.relpath(path, mount)
        return Path(path)

    yield from _READERS[trainer](base, here)


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """(line from 1, row or what is wrong with it) of a JSONL file; empty lines are passed over."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            # A line of a hundred thousand brackets is too deep for the parser.
            except (ValueError, RecursionError) as error:
                yield number, f"no JSON: {error}"
                continue
            yield number, row if isinstance(row, dict) else f"no object but {type(row).__name__}"


def recipe_entries(path: Path) -> dict[str, Mapping[str, Any]]:
    """The entries of a meta.json. Raises `InputError` when it is none."""
    entries = _json(path)
    if not entries or not all(isinstance(entry, dict) for entry in entries.values()):
        raise InputError(f"{path}: no recipe: expected {{name: {{root, annotation, …}}}}")
    return entries


def text_of(row: Mapping[str, Any], *names: str) -> str:
    """The first of these fields that is there. Raises `RowError` "missing_field"."""
    if not isinstance(row, Mapping):
        raise RowError("missing_field", f"an object is expected, found {str(row)[:60]!r}")
    for name in names:
        if name in row:
            if not isinstance(row[name], str):
                raise RowError("missing_field", f"{name!r} is no text: {str(row[name])[:60]!r}")
            return storable(str(row[name]))
    raise RowError("missing_field", f"no {' or '.join(repr(name) for name in names)}")


def image_names(row: Mapping[str, Any]) -> list[str]:
    """The field `image` (or `images`) of a recipe's row. Raises `RowError` "missing_field"."""
    if not row.get("image") and row.get("images"):
        return _names(row, "images")
    value = row.get("image", [])
    if value is None:
        raise RowError("missing_field", "'image' is null: leave it out of a row without images")
    return [value] if isinstance(value, str) and value else _names(row, "image")


def _names(row: Mapping[str, Any], field: str) -> list[str]:
    """A list of image files. Raises `RowError` "missing_field" for anything else."""
    names = row.get(field) or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RowError("missing_field", f"{field!r} is no list of files: {str(names)[:60]!r}")
    return names


Read = Callable[[Mapping[str, Any]], tuple[str, list[Path], str, str]]
"""Row -> (prompt, its images, chosen, rejected). Raises `RowError`."""


def _internvl(base: Path, here: Callable[[str], Path]) -> Iterator[Item | BadRow]:
    yield from _recipes(
        base / "meta.json", here, _recipe_row, suffix="jsonl", repeat_time=int | float
    )


def _nemo_rl(base: Path, here: Callable[[str], Path]) -> Iterator[Item | BadRow]:
    recipe = base / "recipe/meta.json"
    yield from _recipes(recipe, lambda path: recipe.resolve().parent.parent / path, _recipe_row)


def _recipes(
    recipe: Path,
    place: Callable[[str], Path],
    read: Callable[[Path], Read],
    suffix: str = "",
    **more: Any,
) -> Iterator[Item | BadRow]:
    """The rows of a recipe, and of the one that is kept for validation."""
    kept = recipe.with_name("validation.json")
    for path in [recipe, kept] if kept.exists() else [recipe]:
        for name, entry in recipe_entries(path).items():
            wrong = _wrong_entry(entry, root=str, annotation=str, **more)
            if wrong is None and not entry["annotation"].endswith(suffix):
                wrong = f"annotation {entry['annotation']!r} does not end in {suffix}"
            if wrong is not None:
                yield BadRow(f"{path}:{name}", "", "bad_recipe", wrong)
                continue
            yield from _rows(place(entry["annotation"]), read(place(entry["root"])))


def _wrong_entry(entry: Mapping[str, Any], **fields: Any) -> str | None:
    wrong = [name for name, kind in fields.items() if not isinstance(entry.get(name), kind)]
    return f"no field {wrong[0]!r}, or one of another type" if wrong else None


def _recipe_row(root: Path) -> Read:
    return lambda row: (
        text_of(row, "question"),
        [root / name for name in image_names(row)],
        text_of(row, "chosen", "chosen_response"),
        text_of(row, "rejected", "rejected_response"),
    )


def _ms_swift(base: Path, here: Callable[[str], Path]) -> Iterator[Item | BadRow]:
    def read(row: Mapping[str, Any]) -> tuple[str, list[Path], str, str]:
        messages = row.get("messages")
        if not isinstance(messages, list) or len(messages) < 2:
            raise RowError("missing_field", "'messages' is no list of at least two turns")
        text = "".join(text_of(message, "content") for message in messages[:-1])
        names = [here(name) for name in _names(row, "images")]
        return text, names, text_of(messages[-1], "content"), text_of(row, "rejected_response")

    for path in _files(base, "*.jsonl"):
        yield from _rows(path, read)


def _llama_factory(base: Path, here: Callable[[str], Path]) -> Iterator[Item | BadRow]:
    info = base / "dataset_info.json"
    for name, entry in recipe_entries(info).items():
        columns, tags = entry.get("columns") or {}, entry.get("tags") or {}
        whole = {"messages", "chosen", "rejected"} <= columns.keys()
        named = isinstance(entry.get("file_name"), str)
        if not (entry.get("ranking") and entry.get("formatting") == "sharegpt" and whole and named):
            wrong = "not described as a sharegpt ranking of pairs"
            yield BadRow(f"{info}:{name}", "", "bad_recipe", wrong)
            continue
        yield from _rows(base / entry["file_name"], _sharegpt_row(base, columns, tags))


def _sharegpt_row(base: Path, columns: Mapping[str, str], tags: Mapping[str, str]) -> Read:
    role, said = tags.get("role_tag", "from"), tags.get("content_tag", "value")

    def read(row: Mapping[str, Any]) -> tuple[str, list[Path], str, str]:
        turns = row.get(columns["messages"])
        turns = turns if isinstance(turns, list) else []
        spoken = [turn for turn in turns if text_of(turn, role) != tags.get("system_tag")]
        if len(spoken) % 2 == 0:
            raise RowError("missing_field", "the prompt must be an odd number of turns")
        text = "".join(text_of(turn, said) for turn in turns)
        chosen, rejected = (row.get(columns[side]) for side in ("chosen", "rejected"))
        if not isinstance(chosen, dict) or not isinstance(rejected, dict):
            raise RowError("missing_field", "chosen and rejected must be turns of their own")
        names = _names(row, columns["images"]) if "images" in columns else []
        return text, [base / name for name in names], text_of(chosen, said), text_of(rejected, said)

    return read


def _verl(base: Path, here: Callable[[str], Path]) -> Iterator[Item | BadRow]:
    for where, row in read_rows(map(str, _files(base, "*.parquet")), _VERL):
        name = (row["extra_info"] or {}).get("id") or ""
        if not (row["reward_model"] or {}).get("ground_truth"):
            yield BadRow(where, name, "empty_text", "reward_model.ground_truth is empty")
        text = "".join(message["content"] or "" for message in row["prompt"] or ())
        pictures = tuple(Picture(data=image["bytes"]) for image in row["images"] or ())
        yield Item(where, name, tuple(split_images(text)), text, pictures)


def _stage(base: Path, here: Callable[[str], Path]) -> Iterator[Item | BadRow]:
    files = _files(base, "*/*.parquet")
    yield from read_items([str(path) for path in files], needed=("images", "prompt"))


def _prm(base: Path, here: Callable[[str], Path]) -> Iterator[Item | BadRow]:
    for item in _recipes(base / "meta.json", here, _chat_row, repeat_time=int | float):
        yield replace(item, rejected=None) if isinstance(item, Item) else item


def _chat_row(root: Path) -> Read:
    def read(row: Mapping[str, Any]) -> tuple[str, list[Path], str, str]:
        turns = row.get("conversations")
        said = [text_of(turn, "value") for turn in turns] if isinstance(turns, list) else []
        if len(said) < 3 or len(said) % 2 == 0 or {*said[2::2]} - {"+", "-"}:
            raise RowError("missing_field", "no system turn, and then steps, each with + or -")
        return said[1], [root / name for name in image_names(row)], "\n".join(said[2:]), ""

    return read


def _stepwise(base: Path, here: Callable[[str], Path]) -> Iterator[Item | BadRow]:
    needed = ("prompt", "images", "completions", "labels")
    for where, row in read_rows(map(str, _files(base, "*/*.parquet")), needed):
        text, steps, name = row["prompt"] or "", row["completions"] or [], row.get("id") or ""
        if len(steps) != len(row["labels"] or ()):
            yield BadRow(where, name, "missing_field", "as many labels as steps are needed")
            continue
        pictures = tuple(Picture(data=image["bytes"]) for image in row["images"] or ())
        yield Item(where, name, tuple(split_images(text)), text, pictures, "\n".join(steps))


def _rows(path: Path, read: Read) -> Iterator[Item | BadRow]:
    try:
        for number, row in read_lines(path):
            where = f"{path}:{number}"
            if isinstance(row, str):
                yield BadRow(where, "", "bad_json", row)
                continue
            name = storable(str(row.get("id") or ""))
            try:
                text, files, chosen, rejected = read(row)
            except RowError as error:
                yield BadRow(where, name, error.reason, error.detail)
                continue
            pictures = tuple(Picture(path=file) for file in files)
            yield Item(where, name, tuple(split_images(text)), text, pictures, chosen, rejected)
    except OSError as error:
        yield BadRow(str(path), "", "bad_recipe", f"{path}: {error.strerror or error}")


def _files(base: Path, pattern: str) -> list[Path]:
    found = sorted(path for path in base.glob(pattern) if path.name != "drops.jsonl")
    if not found:
        raise InputError(f"{base}: no {pattern} here: give a build's folder or an export's")
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}): give a build's folder or an export's"
        ) from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: no object but {type(value).__name__}")
    return value


_READERS: dict[str, Callable[[Path, Callable[[str], Path]], Iterator[Item | BadRow]]] = {
    "internvl": _internvl,
    "nemo-rl": _nemo_rl,
    "ms-swift": _ms_swift,
    "llama-factory": _llama_factory,
    "verl": _verl,
    "sft": _stage,
    "kto": _stage,
    "grpo": _stage,
    "prm": _prm,
    "stepwise": _stepwise,
}
