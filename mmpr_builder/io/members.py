"""Members of .zip and .tar archives, read where they lie: nothing is unpacked, no name is a path.

    ImageRef("/data/images.zip", row=0, column="img/1.png")           a member by its name
    ImageRef("/data/shard-000.tar", row=10_240, column="0001.jpg")    a member by its place

Each read is bounded, whatever an archive says of sizes. Links and devices are no members.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import IO, Any

from mmpr_builder.errors import InputError, RowError
from mmpr_builder.io.stores import is_url, resolve
from mmpr_builder.records import ImageRef

ARCHIVES = (".zip", ".tar")
MAX_RATIO = 200  # JSON shrinks to a tenth; deflate alone comes to a thousandth.
_SMALL = 64 * 2**20
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError)
DAMAGED = (*_DAMAGED, OSError, ValueError, zlib.error)
"""What a damaged or hostile archive raises."""


@lru_cache(maxsize=8)
def open_zip(uri: str) -> zipfile.ZipFile:
    """A zip archive with its list of members. Raises `InputError`."""
    fs, inside = resolve(uri)
    try:
        return zipfile.ZipFile(fs.open(inside, "rb"))
    except DAMAGED as error:
        raise InputError(f"{uri}: not a readable zip archive: {error}") from None


def open_member(uri: str, name: str) -> IO[bytes]:
    """A member of a zip archive as a stream. Raises `InputError`, also for a bomb."""
    archive = open_zip(uri)
    try:
        info = archive.getinfo(name)
        if info.file_size > _SMALL and info.file_size > MAX_RATIO * info.compress_size:
            raise InputError(f"{uri}: {name!r} grows over {MAX_RATIO} times: unpack it yourself")
        return archive.open(info)
    except (*DAMAGED, KeyError) as error:
        raise InputError(f"{uri}: {name!r} cannot be read: {error}") from None


def split_zip(path: str) -> tuple[str, str] | None:
    """(`/d/a.zip`, `img`) of the local path `/d/a.zip/img` into an archive, None for others."""
    end = path.lower().find(".zip")
    while end >= 0 and not is_url(path):
        archive, rest = path[: end + 4], path[end + 4 :]
        if rest[:1] in ("", "/") and os.path.isfile(archive):
            return archive, rest.strip("/")
        end = path.lower().find(".zip", end + 4)
    return None


def member_ref(archive: str, folder: str, name: str) -> ImageRef:
    """The member that a row in `folder` of a zip archive names. Raises `RowError`."""
    member = posixpath.normpath(posixpath.join(folder, name))
    if member.startswith("../"):
        raise RowError("image_not_allowed", f"{name[:200]} leads out of {archive}")
    return ImageRef(archive, 0, member)


def read_member(ref: ImageRef, most: int) -> bytes:
    """The bytes of a member, `most` + 1 of them at most. Raises `RowError` "image_missing"."""
    try:
        if ref.uri.lower().endswith(".zip"):
            with open_zip(ref.uri).open(str(ref.column)) as member:
                return member.read(most + 1)
        fs, inside = resolve(ref.uri)
        with fs.open(inside, "rb") as handle:
            handle.seek(ref.row)
            with tarfile.open(fileobj=handle, mode="r:") as tar:
                found = tar.next()
                content = tar.extractfile(found) if found and found.isreg() else None
                if found is None or content is None or found.name != ref.column:
                    raise KeyError(ref.column)
                return content.read(most + 1)
    except (*DAMAGED, KeyError, InputError) as error:
        raise RowError("image_missing", f"{ref.uri}: {ref.column!r}: {error}"[:500]) from None


def tar_members(uri: str) -> Iterator[tuple[tarfile.TarInfo, Any]]:
    """(member, the open archive) of a .tar in its order, files only. Raises `InputError`."""
    fs, inside = resolve(uri)
    try:
        with fs.open(inside, "rb") as handle, tarfile.open(fileobj=handle, mode="r:") as tar:
            last = -1
            while (found := tar.next()) is not None:
                if found.offset <= last:
                    raise InputError(f"{uri}: a member leads back to one before it")
                last = found.offset
                tar.members = []  # type: ignore[attr-defined]  # Else it keeps all.
                if not (found.isreg() or found.isdir()):
                    what = "is a link or a device: pack the files themselves"
                    raise InputError(f"{uri}: {found.name!r} {what}")
                if found.isreg():
                    yield found, tar
    except DAMAGED as error:
        raise InputError(f"{uri}: not a readable tar archive: {error}") from None
