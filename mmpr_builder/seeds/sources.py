"""The sources of a build: checked before anything starts, read in order, every id once."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from hashlib import blake2b
from itertools import islice

from mmpr_builder.config import Branch, SourceConfig, source_label
from mmpr_builder.errors import InputError
from mmpr_builder.io.embedded import hub_commit
from mmpr_builder.io.keyed import Keyed
from mmpr_builder.io.seed_files import (
    SeedFile,
    file_fingerprint,
    full_name,
    split_name,
    splits_in,
)
from mmpr_builder.io.stores import absolute, resolve
from mmpr_builder.io.tables import storable
from mmpr_builder.records import Drop, Seed
from mmpr_builder.seeds import layouts
from mmpr_builder.seeds.formats import check_columns, load, open_parquet, read_rows
from mmpr_builder.seeds.reading import check_root, files_of, raw_rows, read_source
from mmpr_builder.seeds.roles import mapping, read_from


def read_sources(
    sources: Sequence[SourceConfig], *, limit: int | None = None, taken: Taken | None = None
) -> Iterator[Seed | Drop]:
    """All sources of a build in order, at most `limit` rows, every id once.

    A row that asks what an earlier one asked (question, images by their place, options, reference
    answers, scorer and template) is a `Drop` "duplicate_seed" that names the earlier one. A row
    under a taken id goes on as `ID#2`, `ID#3`, …. Rows that an earlier reading made seeds of
    (`taken`) get the ids they had, and no others do.
    """
    with closing(_UniqueIds(taken)) as ids:
        for item, how in islice(_rows(sources), limit):
            yield ids.drop(item) if isinstance(item, Drop) else ids.seed(item, how)


def _rows(sources: Sequence[SourceConfig]) -> Iterator[tuple[Seed | Drop, str]]:
    """Each row with the text of the template that its source sets."""
    for source in sources:
        how = json.dumps(source.templates or source.template, sort_keys=True)
        for row in islice(read_source(source), source.limit):
            for item in branches(row, source.branch):
                yield item, how


def branches(item: Seed | Drop, branch: Branch) -> Sequence[Seed | Drop]:
    """What a row is asked for: with its reference answer, without it, or both (arXiv 2411.10442,
    3.1): two seeds, the second one under `ID+open`. Without it only rows with images are of use."""
    if isinstance(item, Drop) or branch in ("auto", "majority"):
        return (item,)
    judged = branch != "dropout" and item.has_truth
    open_id = f"{item.id}+open" if judged else item.id
    opened = [replace(item, id=open_id, answers=())] if item.images else []
    found = [*([item] if judged else ()), *(opened if branch != "correctness" else ())]
    if found:
        return found
    lacks = "missing_truth" if branch == "correctness" else "missing_image"
    detail = f"{item.origin}: of no use to branch {branch!r}; truths {list(item.answers)}"
    return (Drop(item.id, "seeds", lacks, detail[:400]),)


def check_sources(sources: Sequence[SourceConfig]) -> None:
    """Raise `InputError` for sources or roots that are missing, unreadable or off limits; it lists
    all missing ones, each with where to get it."""
    for source in sources:
        refuse_forbidden(source)
    missing: list[str] = []
    for source in sources:
        try:
            _check_source(source)
        except InputError as error:
            name = f"source {source.name!r}: " if source.name else ""
            get = f"\n    get it: {source.get}" if source.get else ""
            missing.append(f"{name}{error}{get}")
    if len(missing) > 1:
        names = ", ".join(source_label(source) for source in sources)
        missing.append(f"{len(missing)} of {len(sources)} sources; sources=[…] picks from {names}")
    if missing:
        raise InputError("\n".join(missing))


def _check_source(source: SourceConfig) -> None:
    files = files_of(source)
    refuse_forbidden(source, files)
    if source.root is not None:
        check_root(source.root)
    if source.format in layouts.LAYOUTS:
        return
    mapped = mapping(source.columns)
    for file in files:
        if file.format == "parquet":
            with open_parquet(file.uri) as table:
                check_columns(table.schema.names, file.uri, mapped)
        elif file.format in ("disk", "hub", "imagefolder"):
            check_columns(load(file).column_names, file.uri, mapped)
        elif file.format != "json" and file.format != "jsonl":
            next(read_rows(file, mapped), None)


def refuse_forbidden(source: SourceConfig, files: Sequence[SeedFile] = ()) -> None:
    """Raise `InputError` where split, path (its last part, and what is below it) or a file of a
    source must not be read."""
    forbidden = {split_name(split) for split in source.forbidden_splits}
    path = source.path.rstrip("/")
    start = len(absolute(path).rpartition("/")[0]) + 1
    named = [("split", source.split), ("path", path.rpartition("/")[2])]
    named += [("file", file.uri[start:]) for file in files if file.format != "hub"]
    for what, text in named if forbidden else ():
        if splits_in(text) & forbidden:
            raise InputError(
                f"source {source_label(source)!r}: {what} {text!r} is off limits: its"
                f" forbidden_splits are {', '.join(source.forbidden_splits)}; use another split"
            )


def columns_of(source: SourceConfig, origins: Collection[str]) -> dict[str, dict[str, str]]:
    """Origin of a seed -> role (`roles.ALIASES`) -> the columns that it was read from; {} for a
    layout that has a `format`. Reads the source again, up to the last of these rows."""
    found: dict[str, dict[str, str]] = {}
    mapped = mapping(source.columns)
    if not origins or source.format != "auto":
        return found
    for file, _, row in raw_rows(source, mapped):
        if (origin := f"{file.name}:{row.number}") in origins and row.fields is not None:
            found.setdefault(origin, read_from(row.fields, mapped))
            if len(found) == len(origins):
                break
    return found


def fingerprint(source: SourceConfig) -> dict[str, str]:
    """File -> a text that changes with its content, for noticing changed inputs."""
    prints: dict[str, str] = {}
    if layout := layouts.LAYOUTS.get(source.format):
        # One entry for all files: some layouts have one for each question.
        whole = blake2b(digest_size=16)
        for uri in layouts.watched(layout, files_of(source)):
            whole.update(f"{file_fingerprint(uri)}\n".encode())
        return {f"{source.path} ({source.format})": whole.hexdigest()}
    for file in files_of(source):
        if file.format == "hub":
            prints[f"{file.uri}?split={file.split}"] = str(load(file)._fingerprint)
        elif file.format in ("disk", "imagefolder"):
            fs, inside = resolve(file.uri)
            names = sorted(n for n in fs.find(inside) if n.endswith((".json", ".arrow", ".csv")))
            prints |= {name: file_fingerprint(full_name(fs, file.uri, name)) for name in names}
        else:
            prints[file.uri] = file_fingerprint(file.uri)
    return prints


def commits(source: SourceConfig) -> dict[str, str]:
    """Hub id -> the commit that its rows are of, where the hub's cache tells it."""
    hub = [file.uri for file in files_of(source) if file.format == "hub"]
    return {uri: commit for uri in hub if (commit := hub_commit(uri))}


