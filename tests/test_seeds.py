"""Seeds: every row of any supported input is one Seed or one Drop that says why."""

from __future__ import annotations

import gzip
import io
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmpr_builder.config import SourceConfig, load_config
from mmpr_builder.errors import InputError, RowError
from mmpr_builder.io.access import access_of
from mmpr_builder.io.images import open_image, read_bytes
from mmpr_builder.io.keyed import Keyed
from mmpr_builder.records import Drop, ImageRef, Seed
from mmpr_builder.runs import plan
from mmpr_builder.seeds import (
    Taken,
    check_sources,
    fingerprint,
    formats,
    language_of,
    read_seeds,
    read_sources,
    refuse_forbidden,
)

REAL = Path(__file__).parents[2] / "shared" / "data" / "real"


def write(path: Path, rows: Iterable[Any]) -> str:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), "utf-8")
    return str(path)


def one(tmp_path: Path, **fields: Any) -> Seed | Drop:
    return next(read_seeds(write(tmp_path / "a.jsonl", [fields])))


def seed(tmp_path: Path, **fields: Any) -> Seed:
    item = one(tmp_path, **({"question": "What?"} | fields))
    assert isinstance(item, Seed), item
    return item


def drop(tmp_path: Path, **fields: Any) -> Drop:
    item = one(tmp_path, **({"question": "What?"} | fields))
    assert isinstance(item, Drop), item
    return item


def picture(colour: str, size: tuple[int, int] = (4, 3)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


# ---------------------------------------------------------------- fields


@pytest.mark.parametrize("image", [None, "", []])
def test_an_absent_image_is_a_text_question(tmp_path: Path, image: Any) -> None:
    found = seed(tmp_path, image=image)
    assert (found.images, found.question) == ((), "What?")


def test_missing_placeholders_go_in_front_one_line_each(tmp_path: Path) -> None:
    found = seed(tmp_path, image=["1.png", "sub/2.png"])
    assert found.question == "<image>\n<image>\nWhat?"
    assert [r.uri for r in found.images] == [f"{tmp_path}/1.png", f"{tmp_path}/sub/2.png"]


def test_placeholders_stay_where_they_are(tmp_path: Path) -> None:
    text = "Which?\nA. <image>\nB. <image>"
    found = seed(tmp_path, image=["1.png", "2.png"], question=text)
    assert (found.question, found.choices) == (text, ("<image>", "<image>"))


def test_numbered_placeholders_reorder_the_images(tmp_path: Path) -> None:
    found = seed(tmp_path, image=["1.png", "2.png"], question="Is <image 2> in <image 1>?")
    assert found.question == "Is <image> in <image>?"
    assert [r.uri[-5:] for r in found.images] == ["2.png", "1.png"]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("/abs/1.png", "/abs/1.png"),
        ("s3://bucket/1.png", "s3://bucket/1.png"),
        ("https://host/1.png?v=2", "https://host/1.png?v=2"),
        ("data:image/png;base64,AAAA", "data:image/png;base64,AAAA"),
        ("./x/1.png", "{folder}/x/1.png"),
        ({"path": "1.png", "bytes": None}, "{folder}/1.png"),
    ],
)
def test_image_paths_resolve(tmp_path: Path, image: Any, expected: str) -> None:
    write(tmp_path / "a.jsonl", [{"question": "What?", "image": image}])
    (found,) = read_seeds(tmp_path / "a.jsonl", roots=["/abs"], allow=["s3", "https://host"])
    assert isinstance(found, Seed), found
    assert found.images[0].uri == expected.format(folder=tmp_path)


def test_root_is_where_relative_images_start(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"question": "Q", "image": "1.png"}])
    (tmp_path / "pics").mkdir()
    for root, expected in [(tmp_path / "pics", f"{tmp_path}/pics/1.png"), ("s3://b/p", None)]:
        item = next(read_seeds(path, root=root))
        assert isinstance(item, Seed)
        assert item.images[0].uri == (expected or "s3://b/p/1.png")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('"31.00"', ("31.00",)),
        ("31.00", ("31.00",)),
        ("7", ("7",)),
        ("-0.5", ("-0.5",)),
        ('["a", "b"]', ("a", "b")),
        ("[1, 2.50]", ("1", "2.50")),
        ('["no", "yes", "yes"]', ("yes", "yes", "no")),
        ('[{"answer": "cat", "answer_confidence": "yes"}]', ("cat",)),
        ("null", ()),
        ('""', ()),
        ("[]", ()),
    ],
)
def test_truths_keep_the_digits_they_are_written_with(
    tmp_path: Path, answer: str, expected: tuple[str, ...]
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"question": "Q", "answer": {answer}}}\n')
    item = next(read_seeds(str(path)))
    assert isinstance(item, Seed), item
    assert item.answers == expected


@pytest.mark.parametrize(
    "answer", ["NaN", "-Infinity", "true", '{"a": 1}', '[["a"]]', '["a", null]']
)
def test_unusable_truths_are_drops(tmp_path: Path, answer: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"question": "Q", "answer": {answer}}}\n')
    item = next(read_seeds(str(path)))
    assert isinstance(item, Drop)
    assert item.reason == "bad_answer_field"
    assert f"{path}:1" in item.detail


