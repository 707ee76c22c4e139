"""`mmpr export | import | lint | push`: into trainers' formats and back, checks, the hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from mmpr_builder.cli.app import (
    EXIT_LINT,
    HAND_ON,
    JsonFile,
    Out,
    argument,
    columns,
    command,
    config_of,
    console,
    entry,
    facts,
    option,
    say,
    switch,
)

if TYPE_CHECKING:
    from mmpr_builder.config import Config
    from mmpr_builder.export import Exported, ExportOptions, Format
    from mmpr_builder.export.importing import Imported
    from mmpr_builder.export.lint import LintResult
    from mmpr_builder.records import Rollout

TRAINERS = (
    *("internvl", "nemo-rl", "verl", "ms-swift", "llama-factory", "trl"),
    *("sft", "kto", "grpo", "prm", "stepwise"),
)
"""The keys of `export.FORMATS`, which takes long to import."""

_ENTRIES = 12  # A release has over a hundred; export.json and import.json list all.
_KNOWN = {"rows": "its rows say it", "name": "by its name", "default": "by --kind"}
_ONE_OF = f"{', '.join(TRAINERS[:-1])} or {TRAINERS[-1]}."


def _complete_trainers(incomplete: str) -> list[str]:
    return [name for name in TRAINERS if name.startswith(incomplete)]


Paths = Annotated[list[str], argument("OUT... DEST", "Builds, and a new folder for the export.")]
Names = Annotated[str, option("NAMES", "Only these, separated by commas.", show_default=False)]
Words = list[str] | None


@command(HAND_ON, "export")
def export_pairs(
    paths: Paths,
    to: Annotated[str, option("TRAINER", _ONE_OF, "--to", autocompletion=_complete_trainers)],
    kinds: Names = "",
    sources: Names = "",
    repeat_time: Annotated[
        Words, option("N", "internvl: N, or NAME=N for an entry, source or kind; repeatable.")
    ] = None,
    max_dynamic_patch: Annotated[
        Words, option("N", "internvl: image tiles, like --repeat-time.")
    ] = None,
    mount: Annotated[
        str | None,
        option("FOLDER", "internvl, ms-swift: where the trainer will find DEST; default: there."),
    ] = None,
    pass_rate: Annotated[tuple[float, float], option("LOW HIGH", "verl, grpo: queries within.")] = (
        0.2,
        0.8,
    ),
    per_question: Annotated[
        int, option("N", "sft: most responses of a question, unlike each other.", min=1)
    ] = 1,
    validation: Annotated[
        float, option("SHARE", "Keep apart the rows of this share of the pictures, say 0.01.")
    ] = 0.0,
    max_pairs: Annotated[
        int | None, option("N", "Draw so many rows, evenly over sources and kinds.", min=1)
    ] = None,
    control: Annotated[
        bool, switch("--control", "As many rows of the same rollouts, without quality filters.")
    ] = False,
    model: Annotated[
        str | None,
        option("FOLDER", "Leave out what this model (or demo) cannot read: tokens, lengths."),
    ] = None,
    context: Annotated[
        int | None, option("TOKENS", "Longest sequence; default: the model's.", min=1)
    ] = None,
    overwrite: Annotated[bool, switch("--overwrite", "Replace an export that is there.")] = False,
) -> None:
    """Write the pairs of builds in a trainer's format, or what another stage of training takes.

    Rows that the trainer could not use, or would misread, are left out, counted and listed with
    the reason in DEST/drops.jsonl.

    $ mmpr export out/run-1 out/run-2 export/mine --to internvl
    """
    from mmpr_builder import export
    from mmpr_builder.errors import ConfigError

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
        per_question=per_question,
        validation=validation,
        max_pairs=max_pairs,
        control=control,
        model=_model(model, context),
        context=context,
        overwrite=overwrite,
    )
    if form.rows is not None or control:
        done = _export_rollouts(outs, form, dest, options)
    else:
        done = export.write_export(outs, form, dest, options)
    console.print(facts(_exported(form, done)))


@command(HAND_ON, "import")
def import_release(
    words: Annotated[list[str], argument("FILE out=DIR", "A meta.json, or one JSONL file.")],
    root: Annotated[
        str | None,
        option("FOLDER", "Where relative paths start; default: beside the file, or one above."),
    ] = None,
    roots: Annotated[
        Words, option("FOLDER", "Further folder whose images rows may name; repeatable.")
    ] = None,
    allow: Annotated[
        Words, option("URL", "Image URLs that rows may name: https, s3, … or their beginning.")
    ] = None,
    source: Annotated[
        str | None, option("NAME", "Source name of rows that have none; default: the entry's.")
    ] = None,
    kind: Annotated[
        str, option("KIND", "Kind of rows whose entry does not name one.")
    ] = "correctness",
    overwrite: Annotated[bool, switch("--overwrite", "Replace an import that is there.")] = False,
) -> None:
    """Read an MMPR release (meta.json, JSON lines, images) into pairs of our schema.

    Old and new pairs then mix: `load_pairs([A, B])`. Rows that are no pairs go to DIR/drops.

    $ mmpr import MMPR-v1.2/meta.json out=out/mmpr
    """
    from mmpr_builder.errors import ConfigError
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
    console.print(facts(_imported(done)))


@command(HAND_ON)
def lint(
    out: Annotated[str, argument("OUT", "A build's folder, or an export's.")],
    trainer: Annotated[str, option("TRAINER", _ONE_OF, "--for", autocompletion=_complete_trainers)],
    model: Annotated[
        str | None, option("FOLDER", "Check lengths and special tokens by this model (or demo).")
    ] = None,
    context: Annotated[
        int | None, option("TOKENS", "Longest sequence; default: the model's.", min=1)
    ] = None,
    max_pixels: Annotated[
        int, option("N", "An image with more pixels is a finding.", min=1)
    ] = 16_777_216,
    json_file: JsonFile = None,
) -> None:
    """Say what would go wrong in training, before it does.

    Exit code 0: nothing; 5: findings.

    $ mmpr lint out/run-1 --for trl --model models/my-vlm
    """
    from mmpr_builder.export.lint import lint_folder

    form = _format("--for", trainer)
    name = _model(model, context)
    result = lint_folder(
        out, form, model=name, context=context, max_pixels=max_pixels, json_file=json_file
    )
    _show_lint(result, out)
    if json_file is not None:
        say(f"wrote {json_file}")
    if result.counts:
        raise typer.Exit(EXIT_LINT)


@command(HAND_ON)
def push(
    out: Out,
    repo_id: Annotated[str, argument("REPO", "NAME/DATASET on the hub.")],
    private: Annotated[bool, switch("--private", "Make it private if new.")] = False,
    rollouts: Annotated[bool, switch("--rollouts", "Send all responses, too.")] = False,
    revision: Annotated[str | None, option("BRANCH", "Branch to commit to.")] = None,
    message: Annotated[str | None, option("TEXT", "Commit message.")] = None,
    dry_run: Annotated[bool, switch("--dry-run", "Only list what would be sent.")] = False,
) -> None:
    """Upload pairs, drops, data card and report to the Hugging Face hub.

    $ mmpr push out/run-1 me/my-pairs --private --dry-run
    $ mmpr push out/run-1 me/my-pairs --rollouts
    """
    from mmpr_builder import push as sending

    if dry_run:
        files = sending.uploads(out, rollouts=rollouts)
        rows = [(path, f"{size:,}") for path, size in files.items()]
        total = (f"{len(files)} files", f"{sum(files.values()):,}")
        console.print(columns(("would be sent", "bytes"), [*rows, total]))
        return
    url = sending.push(
        out, repo_id, private=private, rollouts=rollouts, revision=revision, message=message
    )
    say(f"sent: {url}")


def _model(model: str | None, context: int | None) -> str | None:
    from mmpr_builder.errors import ConfigError

    if context is not None and model is None:
        raise ConfigError("--context needs --model: lengths are counted by its own tokenizer")
    if model == "demo":
        from mmpr_builder.demo import model_path

        return str(model_path())
    return model


def _format(option: str, name: str) -> Format:
    from mmpr_builder.export import FORMATS
    from mmpr_builder.export.options import check_names

    check_names(option, (name,), FORMATS)
    return FORMATS[name]


def _names(words: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in words.split(",") if word.strip())


def _export_rollouts(outs: list[str], form: Format, dest: str, options: ExportOptions) -> Exported:
    from mmpr_builder import export
    from mmpr_builder.errors import InputError
    from mmpr_builder.library import read_rollouts
    from mmpr_builder.runs.pooling import pooled_rollouts
    from mmpr_builder.scoring import Judge

    configs = [config_of(out) for out in outs]
    for out, config in zip(outs, configs, strict=True):
        if config.scoring != configs[0].scoring:
            raise InputError(
                f"{out} was judged by other settings (scoring) than {outs[0]}: export them apart"
            )
        if not config.rollouts:
            read_rollouts(out)  # Raises where there are none.

    def rollouts() -> Iterator[tuple[Rollout, Config]]:
        for out, config in zip(outs, configs, strict=True):
            found = pooled_rollouts(config) if config.rollouts else read_rollouts(out)
            yield from ((rollout, config) for rollout in found)

    with Judge(configs[0].scoring) as judge:
        return export.write_export(outs, form, dest, options, rollouts, judge)


def _exported(form: Format, done: Exported) -> Iterator[tuple[str, str]]:
    images = f", {done.images:,} image files" if done.images else ""
    yield "written", f"{done.rows:,} rows for {form.name}{images}"
    entries = {name: f"{rows:,}" for name, rows in done.entries.items()}
    yield from _listed(entries, done, "export.json", "drops.jsonl")
    yield from (("note", warning) for warning in done.warnings)
    yield "train on it", f"{done.folder}/README.md"


def _imported(done: Imported) -> Iterator[tuple[str, str]]:
    yield "pairs", f"{done.rows:,} from {done.images:,} images"
    entries = {name: f"{found} ({_KNOWN[how]})" for name, (found, how) in done.kinds.items()}
    yield from _listed(entries, done, "import.json", "drops")
    yield "load them", f'mmpr_builder.load_pairs("{done.folder}")'


def _listed(
    entries: Mapping[str, str], done: Exported | Imported, mark: str, drops: str
) -> Iterator[tuple[str, str]]:
    for name, said in list(entries.items())[:_ENTRIES]:
        yield f"  {name}", said
    if len(entries) > _ENTRIES:
        yield "  …", f"{len(entries) - _ENTRIES:,} more in {done.folder}/{mark}"
    if done.drops:
        yield "left out", f"{sum(done.drops.values()):,}, listed in {done.folder}/{drops}"
    for reason, count in done.drops.items():
        yield f"  {reason}", f"{count:,}"


def _show_lint(result: LintResult, folder: str) -> None:
    unchecked = "" if result.lengths else "; lengths were not checked: give --model"
    rows = f"{result.rows:,} rows, {result.images:,} images{unchecked}"
    if not result.counts:
        say(f"nothing would go wrong in {result.trainer}: {rows}")
        return
    for reason, count in result.counts.items():
        examples = (
            f"{one.where.removeprefix(folder.rstrip('/') + '/')}"
            f"{f' ({one.id[:12]})' if one.id else ''}: {one.detail}"
            for one in result.examples[reason]
        )
        console.print(
            entry(reason, (f"{count:,} times", "yellow"), *examples, result.remedies[reason])
        )
    say(rows)
