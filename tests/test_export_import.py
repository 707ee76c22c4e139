"""A released MMPR data set becomes pairs of our schema, and mixes with new ones."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pair_samples import picture, sample_rollouts, write_build
from PIL import Image

from mmpr_builder import load_pairs
from mmpr_builder.demo import model_path
from mmpr_builder.diff import compare_builds
from mmpr_builder.errors import BuildConflictError, ConfigError, InputError
from mmpr_builder.export import FORMATS, ExportOptions, write_export
from mmpr_builder.export.importing import Imported, import_pairs
from mmpr_builder.export.lint import lint_folder
from mmpr_builder.io import tables
from mmpr_builder.output import pair_schema
from mmpr_builder.push import uploads
from mmpr_builder.report import write_report

pytestmark = pytest.mark.usefixtures("own_cache")


def row(question: str = "<image>\nHow many?", **fields: Any) -> dict[str, Any]:
    return {"image": "red.png", "question": question, "chosen": "3", "rejected": "4", **fields}


def release(folder: Path, entries: dict[str, list[Any]], above: str = "MMPR") -> Path:
    """A folder like the released ones: paths in meta.json begin with the folder's own name."""
    home = folder / "MMPR"
    (home / "images" / "a").mkdir(parents=True)
    (home / "annotations").mkdir()
    picture(home / "images/a/red.png", "red")
    picture(home / "images/a/blue.jpg", "blue")
    meta = {}
    for name, rows in entries.items():
        lines = [one if isinstance(one, str) else json.dumps(one) for one in rows]
        (home / "annotations" / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        meta[name] = {
            "root": f"{above}/images/a" if above else "images/a",
            "annotation": f"{above}/annotations/{name}.jsonl".lstrip("/"),
            "data_augment": False,
            "repeat_time": 1,
            "length": len(rows),
        }
    (home / "meta.json").write_text(json.dumps(meta))
    return home / "meta.json"


def read(out: Path) -> list[dict[str, Any]]:
    return list(load_pairs(out))


def drops(out: Path) -> dict[str, str]:
    parts = tables.list_parts(out / "drops", tables.DROP_SCHEMA)
    found = [d for part in parts for d in tables.drops_from_table(tables.read_parquet(part))]
    return {drop.item_id: drop.reason for drop in found}


def test_a_release_becomes_pairs_as_its_trainers_read_it(tmp_path: Path) -> None:
    several = row("A <image> or <image>?", image=["red.png", "blue.jpg"])
    bare = row("Describe it.", image=["red.png", "blue.jpg"])
    text = {"question": "1 + 1?", "chosen_response": "2", "rejected_response": "3"}
    meta = release(tmp_path, {"m3cot_correctness_rules": [row(), several, bare, text]})
    done = import_pairs(str(meta), str(tmp_path / "out"))
    rows = read(tmp_path / "out")
    assert (done.rows, done.images, done.drops) == (4, 2, {})
    assert [len(one["images"]) for one in rows] == [1, 2, 2, 0]
    shown = [[part["type"] for part in one["prompt"][0]["content"]] for one in rows]
    assert shown[1] == ["text", "image", "text", "image", "text"]
    assert shown[2] == ["image", "image", "text"]
    assert rows[3]["chosen"][0]["content"] == [{"type": "text", "text": "2"}]
    assert rows[0]["prompt_text"] == rows[0]["question"] == "<image>\nHow many?"
    assert (rows[0]["source"], rows[0]["kind"]) == ("m3cot_correctness_rules", "correctness")
    assert rows[0]["origin"] == "m3cot_correctness_rules.jsonl:1"
    red = (tmp_path / "MMPR/images/a/red.png").read_bytes()
    assert rows[0]["image_sha256"] == [hashlib.sha256(red).hexdigest()]
    for unknown in ("model", "template", "pass_rate", "chosen_tokens", "sampling", "n_samples"):
        assert rows[0][unknown] is None


NAMES = [
    # entry, kind, part kept, image shown
    ("chartqa_correctness_rules", "correctness", None, None),
    ("geo170k_extracted_format_rules", "format", None, None),
    ("inat_merge_gpt4o_en_20240819_sr0.50_wo_image", "dropout_ntp", 0.5, False),
    ("m3cot_train_extracted_prefix_pair_sr0.0_with_image", "dropout_ntp", 0.0, True),
    ("docvqa_dropoutntp", "dropout_ntp", None, None),
]


@pytest.mark.parametrize(("name", "kind", "keep", "shown"), NAMES)
def test_the_name_of_an_entry_says_its_kind(
    tmp_path: Path, name: str, kind: str, keep: float | None, shown: bool | None
) -> None:
    meta = release(tmp_path, {name: [row()]})
    done = import_pairs(str(meta), str(tmp_path / "out"), kind="truncated")
    (pair,) = read(tmp_path / "out")
    assert (pair["kind"], pair["dropout_keep"], pair["dropout_image"]) == (kind, keep, shown)
    assert done.kinds == {name: (kind, "name")}


def test_where_no_name_says_it_the_kind_is_the_callers_and_that_is_noted(tmp_path: Path) -> None:
    meta = release(tmp_path, {"information_extraction": [row()]})
    import_pairs(str(meta), str(tmp_path / "out"), kind="format")
    (pair,) = read(tmp_path / "out")
    assert pair["kind"] == "format"
    note = json.loads((tmp_path / "out" / "import.json").read_text())
    assert note["kinds"] == {"information_extraction": {"kind": "format", "known_by": "default"}}
    with pytest.raises(ConfigError, match="nearest is 'format'"):
        import_pairs(str(meta), str(tmp_path / "x"), kind="formt")


def test_rows_that_are_no_pairs_are_dropped_with_the_reason(tmp_path: Path) -> None:
    bad = [
        row(),
        "{no json",
        "[1]",
        row(image="gone.png"),
        row(question="Two <image> <image>?"),
        row(chosen=" 4 "),
        row(rejected=""),
        {"image": "red.png", "question": "<image>?", "chosen": "3"},
        row(chosen=["3"]),
        row(image={"path": "red.png"}),
        row(question="<image>\n"),
        row(image=None),
    ]
    meta = release(tmp_path, {"x_correctness": bad})
    (tmp_path / "MMPR/images/a/broken.png").write_bytes(b"\x89PNG no")
    with (tmp_path / "MMPR/annotations/x_correctness.jsonl").open("a") as file:
        file.write(json.dumps(row(image="broken.png")) + "\n\n")
    done = import_pairs(str(meta), str(tmp_path / "out"))
    assert done.rows == 1
    assert drops(tmp_path / "out") == {
        f"x_correctness.jsonl:{line}": reason
        for line, reason in [
            (2, "bad_json"),
            (3, "bad_json"),
            (4, "image_missing"),
            (5, "placeholder_mismatch"),
            (6, "identical_sides"),
            (7, "empty_text"),
            (8, "missing_field"),
            (9, "missing_field"),
            (10, "missing_field"),
            (11, "empty_text"),
            (12, "missing_field"),
            (13, "image_unreadable"),
        ]
    }


def test_a_picture_that_cannot_be_decoded_is_never_stored(tmp_path: Path) -> None:
    names = ["cut.jpg", "thin.png", "text.jpg"]
    meta = release(tmp_path, {"a": [*(row(image=name) for name in names), row()]})
    folder = meta.parent / "images" / "a"
    noise = Image.effect_noise((99, 99), 50)
    noise.save(folder / "whole.jpg")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:-500])
    Image.new("L", (1, 100_000)).save(folder / "thin.png")
    (folder / "text.jpg").write_text("<svg/>")
    done = import_pairs(str(meta), str(tmp_path / "out"))
    assert (done.rows, done.images) == (1, 1)
    assert list(drops(tmp_path / "out").values()) == [
        "image_unreadable", "image_bad_aspect", "image_unreadable"
    ]  # fmt: skip


