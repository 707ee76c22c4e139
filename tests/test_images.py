"""Images: any real one opens as upright RGB; anything else is a reason."""

from __future__ import annotations

import base64
import io
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from pair_samples import make_rollout
from PIL import Image, ImageCms, ImageDraw

from mmpr_builder.errors import RowError
from mmpr_builder.io import images
from mmpr_builder.io.access import Access
from mmpr_builder.io.images import open_image, read_bytes
from mmpr_builder.output.stored_images import load_images
from mmpr_builder.records import ImageRef, Seed

DATA = Path(__file__).parents[2] / "shared" / "data"
WHITE, RED, BLACK = (255, 255, 255), (255, 0, 0), (0, 0, 0)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def reason_of(data: bytes) -> str:
    with pytest.raises(RowError) as caught:
        open_image(data)
    assert caught.value.detail
    return caught.value.reason


def near(a: Any, b: Any, by: int = 12) -> bool:
    return all(abs(x - y) <= by for x, y in zip(a, b, strict=True))


def half_red(mode: str = "RGB", size: tuple[int, int] = (40, 20)) -> Image.Image:
    """Left half red, right half white."""
    image = Image.new("RGB", size, WHITE)
    ImageDraw.Draw(image).rectangle((0, 0, size[0] // 2 - 1, size[1]), fill=RED)
    return image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGB", "PNG"), ("P", "PNG"), ("P", "GIF"), ("CMYK", "TIFF"), ("CMYK", "JPEG"),
        ("YCbCr", "TIFF"), ("YCbCr", "JPEG"), ("RGB", "WEBP"), ("RGB", "BMP"), ("RGB", "PPM"),
        ("RGB", "AVIF"), ("RGBX", "TIFF"),
    ],
)  # fmt: skip
def test_colours_survive_every_mode_and_format(mode: str, kind: str) -> None:
    opened = open_image(encode(half_red().convert(mode), kind))
    assert opened.mode == "RGB"
    width, height = opened.size
    assert near(opened.getpixel((width // 4, height // 2)), RED)
    assert near(opened.getpixel((width * 3 // 4, height // 2)), WHITE)


def test_inverted_cmyk_of_adobe_is_not_a_negative() -> None:
    # Pillow writes CMYK JPEG the way Adobe does: inverted, with an APP14 marker.
    data = encode(half_red("CMYK"), "JPEG")
    assert b"Adobe" in data
    assert near(open_image(data).getpixel((10, 10)), RED)


def test_lab_is_understood() -> None:
    lab = ImageCms.createProfile("LAB")
    srgb = ImageCms.createProfile("sRGB")
    image = ImageCms.profileToProfile(half_red(), srgb, lab, outputMode="LAB")
    opened = open_image(encode(image, "TIFF"))
    assert near(opened.getpixel((10, 10)), RED, 20)
    assert near(opened.getpixel((30, 10)), WHITE, 20)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_white(mode: str) -> None:
    image = Image.new("RGBA", (4, 2), (0, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 128))
    if mode == "PA":
        flat = Image.new("PA", (4, 2), (0, 0))
        flat.putpixel((0, 0), (0, 255))
        flat.putpixel((1, 0), (0, 128))
        flat.putpalette([0, 0, 0] * 256)
        opened = images._to_rgb(flat)
    else:
        opened = open_image(encode(image.convert(mode)))
    assert opened.getpixel((0, 0)) == BLACK
    assert near(opened.getpixel((1, 0)), (127, 127, 127), 2)
    assert opened.getpixel((3, 1)) == WHITE


def test_transparent_palettes_and_keys_are_white() -> None:
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.putpixel((1, 0), 1)
    for kind in ("PNG", "GIF"):
        opened = open_image(encode(palette, kind, transparency=0))
        assert [opened.getpixel((x, 0)) for x in (0, 1)] == [WHITE, RED]
    key = Image.new("RGB", (2, 1), BLACK)
    key.putpixel((1, 0), RED)
    opened = open_image(encode(key, transparency=BLACK))
    assert [opened.getpixel((x, 0)) for x in (0, 1)] == [WHITE, RED]
    grey = Image.new("L", (2, 1), 7)
    grey.putpixel((1, 0), 200)
    opened = open_image(encode(grey, transparency=7))
    assert [opened.getpixel((x, 0)) for x in (0, 1)] == [WHITE, (200, 200, 200)]


def test_one_bit_is_black_and_white() -> None:
    image = Image.new("1", (2, 1), 0)
    image.putpixel((1, 0), 1)
    opened = open_image(encode(image))
    assert [opened.getpixel((x, 0)) for x in (0, 1)] == [BLACK, WHITE]


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 32896, 65535], np.uint16, [0, 128, 255]),
        ([0, 2048, 4095], np.uint16, [0, 128, 255]),
        ([0, 128, 255], np.uint16, [0, 128, 255]),
        ([0, 100, 200], np.int32, [0, 100, 200]),
        ([-100, 0, 100], np.int32, [0, 128, 255]),
        ([0.0, 0.5, 1.0], np.float32, [0, 128, 255]),
        ([0.0, 100.0, 255.0], np.float32, [0, 100, 255]),
        ([-1.0, 0.0, 1.0], np.float32, [0, 128, 255]),
        ([float("nan"), 0.0, 1.0], np.float32, [0, 0, 255]),
        ([5, 5, 5], np.int32, [5, 5, 5]),
    ],
)
def test_deep_samples_are_scaled_to_what_they_use(
    values: list[float], dtype: Any, expected: list[int]
) -> None:
    image = Image.fromarray(np.array([values], dtype=dtype))
    opened = open_image(encode(image, "TIFF"))
    assert [opened.getpixel((x, 0))[0] for x in range(3)] == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_turn_is_applied_once(turn: int, kind: str) -> None:
    upright = Image.new("RGB", (60, 40), WHITE)
    ImageDraw.Draw(upright).rectangle((0, 0, 19, 19), fill=RED)  # top left
    undo = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}.get(turn)
    stored = upright.transpose(images._TURNS[undo]) if undo else upright
    exif = Image.Exif()
    exif[0x0112] = turn
    opened = open_image(encode(stored, kind, exif=exif))
    assert opened.size == (60, 40)
    assert near(opened.getpixel((8, 8)), RED, 40)
    for corner in ((50, 8), (8, 32), (50, 32)):
        assert near(opened.getpixel(corner), WHITE, 40)


def test_a_broken_exif_block_does_not_cost_the_picture() -> None:
    data = encode(half_red(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\x99" * 40)
    assert open_image(data).size == (40, 20)


def test_a_broken_colour_profile_does_not_cost_the_picture() -> None:
    for kind in ("JPEG", "PNG", "TIFF", "WEBP"):
        data = encode(half_red(), kind, icc_profile=b"not a profile" * 9)
        assert near(open_image(data).getpixel((10, 10)), RED)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_is_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert near(open_image(data).getpixel((4, 4)), RED)


def test_the_name_of_a_file_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "wrong.jpg"
    path.write_bytes(encode(half_red(), "WEBP"))
    assert open_image(read_bytes(ImageRef(str(path)))).size == (40, 20)


def test_one_pixel_is_an_image() -> None:
    assert open_image(encode(Image.new("RGB", (1, 1), RED))).getpixel((0, 0)) == RED


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_a_truncated_file_is_no_half_grey_picture(kind: str, part: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), kind)
    assert reason_of(data[: int(len(data) * part)]) == "image_unreadable"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"%PDF-1.4 ...",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\x89PNG\r\n\x1a\n" + b"\0" * 50,
        b"\xff\xd8\xff" + b"\0" * 50,
        b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 200,
    ],
)
def test_what_is_no_raster_image_is_unreadable(data: bytes) -> None:
    assert reason_of(data) == "image_unreadable"


