"""Rows of files as seeds, one `Seed` or one `Drop` each; `fields` checks what is in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

from mmpr_builder.errors import InputError, RowError
from mmpr_builder.io.access import Places, named_access
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
    path: str | Path,
    *,
    root: str | Path | None = None,
    roots: Sequence[str] = (),
    allow: Sequence[str] = (),
    limit: int | None = None,
    source: str | None = None,
    split: str = "train",
    scorer: str = "auto",
    layout: str = "auto",
    language: str = "auto",
    columns: Mapping[Any, str | Sequence[str]] | None = None,
    require_image: bool = False,
) -> Iterator[Seed | Drop]:
    """Read a file, folder, glob, URL or data set, one `Seed` or `Drop` per row, in order.

    `root` is where relative image paths start (default: the folder of each file). Rows may name
    files below it or one of `roots`, and URLs that `allow` opens: protocols, or beginnings of URLs
    (see `access`). `limit` is the number of rows to read, `source` a name for all (default: a row's
    own, else the file's stem), `layout` one of `layouts.LAYOUTS`. `columns` says which columns are
    read as what where names do not (role of `roles.ALIASES` -> name, or names); with
    `require_image` a row without one is a drop. Ids are the rows' own, else content hashes;
    `read_sources` makes them unique.

    Raises `InputError` when nothing is at `path`, a file is broken as a whole, or no row has a
    column that `columns` names.
    """
    base = None if root is None else check_root(os.fspath(root))
    fixed = _Fixed(
        root=base,
        places=Places(named_access(str(path), root=base, roots=roots, allow=allow)),
        source=source,
        scorer=scorer,
        language=None if language == "auto" else cast(Language, language),
        mapped=mapping(columns or {}),
        require_image=require_image,
    )
    return islice(_items(raw_rows(str(path), split, layout, fixed.mapped), fixed), limit)


def raw_rows(
    path: str, split: str, layout: str, mapped: Mapped
) -> Iterator[tuple[SeedFile, str, Row]]:
    """(file, where its images lie, row) of all that `path` names."""
    if layout == "auto":
        missing = {name for _, own in mapped for name in own}
        there: tuple[str, ...] = ()
        for file in locate(path, split):
            row = None
            for row in read_rows(file, mapped):
                if row.fields is not None and missing:
                    missing -= row.fields.keys()
                    there = tuple(row.fields)
                yield file, file.folder, row
            if row is None:
                tell(f"{file.shown}: has no rows")
        if missing and there:
            raise InputError(
                f"{path}: no row has {', '.join(map(repr, sorted(missing)))}, which"
                f" seeds.N.columns names; the last one has {', '.join(there)[:400]}"
            )
        return
    kind = layouts.LAYOUTS[layout]
    for file, row in kind.read(layouts.files_of(kind, layout, path, split)):
        yield file, layouts.image_folder(kind, file), row


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


@dataclass(frozen=True, slots=True)
class _Fixed:
    """What a source says of all its rows; None leaves it to each."""

    root: str | None
    places: Places
    source: str | None
    scorer: str
    language: Language | None
    mapped: Mapped
    require_image: bool


def _items(rows: Iterator[tuple[SeedFile, str, Row]], fixed: _Fixed) -> Iterator[Seed | Drop]:
    last: SeedFile | None = None
    name = shown = stem = ""
    for file, base, raw in rows:
        if file is not last:
            last, name, shown, stem = file, file.name, file.shown, file.stem
        yield from (
            _item(row, base, (name, shown, stem), fixed) for row in _made(raw, fixed, shown)
        )


def _made(row: Row, fixed: _Fixed, place: str) -> Iterator[Row]:
    """The row with fields of standard names; a conversation as the rows that it is made of."""
    if row.fields is None or row.error is not None:
        yield row
        return
    try:
        fields = standard(row.fields, fixed.mapped, place)
    except RowError as error:
        yield row._replace(error=error)
        return
    yield from expanded(Row(row.number, fields))


def _item(row: Row, base: str, names: tuple[str, str, str], fixed: _Fixed) -> Seed | Drop:
    own_id, (name, shown, stem) = None, names
    try:
        if row.fields is not None:
            own_id = row_id(row.fields)
        if row.error is not None or row.fields is None:
            raise row.error or RowError("invalid_json", "no fields")
        return _seed(row.fields, own_id, base, stem, f"{name}:{row.number}", fixed)
    except RowError as error:
        detail = f"{shown}:{row.number}: {error.detail}"
        return Drop(own_id or f"{name}:{row.number}", "seeds", error.reason, detail)


def _seed(
    fields: Fields, own_id: str | None, base: str, stem: str, origin: str, fixed: _Fixed
) -> Seed:
    """One row as a seed. Raises `RowError`."""
    source = fixed.source or text_of(fields, "source") or stem
    stem_text, question, choices, answers = _question(fields)
    question, images = place_images(question, images_of(fields))
    if fixed.require_image and not images:
        raise RowError("missing_image", "its source asks for one (require_image)")
    check_special_tokens(question)
    choices = tuple(numbered_to_plain(choice) for choice in choices)
    ref, base = fixed.places.ref, fixed.root or base
    return Seed(
        id=own_id or content_id(source, question, *map(_image_key, images), "", *answers),
        question=question,
        images=tuple([i if isinstance(i, ImageRef) else ref(i, base) for i in images]),
        answers=answers,
        choices=choices,
        source=source,
        language=fixed.language or language_of(stem_text),
        scorer=fixed.scorer,
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
    if listed:
        if found is None:
            lines = "\n".join(f"{chr(ord('A') + i)}. {text}" for i, text in enumerate(listed))
            question = f"{question.rstrip()}\n{lines}"
        else:
            _same_choices(listed, found.texts)
        return stem, question, listed, answers_of(fields, listed, indices=True)
    if found is None:
        return stem, question, (), answers_of(fields, (), indices=False)
    try:
        return stem, question, found.texts, answers_of(fields, found.texts, indices=False)
    except RowError as error:
        if error.reason != "answer_not_in_choices":
            raise
        # These are no options then: "(A) Find x. (B) Find y."
        return stem, question, (), answers_of(fields, (), indices=False)


def _same_choices(listed: Sequence[str], found: Sequence[str]) -> None:
    """The options of the field and those in the question must not be in different order."""
    a, b = [fold(text) for text in listed], [fold(text) for text in found]
    if len(a) != len(b) or (a != b and sorted(a) == sorted(b)):
        detail = f"options {list(listed)} in their field, {list(found)} in the question"
        raise RowError("choices_mismatch", f"{detail[:400]}: make them agree, or drop one")


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