def test_lines_that_no_parser_takes_are_dropped_and_not_mended(tmp_path: Path) -> None:
    meta = release(tmp_path, {"x_correctness": [row()]})
    good = json.dumps(row(chosen="ok")).encode()
    lines = [b"\xef\xbb\xbf" + good, b"[" * 200_000, good.replace(b"ok", b"o\xff"), good]
    (tmp_path / "MMPR/annotations/x_correctness.jsonl").write_bytes(b"\n".join(lines))
    done = import_pairs(str(meta), str(tmp_path / "out"))
    assert done.rows == 2
    assert drops(tmp_path / "out") == dict.fromkeys(
        ["x_correctness.jsonl:2", "x_correctness.jsonl:3"], "bad_json"
    )


def test_a_kind_that_some_rows_name_is_not_said_to_be_known_of_all(tmp_path: Path) -> None:
    meta = release(tmp_path, {"x": [row(kind="format"), row(chosen="5")]})
    done = import_pairs(str(meta), str(tmp_path / "out"), kind="truncated")
    assert done.kinds == {"x": ("own kind in 1 of 2 rows, else truncated", "default")}
    assert sorted(one["kind"] for one in read(tmp_path / "out")) == ["format", "truncated"]


def test_commands_that_need_a_build_say_what_an_import_is(tmp_path: Path) -> None:
    meta = release(tmp_path, {"x_correctness": [row()]})
    import_pairs(str(meta), str(tmp_path / "out"))
    for need in (write_report, uploads, lambda out: compare_builds(out, out)):
        with pytest.raises(InputError, match=r"an import or an export, not a build.*mmpr show"):
            need(str(tmp_path / "out"))


