"""Exports pairs in one pass over the shards; each format has a writer, refused rows are listed.

write_export(["out/demo"], FORMATS["internvl"], "export/demo", ExportOptions())
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from mmpr_builder import __version__
from mmpr_builder.config import Config, QualityConfig
from mmpr_builder.errors import ConfigError, InputError, RowError
from mmpr_builder.export.choice import Draw, split_of
from mmpr_builder.export.destination import MARK, JsonlFiles, staged, write_json
from mmpr_builder.export.faults import Fault
from mmpr_builder.export.items import BadRow, Item, item_of, read_items
from mmpr_builder.export.lint_checks import RowChecks
from mmpr_builder.export.options import KINDS, ExportOptions, check_names
from mmpr_builder.io.stores import is_url
from mmpr_builder.io.tables import column_names
from mmpr_builder.output import make_block, pair_parts, read_rows
from mmpr_builder.output.rows import REFERENCE
from mmpr_builder.pairing import Scores, judge_and_pair, judge_responses, settled
from mmpr_builder.quality.suspects import SOLVED_BLIND, SUSPECT_TRUTH
from mmpr_builder.records import Rollout, Verdict

DROPS = "drops.jsonl"
_HOW = Path(__file__).parent / "how"

_OF_SOME = ("kinds", "repeat_time", "max_dynamic_patch", "mount", "pass_rate", "per_question")


class Writer(Protocol):
    """Writes the files of one format into a folder that is being staged."""

    def add(self, item: Item) -> None:
        """Write one pair. Raises `RowError` where its images cannot be used."""

    def finish(self) -> dict[str, Any]:
        """Write what is left. Returns {"images": count, "entries": {name: rows}}, and
        "warnings" where the loader will not take all of it."""


Judgeable = tuple[Rollout, Config]
"""A rollout, and the settings that it was paired with."""
Rows = Callable[[Rollout, Sequence[Verdict], Config, ExportOptions], Iterator[Item]]
"""What a format makes of a judged rollout. Raises `RowError` where that is nothing."""


@dataclass(frozen=True, slots=True)
class Format:
    """A trainer's format: what its loader cannot read, and what writes it.

    `open_writer` gets the folder to write into, the folder as the trainer will see it, and the
    options. `how` says how to train on it; that of ours is in `how/NAME.md`. `options` names the
    options that mean something to it, beyond the common ones. `rows` makes them of a rollout;
    without it they are pairs. `queries`: rows without responses.
    """

    name: str
    faults: Callable[[Item], Iterator[Fault]]
    open_writer: Callable[[Path, Path, ExportOptions], Writer]
    how: str = ""
    options: tuple[str, ...] = ()
    queries: bool = False
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
    rollouts: Callable[[], Iterable[Judgeable]] | None = None,
    judge: Scores | None = None,
) -> Exported:
    """Write the pairs of builds into a new folder `dest`; the same input gives the same bytes.

    A row that the trainer would misread or stumble over is left out and reported in
    `drops.jsonl`. Formats that have `rows`, and `control`, need the `rollouts` of the builds, and a
    `judge` that judges them as their pairs were; they are read twice where a number of rows is
    drawn. Raises `SetupError` before anything is there: bad options, an occupied folder, no pairs,
    or none that the trainer can use.
    """
    _check_options(form, options, rollouts is not None)
    parts = [] if form.rows else [part for out in outs for part in pair_parts(out)]
    referenced = any(REFERENCE[0] in column_names(part) for part in parts)
    options = replace(options, referenced=referenced)
    sources: set[str] = set()

    def items(how: ExportOptions) -> Iterator[Item | BadRow]:
        if rollouts is None or judge is None or not (form.rows or how.control):
            return read_items(parts, kinds=how.kinds, sources=how.sources)
        return _made_of(rollouts(), form, judge, how, sources)

    with staged(dest, overwrite=options.overwrite) as (folder, home):
        home = Path(options.mount) if options.mount else home
        checks = RowChecks(form.faults, model=options.model, context=options.context)
        writer = form.open_writer(folder, home, options)
        drops = JsonlFiles(folder)
        reasons: Counter[str] = Counter()
        sides: Counter[str] = Counter()
        seen: set[str] = set()
        draw = _draw(items, checks, options)
        for item, found in _checked(items(options), checks, options):
            seen.add(item.source)
            fault = found
            if fault is None and isinstance(item, Item):
                if draw is not None and not draw.takes(item):
                    continue
                try:
                    writer.add(item)
                    sides[item.split] += 1
                except RowError as error:
                    fault = Fault(error.reason, error.detail)
            if fault is not None:
                reasons[fault.reason] += 1
                drops.add(DROPS, {"row": item.where, "id": item.id, **fault._asdict()})
        drops.flush()
        if lacking := sorted(set(options.sources) - seen):
            known = sources or {row["source"] for row in read_rows(parts, ["source"])}
            check_names("--sources", lacking, sorted(filter(None, known)))
            raise ConfigError(f"--sources {lacking[0]!r}: it has no pair of these --kinds")
        rows = sides.total()
        if not rows:
            raise InputError(_nothing(outs, form, reasons, options))
        made = writer.finish()
        warnings = tuple(made.get("warnings", ()))
        if options.validation and rows in sides.values():
            all_for = max(sides, key=lambda side: sides[side])
            warnings += (f"all {rows:,} rows are for {all_for}: they have too few pictures",)
        left_out = dict(reasons.most_common())
        done = Exported(dest, rows, made["images"], made["entries"], left_out, warnings)
        (folder / "README.md").write_text(_readme(form, home, done), encoding="utf-8")
        said, how = asdict(done), asdict(options)
        del said["folder"], how["overwrite"], how["referenced"]
        mark = {"format": form.name, **said, "from": list(outs), "options": how}
        mark["builder"] = f"mmpr_builder {__version__}"
        write_json(folder / MARK, mark)  # Last: it makes the folder an export.
    return done


def _check_options(form: Format, options: ExportOptions, has_rollouts: bool) -> None:
    """Raises `ConfigError` for an option that the format's loader would ignore or misread."""
    check_names("--kinds", options.kinds, KINDS)
    if options.control and not has_rollouts:
        raise ConfigError("--control needs the rollouts of a build: a release has none")
    if options.mount is not None and is_url(options.mount):
        raise ConfigError(f"--mount {options.mount}: loaders open paths: give a folder's path")
    if not 0 <= options.validation < 1:
        raise ConfigError(f"--validation {options.validation}: give a share from 0 to below 1")
    low, high = options.pass_rate
    if not 0 <= low <= high <= 1:
        raise ConfigError(f"--pass-rate {low} {high}: give two numbers with 0 <= low <= high <= 1")
    default = ExportOptions()
    allowed = form.options if form.rows else ("kinds", *form.options)
    for name in _OF_SOME:
        if name not in allowed and getattr(options, name) != getattr(default, name):
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag} means nothing to {form.name}: leave it out")


