"""What the layouts share: finding their files, and entries of JSON as rows."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mmpr_builder.errors import InputError, RowError
from mmpr_builder.io.seed_files import (
    SeedFile,
    full_name,
    locate,
    of_split,
    open_binary,
    refuse_links_out,
)
from mmpr_builder.io.stores import absolute, is_url, resolve
from mmpr_builder.seeds.formats import DECODER, Row, entries, quote

Found = Iterator[tuple[SeedFile, Row]]


class Layout(NamedTuple):
    """How one kind of public data set lies on disk."""

    files: str
    """Regular expression: which files of a folder hold questions, by their path inside it."""
    read: Callable[[Sequence[SeedFile]], Found]
    images: str = "."
    """Where images lie without a `root`, from the folder of the questions."""
    also: str = r"\Z\A"
    """Which further files it reads: a change of them changes the seeds, too."""
    rows: bool = False
    """Whether it reads files of any kind that `formats` reads, data sets of a hub included."""


def each(read: Callable[[SeedFile], Iterator[Row]]) -> Callable[[Sequence[SeedFile]], Found]:
    """A reader of one file as a reader of several."""

    def read_all(files: Sequence[SeedFile]) -> Found:
        for file in files:
            for row in read(file):
                yield file, row

    return read_all


def files_of(layout: Layout, name: str, path: str, split: str) -> list[SeedFile]:
    """The files with questions that `path` names, those of `split` where names tell.

    Raises `InputError` when there are none.
    """
    if layout.rows:
        return locate(path, split)
    uri = absolute(path)
    fs, inside = resolve(uri)
    inside = inside.rstrip("/")
    if fs.isdir(inside):
        here = [n for n in fs.find(inside) if re.search(layout.files, n[len(inside) + 1 :])]
        names = of_split(sorted(here), len(inside) + 1, split) if here else []
        refuse_links_out(uri, names)
    elif any(mark in path for mark in "*?["):
        names = sorted(fs.glob(inside))
    else:
        names = [inside] if fs.exists(inside) else []
    if not names and not fs.exists(inside):
        raise InputError(f"seeds path {path!r} does not exist: give where its {name!r} files are")
    if not names:
        raise InputError(
            f"seeds path {path!r}: no files in the layout {name!r} there: expected names that"
            f" match {layout.files!r}, see docs/seeds.md"
        )
    return [_seed_file(full_name(fs, uri, found), split) for found in names]


def watched(layout: Layout, files: Sequence[SeedFile]) -> list[str]:
    """Paths of all files that decide what the seeds say, sorted."""
    found = {file.uri for file in files}
    for folder in sorted({file.folder for file in files}):
        fs, inside = resolve(folder)
        inside = inside.rstrip("/")
        for at in (inside, posixpath.dirname(inside)):
            for name in fs.ls(at or "/", detail=False):
                if re.search(layout.also, posixpath.basename(name.rstrip("/"))):
                    found.add(full_name(fs, folder, name))
    return sorted(found)


def image_folder(layout: Layout, file: SeedFile) -> str:
    """Where relative image paths start when the source has no `root`."""
    if layout.images == ".":
        return file.folder
    if is_url(file.folder):
        scheme, _, rest = file.folder.partition("://")
        return f"{scheme}://{posixpath.normpath(posixpath.join(rest, layout.images))}"
    return posixpath.normpath(posixpath.join(file.folder, layout.images))


def _seed_file(uri: str, split: str) -> SeedFile:
    kind, compression = ("json", "gzip") if uri.endswith(".gz") else ("json", None)
    return SeedFile(uri, kind, compression, split)  # type: ignore[arg-type]


def read_text(file: SeedFile) -> str:
    """A whole text file. Raises `InputError`."""
    try:
        with open_binary(file) as handle:
            return handle.read().decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{file.uri}: not readable as UTF-8 text: {error}") from None


def rows(
    file: SeedFile, convert: Callable[[str, Mapping[str, Any]], Any], key: str | None = None
) -> Iterator[Row]:
    """The entries of a JSON file as rows; `convert` makes fields of (key, entry).

    None from `convert` leaves the entry out (it belongs to another split), a list gives several
    rows; its `RowError` is that entry's.
    """
    number = 0
    for at, name, value in entries(read_text(file), file.uri, key):
        if not isinstance(value, Mapping):
            number += 1
            yield Row(number, None, RowError("not_an_object", f"entry {at}: {quote(value)}"))
            continue
        try:
            made = convert(name, value)
        except RowError as error:
            number += 1
            yield Row(number, None, error)
            continue
        if made is None:
            continue
        for fields in made if isinstance(made, list) else [made]:
            number += 1
            yield fields._replace(number=number) if isinstance(fields, Row) else Row(number, fields)


def listed(
    convert: Callable[[str, Mapping[str, Any]], Any], key: str | None = None
) -> Callable[[Sequence[SeedFile]], Found]:
    """A reader of JSON files with an entry for each question (see `rows`)."""
    return each(lambda file: rows(file, convert, key))


def need(value: Mapping[str, Any], name: str, kinds: tuple[type, ...] = (str, int)) -> Any:
    """A field that a row cannot do without. Raises `RowError`."""
    found = value.get(name)
    if found is None or found == "":
        raise RowError(f"missing_{snake(name)}", f"no field {name!r} in {quote(dict(value))}")
    if not isinstance(found, kinds) or isinstance(found, bool):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise RowError(f"bad_{snake(name)}", f"field {name!r} must be {names}, got {quote(found)}")
    return found


def snake(name: str) -> str:
    """`imageId` as `image_id`: reasons are snake_case words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def one_object(file: SeedFile) -> Mapping[str, Any]:
    """A file that is one small JSON object. Raises `RowError` when it is none."""
    try:
        found = DECODER.decode(read_text(file).strip())
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise RowError("invalid_json", f"not valid JSON: {error}") from None
    except InputError as error:
        raise RowError("unreadable_file", str(error)) from None
    if not isinstance(found, Mapping):
        raise RowError("not_an_object", f"expected an object, got {quote(found)}")
    return found


def single(convert: Callable[[SeedFile, Mapping[str, Any]], Mapping[str, Any]]) -> Any:
    """A reader of data sets that have a folder and a JSON file for each question."""
    return each(lambda file: iter([attempt(1, lambda: convert(file, one_object(file)))]))


def attempt(number: int, fields: Callable[[], Mapping[str, Any]]) -> Row:
    """A row of these fields; the `RowError` that making them raises is its error."""
    try:
        return Row(number, fields())
    except RowError as error:
        return Row(number, None, error)
