"""Stage 1: seeds from JSON lines, Parquet, Hugging Face data sets and folders of these.

    {"image": "1.png", "question": "Find y.\\nChoices:\\n(A) 5\\n(B) 10", "answer": "B"}
      -> Seed(id=…, question="<image>\\nFind y.…", images=(ImageRef("/data/1.png"),),
              answers=("B",), choices=("5", "10"), source="geometry3k", origin="geometry3k.jsonl:1")

Every row becomes exactly one `Seed` or one `Drop` with the reason; blank lines are no rows. Field
names that are understood: `formats.ALIASES`. Nothing is held but the row at hand and, for a whole
build, one hash per row (to keep ids unique).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path

from mmpr_builder.config import SourceConfig
from mmpr_builder.errors import InputError, RowError
from mmpr_builder.files import SeedFile, absolute, file_fingerprint, filesystem, is_url, locate
from mmpr_builder.records import Drop, ImageRef, Language, Seed, content_id
from mmpr_builder.seeds.choices import find_choices
from mmpr_builder.seeds.fields import (
    Fields,
    answers_of,
    choices_of,
    fold,
    images_of,
    place_images,
    question_of,
    row_id,
    source_of,
)
from mmpr_builder.seeds.formats import check_columns, load, open_parquet, read_rows
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
    limit: int | None = None,
    source: str | None = None,
    split: str = "train",
    scorer: str = "auto",
) -> Iterator[Seed | Drop]:
    """Read a file, folder, glob, URL or data set, one `Seed` or `Drop` per row, in order.

    `root` is where relative image paths start (default: the folder of each file), `limit` the
    number of rows to read, `source` a name for all rows (default: a row's own, else the file's
    stem), `split` that of a data set, `scorer` is passed on. Ids are the rows' own, else content
    hashes; `read_sources` makes them unique.

    Raises `InputError` when nothing is at `path` or a file is broken as a whole.
    """
    base = None if root is None else _root(os.fspath(root))
    rows = (
        item for file in locate(str(path), split) for item in _read_file(file, base, source, scorer)
    )
    return islice(rows, limit)


def read_sources(
    sources: Sequence[SourceConfig], *, limit: int | None = None
) -> Iterator[Seed | Drop]:
    """All sources of a build in order, at most `limit` rows, every id once.

    A row that repeats an earlier one (same id, same content) is a `Drop` "duplicate_seed" with the
    id `ID#2`; another row under a taken id goes on as `ID#2`, `ID#3`, ….
    """
    ids = _UniqueIds()
    rows = (
        item
        for source in sources
        for item in read_seeds(
            source.path,
            root=source.root,
            limit=source.limit,
            source=source.name,
            split=source.split,
            scorer=source.scorer,
        )
    )
    for item in islice(rows, limit):
        yield ids.drop(item) if isinstance(item, Drop) else ids.seed(item)


def check_sources(sources: Sequence[SourceConfig]) -> None:
    """Raise `InputError` at once for a source or root that is missing or of no known format."""
    for source in sources:
        if source.root is not None:
            _root(source.root)
        for file in locate(source.path, source.split):
            if file.format == "parquet":
                check_columns(open_parquet(file.uri).schema_arrow.names, file.uri)
            elif file.format != "jsonl" and file.format != "json":
                check_columns(load(file).column_names, file.uri)


def fingerprint(source: SourceConfig) -> dict[str, str]:
    """File -> what changes when its content does, for noticing changed inputs."""
    prints: dict[str, str] = {}
    for file in locate(source.path, source.split):
        if file.format == "hub":
            prints[f"{file.uri}?split={file.split}"] = str(load(file)._fingerprint)
        elif file.format in ("disk", "imagefolder"):
            fs, inside = filesystem(file.uri)
            names = sorted(n for n in fs.find(inside) if n.endswith((".json", ".arrow", ".csv")))
            prints |= {name: file_fingerprint(_like(file.uri, fs, name)) for name in names}
        else:
            prints[file.uri] = file_fingerprint(file.uri)
    return prints


def _like(uri: str, fs: object, name: str) -> str:
    return str(fs.unstrip_protocol(name)) if is_url(uri) else name  # type: ignore[attr-defined]


def _root(root: str) -> str:
    base = absolute(root).rstrip("/")
    if not is_url(base):
        fs, inside = filesystem(base)
        if not fs.isdir(inside or "/"):
            raise InputError(
                f"image root {root!r} is not a folder: give the one that images are in"
            )
    return base


def _read_file(
    file: SeedFile, root: str | None, source: str | None, scorer: str
) -> Iterator[Seed | Drop]:
    base = file.folder if root is None else root
    for number, fields, error in read_rows(file):
        origin = f"{file.name}:{number}"
        own_id = None
        try:
            if error is not None or fields is None:
                raise error or RowError("invalid_json", "no fields")
            own_id = row_id(fields)
            yield _seed(fields, own_id, base, source, file.stem, scorer, origin)
        except RowError as error:
            detail = f"{file.uri}:{number}: {error.detail}"
            yield Drop(own_id or origin, "seeds", error.reason, detail)


def _seed(
    fields: Fields,
    own_id: str | None,
    base: str,
    source: str | None,
    stem: str,
    scorer: str,
    origin: str,
) -> Seed:
    """One row as a seed. Raises `RowError`."""
    source = source or source_of(fields) or stem
    stem_text, question, choices, answers = _question(fields)
    question, images = place_images(question, images_of(fields))
    return Seed(
        id=own_id or content_id(source, question, *map(_image_key, images), "", *answers),
        question=question,
        images=tuple(_resolve(image, base) for image in images),
        answers=answers,
        choices=choices,
        source=source,
        language=language_of(stem_text),
        scorer=scorer,
        origin=origin,
    )


def _question(fields: Fields) -> tuple[str, str, tuple[str, ...], tuple[str, ...]]:
    """(text before the options, whole question, options, truths)."""
    question = strip_instructions(question_of(fields))
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


def _resolve(image: str | ImageRef, base: str) -> ImageRef:
    if isinstance(image, ImageRef):
        return image
    if image.startswith("data:") or is_url(image):
        return ImageRef(image)
    if image.startswith(("/", "~", "file://")):
        return ImageRef(absolute(image))
    image = image.removeprefix("./")
    return ImageRef(f"{base}/{image}" if base else image)


def language_of(text: str) -> Language:
    """ "zh" if Chinese characters are a good share of the letters outside formulas, else "en"."""
    if text.isascii():
        return "en"
    plain = _FORMULA.sub(" ", text)
    chinese = len(_CJK.findall(plain))
    others = len(_OTHER_LETTER.findall(plain))
    return "zh" if chinese and chinese >= ZH_SHARE * (chinese + others) else "en"


class _UniqueIds:
    """Gives every item of a build an id of its own; holds 16 bytes per id and per row."""

    def __init__(self) -> None:
        self._ids: set[bytes] = set()
        self._rows: set[bytes] = set()
        self._counts: dict[str, int] = {}

    def seed(self, seed: Seed) -> Seed | Drop:
        images = (f"{r.uri}\0{r.row}\0{r.column}\0{r.index}" for r in seed.images)
        parts = (seed.id, seed.question, *images, "", *seed.answers, "", *seed.choices)
        row = bytes.fromhex(content_id(*parts))
        unique = self._unique(seed.id)
        if row in self._rows:
            detail = f"{seed.origin}: the same row (id {seed.id!r}) was read before"
            return Drop(unique, "seeds", "duplicate_seed", detail)
        self._rows.add(row)
        return seed if unique == seed.id else replace(seed, id=unique)

    def drop(self, drop: Drop) -> Drop:
        unique = self._unique(drop.item_id)
        if unique == drop.item_id:
            return drop
        return Drop(unique, drop.stage, drop.reason, drop.detail)

    def _unique(self, wanted: str) -> str:
        unique = wanted
        while (key := blake2b(unique.encode(), digest_size=16).digest()) in self._ids:
            number = self._counts.get(wanted, 1) + 1
            self._counts[wanted] = number
            unique = f"{wanted}#{number}"
        self._ids.add(key)
        return unique
