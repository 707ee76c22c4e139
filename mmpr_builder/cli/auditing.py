"""`mmpr audit`: truths against themselves, the scorer against labels, samples against truths."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from mmpr_builder.cli import findings
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
    from mmpr_builder.distributed.demo_source import with_demo
    from mmpr_builder.progress import Progress
    from mmpr_builder.scoring import Judge

    templates = prompts.load_templates(config)
    seeds.check_sources([source for source in config.seeds if source.path != "demo"])
    sources = with_demo(config)
    with (
        Judge(config.scoring) as judge,
        Progress.auto() as progress,
        progress.stage("checking the truths"),
    ):
        items = findings.counted(seeds.read_sources(sources, limit=config.limit), progress)
        result: SeedAudit = audit.audit_seeds(items, config, templates, judge)
    console.print(findings.of_seeds(result, show))
    return bool(result.findings), result.to_json()


def _labels(config: Config, path: Path, show: int) -> tuple[bool, dict[str, Any]]:
    from mmpr_builder import audit
    from mmpr_builder.scoring import Judge

    with Judge(config.scoring) as judge:
        judged: list[tuple[LabelledCase, Verdict]] = [
            (case, audit.judge_case(judge, case)) for case in audit.read_cases(path)
        ]
    wrong = [(case, verdict) for case, verdict in judged if not case.agrees(verdict)]
    console.print(findings.of_labels(judged, wrong, show))
    by_kind: dict[str, list[tuple[LabelledCase, Verdict]]] = {}
    for case, verdict in judged:
        by_kind.setdefault(case.kind, []).append((case, verdict))
    content = {
        "cases": len(judged),
        **findings.rates(judged),
        "kinds": {kind: findings.rates(part) for kind, part in sorted(by_kind.items())},
        "disagreements": [{**asdict(case), "verdict": asdict(v)} for case, v in wrong],
    }
    return bool(wrong), content


def _suspects(
    config: Config, out: str, shares: dict[str, Any], show: int
) -> tuple[bool, dict[str, Any]]:
    from mmpr_builder import audit, tables
    from mmpr_builder.errors import InputError
    from mmpr_builder.pairing import scorer_for
    from mmpr_builder.progress import Progress
    from mmpr_builder.scoring import Judge

    folder = out.rstrip("/")
    parts = tables.list_parts(f"{folder}/rollouts") or tables.list_parts(folder)
    if not parts:
        raise InputError(f"{folder}: no rollouts here: give a build's folder")
    seen = findings.Seen()
    # The rollouts of a build that was never paired say themselves how they are scored.
    with_recipe = config != Config()
    with (
        Judge(config.scoring) as judge,
        Progress.auto() as progress,
        progress.stage("comparing answers"),
    ):
        suspects: list[SuspectTruth] = list(
            audit.suspect_truths(
                findings.counted(seen.reading(parts), progress),
                judge,
                scorer_of=lambda seed: scorer_for(seed, config) if with_recipe else seed.scorer,
                **shares,
            )
        )
    console.print(findings.of_suspects(suspects, seen, show))
    content = {
        **shares,
        "seeds": seen.seeds,
        "with_truth": seen.with_truth,
        "suspects": [asdict(suspect) for suspect in suspects],
    }
    return bool(suspects), content
