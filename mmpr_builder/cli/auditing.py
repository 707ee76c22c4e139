"""`mmpr audit`: truths against themselves, the scorer against labels, samples against truths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from mmpr_builder.cli.app import (
    EXIT_FINDINGS,
    HAND_ON,
    JsonFile,
    Settings,
    columns,
    command,
    config_of,
    console,
    entry,
    no_other_bars,
    option,
    read_settings,
    say,
)

if TYPE_CHECKING:
    from mmpr_builder.audit.labels import Rate
    from mmpr_builder.config import Config
    from mmpr_builder.progress import Progress
    from mmpr_builder.records import Rollout

    Found = tuple[Sequence[RenderableType], int, Iterator[Text], dict[str, Any]]
    """(tables, number of findings, an entry for each, everything as plain values)"""

Item = TypeVar("Item")


@command(HAND_ON)
def audit(
    settings: Settings = None,
    labels: Annotated[
        Path | None, option("FILE", "Judge a labelled file (JSON lines): the scorer's error rates.")
    ] = None,
    rollouts: Annotated[
        str | None, option("OUT", "Look for suspect truths among the rollouts of a build.")
    ] = None,
    preferences: Annotated[
        Path | None,
        option("FILE", "With --rollouts: how often its judge agrees with people (JSON lines)."),
    ] = None,
    json_file: JsonFile = None,
    show: Annotated[int, option("N", "Findings to list here.", min=0)] = 20,
    majority: Annotated[
        float, option("SHARE", "With --rollouts: how many must agree.", min=0.0, max=1.0)
    ] = 0.6,
    min_answers: Annotated[
        int, option("N", "With --rollouts: fewest answers to look at.", min=1)
    ] = 4,
    truth_share: Annotated[
        float, option("SHARE", "With --rollouts: how many may be right.", min=0.0, max=1.0)
    ] = 0.1,
) -> None:
    """Check the truths before anything is sampled: each must be right against itself.

    Takes a recipe, or seeds (a file or folder). Lists truths that cannot be used or are doubtful,
    with the reason and the remedy. Exit code 0: nothing found; 4: findings (truths, no row
    that is a seed, disagreements with labels, suspect truths).

    $ mmpr audit my/seeds.jsonl
    $ mmpr audit --labels labelled.jsonl
    $ mmpr audit --rollouts out/run-1 --json suspects.json
    $ mmpr audit --rollouts out/run-1 --preferences people.jsonl
    """
    if preferences is not None and rollouts is None:
        raise typer.BadParameter("--preferences needs --rollouts OUT, whose judge it is about")
    if labels is not None and rollouts is not None:
        raise typer.BadParameter("--labels and --rollouts are two audits: give one of them")
    if json_file is not None:
        from mmpr_builder.export.lint import check_place

        check_place(json_file)
    no_other_bars()
    config = _config(settings or [], rollouts)
    if labels is not None:
        head, found, entries, content = _labels(config, labels)
    elif rollouts is not None and preferences is not None:
        head, found, entries, content = _preferences(preferences, rollouts.rstrip("/"))
    elif rollouts is not None:
        bounds = {"majority": majority, "truth_share": truth_share, "min_answered": min_answers}
        head, found, entries, content = _suspects(config, rollouts.rstrip("/"), bounds)
    else:
        head, found, entries, content = _seeds(config)
    rest = f"… and {found - show:,} more: --show {found}, or --json FILE" if found > show else ""
    where = " among the rows that are seeds" if content.get("unread") else ""
    foot = Text(rest) if found else Text(f"nothing found{where}", style="green")
    console.print(Text(), Group(*head, *islice(entries, show), foot))
    if config.scoring.labels is not None:
        from mmpr_builder.pairing import read_labels

        counts = Counter(read_labels(config.scoring.labels).values())
        told = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
        say(f"labels of undecided answers: {told or 'none'} ({config.scoring.labels})")
    if json_file is not None:
        from mmpr_builder.errors import InputError
        from mmpr_builder.escaping import json_text
        from mmpr_builder.io.tables import put_text

        try:
            put_text(json_text(content, indent=1) + "\n", json_file)
        except OSError as error:
            told = f"--json {json_file}: cannot be written: {error}: name another file"
            raise InputError(told) from None
        say(f"wrote {json_file}")
    if found:
        raise typer.Exit(EXIT_FINDINGS)


def _config(words: list[str], rollouts: str | None) -> Config:
    """The settings asked for; a build's rollouts bring those it was last paired with."""
    from mmpr_builder.config import Config, find_shipped
    from mmpr_builder.io import stores

    word = words[0] if words else "="
    if not ("=" in word or word.endswith((".yaml", ".yml"))) and (
        Path(word).exists() or find_shipped("pipelines", word, ".yaml") is None
    ):
        words = [f"seeds={word}", *words[1:]]
    if rollouts is None or words:
        return read_settings(words)
    paired = stores.is_there(f"{rollouts.rstrip('/')}/run.json")
    return config_of(rollouts) if paired else Config()


