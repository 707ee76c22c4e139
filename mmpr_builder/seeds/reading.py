"""Rows of files as seeds, one `Seed` or one `Drop` each; the fields are checked in `fields`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, cast

from mmpr_builder.errors import InputError, RowError
from mmpr_builder.io.access import Places, named_access
from mmpr_builder.io.columns import storable
from mmpr_builder.io.keyed import Keys, temporary_database
from mmpr_builder.io.seed_files import SeedFile, absolute, filesystem, is_url, locate
from mmpr_builder.records import Drop, ImageRef, Language, Seed, content_id
from mmpr_builder.seeds import layouts
from mmpr_builder.seeds.choices import find_choices
from mmpr_builder.seeds.fields import (
    Fields,
    answers_of,
    choices_of,
    context_of,
    fold,
    images_of,
    place_images,
    question_of,
    row_id,
    source_of,
)
from mmpr_builder.seeds.formats import Row, read_rows
from mmpr_builder.seeds.instructions import strip_instructions

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
) -> Iterator[Seed | Drop]:
    """Read a file, folder, glob, URL or data set, one `Seed` or `Drop` per row, in order.

    `root` is where relative image paths start (default: the folder of each file). Rows may name
    files below it or one of `roots`, and URLs that `allow` opens: protocols, or beginnings of URLs
    (see `access`). `limit` is the number of rows to read, `source` a name for all rows (default: a
    row's own, else the file's stem), `split` that of a data set, `scorer` is passed on, `layout` is
    one of `layouts.LAYOUTS`, `language` that of all rows. Ids are the rows' own, else content
    hashes; `read_sources` makes them unique.

    Raises `InputError` when nothing is at `path` or a file is broken as a whole.
    """
    base = None if root is None else check_root(os.fspath(root))
    fixed = _Fixed(
        root=base,
        places=Places(named_access(str(path), root=base, roots=roots, allow=allow)),
        source=source,
        scorer=scorer,
        language=None if language == "auto" else cast(Language, language),
    )
    rows = _rows(str(path), split, layout)
    return islice((_item(file, base, row, fixed) for file, base, row in rows), limit)


def _rows(path: str, split: str, layout: str) -> Iterator[tuple[SeedFile, str, Row]]:
    """(file, where its images lie, row) of all that `path` names."""
    if layout == "auto":
        for file in locate(path, split):
            for row in read_rows(file):
                yield file, file.folder, row
        return
    kind = layouts.LAYOUTS[layout]
    for file, row in kind.read(layouts.files_of(kind, layout, path, split)):
        yield file, layouts.image_folder(kind, file), row


def check_root(root: str) -> str:
    """A root made absolute. Raises `InputError` when it is no folder."""
    base = absolute(root).rstrip("/")
    if not is_url(base):
        fs, inside = filesystem(base)
        if not fs.isdir(inside or "/"):
            raise InputError(
                f"image root {root!r} is not a folder: give the one that images are in"
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


def _item(file: SeedFile, base: str, row: Row, fixed: _Fixed) -> Seed | Drop:
    origin = f"{file.name}:{row.number}"
    own_id = None
    try:
        if row.error is not None or row.fields is None:
            raise row.error or RowError("invalid_json", "no fields")
        own_id = row_id(row.fields)
        return _seed(row.fields, own_id, base, file.stem, origin, fixed)
    except RowError as error:
        detail = f"{file.shown}:{row.number}: {error.detail}"
        return Drop(own_id or origin, "seeds", error.reason, detail)


def _seed(
    fields: Fields, own_id: str | None, base: str, stem: str, origin: str, fixed: _Fixed
) -> Seed:
    """One row as a seed. Raises `RowError`."""
    source = fixed.source or source_of(fields) or stem
    stem_text, question, choices, answers = _question(fields)
    question, images = place_images(question, images_of(fields))
    return Seed(
        id=own_id or content_id(source, question, *map(_image_key, images), "", *answers),
        question=question,
        images=tuple(
            image if isinstance(image, ImageRef) else fixed.places.ref(image, fixed.root or base)
            for image in images
        ),
        answers=answers,
        choices=choices,
        source=source,
        language=fixed.language or language_of(stem_text),
        scorer=fixed.scorer,
        origin=origin,
    )


def _question(fields: Fields) -> tuple[str, str, tuple[str, ...], tuple[str, ...]]:
    """(text before the options, whole question, options, truths)."""
    question = strip_instructions(question_of(fields))
    context = context_of(fields)
    if context and context not in question:
        question = f"{context}\n{question}"
    listed = choices_of(fields)
    found = find_choices(question)
    if found is not None:
        # An instruction can stand between the question and its options, too.
        stem, options = question[: found.start], question[found.start :]
        shorter = strip_instructions(stem)
        if shorter != stem:
            stem, question = shorter, f"{shorter.rstrip()}\n{options}"
    else:
        stem = question
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
        # What looks like options is none then: "(A) Find x. (B) Find y."
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


# ---- unique
# Every seed of a build under an id of its own, and rows that ask the same only once.


def asked(seed: Seed, *, truths: bool) -> bytes:
    """16 bytes that stand for what a seed asks: question, images and options, and its truths."""
    images = (f"{r.uri}\0{r.row}\0{r.column}\0{r.index}" for r in seed.images)
    answers = ("", *seed.answers) if truths else ()
    return bytes.fromhex(content_id(seed.question, *images, "", *seed.choices, *answers))


class Taken:
    """The ids that an earlier reading gave; rows that ask the same get them again.

    Holds a temporary file, no memory: some 200 bytes per seed.
    """

    def __init__(self, seeds: Iterable[Seed]) -> None:
        self._db = temporary_database()
        self._db.execute("CREATE TABLE seeds (number INTEGER PRIMARY KEY, id TEXT)")
        self._db.execute("CREATE TABLE asks (hash BLOB, number INTEGER)")
        for number, seed in enumerate(seeds):
            self._db.execute("INSERT INTO seeds VALUES (?, ?)", (number, storable(seed.id)))
            both = [(asked(seed, truths=truths), number) for truths in (True, False)]
            self._db.executemany("INSERT INTO asks VALUES (?, ?)", both)
        self._db.execute("CREATE INDEX by_id ON seeds (id)")
        self._db.execute("CREATE INDEX by_hash ON asks (hash, number)")

    def __contains__(self, name: str) -> bool:
        found = self._db.execute("SELECT 1 FROM seeds WHERE id = ?", (storable(name),))
        return found.fetchone() is not None

    def ids_for(self, seed: Seed) -> list[str]:
        """Ids given to a row that asked the same, the seed's own before others."""
        same = self._asking(asked(seed, truths=True))
        own = [seed.id, f"{seed.id}#"]
        # Truths can be dropped by a screen, or have changed, which only the caller can tell.
        alike = self._asking(asked(seed, truths=False))
        alike = [name for name in alike if name == own[0] or name.startswith(own[1])]
        return [*dict.fromkeys([*(name for name in same if name in alike), *same, *alike])]

    def _asking(self, what: bytes) -> list[str]:
        found = self._db.execute(
            "SELECT id FROM seeds JOIN asks USING (number) WHERE hash = ? ORDER BY number", (what,)
        )
        return [str(name) for (name,) in found]

    def close(self) -> None:
        """Remove the file."""
        self._db.close()


