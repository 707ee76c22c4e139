"""`mmpr export | import | lint`: into trainers' formats, back, and what would go wrong there."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from mmpr_builder.cli.app import EXIT_LINT, HAND_ON, app, console
from mmpr_builder.errors import ConfigError, InputError

if TYPE_CHECKING:
    from mmpr_builder.config import Config
    from mmpr_builder.export import Exported, ExportOptions, Format
    from mmpr_builder.export.lint import LintResult
    from mmpr_builder.records import Rollout


_ENTRIES = 12  # A release has over a hundred; export.json and import.json list all.
_KNOWN = {"rows": "its rows say it", "name": "by its name", "default": "by --kind"}

Paths = Annotated[
    list[str],
    typer.Argument(metavar="OUT... DEST", help="Builds, and a new folder for the export."),
]
Names = Annotated[str, typer.Option(help="Only these, separated by commas.")]


@app.command("export", rich_help_panel=HAND_ON)
def export_pairs(
    paths: Paths,
    to: Annotated[
        str,
        typer.Option("--to", help="internvl, nemo-rl, verl, ms-swift, llama-factory or trl."),
    ],
    kinds: Names = "",
    sources: Names = "",
    repeat_time: Annotated[
        list[str] | None,
        typer.Option(help="internvl: N, or NAME=N for an entry, source or kind; may be repeated."),
    ] = None,
    max_dynamic_patch: Annotated[
        list[str] | None, typer.Option(help="internvl: image tiles, like --repeat-time.")
    ] = None,
    mount: Annotated[
        str | None,
        typer.Option(help="internvl, ms-swift: where the trainer will find DEST; default: there."),
    ] = None,
    pass_rate: Annotated[
        tuple[float, float], typer.Option(metavar="LOW HIGH", help="verl: queries within.")
    ] = (0.2, 0.8),
    overwrite: Annotated[bool, typer.Option(help="Replace an export that is there.")] = False,
) -> None:
    """Write the pairs of builds in a trainer's format: OUT... DEST --to FORMAT.

    Rows that the trainer could not use, or would misread, are left out, counted and listed with
    the reason in DEST/drops.jsonl.
    """
    from mmpr_builder import export

    if len(paths) < 2:
        raise ConfigError(f"export {' '.join(paths)}: give builds and then a new folder: OUT DEST")
    form = _format("--to", to)
    *outs, dest = paths
    options = export.ExportOptions(
        kinds=_names(kinds),
        sources=_names(sources),
        repeat_time=export.PerEntry.parse("--repeat-time", repeat_time or ()),
        max_dynamic_patch=export.PerEntry.parse("--max-dynamic-patch", max_dynamic_patch or ()),
        mount=mount,
        pass_rate=pass_rate,
        overwrite=overwrite,
    )
    if form.name == "verl":
        done = _export_queries(outs, dest, options)
    else:
        done = export.write_export(outs, form, dest, options)
    _show_export(form, done)


@app.command("import", rich_help_panel=HAND_ON)
def import_release(
    words: Annotated[
        list[str],
        typer.Argument(metavar="META_OR_JSONL out=DIR", help="A meta.json, or one JSONL file."),
    ],
    root: Annotated[
        str | None,
        typer.Option(help="Where relative paths start; default: beside the file, or one above."),
    ] = None,
    roots: Annotated[
        list[str] | None,
        typer.Option(help="Further folder whose images rows may name; may be given again."),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="Image URLs that rows may name: https, s3, … or their beginning."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Source name of rows that have none; default: the entry's.")
    ] = None,
    kind: Annotated[
        str, typer.Option(help="Kind of rows whose entry does not name one.")
    ] = "correctness",
    overwrite: Annotated[bool, typer.Option(help="Replace an import that is there.")] = False,
) -> None:
    """Read an MMPR release (meta.json, JSON lines, images) into pairs of our schema.

    Old and new pairs then mix: `load_pairs([A, B])`. Rows that are no pairs go to DIR/drops.
    """
    from mmpr_builder.escaping import visible
    from mmpr_builder.export.importing import import_pairs

    places = [word.removeprefix("out=") for word in words if word.startswith("out=")]
    files = [word for word in words if not word.startswith("out=")]
    if len(places) != 1 or len(files) != 1:
        raise ConfigError(f"import {' '.join(words)}: give one file and out=DIR")
    done = import_pairs(
        files[0],
        places[0],
        root=root,
        roots=roots or (),
        allow=allow or (),
        source=source,
        kind=kind,
        overwrite=overwrite,
    )
    table = _table()
    table.add_row("pairs", f"{done.rows:,} from {done.images:,} images")
    for name, (found, how) in list(done.kinds.items())[:_ENTRIES]:
        table.add_row(f"  {escape(visible(name))}", f"{found} ({_KNOWN[how]})")
    if len(done.kinds) > _ENTRIES:
        more = f"{len(done.kinds) - _ENTRIES:,} more in {escape(done.folder)}/import.json"
        table.add_row("  …", more)
    _add_drops(table, done.drops, f"{done.folder}/drops")
    table.add_row("load them", f'mmpr_builder.load_pairs("{escape(done.folder)}")')
    console.print(table)


@app.command(rich_help_panel=HAND_ON)
def lint(
    out: Annotated[str, typer.Argument(help="A build's folder, or an export's.")],
    trainer: Annotated[
        str,
        typer.Option("--for", help="internvl, nemo-rl, verl, ms-swift, llama-factory or trl."),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="Model folder (or demo): lengths and special tokens are checked by it."),
    ] = None,
    context: Annotated[
        int | None, typer.Option(min=1, help="Longest sequence in tokens; default: the model's.")
    ] = None,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="An image with more pixels is a finding.")
    ] = 16_777_216,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the complete list to this file.")
    ] = None,
) -> None:
    """Say what would go wrong in training, before it does. Exit code 0: nothing; 5: findings."""
    from mmpr_builder.export.lint import lint_folder

    form = _format("--for", trainer)
    if context is not None and model is None:
        raise ConfigError("--context needs --model: lengths are counted by its own tokenizer")
    if model == "demo":
        from mmpr_builder.demo import model_path

        model = str(model_path())
    result = lint_folder(
        out, form, model=model, context=context, max_pixels=max_pixels, json_file=json_file
    )
    _show_lint(result, str(out), json_file)
    if result.counts:
        raise typer.Exit(EXIT_LINT)


def _format(option: str, name: str) -> Format:
    from mmpr_builder.export import FORMATS

    if name not in FORMATS:
        near = difflib.get_close_matches(name, FORMATS, n=1, cutoff=0.0)
        raise ConfigError(
            f"{option} {name!r}: no such format (the nearest is {near[0]!r}): use one of"
            f" {', '.join(FORMATS)}"
        )
    return FORMATS[name]


def _names(words: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in words.split(",") if word.strip())


def _config_of(out: str) -> Config:
    """The settings that a build was paired with."""
    from pydantic import ValidationError

    from mmpr_builder.config import Config
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


def _export_queries(outs: list[str], dest: str, options: ExportOptions) -> Exported:
    from mmpr_builder.export import verl
    from mmpr_builder.runs.pooling import pooled_rollouts
    from mmpr_builder.scoring import Judge

    builds: list[tuple[Config, list[str]]] = []
    for out in outs:
        config = _config_of(out)
        if builds and config.scoring != builds[0][0].scoring:
            raise InputError(
                f"{out} was judged by other settings (scoring) than {outs[0]}: export them apart"
            )
        builds.append((config, [] if config.rollouts else verl.rollout_parts(out)))

    def rollouts() -> Iterator[tuple[Rollout, Config]]:
        for config, parts in builds:
            if config.rollouts:
                yield from ((rollout, config) for rollout in pooled_rollouts(config))
            else:
                yield from verl.read_rollouts(parts, config)

    with Judge(builds[0][0].scoring) as judge:
        return verl.write_queries(outs, rollouts(), judge, dest, options)


def _show_export(form: Format, done: Exported) -> None:
    from mmpr_builder.escaping import visible

    table = _table()
    images = f", {done.images:,} image files" if done.images else ""
    table.add_row("written", f"{done.rows:,} rows for {form.name}{images}")
    for name, rows in list(done.entries.items())[:_ENTRIES]:
        table.add_row(f"  {escape(visible(name))}", f"{rows:,}")
    if len(done.entries) > _ENTRIES:
        table.add_row("  …", f"{len(done.entries) - _ENTRIES:,} more in {escape(done.folder)}")
    _add_drops(table, done.drops, f"{done.folder}/drops.jsonl")
    table.add_row("train on it", f"{escape(done.folder)}/README.md")
    console.print(table)


def _add_drops(table: Table, drops: dict[str, int], where: str) -> None:
    if drops:
        table.add_row("left out", f"{sum(drops.values()):,}, listed in {escape(where)}")
    for reason, count in drops.items():
        table.add_row(f"  {reason}", f"{count:,}")


def _show_lint(result: LintResult, folder: str, json_file: Path | None) -> None:
    unchecked = "" if result.lengths else "; lengths were not checked: give --model"
    rows = f"{result.rows:,} rows, {result.images:,} images{unchecked}"
    if not result.counts:
        console.print(f"nothing would go wrong in {result.trainer}: {rows}", markup=False)
        return
    table = Table("finding", "times", "for example", "remedy", box=None, pad_edge=False)
    for reason, count in result.counts.items():
        table.add_row(
            f"[bold]{reason}[/]",
            f"{count:,}",
            escape("\n".join(_example(found, folder) for found in result.examples[reason])),
            escape(result.remedies[reason]),
        )
    console.print(table)
    console.print(rows, markup=False)
    if json_file is not None:
        console.print(f"wrote {json_file}", markup=False)


def _example(found: Any, folder: str) -> str:
    """Where it is in `folder`, which everybody knows: long paths break in the table."""
    from mmpr_builder.escaping import visible

    name = f" ({found.id[:12]})" if found.id else ""
    where = found.where.removeprefix(f"{folder.rstrip('/')}/")
    return visible(f"{where}{name}: {found.detail}")


def _table() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    return table


# ---- sharing
# `mmpr push`: a build onto the Hugging Face hub.


@app.command(rich_help_panel=HAND_ON)
def push(
    out: Annotated[str, typer.Argument(metavar="OUT", help="A build's folder.")],
    repo_id: Annotated[str, typer.Argument(metavar="REPO", help="NAME/DATASET on the hub.")],
    private: Annotated[bool, typer.Option("--private", help="Make it private if new.")] = False,
    rollouts: Annotated[
        bool, typer.Option("--rollouts", help="Send the rollouts too: all responses.")
    ] = False,
    revision: Annotated[str | None, typer.Option(help="Branch to commit to.")] = None,
    message: Annotated[str | None, typer.Option(help="Commit message.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be sent.")
    ] = False,
) -> None:
    """Upload pairs, drops, data card and report to the Hugging Face hub.

    [dim]Examples:[/]

      mmpr push out/run-1 me/my-pairs --private --dry-run

      mmpr push out/run-1 me/my-pairs --rollouts
    """
    from mmpr_builder import push as sending

    if dry_run:
        files = sending.uploads(out, rollouts=rollouts)
        table = Table("would be sent", "bytes", box=None, pad_edge=False)
        for file in files:
            table.add_row(escape(file.path), f"{file.size:,}")
        table.add_row(f"{len(files)} files", f"{sum(file.size for file in files):,}")
        console.print(table)
        return
    url = sending.push(
        out, repo_id, private=private, rollouts=rollouts, revision=revision, message=message
    )
    console.print(f"sent: {escape(url)}")
