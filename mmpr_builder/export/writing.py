"""Exports pairs in one pass over the shards; each format has a writer, refused rows are listed.

write_export(["out/demo"], FORMATS["internvl"], "export/demo", ExportOptions())
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from mmpr_builder import __version__
from mmpr_builder.config import Config
from mmpr_builder.errors import ConfigError, InputError, RowError
from mmpr_builder.export.choice import Draw, split_of
from mmpr_builder.export.destination import MARK, JsonlFiles, staged, write_json
from mmpr_builder.export.faults import Fault
from mmpr_builder.export.items import BadRow, Item, read_items
from mmpr_builder.export.lint_checks import RowChecks
from mmpr_builder.export.options import KINDS, ExportOptions, check_names
from mmpr_builder.io.stores import is_url
from mmpr_builder.output import pair_parts, read_rows
from mmpr_builder.records import Rollout, Verdict

DROPS = "drops.jsonl"

_OF_SOME = ("repeat_time", "max_dynamic_patch", "mount", "pass_rate", "per_question")
_BATCH = 64  # Rows checked together: images of a few hundred KB each.


class Writer(Protocol):
    """Writes the files of one format into a folder that is being staged."""

    def add(self, item: Item) -> None:
        """Write one pair. Raises `RowError` where its images cannot be used."""

    def finish(self) -> dict[str, Any]:
        """Write what is left. Returns {"images": count, "entries": {name: rows}}, and
        "warnings" where the loader will not take all of it."""


Rows = Callable[[Rollout, Sequence[Verdict], Config, ExportOptions], Iterator[Item]]
"""What a format makes of a judged rollout. Raises `RowError` where that is nothing."""


@dataclass(frozen=True, slots=True)
class Format:
    """A trainer's format: what its loader cannot read, and what writes it.

    `open_writer` gets the folder to write into, the folder as the trainer will see it, and the
    options. `options` names the options that mean something to it, beyond the common ones. `rows`
    makes them of a rollout; without it they are pairs. `queries`: rows without responses.
    `whole_rows`: it takes all columns.
    """

    name: str
    faults: Callable[[Item], Iterator[Fault]]
    open_writer: Callable[[Path, Path, ExportOptions], Writer]
    how: str
    options: tuple[str, ...] = ()
    queries: bool = False
    whole_rows: bool = False
    rows: Rows | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote. `drops` counts refused rows by reason; `warnings` are sentences."""

    folder: str
    rows: int
    images: int
    entries: dict[str, int]
    drops: dict[str, int]
    warnings: tuple[str, ...] = ()


def write_export(
    outs: Sequence[str],
    form: Format,
    dest: str,
    options: ExportOptions,
    unfiltered: Callable[[], Iterator[Item | BadRow]] | None = None,
) -> Exported:
    """Write the pairs of builds into a new folder `dest`; the same input gives the same bytes.

    A row that the trainer would misread or stumble over is left out and reported in
    `drops.jsonl`. `unfiltered` gives the pairs of the same rollouts without quality filters, which
    `control` needs. Raises `SetupError` before anything is there: bad options, an occupied folder,
    no pairs, or none that the trainer can use.
    """
    check_names("--kinds", options.kinds, KINDS)
    if options.control and unfiltered is None:
        raise ConfigError("--control needs the rollouts of a build: a release has none")
    parts = [part for out in outs for part in pair_parts(out)]

    def pairs(how: ExportOptions) -> Iterator[Item | BadRow]:
        if how.control and unfiltered is not None:
            return (one for one in unfiltered() if _is_asked_for(one, how))
        return read_items(parts, kinds=how.kinds, sources=how.sources, whole=form.whole_rows)

    def sources() -> set[str]:
        return {row["source"] for row in read_rows(parts, ["source"])}

    return write_items(outs, form, pairs, sources, dest, options)


