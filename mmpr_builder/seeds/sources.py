"""The sources of a build: read in order, checked before anything starts, told apart by content."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from hashlib import blake2b
from itertools import islice

from mmpr_builder.config import Branch, SourceConfig, source_label
from mmpr_builder.errors import InputError
from mmpr_builder.io.seed_files import (
    SeedFile,
    absolute,
    file_fingerprint,
    filesystem,
    is_url,
    locate,
    split_name,
    splits_in,
)
from mmpr_builder.records import Drop, Seed
from mmpr_builder.seeds import layouts
from mmpr_builder.seeds.formats import check_columns, load, open_parquet
from mmpr_builder.seeds.reading import Taken, UniqueIds, check_root, read_seeds


def read_sources(
    sources: Sequence[SourceConfig], *, limit: int | None = None, taken: Taken | None = None
) -> Iterator[Seed | Drop]:
    """All sources of a build in order, at most `limit` rows, every id once.

    A row that asks what an earlier one asked (question, images, options, truths, scorer and
    template, whatever its id) is a `Drop` "duplicate_seed" that names that one: it is sampled once.
    Images are the same when they lie at the same place. A row under a taken id goes on as `ID#2`,
    `ID#3`, …. Rows that an earlier reading made seeds of (`taken`) get the ids they had, wherever
    they stand now, and no others do.
    """
    rows = (
        (item, source)
        for source in sources
        for read in read_seeds(
            source.path,
            root=source.root,
            roots=source.roots,
            allow=source.allow,
            limit=source.limit,
            source=source.name,
            split=source.split,
            scorer=source.scorer,
            layout=source.format,
            language=source.language,
        )
        for item in branches(read, source.branch)
    )
    with closing(UniqueIds(taken)) as ids:
        for item, source in islice(rows, limit):
            how = source.templates or source.template
            yield ids.drop(item) if isinstance(item, Drop) else ids.seed(item, how)


def branches(item: Seed | Drop, branch: Branch) -> Iterator[Seed | Drop]:
    """What a row is asked for: with its truth, without it, or both (arXiv 2411.10442, 3.1).

    With "both" a row with a truth and images becomes two seeds, the second one under `ID+open`.
    Without an image there is nothing to leave out of a continuation, so only its truth is of use.
    """
    if isinstance(item, Drop) or branch == "auto":
        yield item
        return
    judged = branch != "dropout" and item.has_truth
    continued = branch != "correctness" and bool(item.images)
    if judged:
        yield item
    if continued:
        yield replace(item, id=f"{item.id}+open" if judged else item.id, answers=())
    if not judged and not continued:
        lacks = "missing_truth" if branch == "correctness" else "missing_image"
        detail = f"{item.origin}: of no use to branch {branch!r}; truths {list(item.answers)}"
        yield Drop(item.id, "seeds", lacks, detail[:400])


def check_sources(sources: Sequence[SourceConfig]) -> None:
    """Raise `InputError` for sources or roots that are missing, unreadable or off limits.

    All that are missing are told at once, each with where it can be had.
    """
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
    files = _files(source)
    refuse_forbidden(source, files)
    if source.root is not None:
        check_root(source.root)
    turns = source.format == "conversations"
    if source.format != "auto" and not turns:
        return
    for file in files:
        if file.format == "parquet":
            check_columns(open_parquet(file.uri).schema_arrow.names, file.uri, turns=turns)
        elif file.format != "jsonl" and file.format != "json":
            check_columns(load(file).column_names, file.uri, turns=turns)


def _files(source: SourceConfig) -> list[SeedFile]:
    if source.format == "auto":
        return locate(source.path, source.split)
    return layouts.files_of(
        layouts.LAYOUTS[source.format], source.format, source.path, source.split
    )


def refuse_forbidden(source: SourceConfig, files: Sequence[SeedFile] = ()) -> None:
    """Raise `InputError` where split, path or a file of a source must not be read.

    Of paths only the last part of the source's own counts, and what is below it.
    """
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


def fingerprint(source: SourceConfig) -> dict[str, str]:
    """File -> what changes when its content does, for noticing changed inputs."""
    prints: dict[str, str] = {}
    if source.format != "auto" and not layouts.LAYOUTS[source.format].rows:
        # One entry for all files: some layouts have one for each question.
        whole = blake2b(digest_size=16)
        for uri in layouts.watched(layouts.LAYOUTS[source.format], _files(source)):
            whole.update(f"{file_fingerprint(uri)}\n".encode())
        return {f"{source.path} ({source.format})": whole.hexdigest()}
    for file in _files(source):
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