def test_an_annotation_that_is_gone_costs_only_its_entry(tmp_path: Path) -> None:
    meta = release(tmp_path, {"a_correctness": [row()], "b_correctness": [row()]})
    (tmp_path / "MMPR/annotations/b_correctness.jsonl").unlink()
    done = import_pairs(str(meta), str(tmp_path / "out"))
    assert (done.rows, done.drops) == (1, {"annotation_missing": 1})


@pytest.mark.parametrize("above", ["MMPR", ""])
def test_paths_start_beside_the_recipe_or_above_it(tmp_path: Path, above: str) -> None:
    meta = release(tmp_path, {"a_correctness": [row()]}, above)
    assert import_pairs(str(meta), str(tmp_path / "out")).rows == 1
    moved = tmp_path / "elsewhere.json"
    meta.rename(moved)
    if not above:
        with pytest.raises(InputError, match="give --root"):
            import_pairs(str(moved), str(tmp_path / "out2"))
    root = tmp_path if above else tmp_path / "MMPR"
    assert import_pairs(str(moved), str(tmp_path / "out3"), root=str(root)).rows == 1


def test_one_jsonl_file_is_enough(tmp_path: Path) -> None:
    release(tmp_path, {"mine": [row(answer="3"), row("<image>\nWhat?")]})
    lines = tmp_path / "MMPR/annotations/mine.jsonl"
    root = str(tmp_path / "MMPR/images/a")
    done = import_pairs(str(lines), str(tmp_path / "out"), root=root, source="ours")
    first, second = read(tmp_path / "out")
    assert {first["source"], second["source"]} == {"ours"}
    assert (first["answer"], first["answers"], second["answer"]) == ("3", ["3"], None)
    assert first["seed_id"] != second["seed_id"]
    assert done.kinds == {"mine": ("correctness", "default")}


def test_what_was_exported_comes_back_the_same(tmp_path: Path) -> None:
    write_build(tmp_path / "old", sample_rollouts(tmp_path / "seeds"))
    dest = tmp_path / "release"
    write_export([str(tmp_path / "old")], FORMATS["internvl"], str(dest), ExportOptions())
    done = import_pairs(str(dest / "meta.json"), str(tmp_path / "new"))
    assert {how for _, how in done.kinds.values()} == {"rows"}
    old = {pair["id"]: pair for pair in read(tmp_path / "old")}
    new = {pair["id"]: pair for pair in read(tmp_path / "new")}
    assert old.keys() == new.keys()
    for name, pair in new.items():
        for column in ("seed_id", "source", "kind", "answer", "chosen", "rejected", "prompt"):
            assert pair[column] == old[name][column], column
        pixels = [[image.tobytes() for image in one["images"]] for one in (pair, old[name])]
        assert pixels[0] == pixels[1]


def test_the_system_turn_of_a_row_reaches_the_trainers(tmp_path: Path) -> None:
    rows = [row(system="Be brief."), row("<image>\nWhat?", system="")]
    meta = release(tmp_path, {"a_correctness": rows})
    import_pairs(str(meta), str(tmp_path / "out"))
    first, second = read(tmp_path / "out")
    assert [turn["role"] for turn in first["prompt"]] == ["system", "user"]
    assert first["prompt"][0]["content"] == [{"type": "text", "text": "Be brief."}]
    assert [turn["role"] for turn in second["prompt"]] == ["user"]
    told = {}
    for form, file in [
        ("internvl", "annotations/a_correctness_correctness.jsonl"),
        ("ms-swift", "pairs.jsonl"),
        ("llama-factory", "mmpr.jsonl"),
    ]:
        dest = tmp_path / form
        done = write_export([str(tmp_path / "out")], FORMATS[form], str(dest), ExportOptions())
        assert (done.rows, done.drops) == (2, {}), form
        told[form] = json.loads((dest / file).read_text().splitlines()[0])
        assert not lint_folder(str(dest), FORMATS[form], model=str(model_path())).counts, form
    assert told["internvl"]["system"] == "Be brief."
    assert told["ms-swift"]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert told["llama-factory"]["conversations"][0] == {"from": "system", "value": "Be brief."}
    import_pairs(str(tmp_path / "internvl/meta.json"), str(tmp_path / "back"))
    assert [one["prompt"] for one in read(tmp_path / "back")] == [
        one["prompt"] for one in (first, second)
    ]


