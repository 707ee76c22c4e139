"""`mmpr audit`: truths against themselves, the scorer against labels, samples against truths."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mmpr_builder.cli.app import (
    EXIT_FINDINGS,
    HAND_ON,
    app,
    be_offline_safe,
    console,
    read_settings,
)
from mmpr_builder.config import Config, find_shipped

if TYPE_CHECKING:
    from mmpr_builder.audit import LabelledCase, SeedAudit, SuspectTruth
    from mmpr_builder.records import Verdict


# ---- findings
# What `mmpr audit` shows: tables of truths, of a labelled file, and of suspect truths.


if TYPE_CHECKING:
    from mmpr_builder.audit import LabelledCase, Rate, SeedAudit, SuspectTruth
    from mmpr_builder.progress import Progress
    from mmpr_builder.records import Rollout, Verdict

    Judged = Sequence[tuple[LabelledCase, Verdict]]

Item = TypeVar("Item")


@dataclass
class Seen:
    """Counts the rollouts that were read."""

    seeds: int = 0
    with_truth: int = 0

    def reading(self, parts: Sequence[str]) -> Iterator[Rollout]:
        """All rollouts of the parts in order, one part in memory at a time."""
        from mmpr_builder.io.tables import read_parquet, rollouts_from_table

        for uri in parts:
            for rollout in rollouts_from_table(read_parquet(uri)):
                self.seeds += 1
                self.with_truth += rollout.seed.has_truth
                yield rollout


def counted(items: Iterable[Item], progress: Progress) -> Iterator[Item]:
    """The items as they are; the progress display counts them."""
    for number, item in enumerate(items, start=1):
        if number % 256 == 0:
            progress.update(done=number)
        yield item


def of_seeds(audit: SeedAudit, show: int) -> RenderableType:
    """The table by source and kind, then the first findings."""
    table = _table("source", "compared as", "seeds", "clean", "unusable", "doubtful")
    for (source, kind), row in sorted(audit.rows.items()):
        table.add_row(
            escape(source),
            kind,
            f"{row.seeds:,}",
            f"{row.clean:,}",
            _reasons(row.unusable),
            _reasons(row.doubtful),
        )
    lines: list[RenderableType] = [Text(), table, Text()]
    if audit.without_truth:
        lines.append(Text(f"{audit.without_truth:,} seeds without a truth"))
    if audit.unread:
        lines.append(Text(f"rows that are no seeds: {_reasons(audit.unread)}"))
    listed = sorted(audit.findings, key=lambda finding: not finding.unusable)
    if not listed:
        return Group(*lines, Text("nothing found", style="green"))
    found = _table("where", "truth", "finding", "remedy")
    for one in listed[:show]:
        style = "red" if one.unusable else "yellow"
        found.add_row(
            escape(one.origin or one.seed_id),
            escape(one.value[:60]),
            f"[{style}]{one.reason}[/] {escape(one.detail)}",
            escape(one.remedy),
        )
    return Group(*lines, found, _rest(len(listed), show))


def of_labels(judged: Judged, wrong: Judged, show: int) -> RenderableType:
    """Label against outcome, the rates by kind, then the first disagreements."""
    from mmpr_builder.audit import confusion

    counts = confusion(judged).counts
    outcomes = ("correct", "incorrect", "no_answer", "undecided")
    table = _table("label", *outcomes)
    for label in sorted({label for label, _ in counts}):
        table.add_row(label, *(f"{counts.get((label, outcome), 0):,}" for outcome in outcomes))
    kinds = _table("kind", "cases", "called right, and is not", "right, and missed")
    names = sorted({case.kind for case, _ in judged})
    for name in names if len(names) > 1 else []:
        _rate_row(kinds, name, [item for item in judged if item[0].kind == name])
    _rate_row(kinds, "all", judged)
    lines: list[RenderableType] = [Text(), table, Text(), kinds, Text()]
    if not wrong:
        return Group(*lines, Text("no disagreement", style="green"))
    found = _table("case", "truth", "said", "label", "verdict")
    for case, verdict in wrong[:show]:
        found.add_row(
            escape(case.id),
            escape(" | ".join(case.truths)[:60]),
            escape(_shown(verdict.answer if verdict.answer is not None else case.said[-60:])),
            case.expected,
            f"{verdict.outcome} ({escape(verdict.rule)}: {escape(verdict.reason)})",
        )
    return Group(*lines, found, _rest(len(wrong), show))


def of_suspects(suspects: Sequence[SuspectTruth], seen: Seen, show: int) -> RenderableType:
    """The seeds whose samples agree on another answer, the clearest first."""
    head = Text(
        f"{len(suspects):,} suspect truths among {seen.with_truth:,} seeds with a truth"
        f" ({seen.seeds:,} in all)"
    )
    if not suspects:
        return Group(Text(), head)
    table = _table("seed", "where", "question", "truth", "most say", "agree", "right", "answers")
    for one in sorted(suspects, key=lambda one: (-one.majority_share, one.seed_id))[:show]:
        table.add_row(
            escape(one.seed_id),
            escape(one.origin),
            escape(_shown(one.question.replace("<image>", " "))),
            escape(" | ".join(one.truths)[:40]),
            escape(one.majority[:40]),
            f"{one.majority_share:.0%}",
            f"{one.truth_share:.0%}",
            f"{one.answered}",
        )
    return Group(Text(), head, Text(), table, _rest(len(suspects), show))


def rates(judged: Judged) -> dict[str, Any]:
    """The confusion table and both error rates as plain values."""
    from mmpr_builder.audit import confusion

    table = confusion(judged)
    return {
        "confusion": [
            {"label": label, "outcome": outcome, "cases": count}
            for (label, outcome), count in sorted(table.counts.items())
        ],
        "false_positives": _rate_json(table.false_positives),
        "misses": _rate_json(table.misses),
    }


def _rate_json(rate: Rate) -> dict[str, Any]:
    low, high = rate.interval
    return {"hits": rate.hits, "of": rate.of, "share": rate.share, "low": low, "high": high}


def _rate_row(table: Table, name: str, judged: Judged) -> None:
    from mmpr_builder.audit import confusion

    total = confusion(judged)
    table.add_row(
        escape(name), f"{len(judged):,}", _rate(total.false_positives), _rate(total.misses)
    )


def _rate(rate: Rate) -> str:
    if rate.share is None:
        return "no such cases"
    low, high = rate.interval
    return f"{rate.hits:,}/{rate.of:,} = {rate.share:.1%} ({low:.1%} – {high:.1%})"


def _reasons(counts: Counter[str]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items()))


def _table(*columns: str) -> Table:
    table = Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in table.columns:
        column.overflow = "fold"
    return table


def _rest(found: int, show: int) -> RenderableType:
    left = found - show
    return Text(f"… and {left:,} more: --show {found}, or --json FILE" if left > 0 else "")


def _shown(text: str) -> str:
    return " ".join(text.split())[:60]


Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RECIPE|SEEDS] [KEY=VALUE]...",
        help="A recipe, or seeds (a file or folder), and settings that override the recipe's.",
        show_default=False,
    ),
]


@app.command(rich_help_panel=HAND_ON)
def audit(
    settings: Words = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Judge a labelled file (JSON lines) instead: confusion and error rates."),
    ] = None,
    rollouts: Annotated[
        str | None,
        typer.Option(help="Look for suspect truths among the rollouts of a build's folder."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the complete list to this file.")
    ] = None,
    show: Annotated[int, typer.Option(min=0, help="Findings to list here.")] = 20,
    majority: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="With --rollouts: share that must agree.")
    ] = 0.6,
    min_answers: Annotated[
        int, typer.Option(min=1, help="With --rollouts: fewest answers to look at.")
    ] = 4,
    truth_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="With --rollouts: most that may be right.")
    ] = 0.1,
) -> None:
    """Check the truths before anything is sampled: each must be right against itself.

    Lists truths that cannot be used or are doubtful, with the reason and the remedy. Exit code 0:
    nothing found; 4: findings (truths, disagreements with labels, suspect truths).
    """
    if labels is not None and rollouts is not None:
        raise typer.BadParameter("--labels and --rollouts are two audits: give one of them")
    if json_file is not None:
        from mmpr_builder.export.lint import check_place

        check_place(json_file)
    config = _config(settings, rollouts)
    if labels is not None:
        found, content = _labels(config, labels, show)
    elif rollouts is not None:
        shares = {"majority": majority, "truth_share": truth_share, "min_answered": min_answers}
        found, content = _suspects(config, rollouts, shares, show)
    else:
        found, content = _seeds(config, show)
    if json_file is not None:
        _write_json(json_file, content)
    if found:
        raise typer.Exit(EXIT_FINDINGS)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    from mmpr_builder.errors import InputError

    text = json.dumps(content, ensure_ascii=False, indent=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"--json {path}: cannot be written: {error}: name another file") from None
    console.print(f"wrote {path}", markup=False)


def _config(words: list[str] | None, rollouts: str | None) -> Config:
    """The settings asked for; a build's rollouts bring those it was last paired with."""
    words = list(words or [])
    if words and "=" not in words[0] and not _is_recipe(words[0]):
        words[0] = f"seeds={words[0]}"
    if rollouts is not None and not words:
        from mmpr_builder.errors import InputError
        from mmpr_builder.output import read_run

        try:
            return Config.model_validate(read_run(rollouts)["config"])
        except InputError:
            return Config()
        except ValidationError as error:
            raise InputError(
                f"{rollouts}/run.json: settings of another version ({error.errors()[0]['msg']}):"
                " name the recipe that scores these rollouts"
            ) from None
    config = read_settings(words)
    be_offline_safe(config)
    return config


