r"""Rows out of files: JSON, CSV, Parquet, data sets and shards of webdataset, streamed.

    {"image": "1.png", "question": "What is the total?", "answer": 31.00}\n   -> Row(118, {...})
    {"image": "1.png", "question": "What is\n                                 -> Row(119, error)

Every row comes out once, as a table of fields or as an error. Only a file that is broken as a whole
(a damaged archive, a Parquet file without questions) raises. Images embedded in tables come out as
`ImageRef`s; their bytes stay where they are.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import chain
from typing import IO, Any, NamedTuple

from mmpr_builder.errors import InputError, RowError
from mmpr_builder.io.embedded import dataset_uri, open_dataset, plain
from mmpr_builder.io.members import DAMAGED, tar_members
from mmpr_builder.io.seed_files import SeedFile, open_binary
from mmpr_builder.io.tables import ParquetFile
from mmpr_builder.records import ImageRef
from mmpr_builder.seeds.roles import ALIASES, TURNS, Mapped, find, worth_reading

MAX_LINE_BYTES = 64 * 2**20
"""Longest JSON line. The longest that made sense held a few images as base64."""

MAX_JSON_BYTES = 2 * 2**30
"""Longest JSON array or object; VQAv2's annotations have 360 MB."""

_ABOUT = _TRUTH, _ASKED = "reward_model", "extra_info"
"""Columns of verl's form, that of MMPR-Tiny; without `extra_info` the question is the prompt."""

_LISTS = {"data", "rows", "examples", "samples", "items"}
"""Keys under which one JSON object keeps the list of its rows."""


class Row(NamedTuple):
    """One row of input. `number` is the line or row, from 1; either `fields` or `error` is set."""

    number: int
    fields: Mapping[str, Any] | None
    error: RowError | None = None


def read_rows(file: SeedFile, mapped: Mapped = ()) -> Iterator[Row]:
    """All rows of one file or data set; `mapped` says which columns are read as what.

    Raises `InputError` when it is broken as a whole.
    """
    if file.format in ("jsonl", "json"):
        return _json(file)
    if file.format in ("csv", "tsv"):
        return _separated(file, mapped)
    if file.format == "tar":
        return _tar(file)
    return (_parquet if file.format == "parquet" else _dataset)(file, mapped)


def _json(file: SeedFile) -> Iterator[Row]:
    """JSON lines, an array of rows or an object of them, whatever the name says."""
    with open_binary(file) as handle:
        try:
            start = handle.peek(1)[:4096].removeprefix(codecs.BOM_UTF8).lstrip()  # type: ignore[attr-defined]
        except DAMAGED as error:
            raise InputError(f"{file.uri}: unreadable after line 0: {error}") from None
        line, newline, _ = start.partition(b"\n")
        opens = newline and line.rstrip().endswith((b"{", b"[", b","))
        if start[:1] != b"[" and not opens:
            yield from _json_lines(file, handle)
            return
        try:
            data = handle.read(MAX_JSON_BYTES + 1)
            text = data.decode("utf-8-sig").strip()
        except DAMAGED as error:
            raise InputError(f"{file.uri}: not valid JSON: {error}") from None
    if len(data) > MAX_JSON_BYTES:
        raise InputError(f"{file.uri}: over {MAX_JSON_BYTES >> 30} GiB of JSON: write JSON lines")
    number, single = 0, dict[str, Any]()
    for _, key, value in entries(text, file.uri):
        if not (text[0] == "[" or isinstance(value, dict) or key in _LISTS):
            single[key] = value
            continue
        rows = value if isinstance(value, list) and key in _LISTS else [value]
        for fields in rows:
            number += 1
            yield _row_of(number, _under(key, fields) if key not in _LISTS else fields)
    if single and not number:
        yield _row_of(1, single)


def _under(key: str, fields: Any) -> Any:
    """An entry of an object by id."""
    is_named = not key or not isinstance(fields, dict) or find(fields, "id")[1] is not None
    return fields if is_named else {"id": key, **fields}


def _json_lines(file: SeedFile, handle: IO[bytes]) -> Iterator[Row]:
    number = 0
    try:
        while line := handle.readline(MAX_LINE_BYTES + 1):
            number += 1
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
                yield Row(number, None, _skip_long_line(handle, line))
            elif not line.isspace() and line:
                yield from _json_rows(number, line)
    # A damaged archive: the rest is lost, and must not be lost in silence.
    except DAMAGED as error:
        raise InputError(f"{file.uri}: unreadable after line {number}: {error}") from None


def _skip_long_line(handle: IO[bytes], line: bytes) -> RowError:
    size = len(line)
    while (more := handle.readline(MAX_LINE_BYTES)) and not more.endswith(b"\n"):
        size += len(more)
    size += len(more)
    return RowError("line_too_long", f"{size} bytes, over {MAX_LINE_BYTES // 2**20} MiB")


