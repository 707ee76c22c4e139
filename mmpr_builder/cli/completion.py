"""What a shell offers after `mmpr build <TAB>`: recipes and files, then keys, then their values."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel

from mmpr_builder.config import Config, SourceConfig, settings_table, shipped_names, valid_keys

Offer = tuple[str, str]
"""A word and what it means."""


def complete_words(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Recipes for the first word, `key=` for every word, values where there are only a few."""
    given = [str(word) for word in ctx.params.get("settings") or []]
    # bash takes words apart at "=": what it wants is the part behind it alone.
    if len(given) > 1 and given[-1] == "=":
        return _values(given[-2], "", incomplete)
    if given and not incomplete and given[-1] in valid_keys():
        return _values(given[-1], "", "")
    key, equals, value = incomplete.partition("=")
    if equals:
        return _values(key, f"{key}=", value)
    first = [] if given else [*_recipes(incomplete)]
    keys = [(f"{key}=", text) for key, _, text in settings_table() if ".N." not in key]
    return first + [offer for offer in keys if offer[0].startswith(incomplete)]


def _recipes(incomplete: str) -> Iterator[Offer]:
    for name in shipped_names("pipelines", ".yaml"):
        if name.startswith(incomplete):
            yield name, "shipped recipe"
    folder = Path(incomplete).parent if "/" in incomplete else Path()
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            shown = f"{path}/" if path.is_dir() else str(path)
            if shown.startswith(incomplete) and not path.name.startswith("."):
                if path.suffix in (".yaml", ".yml"):
                    yield shown, "recipe"
                elif path.is_dir() and "/" in incomplete:
                    yield shown, "folder"


def _values(key: str, prefix: str, begun: str) -> list[Offer]:
    return [(prefix + value, key) for value in values_of(key) if value.startswith(begun)]


def values_of(key: str) -> tuple[str, ...]:
    """The values of a key that has only a few, else none."""
    model: Any = Config
    for part in key.split("."):
        if part == "N" or part.isdigit():
            model = SourceConfig
            continue
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return ()
        field = model.model_fields.get(part)
        if field is None:
            return ()
        model = field.annotation
    return tuple(_literals(model))


def _literals(annotation: Any) -> Iterator[str]:
    if annotation is bool:
        yield from ("true", "false")
    elif get_origin(annotation) is Literal:
        yield from (str(value) for value in get_args(annotation))
    elif get_origin(annotation) in (Union, types.UnionType, tuple):
        for part in get_args(annotation):
            yield from _literals(part)