@pytest.mark.parametrize(
    ("fields", "reason", "said"),
    [
        ({"question": None}, "missing_question", "no field question"),
        ({"question": "  <image> \n"}, "missing_question", "has no text"),
        ({"question": 3.5}, "bad_question_field", "got Decimal"),
        ({"question": "x" * 200_001}, "question_too_long", "200001 characters"),
        ({"question": "half \ud83d"}, "invalid_unicode", "lone surrogate"),
        ({"image": 3}, "bad_image_field", "'image' must be a string or a list of strings, got int"),
        ({"image": ["1.png", None]}, "bad_image_field", "'image'"),
        ({"image": "1.png", "question": "<image> <image>"}, "missing_question", ""),
        (
            {"image": "1.png", "question": "<image> or <image>?"},
            "placeholder_mismatch",
            "2 <image>",
        ),
        ({"question": "<image> what?"}, "placeholder_mismatch", "1 <image>"),
        ({"image": ["1", "2"], "question": "<image1>?"}, "placeholder_mismatch", "[1]"),
        ({"choices": ["only"]}, "bad_choices_field", "2 to 26"),
        ({"choices": {"A": "x", "C": "y"}}, "bad_choices_field", "keys"),
        ({"choices": ["x", "y"], "answer": 2}, "answer_not_in_choices", "= 2"),
        ({"choices": ["x", "y"], "answer": "z"}, "answer_not_in_choices", "'z'"),
        ({"choices": ["1", "0"], "answer": 1}, "ambiguous_answer", "A by its text and B"),
        ({"choices": ["B", "A"], "answer": "A"}, "ambiguous_answer", "B by its text and A"),
        ({"question": "Q?\nA. x\nB. y", "choices": ["y", "x"]}, "choices_mismatch", "agree"),
        ({"id": [1]}, "bad_id_field", "'id'"),
        ({"source": 5}, "bad_source_field", "'source'"),
        ({"id": "x" * 1001}, "bad_id_field", "1000 characters"),
        ({"source": "x" * 1001}, "bad_source_field", "over 1000"),
    ],
)
def test_bad_fields_are_drops_that_quote_the_value(
    tmp_path: Path, fields: dict[str, Any], reason: str, said: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"id": "r", "question": "What?"} | fields) + "\n")
    item = next(read_seeds(str(path)))
    assert isinstance(item, Drop), item
    assert (item.stage, item.reason) == ("seeds", reason)
    assert said in item.detail
    assert f"{path}:1" in item.detail


@pytest.mark.parametrize(
    ("choices", "answer", "letter"),
    [
        (["cat", "dog"], 1, "B"),
        (["cat", "dog"], "B", "B"),
        (["cat", "dog"], "(b)".upper(), "B"),
        (["cat", "dog"], "B. dog", "B"),
        (["cat", "dog"], "Dog.", "B"),
        (["M", "m"], "m", "B"),
        (["A. cat", "B. dog"], "dog", "B"),
        ({"A": "cat", "B": "dog", "C": None}, "dog", "B"),
        ('["cat", "dog"]', "dog", "B"),
        ("A. cat\nB. dog", "dog", "B"),
        (["2", "3"], 3, "B"),
        (["a", "b", "c"], "AC", "AC"),
        (["A", "B"], "A", "A"),
    ],
)
def test_the_truth_of_a_choice_is_its_letter(
    tmp_path: Path, choices: Any, answer: Any, letter: str
) -> None:
    assert seed(tmp_path, choices=choices, answer=answer).answers == (letter,)


def test_options_of_a_field_are_shown_in_the_question_once(tmp_path: Path) -> None:
    found = seed(tmp_path, options=["cat", "dog"], answer="cat")
    assert found.question == "What?\nA. cat\nB. dog"
    again = seed(tmp_path, question=found.question, options=["cat", "dog"], answer="cat")
    assert again.question == found.question
    assert again.choices == ("cat", "dog")


def test_what_only_looks_like_options_is_none(tmp_path: Path) -> None:
    text = "Answer both:\n(A) Find x.\n(B) Find y."
    assert seed(tmp_path, question=text, answer="x=1, y=2").choices == ()
    assert seed(tmp_path, question=text, answer="B").choices == ("Find x.", "Find y.")


def test_instructions_come_off_before_and_after_options(tmp_path: Path) -> None:
    told = "Answer with the option's letter from the given choices directly."
    options = "A. cat\nB. dog"
    for text in (
        f"What?\n{options}\n{told}",
        f"What? {told}\n{options}",
        f"What?\n{told}\n{options}",
    ):
        assert seed(tmp_path, question=text, answer="A").question == f"What?\n{options}"


def test_aliases_are_understood(tmp_path: Path) -> None:
    row = {"question_id": 7, "query": "Q?", "images": ["1.png"], "gt": "x", "data_source": "s"}
    item = next(read_seeds(write(tmp_path / "b.jsonl", [row])))
    assert isinstance(item, Seed)
    assert (item.id, item.question, item.answers, item.source) == ("7", "<image>\nQ?", ("x",), "s")


