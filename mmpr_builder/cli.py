"""The command line: `mmpr plan | sample | pair | build | report | settings`.

Every command takes a recipe and `key=value` overrides, the same for all:

    mmpr build pipelines/demo.yaml out=out/demo sampling.n=16
    mmpr pair  pipelines/demo.yaml out=out/demo pairing.max_per_seed=5

Exit codes: 0 done; 2 a set-up error; 3 done, but rows that kill the engine were set aside;
130 / 143 stopped by SIGINT / SIGTERM after publishing what was finished.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmpr_builder import __version__, summary
from mmpr_builder.config import Config, load_config, settings_table
from mmpr_builder.errors import Interrupted, MmprError, SetupError

if TYPE_CHECKING:
    from mmpr_builder.build import BuildResult
    from mmpr_builder.progress import Progress

EXIT_SETUP = 2
EXIT_QUARANTINED = 3

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Preference pairs that make vision-language models reason better.",
)
# Where no person reads along lines are as long as they need be, so that paths can be copied.
console = Console(stderr=True, width=None if sys.stderr.isatty() else 200)

Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RECIPE] [KEY=VALUE]...",
        help="A recipe (a YAML file or a shipped name) and settings that override it.",
        show_default=False,
    ),
]


def main(args: list[str] | None = None) -> None:
    """Entry point of `mmpr` and of pipelines/build_mmpr.py. Ends the process with an exit code."""
    try:
        app(args=args, standalone_mode=True)
    except SetupError as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(EXIT_SETUP)
    except Interrupted as error:
        console.print(f"[bold yellow]stopped:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(128 + error.signum)
    except MmprError as error:
        console.print(f"[bold red]failed:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)


def read_settings(words: list[str] | None) -> Config:
    """The config that a command's words ask for; the first word without `=` is the recipe."""
    words = list(words or [])
    recipe = words.pop(0) if words and "=" not in words[0] else None
    return load_config(recipe, words)


@app.command()
def build(settings: Settings = None) -> None:
    """Do both halves: sample responses, then make pairs, card and report."""
    _run("build", settings)


@app.command()
def sample(settings: Settings = None) -> None:
    """Do the first half only: seeds to rollouts (needs the engine)."""
    _run("sample", settings)


@app.command()
def pair(settings: Settings = None) -> None:
    """Do the second half only: rollouts to pairs (no engine, any number of times)."""
    _run("pair", settings)


@app.command()
def plan(settings: Settings = None) -> None:
    """Check everything and show what a build would do and cost, sampling nothing."""
    config = read_settings(settings)
    _be_offline_safe(config)
    from mmpr_builder import build as stages

    console.print(summary.planned(config, stages.plan(config)))


@app.command()
def report(
    out: Annotated[str, typer.Argument(help="A build's folder.")],
) -> None:
    """Write the report of a finished build again: OUT/report/index.html."""
    from mmpr_builder.report import write_report

    console.print(f"wrote {escape(write_report(out))}")


@app.command("settings")
def show_settings() -> None:
    """List every setting with its default and what it does."""
    table = Table("setting", "default", "what it does", box=None, pad_edge=False)
    for key, default, description in settings_table():
        table.add_row(f"[bold]{key}[/]", escape(default), escape(description))
    Console().print(table)


@app.command()
def version() -> None:
    """Print the version."""
    Console().print(__version__)


def _run(command: str, settings: list[str] | None) -> None:
    config = read_settings(settings)
    _be_offline_safe(config)
    from mmpr_builder import build as stages
    from mmpr_builder.progress import Progress

    step: Callable[[Config, Progress], BuildResult] = getattr(stages, command)
    with Progress.auto() as progress:
        result = step(config, progress)
    if result.run is not None:
        console.print(summary.finished(config, result.run))
    elif result.sampling is not None:
        console.print(summary.sampled(config, result.sampling))
    if result.sampling is not None and result.sampling.quarantined:
        sys.exit(EXIT_QUARANTINED)


def _be_offline_safe(config: Config) -> None:
    """Where model and seeds are local nothing needs a hub: do not wait for one to time out."""
    sources = [source.path for source in config.seeds]
    if all(path == "demo" or Path(path).exists() for path in [config.model, *sources]):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


if __name__ == "__main__":
    main()
