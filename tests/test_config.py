"""Recipes and overrides: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmpr_builder.config import (
    Config,
    find_shipped,
    identity_hash,
    load_config,
    sampling_identity,
    settings_table,
    shipped_names,
    valid_keys,
)
from mmpr_builder.config.recipes import ALWAYS, FOLLOWED, as_written
from mmpr_builder.errors import ConfigError

REFUSED = [
    # override, what the message must contain
    ("sampling.temprature=3", ["sampling.temprature", "'sampling.temperature'"]),
    ("samplin.n=3", ["samplin", "'sampling.n'"]),
    ("sampling.n=many", ["sampling.n", "'many'"]),
    ("sampling.n=0", ["sampling.n", "0"]),
    ("sampling.engine=vlm", ["sampling.engine", "'vlm'", "vllm"]),
    ("dropout.keep=1.0", ["dropout.keep", "1.0"]),
    ("pairing.kinds=[correctness, wrongness]", ["pairing.kinds", "wrongness"]),
    ("seeds=", ["seeds has no value", "its default is demo", "leave it out"]),
    ("dropout.keep=", ["dropout.keep has no value", "its default is [0.5]"]),
    ("dropout.keep=0.25,", ["dropout.keep", "'0.25,'", "an item is empty"]),
    ("rollouts=", ["rollouts has no value", "leave it out"]),
    ("rollouts=out/a,", ["rollouts", "'out/a,'", "an item is empty"]),
    ("rollouts=[out/a, '']", ["rollouts", "['out/a', '']", "give the folder of each"]),
    ("sampling.n=", ["sampling.n has no value", "its default is 32"]),
    ("sampling=", ["sampling has no value"]),
    ("out", ["'out'", "key=value"]),
    ("=3", ["'=3'", "key=value"]),
    ("model.name=x", ["model"]),
]


@pytest.mark.parametrize(("override", "words"), REFUSED, ids=[r[0] for r in REFUSED])
def test_a_wrong_override_is_refused_with_the_key_and_the_fix(
    override: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    for word in words:
        assert word in str(caught.value)


def test_an_unknown_key_in_a_recipe_names_the_file(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("sampling:\n  tempreature: 0.7\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.yaml.*tempreature.*sampling\.temperature"):
        load_config(recipe)


def test_a_key_of_a_recipe_without_a_value_is_named_with_its_default(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("dropout:\n  keep:\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.yaml: dropout\.keep has no value: .*\[0\.5\]"):
        load_config(recipe)


@pytest.mark.parametrize("override", ["limit=", "lora=", "sources=", "dropout.max_tokens="])
def test_a_setting_that_can_be_unset_takes_no_value(override: str) -> None:
    assert load_config(None, [override]) == load_config(None)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1,\n"])
def test_a_recipe_that_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        load_config(recipe)


def test_a_missing_recipe_lists_the_shipped_ones() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml.*demo"):
        load_config("nowhere.yaml")


def test_overrides_win_over_the_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("sampling: {n: 4, temperature: 0.5}\nseeds: [a.jsonl]\n", encoding="utf-8")
    config = load_config(recipe, ["sampling.n=9", "seeds=b.jsonl,c.parquet"])
    assert (config.sampling.n, config.sampling.temperature) == (9, 0.5)
    assert [source.path for source in config.seeds] == ["b.jsonl", "c.parquet"]


PATHS_OF_A_RECIPE = """
seeds:
  - data/a.jsonl
  - {path: "data/*.parquet", root: imgs, roots: [/abs, more/x.d], template: own.txt}
  - {path: org/name}
  - {path: "{data}/gqa", name: gqa, template: {plain: 1, own.txt: 2}}
  - {path: demo}
