"""What the image strings of rows may name: a stranger's rows read neither disk nor network."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from build_files import write_jsonl
from pair_samples import picture
from web import serving

from mmpr_builder.config import SourceConfig, load_config
from mmpr_builder.errors import ConfigError, InputError, RowError
from mmpr_builder.export.importing import import_pairs
from mmpr_builder.io import fetching
from mmpr_builder.io.access import Access, access_of, check_url
from mmpr_builder.io.images import open_image, read_bytes
from mmpr_builder.io.tables import drops_from_table, list_parts, read_parquet
from mmpr_builder.output.stored_images import load_images
from mmpr_builder.records import Drop, ImageRef, Seed
from mmpr_builder.seeds import read_seeds, read_sources

SECRET = b"-----BEGIN KEY-----\nnobody may see this\n"


def read(folder: Path, image: Any, **settings: Any) -> Seed | Drop:
    """The one row of a file in `folder` that names `image`."""
    (folder / "rows.jsonl").write_text(json.dumps({"question": "What?", "image": image}) + "\n")
    (item,) = read_seeds(folder / "rows.jsonl", **settings)
    return item


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """data/ with a picture and links; beside it things that no row may read."""
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    picture(folder / "a.png", "red")
    (tmp_path / "secret").write_bytes(SECRET)
    picture(tmp_path / "private.png", "blue")
    (tmp_path / "data2").mkdir()
    picture(tmp_path / "data2" / "b.png", "blue")
    (folder / "link.png").symlink_to(tmp_path / "private.png")
    (folder / "linked").symlink_to(tmp_path / "data2")
    (folder / "inside.png").symlink_to(folder / "a.png")
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize(
    "image",
    [
        "{tmp}/secret",
        "{tmp}/private.png",
        "/etc/hostname",
        "../private.png",
        "sub/../../private.png",
        "./../private.png",
        "{tmp}/data/../private.png",
        "{tmp}/data2/b.png",
        "~/x.png",
        "file://{tmp}/private.png",
        "FILE://{tmp}/private.png",
        "file:///../..{tmp}/private.png",
        "link.png",
        "linked/b.png",
        "local://{tmp}/private.png",
        "reference://x?fo={tmp}/r.json",
        "zip://a.png::{tmp}/a.zip",
        "simplecache::file://{tmp}/private.png",
        "dir::file://{tmp}",
        "memory://x.png",
        "ftp://127.0.0.1/x.png",
        "github://o:r@main/x.png",
        "s3://bucket/x.png",
        "http://127.0.0.1:1/x.png",
        "https://example.org/x.png",
        "HTTPS://example.org/x.png",
        "hf://datasets/a/b/x.png",
        "\x00://x",
        "a://[",
    ],
)
def test_rows_name_nothing_outside_of_their_root(data: Path, image: str) -> None:
    found = read(data, image.format(tmp=data.parent))
    assert isinstance(found, Drop)
    assert found.reason in ("image_not_allowed", "bad_image_field")
    assert SECRET[:16].hex(" ") not in found.detail
    assert "nobody" not in found.detail


@pytest.mark.parametrize(
    "image", ["a.png", "./a.png", "{data}/a.png", "inside.png", "sub/../a.png"]
)
def test_rows_name_what_is_below_their_root(data: Path, image: str) -> None:
    found = read(data, image.format(data=data))
    assert isinstance(found, Seed), found
    assert open_image(read_bytes(found.images[0])).mode == "RGB"


@pytest.mark.parametrize("image", ["~root/x.png", "~x.png", "filecache::/etc/hostname", "a::b.png"])
def test_names_that_look_like_more_are_names_of_files_below_the_root(
    data: Path, image: str
) -> None:
    found = read(data, image)
    assert isinstance(found, Seed), found
    assert found.images[0].uri == f"{data}/{image}"
    with pytest.raises(RowError, match="image_missing"):
        read_bytes(found.images[0])


@pytest.mark.parametrize("image", ["{tmp}/data2/b.png", "linked/b.png", "../data2/b.png"])
def test_a_source_can_open_further_folders(data: Path, image: str) -> None:
    found = read(data, image.format(tmp=data.parent), roots=[str(data.parent / "data2")])
    assert isinstance(found, Seed), found
    still = read(data, f"{data.parent}/private.png", roots=[str(data.parent / "data2")])
    assert isinstance(still, Drop)


def test_a_drop_says_which_setting_opens_the_folder(data: Path) -> None:
    found = read(data, f"{data.parent}/data2/b.png")
    assert isinstance(found, Drop)
    assert "`roots` (seeds.N.roots=" in found.detail


def test_a_root_that_is_a_link_to_another_disk_is_followed(data: Path) -> None:
    (data.parent / "disk").symlink_to(data)
    for root in (data.parent / "disk", f"{data.parent}/disk/"):
        found = read(data.parent / "data2", "a.png", root=root)
        assert isinstance(found, Seed), found
    found = read(data.parent / "data2", f"{data.parent}/disk/a.png", root=data.parent / "disk")
    assert isinstance(found, Seed), found


def test_the_hubs_cache_may_be_named_but_not_the_token_beside_it(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    home = data.parent / "huggingface"
    (home / "hub").mkdir(parents=True)
    (home / "token").write_text("hf_secret")
    picture(home / "hub" / "1.png", "red")
    monkeypatch.setattr(constants, "HF_HOME", str(home))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.delenv("HF_DATASETS_CACHE", raising=False)
    assert isinstance(read(data, str(home / "hub" / "1.png")), Seed)
    assert isinstance(read(data, str(home / "token")), Drop)


@pytest.mark.parametrize("name", ["pipe", "sub", "loop"])
def test_only_regular_files_are_read(data: Path, name: str) -> None:
    with pytest.raises(RowError):
        read_bytes(ImageRef(str(data / name)))


def test_no_byte_of_a_file_is_in_a_message(data: Path) -> None:
    with pytest.raises(RowError) as caught:
        open_image(SECRET)
    png = (data / "a.png").read_bytes()
    for damaged in (png[:8] + b"\0\0\0\4SECR" + png[16:], png[:40] + SECRET, b"BM" + SECRET):
        with pytest.raises(RowError) as caught:
            open_image(damaged)
        assert "SECR" not in caught.value.detail
        assert "BEGIN" not in caught.value.detail


@pytest.mark.parametrize("name", ["a\0.png", "a\0"])
def test_a_nul_in_a_path_is_a_drop(data: Path, name: str) -> None:
    found = read(data, name)
    assert isinstance(found, Drop)
    assert found.reason == "bad_image_field"


# ------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("seeds.0.allow=[ftp]", "'ftp' is neither one of http, https"),
        ("seeds.0.allow=[file]", "'file' is neither"),
        ("seeds.0.allow=['https://']", "with a host"),
        ("seeds.0.allow=['https://bob:pw@host']", "neither"),
        ("seeds.0.roots=['s3://bucket/x']", "name it in `allow`"),
    ],
)
def test_settings_that_open_nothing_are_errors(setting: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config(None, ["seeds=[a.jsonl]", setting])
    key, _, value = setting.removeprefix("seeds.0.").partition("=")
    with pytest.raises(ConfigError, match=says):
        read_seeds("a.jsonl", **{key: [value.strip("[]'")]})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "allow", "is_open"),
    [
        ("https://host/a.png", ["https"], True),
        ("http://host/a.png", ["https"], False),
        ("https://host/a.png", ["https://host"], True),
        ("https://host/a/b.png", ["https://host/a/"], True),
        ("https://host/ab.png", ["https://host/a"], False),
        ("https://host.evil/a.png", ["https://host"], False),
        ("https://host@evil/a.png", ["https://host"], False),
        ("https://evil#@host/a.png", ["https://host"], False),
        ("https://evil/?@host/a.png", ["https://host"], False),
        ("https://evil\\@host/a.png", ["https://host"], True),
        ("https://host:444/a.png", ["https://host"], False),
        ("https://host:443/a.png", ["https://host"], True),
        ("https://host/a/../b.png", ["https://host/a"], False),
        ("https://host/a/%2e%2e/b.png", ["https://host/a"], False),
        ("https://host/a/..\\b.png", ["https://host/a"], False),
        ("zip://a::https://host/x", ["https"], False),
        ("s3://bucket/a.png", ["s3"], True),
        ("s3://bucket/a.png", ["https"], False),
    ],
)
def test_urls_are_open_by_protocol_or_by_their_beginning(
    url: str, allow: Sequence[str], is_open: bool
) -> None:
    access = access_of([SourceConfig(path="a.jsonl", allow=tuple(allow))])
    if is_open:
        check_url(url, access)
        return
    with pytest.raises(RowError, match="image_not_allowed"):
        check_url(url, access)


# ------------------------------------------------------------------ over HTTP


def test_a_named_private_host_is_asked_and_no_other(data: Path) -> None:
    body = (data / "a.png").read_bytes()
    with serving({"/a.png": body}) as web:
        named = Access(urls=(web.url,))
        assert read_bytes(ImageRef(f"{web.url}/a.png"), named) == body
        assert read_bytes(ImageRef(f"{web.url}/quiet/a.png"), named) == body
        with pytest.raises(RowError, match="image_missing"):
            read_bytes(ImageRef(f"{web.url}/none.png"), named)
        asked, anywhere = len(web.asked), Access(protocols=frozenset({"http"}))
        for host in ("127.0.0.1", "localhost", "0.0.0.0", "127.1", "2130706433", "[::1]"):
            with pytest.raises(RowError, match=r"image_(not_allowed|unreadable)"):
                read_bytes(ImageRef(f"http://{host}:{web.port}/a.png"), anywhere)
        assert len(web.asked) == asked


def test_redirects_lead_only_where_rows_may_go(data: Path) -> None:
    body = (data / "a.png").read_bytes()
    with serving({"/x.png": body}) as inner:
        moved = {
            "/1": f"{inner.url}/x.png",
            "/2": "file:///etc/hostname",
            "/3": "/3",
            "/4": "/ok/x.png",
            "/5": "",
        }
        with serving({"/ok/x.png": body}, moved) as outer:
            access = Access(urls=(outer.url,), protocols=frozenset({"http"}))
            for path in ("/1", "/2", "/3", "/5"):
                with pytest.raises(RowError, match=r"image_(not_allowed|unreadable)"):
                    read_bytes(ImageRef(outer.url + path), access)
            assert read_bytes(ImageRef(f"{outer.url}/4"), access) == body
            assert inner.asked == []


@pytest.mark.parametrize("path", ["/drip", "/drip-head"])
def test_a_server_that_drips_is_left_at_the_deadline(path: str) -> None:
    with serving({}) as web:
        began = time.monotonic()
        with pytest.raises(RowError, match="not there after 1 s"):
            fetching.fetch(web.url + path, Access(urls=(web.url,)), 10**6, deadline_s=1.0)
        assert time.monotonic() - began < 300  # It would drip for minutes, or for ever.


def test_a_body_without_end_is_read_to_the_limit() -> None:
    with serving({}) as web:
        found = fetching.fetch(f"{web.url}/endless", Access(urls=(web.url,)), 10**6)
        assert 10**6 < len(found) < 3 * 10**6


def test_what_a_server_says_instead_of_http_is_not_quoted() -> None:
    import socket
    import threading

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def banner() -> None:
            for _ in range(3):
                connection, _ = listener.accept()
                connection.sendall(b"220 secret-mail.internal ESMTP\r\n")
                connection.close()

        threading.Thread(target=banner, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(RowError) as caught:
            read_bytes(ImageRef(f"{url}/a.png"), Access(urls=(url,)))
    assert "secret-mail" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("::ffff:10.0.0.1", False),
        ("::127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("64:ff9b:1::7f00:1", False),
        ("::ffff:0:127.0.0.1", False),
        ("5f00::1", False),
        ("3fff::1", False),
        ("64:ff9b::808:808", True),
        ("fd00::1", False),
        ("93.184.216.34", True),
        ("2606:4700::1111", True),
    ],
)
def test_private_addresses_are_known_in_every_dress(address: str, public: bool) -> None:
    assert fetching.is_public(address) is public


def test_relative_images_of_seeds_on_a_server_come_from_below_their_folder(data: Path) -> None:
    body = (data / "a.png").read_bytes()
    rows = [{"id": n, "question": "Q", "image": n} for n in ("a.png", "../b.png", "/etc/hostname")]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    with serving({"/d/s.jsonl": lines, "/d/a.png": body, "/b.png": body}) as web:
        source = SourceConfig(path=f"{web.url}/d/s.jsonl")
        good, *bad = read_sources([source])
        assert isinstance(good, Seed)
        assert read_bytes(good.images[0], access_of([source])) == body
        assert [item.reason for item in bad if isinstance(item, Drop)] == ["image_not_allowed"] * 2


def test_a_login_of_the_settings_is_used_and_stored_nowhere(data: Path) -> None:
    body = (data / "a.png").read_bytes()
    lines = json.dumps({"question": "Q", "image": "a.png"}).encode() + b"\n"
    with serving({"/s.jsonl": lines, "/a.png": body}) as web:
        source = SourceConfig(path=f"http://bob:p%40ss@127.0.0.1:{web.port}/s.jsonl?sig=9f")
        (seed,) = read_sources([source])
        assert isinstance(seed, Seed)
        assert "bob" not in repr(seed)
        assert "9f" not in repr(seed)
        assert read_bytes(seed.images[0], access_of([source])) == body
        assert web.asked[-1] == "/a.png"
        assert web.logins[-1] == "Basic Ym9iOnBAc3M="  # bob:p@ss


# ------------------------------------------------------------------ import


def test_an_import_reads_nothing_outside_of_its_roots(data: Path) -> None:
    names = ["a.png", "../private.png", str(data.parent / "private.png"), "link.png", "pipe"]
    rows = [
        {"image": name, "question": "<image>\nQ", "chosen": "3", "rejected": "4"} for name in names
    ]
    write_jsonl(data / "x.jsonl", rows)
    out = data.parent / "out"
    done = import_pairs(str(data / "x.jsonl"), str(out))
    assert (done.rows, done.drops) == (1, {"image_not_allowed": 3, "image_unreadable": 1})
    found = [
        drop for part in list_parts(f"{out}/drops") for drop in drops_from_table(read_parquet(part))
    ]
    assert "--roots" in found[0].detail
    again = import_pairs(str(data / "x.jsonl"), str(data.parent / "out2"), roots=[str(data.parent)])
    assert (again.rows, again.drops) == (4, {"image_unreadable": 1})


@pytest.mark.parametrize("field", ["root", "annotation"])
def test_a_recipe_to_import_names_nothing_outside_of_its_folder(data: Path, field: str) -> None:
    row = {"image": "a.png", "question": "<image>\nQ", "chosen": "3", "rejected": "4"}
    (data / "x.jsonl").write_text(json.dumps(row) + "\n")
    (data.parent / "data2" / "x.jsonl").write_text(json.dumps(row) + "\n")
    (data / "y.jsonl").symlink_to(data.parent / "data2" / "x.jsonl")
    own = {"root": ".", "annotation": "x.jsonl"}
    for bad in (str(data.parent / "data2"), "../data2", "linked"):
        place = bad if field == "root" else f"{bad}/x.jsonl"
        meta = {"ok": own, "bad": {**own, field: place}}
        (data / "meta.json").write_text(json.dumps(meta))
        with pytest.raises(InputError, match=r"outside of .* --roots"):
            import_pairs(str(data / "meta.json"), str(data.parent / "out"))
    assert import_pairs(
        str(data / "meta.json"), str(data.parent / "out"), roots=[str(data.parent / "data2")]
    ).rows


# ------------------------------------------------------------------ data sets and links


def data_set(folder: Path, cell: dict[str, Any], feature: dict[str, Any]) -> Path:
    """A `save_to_disk` folder of one row whose image column is described as a stranger likes."""
    import datasets

    kinds = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    if "x" in cell:
        kinds = pa.struct([("x", kinds)])
    table = pa.table({"question": ["Q"], "answer": ["1"], "image": pa.array([cell], kinds)})
    datasets.Dataset(table).save_to_disk(str(folder))
    info = json.loads((folder / "dataset_info.json").read_text())
    info["features"]["image"] = feature
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


@pytest.mark.parametrize("kind", ["Image", "Audio", "Video", "Pdf"])
def test_nothing_is_decoded_while_a_data_set_is_read(data: Path, kind: str) -> None:
    feature = {"x": {"_type": kind}}
    with serving({}) as web:
        for n, place in enumerate((f"{web.url}/x", "/etc/hostname", str(data / "pipe"))):
            cell = {"x": {"bytes": None, "path": place}}
            (item,) = read_seeds(data_set(data / f"set{n}", cell, feature))
            assert isinstance(item, Drop)
        assert web.asked == []


def test_cells_that_hold_a_path_name_what_rows_may(data: Path) -> None:
    picture = {"_type": "Image"}
    for n, (place, is_open) in enumerate(
        [("a.png", True), ("../a.png", False), (f"{data.parent}/private.png", False)]
    ):
        folder = data_set(data / f"set{n}", {"bytes": None, "path": place}, picture)
        (folder / "a.png").write_bytes((data / "a.png").read_bytes())
        (item,) = read_seeds(folder)
        assert isinstance(item, Seed if is_open else Drop), item
        if isinstance(item, Seed):
            assert read_bytes(item.images[0]) == (data / "a.png").read_bytes()


def test_a_data_set_whose_data_lies_elsewhere_is_refused(data: Path) -> None:
    folder = data_set(data / "set", {"bytes": b"", "path": None}, {"_type": "Image"})
    state = json.loads((folder / "state.json").read_text())
    state["_data_files"] = [{"filename": f"{data}/set/data-00000-of-00001.arrow"}]
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match="outside of its own folder"):
        list(read_seeds(folder))


def test_a_seed_file_that_leads_out_of_its_folder_is_refused_and_not_quoted(data: Path) -> None:
    (data / "train.jsonl").symlink_to(data.parent / "secret")
    with pytest.raises(InputError, match=r"outside of .* name the file itself") as caught:
        list(read_seeds(data))
    assert "nobody" not in str(caught.value)
    assert [type(item) for item in read_seeds(data / "train.jsonl")] == [Drop, Drop]


def test_a_snapshot_of_the_hub_is_read_through_its_links(data: Path) -> None:
    repo = data.parent / "datasets--org--name"
    for folder in ("blobs", "snapshots/abc/img"):
        (repo / folder).mkdir(parents=True)
    (repo / "blobs" / "b1").write_text(json.dumps({"question": "Q", "image": "img/1.png"}) + "\n")
    (repo / "blobs" / "b2").write_bytes((data / "a.png").read_bytes())
    (repo / "snapshots/abc/train.jsonl").symlink_to("../../blobs/b1")
    (repo / "snapshots/abc/img/1.png").symlink_to("../../../blobs/b2")
    (item,) = read_seeds(repo / "snapshots" / "abc")
    assert isinstance(item, Seed), item
    assert open_image(read_bytes(item.images[0])).mode == "RGB"


# ------------------------------------------------------------------ several sources


def test_a_seeds_url_opens_its_own_folder_and_not_its_whole_host(data: Path) -> None:
    body = (data / "a.png").read_bytes()
    row = {"question": "Q", "answer": "1"}
    with serving({"/d/a.png": body, "/admin/a.png": body}) as web:
        rows = [{**row, "image": f"{web.url}/{name}/a.png"} for name in ("d", "admin")]
        write_jsonl(data / "s.jsonl", rows)
        source = SourceConfig(path=f"{web.url}/d/s.jsonl")
        for path in ("/d/s.jsonl", "/d/*.jsonl", "/d"):
            access = access_of([source.model_copy(update={"path": web.url + path})])
            assert read_bytes(ImageRef(f"{web.url}/d/a.png"), access) == body
            with pytest.raises(RowError, match="image_not_allowed"):
                read_bytes(ImageRef(f"{web.url}/admin/a.png"), access)


def test_a_redirect_does_not_lead_to_what_another_source_names(data: Path) -> None:
    with (
        serving({"/x.png": (data / "a.png").read_bytes()}) as inner,
        serving({}, {"/1": f"{inner.url}/x.png"}) as outer,
    ):
        login = inner.url.replace("//", "//bob:pw@")
        access = access_of(
            [
                SourceConfig(path="a.jsonl", allow=(outer.url,)),
                SourceConfig(path=f"{login}/s.jsonl"),
            ]
        )
        with pytest.raises(RowError, match="redirects to where rows may not go") as caught:
            read_bytes(ImageRef(f"{outer.url}/1"), access)
        assert inner.url not in str(caught.value)
        assert inner.asked == []


def test_rows_do_not_say_who_asks(data: Path) -> None:
    found = read(data, "https://u:p@host/a.png", allow=["https"])
    assert isinstance(found, Drop)
    with serving({"/a.png": b"x"}) as web:
        url = web.url.replace("//", "//u:p@")
        read_bytes(ImageRef(f"{url}/a.png"), Access(urls=(web.url,)))
        assert web.logins == [None]


def test_a_host_that_is_late_again_and_again_is_not_asked_any_more() -> None:
    with serving({}) as web:
        access = Access(urls=(web.url,))
        for _ in range(fetching.MAX_LATE):
            with pytest.raises(RowError, match="not there after"):
                fetching.fetch(f"{web.url}/drip", access, 10**6, deadline_s=0.3)
        asked = len(web.asked)
        with pytest.raises(RowError, match="was late 3 times in a row"):
            fetching.fetch(f"{web.url}/drip", access, 10**6, deadline_s=0.3)
        assert len(web.asked) == asked


def test_an_image_that_no_hash_speaks_for_is_not_taken_into_a_pair(data: Path) -> None:
    from pair_samples import make_rollout

    seed = Seed("q", "<image>\nQ", images=(ImageRef(str(data / "a.png")),), answers=("1",))
    rollout = replace(make_rollout(seed, ["Final answer: 1"]), image_sha256=())
    with pytest.raises(RowError, match="no hash says what was sampled from"):
        load_images(rollout)


def test_a_recipe_opens_its_own_folder_and_not_the_one_above(data: Path) -> None:
    (data / "x.jsonl").write_text(
        json.dumps({"image": "private.png", "question": "Q", "chosen": "3", "rejected": "4"}) + "\n"
    )
    meta = {"e": {"root": ".", "annotation": "data/x.jsonl"}}
    (data / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match=r"'root' is .* outside of .*/data"):
        import_pairs(str(data / "meta.json"), str(data.parent / "out"))
