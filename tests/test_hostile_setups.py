"""Recipes and model folders from strangers: an error at once, and no code of theirs is run."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import jinja2
import pytest

from mmpr_builder.config import load_config
from mmpr_builder.config.recipes import _MOST_BASES, _MOST_BYTES
from mmpr_builder.engines import check_engine, model_identity
from mmpr_builder.engines.models import special_tokens
from mmpr_builder.errors import ConfigError, InputError

NINE = range(9)


def aliases(first: str, more: str) -> str:
    """Nine times what stands before, eleven times over: 31 billion values in a few lines."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{i}: &a{i} {more % ','.join(f'*a{i - 1}' for _ in NINE)}" for i in range(1, 12)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (aliases("[x, x]", "[%s]"), r"over 200,000 values.*\n.*line 1"),
        (aliases("{x: 1}", "{<<: [%s]}"), "over 200,000 values"),
        ("engine: &e {a: *e}", r"nested more than 50 deep\n.*line 1"),
        ("seeds: &e [*e]", "nested more than 50 deep"),
        ("engine: " + "{a: " * 100 + "1" + "}" * 100, "nested more than 50 deep"),
        ("engine: " + "[" * 100_000, "nested more than 50 deep"),
        ("limit: " + "9" * 5_000, r"a number of 5,000 characters\n.*line 1"),
        ("limit: 0b" + "1" * 90_000, "a number of 90,002 characters"),
        ("limit: 1" + ":59" * 90_000, "a number of 270,001 characters"),
        ("name: 2024-99-99", "month must be in"),
        ("name: !!python/object/apply:os.abort []", "could not determine a constructor"),
        ("# " + "x" * _MOST_BYTES, f"and a recipe has {_MOST_BYTES:,} at most"),
    ],
    ids=lambda value: value[:16],
)
def test_a_recipe_that_would_take_minutes_or_gigabytes_is_refused_at_its_place(
    text: str, said: str, tmp_path: Path
) -> None:
    recipe = tmp_path / "hostile.yaml"
    recipe.write_text(text)
    with pytest.raises(ConfigError, match=rf"(?s)hostile\.yaml: .*{said}"):
        load_config(recipe)


def test_aliases_and_merges_of_an_ordinary_recipe_are_read(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "seeds:\n  a: &a {path: a.jsonl, limit: 3}\n  b: {<<: *a, path: b.jsonl}\n"
        "quality: {decontaminate: {against: &e [e.jsonl]}}\n"
    )
    config = load_config(recipe)
    assert [source.limit for source in config.seeds] == [3, 3]


def test_a_chain_of_recipes_ends_with_the_place_where_it_is_too_long(tmp_path: Path) -> None:
    for number in range(2 * _MOST_BASES):
        (tmp_path / f"r{number}.yaml").write_text(f"base: r{number + 1}.yaml\n")
    with pytest.raises(ConfigError, match=rf"r{_MOST_BASES}\.yaml: base = .*too many others"):
        load_config(tmp_path / "r0.yaml")


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_a_recipe_that_is_no_regular_file_is_not_opened(kind: str, tmp_path: Path) -> None:
    recipe = tmp_path / "odd.yaml"
    make = {
        "fifo": lambda: os.mkfifo(recipe),
        "device": lambda: recipe.symlink_to("/dev/zero"),
        "folder": recipe.mkdir,
    }
    make[kind]()
    (tmp_path / "mine.yaml").write_text("base: odd.yaml\n")
    for asked in (recipe, tmp_path / "mine.yaml"):
        with pytest.raises(ConfigError, match=r"odd\.yaml' is neither a YAML file nor"):
            load_config(asked)


ADDED = "added tokens are tables with a content"


def linked(path: Path) -> None:
    path.symlink_to("/dev/zero")


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**30)


def text(value: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(value)


@pytest.mark.parametrize(
    ("file", "make", "said"),
    [
        *((name, make, said)
          for name in ("config.json", "tokenizer.json", "tokenizer_config.json")
          for make, said in ((os.mkfifo, "no regular file"), (linked, "no regular file"),
                             (sparse, r"1,073,741,824 bytes, .* at most"))),
        ("chat_template.jinja", sparse, "at most"),
        ("additional_chat_templates/a.jinja", os.mkfifo, "no regular file"),
        ("model.safetensors", linked, "no regular file"),
        ("tokenizer.json", text('{"added_tokens": 7}'), ADDED),
        ("tokenizer.json", text('{"added_tokens": [{"special": true}]}'), ADDED),
        ("tokenizer_config.json", text('{"added_tokens_decoder": ["a"]}'), ADDED),
        ("tokenizer.json", text(json.dumps({"added_tokens": [
            {"special": True, "content": f"<a{i}>"} for i in range(60_000)]})), "60,000 special"),
        # Nested too deep to be read, or of odd types: for vLLM to refuse, as any other nonsense.
        ("config.json", text("[" * 200_000), ""),
        ("tokenizer.json", text('{"a":' * 200_000), ""),
        ("config.json", text('{"text_config": [1], "llm_config": "a", "rope_scaling": 1}'), ""),
        ("config.json", text('{"max_position_embeddings": 1e999, "rope_scaling": {}}'), ""),
        ("config.json", text('{"max_position_embeddings": %s, "rope_scaling": {"factor": Infinity}}'
                             % ("9" * 400)), ""),
        ("config.json", text('{"rope_scaling": {"factor": "a"}, "max_position_embeddings": 9999}'),
         ""),
    ],
)  # fmt: skip
def test_a_model_folder_that_is_none_is_refused_before_it_is_read(
    file: str, make: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    make(path)
    config = load_config(None, [f"model={tmp_path}", "seeds=demo"])

    def look() -> None:
        check_engine(config)
        special_tokens(config)
        model_identity(config)

    if said:
        with pytest.raises(InputError, match=rf"{re.escape(path.name)}.* {said}|{said}"):
            look()
    else:
        look()


HOSTILE_TEMPLATES = [
    "{{ ''.__class__.__mro__ }}",
    "{{ cycler.__init__.__globals__.os.system('false') }}",
    "{{ (lipsum|attr('__globals__'))['os'] }}",
    "{% include '/etc/passwd' %}",
]


@pytest.mark.parametrize("template", HOSTILE_TEMPLATES)
def test_a_chat_template_reaches_neither_python_nor_files(template: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    with pytest.raises((jinja2.exceptions.SecurityError, TypeError)):
        render_jinja_template([[{"role": "user", "content": "?"}]], chat_template=template)
