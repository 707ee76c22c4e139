"""What building commands show when they are done: what became of the seeds, and what to do next.

seeds       240 read: 168 with a truth, 72 without · 221 gave pairs, 19 dropped
responses   1,920 sampled, 576 continued without the image
…
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.text import Text

from mmpr_builder.cli.app import columns, facts, typed
from mmpr_builder.config import Config
from mmpr_builder.escaping import redacted
from mmpr_builder.pairing.unpaired import WHY
from mmpr_builder.report import KINDS

if TYPE_CHECKING:
    from mmpr_builder.probe import Probe, Range
    from mmpr_builder.runs import SamplingSummary
    from mmpr_builder.stages import Estimate

Rows = Iterator[tuple[str, str]]


def finished(config: Config, run: Mapping[str, Any]) -> RenderableType:
    """The tables after pairing, from the content of run.json."""
    counts, now = run["counts"], run["this_run"]
    rows = [
        *_responses(counts, now["sampling"].get("saved") or 0),
        *_steps(counts),
        *_outcomes(counts, now["scoring"].get("judge")),
        *_pairs(counts),
    ]
    steps = _next_steps(redacted(config.out), counts["pairs"]["total"])
    return Group(Text(), facts(rows), Text(), facts(steps))


def sampled(config: Config, done: SamplingSummary) -> Rows:
    """The table after sampling alone."""
    yield "seeds", f"{done.seeds:,} sampled in all, {done.drops:,} rows dropped before sampling"
    new = done.sampled
    if done.units == done.units_before:
        yield "this run", "nothing was left to do"
    else:
        yield (
            "this run",
            f"{new.seeds:,} seeds, {new.responses:,} responses, {new.tokens:,} tokens"
            f" in {done.seconds:,.0f} s",
        )
        if new.saved:
            share = new.saved / (new.saved + new.responses)
            yield "not needed", f"{new.saved:,} more responses ({share:.0%}): adaptive"
        if new.prefix_queries:
            share = new.prefix_hits / new.prefix_queries
            yield "prefix cache", f"{share:.0%} of the prompt tokens were computed before"
    if done.quarantined:
        yield "quarantined", f"{done.quarantined:,} seeds that end the engine's process"
    out = redacted(config.out)
    yield "rollouts", f"{out}/rollouts"
    yield "next", f"{typed()} pair (same recipe and settings) out={out}"


def planned(config: Config, plan: Estimate) -> Rows:
    """What a build would do and cost at most."""
    without = plan.seeds - plan.with_truth
    yield "seeds", f"{plan.seeds:,}: {plan.with_truth:,} with a truth, {without:,} without"
    for reason, count in sorted(plan.drops.items()):
        hint = f"  (`{typed()} audit` lists them)" if reason == "unusable_truth" else ""
        yield "  dropped", f"{count:,}  {reason}{hint}: {plan.first_drops[reason][:200]}"
    if (seen := plan.pictures).images:
        bad = ", ".join(f"{count:,} {reason}" for reason, count in sorted(seen.bad.items()))
        first = f": {bad}; the first is {seen.first}" if bad else ", nothing wrong found"
        yield "images", f"{seen.images:,}, {seen.opened:,} of them tried{first}"
    most = " at most" if config.sampling.policy == "adaptive" else ""
    yield "responses", f"{plan.responses:,}{most} ({config.sampling.n} a seed)"
    yield "continuations", f"{plan.continuations:,}{most} without the image"
    if plan.blind:
        yield "blind samples", f"{plan.blind:,} without the image, of seeds with a truth"
    if plan.steps:
        yield "from steps", f"{plan.steps:,} continuations at most, with the image"
    if plan.compared:
        asked = 1 + 2 * config.scoring.judge.open
        yield "judged", f"{plan.compared:,} seeds, with {asked} questions to a judge each at most"
    yield "tokens", f"{plan.most_tokens:,} at most"
    limits = config.limits
    if limits.tokens is not None:
        share = min(1.0, limits.tokens / max(1, plan.most_tokens))
        yield "  stops", f"at {limits.tokens:,} tokens of all runs, {share:.0%} of that"
    if limits.hours is not None:
        yield "  stops", f"after {limits.hours:g} hours of sampling in all runs"
    yield "model", f"{redacted(config.model)}, by {config.sampling.engine}"
    yield "out", redacted(config.out)
    for note in plan.notes:
        yield "note", note


def probed(config: Config, probe: Probe) -> RenderableType:
    """What a build would take, from a probe, and what the estimate assumes."""
    rows = (
        (
            s.source or "(unnamed)",
            f"{s.seeds:,}",
            f"{s.probed:,}",
            _range(s.tokens),
            _range(s.pairs),
        )
        for s in probe.sources
    )
    sources = columns(("source", "seeds", "probed", "tokens", "pairs"), rows)
    said = (
        f"Assumed: {probe.tokens_per_second:,.0f} tokens/s for each engine, as in the probe on this"
        " machine (a few seeds do not fill an engine, so a build is rather faster); loading it"
        f" ({probe.engine_seconds:,.0f} s here) comes on top. Ranges are 95 % intervals of the draw"
        " of seeds alone; other machines, seeds unlike those drawn, and the few that run away to"
        " `sampling.max_tokens` in a large build, are not in them."
    )
    if config.sampling.policy == "adaptive":
        said += " Sampling is adaptive: fewer tokens where seeds are easy, as in the probe."
    return Group(Text(), facts(_probed(probe)), Text(), sources, Text(), Text(said, style="dim"))


def _probed(probe: Probe) -> Rows:
    yield "probe", f"{probe.probed:,} of {probe.seeds:,} seeds, really sampled"
    yield "tokens", _range(probe.tokens)
    yield "pairs", _range(probe.pairs)
    if probe.pairs.mean:
        yield "tokens per pair", f"{probe.tokens.mean / probe.pairs.mean:,.1f}"
    many = max(1, probe.gpus_per_engine)
    hours = type(probe.hours)(*(many * value for value in astuple(probe.hours)))
    yield "GPU-hours" if probe.gpus_per_engine else "hours of one engine", _range(hours, ".3g")
    rollouts, pairs = (decimal(round(n)) for n in (probe.rollout_bytes, probe.pair_bytes))
    yield "disk", f"rollouts {rollouts}, pairs {pairs}"


def _range(value: Range, form: str = ",.0f") -> str:
    return f"{value.mean:{form}}  ({value.low:{form}} to {value.high:{form}})"


def _responses(counts: Mapping[str, Any], saved: int) -> Rows:
    seeds, responses, ratios = counts["seeds"], counts["responses"], counts["continuations"]
    yield (
        "seeds",
        f"{seeds['read']:,} read: {seeds['with_truth']:,} with a truth,"
        f" {seeds['without_truth']:,} without · {seeds['with_pairs']:,} gave pairs,"
        f" {seeds['dropped']:,} dropped",
    )
    yield "responses", f"{responses['sampled']:,} sampled, {responses['continued']:,} continued"
    if saved:
        yield "  not needed", f"{saved:,} more  (sampling.policy=adaptive)"
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


def _steps(counts: Mapping[str, Any]) -> Rows:
    steps = counts.get("steps") or {"continuations": {}, "middle": {}, "first_wrong": {}}
    first = steps["first_wrong"]
    known = sum(n for name, n in first.items() if name.isdecimal())
    wrong = sum(first.values()) - first.get("none", 0)
    for name, of in (("continuations", "from steps"), ("middle", "from the middle")):
        if made := sum(steps[name].values()):
            yield of, f"{made:,} continuations, {steps[name]['correct']:,} of them right"
    if majority := counts.get("majority"):
        taken, asked = majority.get("majority", 0), sum(majority.values())
        yield "majority", f"the truth of {taken:,} of {asked:,} questions without one"
    if judged := counts.get("judged"):
        said = judged.get("comparisons", {})
        told = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in said.items())
        lost = judged["seeds"].get("not_compared", 0)
        yield "judged", (told or "nothing") + (f" · {lost:,} seeds not compared" if lost else "")
    if wrong:
        yield "", f"the first wrong step of {known:,} of {wrong:,} wrong responses is known"


def _outcomes(counts: Mapping[str, Any], judge: Mapping[str, int] | None) -> Rows:
    judged = sum(counts["outcomes"].values())
    if not judged:
        return
    parts = (
        f"{name.replace('_', ' ')} {count:,} ({count / judged:.0%})"
        for name, count in counts["outcomes"].items()
    )
    yield "outcomes", " · ".join(parts)
    if judge:
        said = [f"{judge['asked']:,} answers asked about, {judge['kept']:,} asked before"]
        for name, words in (
            ("malformed", "replies in other words"),
            ("not_asked", "not to be asked about"),
            ("failed", "without a reply: pair again to ask again"),
        ):
            said += [f"{judge[name]:,} {words}"] if judge[name] else []
        yield "  LLM judge", " · ".join(said)


def _pairs(counts: Mapping[str, Any]) -> Rows:
    pairs, listed = counts["pairs"], counts["reject_list"]
    yield "pairs", f"{pairs['total']:,}"
    for kind, note in KINDS.items():
        if pairs.get(kind):
            yield f"  {kind}", f"{pairs[kind]:,}  ({note})"
    if listed["listed"]:
        yield "  left out", f"{listed['left_out']:,} of {listed['listed']:,} on the reject list"
    yield "drops", f"{counts['seeds']['dropped']:,}"
    for stage, reasons in counts["drops"].items():
        for reason, count in reasons.items():
            yield f"  {reason}", f"{count:,}  ({WHY.get(reason, stage)})"
    cost = counts["tokens"]["per_pair"]
    each = f" · {cost:,.1f} per pair" if cost is not None else ""
    yield "tokens", f"{counts['tokens']['generated']:,} generated{each}"


def _next_steps(out: str, pairs: int) -> Rows:
    if pairs:
        yield "look at them", f"{out}/report/index.html, or {typed()} show {out}"
        yield "load them", f'mmpr_builder.load_pairs("{out}")'
    yield "why a drop", f"{out}/drops/*.parquet (item_id, stage, reason, detail)"
    yield "what was run", f"{out}/run.json, data card: {out}/README.md"
    yield (
        "pair again",
        f"{typed()} pair (same recipe and settings) out={out} pairing.max_per_seed=5"
        "   needs no engine",
    )
