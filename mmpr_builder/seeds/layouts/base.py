"""What the layouts share: finding their files, and entries of JSON as rows."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mmpr_builder.errors import InputError, RowError
from mmpr_builder.io.seed_files import (
    SeedFile,
    full_name,
    of_split,
    open_binary,
    refuse_links_out,
)
from mmpr_builder.io.stores import absolute, resolve
from mmpr_builder.seeds.formats import DECODER, Row, entries, quote

Entry = Mapping[str, Any]


class Layout(NamedTuple):
    """How one kind of public data set lies on disk."""

    files: str
    """Regular expression: which files of a folder hold questions, by their path inside it."""
    fields: Callable[[SeedFile, str, Entry], Entry | Sequence[Entry] | None]
    """Makes fields of (file, key, entry): those of a row, or of several, or none (it belongs to
    another split). Raises `RowError`."""
    entries: Callable[[SeedFile], Iterable[tuple[str, Any]]]
    """Key or "", and entry, of all in a file. Raises `InputError`, and `RowError` where the file is
    one row."""
    images: str = "."
    """Where images lie without a `root`, from the folder of the questions."""
    also: str = r"\Z\A"
    """Which further files it reads: a change of them changes the seeds, too."""


def read(layout: Layout, file: SeedFile) -> Iterator[Row]:
    """The rows of a file. Raises `InputError`."""
    number = 0
    try:
        for at, (key, entry) in enumerate(layout.entries(file), start=1):
            try:
                if not isinstance(entry, Mapping):
                    raise RowError("not_an_object", f"entry {key or at}: {quote(entry)}")
                made = layout.fields(file, key, entry)
            except RowError as error:
                number += 1
                yield Row(number, None, error)
                continue
            for fields in [made] if isinstance(made, Mapping) else made or ():
                number += 1
                yield Row(number, fields)
    except RowError as error:
        yield Row(number + 1, None, error)


def files_of(layout: Layout, name: str, path: str, split: str) -> list[SeedFile]:
    """The files with questions that `path` names, those of `split` where names tell.

    Raises `InputError` when there are none.
    """
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
    return [
        SeedFile(full_name(fs, uri, name), "json", "gzip" if name.endswith(".gz") else None, split)
        for name in names
    ]


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
    scheme, mark, folder = file.folder.rpartition("://")
    return f"{scheme}{mark}{posixpath.normpath(posixpath.join(folder, layout.images))}"


def read_text(file: SeedFile) -> str:
    """A whole text file. Raises `InputError`."""
    try:
        with open_binary(file) as handle:
            return handle.read().decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{file.uri}: not readable as UTF-8 text: {error}") from None


def members(key: str | None = None) -> Callable[[SeedFile], Iterator[tuple[str, Any]]]:
    """The members of a JSON array or object, or of the one under `key`."""
    return lambda file: entries(read_text(file), file.uri, key)


def need(value: Mapping[str, Any], name: str, kinds: tuple[type, ...] = (str, int)) -> Any:
    """A field that a row cannot do without. Raises `RowError`."""
    found = value.get(name)
    word = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()  # Reasons are snake_case.
    if found is None or found == "":
        raise RowError(f"missing_{word}", f"no field {name!r} in {quote(dict(value))}")
    if not isinstance(found, kinds) or isinstance(found, bool):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise RowError(f"bad_{word}", f"field {name!r} must be {names}, got {quote(found)}")
    return found


def one_object(file: SeedFile) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A file that is one small JSON object. Raises `RowError` when it is none."""
    try:
        found = DECODER.decode(read_text(file).strip())
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise RowError("invalid_json", f"not valid JSON: {error}") from None
    except InputError as error:
        raise RowError("unreadable_file", str(error)) from None
    if not isinstance(found, Mapping):
        raise RowError("not_an_object", f"expected an object, got {quote(found)}")
    yield "", found
