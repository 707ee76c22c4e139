"""Exports are what the trainers' loaders read, row by row; what they would misread is left out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import trainer_loaders as loaders
from build_files import files_in
from pair_samples import make_rollout, picture, sample_rollouts, write_build
from planting import plant
from trainer_loaders import Seen

from mmpr_builder import load_pairs
from mmpr_builder.errors import BuildConflictError, ConfigError, InputError
from mmpr_builder.export import FORMATS, ExportOptions, PerEntry, verl, write_export, writing
from mmpr_builder.export.destination import json_line, staged
from mmpr_builder.output import pair_features, schema_of
from mmpr_builder.records import Drop, Rollout, Seed
from mmpr_builder.seeds import read_seeds

pytestmark = pytest.mark.usefixtures("own_cache")


REAL = Path(__file__).parents[2] / "shared" / "data" / "real"
READERS: dict[str, Callable[[Path], list[Seen]]] = {
    "internvl": lambda dest: list(loaders.internvl(dest / "meta.json")),
    "nemo-rl": lambda dest: list(loaders.nemo_rl(dest / "recipe" / "meta.json")),
    "ms-swift": lambda dest: list(loaders.ms_swift(sorted(dest.glob("pairs*.jsonl")))),
    "llama-factory": lambda dest: list(loaders.llama_factory(dest)),
}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A build with one image, two inside the text, none, and open questions."""
    write_build(tmp_path / "out", sample_rollouts(tmp_path / "seeds"))
    return tmp_path / "out"


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_says_how_to_train_on_it(name: str) -> None:
    how = Path(writing.__file__).parent / "how" / f"{name}.md"
    assert how.read_text(encoding="utf-8").strip()


def export(out: Path, form: str, dest: Path, **options: Any) -> Any:
    return write_export([str(out)], FORMATS[form], str(dest), ExportOptions(**options))


def pairs_of(out: Path) -> list[dict[str, Any]]:
    return list(load_pairs(out))


def expected(row: dict[str, Any], *, spaced: bool) -> Seen:
    """What a trainer should see of a pair. `spaced`: images stand as MMPR's data sets write it."""
    parts = row["prompt"][0]["content"]
    shown = "".join(part["text"] if part["type"] == "text" else "<image>" for part in parts)
    return Seen(
        row["prompt_text"] if spaced else shown,
        row["chosen_text"],
        row["rejected_text"],
        tuple(image.convert("RGB").tobytes() for image in row["images"]),
    )


def key(seen: Seen) -> tuple[str, str, str]:
    return seen.question, seen.chosen, seen.rejected


@pytest.mark.parametrize("form", READERS)
def test_each_loader_reads_every_pair_it_can_use(out: Path, tmp_path: Path, form: str) -> None:
    done = export(out, form, tmp_path / "dest")
    rows = pairs_of(out)
    assert {len(row["images"]) for row in rows} == {0, 1, 2}
    if form == "nemo-rl":  # Its loader takes single images only.
        rows = [row for row in rows if len(row["images"]) == 1]
    spaced = form in ("internvl", "nemo-rl")
    seen = READERS[form](tmp_path / "dest")
    assert sorted(seen, key=key) == sorted((expected(r, spaced=spaced) for r in rows), key=key)
    assert done.rows == len(seen) == sum(done.entries.values())


def test_what_a_loader_passes_over_in_silence_is_reported(out: Path, tmp_path: Path) -> None:
    done = export(out, "nemo-rl", tmp_path / "dest")
    assert done.drops == {"multi_image": 2, "text_only": 1}
    lines = (tmp_path / "dest" / "drops.jsonl").read_text().splitlines()
    drops = [json.loads(line) for line in lines]
    ids = {row["id"] for row in pairs_of(out) if len(row["images"]) != 1}
    assert {drop["id"] for drop in drops} == ids
    assert re.search(r"part-00000\.parquet:\d+$", drops[0]["row"])
    assert "multi_image" in (tmp_path / "dest" / "README.md").read_text()


