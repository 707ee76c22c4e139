"""Where seeds lie: one path of a recipe becomes a list of files or a data set.

data/*.jsonl              -> data/a.jsonl, data/b.jsonl             (sorted)
data/                     -> its *.jsonl, *.json and *.parquet, or a `save_to_disk` folder; where
                             there are none its *.csv, *.tsv, *.arrow and *.tar, else its *.zip
data.zip                  -> the files of a folder like that in an archive
s3://bucket/x.jsonl.gz    -> itself, through fsspec
org/name  org/name:subset -> a data set of the Hugging Face hub; org/name@REVISION:subset
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import io
import logging
import os
import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Literal, cast

from mmpr_builder.errors import InputError, MmprError
from mmpr_builder.escaping import public_url
from mmpr_builder.io.members import open_member, open_zip
from mmpr_builder.io.stores import absolute, is_url, resolve

Format = Literal["jsonl", "json", "parquet", "disk", "hub", "imagefolder", "csv", "tsv", "tar"]

FORMATS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
}
#: Of a folder these are read only where it has none of the above: they often lie beside.
FURTHER: dict[str, Format] = {".csv": "csv", ".tsv": "tsv", ".arrow": "disk", ".tar": "tar"}
_KNOWN = {**FORMATS, **FURTHER}
_WHOLE = (".parquet", ".arrow", ".tar", ".zip")  # Read by places, which compression takes away.
_ZIP = ".zip"
_TARS = {".tgz": "gzip", ".tbz2": "bz2", ".txz": "xz", ".tzst": "zstd"}
#: What files begin with, for names that do not tell.
_MAGIC = ((b"PAR1", ".parquet"), (b"PK\x03\x04", _ZIP), (b"ARROW1", ".arrow"))
_PACKED = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ", "xz"))
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}
HASH_BYTES = 64 * 2**20  # Larger files are told apart by size and time of change.

_LOOKED_AT = 10_000  # Entries of a folder that may hold a million images.
_log = logging.getLogger(__name__)

_HUB_ID = re.compile(
    r"(?:hf://datasets/)?(?P<id>[\w-][\w.-]*/[\w-][\w.-]*(?:@[\w.-]+)?(?::[\w.-]+)?)/?\Z"
)
_REVISION = re.compile(r"@[\w.-]+")


@dataclass(frozen=True, slots=True)
class SeedFile:
    """A file or data set with seeds. `uri` is an absolute path, an fsspec URL or a hub id."""

    uri: str
    format: Format
    compression: str | None = None
    split: str = "train"
    member: str = ""
    """Its name in the zip archive `uri`."""

    @property
    def shown(self) -> str:
        """The uri without passwords and signatures, fit to be stored and shown."""
        return public_url(self.uri)

    @property
    def name(self) -> str:
        """`scienceqa.jsonl`: for messages, and for rows that have no id of their own."""
        return (self.member or self.shown).rstrip("/").rsplit("/", 1)[-1]

    @property
    def stem(self) -> str:
        """`scienceqa`: the source name of rows without one of their own."""
        if self.format in ("disk", "hub", "imagefolder"):
            return _REVISION.sub("", self.name) if self.format == "hub" else self.name
        return self.name.split(".", 1)[0] or self.name

    @property
    def folder(self) -> str:
        """Where relative image paths start by default."""
        if self.format == "hub":
            return ""
        if self.member:
            return f"{self.uri}/{self.member}".rsplit("/", 1)[0]
        if self.format in ("disk", "imagefolder") and not self.uri.endswith(".arrow"):
            return self.uri
        uri = self.uri.partition("?")[0] if self.uri.startswith("http") else self.uri
        return uri.rsplit("/", 1)[0]


def hub_caches() -> tuple[str, ...]:
    """Where the hub's clients keep their downloads. Access tokens lie beside it, not in it."""
    from huggingface_hub import constants

    data = os.environ.get("HF_DATASETS_CACHE") or os.path.join(constants.HF_HOME, "datasets")
    return tuple(folder for folder in (constants.HF_HUB_CACHE, data) if os.path.isabs(folder))


def homes(folder: str) -> tuple[str, ...]:
    """A local folder, and where its files may really lie: those of a snapshot of the hub
    (`…/snapshots/REVISION`) are links into the folder `blobs` beside it."""
    real = os.path.realpath(folder)
    above, mark, _ = f"{real}/".rpartition("/snapshots/")
    blobs = os.path.join(above, "blobs")
    return (real, blobs) if mark and os.path.isdir(blobs) else (real,)


