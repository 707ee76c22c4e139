r"""Rows out of files: JSON lines, JSON arrays, Parquet and data sets, streamed.

    {"image": "1.png", "question": "What is the total?", "answer": 31.00}\n   -> Row(118, {...})
    {"image": "1.png", "question": "What is\n                                 -> Row(119, error)

Every row comes out once, as a table of fields or as an error. Only a file that is broken as a whole
(a damaged archive, a Parquet file without questions) raises. Images embedded in tables come out as
`ImageRef`s; their bytes stay where they are.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import IO, Any, NamedTuple

from mmpr_builder.errors import InputError, RowError
from mmpr_builder.io.embedded import dataset_uri, open_dataset, plain
from mmpr_builder.io.seed_files import SeedFile, open_binary
from mmpr_builder.io.tables import ParquetFile
from mmpr_builder.records import ImageRef

MAX_LINE_BYTES = 64 * 2**20
"""Longest JSON line. The longest that made sense held a few images as base64."""

#: Names of a field in data sets, ours first: the first one that is there and not null counts.
ALIASES: dict[str, tuple[str, ...]] = {
    "id": ("id", "question_id", "item_id", "uid", "qid"),
    "question": ("question", "query", "prompt", "problem", "text"),
    "image": ("image", "images", "image_path", "file_name"),
    "answer": ("answer", "answers", "gt", "gt_answer", "ground_truth"),
    "choices": ("choices", "options"),
    "source": ("source", "data_source"),
    "context": ("context", "hint"),
}
TURNS = ("conversations", "texts")
"""Columns that hold conversations, for the layout that reads them."""


class Row(NamedTuple):
    """One row of input. `number` is the line or row, from 1; either `fields` or `error` is set."""

    number: int
    fields: Mapping[str, Any] | None
    error: RowError | None = None


def read_rows(file: SeedFile, *, turns: bool = False) -> Iterator[Row]:
    """All rows of one file or data set, of conversations with `turns`.

    Raises `InputError` when it is broken as a whole.
    """
    if file.format in ("jsonl", "json"):
        return _json_lines(file) if file.format == "jsonl" else _json(file)
    return _parquet(file, turns) if file.format == "parquet" else _dataset(file, turns)


def _json_lines(file: SeedFile) -> Iterator[Row]:
    with open_binary(file) as handle:
        number = 0
        try:
            while line := handle.readline(MAX_LINE_BYTES + 1):
                number += 1
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
                    yield Row(number, None, _skip_long_line(handle, line))
                elif not line.isspace() and line:
                    yield _json_row(number, line)
        # A damaged archive: the rest is lost, and must not be lost in silence.
        except (OSError, EOFError) as error:
            raise InputError(f"{file.uri}: unreadable after line {number}: {error}") from None


def _skip_long_line(handle: IO[bytes], line: bytes) -> RowError:
    size = len(line)
    while (more := handle.readline(MAX_LINE_BYTES)) and not more.endswith(b"\n"):
        size += len(more)
    size += len(more)
    return RowError("line_too_long", f"{size} bytes, over {MAX_LINE_BYTES // 2**20} MiB")


def _json_row(number: int, line: bytes) -> Row:
    try:
        fields = DECODER.decode(line.decode("utf-8").strip())
    except UnicodeDecodeError as error:
        shown = line[max(0, error.start - 20) : error.start + 20]
        detail = f"byte {error.start} of the line is not UTF-8: {shown!r}"
        return Row(number, None, RowError("invalid_utf8", detail))
    except (ValueError, RecursionError, ArithmeticError) as error:
        detail = f"not valid JSON ({error}): {quote(line[:120].decode('utf-8', 'replace'))}"
        return Row(number, None, RowError("invalid_json", detail))
    return _row_of(number, fields)


def _row_of(number: int, fields: object) -> Row:
    if isinstance(fields, dict):
        return Row(number, fields)
    detail = f"a row must be an object with a question, got {quote(fields)}"
    return Row(number, None, RowError("not_an_object", detail))


def _json(file: SeedFile) -> Iterator[Row]:
    """A JSON array of rows, or JSON lines under the name `.json`."""
    with open_binary(file) as handle:
        first = handle.readline(MAX_LINE_BYTES).removeprefix(codecs.BOM_UTF8).strip()
        if first.startswith(b"{"):
            try:
                json.loads(first)
            except (ValueError, RecursionError):
                raise InputError(
                    f"{file.uri}: begins like one JSON object over several lines; expected an array"
                    " of rows or one row per line"
                ) from None
            yield from _json_lines(file)
            return
        try:
            text = (first + b"\n" + handle.read()).decode("utf-8")
        except (ValueError, OSError, EOFError) as error:
            raise InputError(f"{file.uri}: not valid JSON: {error}") from None
    if not text.startswith("["):
        raise InputError(f"{file.uri}: expected an array of rows, got {quote(text.strip())}")
    for number, _, fields in entries(text, file.uri):
        yield _row_of(number, fields)


def check_columns(names: list[str], uri: str, *, turns: bool = False) -> list[str]:
    """The columns worth reading. Raises `InputError` if none of them can hold a question."""
    if turns and set(names) & set(TURNS):
        wanted = (*TURNS, *ALIASES["id"], *ALIASES["image"])
        return _once_each([name for name in names if name in wanted], uri)
    if not turns and set(names) & set(TURNS) and not set(names) & set(ALIASES["question"]):
        raise InputError(
            f"{uri}: its rows are conversations: set the source's `format` to conversations"
        )
    if turns or not set(names) & set(ALIASES["question"]):
        expected = ", ".join(TURNS if turns else ALIASES["question"])
        raise InputError(
            f"{uri}: no column holds a question: expected one of {expected},"
            f" found {', '.join(names)}; rename it"
        )
    known = {alias for aliases in ALIASES.values() for alias in aliases}
    return _once_each([name for name in names if name in known], uri)


def _once_each(names: list[str], uri: str) -> list[str]:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{uri}: several columns are named {twice!r}: rename all but one")
    return names


def _parquet(file: SeedFile, turns: bool) -> Iterator[Row]:
    with open_parquet(file.uri) as table:
        columns = check_columns(table.schema.names, file.uri, turns=turns)
        embedded = [name for name in columns if _is_embedded(table.schema.field(name).type)]
        number = 0
        for group in range(table.metadata.num_row_groups):
            leaves, partial = _leaves(table.metadata, group, columns, embedded)
            size = 1024 if len(partial) == len(embedded) else 32
            batches = table.batches(size, leaves, group)
            for row in _rows_of(batches, embedded, file.shown, partial, number):
                number = row.number
                yield row


def open_parquet(uri: str) -> ParquetFile:
    """A Parquet file of seeds, read in small pieces. Raises `InputError` if it is none."""
    return ParquetFile(uri, buffer_bytes=2**20, fix="give another file of seeds")


def _rows_of(
    batches: Iterable[Any],
    embedded: Sequence[str],
    uri: str,
    with_bytes: Container[str],
    number: int,
) -> Iterator[Row]:
    """Rows of Arrow batches, numbered on, with embedded images as references into `uri`."""
    try:
        for batch in batches:
            for fields in _plain_rows(batch):
                number += 1
                if isinstance(fields, RowError):
                    yield Row(number, None, fields)
                    continue
                for name in embedded:
                    fields[name] = _refs(fields[name], uri, number - 1, name, name in with_bytes)
                yield Row(number, fields)
    except (OSError, ValueError) as error:  # Damaged pages raise the one or the other.
        raise InputError(f"{uri}: unreadable after row {number}: {error}") from None


def _plain_rows(batch: Any) -> Iterator[dict[str, Any] | RowError]:
    """The rows of a batch as Python values; a value that Python cannot hold (text that is not
    UTF-8, a day in the year 20,000) is the error of its row."""
    try:
        yield from batch.to_pylist()
        return
    except Exception:  # noqa: BLE001  Each type raises its own.
        pass
    for at in range(batch.num_rows):
        try:
            yield batch.slice(at, 1).to_pylist()[0]
        except Exception as error:  # noqa: BLE001
            yield RowError("unreadable_row", f"a cell cannot be read ({type(error).__name__})")


def _is_embedded(kind: Any) -> bool:
    """Bytes, a struct with bytes (the `datasets.Image` feature), or a list of these."""
    import pyarrow.types as pt

    if pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind):
        return _is_embedded(kind.value_type)
    if pt.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return bool(pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind))


def _leaves(
    metadata: Any, group: int, columns: list[str], embedded: list[str]
) -> tuple[list[str], set[str]]:
    """Parquet leaves to read, and the image columns whose `path` alone is read: where the footer
    counts no missing bytes, every row has its image."""
    chunks = metadata.row_group(group)
    paths = [metadata.schema.column(i).path for i in range(chunks.num_columns)]
    leaves: list[str] = []
    partial: set[str] = set()
    for name in columns:
        own = [path for path in paths if path.split(".", 1)[0] == name]
        bytes_leaf = next((path for path in own if path.endswith(".bytes")), None)
        path_leaf = next((path for path in own if path.endswith(".path")), None)
        if name in embedded and bytes_leaf is not None and path_leaf is not None:
            counts = chunks.column(paths.index(bytes_leaf)).statistics
            if counts is not None and counts.has_null_count and not counts.null_count:
                leaves.append(path_leaf)
                partial.add(name)
                continue
        leaves += own
    return leaves, partial


def _refs(value: Any, uri: str, row: int, column: str, bytes_known: bool) -> Any:
    """An embedded image as a reference, a mere path as that path, none as None."""

    def one(item: Any, index: int | None) -> Any:
        if isinstance(item, dict):
            if bytes_known or item.get("bytes"):
                return ImageRef(uri, row, column, index)
            return item.get("path")
        return ImageRef(uri, row, column, index) if item is not None else None

    if isinstance(value, list):
        return [one(item, i) for i, item in enumerate(value)]
    return one(value, None)


def _dataset(file: SeedFile, turns: bool) -> Iterator[Row]:
    dataset = load(file)
    columns = check_columns(dataset.column_names, file.uri, turns=turns)
    dataset = dataset.select_columns(columns)
    kinds = dataset.features.arrow_schema
    embedded = [name for name in columns if _is_embedded(kinds.field(name).type)]
    # Images of a folder stay files; those of a data set are found by row, on every machine.
    uri = dataset_uri(file.shown, file.split)
    yield from _rows_of(dataset.iter(batch_size=32), embedded, uri, (), 0)


def load(file: SeedFile) -> Any:
    """The `datasets.Dataset` of a folder or hub id. Raises `InputError`."""
    if file.format != "imagefolder":
        return open_dataset(file.uri, file.split)
    import datasets

    try:
        dataset = datasets.load_dataset("imagefolder", data_dir=file.uri, split=file.split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"{file.uri}: not a readable image folder: {error}") from None
    return plain(dataset)


_BLANK = re.compile(r"\s*")

# Numbers keep their digits: a reference answer of 31.00 is not one of 31.0.
DECODER = json.JSONDecoder(parse_float=Decimal)


def quote(value: object) -> str:
    """A value for a message, short whatever it is."""
    text = value if isinstance(value, str) else repr(value)
    text = text if len(text) <= 120 else text[:117] + "..."
    return repr(text) if isinstance(value, str) else text


def entries(text: str, uri: str, key: str | None = None) -> Iterator[tuple[int, str, Any]]:
    """(number from 1, key or "", value) of a large JSON array or object, or of the one under `key`,
    decoded one at a time: VQAv2's annotations are 360 MB of text, and several times as much as
    Python objects. Raises `InputError` for text that is no JSON, or has no such key."""
    try:
        start = _skip(text, 0)
        if key is not None:
            start = _value_of(text, start, key, uri)
        members = _walk(text, start, to_end=key is None)
        for number, (name, value) in enumerate(members, start=1):
            yield number, name, value
    except (ValueError, IndexError, RecursionError, ArithmeticError) as error:
        raise InputError(f"{uri}: not valid JSON: {error}") from None


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _value_of(text: str, at: int, key: str, uri: str) -> int:
    """Where the value of `key` begins in the object at `at`."""
    names = []
    if text[at] == "{":
        at = _skip(text, at + 1)
        while text[at] != "}":
            name, at = DECODER.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)
            if name == key:
                return at
            names.append(name)
            at = _skip(text, DECODER.raw_decode(text, at)[1])
            at = _skip(text, at + 1) if text[at] == "," else at
    raise InputError(f"{uri}: expected an object with {key!r}, found {quote(names)}")


def _walk(text: str, at: int, *, to_end: bool) -> Iterator[tuple[str, Any]]:
    """The members of the array or object at `at`; with `to_end` nothing may follow it."""
    opening, name = text[at], ""
    if opening not in "[{":
        raise ValueError(
            f"expected an array or object at character {at}, got {text[at : at + 20]!r}"
        )
    closing = "]" if opening == "[" else "}"
    at = _skip(text, at + 1)
    while text[at] != closing:
        if opening == "{":
            name, at = DECODER.raw_decode(text, at)
            at = _skip(text, at)
            if text[at] != ":":
                raise json.JSONDecodeError("expected ':'", text, at)
            at = _skip(text, at + 1)
        value, at = DECODER.raw_decode(text, at)
        yield name, value
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
        elif text[at] != closing:
            raise json.JSONDecodeError(f"expected ',' or {closing!r}", text, at)
    if to_end and _skip(text, at + 1) != len(text):
        raise json.JSONDecodeError("extra data", text, at + 1)