def _made_of(
    rollouts: Iterable[Judgeable],
    form: Format,
    judge: Scores,
    options: ExportOptions,
    sources: set[str],
) -> Iterator[Item | BadRow]:
    """The rows, or the pairs, that rollouts give; adds the names of their sources."""
    for sampled, own in rollouts:
        rollout, config = settled(sampled, own, judge), own
        seed = rollout.seed
        sources.add(seed.source)
        if options.sources and seed.source not in options.sources:
            continue
        if options.control:  # Every control of `quality` is off.
            config = config.model_copy(update={"quality": QualityConfig()})
        try:
            if form.rows is None:
                yield from _pairs(rollout, config, judge, options)
            else:
                verdicts = _verdicts(rollout, config, judge)
                if any(response.with_image for response in rollout.responses):
                    _, judged = judge_responses(rollout, config, judge)
                    rollout = replace(rollout, responses=judged)
                yield from form.rows(rollout, verdicts, config, options)
        except RowError as error:
            yield BadRow(seed.origin, seed.id, error.reason, error.detail, seed.source)


def _pairs(
    rollout: Rollout, config: Config, judge: Scores, options: ExportOptions
) -> Iterator[Item]:
    block = make_block([(rollout, *judge_and_pair(rollout, config, judge))], config)
    for number, row in enumerate(block.rows.table().to_pylist()):
        if not options.kinds or row["kind"] in options.kinds:
            yield replace(item_of(f"{rollout.seed.origin}:{number}", row), row=row)
    for _, drop in block.drops:
        if drop.stage == "output":
            raise RowError(drop.reason, drop.detail)


def _verdicts(rollout: Rollout, config: Config, judge: Scores) -> Sequence[Verdict]:
    """Raises `RowError` where no verdict can be relied on."""
    if rollout.error is not None:
        raise RowError(*rollout.error)
    if not rollout.seed.has_truth:
        raise RowError("no_truth", "without a truth no response is right or wrong")
    verdicts, _, drops = judge_and_pair(rollout, config, judge)
    for drop in drops:
        if drop.reason in (SUSPECT_TRUTH, SOLVED_BLIND):
            raise RowError(drop.reason, drop.detail)
    return verdicts


def _checked(
    items: Iterable[Item | BadRow], checks: RowChecks, options: ExportOptions
) -> Iterator[tuple[Item | BadRow, Fault | None]]:
    """Each row, put on its side of the split, with its first fault."""
    for item, faults in checks.run(items):
        fault = next(iter(faults), None)
        if isinstance(item, Item) and fault is None and options.validation:
            side = split_of(item, options.validation)
            if side is None:
                fault = Fault("between_splits", "other rows show its pictures on both sides")
            else:
                yield replace(item, split=side), None
                continue
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
    if not options.control:
        return draw
    return Draw(usable(options), draw.counts.total(), draw.counts)


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
    images = f", {found.images:,} image files" if found.images else ""
    lines = [
        f"# Training data for {form.name}",
        "",
        f"{found.rows:,} rows{images}, written by mmpr_builder {__version__}.",
    ]
    if found.drops:
        lines += ["", f"Left out (see {DROPS}):", ""]
        lines += [f"- `{reason}`: {count:,}" for reason, count in found.drops.items()]
    lines += [line for warning in found.warnings for line in ("", f"Note: {warning}")]
    how = form.how or (_HOW / f"{form.name}.md").read_text(encoding="utf-8")
    return "\n".join([*lines, "", how.replace("DEST", str(home)).strip(), ""])