def test_postscript_is_never_run() -> None:
    assert not {"EPS", "WMF", "PDF", "PSD", "FPX"} & set(images.FORMATS)


@pytest.mark.parametrize("kind", ["JPEG2000", "ICO"])
def test_decoders_that_data_sets_hardly_need_are_off(tmp_path: Path, kind: str) -> None:
    """Two kilobytes of JPEG 2000 became gigabytes; what was sampled before can still be paired."""
    data = encode(half_red(size=(32, 32)), kind)
    with pytest.raises(RowError, match=f"image_unreadable: {kind} is not decoded: convert"):
        open_image(data)
    path = tmp_path / "sampled"
    path.write_bytes(data)
    (stored,) = load_images(make_rollout(Seed("s", "?", (ImageRef(str(path)),)), []))
    assert near(open_image(stored).getpixel((8, 16)), RED)


def png_header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    idat = b"IDAT" + zlib.compress(b"")
    chunks = [head, idat, b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(60_000, 60_000), (13_500, 13_500), (2**30, 2)])
def test_size_is_judged_from_the_header(size: tuple[int, int]) -> None:
    assert reason_of(png_header(*size)) == "image_too_large"


def tiled(side: int, tile: int) -> bytes:
    """A TIFF of `side` x `side` pixels that says it has tiles of `tile` x `tile`."""
    tags = {256: side, 257: side, 258: 8, 259: 1, 262: 2, 277: 3, 322: tile, 323: tile}
    tags |= {324: 8 + 2 + 12 * 10 + 4, 325: 100}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0" * 104


