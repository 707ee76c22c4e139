"""Lint finds each planted fault at its row and names the remedy; a clean build passes."""

from __future__ import annotations

import io
import json
import struct
import tomllib
import zlib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from commands import mmpr
from pair_samples import make_rollout, picture, sample_rollouts, write_build
from PIL import Image
from planting import plant

from mmpr_builder import load_pairs
from mmpr_builder.config import Config
from mmpr_builder.demo import model_path
from mmpr_builder.errors import InputError
from mmpr_builder.export import FORMATS, ExportOptions, write_export
from mmpr_builder.export.faults import REMEDIES
from mmpr_builder.export.items import Item, Picture, read_items
from mmpr_builder.export.lint import LintResult, lint_folder
from mmpr_builder.export.lint_checks import ImageChecker, TokenCounter
from mmpr_builder.io import images, tables
from mmpr_builder.output import pair_parts
from mmpr_builder.records import Seed
from mmpr_builder.scoring import Judge

DEMO = str(model_path())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Two pairs of one question with one image: clean for every trainer."""
    seed = Seed("s", "<image>\nHow many?", (picture(tmp_path / "red.png", "red"),), ("3",))
    write_build(tmp_path / "out", [make_rollout(seed, ["so 3", "plain: 3", "it is 4"])])
    return tmp_path / "out"


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Single, several and no images."""
    write_build(tmp_path / "mixed", sample_rollouts(tmp_path / "seeds"))
    return tmp_path / "mixed"


def lint(out: Path, form: str = "trl", **options: Any) -> LintResult:
    return lint_folder(str(out), FORMATS[form], **options)


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "PNG")
    return buffer.getvalue()


def huge_png() -> bytes:
    """A header that promises 40 gigapixels."""
    body = b"IHDR" + struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0)
    head = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + head + struct.pack(">I", 9) + b"IDAT"


@pytest.mark.parametrize("form", FORMATS)
def test_a_clean_build_passes(out: Path, form: str) -> None:
    result = lint(out, form)
    assert (result.counts, result.rows, result.images) == ({}, 2, 1)


USER = {"role": "user", "content": [{"type": "text", "text": "Hello"}]}
PLANTED: list[tuple[str, dict[str, Any], str]] = [
    # trainer, what is planted, finding
    ("trl", {"prompt": [None, None, "How many?"]}, "placeholder_mismatch"),
    ("internvl", {"prompt": [None, None, "How many?"]}, "placeholder_mismatch"),
    ("trl", {"prompt": ["How many?"]}, "placeholder_mismatch"),
    ("llama-factory", {"prompt": [None, "a <video>?"]}, "placeholder_in_prompt"),
    ("nemo-rl", {"prompt": [None, "What is <image_2>?"]}, "placeholder_in_prompt"),
    ("verl", {"prompt": [None, "a <video>?"]}, "placeholder_in_prompt"),
    ("trl", {"chosen": "see <image>: 3"}, "placeholder_in_response"),
    ("ms-swift", {"rejected": "see <image>: 4"}, "placeholder_in_response"),
    ("internvl", {"rejected": "<IMG_CONTEXT> 4"}, "placeholder_in_response"),
    ("trl", {"chosen": "same", "rejected": " same\n"}, "identical_sides"),
    ("trl", {"chosen": ""}, "empty_text"),
    ("ms-swift", {"rejected": " \n"}, "empty_text"),
    ("verl", {"prompt": [None, " "]}, "empty_text"),
    ("trl", {"images": [None]}, "image_missing"),
    ("trl", {"images": [b"no image"]}, "image_unreadable"),
    ("nemo-rl", {"images": [png(64, 64)[:60]]}, "image_unreadable"),
    ("trl", {"images": [huge_png()]}, "image_too_large"),
    ("trl", {"images": [png(1, 300)]}, "image_bad_aspect"),
    ("trl", {"images": [png(400, 400)]}, "image_large"),
    ("nemo-rl", {"images": [], "prompt": ["1 + 1?"]}, "text_only"),
    ("nemo-rl", {"images": [png(9, 9)] * 2, "prompt": [None, None, "?"]}, "multi_image"),
    ("trl", {"chosen": "done<|im_end|>"}, "special_token"),
    ("internvl", {"rejected": "<start_of_turn>model 4"}, "special_token"),
    ("trl", {"prompt": [None, "How many <|vision_start|>?"]}, "special_token"),
    ("llama-factory", {"prompt": ["[INST] How many?", None]}, "special_token"),
    ("verl", {"prompt": [None, "How many<|im_end|>?"]}, "special_token"),
    ("ms-swift", {"prompt": ["How many {{ROUND1}}?", None]}, "placeholder_in_prompt"),
    ("ms-swift", {"images": [], "prompt": ["<img>x</img>?"]}, "placeholder_in_prompt"),
]


