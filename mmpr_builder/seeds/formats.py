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
from contextlib import closing
from decimal import Decimal
from itertools import chain, groupby
from typing import IO, Any, NamedTuple

from mmpr_builder.errors import InputError, RowError
from mmpr_builder.io.embedded import dataset_uri, open_dataset, plain
from mmpr_builder.io.keyed import Keyed
from mmpr_builder.io.members import DAMAGED, tar_members
from mmpr_builder.io.seed_files import SeedFile, open_binary
from mmpr_builder.io.tables import ParquetFile, storable
from mmpr_builder.records import ImageRef
from mmpr_builder.seeds.roles import ALIASES, TURNS, Mapped, find, worth_reading

MAX_LINE_BYTES = 64 * 2**20
"""Longest JSON line. The longest that made sense held a few images as base64."""

MAX_JSON_BYTES = 2 * 2**30
"""Longest JSON array or object; VQAv2's annotations have 360 MB."""

_ABOUT = _TRUTH, _ASKED = "reward_model", "extra_info"
"""Columns of verl's form, that of MMPR-Tiny; without `extra_info` the question is the prompt."""

_LONGEST_INDEX = 64  # Longer cells are pictures: VLMEvalKit's own limit.

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
    for key, value in entries(text, file.uri):
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
            elif line.strip():
                try:
                    found = _decoded(line)
                except RowError as error:
                    yield Row(number, None, error)
                    continue
                for fields in _inside(found):
                    yield _row_of(number, fields)
    # A damaged archive: the rest is lost, and must not be lost in silence.
    except DAMAGED as error:
        raise InputError(f"{file.uri}: unreadable after line {number}: {error}") from None


def _skip_long_line(handle: IO[bytes], line: bytes) -> RowError:
    size = len(line)
    while (more := handle.readline(MAX_LINE_BYTES)) and not more.endswith(b"\n"):
        size += len(more)
    size += len(more)
    return RowError("line_too_long", f"{size} bytes, over {MAX_LINE_BYTES // 2**20} MiB")


def _decoded(line: bytes) -> Any:
    try:
        return DECODER.decode(line.decode("utf-8").strip())
    except UnicodeDecodeError as error:
        shown = line[max(0, error.start - 20) : error.start + 20]
        detail = f"byte {error.start} of the line is not UTF-8: {shown!r}"
        raise RowError("invalid_utf8", detail) from None
    except (ValueError, RecursionError, ArithmeticError) as error:
        detail = f"not valid JSON ({error}): {quote(line[:120].decode('utf-8', 'replace'))}"
        raise RowError("invalid_json", detail) from None


def _inside(found: Any) -> Sequence[Any]:
    """The rows of an object by id, or under a key of `_LISTS`; any other value is one row."""
    if not isinstance(found, dict) or "question" in found:
        return (found,)
    kinds = set(map(type, found.values()))
    if kinds == {dict}:
        return [_under(key, value) for key, value in found.items()]
    if list in kinds and not find(found, "question")[1]:
        rows: list[list[Any]] = [found[key] for key in _LISTS if isinstance(found.get(key), list)]
        if len(rows) == 1:
            return rows[0]
    return (found,)


def _row_of(number: int, fields: object) -> Row:
    if isinstance(fields, dict):
        return Row(number, fields)
    detail = f"a row must be an object with a question, got {quote(fields)}"
    return Row(number, None, RowError("not_an_object", detail))


def _separated(file: SeedFile, mapped: Mapped) -> Iterator[Row]:
    """CSV or TSV with names in the first line, as spreadsheets, pandas and VLMEvalKit write it."""
    csv.field_size_limit(MAX_LINE_BYTES)  # Pictures stand in cells as base64.
    number = 0
    with open_binary(file) as handle, closing(Keyed()) as held:
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
                error = _share_picture(fields, held) if "index" in fields else None
                yield Row(number, fields, error)
        except (*DAMAGED, csv.Error) as error:
            raise InputError(f"{file.uri}: unreadable after row {number}: {error}") from None


def _share_picture(fields: dict[str, str], held: Keyed) -> RowError | None:
    """VLMEvalKit's tables hold a picture once: `image` is base64, or the `index` of a row above
    that has it. Pictures wait in a temporary file."""
    index, image = storable(fields["index"].strip()), storable(fields.get("image", "").strip())
    if len(image) > _LONGEST_INDEX:
        held.add(index, image)
    elif image and (found := held.get(image)):
        fields["image"] = found
    elif image.isdecimal():
        detail = f"its picture is that of row {image!r}, which must stand above it and have one"
        return RowError("image_of_another_row", detail)
    return None


def _text_lines(handle: IO[bytes], uri: str) -> Iterator[str]:
    """Lines of bounded length. Bytes that are not UTF-8 become the error of the field they are in
    (`fields.clean`)."""
    start = codecs.BOM_UTF8
    while line := handle.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise InputError(f"{uri}: a line has over {MAX_LINE_BYTES // 2**20} MiB")
        if start and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError(f"{uri}: is UTF-16: save it as UTF-8")
        yield line.removeprefix(start).decode("utf-8", "surrogateescape")
        start = b""


