"""A released MMPR data set (meta.json, JSON lines, images) becomes pairs of our schema.

    {"image": "a.png", "question": "<image>\\nHow many …?", "chosen": "…", "rejected": "…"}
        ->  images, prompt, chosen, rejected, source, kind, …; what is not known is null

The names of a release's entries say what its rows do not: `…_correctness_rules`,
`…_format_rules`, and `…_sr0.5_wo_image` for DropoutNTP (the part kept, and whether the image was
shown). An entry whose name says nothing gets the kind that the caller gives, and import.json says
how each kind was found. Rows that `mmpr export` wrote carry their own id, source and kind.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmpr_builder import __version__, prompts
from mmpr_builder.errors import InputError, RowError
from mmpr_builder.export.destination import MARK as EXPORTED, ParquetFiles, staged, write_json
from mmpr_builder.export.items import turn_of
from mmpr_builder.export.options import KINDS, check_names
from mmpr_builder.export.readback import image_names, read_lines, recipe_entries, text_of
from mmpr_builder.io import images, tables
from mmpr_builder.io.access import Access, Places, access_of, source_of
from mmpr_builder.io.seed_files import homes, hub_caches, is_in
from mmpr_builder.output.rows import pair_schema
from mmpr_builder.output.stored_images import as_stored
from mmpr_builder.records import IMAGE_PLACEHOLDER, Drop, content_id
from mmpr_builder.seeds.fields import images_of
from mmpr_builder.seeds.roles import standard

MARK = "import.json"

HowKnown = Literal["rows", "name", "default"]

_DROPOUT = re.compile(r"(?:^|_)sr(?P<keep>[01](?:\.\d+)?)_(?P<image>wo|with)_image(?:_|$)")
_NO_TRUTH = (("answer", ()), ("choices", ()))  # Pairs have sides instead.
_KIND_WORDS = {
    "dropout_ntp": "dropout_?ntp",
    "truncated": "truncated",
    "format": "format",
    "correctness": "correctness",
}


@dataclass(frozen=True, slots=True)
class Imported:
    """`kinds`: entry -> (kind, how it is known: its rows say it, its name does, by default)."""

    folder: str
    rows: int
    images: int
    kinds: dict[str, tuple[str, HowKnown]]
    drops: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    annotation: Path
    root: Path
    kind: str
    how: HowKnown
    keep: float | None = None
    image_shown: bool | None = None


Images = list[tuple[bytes, str]]
"""(bytes as they are stored, SHA-256 of the file) of each image of a row."""


def import_pairs(
    path: str,
    out: str,
    *,
    root: str | None = None,
    roots: Sequence[str] = (),
    allow: Sequence[str] = (),
    source: str | None = None,
    kind: str = "correctness",
    overwrite: bool = False,
) -> Imported:
    """Read a meta.json or one JSONL file into `out/pairs` and `out/drops`, in its order.

    `root` is where relative paths start. Without it: for a recipe its own folder or the one above,
    whichever has the first annotation (released recipes name the data set's own folder); for a
    JSONL file its folder. Rows may name images below an entry's root or one of `roots`, and URLs
    that `allow` opens (see `access`). `source` and `kind` are for rows that name none. Raises
    `SetupError`.
    """
    check_names("--kind", (kind,), KINDS)
    entries = _entries(Path(path), root, kind, roots)
    access = access_of([source_of(path, roots=roots, allow=allow)])
    drops: Counter[str] = Counter()
    kinds: dict[str, tuple[str, HowKnown]] = {}
    found_images: set[str] = set()
    rows = 0
    with staged(out, overwrite=overwrite, mark=MARK) as (folder, _):
        schema = pair_schema()
        pairs = ParquetFiles(folder / "pairs", schema)
        dropped = ParquetFiles(folder / "drops", tables.DROP_SCHEMA)
        for entry in entries:
            of = said = 0
            for item in _read(entry, source, access):
                if isinstance(item, Drop):
                    drops[item.reason] += 1
                    dropped.add(tables.plain(item))
                    continue
                row, own_kind = item
                of += 1
                said += own_kind
                found_images.update(row["image_sha256"])
                pairs.add({name: row.get(name) for name in schema.names})
            mixed = f"own kind in {said:,} of {of:,} rows, else {entry.kind}"
            kinds[entry.name] = mixed if said else entry.kind, entry.how
            if 0 < said == of:
                kinds[entry.name] = "each row's own", "rows"
            rows += of
        pairs.close()
        dropped.close()
        if not rows:
            why = ", ".join(f"{count:,} {reason}" for reason, count in drops.most_common())
            raise InputError(f"{path}: not one usable pair ({why or 'no rows'})")
        done = Imported(out, rows, len(found_images), kinds, dict(drops.most_common()))
        mark = {
            "from": path,
            "rows": rows,
            "images": done.images,
            "kinds": {name: {"kind": k, "known_by": how} for name, (k, how) in kinds.items()},
            "drops": done.drops,
            "builder": f"mmpr_builder {__version__}",
        }
        write_json(folder / MARK, mark)
    return done


def _entries(path: Path, root: str | None, kind: str, roots: Sequence[str]) -> list[_Entry]:
    if not path.is_file():
        raise InputError(f"{path}: no such file: give a meta.json or a JSONL file")
    if path.suffix == ".parquet":
        raise InputError(
            f"{path}: a Parquet file, and pairs are read from a meta.json or JSONL: MMPR-Tiny and"
            " the like are questions, so name it as a source of seeds (seeds.0.path)"
        )
    if path.suffix == ".jsonl":
        base = path.parent if root is None else Path(root)
        return [_entry(path.name.removesuffix(".jsonl"), path, base, kind)]
    recipe = recipe_entries(path)
    for name, entry in recipe.items():
        for field in ("root", "annotation"):
            if not isinstance(entry.get(field), str):
                raise InputError(f"{path}: entry {name!r} has no {field!r}: give a recipe's path")
    base = _base(path, recipe, root)
    home = base
    if root is None:
        # The whole export, where its recipe has a folder of its own.
        own = path.resolve().parent
        home = own.parent if (own.parent / EXPORTED).is_file() else own
    for name, entry in recipe.items():
        for field in ("root", "annotation"):
            _check_place(f"{path}: entry {name!r}: {field!r}", base / entry[field], home, roots)
    return [
        _entry(name, base / entry["annotation"], base / entry["root"], kind)
        for name, entry in recipe.items()
    ]


def _check_place(what: str, place: Path, home: Path, roots: Sequence[str]) -> None:
    """Raise `InputError` for a place outside of the recipe's folder and of the caller's `roots`."""
    try:
        real = os.path.realpath(place)
    except ValueError as error:
        raise InputError(f"{what}: no path ({error})") from None
    allowed = [folder for root in (str(home), *roots) for folder in homes(root)]
    allowed += map(os.path.realpath, hub_caches())
    if not any(is_in(real + "/", folder) for folder in allowed):
        raise InputError(
            f"{what} is {real!a}, outside of {home}: if it may be read, name a folder that"
            " holds it with --roots"
        )


def _base(path: Path, recipe: Mapping[str, Mapping[str, Any]], root: str | None) -> Path:
    """Where relative paths of a recipe start."""
    own = path.resolve().parent
    candidates = [own, own.parent] if root is None else [Path(root)]
    for base in candidates:
        if any((base / entry["annotation"]).is_file() for entry in recipe.values()):
            return base
    first = next(iter(recipe.values()))["annotation"]
    raise InputError(
        f"{path}: {first!r} is not below {' nor '.join(map(str, candidates))}: give --root, the"
        " folder where its paths start"
    )


def _entry(name: str, annotation: Path, root: Path, kind: str) -> _Entry:
    dropout = _DROPOUT.search(name)
    if dropout:
        shown = dropout["image"] == "with"
        return _Entry(name, annotation, root, "dropout_ntp", "name", float(dropout["keep"]), shown)
    for named, word in _KIND_WORDS.items():
        if re.search(rf"(?:^|_){word}(?:_|$)", name, re.IGNORECASE):
            return _Entry(name, annotation, root, named, "name")
    return _Entry(name, annotation, root, kind, "default")


def _read(
    entry: _Entry, source: str | None, access: Access
) -> Iterator[tuple[dict[str, Any], bool] | Drop]:
    """(what is known of a pair, whether it names its kind itself) or a drop, for each line."""
    seen: list[str] | None = None
    pictures: Images = []
    places = Places(access)
    try:
        if not entry.annotation.is_file():
            raise FileNotFoundError("no such file")
        for number, row in read_lines(entry.annotation):
            origin = f"{entry.annotation.name}:{number}"
            try:
                if isinstance(row, str):
                    raise RowError("bad_json", row)
                names = image_names(row) or _other_names(row, origin)
                # Rows of one question follow each other.
                if seen != names:
                    pictures = [_load(entry.root, name, places) for name in names]
                    seen = names
                yield _pair(entry, row, pictures, origin, source), row.get("kind") in KINDS
            except RowError as error:
                yield Drop(origin, "import", error.reason, error.detail)
    except OSError as error:
        yield Drop(entry.name, "import", "annotation_missing", f"{entry.annotation}: {error}")


def _other_names(row: Mapping[str, Any], origin: str) -> list[str]:
    """Images in columns of other names. Raises `RowError` for what looks like one and is none."""
    try:
        return [*map(str, images_of(standard(row, _NO_TRUTH, origin)))]
    except RowError as error:
        detail, _, elsewhere = error.detail.partition(": set seeds")
        raise RowError(error.reason, detail + ": call it `image`" * bool(elsewhere)) from None


def _load(root: Path, name: str, places: Places) -> tuple[bytes, str]:
    data = images.read_bytes(places.ref(name, str(root)), places.access)
    return as_stored(data, images.open_image(data)), hashlib.sha256(data).hexdigest()


def _pair(
    entry: _Entry, row: Mapping[str, Any], pictures: Images, origin: str, source: str | None
) -> dict[str, Any]:
    text = text_of(row, "question")
    chosen = text_of(row, "chosen", "chosen_response")
    rejected = text_of(row, "rejected", "rejected_response")
    for name, said in (("question", text), ("chosen", chosen), ("rejected", rejected)):
        if not said.replace(IMAGE_PLACEHOLDER, "").strip():
            raise RowError("empty_text", f"{name} is empty")
    if chosen.strip() == rejected.strip():
        raise RowError("identical_sides", f"both begin {chosen.strip()[:60]!r}")
    count = len(pictures)
    if IMAGE_PLACEHOLDER not in text:
        # As InternVL's loader does with one image, and others with several: InternVL's would take
        # another row instead.
        text = f"{IMAGE_PLACEHOLDER}\n" * count + text
    shown = prompts.parts(text)
    if shown.count(None) != count:
        raise RowError(
            "placeholder_mismatch",
            f"the question shows {shown.count(None)} images, the row has {count}",
        )
    known = {
        name: tables.storable(value) if isinstance(value := row.get(name), str) and value else None
        for name in ("system", "id", "seed_id", "source", "answer")
    }
    sha256 = [digest for _, digest in pictures]
    system, answer = known["system"], known["answer"]
    kind = row["kind"] if row.get("kind") in KINDS else entry.kind
    seed_id = known["seed_id"] or content_id(
        "import", entry.name, *([system] if system else ()), text, *sha256
    )
    return {
        "images": [{"bytes": data, "path": None} for data, _ in pictures],
        "prompt": [*([turn_of("system", system)] if system else ()), turn_of("user", *shown)],
        "chosen": [turn_of("assistant", chosen)],
        "rejected": [turn_of("assistant", rejected)],
        "id": known["id"] or content_id(seed_id, kind, chosen, rejected),
        "seed_id": seed_id,
        "source": known["source"] or source or entry.name,
        "kind": kind,
        "question": text,
        "answer": answer,
        "chosen_text": chosen,
        "rejected_text": rejected,
        "prompt_text": text,
        "origin": origin,
        "dropout_keep": entry.keep,
        "dropout_image": entry.image_shown,
        "builder": f"mmpr_builder {__version__} (import)",
        "answers": [answer] if answer else [],
        "choices": [],
        "image_sha256": sha256,
    }
