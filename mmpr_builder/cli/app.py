"""What all commands share: the application, its console, the words that make a config."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mmpr_builder import __version__
from mmpr_builder.cli.completion import complete_words
from mmpr_builder.config import Config, load_config

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