def test_a_picture_is_measured_by_what_decoding_it_takes() -> None:
    for data in (png_header(11_600, 11_600), png_header(7_000, 7_000, 16, 0), tiled(9, 30_000)):
        with pytest.raises(RowError, match=r"image_too_large: .*decoded over 1024 MiB"):
            open_image(data)


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


JPEG, PNG, GIF = (encode(half_red(), kind) for kind in ("JPEG", "PNG", "GIF"))
SCANS = encode(Image.new("L", (4096, 4096)), "JPEG", progressive=True)
LENGTHY = {
    "JPEG, fill bytes": (JPEG[:2] + b"\xff" * 9_000_000 + JPEG[2:], "unreadable"),
    "JPEG, comments": (JPEG[:2] + b"\xff\xfe\0\2" * 300_000 + JPEG[2:], "unreadable"),
    "JPEG, notes that are joined": (
        JPEG[:2] + (b"\xff\xe1\xff\xffExif\0\0" + b"a" * 65_527) * 150 + JPEG[2:],
        "unreadable",
    ),
    "JPEG, scans": (SCANS[:-2] + SCANS[SCANS.rfind(b"\xff\xda") : -2] * 260, "too_large"),
    "GIF, a comment": (
        GIF[:13] + b"!\xfe" + (b"\xff" + b"a" * 255) * 40_000 + b"\0" + GIF[13:],
        "unreadable",
    ),
    "PNG, chunks before": (PNG[:33] + chunk(b"gAMA", b"\0\0\0\1") * 9_999 + PNG[33:], "unreadable"),
    "PNG, empty data": (PNG[:33] + chunk(b"IDAT") * 200_000 + PNG[33:], "unreadable"),
    "PPM, a comment": (b"P6 #" + b"a" * 999_999 + b"\n1 1 255\n123", "unreadable"),
    "PPM, plain": (b"P3 1500 1500 255\n" + b"0 " * 6_750_000, "too_large"),
    "BMP, runs": (encode(half_red("L"), "BMP")[:30] + b"\1" + b"\0" * 5_000_000, "too_large"),
}  # fmt: skip


@pytest.mark.parametrize("name", LENGTHY)
def test_a_picture_with_more_parts_than_any_has_is_left_unread(name: str) -> None:
    data, reason = LENGTHY[name]
    assert reason_of(data) == f"image_{reason}"


def test_notes_of_usual_size_cost_no_picture() -> None:
    notes = (b"\xff\xe1\xff\xffhttp" + b"a" * 65_529) * 80  # 5 MB, as phones write for depth.
    assert open_image(JPEG[:2] + notes + JPEG[2:]).size == (40, 20)
    assert open_image(PNG[:33] + chunk(b"tEXt", b"a\0" + b"b" * 9_000_000) + PNG[33:]).size == (
        40,
        20,
    )
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)
    pieces = encode(Image.fromarray(noise))
    assert open_image(pieces).size == open_image(encode(Image.fromarray(noise), "PPM")).size


