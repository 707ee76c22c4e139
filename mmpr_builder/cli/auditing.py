"""`mmpr audit`: truths against themselves, the scorer against labels, samples against truths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from mmpr_builder.cli.app import (
    EXIT_FINDINGS,
    HAND_ON,
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
    from mmpr_builder.audit import LabelledCase, Rate, SuspectTruth
    from mmpr_builder.config import Config
    from mmpr_builder.progress import Progress
    from mmpr_builder.records import Rollout, Verdict

    Found = tuple[Sequence[RenderableType], bool, dict[str, Any]]
    """(what is shown, whether there are findings, everything as plain values)"""

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
    json_file: Annotated[
        Path | None, option("FILE", "Write the complete list to this file.", "--json")
    ] = None,
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
    with the reason and the remedy. Exit code 0: nothing found; 4: findings (truths, disagreements
    with labels, suspect truths).

    $ mmpr audit my/seeds.jsonl
    $ mmpr audit --labels labelled.jsonl
    $ mmpr audit --rollouts out/run-1 --json suspects.json
    """
    if labels is not None and rollouts is not None:
        raise typer.BadParameter("--labels and --rollouts are two audits: give one of them")
    if json_file is not None:
        from mmpr_builder.export.lint import check_place

        check_place(json_file)
    no_other_bars()
    config = _config(settings or [], rollouts)
    if labels is not None:
        shown, found, content = _labels(config, labels, show)
    elif rollouts is not None:
        bounds = {"majority": majority, "truth_share": truth_share, "min_answered": min_answers}
        shown, found, content = _suspects(config, rollouts.rstrip("/"), bounds, show)
    else:
        shown, found, content = _seeds(config, show)
    console.print(Text(), Group(*shown))
    if config.scoring.labels is not None:
        from mmpr_builder.pairing import read_labels

        counts = Counter(read_labels(config.scoring.labels).values())
        told = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
        say(f"labels of undecided answers: {told or 'none'} ({config.scoring.labels})")
    if json_file is not None:
        _write_json(json_file, content)
    if found:
        raise typer.Exit(EXIT_FINDINGS)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    from mmpr_builder.errors import InputError
    from mmpr_builder.escaping import json_text

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json_text(content, indent=1) + "\n", encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"--json {path}: cannot be written: {error}: name another file") from None
    say(f"wrote {path}")


def _config(words: list[str], rollouts: str | None) -> Config:
    """The settings asked for; a build's rollouts bring those it was last paired with."""
    from mmpr_builder.config import Config
    from mmpr_builder.io import stores

    if words and "=" not in words[0] and not _is_recipe(words[0]):
        words = [f"seeds={words[0]}", *words[1:]]
    if rollouts is None or words:
        return read_settings(words)
    paired = stores.is_there(f"{rollouts.rstrip('/')}/run.json")
    return config_of(rollouts) if paired else Config()


def _is_recipe(word: str) -> bool:
    from mmpr_builder.config import find_shipped

    return word.endswith((".yaml", ".yml")) or (
        not Path(word).exists() and find_shipped("pipelines", word, ".yaml") is not None
    )


def _seeds(config: Config, show: int) -> Found:
    """The table by source and kind, then the first findings, the unusable before the doubtful."""
    from mmpr_builder import audit, prompts, seeds
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
        result = audit.audit_seeds(items, config, templates, judge)
    names = ("source", "compared as", "seeds", "clean", "unusable", "doubtful")
    rows = (
        (*key, f"{row.seeds:,}", f"{row.clean:,}", _told(row.unusable), _told(row.doubtful))
        for key, row in sorted(result.rows.items())
    )
    shown: list[RenderableType] = [columns(names, rows), Text()]
    if result.without_truth:
        shown.append(Text(f"{result.without_truth:,} seeds without a truth"))
    if result.unread:
        shown.append(Text(f"rows that are no seeds: {_told(result.unread)}"))
        shown += (Text(f"  {reason}: {why}") for reason, why in result.first_unread.items())
    shown += (
        entry(
            one.origin or one.seed_id,
            (one.reason, "red" if one.unusable else "yellow"),
            f"{_brief(one.value)!r}: {one.detail}",
            one.remedy,
        )
        for one in sorted(result.findings, key=lambda finding: not finding.unusable)[:show]
    )
    shown.append(_rest(len(result.findings), show))
    return shown, bool(result.findings), result.to_json()


