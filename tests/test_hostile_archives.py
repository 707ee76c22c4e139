"""Archives of strangers: no name of a member is a path, and no size or place is believed."""

from __future__ import annotations

import io
import json
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from mmpr_builder.config import SourceConfig
from mmpr_builder.errors import MmprError, RowError
from mmpr_builder.io.images import read_bytes
from mmpr_builder.records import Drop
from mmpr_builder.seeds import check_sources, read_seeds

Change = Callable[[bytearray, int], None]
ASKED = {"id": "a", "question": "<image>\nHow many?", "answer": "3"}


def row(image: str) -> bytes:
    return json.dumps({**ASKED, "image": image}).encode() + b"\n"


def picture(colour: str) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(data, "PNG")
    return data.getvalue()


OWN, SECRET = picture("green"), picture("red")


def linked(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


def zipped(path: Path, members: Sequence[tuple[str | zipfile.ZipInfo, bytes]]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in members:
            archive.writestr(name, data)


def outcome(path: Path) -> list[str]:
    """What a source gives: bytes of images by what they are, drops and errors by their names."""
    found = []
    try:
        check_sources([SourceConfig(path=str(path))])
        for item in read_seeds(path):
            if isinstance(item, Drop):
                found.append(item.reason)
            for ref in () if isinstance(item, Drop) else item.images:
                try:
                    data = read_bytes(ref)
                    found.append({OWN: "own", SECRET: "SECRET"}.get(data, "no picture"))
                except RowError as error:
                    found.append(error.reason)
    except MmprError:
        found.append("refused")
    return found


ZIPS: dict[str, tuple[Sequence[tuple[str | zipfile.ZipInfo, bytes]], str]] = {
    "as it should be": ([("a.jsonl", row("x.png")), ("x.png", OWN)], "own"),
    "seeds above": ([("../../a.jsonl", row("x.png")), ("x.png", OWN)], "image_not_allowed"),
    "seeds at the root": ([("/a.jsonl", row("../secret.png"))], "image_not_allowed"),
    "an image above": (
        [("a.jsonl", row("../secret.png")), ("../secret.png", OWN)],
        "image_not_allowed",
    ),
    "an image anywhere": ([("a.jsonl", row("{folder}/secret.png"))], "image_not_allowed"),
    "a link": ([("a.jsonl", row("l.png")), (linked("l.png"), b"../secret.png")], "no picture"),
    "seeds by a link": ([(linked("a.jsonl"), b"/etc/passwd")], "invalid_json"),
    "an archive in it": ([("a.jsonl", row("b.zip/x.png")), ("b.zip", b"PK")], "image_missing"),
    "a bomb for a picture": (
        [("a.jsonl", row("x.png")), ("x.png", bytes(2**27 + 1))],
        "image_too_large",
    ),
}


@pytest.mark.parametrize(("members", "becomes"), ZIPS.values(), ids=ZIPS)
def test_names_in_a_zip_lead_nowhere(
    members: Sequence[tuple[str | zipfile.ZipInfo, bytes]], becomes: str, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(SECRET)
    (folder / "secret.png").write_bytes(SECRET)
    filled = [(n, d.replace(b"{folder}", str(folder).encode())) for n, d in members]
    zipped(folder / "a.zip", filled)
    before = sorted(tmp_path.rglob("*"))
    assert outcome(folder / "a.zip") == [becomes]
    assert sorted(tmp_path.rglob("*")) == before, "nothing is unpacked"


def put(at: int, format: str, value: int) -> Change:
    def change(data: bytearray, entry: int) -> None:
        struct.pack_into(format, data, entry + at, value)

    return change


LIES = {
    "a size without end": (put(24, "<I", 0xFFFFFFF0), "refused"),
    "a place behind the end": (put(42, "<I", 0x7FFFFFFF), "refused"),
    "a password": (put(8, "<H", 1), "refused"),
    "an unknown method": (put(10, "<H", 99), "refused"),
    "a wrong sum": (put(16, "<I", 1), "refused"),
}


@pytest.mark.parametrize(("change", "becomes"), LIES.values(), ids=LIES)
def test_what_a_zip_says_of_its_members_is_not_believed(
    change: Change, becomes: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.zip"
    zipped(path, [("a.jsonl", row("x.png")), ("x.png", OWN)])
    data = bytearray(path.read_bytes())
    change(data, data.find(b"PK\x01\x02"))
    path.write_bytes(data)
    assert outcome(path) == [becomes]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_a_tar_with_a_link_or_a_device_is_refused(kind: bytes, tmp_path: Path) -> None:
    """Its picture would be missing, and the question would be asked without it."""
    (tmp_path / "secret.png").write_bytes(SECRET)
    for special in (False, True):
        path = tmp_path / f"{special}.tar"
        with tarfile.open(path, "w") as archive:
            for name, data in (("1.json", row("")[:-1].replace(b', "image": ""', b"")),
                               ("1.png", OWN)):  # fmt: skip
                info = tarfile.TarInfo(f"../../{name}")
                info.size = len(data)
                if special and name == "1.png":
                    info.type, info.linkname, info.size = kind, str(tmp_path / "secret.png"), 0
                archive.addfile(info, io.BytesIO(data))
        assert outcome(path) == (["refused"] if special else ["own"])