def is_in(path: str, folder: str) -> bool:
    """Whether a resolved path is below a resolved folder."""
    return path.startswith(folder.rstrip("/") + "/")


def locate(path: str, split: str = "train") -> list[SeedFile]:
    """The files or the data set that `path` names, in a fixed order.

    Raises `InputError` when nothing is there or its format is unknown.
    """
    hub = _HUB_ID.match(path)
    if path.startswith("hf://datasets/") and hub:
        return [SeedFile(hub["id"], "hub", split=split)]
    try:
        return _locate(path, split, hub["id"] if hub else None)
    except MmprError:
        raise
    # Each fsspec back end raises its own types when it is out of reach or refuses.
    except Exception as error:
        if not is_url(path):
            raise
        raise InputError(f"seeds path {path!r} cannot be reached: {error!r}"[:500]) from None


def _locate(path: str, split: str, hub: str | None) -> list[SeedFile]:
    uri = absolute(path)
    fs, inside = resolve(uri)
    # Over HTTP, asking whether a file is a folder downloads it.
    is_page = uri.startswith("http") and _suffixes(uri)[0] in (*_KNOWN, _ZIP)
    if not is_page and fs.isdir(inside):
        return _folder(uri, fs, inside, split)
    if fs.exists(inside):
        return _files(uri, fs, inside, split)
    if any(mark in path for mark in "*?["):
        found = [name for name in fs.glob(inside) if not fs.isdir(name)]
        if not found:
            raise InputError(f"no file matches {path!r}{_nearest(fs, inside)}")
        return [
            file
            for name in sorted(found)
            for file in _files(full_name(fs, uri, name), fs, name, split)
        ]
    parent_here = os.path.isdir(os.path.dirname(uri)) and not is_url(path)
    if hub and not is_url(path) and not parent_here and _suffixes(path)[0] not in _KNOWN:
        return [SeedFile(hub, "hub", split=split)]
    gone = "does not exist or cannot be reached" if is_url(path) else "does not exist"
    looked = "" if path == uri else f" (looked for {uri})"
    raise InputError(f"seeds path {path!r} {gone}{looked}{_nearest(fs, inside)}")


def _suffixes(name: str) -> tuple[str, str | None]:
    name = name.split("?", 1)[0].lower()
    stem, last = os.path.splitext(name)
    if last in COMPRESSIONS:
        return os.path.splitext(stem)[1], COMPRESSIONS[last]
    return (".tar", _TARS[last]) if last in _TARS else (last, None)