def test_the_recipe_of_nemo_rl_moves_with_its_folder(out: Path, tmp_path: Path) -> None:
    export(out, "nemo-rl", tmp_path / "dest")
    (tmp_path / "dest").rename(tmp_path / "moved")
    assert list(loaders.nemo_rl(tmp_path / "moved" / "recipe" / "meta.json"))


def test_text_only_rows_have_no_image_field_and_a_file_of_their_own(
    out: Path, tmp_path: Path
) -> None:
    export(out, "internvl", tmp_path / "internvl")
    (line,) = (tmp_path / "internvl/annotations/sums_correctness.jsonl").read_text().splitlines()
    assert "image" not in json.loads(line)
    export(out, "ms-swift", tmp_path / "swift")
    (line,) = (tmp_path / "swift/pairs_text_only.jsonl").read_text().splitlines()
    assert "images" not in json.loads(line)
    export(out, "llama-factory", tmp_path / "lf")
    info = json.loads((tmp_path / "lf/dataset_info.json").read_text())
    assert "images" in info["mmpr"]["columns"]
    assert "images" not in info["mmpr_text_only"]["columns"]


def test_images_are_named_by_content_and_written_once(out: Path, tmp_path: Path) -> None:
    import hashlib

    done = export(out, "internvl", tmp_path / "dest")
    files = [path for path in (tmp_path / "dest" / "images").rglob("*") if path.is_file()]
    assert len(files) == done.images == 2
    for path in files:
        assert path.stem == hashlib.sha256(path.read_bytes()).hexdigest()
    assert {path.suffix for path in files} == {".png", ".jpg"}


@pytest.mark.parametrize("form", [*READERS, "trl"])
def test_the_same_build_gives_the_same_bytes(out: Path, tmp_path: Path, form: str) -> None:
    export(out, form, tmp_path / "dest")
    first = files_in(tmp_path / "dest")
    export(out, form, tmp_path / "dest", overwrite=True)
    assert files_in(tmp_path / "dest") == first
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_settings_of_the_recipe_go_by_entry_source_and_kind(out: Path, tmp_path: Path) -> None:
    options = {
        "repeat_time": PerEntry.parse("--repeat-time", ["2", "dropout_ntp=0.5", "sums=3"]),
        "max_dynamic_patch": PerEntry.parse("--max-dynamic-patch", ["grid_format=12"]),
        "mount": "/data/pairs",
    }
    export(out, "internvl", tmp_path / "dest", **options)
    meta = json.loads((tmp_path / "dest" / "meta.json").read_text())
    assert {name: entry["repeat_time"] for name, entry in meta.items()} == {
        "grid_correctness": 2,
        "grid_dropout_ntp": 0.5,
        "grid_format": 2,
        "sums_correctness": 3,
    }
    assert meta["grid_format"]["max_dynamic_patch"] == 12
    assert "max_dynamic_patch" not in meta["grid_correctness"]
    assert meta["grid_format"]["root"] == "/data/pairs/images/"
    assert meta["grid_format"]["annotation"] == "/data/pairs/annotations/grid_format.jsonl"


def test_kinds_and_sources_pick(out: Path, tmp_path: Path) -> None:
    done = export(out, "trl", tmp_path / "a", kinds=("format",), sources=("grid",))
    rows = pairs_of(tmp_path / "a")
    assert {(row["kind"], row["source"]) for row in rows} == {("format", "grid")}
    assert done.rows == len(rows) == 3


def test_trl_pairs_are_those_of_the_build(out: Path, tmp_path: Path) -> None:
    export(out, "trl", tmp_path / "dest")
    build = pq.read_table(out / "pairs" / "part-00000.parquet")
    copy = pq.read_table(tmp_path / "dest" / "pairs" / "part-00000.parquet")
    assert copy.schema.equals(build.schema, check_metadata=True)
    assert copy.to_pylist() == build.to_pylist()