def test_source_is_the_argument_then_the_row_then_the_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "stem.v2.jsonl", [{"question": "Q", "source": "row"}, {"question": "Q"}]
    )
    assert [s.source for s in read_seeds(path) if isinstance(s, Seed)] == ["row", "stem"]
    assert {s.source for s in read_seeds(path, name="x") if isinstance(s, Seed)} == {"x"}


def test_a_content_id_depends_on_content_and_not_on_place(tmp_path: Path) -> None:
    row = {"question": "Q", "image": "1.png", "answer": "a"}
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "a.jsonl", [row, row | {"answer": "b"}])
    x, y = (list(read_seeds(str(tmp_path / f / "a.jsonl"))) for f in ("x", "y"))
    ids = [[s.id for s in items if isinstance(s, Seed)] for items in (x, y)]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is shown?", "en"),
        ("求 $x$ 的值", "zh"),
        ("如图, 质量为 $\\mathrm{mass\\ of\\ the\\ ring}$ 的圆环", "zh"),
        ("What does 你好 mean in English?", "en"),
        ("これは何ですか、教えてください", "en"),
        ("$x$?", "en"),
    ],
)
def test_language_is_that_of_most_letters(text: str, language: str) -> None:
    assert language_of(text) == language


# ---------------------------------------------------------------- files


def test_each_line_is_a_seed_or_a_drop_and_blank_lines_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "messy.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"id": 1, "question": "a"}\r\n\r\n   \n'
        b'{"question": "b\n"not an object"\n{"id": "bad", "question": "\xff\xfe"}\n'
        b'{"id": "deep", "x": ' + b"[" * 100_000 + b"\n"
        b'{"q": 1e99999999999999999999}\n{"id": 2, "question": "last"}'
    )
    items = list(read_seeds(str(path)))
    assert [i.id if isinstance(i, Seed) else (i.item_id, i.reason) for i in items] == [
        "1",
        ("messy.jsonl:4", "invalid_json"),
        ("messy.jsonl:5", "not_an_object"),
        ("messy.jsonl:6", "invalid_utf8"),
        ("messy.jsonl:7", "invalid_json"),
        ("messy.jsonl:8", "invalid_json"),
        "2",
    ]


def test_a_huge_line_is_one_drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "MAX_LINE_BYTES", 1000)
    exact = json.dumps({"question": "fits"}).ljust(999) + "\n"
    path = tmp_path / "a.jsonl"
    path.write_text(exact + "x" * 5000 + "\n" + '{"question": "after"}\n' + "y" * 3000)
    items = list(read_seeds(str(path)))
    assert [getattr(i, "reason", "seed") for i in items] == [
        "seed",
        "line_too_long",
        "seed",
        "line_too_long",
    ]
    assert isinstance(items[1], Drop)
    assert "5001 bytes" in items[1].detail


def test_reading_goes_on_lazily(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "Q"}\n' * 10 + "broken\n")
    rows = read_seeds(str(path), limit=3)
    assert len(list(rows)) == 3


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.json", "a.ndjson", "a.json.gz"])
def test_compressed_lines_and_arrays_are_read(tmp_path: Path, name: str) -> None:
    rows = [{"question": f"Q{i}", "answer": i} for i in range(3)]
    is_array = name.startswith("a.json") and not name.startswith("a.jsonl")
    data = (json.dumps(rows) if is_array else "\n".join(map(json.dumps, rows))).encode()
    path = tmp_path / name
    if name.endswith(".zst"):
        with pa.CompressedOutputStream(str(path), "zstd") as out:
            out.write(data)
    else:
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert [s.answers for s in read_seeds(str(path)) if isinstance(s, Seed)] == [
        ("0",),
        ("1",),
        ("2",),
    ]


def test_json_lines_named_json_and_one_object_by_id_are_read(tmp_path: Path) -> None:
    lines = tmp_path / "lines.json"
    lines.write_text('{"question": "a"}\n{"question": "b"}\n')
    assert len(list(read_seeds(str(lines)))) == 2
    single = tmp_path / "single.json"
    single.write_text(json.dumps({"1": {"question": "a"}}, indent=1))
    assert [(i.id, i.question) for i in read_seeds(str(single)) if isinstance(i, Seed)] == [
        ("1", "a")
    ]