def test_old_and_new_pairs_mix(tmp_path: Path) -> None:
    meta = release(tmp_path, {"a_correctness": [row(), row("<image>\nWhat?")]})
    done: Imported = import_pairs(str(meta), str(tmp_path / "old"))
    write_build(tmp_path / "new", sample_rollouts(tmp_path / "seeds"))
    mixed = load_pairs([tmp_path / "old", tmp_path / "new"])
    assert mixed.num_rows == done.rows + 10
    assert mixed.column_names == pair_schema().names
    both = [str(tmp_path / "old"), str(tmp_path / "new")]
    out = write_export(both, FORMATS["trl"], str(tmp_path / "both"), ExportOptions())
    assert out.rows == mixed.num_rows
    assert load_pairs(tmp_path / "both").num_rows == mixed.num_rows


def test_folders_of_other_columns_are_named_and_export_mends_them(tmp_path: Path) -> None:
    write_build(tmp_path / "new", sample_rollouts(tmp_path / "seeds"))
    table = pq.read_table(tmp_path / "new/pairs/part-00000.parquet")
    older = table.drop_columns(["image_sha256"])
    (tmp_path / "older").mkdir()
    tables.write_parquet(pa.table(older), tmp_path / "older/part-00000.parquet")
    both = [tmp_path / "new", tmp_path / "older"]
    with pytest.raises(InputError, match=r"older/part-00000.*image_sha256 differ.*--to trl"):
        load_pairs(both)
    names = [str(path) for path in both]
    write_export(names, FORMATS["trl"], str(tmp_path / "one"), ExportOptions())
    assert load_pairs(tmp_path / "one").num_rows == 20


def test_an_import_replaces_only_an_import(tmp_path: Path) -> None:
    meta = str(release(tmp_path, {"a_correctness": [row()]}))
    import_pairs(meta, str(tmp_path / "out"))
    with pytest.raises(BuildConflictError, match="--overwrite"):
        import_pairs(meta, str(tmp_path / "out"))
    assert import_pairs(meta, str(tmp_path / "out"), overwrite=True).rows == 1
    write_build(tmp_path / "build", sample_rollouts(tmp_path / "seeds"))
    with pytest.raises(BuildConflictError, match="not empty"):
        import_pairs(meta, str(tmp_path / "build"), overwrite=True)


def test_what_is_no_release_says_so(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "odd.json").write_text('{"a": {"root": "x"}}')
    (tmp_path / "empty.jsonl").write_text("")
    for name, said in [
        ("gone.json", "no such file"),
        ("list.json", "no object"),
        ("odd.json", "no 'annotation'"),
        ("empty.jsonl", "not one usable pair"),
    ]:
        with pytest.raises(InputError, match=said):
            import_pairs(str(tmp_path / name), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["images", "img", "image_1"])
def test_rows_keep_their_pictures_whatever_their_column_is_called(
    tmp_path: Path, name: str
) -> None:
    single = row()
    image = single.pop("image")
    other = {**single, name: [image] if name == "images" else image}
    import_pairs(str(release(tmp_path, {"a_correctness": [other]})), str(tmp_path / "out"))
    (pair,) = load_pairs(tmp_path / "out")
    assert len(pair["images"]) == 1


def test_a_column_that_looks_like_a_picture_is_not_passed_over(tmp_path: Path) -> None:
    scanned = row()
    scanned["scan"] = scanned.pop("image")
    meta = release(tmp_path, {"a_correctness": [row(question="Another?"), scanned]})
    import_pairs(str(meta), str(tmp_path / "out"))
    assert drops(tmp_path / "out") == {"a_correctness.jsonl:2": "unread_columns"}