def _json_rows(number: int, line: bytes) -> Iterator[Row]:
    try:
        fields = DECODER.decode(line.decode("utf-8").strip())
    except UnicodeDecodeError as error:
        shown = line[max(0, error.start - 20) : error.start + 20]
        detail = f"byte {error.start} of the line is not UTF-8: {shown!r}"
        yield Row(number, None, RowError("invalid_utf8", detail))
        return
    except (ValueError, RecursionError, ArithmeticError) as error:
        detail = f"not valid JSON ({error}): {quote(line[:120].decode('utf-8', 'replace'))}"
        yield Row(number, None, RowError("invalid_json", detail))
        return
    if isinstance(fields, dict) and fields and all(isinstance(v, dict) for v in fields.values()):
        yield from (_row_of(number, _under(key, value)) for key, value in fields.items())
        return
    if isinstance(fields, dict) and fields.keys() & _LISTS and not find(fields, "question")[1]:
        rows = [fields[key] for key in _LISTS if isinstance(fields.get(key), list)]
        if len(rows) == 1:
            yield from (_row_of(number, value) for value in rows[0])
            return
    yield _row_of(number, fields)


def _row_of(number: int, fields: object) -> Row:
    if isinstance(fields, dict):
        return Row(number, fields)
    detail = f"a row must be an object with a question, got {quote(fields)}"
    return Row(number, None, RowError("not_an_object", detail))


def _separated(file: SeedFile, mapped: Mapped) -> Iterator[Row]:
    """CSV or TSV with names in the first line, as spreadsheets, pandas and VLMEvalKit write it."""
    csv.field_size_limit(MAX_LINE_BYTES)  # Pictures stand in cells as base64.
    number = 0
    with open_binary(file) as handle:
        try:
            lines = _text_lines(handle, file.uri)
            first = next(lines, "")
            between = "\t" if file.format == "tsv" else max(",;\t", key=first.count)
            reader = csv.reader(chain([first], lines), delimiter=between)
            names = [name.strip() for name in next(reader, [])]
            if names:
                check_columns(names, file.uri, mapped)
            for cells in filter(None, reader):
                number += 1
                if len(cells) > len(names):
                    detail = f"{len(cells)} cells under {len(names)} names: {quote(cells)}"
                    yield Row(number, None, RowError("too_many_cells", detail))
                    continue
                fields = dict(zip(names, cells, strict=False))
                if fields.get("image", "").isdecimal() and "index" in fields:
                    detail = "its `image` is the number of another row: put the picture there"
                    yield Row(number, fields, RowError("image_of_another_row", detail))
                    continue
                yield Row(number, fields)
        except (*DAMAGED, csv.Error) as error:
            raise InputError(f"{file.uri}: unreadable after row {number}: {error}") from None


def _text_lines(handle: IO[bytes], uri: str) -> Iterator[str]:
    """Lines of bounded length. Bytes that are not UTF-8 become the error of the field they are in
    (`fields.clean`)."""
    start = codecs.BOM_UTF8
    while line := handle.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise InputError(f"{uri}: a line has over {MAX_LINE_BYTES // 2**20} MiB")
        yield line.removeprefix(start).decode("utf-8", "surrogateescape")
        start = b""


def _tar(file: SeedFile) -> Iterator[Row]:
    """A shard of webdataset: members whose names differ after their first dot are one row.

    0001.json {"question": …}, 0001.jpg    0002.txt (the question), 0002.answer.txt, 0002.png
    """
    number, last, fields = 0, None, dict[str, Any]()
    for member, archive in tar_members(file.uri):
        folder, _, name = member.name.rpartition("/")
        stem, _, ending = name.partition(".")
        if ending.lower().partition(".")[0] in ("jsonl", "ndjson", "csv", "tsv", "parquet"):
            raise InputError(f"{file.uri}: holds {member.name!r}: unpack it, or make a .zip of it")
        if (folder, stem) != last and fields:
            number += 1
            yield _row_of(number, fields)
            fields = {}
        last = (folder, stem)
        if stem and not name.startswith("."):
            fields |= _member_fields(file.uri, member, archive, ending.lower(), fields)
    if fields:
        yield _row_of(number + 1, fields)