def test_a_cut_archive_ends_loudly(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    whole = gzip.compress(b"".join(b'{"question": "%d"}\n' % i for i in range(5000)))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a\.jsonl\.gz: unreadable after line"):
        list(read_seeds(str(path)))


def test_folders_globs_and_urls_are_read_in_order(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write(tmp_path / f"{name}.jsonl", [{"question": name}])
    (tmp_path / "notes.txt").write_text("no seeds")
    expected = ["a", "b", "c"]
    for path in (str(tmp_path), f"{tmp_path}/*.jsonl", f"file://{tmp_path}"):
        assert [s.question for s in read_seeds(path) if isinstance(s, Seed)] == expected
    with fsspec.open("memory://seeds-test/x.jsonl", "wb") as out:
        out.write(b'{"question": "Q", "image": "p/1.png"}\n')
    for path in (
        "memory://seeds-test/x.jsonl",
        "memory://seeds-test",
        "memory://seeds-test/*.jsonl",
    ):
        (item,) = read_seeds(path)
        assert isinstance(item, Seed)
        assert item.images[0].uri.replace(":///", "://") == "memory://seeds-test/p/1.png"


def test_a_folder_below_gives_only_the_files_of_its_split(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        table = pa.table({"question": [split]})
        pq.write_table(table, tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    for split in ("train", "test"):
        (item,) = read_seeds(str(tmp_path), split=split)
        assert isinstance(item, Seed)
        assert item.question == split
    with pytest.raises(InputError, match="there are test, train"):
        list(read_seeds(str(tmp_path), split="validation"))


# ---------------------------------------------------------------- tables


IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def embedded_table(
    path: Path, images: list[Any], kind: pa.DataType, rows_per_group: int = 2
) -> str:
    table = pa.table(
        {
            "id": pa.array([f"r{i}" for i in range(len(images))]),
            "question": pa.array([f"Q{i}?" for i in range(len(images))]),
            "image": pa.array(images, kind),
            "answer": pa.array([float(i) for i in range(len(images))]),
        }
    )
    # The library writes pages of 1,024 rows unless told; a page is decoded as a whole.
    pq.write_table(table, path, row_group_size=rows_per_group, write_batch_size=8)
    return str(path)


def colours_of(item: Seed | Drop) -> list[tuple[int, int, int]]:
    assert isinstance(item, Seed), item
    return [open_image(read_bytes(ref)).getpixel((0, 0)) for ref in item.images]


def test_embedded_images_of_parquet_are_found_by_row(tmp_path: Path) -> None:
    colours = [(i, 2 * i, 3 * i) for i in range(7)]
    cells = [{"bytes": picture(f"rgb{c}"), "path": f"{i}.png"} for i, c in enumerate(colours)]
    path = embedded_table(tmp_path / "t.parquet", cells, IMAGE_TYPE)
    items = list(read_seeds(path))
    assert items[5].images == (ImageRef(path, row=5, column="image", index=None),)  # type: ignore[union-attr]
    for i in (0, 1, 2, 3, 4, 5, 6, 2, 0, 6):
        assert colours_of(items[i]) == [colours[i]]
    assert items[3].answers == ("3",)  # type: ignore[union-attr]


def test_lists_binaries_paths_and_nulls_of_parquet(tmp_path: Path) -> None:
    red, blue = picture("red"), picture("blue")
    lists = [[{"bytes": red, "path": None}, {"bytes": blue, "path": None}], [], None]
    items = list(read_seeds(embedded_table(tmp_path / "l.parquet", lists, pa.list_(IMAGE_TYPE))))
    assert colours_of(items[0]) == [(255, 0, 0), (0, 0, 255)]
    assert [len(s.images) for s in items if isinstance(s, Seed)] == [2, 0, 0]

    items = list(read_seeds(embedded_table(tmp_path / "b.parquet", [red, None], pa.binary())))
    assert colours_of(items[0]) == [(255, 0, 0)]
    assert colours_of(items[1]) == []

    (tmp_path / "x.png").write_bytes(blue)
    cells = [{"bytes": None, "path": "x.png"}, {"bytes": red, "path": "x.png"}, None]
    items = list(read_seeds(embedded_table(tmp_path / "p.parquet", cells, IMAGE_TYPE)))
    assert [colours_of(item) for item in items] == [[(0, 0, 255)], [(255, 0, 0)], []]

    items = list(read_seeds(embedded_table(tmp_path / "s.parquet", ["x.png"], pa.string())))
    assert colours_of(items[0]) == [(0, 0, 255)]


def test_one_giant_row_group_is_read_in_small_steps(tmp_path: Path) -> None:
    big = [{"bytes": picture("red") + bytes(2**20) + bytes([i]), "path": None} for i in range(240)]
    path = embedded_table(tmp_path / "g.parquet", big, IMAGE_TYPE, rows_per_group=240)
    del big
    before, most = pa.total_allocated_bytes(), 0
    for item in list(read_seeds(path)):
        assert colours_of(item) == [(255, 0, 0)]
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 150 * 2**20  # of 240 MiB


def test_a_table_row_that_is_gone_is_a_missing_image(tmp_path: Path) -> None:
    path = embedded_table(tmp_path / "t.parquet", [picture("red")], pa.binary())
    for ref in (
        ImageRef(path, 5, "image"),
        ImageRef(path, 0, "nope"),
        ImageRef(path + "x", 0, "image"),
        ImageRef(path, 0, "image", 3),
    ):
        with pytest.raises(RowError, match="image_missing"):
            read_bytes(ref)


def test_a_saved_data_set_is_read_with_its_images(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {
            "question": datasets.Value("string"),
            "images": datasets.List(datasets.Image()),
            "answer": datasets.Value("int64"),
        }
    )
    rows = [
        {"question": "a", "images": [{"bytes": picture("red"), "path": None}], "answer": 1},
        {"question": "b", "images": [], "answer": 2},
    ]
    data = datasets.Dataset.from_list(rows, features=features)
    data.save_to_disk(str(tmp_path / "flat"))
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(str(tmp_path / "splits"))
    for name in ("flat", "splits"):
        items = list(read_seeds(str(tmp_path / name)))
        assert colours_of(items[0]) == [(255, 0, 0)]
        assert colours_of(items[1]) == []
        assert items[0].images[0].uri == f"hf-dataset:{tmp_path}/{name}?split=train"  # type: ignore[union-attr]
        assert items[0].source == name  # type: ignore[union-attr]
        assert fingerprint(SourceConfig(path=str(tmp_path / name)))
    with pytest.raises(InputError, match="no split 'dev'; there are test, train"):
        list(read_seeds(str(tmp_path / "splits"), split="dev"))


def test_an_image_folder_with_metadata_is_read(tmp_path: Path) -> None:
    for kind in ("csv", "jsonl"):
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "1.png").write_bytes(picture("red"))
        if kind == "csv":
            (folder / "metadata.csv").write_text("file_name,question,answer\n1.png,What?,red\n")
        else:
            write(folder / "metadata.jsonl", [{"file_name": "1.png", "question": "What?"}])
        (item,) = read_seeds(str(folder))
        assert colours_of(item) == [(255, 0, 0)]


# ---------------------------------------------------------------- a whole build


def test_ids_are_unique_over_all_sources(tmp_path: Path) -> None:
    a = write(
        tmp_path / "a.jsonl",
        [
            {"id": "x", "question": "one"},
            {"id": "x", "question": "one"},
            {"id": "x", "question": "two"},
            {"id": "x#2", "question": "three"},
            {"id": "x", "question": 5},
            {"question": "free"},
            {"question": "free"},
        ],
    )
    b = write(tmp_path / "b.jsonl", [{"id": "x", "question": "two"}])
    items = list(read_sources([SourceConfig(path=a), SourceConfig(path=b)]))
    free = items[5].id  # type: ignore[union-attr]
    assert [i.id if isinstance(i, Seed) else (i.item_id, i.reason) for i in items] == [
        "x",
        ("x#2", "duplicate_seed"),
        "x#3",
        "x#2#2",
        ("x#4", "bad_question_field"),
        free,
        (f"{free}#2", "duplicate_seed"),
        ("x#5", "duplicate_seed"),
    ]
    assert len(list(read_sources([SourceConfig(path=a, limit=2), SourceConfig(path=b)]))) == 3
    assert len(list(read_sources([SourceConfig(path=a), SourceConfig(path=b)], limit=4))) == 4


def test_rows_that_ask_the_same_are_sampled_once(tmp_path: Path) -> None:
    same = {"image": "1.png", "question": "How many?", "answer": "3"}
    a = write(
        tmp_path / "a.jsonl",
        [
            {"id": "first", **same},
            {"id": "again", **same},
            {"id": "other truth", **same, "answer": "4"},
            {"id": "other image", **same, "image": "2.png"},
            {"id": "other question", **same, "question": "How many more?"},
        ],
    )
    b = write(tmp_path / "b.jsonl", [{"id": "elsewhere", **same}])
    items = list(read_sources([SourceConfig(path=a), SourceConfig(path=b)]))
    drops = [item for item in items if isinstance(item, Drop)]
    assert [(drop.item_id, drop.reason) for drop in drops] == [
        ("again", "duplicate_seed"),
        ("elsewhere", "duplicate_seed"),
    ]
    assert drops[0].detail == "a.jsonl:2: the same as 'first', which was read before"
    # Another template is another prompt, another scorer another verdict.
    apart = [SourceConfig(path=a), SourceConfig(path=b, template="boxed_en")]
    assert sum(isinstance(item, Drop) for item in read_sources(apart)) == 1
    apart = [SourceConfig(path=a), SourceConfig(path=b, scorer="exact")]
    assert sum(isinstance(item, Drop) for item in read_sources(apart)) == 1


ROWS = [
    {"id": "both", "image": "1.png", "question": "How many?", "answer": "3"},
    {"id": "open", "image": "1.png", "question": "Describe it."},
    {"id": "text", "question": "What is 2+2?", "answer": "4"},
    {"id": "bare", "question": "Tell a story."},
]


@pytest.mark.parametrize(
    ("branch", "wanted"),
    [
        ("auto", ["both 3", "open", "text 4", "bare"]),
        ("correctness", ["both 3", "open missing_truth", "text 4", "bare missing_truth"]),
        ("dropout", ["both", "open", "text missing_image", "bare missing_image"]),
        ("both", ["both 3", "both+open", "open", "text 4", "bare missing_image"]),
    ],
)
def test_a_branch_says_what_truths_are_for(tmp_path: Path, branch: Any, wanted: list[str]) -> None:
    source = SourceConfig(path=write(tmp_path / "a.jsonl", ROWS), branch=branch)
    found = list(read_sources([source]))
    told = [
        " ".join((item.id, *item.answers))
        if isinstance(item, Seed)
        else f"{item.item_id} {item.reason}"
        for item in found
    ]
    assert told == wanted
    taken = Taken(enumerate(item for item in found if isinstance(item, Seed)))
    again = [i.id for i in read_sources([source], taken=taken) if isinstance(i, Seed)]
    assert again == [item.id for item in found if isinstance(item, Seed)]


def test_what_a_question_is_about_stands_before_it(tmp_path: Path) -> None:
    row = {"question": "Who won?", "context": " Ann beat Bob.\r\nTwice. ", "image": "1.png"}
    rows = [row, {**row, "context": "Who won?"}, {**row, "context": None}, {**row, "context": 5}]
    found = list(read_seeds(write(tmp_path / "a.jsonl", rows)))
    questions = [item.question for item in found if isinstance(item, Seed)]
    assert questions == ["<image>\nAnn beat Bob.\nTwice.\nWho won?", *["<image>\nWho won?"] * 2]
    assert isinstance(found[3], Drop)
    assert found[3].reason == "bad_context_field"


def test_many_rows_under_one_id_stay_fast(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ({"id": 0, "question": f"Q{i}"} for i in range(20_000)))
    started = time.process_time()
    ids = {s.id for s in read_sources([SourceConfig(path=path)]) if isinstance(s, Seed)}
    assert len(ids) == 20_000
    assert time.process_time() - started < 60  # some 0.6 s; quadratic numbering takes minutes


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("seed.jsonl", "did you mean 'seeds.jsonl'"),
        ("nothing/here.jsonl", "folder"),
        ("*.json", "no file matches"),
        ("pic.png", r"suffix '\.png'"),
        ("empty", "holds no seeds"),
        ("columns.parquet", r"no column holds a question: .* found foo"),
        ("broken.parquet", "not a readable Parquet file"),
        ("two.jsonl", "does not exist"),
    ],
)
def test_missing_sources_are_found_at_once(tmp_path: Path, name: str, said: str) -> None:
    write(tmp_path / "seeds.jsonl", [{"question": "Q"}])
    (tmp_path / "pic.png").write_bytes(picture("red"))
    (tmp_path / "empty").mkdir()
    pq.write_table(pa.table({"foo": [1]}), tmp_path / "columns.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    check_sources([SourceConfig(path=str(tmp_path / "seeds.jsonl"))])
    with pytest.raises(InputError, match=said):
        check_sources([SourceConfig(path=str(tmp_path / name))])


def test_a_missing_root_and_an_unreachable_data_set_are_found_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"question": "Q"}])
    with pytest.raises(InputError, match=r"root .* is not a folder"):
        check_sources([SourceConfig(path=path, root=str(tmp_path / "nope"))])