def test_an_entry_that_the_loader_would_take_no_row_of_is_named(out: Path, tmp_path: Path) -> None:
    options = {"repeat_time": PerEntry.parse("--repeat-time", ["0.4", "format=1"])}
    done = export(out, "internvl", tmp_path / "dest", **options)
    assert done.entries["sums_correctness"] == 1
    (warning,) = done.warnings
    assert "sums_correctness (1 x 0.4)" in warning
    assert "grid_format" not in warning
    assert warning in (tmp_path / "dest" / "README.md").read_text()
    seen = list(loaders.internvl(tmp_path / "dest" / "meta.json"))
    assert not [one for one in seen if "1 + 1" in one.question]
    assert not export(out, "internvl", tmp_path / "whole").warnings


@pytest.mark.parametrize("form", ["trl", "verl"])
def test_lists_are_described_as_all_versions_of_datasets_read_them(form: str) -> None:
    from datasets import Features

    features = verl.features() if form == "verl" else pair_features()
    schema = schema_of(features)
    told = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert isinstance(told["images"], list)
    assert '"List"' not in json.dumps(told)
    assert Features.from_arrow_schema(schema) == features


WRONG = [
    # format, options, what the message must say
    ("internvl", {"repeat_time": PerEntry(1.5)}, "whole number"),
    ("internvl", {"repeat_time": PerEntry(None, (("nope", 2.0),))}, "'nope' is no entry"),
    ("internvl", {"max_dynamic_patch": PerEntry(1.5)}, "whole number"),
    ("trl", {"repeat_time": PerEntry(2.0)}, "means nothing to trl"),
    ("nemo-rl", {"mount": "/data"}, "means nothing to nemo-rl"),
    ("trl", {"kinds": ("corectness",)}, "'correctness'"),
    ("trl", {"sources": ("grd",)}, "nearest is 'grid'"),
]