def asked(seed: Seed, *more: object) -> bytes:
    """16 bytes that stand for what a seed asks: question, images, options, and `more`."""
    images = [(ref.uri, ref.row, ref.column, ref.index) for ref in seed.images]
    parts = repr((seed.question, images, seed.choices, *more))
    return blake2b(parts.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Taken:
    """The seeds of an earlier reading, by number; rows that ask the same get their ids again. Holds
    a temporary file: some 400 bytes per seed."""

    def __init__(self, seeds: Iterable[tuple[int, Seed]]) -> None:
        self._seen = Keyed()  # Numbers by id and by what is asked, ids by number.
        for number, seed in seeds:
            name = storable(seed.id)
            self._seen.add(number, name)
            for key in (name, asked(seed, seed.answers), asked(seed, None)):
                self._seen.add(key, number=number)

    def number_of(self, name: str) -> int | None:
        """The number of the seed of that id."""
        return next(iter(self._seen.numbers([storable(name)])), None)

    def id_of(self, number: int) -> str:
        """The id of the seed of that number."""
        return self._seen.get(number) or ""

    def asks(self, number: int, seed: Seed) -> bool:
        """Whether the seed of that number asks the same as this one."""
        return number in self._seen.numbers([asked(seed, seed.answers)])

    def ids_for(self, seed: Seed) -> list[str]:
        """Ids given to a row that asked the same, the seed's own before others."""
        same, alike = (
            [self.id_of(number) for number in self._seen.numbers([asked(seed, answers)])]
            for answers in (seed.answers, None)
        )
        # A screen can have dropped its answers, or they have changed; only the caller can tell.
        own = [name for name in alike if name == seed.id or name.startswith(f"{seed.id}#")]
        return [*dict.fromkeys([*(name for name in same if name in own), *same, *own])]

    def close(self) -> None:
        """Remove the file."""
        self._seen.close()


class _UniqueIds:
    """Gives every item of a build an id of its own; keeps two entries per row, on disk."""

    def __init__(self, taken: Taken | None) -> None:
        self._seen = Keyed()  # Ids as text; what rows ask as bytes, with the id of the first.
        self._counts: dict[str, int] = {}
        self._taken = taken

    def seed(self, seed: Seed, how: str) -> Seed | Drop:
        """The seed under an id of its own, or a drop when it repeats an earlier one; `how` stands
        for the templates it may be asked with."""
        row = asked(seed, seed.answers, seed.scorer, how)
        unique = self._given_before(seed, row) or self._unique(seed.id)
        if not self._seen.add(row, unique):
            detail = f"{seed.origin}: the same as {self._seen.get(row)!r}, which was read before"
            return Drop(unique, "seeds", "duplicate_seed", detail)
        return seed if unique == seed.id else replace(seed, id=unique)

    def drop(self, drop: Drop) -> Drop:
        """The drop under an id of its own."""
        unique = self._unique(drop.item_id)
        return drop if unique == drop.item_id else replace(drop, item_id=unique)

    def _given_before(self, seed: Seed, row: bytes) -> str | None:
        if self._taken is None or self._seen.get(row) is not None:
            return None
        free = (name for name in self._taken.ids_for(seed) if self._seen.add(storable(name)))
        return next(free, None)

    def _unique(self, wanted: str) -> str:
        unique, taken = wanted, self._taken
        while (taken and taken.number_of(unique) is not None) or not self._seen.add(
            storable(unique)
        ):
            self._counts[wanted] = self._counts.get(wanted, 1) + 1
            unique = f"{wanted}#{self._counts[wanted]}"
        return unique

    def close(self) -> None:
        """Remove the file."""
        self._seen.close()
