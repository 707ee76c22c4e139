"""Verdicts on labelled answers of real models, corpus by corpus, beside math-verify.

    make bench ONLY=real_verdicts FILE=labelled.jsonl
    python -m benchmarks.real_verdicts labelled.jsonl [--half first] [--leave-out ID …]

The files are those of `mmpr audit --labels`, with `corpus` beside each row. Rows without a question
are counted apart, and so are sentences: corpora named `…-sentence` or `DocVQA…`. `--half` takes one
half of the questions, by hash: rules are made on the first and measured on the second.

Shares come with the 95 % interval of Wilson's score. "called wrong" is `incorrect`; "missed" is
anything but `correct`; "abstained" is a wrong answer that was found and is `undecided`. math-verify
gets each truth between dollars, and the answer or whole response as it is.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import RESULTS, parser, record, table
from benchmarks.scoring_speed import core_seconds, empty_caches
from mmpr_builder.audit.labels import LabelledCase, Rate, judge_case, read_cases
from mmpr_builder.records import Verdict
from mmpr_builder.scoring import Judge

_WITHOUT_QUESTION = "no question: "
_HEADER = ("", "right", "called wrong", "missed", "wrong", "called right", "abstained")
_PEER = ("math-verify: missed", "math-verify: called right")
Judged = list[tuple[LabelledCase, Verdict, bool]]
"""A case, our verdict, and whether math-verify calls it right."""


def main(words: Sequence[str]) -> int:
    """Measure and show; the page of results is only written with `--results`."""
    options = parser("real_verdicts")
    options.add_argument("--half", choices=("first", "second"), help="half of the questions")
    options.add_argument("--leave-out", nargs="*", default=(), metavar="ID", help="faulty labels")
    chosen = options.parse_args(words)
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    cases = [
        case
        for path in map(Path, chosen.settings)
        for case in read_cases(path)
        if case.id not in chosen.leave_out and chosen.half in (None, half_of(case))
    ]
    judged, lines = measure(cases)
    lines = [*lines, "", *report(judged)]
    if chosen.results == RESULTS:
        print("\n".join(lines), flush=True)
    else:
        record("real_verdicts", "Verdicts on real answers", lines, chosen.results)
    return 0


def half_of(case: LabelledCase) -> str:
    """Which half a case belongs to; all answers to one question belong to the same."""
    text = case.question or " ".join(case.truths)
    return "first" if int(hashlib.sha256(text.encode()).hexdigest(), 16) % 10 < 5 else "second"


def measure(cases: Sequence[LabelledCase]) -> tuple[Judged, list[str]]:
    """All verdicts of both, and lines on speed."""
    ours: list[Verdict] = []
    slowest = [0.0, ""]
    empty_caches()
    with Judge() as judge:
        judge.score_answer("x+2", "2+x+0", scorer="math")  # the worker has started

        def run() -> None:
            for case in cases:
                start = time.perf_counter()
                ours.append(judge_case(judge, case))
                slowest[:] = max(slowest, [time.perf_counter() - start, case.id])

        our_seconds = core_seconds(run)
    peer: list[bool] = []
    peer_seconds = core_seconds(lambda: peer.extend(map(math_verify, cases)))
    rate = len(cases) / our_seconds
    lines = [
        f"{len(cases):,} rows: {rate:,.0f} verdicts per core-second,"
        f" {peer_seconds / our_seconds:.1f} times math-verify's {len(cases) / peer_seconds:,.0f};"
        f" the slowest row took {slowest[0]:.2f} s ({slowest[1]}).",
    ]
    return list(zip(cases, ours, peer, strict=True)), lines


def math_verify(case: LabelledCase) -> bool:
    """Whether math-verify takes the answer for one of the truths."""
    from math_verify import parse, verify

    said = parse(case.said)
    return any(verify(parse(f"${truth}$"), said) for truth in case.truths)


def report(judged: Judged) -> list[str]:
    """The table of corpora; sums of the plain ones, of sentences and of rows without question."""
    groups: dict[str, Judged] = defaultdict(list)
    for row in judged:
        apart = not row[0].question
        groups[(_WITHOUT_QUESTION if apart else "") + row[0].kind].append(row)
        sentence = row[0].kind.endswith("-sentence") or row[0].kind.startswith("DocVQA")
        groups["~" + (_WITHOUT_QUESTION if apart else "sentences" if sentence else "plain")].append(
            row
        )
    names = sorted(groups, key=lambda name: (name.startswith(("~", _WITHOUT_QUESTION)), name))
    rows = [_row(name.removeprefix("~").rstrip(": "), groups[name]) for name in names]
    return table((*_HEADER, *_PEER), rows)


def _row(name: str, judged: Judged) -> list[str]:
    right = [(verdict, peer) for case, verdict, peer in judged if case.expected == "correct"]
    wrong = [(verdict, peer) for case, verdict, peer in judged if case.expected != "correct"]
    found = [verdict for verdict, _ in wrong if verdict.outcome != "no_answer"]
    return [
        name,
        str(len(right)),
        _share(Rate(sum(v.outcome == "incorrect" for v, _ in right), len(right))),
        _share(Rate(sum(v.outcome != "correct" for v, _ in right), len(right))),
        str(len(wrong)),
        _share(Rate(sum(v.outcome == "correct" for v, _ in wrong), len(wrong))),
        _share(Rate(sum(v.outcome == "undecided" for v in found), len(found))),
        _share(Rate(sum(not peer for _, peer in right), len(right))),
        _share(Rate(sum(peer for _, peer in wrong), len(wrong))),
    ]


def _share(rate: Rate) -> str:
    """`3, 1.2 % (0.4 to 3.4)`."""
    if rate.share is None:
        return ""
    low, high = rate.interval
    return f"{rate.hits}, {100 * rate.share:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