model: ./models/mine
lora: org/adapter
prompts: {template: boxed_en, open_template: {zh: own.txt}}
pairing: {reject_list: lists/rejects.txt}
quality: {decontaminate: {against: "eval.jsonl, org/eval"}}
sampling: {replay_from: out/a/rollouts}
out: out/mine
"""


def test_paths_of_a_recipe_start_at_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub" / "imgs").mkdir(parents=True)
    (tmp_path / "sub" / "mine.yaml").write_text(PATHS_OF_A_RECIPE, encoding="utf-8")
    base = tmp_path / "other" / "base.yaml"
    base.parent.mkdir()
    base.write_text("scoring: {judge: {prompt: judge.txt}}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    config = load_config("sub/mine.yaml", ["scoring.judge.prompt=here.txt"])
    a, tables, hub, gqa, demo = config.seeds
    assert (a.path, tables.path, tables.root) == (
        "sub/data/a.jsonl",
        "sub/data/*.parquet",
        "sub/imgs",
    )
    assert (tables.roots, tables.template) == (("/abs", "sub/more/x.d"), "sub/own.txt")
    assert (hub.path, gqa.path, demo.path) == ("org/name", "data/gqa", "demo")
    assert gqa.templates == {"plain": 1, "sub/own.txt": 2}
    assert (config.model, config.lora) == ("sub/models/mine", "org/adapter")
    assert (config.prompts.template, config.prompts.open_template) == (
        "boxed_en",
        {"zh": "sub/own.txt"},
    )
    assert config.pairing.reject_list == "sub/lists/rejects.txt"
    assert config.quality.decontaminate.against == ("sub/eval.jsonl", "org/eval")
    assert (config.sampling.replay_from, config.out) == ("out/a/rollouts", "out/mine")
    assert config.scoring.judge.prompt == "here.txt"
    (tmp_path / "sub" / "child.yaml").write_text(
        "base: ../other/base.yaml\nseeds: a.jsonl, b.csv\n"
    )
    child = load_config("sub/child.yaml")
    assert child.scoring.judge.prompt == "other/judge.txt"
    assert [source.path for source in child.seeds] == ["sub/a.jsonl", "sub/b.csv"]


def test_a_path_that_is_only_in_the_working_folder_is_refused_with_the_way_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.jsonl").touch()
    recipe = tmp_path / "sub" / "mine.yaml"
    recipe.write_text("seeds: a.jsonl\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"sub/a\.jsonl is not there;.* write '\.\./a\.jsonl'"):
        load_config("sub/mine.yaml")
    recipe.write_text("seeds: ../a.jsonl\n", encoding="utf-8")
    assert [source.path for source in load_config("sub/mine.yaml").seeds] == ["a.jsonl"]


def test_a_path_that_looks_like_a_number_stays_text() -> None:
    assert load_config(None, ["out=2024"]).out == "2024"


def test_a_source_of_the_recipe_can_be_changed_alone(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("seeds: [a.jsonl, {path: b.jsonl, limit: 3}]\n", encoding="utf-8")
    config = load_config(recipe, ["seeds.0.scorer=math", "seeds.1.limit=9", "seeds.1.root=7"])
    assert [(s.path, s.scorer, s.limit, s.root) for s in config.seeds] == [
        (str(tmp_path / "a.jsonl"), "math", None, None),
        (str(tmp_path / "b.jsonl"), "auto", 9, "7"),
    ]
    with pytest.raises(ConfigError, match=r"seeds\.2\.limit=1.*2 sources"):
        load_config(recipe, ["seeds.2.limit=1"])


def test_a_source_of_the_command_line_can_be_changed_alone_in_any_order() -> None:
    for words in (
        ["seeds=a.jsonl, b.jsonl", "seeds.1.limit=9"],
        ["seeds.1.limit=9", "seeds=a.jsonl, b.jsonl"],
    ):
        config = load_config("demo", words)
        assert [(s.path, s.limit) for s in config.seeds] == [("a.jsonl", None), ("b.jsonl", 9)]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("seeds.good.limit=1", "no source 'good': there are 1 sources, of which seeds.0 is"),
        ("sampling=3", "sampling = 3: it is a table: set sampling.KEY=VALUE"),
        ("out.x=3", "'out' is a value, not a table: mmpr settings lists the keys"),
    ],
)
def test_a_table_and_a_value_taken_for_each_other_are_told_apart(override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        load_config("demo", [override])


@pytest.mark.parametrize("path", ["a #1.jsonl", "a: b.jsonl", "2024"])
def test_a_path_of_seeds_is_text_whatever_yaml_would_read(path: str) -> None:
    assert [source.path for source in load_config(None, [f"seeds={path}"]).seeds] == [path]


def test_a_key_that_stands_twice_in_a_recipe_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("base: demo\nsampling: {n: 4}\nsampling: {seed: 8}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.yaml: .*the key 'sampling' 2 times"):
        load_config(recipe)


def test_seeds_in_the_place_of_a_recipe_are_told_how_to_be_given(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "What?"}\n', encoding="utf-8")
    for path in (tmp_path, tmp_path / "a.jsonl"):
        with pytest.raises(ConfigError, match=re.escape(f", or seeds={path} if")):
            load_config(path)


def test_kinds_can_be_given_with_commas() -> None:
    config = load_config(None, ["pairing.kinds=correctness,truncated"])
    assert config.pairing.kinds == ("correctness", "truncated")


def test_sources_can_carry_their_own_settings() -> None:
    config = load_config(None, ["seeds=[{path: a.jsonl, scorer: relaxed}, b.jsonl]"])
    assert [source.scorer for source in config.seeds] == ["relaxed", "auto"]


FOLLOWING = [
    (
        "seeds.0.template={plain: 1, visual: 3}",
        "seeds.0.templates",
        "{'plain': 1.0, 'visual': 3.0}",
    ),
    ("seeds.0.template={en: boxed_en}", "seeds.0.templates", "None"),
    ("images.family={max_crops: '{tiles}'}", "images.kwargs", "{'max_crops': '{tiles}'}"),
    ("pairing.kinds=truncated", "sampling.target_kinds", "('truncated',)"),
    ("pairing.max_per_response=2", "sampling.target_per_response", "2"),
    ("pairing.max_gap=9", "sampling.target_gap", "9"),
    ("sampling.endpoint.concurrency=8", "scoring.judge.concurrency", "2"),
    ("sampling.endpoint.timeout_s=50", "scoring.judge.timeout_s", "5.0"),
    ("sampling.endpoint.retries=0", "scoring.judge.retries", "0"),
    ("output.shard_bytes=800000", "output.row_group_bytes", "100000"),
    ("distributed.unit_queries=2", "distributed.unit_bytes", str(8 * 2**20)),
    ("scoring.timeout_s=8", "scoring.memory_mb", "4096"),
    ("scoring.timeout_s=1", "scoring.memory_mb", "1024"),
    ("quality.pass_rate=0.2,0.8", "quality.min_pass_rate", "0.2"),
    ("quality.pass_rate=[0.2, 0.8]", "quality.max_pass_rate", "0.8"),
    (
        "quality.decontaminate.question_similarity=0.7",
        "quality.decontaminate.text_similarity",
        "0.9",
    ),
    (
        "prompts.template={en: boxed_en, chart: {visual: 1}}",
        "prompts.mix",
        "{'chart': {'visual': 1.0}}",
    ),
    ("prompts.template={en: boxed_en, chart: {visual: 1}}", "prompts.template.en", "boxed_en"),
    ("prompts.open_template={chart: {visual: 1}}", "prompts.open_template", "None"),
    ("prompts.open_template.chart.visual=1", "prompts.open_mix", "{'chart': {'visual': 1.0}}"),
]


def value_of(config: Any, key: str) -> str:
    for part in key.split("."):
        if isinstance(config, dict | tuple):
            config = config[int(part) if part.isdigit() else part]
        else:
            config = getattr(config, part)
    return str(config)


@pytest.mark.parametrize(("override", "key", "value"), FOLLOWING)
def test_settings_follow_others(override: str, key: str, value: str) -> None:
    words = ["seeds=[{path: a.jsonl}]", "sampling.policy=adaptive"]
    config = load_config(None, [*words, override])
    assert value_of(config, key) == value
    assert Config.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(("old", "new"), sorted(FOLLOWED.items()))
def test_a_setting_that_follows_another_names_it_and_may_be_recorded(old: str, new: str) -> None:
    assert new in valid_keys()
    assert old not in valid_keys()
    key = old.replace("seeds.N", "seeds.0")
    with pytest.raises(ConfigError, match=rf"{key}=.*follows '{new}'"):
        load_config(None, ["seeds=[{path: a.jsonl}]", f"{key}=5"])


@pytest.mark.parametrize(("old", "value"), sorted(ALWAYS.items()))
def test_a_setting_that_has_one_value_now_says_so_and_may_be_recorded(
    old: str, value: object
) -> None:
    assert old not in valid_keys()
    with pytest.raises(ConfigError, match=rf"{old}=5: '{old}' \(value 5\).*is always {value}"):
        load_config(None, [f"{old}=5"])


def test_there_are_no_more_settings_than_people_can_read() -> None:
    assert len(valid_keys()) <= 115


@pytest.mark.parametrize(
    ("recorded", "written"),
    [
        ("prompts.open_mix.chart.plain", "prompts.open_template.chart.plain"),
        ("seeds.12.templates.visual", "seeds.12.template.visual"),
        ("images.kwargs.max_crops", "images.family.max_crops"),
        ("sampling.target_gap", "sampling.target_gap"),
        ("sampling.n", "sampling.n"),
    ],
)
def test_recorded_keys_are_told_as_recipes_have_them(recorded: str, written: str) -> None:
    assert as_written(recorded) == written


def test_a_wrong_value_in_a_table_of_weights_is_named_as_it_was_written() -> None:
    with pytest.raises(ConfigError, match=r"prompts\.template\.chrt.* = 'chrt'.*'chart'"):
        load_config(None, ["prompts.template={chrt: {plain: 1}}"])


def test_an_earlier_setting_of_a_recipe_is_not_blamed_on_an_override_that_ends_alike(
    tmp_path: Path,
) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("scoring: {judge: {retries: 2}}")
    with pytest.raises(ConfigError, match=r"mine\.yaml: 'scoring\.judge\.retries' .value 2. is no"):
        load_config(recipe, ["sampling.endpoint.retries=7"])


def test_limits_of_pairing_are_no_aims_of_fixed_sampling() -> None:
    changed = load_config(None, ["pairing.max_gap=9", "pairing.kinds=format"])
    assert sampling_identity(changed) == sampling_identity(load_config(None))


SAME_ROLLOUTS = [
    "out=elsewhere",
    "name=other",
    "scoring.scorer=math",
    "pairing.max_per_seed=3",
    "output.shard_bytes=1000000",
    "distributed.unit_queries=7",
    "sampling.endpoint.url=http://127.0.0.1:1/v1",
    "seeds=[{path: demo, scorer: math}]",
]
OTHER_ROLLOUTS = [
    "sampling.n=7",
    "sampling.temperature=0.7",
    "sampling.seed=1",
    "model=/models/x",
    "lora=/models/y",
    "limit=10",
    "seeds=b.jsonl",
    "prompts.style=boxed",
    "dropout.keep=0.25",
    "engine.dtype=bfloat16",
]


@pytest.mark.parametrize("override", SAME_ROLLOUTS)
def test_what_does_not_change_rollouts_is_not_part_of_their_identity(override: str) -> None:
    assert sampling_identity(load_config(None, [override])) == sampling_identity(load_config(None))


@pytest.mark.parametrize("override", OTHER_ROLLOUTS)
def test_what_changes_rollouts_changes_their_identity(override: str) -> None:
    changed = sampling_identity(load_config(None, [override]))
    assert identity_hash(changed) != identity_hash(sampling_identity(load_config(None)))


def test_the_identity_hash_does_not_depend_on_the_hash_seed() -> None:
    code = (
        "from mmpr_builder.config import *\n"
        "print(identity_hash(sampling_identity(load_config(None))))"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(hashes) == 1


def test_every_setting_has_a_description() -> None:
    rows = settings_table()
    assert len(rows) == len(set(valid_keys()))
    assert all(description for _, _, description in rows)


@pytest.mark.parametrize("name", shipped_names("pipelines", ".yaml"))
def test_every_shipped_recipe_loads(name: str) -> None:
    assert load_config(name).seeds


def test_shipped_files_are_found_by_name_and_by_path() -> None:
    for name in ("demo", "demo.yaml", "pipelines/demo.yaml"):
        found = find_shipped("pipelines", name, ".yaml")
        assert found is not None, name
        assert found.name == "demo.yaml"
    assert find_shipped("prompts", "elsewhere/final_answer_en", ".txt") is None