def _files(uri: str, fs: Any, inside: str, split: str) -> list[SeedFile]:
    """A file as its ending says, else as its first bytes do; a zip archive as its members."""
    suffix, compression = _suffixes(uri)
    if suffix not in _KNOWN and suffix != _ZIP:
        with fs.open(inside, "rb") as handle:
            start = handle.read(512)
        compression = next((kind for magic, kind in _PACKED if start.startswith(magic)), None)
        if compression is not None:
            with open_binary(SeedFile(uri, "jsonl", compression)) as packed:
                start = packed.read(512)
        text = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[")
        suffix = next((ending for magic, ending in _MAGIC if start.startswith(magic)), suffix)
        suffix = ".tar" if start[257:262] == b"ustar" else ".jsonl" if text else suffix
    if compression is not None and suffix in _WHOLE:
        raise InputError(
            f"{uri}: a compressed {suffix} is not read: decompress it, and give the {suffix} itself"
        )
    if suffix not in _KNOWN and suffix != _ZIP:
        raise InputError(
            f"{uri}: cannot tell the format from the name (suffix {suffix!r}); seeds are read from"
            f" {', '.join((*_KNOWN, _ZIP))} (text also as {', '.join(COMPRESSIONS)}; decompress"
            " others first), folders of these, and data sets"
        )
    if suffix == _ZIP:
        return _zipped(uri, split)
    return [SeedFile(uri, _KNOWN[suffix], compression, split)]


def _zipped(uri: str, split: str) -> list[SeedFile]:
    """The files with seeds in a zip archive, as those of a folder."""
    names = [name for name in open_zip(uri).namelist() if not name.startswith("__MACOSX/")]
    known = [[n for n in names if _is_seed_file(n, kinds)] for kinds in (FORMATS, FURTHER)]
    found = known[0] or known[1]
    wrong = [name for name in found if _suffixes(name)[0] in _WHOLE or _suffixes(name)[1]]
    if wrong or not found:
        what = f"holds {wrong[0]!r}" if wrong else "holds no JSON, CSV or TSV"
        raise InputError(
            f"{uri}: {what}: unpack it; or give a file of seeds as the source and this archive as"
            " its `root`, if it holds the images"
        )
    kept = of_split(sorted(found), 0, split)
    return [SeedFile(uri, _KNOWN[_suffixes(name)[0]], None, split, name) for name in kept]


def full_name(fs: Any, uri: str, name: str) -> str:
    """A name as `glob` and `find` give it, as a URL of the same kind as `uri`."""
    return cast(str, fs.unstrip_protocol(name)) if is_url(uri) else name


def _folder(uri: str, fs: Any, inside: str, split: str) -> list[SeedFile]:
    inside = inside.rstrip("/")
    names = {entry.rstrip("/").rsplit("/", 1)[-1] for entry in fs.ls(inside, detail=False)}
    if {"dataset_info.json", "state.json"} <= names or "dataset_dict.json" in names:
        return [SeedFile(uri.rstrip("/"), "disk", split=split)]
    further = {} if "metadata.csv" in names else FURTHER
    for kinds in (FORMATS, further, {_ZIP} if further else {}):
        here = sorted(f"{inside}/{name}" for name in names if _is_seed_file(name, kinds))
        below = sorted(_below(fs, inside, is_url(uri), kinds, near=bool(here)))
        if here or below:
            break
    endings = {name: _suffixes(name) for name in names}
    packed = {n for n, (end, kind) in endings.items() if end == _ZIP or (end == ".tar" and kind)}
    packed |= {name for name in names if _is_seed_file(name, further)}
    also = sorted(name for name in packed if f"{inside}/{name}" not in here)
    if here:
        # A file beside folders does not hide what is named after splits in them.
        others = [name for name in below if not _said(name[len(inside) + 1 :])]
        below = [name for name in below if name not in others]
        if others:
            tell(
                f"{uri}: not read, as there are seed files above: {others[0]} and"
                f" {len(others) - 1} more; name their folder as a source, too, to read them"
            )
    if also and (here or below):
        more = f" and {len(also) - 1} more" if len(also) > 1 else ""
        tell(
            f"{uri}: not read beside other seed files: {also[0]}{more}; name it as a source, or as"
            " `root` if the images are in it"
        )
    if here or below:
        found = of_split([*here, *below], len(inside) + 1, split)
        refuse_links_out(uri, found)
        named = [(full_name(fs, uri, name), name) for name in found]
        return [file for name, path in named for file in _files(name, fs, path, split)]
    if not is_url(uri) and any(name.endswith("metadata.csv") for name in fs.find(inside)):
        return [SeedFile(uri, "imagefolder", split=split)]
    there = f" (decompress {also[0]} to have it read)" if also else ""
    raise InputError(
        f"folder {uri} holds no seeds{there}: expected {', '.join('*' + s for s in _KNOWN)}, a"
        " folder written by `datasets.save_to_disk`, or images with a metadata.csv"
    )


def refuse_links_out(folder: str, names: Iterable[str]) -> None:
    """Raise `InputError` for a file of a local folder that links to a place outside of it: the
    author of a data set must not choose what is read on this machine."""
    if is_url(folder):
        return
    known = (*homes(folder), *map(os.path.realpath, hub_caches()))
    for name in names:
        real = os.path.realpath(name)
        if os.path.islink(name) and not any(is_in(real, home) for home in known):
            raise InputError(
                f"{name} is a link to {real}, outside of {folder}: if it is meant, name the file"
                " itself as a source"
            )


def _is_seed_file(name: str, kinds: Container[str] = FORMATS) -> bool:
    suffix, compression = _suffixes(name)
    # `dataset_infos.json` and the like describe a data set, they are none.
    is_card = suffix == ".json" and re.match(r"dataset_infos?\.|config\.|meta\.|\.", name)
    return suffix in kinds and not is_card and not (suffix in _WHOLE and compression)


_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("testing", "test", "evaluation", "eval"),
}
_FORMS = "|".join(form for forms in _SPLITS.values() for form in forms)
# What names of splits are made of: testmini, testA, minival, trainval35k, valminusminival.
_MADE_OF = re.compile(rf"(?:{_FORMS}|mini|minus|sub|full|std|set|split|s|[a-d])+")
_WORD = re.compile(r"[A-Za-z]+")