@pytest.mark.parametrize(("form", "fault", "reason"), PLANTED)
def test_a_planted_fault_is_found_at_its_row(
    out: Path, form: str, fault: dict[str, Any], reason: str
) -> None:
    name = plant(out, 1, **fault)
    result = lint(out, form, max_pixels=100_000)
    assert result.counts == {reason: 1}
    (found,) = result.examples[reason]
    assert found.where == f"{out}/pairs/part-00000.parquet:1"
    assert found.id == name
    assert found.detail
    assert result.remedies == {reason: REMEDIES[reason]}


LEFT_OUT = [case for case in PLANTED if case[0] != "verl" and case[2] != "image_large"]


@pytest.mark.parametrize(("form", "fault", "reason"), LEFT_OUT)
def test_what_lint_finds_the_export_leaves_out(
    out: Path, tmp_path: Path, form: str, fault: dict[str, Any], reason: str
) -> None:
    plant(out, 1, **fault)
    done = write_export([str(out)], FORMATS[form], str(tmp_path / "dest"), ExportOptions())
    assert (done.rows, done.drops) == (1, {reason: 1})
    assert not lint(tmp_path / "dest", form).counts


def test_with_a_model_the_export_leaves_out_what_lint_with_it_finds(
    mixed: Path, tmp_path: Path
) -> None:
    plant(mixed, 0, chosen="a <global-img> 3")
    longest = max(TokenCounter(DEMO).longest([i], [s])[0] for i, s, _ in measured(mixed))
    found = lint(mixed, model=DEMO, context=longest - 1).counts
    assert set(found) == {"special_token", "too_long"}
    options = ExportOptions(model=DEMO, context=longest - 1)
    done = write_export([str(mixed)], FORMATS["trl"], str(tmp_path / "dest"), options)
    assert done.drops == found
    assert done.rows == 10 - sum(found.values())


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("prompt", [USER, USER], "odd_prompt"),
        ("prompt", [], "odd_prompt"),
        ("chosen", [USER], "odd_response"),
    ],
)
def test_conversations_of_another_shape_are_found(
    out: Path, column: str, value: Any, reason: str
) -> None:
    part = out / "pairs" / "part-00000.parquet"
    table = pq.read_table(part)
    rows = table.to_pylist()
    rows[0][column] = value
    tables.write_parquet(tables.to_table(rows, table.schema), part)
    assert lint(out).counts == {reason: 1}


def test_shards_of_other_columns_are_found(out: Path) -> None:
    part = out / "pairs" / "part-00000.parquet"
    table = pq.read_table(part).drop_columns(["answers"])
    tables.write_parquet(table, out / "pairs" / "part-00001.parquet")
    result = lint(out)
    assert result.counts == {"mixed_schema": 1}
    assert "answers" in result.examples["mixed_schema"][0].detail
    assert result.examples["mixed_schema"][0].where.endswith("part-00001.parquet")


def test_a_faulty_row_is_refused_by_the_export_for_the_same_reason(
    out: Path, tmp_path: Path
) -> None:
    plant(out, 1, chosen="see <image>: 3")
    assert lint(out, "internvl").counts == {"placeholder_in_response": 1}
    dest = tmp_path / "dest"
    done = write_export([str(out)], FORMATS["internvl"], str(dest), ExportOptions())
    assert done.drops == {"placeholder_in_response": 1}
    assert not lint(dest, "internvl").counts