def _seeds(config: Config) -> Found:
    """The table by source and kind; the unusable truths before the doubtful."""
    from mmpr_builder import prompts, seeds
    from mmpr_builder.audit.truths import audit_seeds
    from mmpr_builder.progress import Progress
    from mmpr_builder.runs.inputs import with_demo
    from mmpr_builder.scoring import Judge

    templates = prompts.load_templates(config)
    seeds.check_sources([source for source in config.seeds if source.path != "demo"])
    with (
        Judge(config.scoring) as judge,
        Progress.auto() as progress,
        progress.stage("checking the truths"),
    ):
        items = _counted(seeds.read_sources(with_demo(config), limit=config.limit), progress)
        result = audit_seeds(items, config, templates, judge)
    names = ("source", "compared as", "seeds", "clean", "unusable", "doubtful")
    rows = (
        (*key, f"{row.seeds:,}", f"{row.clean:,}", _told(row.unusable), _told(row.doubtful))
        for key, row in sorted(result.rows.items())
    )
    head: list[RenderableType] = [columns(names, rows), Text()]
    if result.without_truth:
        head.append(Text(f"seeds without a truth: {result.without_truth:,}"))
    if result.unread:
        head.append(Text(f"rows that are no seeds: {_told(result.unread)}"))
        head += (Text(f"  {reason}: {why}") for reason, why in result.first_unread.items())
    entries = (
        entry(
            one.origin or one.seed_id,
            (one.reason, "red" if one.unusable else "yellow"),
            f"{_brief(one.value)!r}: {one.detail}",
            one.remedy,
        )
        for one in sorted(result.findings, key=lambda finding: not finding.unusable)
    )
    useless = not result.rows and not result.without_truth
    head += [Text("no truth to check", style="yellow")] * useless
    return head, len(result.findings) or int(useless), entries, result.to_json()


def _labels(config: Config, path: Path) -> Found:
    """Label against outcome, and the rates by kind; the disagreements."""
    from mmpr_builder.audit.labels import confusion, judge_case, read_cases
    from mmpr_builder.scoring import Judge

    with Judge(config.scoring) as judge:
        judged = [(case, judge_case(judge, case)) for case in read_cases(path)]
    wrong = [(case, verdict) for case, verdict in judged if not case.agrees(verdict)]
    total = confusion(judged)
    kinds = {
        kind: confusion(item for item in judged if item[0].kind == kind)
        for kind in sorted({case.kind for case, _ in judged})
    }
    content = {
        "cases": len(judged),
        **total.to_json(),
        "kinds": {kind: table.to_json() for kind, table in kinds.items()},
        "disagreements": [{**asdict(case), "verdict": asdict(v)} for case, v in wrong],
    }
    outcomes = ("correct", "incorrect", "no_answer", "undecided")
    counted = (
        (label, *(f"{total.counts.get((label, outcome), 0):,}" for outcome in outcomes))
        for label in sorted({label for label, _ in total.counts})
    )
    rates = (
        (name, f"{sum(t.counts.values()):,}", _rate(t.false_positives), _rate(t.misses))
        for name, t in {**(kinds if len(kinds) > 1 else {}), "all": total}.items()
    )
    titles = ("kind", "cases", "called right, and is not", "right, and missed")
    tables = columns(("label", *outcomes), counted), Text(), columns(titles, rates), Text()
    entries = (
        entry(
            case.id,
            (f"{case.expected}, called {verdict.outcome}", "red"),
            f"said {_brief(case.said[-60:] if verdict.answer is None else verdict.answer)!r},"
            f" truth {_brief(' | '.join(case.truths))!r}",
            f"{verdict.rule}: {verdict.reason}",
        )
        for case, verdict in wrong
    )
    return tables, len(wrong), entries, content