def of_split(names: list[str], start: int, split: str) -> list[str]:
    """The files of `split`, where their paths below the folder name splits, as on the hub.

    The part of a path nearest to the file decides. A file that says several splits belongs to none
    of them; the log says so.
    """
    split = split_name(split)
    said = {name: _said(name[start:]) for name in names}
    own = {name for name in names if split in _words(name[start:]) and split not in _SPLITS}
    if not any(said.values()) and not own:
        return names
    kept = [name for name in names if name in own or not said[name] or said[name] == {split}]
    for name in names:
        if name not in kept and split in said[name]:
            tell(f"{name}: left out, as it says {' and '.join(sorted(said[name]))}")
    if own:
        kept = [name for name in kept if name in own]
    if not kept:
        there = sorted(set().union(*said.values()))
        raise InputError(
            f"{names[0][:start]}: no file of split {split!r}; there are {', '.join(there)}:"
            " set the source's `split`"
        )
    return kept


def split_name(split: str) -> str:
    """One name for all names of a split: `val`, `valid` and `dev` are "validation"."""
    return next((key for key, forms in _SPLITS.items() if split.lower() in forms), split)


def splits_in(text: str) -> set[str]:
    """The words of a setting or a name, and the splits that they mean: `train[:9%]+testmini` gives
    train, test and testmini."""
    words = _words(text)
    return words.union(*map(_meant, words))


def _words(text: str) -> set[str]:
    return {split_name(word.lower()) for word in _WORD.findall(text)}


def _meant(word: str) -> set[str]:
    """The splits that a word is made of; none for `latest` and `validated`."""
    found = re.findall(_FORMS, word) if _MADE_OF.fullmatch(word) else []
    return {split_name(form) for form in found}


def _said(path: str) -> set[str]:
    """The splits in the last part of a path that has any."""
    for part in reversed(path.split("/")):
        if found := set().union(*map(_meant, _words(part))):
            return found
    return set()


def _below(
    fs: Any, inside: str, remote: bool, kinds: Container[str], *, near: bool
) -> Iterator[str]:
    """Seed files in the folders below one, except hidden folders. Where there are some `near`, only
    the first `_LOOKED_AT` entries are checked: the rest may be a million images."""
    if remote and near:
        return
    looked = 0
    for folder, _, names in fs.walk(inside):
        looked += len(names)
        if near and looked > _LOOKED_AT:
            return
        if "/." not in folder[len(inside) :] and folder.rstrip("/") != inside:
            yield from (f"{folder.rstrip('/')}/{n}" for n in names if _is_seed_file(n, kinds))


@functools.cache
def tell(text: str) -> None:
    """Warn once for each text: files are located several times."""
    _log.warning("%s", text)


def _nearest(fs: Any, inside: str) -> str:
    """`: did you mean …`, from the names in the folder that was meant."""
    parent, _, name = inside.rstrip("/").rpartition("/")
    try:
        entries = fs.ls(parent or "/", detail=False)
    except (OSError, ValueError, NotImplementedError):
        return f" (nor does its folder {parent!r}): give the path of a file or folder"
    names = [entry.rstrip("/").rsplit("/", 1)[-1] for entry in entries]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f": did you mean {near[0]!r}?"
    seeds = sorted(entry for entry in names if _is_seed_file(entry))[:5]
    there = f" (there are {', '.join(seeds)})" if seeds else ""
    return f": give a file or folder that exists in {parent or '/'!r}{there}"


def open_binary(file: SeedFile) -> IO[bytes]:
    """The bytes of a file, decompressed, buffered. Raises `InputError` when it does not open."""
    fs, inside = resolve(file.uri)
    try:
        if file.member:
            raw: Any = open_member(file.uri, file.member)
        elif file.compression == "zstd":
            import pyarrow as pa

            raw = pa.CompressedInputStream(pa.PythonFile(fs.open(inside, "rb"), "r"), "zstd")
        else:
            raw = fs.open(inside, "rb", compression=file.compression)
    except OSError as error:
        raise InputError(f"{file.uri} cannot be opened: {error}") from None
    return io.BufferedReader(raw, 2**20)


def file_fingerprint(uri: str) -> str:
    """Changes with the file: its hash up to `HASH_BYTES`, else its size and time or entity tag."""
    fs, inside = resolve(uri)
    info = fs.info(inside)
    size = info.get("size")
    if size is not None and size <= HASH_BYTES:
        with fs.open(inside, "rb") as handle:
            return f"{size}:sha256:{hashlib.file_digest(handle, 'sha256').hexdigest()}"
    if not is_url(uri):
        return f"{size}:mtime_ns:{os.stat(inside).st_mtime_ns}"
    for key in ("ETag", "etag", "md5Hash", "checksum", "LastModified", "mtime", "updated"):
        if info.get(key):
            return f"{size}:{key}:{info[key]}"
    return f"{size}"