PEAK = """
import io, resource, sys
from PIL import Image
from mmpr_builder.io.images import open_image
data = io.BytesIO()
Image.new("RGBA", (64, 64)).save(data, "PNG")
open_image(data.getvalue())
data = open(sys.argv[1], "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
open_image(data)
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


def test_transparency_and_turns_take_no_further_copies_of_the_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "bomb.png"
    path.write_bytes(encode(Image.new("RGBA", (4000, 4000)), exif=exif))
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 10 * 4000 * 4000


def test_decodes_share_one_budget_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(half_red())
    cost = 8 * 40 * 20
    monkeypatch.setattr(images, "_budget", images._Budget(2 * cost + 1))
    together, most, pairs = [0], [0], threading.Barrier(2)

    def slowly(image: Image.Image) -> int:
        together[0] += 1
        pairs.wait(60)  # Two are let in together …
        most[0] = max(most[0], together[0])
        pairs.wait(60)
        together[0] -= 1
        return 1

    monkeypatch.setattr(images, "_orientation", slowly)
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(open_image, [data] * 8))) == 8
    assert most[0] == 2  # … and never a third.
    with pytest.raises(RowError):
        open_image(data[:60])
    assert images._budget._left == 2 * cost + 1


def test_absurd_sides_are_refused() -> None:
    assert reason_of(encode(Image.new("L", (2001, 10)))) == "image_bad_aspect"
    assert reason_of(encode(Image.new("L", (10, 2001)))) == "image_bad_aspect"
    assert open_image(encode(Image.new("L", (2000, 10)))).size == (2000, 10)
    assert reason_of(png_header(0, 5)) == "image_unreadable"


# ---------------------------------------------------------------- read_bytes


def test_bytes_come_from_files_urls_and_data_urls(tmp_path: Path) -> None:
    data = encode(half_red())
    (tmp_path / "a b%20.png").write_bytes(data)
    with fsspec.open("memory://images-test/1.png", "wb") as out:
        out.write(data)
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    for uri in (str(tmp_path / "a b%20.png"), "memory://images-test/1.png", url):
        assert read_bytes(ImageRef(uri), Access(urls=("memory://images-test",))) == data


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("{tmp}/none.png", "image_missing"),
        ("{tmp}", "image_unreadable"),
        ("memory://images-test/none.png", "image_missing"),
        ("memory://elsewhere/1.png", "image_not_allowed"),
        ("nosuchscheme://x/1.png", "image_not_allowed"),
        ("data:image/png,abc", "image_unreadable"),
        ("data:image/png;base64,@@@@", "image_unreadable"),
        ("{tmp}/" + "x" * 5000, "image_unreadable"),
        ("{tmp}/nul\0.png", "image_unreadable"),
    ],
)
def test_what_cannot_be_read_is_a_reason(tmp_path: Path, uri: str, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        read_bytes(ImageRef(uri.format(tmp=tmp_path)), Access(urls=("memory://images-test",)))
    assert caught.value.reason == reason
    assert caught.value.detail


def test_huge_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 1000)
    (tmp_path / "big").write_bytes(bytes(1001))
    (tmp_path / "fits").write_bytes(bytes(1000))
    assert len(read_bytes(ImageRef(str(tmp_path / "fits")))) == 1000
    with pytest.raises(RowError, match="image_too_large"):
        read_bytes(ImageRef(str(tmp_path / "big")))


@pytest.mark.skipif(not DATA.is_dir(), reason="the real test data is not here")
def test_every_real_image_opens_and_every_bad_one_says_why() -> None:
    good = [p for p in (DATA / "real").rglob("*") if p.is_file() and p.suffix != ".jsonl"]
    assert len(good) > 200
    for path in good:
        assert open_image(read_bytes(ImageRef(str(path)))).mode == "RGB"
    bad = list((DATA / "real_bad" / "images").iterdir())
    assert {reason_of(path.read_bytes()) for path in bad} == {"image_unreadable"}