def _member_fields(
    uri: str, member: Any, archive: Any, ending: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    kind = ending.rpartition(".")[2]
    if kind in _PICTURES:
        return {"images": [*fields.get("images", ()), ImageRef(uri, member.offset, member.name)]}
    if kind in _MOVING:
        return {"video": member.name}
    if kind not in ("json", "txt", "cls", "text", "question", "answer"):
        return {}
    if member.size > MAX_LINE_BYTES:
        raise InputError(f"{uri}: {member.name!r} has over {MAX_LINE_BYTES // 2**20} MiB")
    text = archive.extractfile(member).read().decode("utf-8", "surrogateescape")
    if kind != "json":
        name = ending.partition(".")[0]
        return {{"txt": "text", "cls": "label"}.get(name, name): text}
    try:
        found = DECODER.decode(text)
    except (ValueError, RecursionError, ArithmeticError):
        found = None
    return found if isinstance(found, dict) else {"json": text}


_MOVING = ("mp4", "avi", "webm", "mkv", "mov", "wav", "mp3", "flac")
_PICTURES = ("png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "img")


def check_columns(names: Sequence[str], uri: str, mapped: Mapped = ()) -> None:
    """Raise `InputError` if none of the columns can hold a question, one that the setting `columns`
    names is not there, or two that are read have one name."""
    wanted = [name for _, own in mapped for name in own]
    gone = [name for name in wanted if name not in names]
    if gone:
        raise InputError(
            f"{uri}: no column {gone[0]!r}, which seeds.N.columns names; there are"
            f" {', '.join(names)[:400]}"
        )
    known = (*ALIASES["question"], *TURNS)
    if "question" not in dict(mapped) and not any(n in known or n.lower() in known for n in names):
        raise InputError(
            f"{uri}: no column holds a question: expected one of {', '.join(known)}, found"
            f" {', '.join(names)[:400]}: set seeds.N.columns={{question: …}}"
        )
    _once_each([name for name in names if name in (*wanted, *known) or _is_known(name)], uri)


def _is_known(name: str) -> bool:
    return any(name in aliases for aliases in ALIASES.values())


def _once_each(names: list[str], uri: str) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{uri}: several columns are named {twice!r}: rename all but one")


def _parquet(file: SeedFile, mapped: Mapped) -> Iterator[Row]:
    with open_parquet(file.uri) as table:
        columns, embedded = _columns(table.schema, file.uri, mapped)
        number = 0
        for group in range(table.metadata.num_row_groups):
            leaves, partial = _leaves(table.metadata, group, columns, embedded)
            size = 1024 if len(partial) == len(embedded) else 32
            batches = table.batches(size, leaves, group)
            for row in _rows_of(batches, embedded, file.shown, partial, number):
                number = row.number
                yield row


def _columns(schema: Any, uri: str, mapped: Mapped) -> tuple[list[str], list[str]]:
    """The columns to read, and those of them with embedded pictures."""
    check_columns(schema.names, uri, mapped)
    pictures = [field.name for field in schema if _is_embedded(field.type)]
    columns = worth_reading(schema.names, pictures, mapped)
    columns += [name for name in _ABOUT if _TRUTH in schema.names and name in schema.names]
    return columns, [name for name in columns if name in pictures]


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
        for batch in map(_shortest, batches):
            for fields in _plain_rows(batch):
                number += 1
                if isinstance(fields, RowError):
                    yield Row(number, None, fields)
                    continue
                for name in embedded:
                    fields[name] = _refs(fields[name], uri, number - 1, name, name in with_bytes)
                yield Row(number, _asked(fields) if _TRUTH in fields else fields)
    except (OSError, ValueError) as error:  # Damaged pages raise the one or the other.
        raise InputError(f"{uri}: unreadable after row {number}: {error}") from None


def _asked(fields: dict[str, Any]) -> dict[str, Any]:
    """A row in verl's form with its question, truth and options as fields of their own."""
    about, prompt = fields.pop(_ASKED, None) or {}, fields.pop("prompt", None)
    truth = (fields.pop(_TRUTH) or {}).get("ground_truth")
    if isinstance(prompt, list):  # A system turn may come before the question.
        prompt = prompt[-1].get("content") if prompt else None
    own = {name: about[name] for name in ("id", "choices") if about.get(name)}
    answer = about.get("answers") or truth
    return {**fields, **own, "question": about.get("question") or prompt, "answer": answer}


def _shortest(batch: Any) -> Any:
    """The batch with 32-bit numbers as they were written: 1.1, not 1.100000023841858."""
    import pyarrow as pa

    for at, column in enumerate(batch.columns):
        if column.type in (pa.float32(), pa.float16()):
            text = column.cast(pa.float32()).cast(pa.string())
            batch = batch.set_column(at, batch.schema.names[at], text.cast(pa.float64()))
    return batch


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


def _dataset(file: SeedFile, mapped: Mapped) -> Iterator[Row]:
    dataset = load(file)
    columns, embedded = _columns(dataset.features.arrow_schema, file.uri, mapped)
    dataset = dataset.select_columns(columns)
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
