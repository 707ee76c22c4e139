"""What all commands share: the application, its console, the words that make a config."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from rich.console import Console

from mmpr_builder import __version__
from mmpr_builder.config import (
    Config,
    SourceConfig,
    load_config,
    settings_table,
    shipped_names,
    valid_keys,
)

# ---- completion
# What a shell offers after `mmpr build <TAB>`: recipes and files, then keys, then their values.


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


EXIT_SETUP = 2
EXIT_QUARANTINED = 3
EXIT_FINDINGS = 4
EXIT_LINT = 5
EXIT_NOTHING = 6

# Groups of commands in `mmpr --help`, in this order.
PANELS = BUILD, LOOK, HAND_ON = "Build", "Look", "Check and hand on"

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Preference pairs that make vision-language models reason better.",
    epilog=(
        "Settings are KEY=VALUE words: [bold]mmpr settings[/] lists them. Completion of commands,"
        " recipes and keys: [bold]mmpr --install-completion[/]"
    ),
)
# Where no person reads along lines are as long as they need be, so that paths can be copied.
console = Console(stderr=True, width=None if sys.stderr.isatty() else 200)


def _print_version(asked: bool) -> None:
    if asked:
        Console().print(f"mmpr_builder {__version__}", highlight=False)
        raise typer.Exit


Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RECIPE] [KEY=VALUE]...",
        help="A recipe (a YAML file or a shipped name) and settings that override it.",
        show_default=False,
        autocompletion=complete_words,
    ),
]


@app.callback()
def _top(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


def read_settings(words: list[str] | None) -> Config:
    """The config that a command's words ask for; the first word without `=` is the recipe."""
    words = list(words or [])
    recipe = words.pop(0) if words and "=" not in words[0] else None
    config = load_config(recipe, words)
    for source in config.left_out:
        console.print(f"left out by its licence: {source.name}: {source.reason}", markup=False)
    return config


def be_offline_safe(config: Config) -> None:
    """Where model and seeds are local nothing needs a hub: do not wait for one to time out."""
    sources = [source.path for source in config.seeds]
    if all(path == "demo" or Path(path).exists() for path in [config.model, *sources]):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
