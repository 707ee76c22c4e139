"""Scoring against a labelled file: confusion table, rates, speed, and every case that is wrong.

    python benchmarks/scoring_cases.py answers.jsonl responses.jsonl hostile.jsonl [--show 50]

A row is {"pred", "gold", "scorer", "choices"?, "expected": true|false}, or {"response", "gold",
"prompt_version", "scorer", "choices"?, "expected": outcome}, or {"pred", "gold", "must"} (hostile:
anything but correct, quickly).
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmpr_builder.config import ScoringConfig
from mmpr_builder.records import Verdict
from mmpr_builder.scoring import Judge

STYLE_OF_PROMPT = {
    "en": "final_answer",
    "zh": "final_answer",
    "boxed": "boxed",
    "think": "think_boxed",
    "think_boxed": "think_boxed",
}


@dataclass
class Result:
    """What came out for one file."""

    confusion: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[tuple[dict[str, Any], Verdict]] = field(default_factory=list)
    seconds: float = 0.0
    slowest: float = 0.0

    def rate(self, expected: str, outcomes: tuple[str, ...]) -> tuple[int, int]:
        """(how many of `expected` got one of `outcomes`, how many there are)."""
        of = sum(
            n
            for (label, _), n in self.confusion.items()
            if (label == "correct") == (expected == "correct")
        )
        hits = sum(
            n
            for (label, outcome), n in self.confusion.items()
            if (label == "correct") == (expected == "correct") and outcome in outcomes
        )
        return hits, of


def expected_outcome(row: dict[str, Any]) -> str:
    """The label as an outcome; hostile rows expect anything but correct."""
    label = row.get("expected", False)
    return label if isinstance(label, str) else ("correct" if label else "incorrect")


def judge_row(judge: Judge, row: dict[str, Any]) -> Verdict:
    options = {"scorer": row.get("scorer", "auto"), "choices": row.get("choices")}
    if "response" in row:
        style = STYLE_OF_PROMPT[row["prompt_version"]]
        return judge.score_response(row["response"], row["gold"], style=style, **options)  # type: ignore[arg-type]
    return judge.score_answer(row["pred"], row["gold"], **options)


def run(path: Path, judge: Judge) -> Result:
    """Judge every row of a file."""
    result = Result()
    for row in read(path):
        start = time.perf_counter()
        verdict = judge_row(judge, row)
        elapsed = time.perf_counter() - start
        result.seconds += elapsed
        result.slowest = max(result.slowest, elapsed)
        expected = expected_outcome(row)
        result.confusion[expected, verdict.outcome] += 1
        right = verdict.outcome != "correct" if "must" in row else verdict.outcome == expected
        if not right:
            result.wrong.append((row, verdict))
    return result


def read(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip():
            yield json.loads(line)


def show(path: Path, result: Result, limit: int) -> None:
    false_positives, negatives = result.rate("incorrect", ("correct",))
    missed, positives = result.rate("correct", ("incorrect", "no_answer", "undecided"))
    rows = sum(result.confusion.values())
    print(f"\n{path}: {rows} cases, {result.seconds:.2f} s, slowest {result.slowest:.2f} s")
    for (expected, outcome), count in sorted(result.confusion.items()):
        print(f"  expected {expected:10} got {outcome:10} {count:5}")
    print(f"  false positives {false_positives}/{negatives}, misses {missed}/{positives}")
    for row, verdict in result.wrong[:limit]:
        said = row["pred"] if "pred" in row else "…" + row["response"][-80:]
        where = f"{row.get('id', '')} {row.get('scorer', 'auto')}"
        what = f"gold {row['gold']!r} said {said[:120]!r} answer {str(verdict.answer)[:60]!r}"
        options = f" of {row['choices']!r}" if row.get("choices") else ""
        line = f"  {where}: {what}{options} -> {verdict.outcome} ({verdict.rule}: {verdict.reason})"
        print(line.encode("ascii", "backslashreplace").decode() if "\\ud" in ascii(line) else line)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--show", type=int, default=50, help="wrong cases to list per file")
    parser.add_argument("--timeout", type=float, default=2.0, help="limit of one comparison, s")
    options = parser.parse_args()
    with Judge(ScoringConfig(timeout_s=options.timeout)) as judge:
        for path in options.files:
            show(path, run(path, judge), options.show)
            start = time.perf_counter()
            again = [judge_row(judge, row) for row in read(path)]
            print(f"  once cached: {len(again) / (time.perf_counter() - start):,.0f} verdicts/s")
        print("\n", judge.stats())


if __name__ == "__main__":
    main()
