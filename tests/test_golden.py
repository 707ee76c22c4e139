"""What builds and verdicts come to, by hash: a change that moves code changes none of them.

`MMPR_GOLDEN=write pytest tests/test_golden.py` writes the hashes anew, for changes that mean to.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import old_builds
import pytest
from old_builds import OTHER, PLAIN, recorded, settings
from small_builds import make_config, sample_here

from mmpr_builder.config import Config, ScoringConfig
from mmpr_builder.engines import make_sampler
from mmpr_builder.io.tables import list_parts, read_parquet
from mmpr_builder.progress import Progress
from mmpr_builder.runs import run_pairing
from mmpr_builder.scoring import Judge

FILE = Path(__file__).parent / "golden" / "hashes.json"
CASES = Path(__file__).parent / "cases"
NATURAL = Path(__file__).parents[1] / "benchmarks" / "natural_cases.jsonl"
PUBLISHED = Path(__file__).parents[2] / "shared" / "data" / "verdicts" / "published.jsonl"
CONTROLS = (
    *("quality.balance.lengths=true", "quality.balance.answers=true", "quality.hygiene=true"),
    *("quality.dropout_gate=true", "quality.distinct=0.95", "pairing.partner=like_length"),
    *(
        "pairing.max_per_response=3",
        "pairing.max_gap=60",
        "pairing.rejected_first=distinct_answers",
    ),
)


def same(name: str, found: dict[str, str]) -> None:
    """Compare with the hashes on file, or put them there."""
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    if os.environ.get("MMPR_GOLDEN") == "write":
        known[name] = found
        FILE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    assert found == known[name]


def digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=repr)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def tables_of(out: str, *names: str) -> dict[str, str]:
    """Values and types of what a build's folders hold."""
    found = {}
    for name in names:
        tables = [read_parquet(part) for part in list_parts(f"{out}/{name}")]
        types = [(field.name, str(field.type)) for table in tables for field in table.schema]
        rows = [row for table in tables for row in table.to_pylist()]
        if name == "drops":  # Their detail is prose.
            rows = [{key: row[key] for key in ("item_id", "stage", "reason")} for row in rows]
        found[name] = digest([types, rows])
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with old_builds.unpacked(tmp_path_factory.mktemp("golden")) as found:
        yield found


def replayed(
    words: tuple[str, ...], out: Path, *more: str, extend: bool = False, least: int = 2
) -> Config:
    """A build of the same seeds whose answers come from the old one."""
    old = "plain" if words is PLAIN else "other"
    replay = (
        "sampling.engine=replay",
        f"sampling.replay_from={old_builds.HOME / old / 'rollouts'}",
    )
    config = recorded(settings(words, out, *replay, *more), "sampling", round=least)
    sample_here(config, make_sampler, extend=extend)
    return config


def check(name: str, config: Config) -> None:
    run_pairing(config, Progress())
    names = ("pairs", "drops") if config.rollouts else ("rollouts", "pairs", "drops")
    same(name, tables_of(config.out, *names))


def test_a_plain_build(home: Path) -> None:
    check("plain", replayed(PLAIN, home / "a"))


def test_a_build_that_was_extended(home: Path) -> None:
    replayed(PLAIN, home / "b", "limit=6")
    check("extended", replayed(PLAIN, home / "b", extend=True))


def test_builds_that_are_pooled(home: Path) -> None:
    one, other = replayed(PLAIN, home / "c"), replayed(OTHER, home / "d")
    check("pooled", settings(PLAIN, home / "e", f"rollouts={one.out},{other.out}"))


def test_an_adaptive_build(home: Path) -> None:
    adaptive = ("sampling.policy=adaptive", "sampling.target_pairs=3")
    check("adaptive", replayed(PLAIN, home / "f", *adaptive, least=1))


def test_a_build_with_controls(home: Path, tmp_path: Path) -> None:
    check("controls", replayed(PLAIN, home / "g", *CONTROLS))
    many = make_config(tmp_path, 400, "dropout.apply=all", *CONTROLS)
    sample_here(many)
    check("many", many)
    shutil.rmtree(many.out)


# ------------------------------------------------------------------ verdicts


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge(ScoringConfig(timeout_s=30.0)) as shared:
        yield shared


def table_verdicts(judge: Judge, path: Path) -> list[Any]:
    found: list[Any] = []
    for case in json.loads(path.read_text("utf-8")):
        if not isinstance(case, dict):  # Hostile pairs, whose verdicts may time out.
            continue
        options = {key: case.get(key) for key in ("choices", "question")}
        if "right" in case:
            for answer in (*case["right"], *case["wrong"]):
                verdict = judge.score_answer(answer, case["gold"], scorer=case["scorer"], **options)
                found.append(verdict.outcome)
        elif "correct" in case:
            for text in (*case["correct"], *case["incorrect"]):
                verdict = judge.score_response(
                    text, case["gold"], style=case["style"], scorer=case["scorer"], **options
                )
                found.append((verdict.outcome, verdict.answer))
    return found


def line_verdicts(judge: Judge, path: Path) -> list[Any]:
    found: list[Any] = []
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        options = {key: row.get(key) for key in ("choices", "question")}
        scorer = row.get("scorer", "auto")
        if row.get("pred") is not None:
            verdict = judge.score_answer(row["pred"], row["gold"], scorer=scorer, **options)
        else:
            style = row.get("style", "final_answer")
            verdict = judge.score_response(
                row["response"], row["gold"], style=style, scorer=scorer, **options
            )
        found.append((verdict.outcome, verdict.answer))
    return found


@pytest.mark.slow
def test_verdicts_on_natural_answers(judge: Judge) -> None:
    same("natural", {NATURAL.name: digest(line_verdicts(judge, NATURAL))})


@pytest.mark.slow
@pytest.mark.skipif("MMPR_GOLDEN" not in os.environ, reason="test_scoring_cases has their labels")
def test_verdicts_on_the_tables_of_cases(judge: Judge) -> None:
    tables = sorted(CASES.glob("*.json"))
    same("cases", {path.name: digest(table_verdicts(judge, path)) for path in tables})


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED.is_file(), reason="no published answers beside the checkout")
def test_verdicts_on_published_answers(judge: Judge) -> None:
    same("published", {PUBLISHED.name: digest(line_verdicts(judge, PUBLISHED))})