def test_each_image_is_opened_once(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = images.open_image

    def counting(data: bytes) -> Image.Image:
        opened.append(data)
        return real(data)

    monkeypatch.setattr(images, "open_image", counting)
    result = lint(mixed)
    assert (result.rows, result.images, len(opened)) == (10, 2, 2)


def measured(out: Path) -> list[tuple[Item, list[tuple[int, int]], list[Image.Image]]]:
    checker = ImageChecker(2**24)
    found = []
    for item in read_items(pair_parts(out)):
        assert isinstance(item, Item)
        sizes = [checker.check(one)[0] for one in item.pictures]
        pictures = [images.open_image(one.read()) for one in item.pictures]
        found.append((item, [size for size in sizes if size], pictures))
    return found


def test_lengths_are_those_of_the_models_own_processor(mixed: Path) -> None:
    from transformers import AutoProcessor

    plant(mixed, 0, images=[png(300, 40)])
    processor = AutoProcessor.from_pretrained(DEMO)
    rows = measured(mixed)
    assert {len(pictures) for *_, pictures in rows} == {0, 1, 2}
    counted = TokenCounter(DEMO).longest([item for item, *_ in rows], [s for _, s, _ in rows])
    for (item, _, pictures), total in zip(rows, counted, strict=True):
        lengths = []
        for _, reply in item.sides:
            content = [{"type": "image"} if p is None else {"type": "text", "text": p}
                       for p in item.parts]  # fmt: skip
            text = processor.apply_chat_template(
                [
                    {"role": "user", "content": content},
                    {"role": "assistant", "content": [{"type": "text", "text": reply}]},
                ],
                tokenize=False,
            )
            whole = processor(text=[text], images=[pictures] if pictures else None)
            lengths.append(len(whole["input_ids"][0]))
        assert total == max(lengths)


def test_a_row_over_the_context_is_found(mixed: Path) -> None:
    assert not lint(mixed, model=DEMO).counts  # The context is the model's own.
    longest = max(TokenCounter(DEMO).longest([i], [s])[0] for i, s, _ in measured(mixed))
    assert not lint(mixed, model=DEMO, context=longest).counts
    result = lint(mixed, model=DEMO, context=longest - 1)
    assert set(result.counts) == {"too_long"}
    assert f"{longest:,} tokens" in result.examples["too_long"][0].detail


def test_an_image_that_the_processor_refuses_is_found(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: TokenCounter, size: tuple[int, int]) -> int:
        raise ValueError(f"cannot patch {size}")

    monkeypatch.setattr(TokenCounter, "_image_tokens", refuse)
    result = lint(out, model=DEMO)
    assert result.counts == {"image_refused": 2}
    assert "cannot patch" in result.examples["image_refused"][0].detail


def test_special_tokens_are_the_models_own(out: Path) -> None:
    plant(out, 0, chosen="a <global-img> 3")
    plant(out, 1, chosen="an [INST] 3")
    assert lint(out).examples["special_token"][0].where.endswith(":1")
    assert lint(out, model=DEMO).examples["special_token"][0].where.endswith(":0")


def test_a_model_that_cannot_count_is_refused(out: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no processor can be loaded"):
        lint(out, model=str(tmp_path))


def test_a_processor_that_cannot_be_loaded_is_quoted_to_the_end(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoProcessor

    def fail(_: str) -> None:
        raise ImportError("\nQwen2VLVideoProcessor requires a library. " * 9 + "Torchvision")

    monkeypatch.setattr(AutoProcessor, "from_pretrained", fail)
    with pytest.raises(InputError, match=r"Torchvision\): give the folder"):
        lint(out, model=DEMO)


def test_the_train_extra_brings_what_processors_of_most_families_import() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    extra = project["project"]["optional-dependencies"]["train"]
    assert any(line.startswith("torchvision") for line in extra)


def exported(out: Path, form: str, dest: Path) -> Path:
    write_export([str(out)], FORMATS[form], str(dest), ExportOptions())
    return dest


@pytest.mark.parametrize("form", ["internvl", "nemo-rl", "ms-swift", "llama-factory", "trl"])
def test_an_export_is_clean_and_a_lost_image_file_is_found(
    mixed: Path, tmp_path: Path, form: str
) -> None:
    dest = exported(mixed, form, tmp_path / "dest")
    assert not lint(dest, form).counts
    if form == "trl":
        return
    for path in (dest / "images").rglob("*.png"):
        path.unlink()
    result = lint(dest, form)
    assert set(result.counts) == {"image_missing"}
    found = result.examples["image_missing"][0]
    assert ".jsonl:" in found.where
    assert len(found.id) == 32


def test_an_export_for_verl_is_clean_and_its_faults_are_found(tmp_path: Path) -> None:
    rollouts = [
        make_rollout(
            Seed(f"s{i}", "<image>\n?", (picture(tmp_path / f"{i}.png", "red"),), ("3",)),
            ["Final answer: 3", "Final answer: 4"],
        )
        for i in range(2)
    ]
    config = Config()
    with Judge() as judge:
        pairs = [(rollout, config) for rollout in rollouts]
        dest = str(tmp_path / "dest")
        write_export(["out"], FORMATS["verl"], dest, ExportOptions(), lambda: pairs, judge)
    assert lint(tmp_path / "dest", "verl").rows == 2
    assert not lint(tmp_path / "dest", "verl", model=DEMO).counts
    part = tmp_path / "dest/train.parquet"
    table = pq.read_table(part)
    rows = table.to_pylist()
    rows[0]["reward_model"]["ground_truth"] = ""
    rows[1]["images"] = []
    tables.write_parquet(tables.to_table(rows, table.schema), part)
    result = lint(tmp_path / "dest", "verl")
    assert result.counts == {"empty_text": 1, "placeholder_mismatch": 1}


SPOILT: list[tuple[str, str, str, str, str]] = [
    # trainer, file, text replaced, by what, finding
    ("internvl", "meta.json", "_format.jsonl", "_format.json", "bad_recipe"),
    ("internvl", "meta.json", '"repeat_time"', '"repeat"', "bad_recipe"),
    ("internvl", "meta.json", "annotations/sums", "annotations/gone", "bad_recipe"),
    ("internvl", "annotations/sums_correctness.jsonl", '{"question"', '"question"', "bad_json"),
    ("internvl", "annotations/sums_correctness.jsonl", '"chosen"', '"choice"', "missing_field"),
    ("nemo-rl", "recipe/meta.json", "annotations/grid_format", "gone", "bad_recipe"),
    ("ms-swift", "pairs_text_only.jsonl", "rejected_response", "rejected", "missing_field"),
    ("llama-factory", "dataset_info.json", '"ranking": true', '"ranking": false', "bad_recipe"),
    ("llama-factory", "mmpr_text_only.jsonl", '"value"', '"text"', "missing_field"),
    # Values of another type than a loader expects.
    ("internvl", "meta.json", '"repeat_time": 1', '"repeat_time": "1"', "bad_recipe"),
    ("internvl", "meta.json", '"root": "', '"root": 5, "was": "', "bad_recipe"),
    (
        "ms-swift",
        "pairs_text_only.jsonl",
        '[{"role": "user", ',
        '[7, {"role": "user", ',
        "missing_field",
    ),
    ("ms-swift", "pairs.jsonl", '"images": [', '"images": {"a": 1}, "were": [', "missing_field"),
    ("llama-factory", "dataset_info.json", '"file_name"', '"name"', "bad_recipe"),
    (
        "llama-factory",
        "mmpr.jsonl",
        '"images": [',
        '"images": {"a": 1}, "were": [',
        "missing_field",
    ),
]


@pytest.mark.parametrize(("form", "file", "old", "new", "reason"), SPOILT)
def test_a_spoilt_export_is_found(
    mixed: Path, tmp_path: Path, form: str, file: str, old: str, new: str, reason: str
) -> None:
    path = exported(mixed, form, tmp_path / "dest") / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    result = lint(tmp_path / "dest", form)
    assert set(result.counts) == {reason}
    assert str(tmp_path / "dest") in result.examples[reason][0].where


def test_an_export_made_for_another_place_is_checked_here(mixed: Path, tmp_path: Path) -> None:
    for form in ("internvl", "ms-swift"):
        options = ExportOptions(mount="/data/elsewhere")
        write_export([str(mixed)], FORMATS[form], str(tmp_path / form), options)
        assert not lint(tmp_path / form, form).counts


def test_every_finding_has_a_test_that_plants_it() -> None:
    planted = {reason for *_, reason in PLANTED} | {reason for *_, reason in SPOILT}
    elsewhere = {"odd_prompt", "odd_response", "mixed_schema", "too_long", "image_refused"}
    assert planted | elsewhere == set(REMEDIES)


def test_of_a_pair_verl_is_checked_for_the_query_alone(out: Path) -> None:
    plant(out, 0, chosen="see <image>", rejected="")
    assert not lint(out, "verl").counts
    assert lint(out, "trl").counts == {"placeholder_in_response": 1, "empty_text": 1}


def test_half_a_surrogate_pair_in_a_file_ends_no_check(mixed: Path, tmp_path: Path) -> None:
    path = exported(mixed, "internvl", tmp_path / "dest") / "annotations/sums_correctness.jsonl"
    row = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    row = {**row, "id": "\ud83d", "chosen": "\ud83d <image>"}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    result = lint(tmp_path / "dest", "internvl", json_file=tmp_path / "lint.json")
    assert result.counts == {"placeholder_in_response": 1}
    assert json.loads((tmp_path / "lint.json").read_text())["findings"][0]["id"] == "\ufffd"


def test_queries_that_are_no_parquet_are_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"PAR1 no PAR1")
    (tmp_path / "export.json").write_text('{"format": "verl"}')
    with pytest.raises(InputError, match=r"train\.parquet"):
        lint(tmp_path, "verl")


def test_a_list_that_cannot_be_written_is_refused_before_the_work(out: Path) -> None:
    (out / "file").write_text("")
    for place in (out, out / "file" / "lint.json"):
        with pytest.raises(InputError, match="no file can be there"):
            lint(out, model="/no/such/model", json_file=place)


def test_the_command_names_row_and_remedy_and_ends_with_5(out: Path, tmp_path: Path) -> None:
    clean = mmpr("lint", str(out), "--for", "trl")
    assert clean.returncode == 0, clean.stderr
    assert "nothing would go wrong in trl: 2 rows, 1 images" in clean.stderr
    name = plant(out, 1, chosen="[bold]see <image>[/]: 3")
    found = mmpr("lint", str(out), "--for", "trl", "--json", str(tmp_path / "lint.json"))
    assert found.returncode == 5, found.stderr
    for said in (
        "placeholder_in_response",
        " pairs/part-00000.parquet:1",
        name[:12],
        "leave the row out",
    ):
        assert said in found.stderr
    content = json.loads((tmp_path / "lint.json").read_text())
    assert content["counts"] == {"placeholder_in_response": 1}
    (finding,) = content["findings"]
    assert finding["id"] == name
    assert finding["detail"] == "chosen says '[bold]see <image>[/]: 3'"


BAD_CALLS = [
    (["lint", "OUT", "--for", "nemo"], "'nemo-rl'"),
    (["lint", "OUT/nowhere", "--for", "trl"], "no pairs here"),
    (["lint", "OUT", "--for", "trl", "--context", "100"], "--model"),
    (["export", "OUT", "--to", "trl"], "OUT DEST"),
    (["export", "OUT", "OUT/x", "--to", "csv"], "internvl"),
    (["export", "OUT", "OUT/x", "--to", "verl"], "no rollouts here"),
    (["import", "OUT/meta.json"], "out=DIR"),
]


@pytest.mark.parametrize(("words", "said"), BAD_CALLS)
def test_a_call_that_cannot_be_done_ends_with_2_and_the_fix(
    out: Path, words: list[str], said: str
) -> None:
    done = mmpr(*[word.replace("OUT", str(out)) for word in words])
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_export_and_import_say_what_they_did(mixed: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    done = mmpr("export", str(mixed), str(dest), "--to", "nemo-rl", "--kinds", "format,correctness")
    assert done.returncode == 0, done.stderr
    for said in ("4 rows for nemo-rl, 1 image files", "multi_image", f"{dest}/drops.jsonl"):
        assert said in done.stderr
    done = mmpr("import", str(dest / "recipe/meta.json"), f"out={tmp_path / 'back'}")
    assert done.returncode == 0, done.stderr
    assert "4 from 1 images" in done.stderr
    assert load_pairs(tmp_path / "back").num_rows == 4


def test_a_picture_knows_where_it_should_be(tmp_path: Path) -> None:
    size, fault = ImageChecker(100).check(Picture(path=tmp_path / "gone.png"))
    assert size is None
    assert fault is not None
    assert str(tmp_path / "gone.png") in fault.detail