def _labels(config: Config, path: Path, show: int) -> Found:
    """Label against outcome, the rates by kind, then the first disagreements."""
    from mmpr_builder import audit
    from mmpr_builder.scoring import Judge

    with Judge(config.scoring) as judge:
        judged = [(case, audit.judge_case(judge, case)) for case in audit.read_cases(path)]
    wrong = [(case, verdict) for case, verdict in judged if not case.agrees(verdict)]
    total = audit.confusion(judged)
    kinds = {
        kind: audit.confusion(item for item in judged if item[0].kind == kind)
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
    shown: list[RenderableType] = [
        columns(("label", *outcomes), counted),
        Text(),
        columns(("kind", "cases", "called right, and is not", "right, and missed"), rates),
        Text(),
        *(_disagreement(case, verdict) for case, verdict in wrong[:show]),
        _rest(len(wrong), show),
    ]
    return shown, bool(wrong), content


def _disagreement(case: LabelledCase, verdict: Verdict) -> Text:
    said = verdict.answer if verdict.answer is not None else case.said[-60:]
    return entry(
        case.id,
        (f"{case.expected}, called {verdict.outcome}", "red"),
        f"said {_brief(said)!r}, truth {_brief(' | '.join(case.truths))!r}",
        f"{verdict.rule}: {verdict.reason}",
    )


def _suspects(config: Config, out: str, bounds: dict[str, Any], show: int) -> Found:
    """The seeds whose samples agree on another answer, the clearest first."""
    from mmpr_builder import audit
    from mmpr_builder.config import Config
    from mmpr_builder.errors import InputError
    from mmpr_builder.io import tables
    from mmpr_builder.output import read_rollouts
    from mmpr_builder.pairing import scorer_for
    from mmpr_builder.progress import Progress
    from mmpr_builder.scoring import Judge

    parts = tables.list_parts(f"{out}/rollouts") or tables.list_parts(out)
    if not parts:
        raise InputError(f"{out}: no rollouts here: give a build's folder")
    counts = Counter(seeds=0, with_truth=0)

    def rollouts() -> Iterator[Rollout]:
        for rollout in _counted(read_rollouts(parts), progress):
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
            audit.suspect_truths(
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
    clearest = sorted(suspects, key=_by_luck)[:show]
    content = {**bounds, **counts, "suspects": [asdict(suspect) for suspect in suspects]}
    shown: list[RenderableType] = [head, *map(_suspect, clearest), _rest(len(suspects), show)]
    return shown, bool(suspects), content


def _by_luck(one: SuspectTruth) -> tuple[float, float, str]:
    return one.false_discovery, -one.majority_share, one.seed_id


def _suspect(one: SuspectTruth) -> Text:
    return entry(
        one.seed_id,
        (one.origin, ""),
        _brief(one.question.replace("<image>", " ")),
        f"truth {_brief(' | '.join(one.truths), 40)!r}: {one.truth_share:.0%} right;"
        f" {one.majority_share:.0%} of {one.answered} answers say {_brief(one.majority, 40)!r}"
        f" (up to here {one.false_discovery:.0%} by luck)",
    )


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


def _rest(found: int, show: int) -> Text:
    if not found:
        return Text("nothing found", style="green")
    left = found - show
    return Text(f"… and {left:,} more: --show {found}, or --json FILE" if left > 0 else "")


def _brief(text: str, most: int = 60) -> str:
    return " ".join(text.split())[:most]