def _preferences(path: Path, out: str) -> Found:
    """How often the judge of open questions and people prefer the same text."""
    from mmpr_builder.audit.labels import Rate, compare_preferences
    from mmpr_builder.library import read_rollouts

    counts = compare_preferences(path, read_rollouts(out))
    rate = Rate(counts["better"], counts["better"] + counts["worse"])
    told = Text(f"where the judge decides, it agrees with people: {_rate(rate)}")
    rows = ((name, f"{count:,}") for name, count in sorted(counts.items()))
    table = columns(("what people prefer is", "lines"), rows)
    return [table, Text(), told], 0, iter(()), {"counts": counts, **rate.to_json()}


def _suspects(config: Config, out: str, bounds: dict[str, Any]) -> Found:
    """The seeds whose samples agree on another answer, the clearest first."""
    from mmpr_builder.audit.suspect_truths import suspect_truths
    from mmpr_builder.config import Config
    from mmpr_builder.library import read_rollouts
    from mmpr_builder.pairing import scorer_for
    from mmpr_builder.progress import Progress
    from mmpr_builder.scoring import Judge

    every = read_rollouts(out)
    counts = Counter(seeds=0, with_truth=0)

    def rollouts() -> Iterator[Rollout]:
        for rollout in _counted(every, progress):
            counts.update(seeds=1, with_truth=rollout.seed.has_truth)
            yield rollout

    # The rollouts of a build that was never paired say themselves how they are scored.
    with_recipe = config != Config()
    with (
        Judge(config.scoring) as judge,
        Progress.auto() as progress,
        progress.stage("comparing answers"),
    ):
        suspects = list(
            suspect_truths(
                rollouts(),
                judge,
                scorer_of=lambda seed: scorer_for(seed, config) if with_recipe else seed.scorer,
                **bounds,
            )
        )
    head = Text(
        f"{len(suspects):,} suspect truths among {counts['with_truth']:,} seeds with a truth"
        f" ({counts['seeds']:,} in all)\n"
    )
    entries = (
        entry(
            one.seed_id,
            (one.origin, ""),
            _brief(one.question.replace("<image>", " ")),
            f"truth {_brief(' | '.join(one.truths), 40)!r}: {one.truth_share:.0%} right;"
            f" {one.majority_share:.0%} of {one.answered} answers say {_brief(one.majority, 40)!r}"
            f" (up to here {one.false_discovery:.0%} by luck)",
        )
        for one in sorted(
            suspects, key=lambda one: (one.false_discovery, -one.majority_share, one.seed_id)
        )
    )
    content = {**bounds, **counts, "suspects": [asdict(one) for one in suspects]}
    return [head], len(suspects), entries, content


def _counted(items: Iterable[Item], progress: Progress) -> Iterator[Item]:
    """The items as they are; the progress display counts them."""
    for number, item in enumerate(items, start=1):
        if number % 256 == 0:
            progress.update(done=number)
        yield item


def _rate(rate: Rate) -> str:
    if rate.share is None:
        return "no such cases"
    low, high = rate.interval
    return f"{rate.hits:,}/{rate.of:,} = {rate.share:.1%} ({low:.1%} – {high:.1%})"


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items()))


def _brief(text: str, most: int = 60) -> str:
    return " ".join(text.split())[:most]
