"""`mmpr build | sample | pair | plan | preview | settings`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from rich.text import Text

from mmpr_builder.cli.app import (
    BUILD,
    EXIT_NOTHING,
    EXIT_QUARANTINED,
    Settings,
    command,
    console,
    entry,
    facts,
    no_other_bars,
    option,
    read_settings,
    say,
    switch,
    typed,
)
from mmpr_builder.errors import ConfigError, SetupError
from mmpr_builder.escaping import visible

if TYPE_CHECKING:
    from mmpr_builder.stages import BuildResult

Extend = Annotated[
    bool, switch("--extend", "Add the seeds that the inputs have and the build lacks.")
]
Quiet = Annotated[bool, switch("--quiet", "Show errors only.", "-q")]
Verbose = Annotated[
    bool, switch("--verbose", "Show what the engine logs, and lines instead of a bar.", "-v")
]


@command(BUILD)
def build(
    settings: Settings = None,
    extend: Extend = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Do both halves: sample responses, then make pairs, card and report.

    After an interruption the same command goes on where it was.

    $ mmpr build demo
    $ mmpr build demo seeds=my/seeds.jsonl model=/models/my-vlm out=out/mine
    $ mmpr build my_recipe.yaml limit=100
    $ mmpr build my_recipe.yaml limit=200 --extend
    """
    _run("build", settings, quiet=quiet, verbose=verbose, extend=extend)


@command(BUILD)
def sample(
    settings: Settings = None,
    extend: Extend = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Do the first half only: seeds to rollouts (needs the engine).

    $ mmpr sample demo out=out/run-1
    """
    _run("sample", settings, quiet=quiet, verbose=verbose, extend=extend)


@command(BUILD)
def pair(
    settings: Settings = None,
    partial: Annotated[
        bool, switch("--partial", "Pair what is there of a build that is not sampled to its end.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Do the second half only: rollouts to pairs (no engine, any number of times).

    $ mmpr pair demo out=out/run-1 pairing.max_per_seed=5
    $ mmpr pair demo out=out/run-1 pairing.reject_list=reject_list.txt
    """
    _run("pair", settings, quiet=quiet, verbose=verbose, partial=partial)


@command(BUILD)
def plan(
    settings: Settings = None,
    extend: Extend = False,
    probe: Annotated[
        int | None,
        option("N", "Sample about N seeds, in a temporary folder, and extrapolate.", min=2),
    ] = None,
    all_images: Annotated[bool, switch("--images", "Open every picture, not only some.")] = False,
) -> None:
    """Check everything and show what a build would do and cost at most, sampling nothing.

    Some pictures of every source are opened, with --images all of them.

    With --probe the engine really samples a few seeds of every source, and tokens, engine-hours,
    disk and pairs of the whole build are estimated from them, with their uncertainty.

    $ mmpr plan demo seeds=my/seeds.jsonl
    $ mmpr plan demo seeds=my/seeds.jsonl --probe 64
    """
    no_other_bars()
    config = read_settings(settings or [])
    from mmpr_builder import stages
    from mmpr_builder.cli import closing

    estimate = stages.plan(config, extend=extend, all_images=all_images)
    console.print(Text(), facts(closing.planned(config, estimate)))
    if estimate.problems:
        raise SetupError("\n       ".join(estimate.problems))
    if probe is not None:
        from mmpr_builder.probe import run_probe
        from mmpr_builder.progress import Progress

        with Progress.auto() as progress:
            found = run_probe(config, probe, progress, extend=extend)
        console.print(closing.probed(config, found))


@command(BUILD)
def preview(
    settings: Settings = None,
    n: Annotated[int, option("N", "Seeds to show, of all sources.", "--n", "-n", min=1)] = 3,
    html: Annotated[str | None, option("FILE", "Write a page with the pictures, too.")] = None,
) -> None:
    """Show some seeds as they are read, and what the model would be asked for them.

    The prompts have the model's own chat template and their image tokens; no weights are loaded,
    nothing is sampled, no server is asked.

    $ mmpr preview my_recipe.yaml -n 5
    $ mmpr preview demo seeds=my/seeds.jsonl model=/models/my-vlm --html preview.html
    """
    no_other_bars()
    config = read_settings(settings or [])
    from rich.console import Console

    from mmpr_builder.previews import preview as previewed

    page, found = Console(highlight=False), previewed(config, n)
    for one in found:
        page.print(facts(one.facts()))
        for title, text in one.texts():
            page.print(Text(title, style="reverse"))
            page.print(Text(visible(text)), soft_wrap=True)
        page.print()
    if html is not None:
        from mmpr_builder.io.tables import put_text
        from mmpr_builder.report import render_previews

        put_text(render_previews(config.name, found), html)
        say(f"wrote {html}")


@command(BUILD, "settings")
def show_settings() -> None:
    """List every setting with its default and what it does."""
    from rich.console import Console, Group

    from mmpr_builder.config import settings_table

    entries = (entry(key, (value, "cyan"), text) for key, value, text in settings_table())
    Console().print(Group(*entries), highlight=False)


def _run(
    name: str, settings: list[str] | None, *, quiet: bool, verbose: bool, **options: bool
) -> None:
    console.quiet = quiet
    no_other_bars()
    if verbose:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "INFO")
    words = settings or []
    if name != "pair" and not any("=" not in word or word.startswith("seeds") for word in words):
        raise ConfigError(
            f"mmpr {name}: neither a recipe nor seeds: `{typed()} {name} demo` makes the demo,"
            f" `{typed()} {name} seeds=FILE model=MODEL out=DIR` your own"
        )
    config = read_settings(words)
    from mmpr_builder import stages
    from mmpr_builder.cli import closing
    from mmpr_builder.progress import Progress

    step: Callable[..., BuildResult] = getattr(stages, name)
    with Progress.auto(quiet=quiet, verbose=verbose) as progress:
        result = step(config, progress, **options)
    if result.run is not None:
        console.print(closing.finished(config, result.run))
    elif result.sampling is not None:
        console.print(Text(), facts(closing.sampled(config, result.sampling)))
    if result.sampling is not None and result.sampling.quarantined:
        sys.exit(EXIT_QUARANTINED)
    if result.run is not None and not result.run["counts"]["pairs"]["total"]:
        console.quiet = False
        say("the drops say why", "no pairs: ", "bold red")
        sys.exit(EXIT_NOTHING)
