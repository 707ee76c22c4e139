"""The closing tables of a command: what became of the seeds, and what to do next.

seeds       240 read: 168 with a truth, 72 without · 221 gave pairs, 19 dropped
responses   1,920 sampled, 576 continued without the image
…
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mmpr_builder.config import Config

if TYPE_CHECKING:
    from mmpr_builder.build import Estimate
    from mmpr_builder.distributed import SamplingSummary

KIND_NOTES = {
    "correctness": "right against wrong",
    "format": "right against no final answer",
    "truncated": "right against cut at max_tokens",
    "dropout_ntp": "seen against continued without the image",
}


def finished(config: Config, run: Mapping[str, Any]) -> RenderableType:
    """The tables after pairing, from the content of run.json."""
    counts = run["counts"]
    table = _table()
    for label, text in _rows(counts):
        table.add_row(label, escape(text))
    return Group(Text(), table, Text(), _next_steps(config.out, counts["pairs"]["total"]))


def sampled(config: Config, done: SamplingSummary) -> RenderableType:
    """The table after sampling alone."""
    table = _table()
    table.add_row("seeds", f"{done.seeds:,} sampled in all, {done.drops:,} rows dropped unread")
    if done.units == done.units_before:
        table.add_row("this run", "nothing was left to do")
    else:
        new = done.sampled
        table.add_row(
            "this run",
            f"{new.seeds:,} seeds, {new.responses:,} responses, {new.tokens:,} tokens"
            f" in {done.seconds:,.0f} s",
        )
    if done.quarantined:
        table.add_row("set aside", f"{done.quarantined:,} seeds that end the engine's process")
    table.add_row("rollouts", f"{escape(config.out)}/rollouts")
    table.add_row("next", f"mmpr pair (same recipe and settings) out={escape(config.out)}")
    return Group(Text(), table)


def planned(config: Config, plan: Estimate) -> RenderableType:
    """What a build would do and cost at most."""
    table = _table()
    table.add_row(
        "seeds",
        f"{plan.seeds:,}: {plan.with_truth:,} with a truth,"
        f" {plan.seeds - plan.with_truth:,} without",
    )
    for reason, count in sorted(plan.drops.items()):
        table.add_row("  dropped", f"{count:,}  {reason}")
    table.add_row("responses", f"{plan.responses:,} ({config.sampling.n} a seed)")
    table.add_row("continuations", f"{plan.continuations:,} without the image")
    table.add_row("tokens", f"{plan.most_tokens:,} at most")
    table.add_row("model", f"{escape(config.model)}, by {config.sampling.engine}")
    table.add_row("out", escape(config.out))
    return Group(Text(), table)


def _table() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _rows(counts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    seeds, responses, tokens = counts["seeds"], counts["responses"], counts["tokens"]
    yield (
        "seeds",
        f"{seeds['read']:,} read: {seeds['with_truth']:,} with a truth,"
        f" {seeds['without_truth']:,} without · {seeds['with_pairs']:,} gave pairs,"
        f" {seeds['dropped']:,} dropped",
    )
    yield (
        "responses",
        f"{responses['sampled']:,} sampled, {responses['continued']:,} continued",
    )
    judged = sum(counts["outcomes"].values())
    if judged:
        yield (
            "outcomes",
            " · ".join(
                f"{name.replace('_', ' ')} {count:,} ({count / judged:.0%})"
                for name, count in counts["outcomes"].items()
            ),
        )
    pairs = counts["pairs"]
    yield "pairs", f"{pairs['total']:,}"
    for kind, note in KIND_NOTES.items():
        if pairs[kind]:
            yield f"  {kind}", f"{pairs[kind]:,}  ({note})"
    yield "drops", f"{seeds['dropped']:,}"
    for stage, reasons in counts["drops"].items():
        for reason, count in reasons.items():
            yield f"  {reason}", f"{count:,}  ({stage})"
    cost = tokens["per_pair"]
    yield (
        "tokens",
        f"{tokens['generated']:,} generated"
        + (f" · {cost:,.1f} per pair" if cost is not None else ""),
    )


def _next_steps(out: str, pairs: int) -> RenderableType:
    table = _table()
    out = escape(out)
    if pairs:
        table.add_row("look at them", f"{out}/report/index.html")
        table.add_row("load them", f'mmpr_builder.load_pairs("{out}")')
    table.add_row("why a drop", f"{out}/drops/*.parquet (item_id, stage, reason, detail)")
    table.add_row("what was run", f"{out}/run.json, data card: {out}/README.md")
    table.add_row(
        "pair again",
        f"mmpr pair (same recipe and settings) out={out} pairing.max_per_seed=5   needs no engine",
    )
    return table
