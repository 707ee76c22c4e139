"""What `mmpr audit` shows: tables of truths, of a labelled file, and of suspect truths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

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
        from mmpr_builder.tables import read_parquet, rollouts_from_table

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
