"""Says before training what would go wrong in it.

    lint_folder("out/demo", FORMATS["trl"], model="…/model")
        ->  too_long 3, placeholder_in_response 1, …, each with its row and the remedy

A build's pairs are read some rows at a time, images are opened once each, and findings are written
as they come: memory does not grow with the number of rows.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

from mmpr_builder.errors import InputError
from mmpr_builder.escaping import json_text
from mmpr_builder.export.faults import REMEDIES
from mmpr_builder.export.items import BadRow, Item, read_items
from mmpr_builder.export.lint_checks import RowChecks
from mmpr_builder.export.readback import read_export
from mmpr_builder.export.writing import Format
from mmpr_builder.io import stores, tables
from mmpr_builder.output import pair_parts

_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class LintResult:
    """`counts`, `examples` (the first few) and `remedies` by reason; the commonest first.

    A finding is one fault at one place, `FILE:ROW`; rows of Parquet count from 0, of JSONL from 1.
    """

    trainer: str
    rows: int
    images: int
    lengths: bool
    """Whether lengths were checked, which takes a model."""
    counts: dict[str, int]
    examples: dict[str, list[BadRow]]
    remedies: dict[str, str]


def lint_folder(
    out: str,
    form: Format,
    *,
    model: str | None = None,
    context: int | None = None,
    max_pixels: int = 2**24,
    json_file: Path | None = None,
) -> LintResult:
    """Check a build's pairs, or an export's files, for one trainer.

    `json_file` gets every finding. Raises `InputError` when there is nothing to check, the model
    cannot count tokens, or `json_file` cannot be a file.
    """
    if json_file is not None:
        check_place(json_file)
    checks = RowChecks(form.faults, model=model, context=context, max_pixels=max_pixels)
    counts: Counter[str] = Counter()
    examples: dict[str, list[BadRow]] = {}
    rows = 0
    with tempfile.TemporaryFile("w+", encoding="utf-8") as every:
        for item, faults in checks.run(_read(out, form)):
            rows += isinstance(item, Item)
            for fault in faults:
                counts[fault.reason] += 1
                some = examples.setdefault(fault.reason, [])
                if len(some) < _EXAMPLES:
                    some.append(BadRow(item.where, item.id, *fault))
                told = {"where": item.where, "id": item.id, **fault._asdict()}
                every.write(json_text(told) + "\n")
        if not rows and not counts:
            raise InputError(f"{out}: no rows to check")
        ordered = dict(counts.most_common())
        remedies = {reason: REMEDIES[reason] for reason in ordered}
        lengths, images = checks.counter is not None, len(checks.images)
        result = LintResult(form.name, rows, images, lengths, ordered, examples, remedies)
        if json_file is not None:
            _write_json(json_file, out, result, every)
    return result


def check_place(path: Path) -> None:
    """Raise `InputError` when `--json` names no possible file: before hours of checking."""
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not above.is_dir():
        raise InputError(f"--json {path}: no file can be there: give the name of a new file")


def _read(out: str, form: Format) -> Iterator[Item | BadRow]:
    """The rows of a build's pairs, else those of an export in the trainer's own files."""
    try:
        parts = pair_parts(out)
    except InputError:
        if form.name == "trl" or not Path(out).is_dir():
            raise
        yield from read_export(out, form.name)
        return
    if form.name == "verl" and (Path(out) / "export.json").exists():
        yield from read_export(out, form.name)
        return
    for part, names in tables.other_schemas(parts):  # No loader takes them together.
        detail = f"differs from {parts[0]} in {', '.join(names) or 'their order'}"
        yield BadRow(part, "", "mixed_schema", detail)
    for item in read_items(parts):
        # verl takes only the query of a pair.
        if isinstance(item, Item) and form.queries:
            yield replace(item, chosen=None, rejected=None)
        else:
            yield item


def _write_json(path: Path, out: str, result: LintResult, every: IO[str]) -> None:
    """One object; its list of findings is copied line by line."""
    head = {"folder": out, **asdict(result)}
    del head["examples"]

    def write(place: Path) -> None:
        every.seek(0)
        with place.open("w", encoding="utf-8") as file:
            file.write(json.dumps(head, indent=1, ensure_ascii=False)[:-2] + ',\n "findings": [')
            for number, line in enumerate(every):
                file.write((",\n  " if number else "\n  ") + line.rstrip("\n"))
            file.write("\n ]\n}\n" if result.counts else "]\n}\n")

    stores.publish(write, path)