def _is_recipe(word: str) -> bool:
    return word.endswith((".yaml", ".yml")) or (
        not Path(word).exists() and find_shipped("pipelines", word, ".yaml") is not None
    )


def _seeds(config: Config, show: int) -> tuple[bool, dict[str, Any]]:
    from mmpr_builder import audit, prompts, seeds
    from mmpr_builder.progress import Progress
    from mmpr_builder.runs.inputs import with_demo
    from mmpr_builder.scoring import Judge

    templates = prompts.load_templates(config)
    seeds.check_sources([source for source in config.seeds if source.path != "demo"])
    sources = with_demo(config)
    with (
        Judge(config.scoring) as judge,
        Progress.auto() as progress,
        progress.stage("checking the truths"),
    ):
        items = counted(seeds.read_sources(sources, limit=config.limit), progress)
        result: SeedAudit = audit.audit_seeds(items, config, templates, judge)
    console.print(of_seeds(result, show))
    return bool(result.findings), result.to_json()


def _labels(config: Config, path: Path, show: int) -> tuple[bool, dict[str, Any]]:
    from mmpr_builder import audit
    from mmpr_builder.scoring import Judge

    with Judge(config.scoring) as judge:
        judged: list[tuple[LabelledCase, Verdict]] = [
            (case, audit.judge_case(judge, case)) for case in audit.read_cases(path)
        ]
    wrong = [(case, verdict) for case, verdict in judged if not case.agrees(verdict)]
    console.print(of_labels(judged, wrong, show))
    by_kind: dict[str, list[tuple[LabelledCase, Verdict]]] = {}
    for case, verdict in judged:
        by_kind.setdefault(case.kind, []).append((case, verdict))
    content = {
        "cases": len(judged),
        **rates(judged),
        "kinds": {kind: rates(part) for kind, part in sorted(by_kind.items())},
        "disagreements": [{**asdict(case), "verdict": asdict(v)} for case, v in wrong],
    }
    return bool(wrong), content