def test_an_unreachable_hub_id_is_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def offline(*_: Any, **__: Any) -> None:
        raise ConnectionError("offline mode is enabled")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(InputError, match=r"nobody/nothing.*offline"):
        check_sources([SourceConfig(path="nobody/nothing")])


@pytest.mark.parametrize(
    ("path", "revision", "commit"),
    [
        ("org/name", None, "a" * 40),
        ("org/name:sub", None, "a" * 40),
        ("hf://datasets/org/name@v1:sub", "v1", "b" * 40),
        (f"org/name@{'c' * 40}", "c" * 40, "c" * 40),
        ("org/name@v2", "v2", None),
    ],
)
def test_a_data_set_of_the_hub_is_read_at_its_revision_and_the_commit_is_recorded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    revision: str | None,
    commit: str | None,
) -> None:
    import datasets
    from huggingface_hub import constants

    asked = []

    def load(name: str, subset: str | None = None, **words: Any) -> Any:
        asked.append((name, subset, words["revision"]))
        return datasets.Dataset.from_dict({"question": ["How many?"], "answer": ["3"]})

    refs = tmp_path / "datasets--org--name" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("a" * 40)
    (refs / "v1").write_text("b" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(datasets, "load_dataset", load)
    words = [f"seeds={path}", f"out={tmp_path}/out", "sampling.engine=replay"]
    config = load_config(None, [*words, f"sampling.replay_from={tmp_path}"])
    monkeypatch.setattr("mmpr_builder.engines.model_identity", lambda _: {"model": "m"})
    found = plan(config)
    assert set(asked) == {("org/name", "sub" if ":sub" in path else None, revision)}
    assert list(found.revisions.values()) == ([commit] if commit else [])
    (seed,) = (item for item in read_sources(config.seeds) if isinstance(item, Seed))
    assert seed.source == ("name:sub" if ":sub" in path else "name")


def test_a_fingerprint_changes_with_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, [{"question": "Q"}])
    before = fingerprint(SourceConfig(path=str(tmp_path)))
    assert list(before) == [str(path)]
    assert fingerprint(SourceConfig(path=str(tmp_path))) == before
    write(path, [{"question": "R"}])
    assert fingerprint(SourceConfig(path=str(tmp_path))) != before


