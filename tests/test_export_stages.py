"""SFT, KTO and GRPO from the rollouts of a build; splits, draws and controls of every export."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from commands import mmpr
from pair_samples import LastWord, make_rollout, picture, sample_rollouts, write_build

from mmpr_builder import Config, load_pairs
from mmpr_builder.config import StepsConfig
from mmpr_builder.demo import model_path
from mmpr_builder.errors import ConfigError, InputError
from mmpr_builder.export import FORMATS, Exported, ExportOptions, write_export
from mmpr_builder.export.choice import Draw
from mmpr_builder.export.items import Item
from mmpr_builder.export.lint import lint_folder
from mmpr_builder.export.readback import read_export
from mmpr_builder.export.verl_reward import trl_reward
from mmpr_builder.io import tables
from mmpr_builder.records import Response, Rollout, Seed
from mmpr_builder.scoring import Judge

pytestmark = pytest.mark.usefixtures("own_cache")

STAGES = ("sft", "kto", "grpo")
ALL = tuple(FORMATS)


def write(form: str, rollouts: Sequence[Rollout], dest: Path, **options: Any) -> Exported:
    config = options.pop("config", Config(steps=StepsConfig(apply="exact")))
    pairs = [(rollout, config) for rollout in rollouts]
    how = ExportOptions(**options)
    if FORMATS[form].rows is not None:
        return write_export(["out"], FORMATS[form], str(dest), how, lambda: pairs, LastWord())
    out = dest.parent / f"build-{dest.name}"
    write_build(out, rollouts, config)
    return write_export(
        [str(out)],
        FORMATS[form],
        str(dest),
        how,
        lambda: pairs,
        LastWord(),
    )


def rows_of(dest: Path, split: str = "train") -> list[dict[str, Any]]:
    return list(pq.read_table(dest / split / "part-00000.parquet").to_pylist())


def said(row: dict[str, Any]) -> str:
    return str(row["completion"][0]["content"][0]["text"])


def asked(folder: Path, name: str, texts: Sequence[str], source: str = "grid") -> Rollout:
    ref = picture(folder / f"{name}.png", "red", name)
    seed = Seed(name, "<image>\nHow many?", (ref,), ("3",), source=source)
    return make_rollout(seed, texts)


def test_sft_takes_right_finished_responses_that_are_unlike_each_other(tmp_path: Path) -> None:
    texts = ["one two three: 3", "one two, three: 3", "by adding rows 3", "I say 4", "hm"]
    rollout = asked(tmp_path, "q", texts)
    cut = replace(rollout.responses[2], text="cut off 3", finish_reason="length")
    rollout = replace(rollout, responses=(*rollout.responses, cut))
    done = write("sft", [rollout], tmp_path / "one")
    assert done.rows == 1
    write("sft", [rollout], tmp_path / "two", per_question=2)
    two = {said(row) for row in rows_of(tmp_path / "two")}
    assert "by adding rows 3" in two
    assert len(two) == 2
    write("sft", [rollout], tmp_path / "all", per_question=9)
    assert {said(row) for row in rows_of(tmp_path / "all")} == set(texts[:3])
    turned = replace(rollout, responses=tuple(reversed(rollout.responses)))
    write("sft", [turned], tmp_path / "turned", per_question=2)
    assert {said(row) for row in rows_of(tmp_path / "turned")} == two


def test_the_best_response_is_the_likeliest_where_that_is_known(tmp_path: Path) -> None:
    rollout = asked(tmp_path, "q", ["short 3", "a long way round to it 3", "middle way 3"])
    likely = [replace(r, logprob=-0.9 + 0.4 * i) for i, r in enumerate(rollout.responses)]
    write("sft", [replace(rollout, responses=tuple(likely))], tmp_path / "a")
    assert said(rows_of(tmp_path / "a")[0]) == "middle way 3"


def test_kto_labels_every_response_that_is_certain_once(tmp_path: Path) -> None:
    rollout = asked(tmp_path, "q", ["so 3", "so 3", "I say 4", "hm"])
    cut = Response("on and on 4", 4, "length", 9)
    write("kto", [replace(rollout, responses=(*rollout.responses, cut))], tmp_path / "a")
    found = [(said(row), row["label"], row["kind"]) for row in rows_of(tmp_path / "a")]
    assert found == [
        ("so 3", True, "correctness"),
        ("I say 4", False, "correctness"),
        ("hm", False, "format"),
        ("on and on 4", False, "truncated"),
    ]


def test_grpo_takes_questions_of_the_band_with_what_its_reward_needs(tmp_path: Path) -> None:
    rollouts = sample_rollouts(tmp_path / "seeds")
    done = write("grpo", rollouts, tmp_path / "a")
    rows = rows_of(tmp_path / "a")
    assert [row["id"] for row in rows] == ["one", "two"]
    assert [len(row["images"]) for row in rows] == [1, 2]
    assert done.drops == {"text_only": 1, "no_truth": 1, "too_easy": 1, "image_missing": 1}
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    right = [[{"role": "assistant", "content": f"Final answer: {t}"}] for t in ("3", "yes")]
    assert trl_reward(completions=right, **columns) == [1.0, 1.0]
    wrong = ["Final answer: 77"] * 2
    assert trl_reward(completions=wrong, **columns) == [0.0, 0.0]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_read_back_clean_and_its_faults_are_found(tmp_path: Path, stage: str) -> None:
    dest = tmp_path / "dest"
    done = (
        write(stage, sample_rollouts(tmp_path / "seeds"), dest, per_question=2)
        if (stage == "sft")
        else write(stage, sample_rollouts(tmp_path / "seeds"), dest)
    )
    result = lint_folder(str(dest), FORMATS[stage], model=str(model_path()))
    assert (result.rows, result.counts) == (done.rows, {})
    part = dest / "train/part-00000.parquet"
    table = pq.read_table(part)
    rows = table.to_pylist()
    rows[0]["images"] = []
    tables.write_parquet(tables.to_table(rows, table.schema), part)
    found = {"placeholder_mismatch": 1} | ({"text_only": 1} if stage == "grpo" else {})
    assert lint_folder(str(dest), FORMATS[stage]).counts == found


def test_a_text_that_would_be_an_image_is_left_out_of_a_stage(tmp_path: Path) -> None:
    rollouts = [asked(tmp_path, n, ["so 3", f"done{n} 3", "4"]) for n in ("<|im_end|>", "b")]
    done = write("sft", rollouts, tmp_path / "dest", per_question=3)
    assert done.drops == {"special_token": 1}
    assert done.rows == 3


def several(folder: Path) -> list[Rollout]:
    """Thirty pictures of two questions each, eight texts, and rows of two of the pictures."""
    folder.mkdir()
    refs = [picture(folder / f"{n}.png", "navy", str(n)) for n in range(30)]
    one = [
        Seed(f"{n}-{word}", f"<image>\nHow {word}?", (ref,), ("3",), source="grid")
        for n, ref in enumerate(refs)
        for word in ("many", "long")
    ]
    text = [Seed(f"t{n}", f"How many is {n}?", (), ("3",), source="sums") for n in range(8)]
    two = [
        Seed(f"two{n}", "<image> or <image>?", (refs[n], refs[n + 1]), ("3",), source="two")
        for n in range(29)
    ]
    made = [make_rollout(seed, ["so 3", "no: 4"]) for seed in (*one, *text, *two)]
    return [replace(rollout, index=i) for i, rollout in enumerate(made)]


def pictures_of(items: Sequence[Any]) -> set[bytes]:
    return {picture.read() for item in items for picture in item.pictures}


@pytest.mark.parametrize("form", [name for name in ALL if name != "trl"])
def test_no_picture_is_on_both_sides_of_a_split(tmp_path: Path, form: str) -> None:
    dest = tmp_path / "dest"
    done = write(form, several(tmp_path / "images"), dest, validation=0.3)
    items = [item for item in read_export(str(dest), form) if isinstance(item, Item)]
    assert len(items) == done.rows
    kept = [item for item in items if "validation" in item.where]
    train = [item for item in items if "validation" not in item.where]
    assert kept
    assert len(kept) < len(train)
    assert not pictures_of(kept) & pictures_of(train)
    alone = {item.text for item in kept if not item.pictures}
    assert not alone & {item.text for item in train if not item.pictures}
    if form != "nemo-rl":
        assert done.drops["between_splits"] > 0
    assert not lint_folder(str(dest), FORMATS[form]).counts


def test_trl_keeps_its_split_in_a_folder_beside_the_pairs(tmp_path: Path) -> None:
    done = write("trl", several(tmp_path / "images"), tmp_path / "dest", validation=0.3)
    kept = load_pairs(tmp_path / "dest" / "validation")
    train = load_pairs(tmp_path / "dest")
    assert done.entries == {"pairs": len(train), "validation": len(kept)}
    shown = [{digest for row in rows for digest in row["image_sha256"]} for rows in (kept, train)]
    assert shown[0]
    assert not shown[0] & shown[1]


def test_the_data_sets_of_a_split_are_those_that_llama_factory_names(tmp_path: Path) -> None:
    write("llama-factory", several(tmp_path / "images"), tmp_path / "dest", validation=0.3)
    info = json.loads((tmp_path / "dest/dataset_info.json").read_text())
    names = ["mmpr", "mmpr_text_only", "mmpr_validation", "mmpr_validation_text_only"]
    assert sorted(info) == names
    assert ["images" in info[name]["columns"] for name in names] == [True, False, True, False]


@pytest.mark.parametrize("form", ALL)
def test_the_same_rows_are_split_and_drawn_whatever_the_order(tmp_path: Path, form: str) -> None:
    rollouts = several(tmp_path / "images")
    for name, some in (("a", rollouts), ("b", rollouts[::-1])):
        again = [replace(rollout, index=i) for i, rollout in enumerate(some)]
        done = write(form, again, tmp_path / name, validation=0.2, max_pairs=20)
        assert done.rows == 20
    if form == "trl":
        names = [{row["id"] for row in load_pairs(tmp_path / one)} for one in "ab"]
    else:
        names = [{item.text for item in read_export(str(tmp_path / one), form)} for one in "ab"]
    assert names[0] == names[1]


def test_a_draw_is_even_over_sources_and_kinds() -> None:
    sizes = {("a", "format"): 50, ("a", "correctness"): 3, ("b", "correctness"): 40}
    items = [
        Item("x", f"{source}{kind}{n}", ("?",), "?", source=source, kind=kind)
        for (source, kind), count in sizes.items()
        for n in range(count)
    ]
    draw = Draw(items, 21)
    taken = Counter((item.source, item.kind) for item in items if draw.takes(item))
    assert taken == {("a", "format"): 9, ("a", "correctness"): 3, ("b", "correctness"): 9}
    assert sum(map(Draw(items, 1000).takes, items)) == 93


CLEAN = Config.model_validate({"quality": {"hygiene": True, "distinct": 0.8}})


@pytest.mark.parametrize("form", ["trl", "internvl", "sft", "kto", "grpo", "verl"])
def test_a_control_has_as_many_rows_of_what_no_filter_has_seen(tmp_path: Path, form: str) -> None:
    copies = [f"I count one and two and then number {word} so 3" for word in ("x", "y", "z")]
    texts = [*copies, "something else altogether 3", "it is 4", "or 5", "or 6"]
    rollouts = [replace(asked(tmp_path, f"q{n}", texts[: 4 + n % 4]), index=n) for n in range(8)]
    given = {"config": CLEAN}
    done = write(form, rollouts, tmp_path / "with", **given)
    control = write(form, rollouts, tmp_path / "without", control=True, **given)
    assert control.rows == done.rows > 0
    mark = json.loads((tmp_path / "without/export.json").read_text())
    assert mark["options"]["control"] is True
    if form == "kto":
        both = [rows_of(tmp_path / name) for name in ("with", "without")]
        copied = [sum(said(row) in copies for row in rows) for rows in both]
        assert copied[1] > copied[0]


def test_a_control_of_sft_is_of_any_answer(tmp_path: Path) -> None:
    rollouts = [asked(tmp_path, f"q{n}", ["so 3", *(f"it is {i} 4" for i in range(7))])
                for n in range(6)]  # fmt: skip
    write("sft", rollouts, tmp_path / "with")
    write("sft", rollouts, tmp_path / "without", control=True)
    right = [sum(said(row).endswith("3") for row in rows_of(tmp_path / name)) for name in
             ("with", "without")]  # fmt: skip
    assert right[0] == 6
    assert right[1] < 6


def test_questions_whose_truth_is_suspect_are_in_no_stage(tmp_path: Path) -> None:
    config = Config.model_validate({"quality": {"suspect_truths": True}})
    texts = [f"{n} so\nFinal answer: {3 if n < 1 else 4}" for n in range(12)]
    fine = [f"{n} so\nFinal answer: {3 + n % 2}" for n in range(12)]
    rollouts = [(asked(tmp_path, "a", texts), config), (asked(tmp_path, "b", fine), config)]
    for stage in STAGES:
        dest, form = str(tmp_path / stage), FORMATS[stage]
        with Judge() as judge:
            done = write_export(["out"], form, dest, ExportOptions(), lambda: rollouts, judge)
        assert done.drops == {"suspect_truth": 1}, (stage, done.drops)


def test_wrong_shares_and_options_of_other_formats_are_refused(tmp_path: Path) -> None:
    rollouts = sample_rollouts(tmp_path / "seeds")
    for form, options, words in [
        ("sft", {"validation": 1.0}, "--validation"),
        ("kto", {"per_question": 2}, "means nothing to kto"),
        ("sft", {"kinds": ("format",)}, "means nothing to sft"),
        ("trl", {"pass_rate": (0.1, 0.2)}, "means nothing to trl"),
    ]:
        with pytest.raises(ConfigError, match=words):
            write(form, rollouts, tmp_path / "dest", **options)
    with pytest.raises(ConfigError, match="--control needs"):
        write_export([str(tmp_path)], FORMATS["trl"], "x", ExportOptions(control=True))
    few = write("sft", rollouts, tmp_path / "few", validation=0.001)
    assert few.warnings == ("all 4 rows are for train: they have too few pictures",)
    with pytest.raises(InputError, match="no response that sft can use"):
        write("sft", [asked(tmp_path, "q", ["it is 4"])], tmp_path / "dest")
    assert not (tmp_path / "dest").exists()


def test_the_command_makes_stages_and_controls_of_a_builds_rollouts(tmp_path: Path) -> None:
    out = tmp_path / "out"
    texts = [f"I see {i}.\nFinal answer: {3 + i // 2}" for i in range(4)]
    rollouts = [replace(asked(tmp_path, f"s{i}", texts), index=i) for i in range(3)]
    write_build(out, rollouts)
    tables.write_parquet(tables.rollouts_to_table(rollouts), out / "rollouts/unit-00000.parquet")
    done = mmpr("export", str(out), str(tmp_path / "a"), "--to", "sft", "--per-question", "2")
    assert done.returncode == 0, done.stderr
    assert "6 rows for sft" in done.stderr
    done = mmpr("export", str(out), str(tmp_path / "b"), "--to", "trl", "--control",
                "--max-pairs", "4")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "4 rows for trl" in done.stderr
    assert len(load_pairs(tmp_path / "b")) == 4