class UniqueIds:
    """Gives every item of a build an id of its own; keeps two hashes and an id per row, on disk."""

    def __init__(self, taken: Taken | None) -> None:
        self._ids = Keys()
        self._rows = Keys()
        self._counts: dict[str, int] = {}
        self._taken = taken

    def seed(self, seed: Seed, template: str | Mapping[str, Any] | None) -> Seed | Drop:
        how = json.dumps(template, sort_keys=True)
        row = bytes.fromhex(content_id(asked(seed, truths=True).hex(), seed.scorer, how))
        first = self._rows.get(row)
        if first is not None:
            detail = f"{seed.origin}: the same as {first!r}, which was read before"
            return Drop(self._unique(seed.id), "seeds", "duplicate_seed", detail)
        unique = self._given_before(seed) or self._unique(seed.id)
        self._rows.add(row, unique)
        return seed if unique == seed.id else replace(seed, id=unique)

    def drop(self, drop: Drop) -> Drop:
        unique = self._unique(drop.item_id)
        if unique == drop.item_id:
            return drop
        return Drop(unique, drop.stage, drop.reason, drop.detail)

    def _given_before(self, seed: Seed) -> str | None:
        for name in self._taken.ids_for(seed) if self._taken else ():
            if self._ids.add(_key(name)):
                return name
        return None

    def _unique(self, wanted: str) -> str:
        unique = wanted
        while (self._taken and unique in self._taken) or not self._ids.add(_key(unique)):
            number = self._counts.get(wanted, 1) + 1
            self._counts[wanted] = number
            unique = f"{wanted}#{number}"
        return unique

    def close(self) -> None:
        self._ids.close()
        self._rows.close()


def _key(name: str) -> bytes:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()