def write_items(
    outs: Sequence[str],
    form: Format,
    items: Callable[[ExportOptions], Iterator[Item | BadRow]],
    sources: Callable[[], set[str]],
    dest: str,
    options: ExportOptions,
) -> Exported:
    """Write what the trainer can use of `items`, which lie in `outs`, into a new folder `dest`.

    `sources` gives the names of all sources that are in `outs`, once `items` are read. They are
    read once, and before that where a number of rows is to be drawn from all of them.
    """
    check_options(form, options)
    with staged(dest, overwrite=options.overwrite) as (folder, home):
        home = Path(options.mount) if options.mount else home
        checks = RowChecks(form.faults, model=options.model, context=options.context)
        writer = form.open_writer(folder, home, options)
        drops = JsonlFiles(folder)
        reasons: Counter[str] = Counter()
        sides: Counter[str] = Counter()
        seen: set[str] = set()
        draw = _draw(items, checks, options)
        for item, found_fault in _checked(items(options), checks, options):
            seen.add(item.source)
            fault = found_fault
            if fault is None and isinstance(item, Item):
                if draw is not None and not draw.takes(item):
                    continue
                fault = _write(writer, item)
                sides[item.split] += fault is None
            if fault is not None:
                reasons[fault.reason] += 1
                drops.add(DROPS, {"row": item.where, "id": item.id, **fault._asdict()})
        drops.flush()
        if lacking := sorted(set(options.sources) - seen):
            check_names("--sources", lacking, sorted(filter(None, sources())))
            raise ConfigError(f"--sources {lacking[0]!r}: it has no pair of these --kinds")
        rows = sides.total()
        if not rows:
            raise InputError(_nothing(outs, form, reasons, options))
        made = writer.finish()
        left_out = dict(reasons.most_common())
        warnings = tuple(made.get("warnings", ()))
        if options.validation and rows in sides.values():
            all_for = max(sides, key=lambda side: sides[side])
            warnings += (f"all {rows:,} rows are for {all_for}: they have too few pictures",)
        found = Exported(dest, rows, made["images"], made["entries"], left_out, warnings)
        (folder / "README.md").write_text(_readme(form, home, found), encoding="utf-8")
        mark = {
            "format": form.name,
            **_without(asdict(found), "folder"),
            "from": list(outs),
            "options": _without(asdict(options), "overwrite"),
            "builder": f"mmpr_builder {__version__}",
        }
        write_json(folder / MARK, mark)  # Last: it makes the folder an export.
    return found


def _without(table: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != name}


def check_options(form: Format, options: ExportOptions) -> None:
    """Raises `ConfigError` for an option that the format's loader would ignore or misread."""
    if options.mount is not None and is_url(options.mount):
        raise ConfigError(f"--mount {options.mount}: loaders open paths: give a folder's path")
    default = ExportOptions()
    if not 0 <= options.validation < 1:
        raise ConfigError(f"--validation {options.validation}: give a share from 0 to below 1")
    for name in ("kinds", *_OF_SOME):
        given = getattr(options, name) != getattr(default, name)
        allowed = name in form.options or (name == "kinds" and form.rows is None)
        if given and not allowed:
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag} means nothing to {form.name}: leave it out")


def _checked(
    items: Iterable[Item | BadRow], checks: RowChecks, options: ExportOptions
) -> Iterator[tuple[Item | BadRow, Fault | None]]:
    """Each row, put on its side of the split, with its first fault."""
    left = iter(items)
    while batch := list(islice(left, _BATCH)):
        of_row = iter(checks.faults([item for item in batch if isinstance(item, Item)]))
        for item in batch:
            if isinstance(item, BadRow):
                yield item, Fault(item.reason, item.detail)
                continue
            fault = next(iter(next(of_row)), None)
            if fault is None and options.validation:
                side = split_of(item, options.validation)
                if side is None:
                    fault = Fault("between_splits", "other rows show its pictures on both sides")
                else:
                    item = replace(item, split=side)
            yield item, fault


def _draw(
    items: Callable[[ExportOptions], Iterator[Item | BadRow]],
    checks: RowChecks,
    options: ExportOptions,
) -> Draw | None:
    """Which rows to take where not all are wanted."""
    if options.max_pairs is None and not options.control:
        return None

    def usable(how: ExportOptions) -> Iterator[Item]:
        for item, fault in _checked(items(how), checks, how):
            if fault is None and isinstance(item, Item):
                yield item

    draw = Draw(usable(replace(options, control=False)), options.max_pairs)
    return draw.again(usable(options)) if options.control else draw


def _is_asked_for(item: Item | BadRow, options: ExportOptions) -> bool:
    if options.sources and item.source not in options.sources:
        return False
    return isinstance(item, BadRow) or not options.kinds or item.kind in options.kinds


def _write(writer: Writer, item: Item) -> Fault | None:
    try:
        writer.add(item)
    except RowError as error:
        return Fault(error.reason, error.detail)
    return None


def _nothing(
    outs: Sequence[str], form: Format, reasons: Counter[str], options: ExportOptions
) -> str:
    why = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    if not why:
        asked = options.kinds or options.sources
        there = "pairs" if form.rows is None else "rollouts"
        why = "none of the kinds and sources asked for" if asked else f"there are no {there}"
    what = "query" if form.queries else "pair" if form.rows is None else "response"
    return f"{', '.join(outs)}: no {what} that {form.name} can use ({why}): nothing was written"


def _readme(form: Format, home: Path, found: Exported) -> str:
    lines = [
        f"# Training data for {form.name}",
        "",
        f"{found.rows:,} rows, {found.images:,} images, written by mmpr_builder {__version__}.",
    ]
    if found.drops:
        lines += ["", f"Left out (see {DROPS}):", ""]
        lines += [f"- `{reason}`: {count:,}" for reason, count in found.drops.items()]
    lines += [line for warning in found.warnings for line in ("", f"Note: {warning}")]
    return "\n".join([*lines, "", form.how.replace("DEST", str(home)).strip(), ""])