@pytest.mark.parametrize(("form", "options", "said"), WRONG, ids=[said for *_, said in WRONG])
def test_options_that_a_loader_would_ignore_are_refused(
    out: Path, tmp_path: Path, form: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        export(out, form, tmp_path / "dest", **options)
    assert not (tmp_path / "dest").exists()


@pytest.mark.parametrize("words", [["x"], ["0"], ["-1"], ["a=nan"], ["a=inf"], ["="]])
def test_numbers_of_entries_must_be_above_zero(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="no number above 0"):
        PerEntry.parse("--repeat-time", words)


def test_nothing_else_is_ever_overwritten(out: Path, tmp_path: Path) -> None:
    before = files_in(out)
    for overwrite in (False, True):
        with pytest.raises(BuildConflictError, match="not empty"):
            export(out, "trl", out, overwrite=overwrite)
    assert files_in(out) == before
    export(out, "trl", tmp_path / "dest")
    with pytest.raises(BuildConflictError, match="--overwrite"):
        export(out, "internvl", tmp_path / "dest")
    export(out, "internvl", tmp_path / "dest", overwrite=True)
    assert not (tmp_path / "dest" / "pairs").exists()
    with pytest.raises(InputError, match="local folder"):
        write_export([str(out)], FORMATS["trl"], "s3://bucket/x", ExportOptions())


def write_staged(dest: Path, text: str, meanwhile: Callable[[], object], **how: bool) -> None:
    with staged(str(dest), **{"overwrite": False, **how}) as (folder, _):
        (folder / "export.json").write_text(text)
        meanwhile()


def test_what_came_in_the_meantime_is_not_replaced(tmp_path: Path) -> None:
    theirs = tmp_path / "dest" / "theirs"

    def come() -> None:
        theirs.parent.mkdir()
        theirs.write_text("")

    with pytest.raises(BuildConflictError, match="not empty"):
        write_staged(tmp_path / "dest", "new", come)
    assert list(tmp_path.rglob("*")) == [theirs.parent, theirs]


def test_an_export_that_cannot_take_its_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest = tmp_path / "dest"
    write_staged(dest, "old", lambda: None)
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if target == dest and self.name == "dest":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    def break_disk() -> None:
        monkeypatch.setattr(Path, "rename", failing)

    with pytest.raises(OSError, match="Input/output"):
        write_staged(dest, "new", break_disk, overwrite=True)
    assert (dest / "export.json").read_text() == "old"


def test_a_mount_is_a_path(out: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give a folder's path"):
        export(out, "internvl", tmp_path / "dest", mount="s3://bucket/x")


def test_a_place_where_no_folder_can_be_is_refused(out: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="no folder can be made there"):
        export(out, "trl", tmp_path / "file" / "dest")


def test_names_from_elsewhere_stay_files_of_the_folder(out: Path, tmp_path: Path) -> None:
    plant(out, 0, source="图" * 90, kind="../../../up" + "长" * 90)
    done = export(out, "internvl", tmp_path / "dest")
    assert done.rows == len(list(loaders.internvl(tmp_path / "dest" / "meta.json"))) > 1
    assert {path.name for path in tmp_path.iterdir()} >= {"dest"}
    assert not list(tmp_path.parent.glob("**/up*"))


def test_where_a_file_contradicts_itself_the_conversation_counts(out: Path, tmp_path: Path) -> None:
    plant(out, 0, source="odd", prompt_text="<image> and <image>?")
    export(out, "internvl", tmp_path / "dest", sources=("odd",))
    (seen,) = loaders.internvl(tmp_path / "dest" / "meta.json")
    assert seen.question.count("<image>") == len(seen.images)


def test_an_export_of_nothing_leaves_nothing(out: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pair that nemo-rl can use"):
        export(out, "nemo-rl", tmp_path / "dest", sources=("sums",))
    assert not (tmp_path / "dest").exists()


def two_pairs(folder: Path) -> Rollout:
    seed = Seed("s", "<image>\nHow many?", (picture(folder / "red.png", "red"),), ("3",))
    return make_rollout(seed, ["so 3", "plain: 3", "it is 4"])


HOSTILE = 'says <image>, \u2028line\u2029 sep\x85, "quotes", \\ {{image}} and 图 3'
MISREAD = [
    # format, what a response says, reason it is left out (None: kept)
    ("internvl", "an <image> tag", "placeholder_in_response"),
    ("internvl", "HTML <img> tag", "placeholder_in_response"),
    ("internvl", "a <video> tag", None),
    ("nemo-rl", "see <image_2> there", "placeholder_in_response"),
    ("ms-swift", "an <image> tag", "placeholder_in_response"),
    ("ms-swift", "HTML <img>x</img>", "placeholder_in_response"),
    ("llama-factory", "a <video> tag", "placeholder_in_response"),
    ("llama-factory", "a {{image}} stand-in", "placeholder_in_response"),
    ("trl", "an <image> tag", "placeholder_in_response"),
    ("trl", "a {{image}} stand-in", None),
]


@pytest.mark.parametrize(("form", "said", "reason"), MISREAD)
def test_texts_that_a_loader_would_take_for_an_image_are_left_out(
    tmp_path: Path, form: str, said: str, reason: str | None
) -> None:
    write_build(tmp_path / "out", [two_pairs(tmp_path)])
    plant(tmp_path / "out", 0, chosen=f"{said}: 3")
    done = export(tmp_path / "out", form, tmp_path / "dest")
    assert done.rows == (1 if reason else 2)
    assert done.drops == ({reason: 1} if reason else {})


def test_a_question_that_a_loader_would_miscount_is_left_out(tmp_path: Path) -> None:
    ref = picture(tmp_path / "red.png", "red")
    seeds = [
        Seed("a", "<image>\nWhat is <image_1>?", (ref,), ("3",), source="grid"),
        Seed("b", "<image>\nHow many?", (ref,), ("3",), source="grid"),
    ]
    write_build(tmp_path / "out", [make_rollout(s, ["so 3", "so 4"]) for s in seeds])
    done = export(tmp_path / "out", "nemo-rl", tmp_path / "dest")
    assert (done.rows, done.drops) == (1, {"placeholder_in_prompt": 1})
    assert export(tmp_path / "out", "internvl", tmp_path / "dest2").rows == 2


@pytest.mark.parametrize("form", ["internvl", "ms-swift", "llama-factory"])
def test_any_text_survives(tmp_path: Path, form: str) -> None:
    ref = picture(tmp_path / "red.png", "red")
    seed = Seed("s", "<image>\nHow\u2028many\r\n图?", (ref,), ("3",), source="a/b 图\u2028c")
    texts = [HOSTILE.replace("<image>", "").replace("{{image}}", "{{ 7*7 }}") + " 3", "\r\n\t4"]
    write_build(tmp_path / "out", [make_rollout(seed, texts)])
    export(tmp_path / "out", form, tmp_path / "dest")
    (seen,) = READERS[form](tmp_path / "dest")
    assert (seen.chosen, seen.rejected) == tuple(texts)
    assert "How\u2028many\r\n图?" in seen.question


def test_one_row_is_one_line_for_any_reader() -> None:
    line = json_line({"text": HOSTILE + "\n\r\x0b\x0c\x1c"})
    assert line.splitlines(keepends=True) == [line]
    assert json.loads(line)["text"] == HOSTILE + "\n\r\x0b\x0c\x1c"


def test_sources_of_like_names_do_not_share_an_entry(tmp_path: Path) -> None:
    ref = picture(tmp_path / "red.png", "red")
    names = ["a b", "a/b", "a_b", ""]
    rollouts = [
        make_rollout(
            Seed(f"s{i}", "<image>\nHow many?", (ref,), ("3",), source=name), ["so 3", f"so 4{i}"]
        )
        for i, name in enumerate(names)
    ]
    write_build(tmp_path / "out", rollouts)
    done = export(tmp_path / "out", "internvl", tmp_path / "dest")
    assert sorted(done.entries.values()) == [1, 1, 1, 1]
    assert len(list(loaders.internvl(tmp_path / "dest" / "meta.json"))) == 4


def real_rollouts() -> list[Rollout]:
    """A few real seeds of each source, some Chinese, and some with several images."""
    rollouts = []
    for path in sorted(REAL.glob("*.jsonl")):
        seeds = [item for item in read_seeds(path, root=REAL) if not isinstance(item, Drop)]
        usable = [s for s in seeds if s.answers and len(s.answers[0].split()) == 1]
        several = [s for s in usable if len(s.images) > 1]
        for seed in {s.id: s for s in [*usable[:2], *several[:2]]}.values():
            named = replace(seed, source=path.stem)
            rollouts.append(make_rollout(named, [f"因此 {seed.answers[0]}", "well hm"]))
    return rollouts


@pytest.mark.skipif(not REAL.is_dir(), reason="the shared data is not here")
def test_real_pairs_reach_the_trainers_as_the_model_saw_them(tmp_path: Path) -> None:
    write_build(tmp_path / "out", real_rollouts())
    pairs = pairs_of(tmp_path / "out")
    assert max(len(row["images"]) for row in pairs) > 2
    for form, read in READERS.items():
        export(tmp_path / "out", form, tmp_path / form)
        single = form == "nemo-rl"
        rows = [row for row in pairs if len(row["images"]) == 1 or not single]
        spaced = form in ("internvl", "nemo-rl")
        wanted = sorted((expected(row, spaced=spaced) for row in rows), key=key)
        assert sorted(read(tmp_path / form), key=key) == wanted, form
