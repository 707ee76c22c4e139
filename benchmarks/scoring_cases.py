"""Scoring against labelled files: speed, confusion table, rates, and every case that is wrong.

    python benchmarks/scoring_cases.py answers.jsonl responses.jsonl hostile.jsonl [--show 50]

The files are those of `mmpr audit --labels` (`mmpr_builder/audit/labels.py` says what a row may
hold); here every case is timed on its own, and all are judged again from the cache.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path

from mmpr_builder.audit.labels import Confusion, LabelledCase, confusion, judge_case, read_cases
from mmpr_builder.config import ScoringConfig
from mmpr_builder.records import Verdict
from mmpr_builder.scoring import Judge


@dataclass
class Result:
    """What came out for one file."""

    judged: list[tuple[LabelledCase, Verdict]] = field(default_factory=list)
    seconds: float = 0.0
    slowest: float = 0.0

    @property
    def confusion(self) -> Confusion:
        return confusion(self.judged)

    @property
    def wrong(self) -> list[tuple[LabelledCase, Verdict]]:
        """The cases whose verdict is not their label."""
        return [(case, verdict) for case, verdict in self.judged if not case.agrees(verdict)]


def run(path: Path, judge: Judge) -> Result:
    """Judge every case of a file."""
    result = Result()
    for case in read_cases(path):
        start = time.perf_counter()
        verdict = judge_case(judge, case)
        elapsed = time.perf_counter() - start
        result.seconds += elapsed
        result.slowest = max(result.slowest, elapsed)
        result.judged.append((case, verdict))
    return result


def show(path: Path, result: Result, limit: int) -> None:
    table = result.confusion
    cases = len(result.judged)
    print(f"\n{path}: {cases} cases, {result.seconds:.2f} s, slowest {result.slowest:.2f} s")
    for (expected, outcome), count in sorted(table.counts.items()):
        print(f"  expected {expected:11} got {outcome:10} {count:5}")
    wrong, missed = table.false_positives, table.misses
    print(f"  false positives {wrong.hits}/{wrong.of}, misses {missed.hits}/{missed.of}")
    for case, verdict in result.wrong[:limit]:
        said = case.said[:120] if case.style is None else "…" + case.said[-80:]
        what = f"gold {case.truths!r} said {said!r} answer {str(verdict.answer)[:60]!r}"
        options = f" of {case.choices!r}" if case.choices else ""
        why = f"{verdict.outcome} ({verdict.rule}: {verdict.reason})"
        line = f"  {case.id} {case.scorer}: {what}{options} -> {why}"
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
            result = run(path, judge)
            show(path, result, options.show)
            start = time.perf_counter()
            again = [judge_case(judge, case) for case, _ in result.judged]
            print(f"  once cached: {len(again) / (time.perf_counter() - start):,.0f} verdicts/s")
        print("\n", judge.stats())


if __name__ == "__main__":
    main()
