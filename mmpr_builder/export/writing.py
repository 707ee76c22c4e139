"""Exports pairs: one pass over the shards, a writer per format, refused rows reported.

write_export(["out/demo"], FORMATS["internvl"], "export/demo", ExportOptions())
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from mmpr_builder import __version__
from mmpr_builder.errors import ConfigError, InputError, RowError
from mmpr_builder.export.destination import MARK, JsonlFiles, staged, write_json
from mmpr_builder.export.faults import Fault
from mmpr_builder.export.items import BadRow, Item, read_items
from mmpr_builder.export.options import ExportOptions, check_kinds
from mmpr_builder.io.stores import is_url
from mmpr_builder.output import pair_parts

DROPS = "drops.jsonl"


class Writer(Protocol):
    """Writes the files of one format into a folder that is being staged."""

    def add(self, item: Item) -> None:
        """Write one pair. Raises `RowError` where its images cannot be used."""

    def finish(self) -> dict[str, Any]:
        """Write what is left. Returns {"images": count, "entries": {name: rows}}."""


@dataclass(frozen=True, slots=True)
class Format:
    """A trainer's format: what its loader cannot read, and who writes it.

    `open_writer` gets the folder to write into, the folder as the trainer will see it, and the
    options. `options` names those options that mean something to it, beyond the common ones.
    """

    name: str
    faults: Callable[[Item], Iterator[Fault]]
    open_writer: Callable[[Path, Path, ExportOptions], Writer] | None
    how: str
    options: tuple[str, ...] = ()
    whole_rows: bool = False


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote. `drops` counts refused rows by reason."""

    folder: str
    rows: int
    images: int
    entries: dict[str, int]
    drops: dict[str, int]


def write_export(outs: Sequence[str], form: Format, dest: str, options: ExportOptions) -> Exported:
    """Write the pairs of builds into a new folder `dest`; the same input gives the same bytes.

    A row that the trainer would misread or stumble over is left out and reported in
    `drops.jsonl`. Raises `SetupError` before anything is there: bad options, an occupied folder,
    no pairs, or none that the trainer can use.
    """
    check_options(form, options)
    check_kinds(options.kinds)
    parts = [part for out in outs for part in pair_parts(out)]
    pairs = read_items(parts, kinds=options.kinds, sources=options.sources, whole=form.whole_rows)
    with staged(dest, overwrite=options.overwrite) as (folder, home):
        home = Path(options.mount) if options.mount else home
        assert form.open_writer is not None
        writer = form.open_writer(folder, home, options)
        drops = JsonlFiles(folder)
        reasons: Counter[str] = Counter()
        rows = 0
        seen: set[str] = set()
        for item in pairs:
            if isinstance(item, Item):
                seen.add(item.source)
            refused = _write(writer, form, item)
            if refused is None:
                rows += 1
            else:
                reasons[refused.reason] += 1
                drops.add(DROPS, _drop(item, refused))
        drops.flush()
        _check_result(outs, form, rows, reasons, seen, options)
        made = writer.finish()
        found = Exported(dest, rows, made["images"], made["entries"], dict(reasons.most_common()))
        finish_folder(folder, home, form, found, outs, options)
    return found


def finish_folder(
    folder: Path,
    home: Path,
    form: Format,
    found: Exported,
    outs: Sequence[str],
    options: ExportOptions,
) -> None:
    """Write README.md and, last of all, the mark that makes the folder an export."""
    (folder / "README.md").write_text(_readme(form, home, found), encoding="utf-8")
    chosen = {name: value for name, value in asdict(options).items() if name != "overwrite"}
    counts = asdict(found)
    del counts["folder"]
    write_json(
        folder / MARK,
        {
            "format": form.name,
            **counts,
            "from": list(outs),
            "options": chosen,
            "builder": f"mmpr_builder {__version__}",
        },
    )


def check_options(form: Format, options: ExportOptions) -> None:
    """Raises `ConfigError` for an option that the format's loader would ignore or misread."""
    if options.mount is not None and is_url(options.mount):
        raise ConfigError(f"--mount {options.mount}: loaders open paths: give a folder's path")
    default = ExportOptions()
    for name in ("kinds", "repeat_time", "max_dynamic_patch", "mount", "pass_rate"):
        given = getattr(options, name) != getattr(default, name)
        allowed = name in form.options or (name == "kinds" and form.open_writer is not None)
        if given and not allowed:
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag} means nothing to {form.name}: leave it out")


def _write(writer: Writer, form: Format, item: Item | BadRow) -> Fault | None:
    if isinstance(item, BadRow):
        return Fault(item.reason, item.detail)
    fault = next(form.faults(item), None)
    if fault is not None:
        return fault
    try:
        writer.add(item)
    except RowError as error:
        return Fault(error.reason, error.detail)
    return None


def _drop(item: Item | BadRow, fault: Fault) -> dict[str, str]:
    return {"row": item.where, "id": item.id, "reason": fault.reason, "detail": fault.detail}


def _check_result(
    outs: Sequence[str],
    form: Format,
    rows: int,
    reasons: Counter[str],
    seen: Iterable[str],
    options: ExportOptions,
) -> None:
    unknown = sorted(set(options.sources) - set(seen))
    if unknown:
        raise ConfigError(_unknown_source(outs, unknown[0], options))
    if not rows:
        why = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        asked = options.kinds or options.sources
        nobody = "none of the kinds and sources asked for" if asked else "there are no pairs"
        raise InputError(
            f"{', '.join(outs)}: no pair that {form.name} can use"
            f" ({why or nobody}): nothing was written"
        )


def _unknown_source(outs: Sequence[str], name: str, options: ExportOptions) -> str:
    import pyarrow.compute as pc

    from mmpr_builder.io import tables

    there: set[str] = set()
    for out in outs:
        for part in pair_parts(out):
            there.update(pc.unique(tables.read_parquet(part, ["source"])["source"]).to_pylist())
    names = sorted(source for source in there if source)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    hint = f" (the nearest is {near[0]!r})" if near else ""
    kinds = f" of kinds {', '.join(options.kinds)}" if options.kinds else ""
    return f"--sources: no pair{kinds} from {name!r}{hint}: there are {', '.join(names[:20])}"


def _readme(form: Format, home: Path, found: Exported) -> str:
    lines = [
        f"# Training data for {form.name}",
        "",
        f"{found.rows:,} rows, {found.images:,} images, written by mmpr_builder {__version__}.",
    ]
    if found.drops:
        lines += ["", f"Left out (see {DROPS}):", ""]
        lines += [f"- `{reason}`: {count:,}" for reason, count in found.drops.items()]
    return "\n".join([*lines, "", form.how.replace("DEST", str(home)).strip(), ""])