@pytest.mark.skipif(not REAL.is_dir(), reason="the real test data is not here")
def test_real_rows_get_choices_exactly_where_they_are_multiple_choice() -> None:
    with_choices = {"gaokao_mm": 22, "geometry3k": 5, "iconqa": 23, "mathv": 16, "scienceqa": 28}
    found: dict[str, int] = {}
    for item in read_sources([SourceConfig(path=str(REAL))]):
        assert isinstance(item, Seed), item
        assert "Answer the question using" not in item.question
        assert item.question.count("<image>") == len(item.images)
        if item.choices:
            found[item.source] = found.get(item.source, 0) + 1
            letters = "".join(item.answers)
            assert set(letters) <= set("ABCDEFG"[: len(item.choices)]), item
    assert found == with_choices


def test_seeds_and_images_come_over_http(tmp_path: Path) -> None:
    import functools
    import http.server
    import threading

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    write(tmp_path / "a.jsonl", [{"question": "Q", "image": "1.png"}])
    (tmp_path / "1.png").write_bytes(picture("red"))
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        check_sources([SourceConfig(path=f"{url}/a.jsonl")])
        (item,) = read_seeds(f"{url}/a.jsonl")
        access = access_of([SourceConfig(path=f"{url}/a.jsonl")])
        assert open_image(read_bytes(item.images[0], access)).getpixel((0, 0)) == (255, 0, 0)
        with pytest.raises(InputError, match=r"did you mean 'a\.jsonl'"):
            check_sources([SourceConfig(path=f"{url}/b.jsonl")])
        with pytest.raises(RowError, match="image_missing"):
            read_bytes(ImageRef(f"{url}/2.png"), access)
        server.shutdown()
    with pytest.raises(InputError, match="cannot be reached"):
        check_sources([SourceConfig(path=f"{url}/a.jsonl")])


