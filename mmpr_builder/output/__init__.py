"""A build's folder: pairs, drops, run.json and the data card; what writes it and what reads it.

    pairs/part-00000.parquet   one row per pair, images inside    rows.py, stored_images.py
    drops/part-00000.parquet   one row per seed that gave no pair
    run.json                   config, counts, versions, seconds  counts.py, card.py
    README.md                  Hugging Face data card             card.py, card.md.j2

Workers make blocks of rows, one writer puts them together (writer.py). A seed ends in exactly one
of pairs and drops. Both folders appear at once, at the end (shards.py), and replace old ones. The
same rollouts and config give the same bytes.

    with BuildWriter(config) as writer:
        for part in parts:                             # in seed order
            judged = [(rollout, *judge_and_pair(rollout, config, judge)) for rollout in part]
            writer.add(make_block(judged, config))     # blocks can be made by many workers
    finish_build(config, writer.counts(), seconds={"pairing": 12.3})
    load_pairs("out/run-1")
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmpr_builder.errors import InputError
from mmpr_builder.io import stores, tables
from mmpr_builder.output import shards
from mmpr_builder.output.card import (
    SCHEMA_VERSION,
    finish_build as finish_build,
    mean_rate as mean_rate,
)
from mmpr_builder.output.rows import (
    pair_features as pair_features,
    pair_schema as pair_schema,
    sampling_json as sampling_json,
    schema_of as schema_of,
)
from mmpr_builder.output.writer import (
    UNDECIDED_NAME as UNDECIDED_NAME,
    Block as Block,
    BuildWriter as BuildWriter,
    Judged as Judged,
    make_block as make_block,
    rejected_ids as rejected_ids,
    write_pairs as write_pairs,
)
from mmpr_builder.records import Drop, Rollout

if TYPE_CHECKING:
    from datasets import Dataset


_AT_ONCE = 1024  # Rows as Python values at a time; a large build has hundreds of thousands.
_NO_BUILDS = ("import.json", "export.json")
"""What `mmpr import` and `mmpr export` leave in their folders."""


def read_run(out: str | Path) -> dict[str, Any]:
    """The content of a build's run.json. Raises `InputError` when there is none."""
    base = os.fspath(out).rstrip("/")
    uri = f"{base}/run.json"
    fs, path = stores.resolve(uri)
    try:
        run: dict[str, Any] = json.loads(fs.cat_file(path))
    except (OSError, ValueError) as error:
        if any(stores.is_there(f"{base}/{mark}") for mark in _NO_BUILDS):
            raise InputError(
                f"{base}: an import or an export, not a build: it has pairs, but no run.json with"
                " settings and counts; `mmpr show`, `mmpr lint` and `mmpr export` take it, this"
                " needs the folder of a build"
            ) from None
        raise InputError(
            f"{uri}: no finished build here ({error}): run `mmpr build` or `mmpr pair` first"
        ) from None
    if run.get("schema_version", SCHEMA_VERSION) > SCHEMA_VERSION:
        raise InputError(
            f"{uri}: schema_version {run['schema_version']}, this version reads {SCHEMA_VERSION}:"
            " use the version of mmpr-builder that wrote it"
        )
    return run


def pair_parts(path: str | Path) -> list[str]:
    """The Parquet parts of a build folder, a pairs folder, or a single file.

    Raises `InputError` when there is none.
    """
    base = os.fspath(path).rstrip("/")
    if base.endswith(".parquet"):
        parts = [base] if tables.is_complete(base) else []
    else:
        parts = []
        for folder in (f"{base}/pairs", base):
            shards.check_whole(folder)
            parts = parts or tables.list_parts(folder)
    if not parts:
        raise InputError(
            f"{base}: no pairs here: give a build's folder, its pairs folder or a Parquet file"
        )
    return parts


def read_rows(parts: Iterable[str], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of Parquet parts in order, these columns of them, one row group in memory."""
    for part in parts:
        for table in tables.read_groups(part, columns):
            for batch in table.to_batches(max_chunksize=_AT_ONCE):
                yield from batch.to_pylist()


def read_rollouts(parts: Iterable[str]) -> Iterator[Rollout]:
    """The rollouts of parts in order, one part in memory at a time."""
    for part in parts:
        found = tables.rollouts_from_table(tables.read_parquet(part))
        yield from sorted(found, key=lambda rollout: rollout.index)


def read_drops(out: str) -> Iterator[Drop]:
    """All drops of a build, in its order; none where it has no such folder."""
    parts = tables.list_parts(f"{out.rstrip('/')}/drops", tables.DROP_SCHEMA)
    for row in read_rows(parts, tables.DROP_SCHEMA.names):
        yield Drop(**row)


def load_pairs(path: str | Path | Sequence[str | Path]) -> Dataset:
    """The pairs of one or several builds as a `datasets.Dataset`, images decoded when read.

    `path` is a build's folder (or an import's), its `pairs` folder or one Parquet file, or a list
    of these: their pairs follow each other. The result goes into TRL's `DPOTrainer` as it is.
    Raises `InputError` when there are no pairs, or shards that do not have the same columns.
    """
    from datasets import load_dataset

    paths = [path] if isinstance(path, str | Path) else list(path)
    parts = [part for one in paths for part in pair_parts(one)]
    if not parts:
        raise InputError("no folder of pairs is named: name one at least")
    _check_one_schema(parts)
    return load_dataset("parquet", data_files=[_on_disk(part) for part in parts], split="train")


def _on_disk(part: str) -> str:
    """A part as a local file; one that lies elsewhere is fetched, again only when it has changed.

    `datasets` would fetch it, too, but not with HF_HUB_OFFLINE set: an object store is no hub.
    """
    import datasets
    import fsspec

    fs, _ = stores.resolve(part)
    if stores.is_local(fs):
        return part
    folder = Path(datasets.config.DOWNLOADED_DATASETS_PATH) / "mmpr"
    how = {"cache_storage": str(folder), "check_files": True}
    return str(fsspec.open_local(f"filecache::{part}", filecache=how))


def _check_one_schema(parts: Sequence[str]) -> None:
    for part, names in tables.other_schemas(parts):
        raise InputError(
            f"{part}: its columns are not those of {parts[0]}"
            f" ({', '.join(names) or 'their order'} differ):"
            " `mmpr export A B DEST --to trl` gives both one schema"
        )
