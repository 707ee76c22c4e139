"""What a shell offers after `mmpr build <TAB>`: recipes and files, then keys, then their values."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from mmpr_builder.config import Config, SourceConfig, settings_table, shipped_names, valid_keys

Offer = tuple[str, str]
"""A word and what it means."""


def complete_words(given: Sequence[str], incomplete: str) -> list[Offer]:
    """Recipes for the first word, `key=` for every word, values where there are only a few."""
    # bash takes words apart at "=" and wants only the part behind it.
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
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        word = f"{path}/" if path.is_dir() else str(path)
        if word.startswith(incomplete) and not path.name.startswith("."):
            if path.suffix in (".yaml", ".yml"):
                yield word, "recipe"
            elif path.is_dir() and "/" in incomplete:
                yield word, "folder"


def _values(key: str, prefix: str, begun: str) -> list[Offer]:
    return [(prefix + value, key) for value in values_of(key) if value.startswith(begun)]


def values_of(key: str) -> tuple[str, ...]:
    """The values of a key that has only a few, else none."""
    model: Any = Config
    for part in key.split("."):
        fields = getattr(model, "model_fields", {})
        if part == "N" or part.isdigit():
            model = SourceConfig
        elif part in fields:
            model = fields[part].annotation
        else:
            return ()
    return tuple(_literals(model))


def _literals(annotation: Any) -> Iterator[str]:
    if annotation is bool:
        yield from ("true", "false")
    elif get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
    elif get_origin(annotation) in (Union, types.UnionType, tuple):
        for part in get_args(annotation):
            yield from _literals(part)