def test_threads_share_an_open_table(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    colours = [(i, i, i) for i in range(60)]
    cells = [{"bytes": picture(f"rgb{c}"), "path": None} for c in colours]
    path = embedded_table(tmp_path / "t.parquet", cells, IMAGE_TYPE, rows_per_group=7)
    items = list(read_seeds(path))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(colours_of, items * 3))
    assert found == [[c] for c in colours] * 3


def test_keys_are_known_again_with_the_text_they_came_with() -> None:
    keys = Keyed()
    assert keys.add(b"a", "first")
    assert not keys.add(b"a", "second")
    assert keys.add("a", "as text")
    assert (keys.get(b"a"), keys.get("a")) == ("first", "as text")
    assert keys.get(b"b") is None
    assert all(keys.add(number.to_bytes(4, "big")) for number in range(20_000))
    assert keys.get((19_999).to_bytes(4, "big")) == ""
    keys.close()


def test_rows_are_found_again_by_any_of_their_keys() -> None:
    rows = Keyed()
    for key, number in ((7, 0), (8, 0), (8, 1), ("8", 2)):
        rows.add(key, number=number)
    assert rows.numbers([7, 8]) == [0, 1]
    assert rows.numbers(["8"]) == [2]
    rows.remove([7, 8], 0)
    assert rows.numbers([7, 8]) == [1]
    rows.close()


# ---------------------------------------------------------------- splits


SPLIT_FILES = [
    (["train.jsonl", "val.jsonl", "test.jsonl"], "train", ["train.jsonl"]),
    (["train.jsonl", "val.jsonl", "test.jsonl"], "dev", ["val.jsonl"]),
    (["train.jsonl", "testmini.jsonl", "testA.jsonl", "more.jsonl"], "train", ["train", "more"]),
    (["train.jsonl", "trainval.jsonl", "minival.jsonl"], "train", ["train.jsonl"]),
    (["test.jsonl", "testmini.jsonl"], "testmini", ["testmini.jsonl"]),
    (["test.jsonl", "train/a.jsonl", "val/a.jsonl"], "train", ["train/a.jsonl"]),
    (["all.jsonl", "test/a.jsonl", "train/a.jsonl"], "train", ["all.jsonl", "train/a.jsonl"]),
    (["train/test.jsonl", "train/a.jsonl"], "train", ["train/a.jsonl"]),
    (["latest.jsonl", "values.jsonl"], "train", ["latest.jsonl", "values.jsonl"]),
    (["train.jsonl", "contest.jsonl", "device.jsonl"], "train", ["train", "contest", "device"]),
    (["trainset.jsonl", "testset.jsonl"], "train", ["trainset.jsonl"]),
    (
        ["stats.jsonl", "data/train/0.jsonl", "data/test/0.jsonl"],
        "train",
        ["stats", "data/train/0"],
    ),
]


@pytest.mark.parametrize(("files", "split", "expected"), SPLIT_FILES)
def test_a_split_reads_its_own_files_and_no_others(
    tmp_path: Path, files: list[str], split: str, expected: list[str]
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, [{"question": name}])
    found = {item.question for item in read_seeds(tmp_path, split=split) if isinstance(item, Seed)}
    assert found == {name if name.endswith(".jsonl") else f"{name}.jsonl" for name in expected}


def test_files_that_may_be_of_another_split_are_left_out_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("train.jsonl", "trainval.jsonl"):
        write(tmp_path / name, [{"question": "Q"}])
    (tmp_path / "more").mkdir()
    write(tmp_path / "more" / "a.jsonl", [{"question": "Q"}])
    list(read_seeds(tmp_path))
    said = [record.getMessage() for record in caplog.records]
    assert any("trainval.jsonl: left out, as it says train and validation" in t for t in said)
    assert any(
        f"not read, as there are seed files above: {tmp_path}/more/a.jsonl" in t for t in said
    )