def _tar(file: SeedFile) -> Iterator[Row]:
    """A shard of webdataset: members whose names differ after their first dot are one row.

    0001.json {"question": …}, 0001.jpg    0002.txt (the question), 0002.answer.txt, 0002.png
    """
    number = 0
    for _, found in groupby(tar_members(file.uri), lambda one: _stem(one[0].name)):
        fields: dict[str, Any] = {}
        for member, archive in found:
            fields |= _member_fields(file.uri, member, archive, fields)
        if fields:
            number += 1
            yield _row_of(number, fields)


def _stem(name: str) -> str:
    folder, _, name = name.rpartition("/")
    return f"{folder}/{name.partition('.')[0]}"


def _member_fields(
    uri: str, member: Any, archive: Any, fields: Mapping[str, Any]
) -> dict[str, Any]:
    stem, _, ending = member.name.rpartition("/")[2].partition(".")
    first, kind = ending.lower().partition(".")[0], ending.lower().rpartition(".")[2]
    if first in ("jsonl", "ndjson", "csv", "tsv", "parquet"):
        raise InputError(f"{uri}: holds {member.name!r}: unpack it, or make a .zip of it")
    if stem and kind in _PICTURES:
        return {"images": [*fields.get("images", ()), ImageRef(uri, member.offset, member.name)]}
    if stem and kind in _MOVING:
        return {"video": member.name}
    if not stem or kind not in ("json", "txt", "cls", "text", "question", "answer"):
        return {}
    if member.size > MAX_LINE_BYTES:
        raise InputError(f"{uri}: {member.name!r} has over {MAX_LINE_BYTES // 2**20} MiB")
    text = archive.extractfile(member).read().decode("utf-8", "surrogateescape")
    if kind != "json":
        return {{"txt": "text", "cls": "label"}.get(first, first): text}
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
            f" {', '.join(names)[:400] or 'none'}: set seeds.N.columns={{question: …}}"
        )
    is_read = {*wanted, *known}.union(*ALIASES.values())
    twice = next((name for name in names if name in is_read and names.count(name) > 1), None)
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
    found = {metadata.schema.column(i).path: chunks.column(i) for i in range(chunks.num_columns)}
    leaves: list[str] = []
    partial: set[str] = set()
    for name in columns:
        own = [path for path in found if path.split(".", 1)[0] == name]
        paths = [path for path in own if path.endswith(".path")]
        for path in own if name in embedded and paths else ():
            counts = found[path].statistics if path.endswith(".bytes") else None
            if counts is not None and counts.has_null_count and not counts.null_count:
                own = paths[:1]
                partial.add(name)
        leaves += own
    return leaves, partial


def _refs(
    value: Any, uri: str, row: int, column: str, bytes_known: bool, index: int | None = None
) -> Any:
    """An embedded image as a reference, a mere path as that path, none as None."""
    if isinstance(value, list):
        return [_refs(v, uri, row, column, bytes_known, i) for i, v in enumerate(value)]
    if isinstance(value, dict) and not (bytes_known or value.get("bytes")):
        return value.get("path")
    return ImageRef(uri, row, column, index) if value is not None else None


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


def entries(text: str, uri: str, key: str | None = None) -> Iterator[tuple[str, Any]]:
    """(key or "", value) of a large JSON array or object, or of the one under `key`, decoded one at
    a time: VQAv2's annotations are 360 MB of text, and several times as much as Python objects.
    Raises `InputError` for text that is no JSON, or has no such key."""
    try:
        yield from _members(text, _skip(text, 0), key, uri)
    except (ValueError, IndexError, RecursionError, ArithmeticError) as error:
        raise InputError(f"{uri}: not valid JSON: {error}") from None


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _members(
    text: str, at: int, key: str | None, uri: str, *, inside: bool = False
) -> Iterator[tuple[str, Any]]:
    """The members of the array or object at `at`, or of that under `key` in it; behind what is not
    `inside` of another nothing may follow."""
    opening, name, names = text[at], "", []
    if opening not in ("{" if key else "[{"):
        if key:
            raise InputError(f"{uri}: expected an object with {key!r}, found []")
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
        if key is not None and name == key:
            yield from _members(text, at, None, uri, inside=True)
            return
        names.append(name)
        value, at = DECODER.raw_decode(text, at)
        if key is None:
            yield name, value
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
        elif text[at] != closing:
            raise json.JSONDecodeError(f"expected ',' or {closing!r}", text, at)
    if key is not None:
        raise InputError(f"{uri}: expected an object with {key!r}, found {quote(names)}")
    if not inside and _skip(text, at + 1) != len(text):
        raise json.JSONDecodeError("extra data", text, at + 1)
