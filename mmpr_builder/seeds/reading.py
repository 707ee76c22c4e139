"""Rows of files as seeds, one `Seed` or one `Drop` each; `fields` checks what is in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from mmpr_builder.config import SourceConfig
from mmpr_builder.errors import InputError, RowError
from mmpr_builder.io.access import Places, access_of, source_of
from mmpr_builder.io.members import split_zip
from mmpr_builder.io.seed_files import SeedFile, locate, tell
from mmpr_builder.io.stores import absolute, is_url, resolve
from mmpr_builder.records import Drop, ImageRef, Language, Seed, content_id
from mmpr_builder.seeds import layouts
from mmpr_builder.seeds.choices import find_choices
from mmpr_builder.seeds.fields import (
    Fields,
    answers_of,
    check_special_tokens,
    choices_of,
    fold,
    images_of,
    numbered_to_plain,
    place_images,
    question_of,
    row_id,
    text_of,
)
from mmpr_builder.seeds.formats import Row, read_rows
from mmpr_builder.seeds.instructions import strip_instructions
from mmpr_builder.seeds.layouts.conversations import expanded
from mmpr_builder.seeds.roles import Mapped, mapping, standard

ZH_SHARE = 0.3
"""Share of Chinese characters among all letters from which a question counts as Chinese."""

_CJK = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_OTHER_LETTER = re.compile(r"[^\W\d_\u3400-\u4dbf\u4e00-\u9fff]")
_FORMULA = re.compile(r"\$[^$]*\$|\\[A-Za-z]+|<image>")


def read_seeds(
    path: str | Path, *, root: str | Path | None = None, limit: int | None = None, **settings: Any
) -> Iterator[Seed | Drop]:
    """Read a file, folder, glob, URL or data set, one `Seed` or `Drop` per row, in order.

    `root` is where relative image paths start (default: the folder of each file), `limit` the
    number of rows to read. Other settings are those of a source in a recipe: `columns`, `split`,
    `format`, `allow`, … (docs/settings.md, seeds.N). Ids are the rows' own, else content hashes;
    `read_sources` makes them unique.

    Raises `InputError` when nothing is at `path`, a file is broken as a whole, or no row has a
    column that `columns` names; `ConfigError` for wrong settings.
    """
    base = None if root is None else os.fspath(root)
    return islice(read_source(source_of(os.fspath(path), root=base, **settings)), limit)


def read_source(source: SourceConfig) -> Iterator[Seed | Drop]:
    """The same for a source of a recipe; its `limit` is not looked at."""
    root = None if source.root is None else check_root(source.root)
    reading = _Reading(source, root, Places(access_of([source])), mapping(source.columns))
    return _items(raw_rows(source, reading.mapped), reading)


class _Reading(NamedTuple):
    source: SourceConfig
    root: str | None
    places: Places
    mapped: Mapped


def raw_rows(source: SourceConfig, mapped: Mapped) -> Iterator[tuple[SeedFile, str, Row]]:
    """(file, where its images lie, row) of all rows of a source."""
    if layout := layouts.LAYOUTS.get(source.format):
        for file in files_of(source):
            folder = layouts.image_folder(layout, file)
            yield from ((file, folder, row) for row in layouts.read(layout, file))
        return
    missing = {name for _, own in mapped for name in own}
    there: tuple[str, ...] = ()
    for file in files_of(source):
        row, folder = None, file.folder
        for row in read_rows(file, mapped):
            if missing and row.fields is not None:
                missing -= row.fields.keys()
                there = tuple(row.fields)
            yield file, folder, row
        if row is None:
            tell(f"{file.shown}: has no rows")
    if missing and there:
        raise InputError(
            f"{source.path}: no row has {', '.join(map(repr, sorted(missing)))}, which"
            f" seeds.N.columns names; the last one has {', '.join(there)[:400]}"
        )


def files_of(source: SourceConfig) -> list[SeedFile]:
    """The files of a source, or its data set. Raises `InputError`."""
    layout = layouts.LAYOUTS.get(source.format)
    if layout is None:
        return locate(source.path, source.split)
    return layouts.files_of(layout, source.format, source.path, source.split)


def check_root(root: str) -> str:
    """A root made absolute. Raises `InputError` when it is no folder."""
    base = absolute(root).rstrip("/")
    if not is_url(base):
        fs, inside = resolve(base)
        if not fs.isdir(inside or "/") and split_zip(base) is None:
            raise InputError(
                f"image root {root!r} is not a folder, nor a .zip: give the one that images are in"
            )
    return base


def _items(rows: Iterator[tuple[SeedFile, str, Row]], reading: _Reading) -> Iterator[Seed | Drop]:
    last: SeedFile | None = None
    name = shown = stem = ""
    alone, count = reading.source.format == "conversations", 0
    for file, base, raw in rows:
        if file is not last:
            last, name, shown, stem, count = file, file.name, file.shown, file.stem, 0
        for number, fields, error in _made(raw, reading.mapped, shown, alone=alone):
            count += 1
            number, own_id = count if alone else number, None
            try:
                own_id = row_id(fields) if fields is not None else None
                if fields is None or error is not None:
                    raise error or RowError("invalid_json", "no fields")
                yield _seed(fields, own_id, base, stem, f"{name}:{number}", reading)
            except RowError as found:
                detail = f"{shown}:{number}: {found.detail}"
                yield Drop(own_id or f"{name}:{number}", "seeds", found.reason, detail)


def _made(row: Row, mapped: Mapped, place: str, *, alone: bool) -> Sequence[Row]:
    """The row with fields of standard names; a conversation as the rows that it is made of."""
    if alone:
        found = expanded(row, alone=True)
        return [made for one in found for made in _made(one, mapped, place, alone=False)]
    if row.fields is None or row.error is not None:
        return (row,)
    try:
        fields = standard(row.fields, mapped, place)
    except RowError as error:
        return (row._replace(error=error),)
    return expanded(row if fields is row.fields else Row(row.number, fields), alone=False)


def _seed(
    fields: Fields, own_id: str | None, base: str, stem: str, origin: str, reading: _Reading
) -> Seed:
    """One row as a seed. Raises `RowError`."""
    config, root, places, _ = reading
    source = config.name or text_of(fields, "source") or stem
    stem_text, question, choices, answers = _question(fields)
    question, images = place_images(question, images_of(fields))
    if config.require_image and not images:
        raise RowError("missing_image", "its source asks for one (require_image)")
    check_special_tokens(question)
    base = root or base
    return Seed(
        id=own_id or content_id(source, question, *map(_image_key, images), "", *answers),
        question=question,
        images=tuple([i if isinstance(i, ImageRef) else places.ref(i, base) for i in images]),
        answers=answers,
        choices=tuple([numbered_to_plain(choice) for choice in choices]),
        source=source,
        language=language_of(stem_text) if config.language == "auto" else config.language,
        scorer=config.scorer,
        origin=origin,
    )


def _question(fields: Fields) -> tuple[str, str, tuple[str, ...], tuple[str, ...]]:
    """(text before the options, whole question, options, reference answers)."""
    question = strip_instructions(question_of(fields))
    context = (text_of(fields, "context") or "").strip()
    if context and context not in question:
        question = f"{context}\n{question}"
    listed = choices_of(fields)
    found = find_choices(question)
    stem = question
    if found is not None:
        # An instruction can stand between the question and its options, too.
        stem, options = question[: found.start], question[found.start :]
        shorter = strip_instructions(stem)
        if shorter != stem:
            stem, question = shorter, f"{shorter.rstrip()}\n{options}"
    if listed and found is None:
        lines = "\n".join(f"{chr(ord('A') + i)}. {text}" for i, text in enumerate(listed))
        question = f"{question.rstrip()}\n{lines}"
    elif listed and found is not None:
        a, b = list(map(fold, listed)), list(map(fold, found.texts))
        if len(a) != len(b) or (a != b and sorted(a) == sorted(b)):  # In another order.
            detail = f"options {list(listed)} in their field, {list(found.texts)} in the question"
            raise RowError("choices_mismatch", f"{detail[:400]}: make them agree, or drop one")
    choices = listed or (found.texts if found is not None else ())
    try:
        return stem, question, choices, answers_of(fields, choices, indices=bool(listed))
    except RowError as error:
        if listed or error.reason != "answer_not_in_choices":
            raise
        # These are no options then: "(A) Find x. (B) Find y."
        return stem, question, (), answers_of(fields, (), indices=False)


def _image_key(image: str | ImageRef) -> str:
    """An image in a content id: as it is written, wherever the data set lies."""
    if isinstance(image, str):
        return image
    return f"{image.uri.rsplit('/', 1)[-1]}#{image.row}/{image.column}/{image.index}"


def language_of(text: str) -> Language:
    """ "zh" if Chinese characters are a good share of the letters outside formulas, else "en"."""
    if text.isascii():
        return "en"
    plain = _FORMULA.sub(" ", text)
    chinese = len(_CJK.findall(plain))
    others = len(_OTHER_LETTER.findall(plain))
    return "zh" if chinese and chinese >= ZH_SHARE * (chinese + others) else "en"