@pytest.mark.parametrize(
    "name",
    [
        "testmini",
        "testA",
        "test_dev",
        "minitest",
        "a/test/b",
        "trainTest",
        "TESTmini",
        "train-tests",
    ],
)
def test_forbidden_splits_know_what_else_they_are_called(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "set"
    (folder / name).parent.mkdir(parents=True)
    write(folder / f"{name}.jsonl", [{"question": "Q"}])
    whole = SourceConfig(path=str(folder), forbidden_splits=("test",))
    with pytest.raises(InputError, match=r"off limits|no file of split 'train'"):
        check_sources([whole])
    if "/" not in name:  # Of a file's path its own name counts.
        with pytest.raises(InputError, match="off limits"):
            check_sources([whole.model_copy(update={"path": str(folder / f"{name}.jsonl")})])


@pytest.mark.parametrize("name", ["contest", "latest", "greatest", "train_validated", "developer"])
def test_words_that_only_end_like_a_split_are_not_forbidden(tmp_path: Path, name: str) -> None:
    write(tmp_path / f"{name}.jsonl", [{"question": "Q"}])
    check_sources(
        [SourceConfig(path=str(tmp_path / f"{name}.jsonl"), forbidden_splits=("test", "val"))]
    )


@pytest.mark.parametrize(
    "split",
    [
        "testmini",
        "testA",
        "TESTmini",
        "train[:9%]+test",
        "train+testmini",
        "train+tests",
        "minitest",
    ],
)
def test_a_forbidden_split_cannot_be_asked_for_by_another_name(split: str) -> None:
    source = SourceConfig(path="org/name", split=split, forbidden_splits=("test",))
    with pytest.raises(InputError, match="off limits"):
        refuse_forbidden(source)


# ---------------------------------------------------------------- hostile sizes and names


def test_two_columns_of_one_name_are_an_error_that_names_them(tmp_path: Path) -> None:
    names = ["question", "answer", "answer"]
    pq.write_table(pa.table([["Q"], ["A"], ["B"]], names=names), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="several columns are named 'answer': rename all but one"):
        list(read_seeds(tmp_path / "a.parquet"))
    table = pa.table([["Q"], ["A"], ["x"], ["y"]], names=["question", "answer", "z", "z"])
    pq.write_table(table, tmp_path / "a.parquet")
    (item,) = read_seeds(tmp_path / "a.parquet")
    assert isinstance(item, Seed)


def test_of_equal_truths_ten_are_kept(tmp_path: Path) -> None:
    many = seed(tmp_path, answer=["cat"] * 100_000 + ["dog"] * 4)
    assert many.answers == ("cat",) * 10 + ("dog",) * 4
    ten = ["a", "b", "a", "c", "a", "b", "a", "a", "a", "d"]
    assert sorted(seed(tmp_path, answer=ten).answers) == sorted(ten)


def test_over_a_thousand_different_truths_are_a_drop(tmp_path: Path) -> None:
    assert len(seed(tmp_path, answer=[str(n) for n in range(1000)]).answers) == 1000
    item = one(tmp_path, question="Q", answer=[str(n) for n in range(1001)])
    assert isinstance(item, Drop)
    assert item.reason == "too_many_answers"


@pytest.mark.parametrize("kind", ["text", "day", "zone"])
def test_a_cell_that_python_cannot_hold_is_the_drop_of_its_row(tmp_path: Path, kind: str) -> None:
    bad = {
        "text": pa.array([b"ok", b"\xff\xfe"]).cast(pa.binary()).view(pa.string()),
        "day": pa.array([0, 10**13], pa.int64()).cast(pa.timestamp("s")),
        "zone": pa.array([0, 1], pa.int64()).cast(pa.timestamp("s", tz="Mars/Olympus")),
    }[kind]
    table = pa.table({"question": ["Q", "R"], "answer": ["1", "2"], "hint": bad})
    pq.write_table(table, tmp_path / "a.parquet")
    items = list(read_seeds(tmp_path / "a.parquet"))
    assert len(items) == 2
    assert isinstance(items[1], Drop)


@pytest.mark.parametrize(
    ("value", "kind"), [(5, pa.int64()), ("x", pa.string()), ([1], pa.list_(pa.int64()))]
)
def test_a_picture_cell_of_another_type_is_an_error_of_its_row(
    tmp_path: Path, value: Any, kind: Any
) -> None:
    cells = pa.array(
        [{"bytes": value, "path": None}], pa.struct([("bytes", kind), ("path", "str")])
    )
    pq.write_table(pa.table({"question": ["Q"], "image": cells}), tmp_path / "a.parquet")
    (item,) = read_seeds(tmp_path / "a.parquet")
    assert isinstance(item, Seed)
    with pytest.raises(RowError, match="not an image"):
        read_bytes(item.images[0])


def test_over_512_images_are_a_drop(tmp_path: Path) -> None:
    assert drop(tmp_path, image=["1.png"] * 513).reason == "too_many_images"
