"""The closing tables of a command: what became of the seeds, and what to do next.

seeds       240 read: 168 with a truth, 72 without · 221 gave pairs, 19 dropped
responses   1,920 sampled, 576 continued without the image
…
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mmpr_builder.config import Config
from mmpr_builder.escaping import redacted

if TYPE_CHECKING:
    from mmpr_builder.build import Estimate
    from mmpr_builder.probe import Probe, Range
    from mmpr_builder.runs import SamplingSummary


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
        if label == "responses" and (saved := run["this_run"]["sampling"].get("saved")):
            table.add_row("  not needed", f"{saved:,} more  (sampling.policy=adaptive)")
        if label == "outcomes" and (judge := run["this_run"]["scoring"].get("judge")):
            table.add_row("  judge", _judge(judge))
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
        if new.saved:
            share = new.saved / (new.saved + new.responses)
            table.add_row("not needed", f"{new.saved:,} more responses ({share:.0%}): adaptive")
        if new.prefix_queries:
            share = new.prefix_hits / new.prefix_queries
            table.add_row("prefix cache", f"{share:.0%} of the prompt tokens were computed before")
    if done.quarantined:
        table.add_row("set aside", f"{done.quarantined:,} seeds that end the engine's process")
    out = escape(redacted(config.out))
    table.add_row("rollouts", f"{out}/rollouts")
    table.add_row("next", f"mmpr pair (same recipe and settings) out={out}")
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
        hint = "  (`mmpr audit` lists them)" if reason == "unusable_truth" else ""
        table.add_row("  dropped", f"{count:,}  {reason}{hint}")
    most = " at most" if config.sampling.policy == "adaptive" else ""
    table.add_row("responses", f"{plan.responses:,}{most} ({config.sampling.n} a seed)")
    table.add_row("continuations", f"{plan.continuations:,}{most} without the image")
    if plan.blind:
        table.add_row("blind samples", f"{plan.blind:,} without the image, of seeds with a truth")
    table.add_row("tokens", f"{plan.most_tokens:,} at most")
    table.add_row("model", f"{escape(redacted(config.model))}, by {config.sampling.engine}")
    table.add_row("out", escape(redacted(config.out)))
    return Group(Text(), table)


def probed(config: Config, probe: Probe) -> RenderableType:
    """What a build would take, from a probe, with what that rests on."""
    table = _table()
    table.add_row("probe", f"{probe.probed:,} of {probe.seeds:,} seeds, really sampled")
    table.add_row("tokens", _range(probe.tokens))
    table.add_row("pairs", _range(probe.pairs))
    if probe.pairs.mean:
        table.add_row("tokens per pair", f"{probe.tokens.mean / probe.pairs.mean:,.1f}")
    unit = "GPU-hours" if probe.gpus_per_engine else "hours of one engine"
    hours = probe.hours
    if probe.gpus_per_engine > 1:
        hours = replace(
            hours, **{f: probe.gpus_per_engine * getattr(hours, f) for f in ("mean", "low", "high")}
        )
    table.add_row(unit, _range(hours, ".3g"))
    table.add_row("disk", f"rollouts {_size(probe.rollout_bytes)}, pairs {_size(probe.pair_bytes)}")
    sources = Table("source", "seeds", "probed", "tokens", "pairs", box=None, pad_edge=False)
    for source in probe.sources:
        sources.add_row(
            escape(source.source or "(unnamed)"),
            f"{source.seeds:,}",
            f"{source.probed:,}",
            _range(source.tokens),
            _range(source.pairs),
        )
    return Group(Text(), table, Text(), sources, Text(), _assumptions(config, probe))


def _assumptions(config: Config, probe: Probe) -> RenderableType:
    said = (
        f"Assumed: {probe.tokens_per_second:,.0f} tokens/s for each engine, as in the probe on this"
        " machine (few seeds do not fill an engine: a build is rather faster); loading it"
        f" ({probe.engine_seconds:,.0f} s here) comes on top. Ranges are 95 % intervals of the draw"
        " of seeds alone; they do not know of other machines or of seeds unlike those drawn."
    )
    if config.sampling.policy == "adaptive":
        said += " Sampling is adaptive: fewer tokens where seeds are easy, as in the probe."
    return Text(said, style="dim")


def _range(value: Range, form: str = ",.0f") -> str:
    return f"{value.mean:{form}}  ({value.low:{form}} to {value.high:{form}})"


def _size(count: float) -> str:
    """Bytes with a unit that keeps the number short."""
    units = ("B", "kB", "MB", "GB", "TB")
    step = min(len(units) - 1, int(math.log10(max(1.0, count)) // 3))
    return f"{count / 1000**step:,.3g} {units[step]}"


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
    ratios = counts["continuations"]
    if len(ratios) > 1 or any(at.get("not_made") for at in ratios.values()):
        for keep, at in ratios.items():
            told = f"{at['made']:,} continuations, {at['fit']:,} fit, {at['pairs']:,} in pairs"
            missing = at.get("not_made", 0)  # Earlier versions did not count them.
            lost = f", {missing:,} were not made" if missing else ""
            yield f"  {float(keep):.0%} kept", told + lost
    if blind := counts["blind"]:
        told = f"{responses['blind']:,} samples, {blind['responses']['correct']:,} of them right"
        solved = blind["seeds"]["solved"]
        yield "  blind", told + (f" · {solved:,} seeds solved without the image" if solved else "")
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
    listed = counts["reject_list"]
    if listed["listed"]:
        yield "  left out", f"{listed['left_out']:,} of {listed['listed']:,} on the reject list"
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


def _judge(counts: Mapping[str, int]) -> str:
    """What the optional judge was asked; answers that came to nothing stay undecided."""
    said = [f"{counts['asked']:,} answers asked about, {counts['kept']:,} asked before"]
    if counts["malformed"]:
        said.append(f"{counts['malformed']:,} replies in other words")
    if counts["not_asked"]:
        said.append(f"{counts['not_asked']:,} not to be asked about")
    if counts["failed"]:
        said.append(f"{counts['failed']:,} without a reply: pair again to ask again")
    return " · ".join(said)


def _next_steps(out: str, pairs: int) -> RenderableType:
    table = _table()
    out = escape(redacted(out))
    if pairs:
        table.add_row("look at them", f"{out}/report/index.html, or mmpr show {out}")
        table.add_row("load them", f'mmpr_builder.load_pairs("{out}")')
    table.add_row("why a drop", f"{out}/drops/*.parquet (item_id, stage, reason, detail)")
    table.add_row("what was run", f"{out}/run.json, data card: {out}/README.md")
    table.add_row(
        "pair again",
        f"mmpr pair (same recipe and settings) out={out} pairing.max_per_seed=5   needs no engine",
    )
    return table
