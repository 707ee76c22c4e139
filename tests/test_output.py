"""A build's folder: every seed once, images as the model saw them, the same bytes each time."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from build_files import drops_in, files_in
from pair_samples import blocks, make_rollout, picture, sample_rollouts, write_build
from PIL import Image

from mmpr_builder.config import Config, OutputConfig
from mmpr_builder.errors import InputError
from mmpr_builder.io import images, tables
from mmpr_builder.output import BuildWriter, load_pairs, pair_schema, read_run, shards
from mmpr_builder.output.rows import TEXT_SCHEMA
from mmpr_builder.output.shards import row_bytes
from mmpr_builder.output.stored_images import as_stored
from mmpr_builder.records import Drop, ImageRef, Seed

pytestmark = pytest.mark.usefixtures("own_cache")


DATA = Path(__file__).parents[2] / "shared" / "data"


def column(out: Path, name: str) -> list[Any]:
    parts = tables.list_parts(out / "pairs", pair_schema())
    return [v for part in parts for v in tables.read_parquet(part, [name])[name].to_pylist()]


def test_every_seed_ends_in_exactly_one_of_pairs_and_drops(tmp_path: Path) -> None:
    write_build(tmp_path / "out", sample_rollouts(tmp_path))
    paired, dropped = column(tmp_path / "out", "seed_id"), drops_in(tmp_path / "out")
    assert set(paired) == {"one", "two", "none", "open"}
    assert [(d.item_id, d.stage, d.reason) for d in dropped] == [
        ("a.jsonl:9", "seeds", "image_missing"),
        ("easy", "pairing", "all_correct"),
        ("gone", "sampling", "image_missing"),
    ]


def test_pairs_load_with_decoded_images_in_the_order_of_the_prompt(tmp_path: Path) -> None:
    write_build(tmp_path / "out", sample_rollouts(tmp_path))
    pairs = load_pairs(tmp_path / "out")
    rows = {row["seed_id"]: row for row in pairs}
    two = rows["two"]
    (message,) = two["prompt"]
    assert message["role"] == "user"
    assert [(part["type"], part["text"]) for part in message["content"]] == [
        ("text", "Is "),
        ("image", None),
        ("text", " redder than "),
        ("image", None),
        ("text", " ?\nEnd with Final answer: …"),
    ]
    red, blue = two["images"]
    assert red.getpixel((90, 60)) == (178, 34, 34)  # firebrick
    assert blue.getpixel((90, 60))[2] > 100
    assert [image.mode for image in two["images"]] == ["RGB", "RGB"]
    assert rows["none"]["images"] == []
    for row in pairs:
        parts = row["prompt"][0]["content"]
        assert sum(part["type"] == "image" for part in parts) == len(row["images"])
        for side in ("chosen", "rejected"):
            assert row[side] == [
                {
                    "role": "assistant",
                    "content": [{"type": "text", "text": row[f"{side}_text"]}],
                }
            ]


def test_flat_columns_say_where_a_pair_comes_from(tmp_path: Path) -> None:
    config = Config.model_validate({"pairing": {"seed": 7}, "sampling": {"temperature": 0.7}})
    write_build(tmp_path / "out", sample_rollouts(tmp_path), config)
    row = next(r for r in load_pairs(tmp_path / "out") if r["kind"] == "correctness")
    assert (row["seed_id"], row["source"], row["origin"]) == ("one", "grid", "a:1")
    assert (row["question"], row["answer"]) == ("<image>\nHow many?", "3")
    assert row["answers"] == ["3", "three"]
    assert (row["chosen_answer"], row["rejected_answer"]) == ("3", "4")
    assert (row["model"], row["template"], row["style"]) == (
        "tiny",
        "final_answer_en",
        "final_answer",
    )
    assert (row["pass_rate"], row["n_samples"], row["rng_seed"]) == (0.5, 4, 7)
    assert json.loads(row["sampling"])["temperature"] == 0.7
    assert row["chosen_seed"] in (100, 101)
    assert row["rejected_seed"] == 102
    assert row["chosen_rule"] == "last_word"
    assert row["image_sha256"] == [hashlib.sha256((tmp_path / "red.png").read_bytes()).hexdigest()]
    dropout = next(r for r in load_pairs(tmp_path / "out") if r["kind"] == "dropout_ntp")
    assert (dropout["dropout_keep"], dropout["dropout_image"]) == (0.5, False)
    assert dropout["answer"] is None
    assert dropout["rejected_seed"] in (300, 301, 302)


def test_the_same_rollouts_give_the_same_bytes(tmp_path: Path) -> None:
    rollouts = sample_rollouts(tmp_path)
    for name in ("a", "b"):
        write_build(tmp_path / name, rollouts)
    assert files_in(tmp_path / "a" / "pairs") == files_in(tmp_path / "b" / "pairs")
    assert files_in(tmp_path / "a" / "drops") == files_in(tmp_path / "b" / "drops")
    first, second = read_run(tmp_path / "a"), read_run(tmp_path / "b")
    assert first["counts"] == second["counts"]


def test_pairing_again_leaves_nothing_of_the_old_pairs(tmp_path: Path) -> None:
    rollouts = sample_rollouts(tmp_path)
    small = Config(output=OutputConfig(shard_bytes=2**16, row_group_bytes=2**14))
    many = [
        replace(r, seed=replace(r.seed, id=f"{r.seed.id}{i}")) for i in range(40) for r in rollouts
    ]
    write_build(tmp_path / "out", many, small)
    assert len(tables.list_parts(tmp_path / "out" / "pairs")) > 1
    write_build(tmp_path / "out", rollouts[:1])
    assert [Path(p).name for p in tables.list_parts(tmp_path / "out" / "pairs")] == [
        "part-00000.parquet"
    ]
    assert set(column(tmp_path / "out", "seed_id")) == {"one"}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "README.md",
        "drops",
        "pairs",
        "run.json",
    ]


def test_a_run_that_fails_leaves_the_old_build_untouched(tmp_path: Path) -> None:
    rollouts = sample_rollouts(tmp_path)
    config = write_build(tmp_path / "out", rollouts)
    before = files_in(tmp_path / "out")

    def interrupted() -> None:
        with BuildWriter(config) as writer:
            writer.add(next(blocks(rollouts, config)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert files_in(tmp_path / "out") == before


def test_what_a_killed_run_left_behind_is_cleared(tmp_path: Path) -> None:
    rollouts = sample_rollouts(tmp_path)
    config = write_build(tmp_path / "out", rollouts)
    before = files_in(tmp_path / "out")
    BuildWriter(config)  # Never closed, as if killed …
    stale = tmp_path / "out" / ".new" / "pairs"
    assert stale.is_dir()
    (stale / "part-00007.parquet").write_bytes(b"half")  # … in the middle of a part.
    write_build(tmp_path / "out", rollouts)
    after = files_in(tmp_path / "out")
    assert after.keys() == before.keys()
    assert after["pairs/part-00000.parquet"] == before["pairs/part-00000.parquet"]


def test_nothing_is_published_before_the_end(tmp_path: Path) -> None:
    rollouts = sample_rollouts(tmp_path)
    config = Config(out=str(tmp_path / "out"), output=OutputConfig(shard_bytes=2**16))
    with BuildWriter(config) as writer:
        for block in blocks(rollouts, config):
            writer.add(block)
        assert tables.list_parts(tmp_path / "out" / "pairs") == []
    assert len(tables.list_parts(tmp_path / "out" / "pairs")) == 1


def test_a_build_without_any_pair_still_loads(tmp_path: Path) -> None:
    write_build(tmp_path / "out", sample_rollouts(tmp_path)[4:])
    assert column(tmp_path / "out", "id") == []
    assert "10 pairs" not in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert read_run(tmp_path / "out")["counts"]["tokens"]["per_pair"] is None


@pytest.mark.parametrize("change", ["gone", "changed"])
def test_an_image_that_is_not_the_sampled_one_turns_the_pairs_into_a_drop(
    tmp_path: Path, change: str
) -> None:
    ref = picture(tmp_path / "x.png", "teal")
    rollout = make_rollout(Seed("x", "<image>\n?", (ref,), ("3",)), ["so 3", "so 4"])
    if change == "gone":
        Path(ref.uri).unlink()
    else:
        picture(tmp_path / "x.png", "red")
    write_build(tmp_path / "out", [rollout])
    (drop,) = [d for d in drops_in(tmp_path / "out") if d.item_id == "x"]
    assert drop.stage == "output"
    assert drop.reason == {"gone": "image_missing", "changed": "image_changed"}[change]
    assert str(ref.uri) in drop.detail
    assert column(tmp_path / "out", "id") == []
    assert read_run(tmp_path / "out")["counts"]["pairs"]["total"] == 0


def test_a_prompt_that_lost_an_image_is_a_drop(tmp_path: Path) -> None:
    ref = picture(tmp_path / "x.png", "teal")
    rollout = make_rollout(Seed("x", "?", (ref,), ("3",)), ["so 3", "so 4"])
    write_build(tmp_path / "out", [rollout])
    assert [d.reason for d in drops_in(tmp_path / "out") if d.item_id == "x"] == [
        "placeholder_mismatch"
    ]


def busy_image(side: int) -> Image.Image:
    """Noise without randomness: hardly compressible."""
    data = b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(side * side * 3 // 32))
    return Image.frombytes("RGB", (side, side), data)


def test_shards_and_row_groups_are_bounded_and_an_image_is_stored_once_per_seed(
    tmp_path: Path,
) -> None:
    busy_image(96).save(tmp_path / "noise.png")
    size = (tmp_path / "noise.png").stat().st_size
    ref = ImageRef(str(tmp_path / "noise.png"))
    texts = [f"way {i} to 3" for i in range(8)] + [f"way {i} to 4" for i in range(8)]
    rollouts = [
        make_rollout(Seed(f"s{i}", "<image>\n?", (ref,), ("3",)), texts, index=i) for i in range(24)
    ]
    config = Config(output=OutputConfig(shard_bytes=2**17, row_group_bytes=16 * size))
    write_build(tmp_path / "out", rollouts, config)
    parts = tables.list_parts(tmp_path / "out" / "pairs", pair_schema())
    assert len(parts) > 2
    assert len(column(tmp_path / "out", "id")) == 24 * 15
    stored = sum(Path(part).stat().st_size for part in parts)
    assert stored < 24 * 15 * size / 5  # Each image 15 times in memory, about once on disk.
    for part in parts:
        assert Path(part).stat().st_size < 2**17 + 3 * size
        file = pq.ParquetFile(part)
        for i in range(file.num_row_groups):
            assert file.read_row_group(i).nbytes <= 18 * size
            assert file.metadata.row_group(i).column(0).compression == "ZSTD"


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    return block


RGB = Image.effect_mandelbrot((40, 30), (-2, -1, 1, 1), 20).convert("RGB")
KEPT = {
    "png": encoded(RGB, "PNG"),
    "jpeg": encoded(RGB, "JPEG"),
    "grey jpeg": encoded(RGB.convert("L"), "JPEG"),
    "upright exif": encoded(RGB, "JPEG", exif=exif(1)),
}
REDRAWN = {
    "turned jpeg": encoded(RGB, "JPEG", exif=exif(6)),
    "turned png": encoded(RGB, "PNG", exif=exif(3)),
    "cmyk": encoded(RGB.convert("CMYK"), "JPEG"),
    "alpha": encoded(RGB.convert("RGBA"), "PNG"),
    "see-through colour": encoded(RGB, "PNG", transparency=(0, 0, 0)),
    "palette": encoded(RGB.convert("P"), "PNG"),
    "16 bits": encoded(RGB.convert("I;16"), "PNG"),
    "gif": encoded(RGB, "GIF"),
    "webp": encoded(RGB, "WEBP"),
    "tiff": encoded(RGB, "TIFF"),
    "animated png": encoded(
        RGB, "PNG", save_all=True, append_images=[Image.new("RGB", RGB.size, "red")]
    ),
}


@pytest.mark.parametrize("name", [*KEPT, *REDRAWN])
def test_a_trainer_decodes_what_the_model_saw(name: str) -> None:
    from datasets import Image as Feature

    data = {**KEPT, **REDRAWN}[name]
    stored = as_stored(data)
    assert (stored == data) == (name in KEPT)
    decoded = Feature(mode="RGB").decode_example({"bytes": stored, "path": None})
    seen = images.open_image(data)
    assert (decoded.mode, decoded.size) == ("RGB", seen.size)
    assert decoded.tobytes() == seen.tobytes()


def test_all_real_images_decode_as_the_model_saw_them() -> None:
    from datasets import Image as Feature

    paths = sorted(p for f in ("real", "real_bad") for p in (DATA / f).rglob("*") if p.is_file())
    opened = 0
    for path in paths:
        data = path.read_bytes()
        try:
            seen = images.open_image(data)
        except images.RowError:
            continue
        decoded = Feature(mode="RGB").decode_example({"bytes": as_stored(data), "path": None})
        assert decoded.tobytes() == seen.tobytes(), path
        opened += 1
    if not opened:
        pytest.skip("the shared images are not here")


def test_run_json_counts_every_step(tmp_path: Path) -> None:
    write_build(tmp_path / "out", sample_rollouts(tmp_path))
    run = read_run(tmp_path / "out")
    counts = run["counts"]
    assert counts["seeds"] == {
        "read": 7,
        "with_truth": 5,
        "without_truth": 1,
        "with_pairs": 4,
        "dropped": 3,
    }
    assert counts["seeds"]["read"] == counts["seeds"]["with_pairs"] + counts["seeds"]["dropped"]
    assert counts["responses"] == {"sampled": 14, "continued": 3, "blind": 0}
    assert counts["outcomes"] == {"correct": 6, "incorrect": 3, "no_answer": 2, "undecided": 0}
    assert counts["pairs"] == {
        "total": 10,
        "correctness": 4,
        "format": 3,
        "truncated": 0,
        "dropout_ntp": 3,
    }
    assert counts["drops"]["seeds"] == {"image_missing": 1}
    tokens = counts["tokens"]
    assert tokens["generated"] == tokens["responses"] + tokens["continuations"] + tokens["blind"]
    assert tokens["continuations"] == 18
    assert tokens["per_pair"] == round(tokens["generated"] / 10, 1)
    grid = counts["sources"]["grid"]
    assert (grid["seeds"], grid["with_pairs"], grid["pairs"], grid["responses"]) == (5, 3, 9, 12)
    assert grid["outcomes"] == {"correct": 5, "incorrect": 2, "no_answer": 2}
    assert grid["drops"] == {"all_correct": 1, "image_missing": 1}
    assert counts["rules"]["no_answer"] == {"no_marker": 2}
    assert counts["fates"]["unreadable"] == {"image_missing": 1}
    assert counts["uses"] == {
        "correct": {"chosen": 4, "unused": 2},
        "incorrect": {"rejected": 3},
        "no_answer": {"rejected": 2},
        "no_truth": {"chosen": 3},
    }
    assert run["this_run"]["seconds"] == {"pairing": 1.25}
    assert {"python", "mmpr-builder", "pyarrow"} <= run["this_run"]["versions"].keys()
    assert run["config"]["pairing"]["max_per_seed"] == 15


def test_the_card_makes_the_folder_load_as_pairs_only(tmp_path: Path) -> None:
    from datasets import load_dataset

    rollouts = sample_rollouts(tmp_path)
    config = write_build(tmp_path / "out", rollouts)
    unit = tmp_path / "out" / "rollouts" / "unit-00000.parquet"
    tables.write_parquet(tables.rollouts_to_table(rollouts), unit)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["configs"][0]["data_files"][0]["path"] == "pairs/*.parquet"
    assert header["pretty_name"] == config.name
    loaded = load_dataset(str(tmp_path / "out"), split="train")
    assert loaded.num_rows == 10
    assert loaded[0]["images"][0].size == (96, 72)


def test_the_card_names_every_column_and_reason(tmp_path: Path) -> None:
    write_build(tmp_path / "out", sample_rollouts(tmp_path))
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for name in pair_schema().names:
        assert f"`{name}`" in card, name
    assert "| pairing | `all_correct` | 1 |" in card
    assert "| **pairs** | **10** |" in card


@pytest.mark.parametrize("part", ["", "pairs", "pairs/part-00000.parquet"])
def test_pairs_load_from_the_build_its_folder_or_a_file(tmp_path: Path, part: str) -> None:
    write_build(tmp_path / "out", sample_rollouts(tmp_path))
    assert load_pairs(tmp_path / "out" / part).num_rows == 10


def test_loading_where_there_are_no_pairs_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pairs here"):
        load_pairs(tmp_path)
    with pytest.raises(InputError, match="name one at least"):
        load_pairs([])
    with pytest.raises(InputError, match="no finished build here"):
        read_run(tmp_path)


def test_a_build_can_live_in_an_object_store(tmp_path: Path) -> None:
    rollouts = sample_rollouts(tmp_path)
    out = "memory://mmpr-test-output/build"
    fs = fsspec.filesystem("memory")
    try:
        for again in (rollouts, rollouts[:1]):
            config = Config(out=out)
            with BuildWriter(config) as writer:
                for block in blocks(again, config):
                    writer.add(block)
            (part,) = tables.list_parts(f"{out}/pairs", pair_schema())
            found = tables.read_parquet(part, ["seed_id"])["seed_id"].to_pylist()
            assert set(found) == {"one", "two", "none", "open"} & {r.seed.id for r in again}
        assert not fs.exists("/mmpr-test-output/build/.new")
    finally:
        fs.rm("/mmpr-test-output", recursive=True)


def test_bytes_do_not_depend_on_how_seeds_were_grouped(tmp_path: Path) -> None:
    few = sample_rollouts(tmp_path)
    rollouts = [
        replace(r, seed=replace(r.seed, id=f"{r.seed.id}{i}"), index=6 * i + n)
        for i in range(30)
        for n, r in enumerate(few)
    ]
    small = Config(output=OutputConfig(shard_bytes=2**16, row_group_bytes=2**14))
    for name, per_block in (("a", 1), ("b", 7), ("c", 1000)):
        write_build(tmp_path / name, rollouts, small, per_block=per_block)
    first = files_in(tmp_path / "a" / "pairs") | files_in(tmp_path / "a" / "drops")
    assert len(first) > 3
    for name in ("b", "c"):
        assert files_in(tmp_path / name / "pairs") | files_in(tmp_path / name / "drops") == first
    counts = [read_run(tmp_path / name)["counts"] for name in ("a", "b", "c")]
    assert counts[0] == counts[1] == counts[2]


def test_many_small_pieces_give_the_same_bytes_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollouts = sample_rollouts(tmp_path) * 4
    write_build(tmp_path / "a", rollouts)
    monkeypatch.setattr(shards, "_PIECES", 2)
    write_build(tmp_path / "b", rollouts, per_block=1)
    assert files_in(tmp_path / "a" / "pairs") == files_in(tmp_path / "b" / "pairs")


def test_rows_that_were_never_seeds_stand_where_they_were_in_the_input(tmp_path: Path) -> None:
    config = Config(out=str(tmp_path / "out"))
    few = sample_rollouts(tmp_path)  # Those at 4 and 5 are dropped.
    rollouts = [replace(r, index=r.index + (r.index >= 5)) for r in few]
    unread = [(n, Drop(f"row {n}", "seeds", "missing_question")) for n in (0, 5)]
    with BuildWriter(config, unread=unread) as writer:
        for block in blocks(rollouts, config, per_block=2):
            writer.add(block)
    assert [drop.item_id for drop in drops_in(tmp_path / "out")] == [
        "row 0",
        "easy",
        "row 5",
        "gone",
    ]
    assert writer.counts()["seeds"]["read"] == 8


def test_files_show_the_schema_they_were_asked_for(tmp_path: Path) -> None:
    for name, rollouts in (("some", sample_rollouts(tmp_path)), ("none", [])):
        write_build(tmp_path / name, rollouts)
        (part,) = tables.list_parts(tmp_path / name / "pairs", pair_schema())
        assert pq.read_schema(part).metadata == pair_schema().metadata
        assert pq.read_table(part).schema.equals(pair_schema())


def test_rows_without_images_have_the_public_schema() -> None:
    rest = [pair_schema().field(name) for name in pair_schema().names if name != "images"]
    assert list(TEXT_SCHEMA) == rest


def test_a_row_weighs_what_it_takes_in_memory_whatever_stands_beside_it() -> None:
    schema = pa.schema(
        [("n", pa.int64()), ("t", pa.string()), ("l", pa.list_(pa.struct([("b", pa.binary())])))]
    )
    rows = [
        {"n": 1, "t": "abc", "l": [{"b": b"12345"}, {"b": None}]},
        {"n": None, "t": None, "l": []},
        {"n": 3, "t": "答案", "l": None},
    ]
    whole = row_bytes(tables.to_table(rows, schema)).tolist()
    assert whole == [8 + 7 + 4 + 9 + 4, 8 + 4 + 4, 8 + 10 + 4]
    assert [int(row_bytes(tables.to_table([row], schema))[0]) for row in rows] == whole
    assert row_bytes(tables.to_table(rows, schema).slice(1)).tolist() == whole[1:]


def test_half_an_emoji_in_a_text_does_not_stop_the_writing(tmp_path: Path) -> None:
    rollout = make_rollout(Seed("x", "1 + 2?", (), ("3",)), ["\ud83d so 3", "so 4"])
    write_build(tmp_path / "out", [rollout])
    assert column(tmp_path / "out", "chosen_text") == ["� so 3"]


def test_a_row_larger_than_a_row_group_is_written_whole(tmp_path: Path) -> None:
    busy_image(96).save(tmp_path / "noise.png")
    busy_image(128).save(tmp_path / "other.png")
    rollouts = [
        make_rollout(
            Seed(name, "<image>\n?", (ImageRef(str(tmp_path / name)),), ("3",)),
            ["so 3", "thus 3", "so 4"],
        )
        for name in ("noise.png", "other.png")
    ]
    config = Config(output=OutputConfig(row_group_bytes=2**14))
    write_build(tmp_path / "out", rollouts, config)
    stored = [images[0]["bytes"] for images in column(tmp_path / "out", "images")]
    assert stored == [
        (tmp_path / name).read_bytes() for name in ("noise.png", "other.png") for _ in range(2)
    ]