def _suspects(
    config: Config, out: str, shares: dict[str, Any], show: int
) -> tuple[bool, dict[str, Any]]:
    from mmpr_builder import audit
    from mmpr_builder.errors import InputError
    from mmpr_builder.io import tables
    from mmpr_builder.pairing import scorer_for
    from mmpr_builder.progress import Progress
    from mmpr_builder.scoring import Judge

    folder = out.rstrip("/")
    parts = tables.list_parts(f"{folder}/rollouts") or tables.list_parts(folder)
    if not parts:
        raise InputError(f"{folder}: no rollouts here: give a build's folder")
    seen = Seen()
    # The rollouts of a build that was never paired say themselves how they are scored.
    with_recipe = config != Config()
    with (
        Judge(config.scoring) as judge,
        Progress.auto() as progress,
        progress.stage("comparing answers"),
    ):
        suspects: list[SuspectTruth] = list(
            audit.suspect_truths(
                counted(seen.reading(parts), progress),
                judge,
                scorer_of=lambda seed: scorer_for(seed, config) if with_recipe else seed.scorer,
                **shares,
            )
        )
    console.print(of_suspects(suspects, seen, show))
    content = {
        **shares,
        "seeds": seen.seeds,
        "with_truth": seen.with_truth,
        "suspects": [asdict(suspect) for suspect in suspects],
    }
    return bool(suspects), content
