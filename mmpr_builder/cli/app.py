"""What all commands share: the application, its console and tables, how a recipe is given.

Modules of commands import what they run inside of the command: `mmpr --help` and completion stay
quick, and no library is imported before `no_other_bars`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperArgument, TyperCommand, TyperGroup

from mmpr_builder.escaping import visible

if TYPE_CHECKING:
    from mmpr_builder.config import Config

EXIT_SETUP = 2
EXIT_QUARANTINED = 3
EXIT_FINDINGS = 4
EXIT_LINT = 5
EXIT_NOTHING = 6
EXIT_LIMIT = 7

# Groups of commands in `mmpr --help`, in this order.
PANELS = BUILD, LOOK, HAND_ON = "Build", "Look", "Check and hand on"

# Where no person reads along lines are as long as they need be, so that paths can be copied.
console = Console(stderr=True, width=None if sys.stderr.isatty() else 200)

Function = TypeVar("Function", bound=Callable[..., Any])


def _in_words(params: Sequence[Any]) -> list[Any]:
    """Parameters whose help shows no type of Python: switches take no value, the others name it."""
    for param in params:
        if isinstance(param, TyperArgument):
            vars(param)["display_type_rich"] = lambda ctx: None
        elif getattr(param, "is_flag", False):
            param.metavar = ""
    return list(params)


class _Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _in_words(super().get_params(ctx))


class _Group(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _in_words(super().get_params(ctx))


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Preference pairs that make vision-language models reason better.",
    epilog=(
        "Settings are KEY=VALUE words: [bold]mmpr settings[/] lists them. Completion of commands,"
        " recipes, keys and values: [bold]mmpr --install-completion[/]"
    ),
)


def command(panel: str, name: str | None = None) -> Callable[[Function], Function]:
    """Register a command in a group of `mmpr --help`. Its docstring is its help.

    Paragraphs are filled to the terminal's width; lines that begin with `$` are examples.
    """

    def register(function: Function) -> Function:
        paragraphs = cleandoc(function.__doc__ or "").split("\n\n")
        text = "\n\n".join(p if "$" in p else " ".join(p.split()) for p in paragraphs)
        return app.command(name, cls=_Command, rich_help_panel=panel, help=text)(function)

    return register


def argument(metavar: str, help: str) -> Any:
    """A word by its place, shown as `metavar` in the help."""
    return typer.Argument(metavar=metavar, help=help, show_default=False)


def option(metavar: str, help: str, *names: str, **how: Any) -> Any:
    """An option whose value is shown as `metavar` in the help."""
    return typer.Option(*names, metavar=metavar, help=help, **how)


def switch(name: str, help: str, *names: str) -> Any:
    """An option that takes no value."""
    return typer.Option(name, *names, help=help)


def _print_version(asked: bool) -> None:
    if asked:
        from mmpr_builder import __version__

        Console().print(f"mmpr_builder {__version__}", highlight=False)
        raise typer.Exit


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


def _complete(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    from mmpr_builder.cli.completion import complete_words

    return complete_words(ctx.params.get("settings") or [], incomplete)


Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RECIPE] [KEY=VALUE]...",
        help="A recipe (a YAML file or a shipped name) and settings that override it.",
        show_default=False,
        autocompletion=_complete,
    ),
]
Out = Annotated[str, argument("OUT", "A build's folder.")]
JsonFile = Annotated[Path | None, option("FILE", "Write the complete list to this file.", "--json")]


def read_settings(words: Sequence[str]) -> Config:
    """The settings that a command's words ask for; the first word without `=` is the recipe.

    Where model and seeds are local nothing needs a hub, and none is asked.
    """
    from mmpr_builder.config import load_config

    words = list(words)
    recipe = words.pop(0) if words and "=" not in words[0] else None
    config = load_config(recipe, words)
    home = os.environ.get("MMPR_SUBMITTED_FROM")  # Set by `make submit`.
    if home and "://" not in config.out:
        config = config.model_copy(update={"out": os.path.join(home, config.out)})
    for source in config.left_out:
        say(f"left out by its licence: {source.name}: {source.reason}")
    places = [config.model, *(source.path for source in config.seeds)]
    if all(place == "demo" or Path(place).exists() for place in places):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    return config


def config_of(out: str) -> Config:
    """The settings that a build was last paired with. Raises `InputError` where it has none."""
    from pydantic import ValidationError

    from mmpr_builder.config import Config
    from mmpr_builder.errors import InputError
    from mmpr_builder.output import read_run

    try:
        return Config.model_validate({**read_run(out)["config"], "out": out})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{out}/run.json: {key}: {first['msg']}: it was written by another version: run"
            " `mmpr pair` with the same recipe and settings"
        ) from None


def no_other_bars() -> None:
    """Keep the progress bars of other libraries away: ours stands in the same line.

    To be called before any of them is imported: datasets, transformers, huggingface_hub, vLLM.
    """
    for name in (
        "TQDM_DISABLE",
        "HF_HUB_DISABLE_PROGRESS_BARS",
        "HF_DATASETS_DISABLE_PROGRESS_BARS",
    ):
        os.environ.setdefault(name, "1")


def typed() -> str:
    """This command as a person can type it here: `mmpr`, or where it lies if no shell finds it."""
    import shutil

    ran = os.path.abspath(sys.argv[0])
    if os.path.basename(ran) != "mmpr":
        return "mmpr" if shutil.which("mmpr") else f"{_near(sys.executable)} -m mmpr_builder"
    found = shutil.which("mmpr")
    return "mmpr" if found and os.path.samefile(found, ran) else _near(ran)


def _near(path: str) -> str:
    """A path from the working folder on where it lies below it."""
    near = os.path.relpath(path)
    return path if near.startswith(os.pardir) else near


def say(text: str, head: str = "", style: str = "") -> None:
    """One message on standard error, as long as it is; `head` in a style of its own."""
    console.print(Text.assemble((head, style), visible(text)), soft_wrap=True, highlight=False)


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Labels and what is to be said of each; nothing in them is markup or a control character."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in rows:
        table.add_row(Text(visible(label)), Text(visible(text)))
    return table


def columns(names: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table with a head."""
    table = Table(*names, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    return table


def entry(place: str, what: tuple[str, str], *lines: str) -> Text:
    """An entry of a list: where, what (with its style), and lines on it that wrap at any width."""
    words, style = what
    said = "".join(f"\n  {visible(line)}" for line in lines)
    return Text.assemble((visible(place), "bold"), "  ", (visible(words), style), said)


def print_json(value: Any, indent: int | None = None) -> None:
    """JSON on standard output; characters that a terminal would obey are written as escapes."""
    from mmpr_builder.escaping import json_text

    sys.stdout.write(json_text(value, indent) + "\n")
