"""What is each part of a build worth in training? The demo model on equally many pairs of each.

    python -m benchmarks.parts [--repeats 1] [--seeds 400] [--held_out 2950] [--steps 48]
                               [--pairs 384] [--rate 8e-5] [--work out/bench-parts] [--ratios]

One build samples everything that the parts need. Every second question with a truth stands in it
once more without its truth, for a majority. A judge that knows the scene
(tools/demo_model/facts.py) compares the descriptions: what it gives is the most that a judge can
give. Of each variant's pairs equally many are drawn by hash and trained on for equally many steps,
as in benchmarks/mpo.py, and the model is measured on questions and descriptions never used. What is
finished in the work folder is not done again. `--ratios` does it for pairs of DropoutNTP that keep
a quarter, half and three quarters of a response.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.mpo import (
    HELD_OUT_SEED,
    MPO,
    TRAIN_SEED,
    TRAINING,
    between,
    gain_of,
    gains,
    mean,
    measured,
    refuse_overlap,
    run_module,
)
from benchmarks.results import parser, record, spread, table
from mmpr_builder.config import Config, load_config
from mmpr_builder.demo import model_path, write_seeds
from mmpr_builder.demo.world import Scene, make_scene
from mmpr_builder.library import read_rollouts, write_rollouts
from mmpr_builder.output import load_pairs
from mmpr_builder.pairing import settled
from mmpr_builder.records import Rollout, content_id
from mmpr_builder.sampling import Continue, Request, Sample
from mmpr_builder.sampling.comparing import compared
from mmpr_builder.scoring import Judge
from tools.demo_model.facts import check

WITHHELD = "withheld-"
SAMPLED = ("sampling.n=16", "sampling.blind=4", "steps.apply=frugal", "steps.faithful=4")
JUDGED = ("scoring.judge.open=8",)
TOKENS = ("responses", "dropout", "faithful", "steps", "majority")
SAMPLES = 4  # For each question never used.
OUTCOME = ("correctness", "format")
ALL = (*OUTCOME, "step", "dropout_ntp", "judged")


@dataclass(frozen=True, slots=True)
class Part:
    """A way to choose pairs: their kinds, settings of pairing, and which rows take part."""

    name: str
    kinds: tuple[str, ...]
    settings: tuple[str, ...] = ()
    takes: Callable[[str, bool], bool] = lambda seed_id, halved: WITHHELD not in seed_id
    """Of a seed's id, and whether its question stands in the build without its truth, too."""
    keep: float | None = None
    """Of DropoutNTP pairs: how much of the response they keep."""

    @property
    def file_name(self) -> str:
        """Its name, as one of a folder."""
        return re.sub(r"\W+", "-", self.name).strip("-")


FAITHFUL = ("quality.min_faithful=0.5", "pairing.partner=faithful")
PARTS = (
    Part("outcome pairs", OUTCOME),
    Part("+ faithful", OUTCOME, FAITHFUL),
    Part("+ step", (*OUTCOME, "step")),
    Part("+ majority, half of the truths", OUTCOME, takes=lambda _, halved: not halved),
    Part("DropoutNTP", ("dropout_ntp",)),
    Part("DropoutNTP + judged", ("dropout_ntp", "judged")),
    Part("all together", ALL, FAITHFUL, takes=lambda *_: True),
)
RATIOS = tuple(
    Part(f"{keep:.0%} kept", ("dropout_ntp",), ("pairing.max_per_seed=24",), keep=keep)
    for keep in (0.25, 0.5, 0.75)
)
CONTINUED = ("sampling.n=8", "sampling.blind=4", "dropout.keep=0.25,0.5,0.75")


class Knowing:
    """A judge that knows the scene: of two descriptions that with fewer wrong facts is better."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    async def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
        """A rubric, or one of the three words."""
        shown = re.findall(r"<answer-[ab] (\w+)>\n(.*?)\n</answer-[ab] \1>", request.prompt, re.S)
        text = "1. Every fact is as the picture shows it."
        if shown:
            a, b = (check(answer, self._scene).wrong for _, answer in shown)
            text = "A" if a < b else "B" if b < a else "TIE"
        yield Sample(0, text, 1, "stop", 0)

    async def continue_response(self, request: Request, sample: Sample, how: Continue) -> None:
        """A judge continues nothing."""

    async def close(self) -> None:
        """It holds nothing."""


def main(words: list[str]) -> int:
    """Run what is not there yet, write the table; 1 if all parts together miss their goals."""
    options = parser("parts", repeats=1, seeds=400, held_out=2950, steps=48, pairs=384)
    options.add_argument("--work", type=Path, default=Path("out/bench-parts"))
    options.add_argument("--rate", type=float, default=TRAINING["rate"], help="of learning")
    options.add_argument("--ratios", action="store_true", help="DropoutNTP by what is kept")
    args = options.parse_args(words)
    parts, asked = (RATIOS, CONTINUED) if args.ratios else (PARTS, SAMPLED)
    held_out = write_seeds(args.work / "held-out", args.held_out, seed=HELD_OUT_SEED)
    found: dict[str, list[dict[str, Any]]] = {}
    sums: list[dict[str, Any]] = []
    for repeat in range(args.repeats):
        work = args.work / f"repeat-{repeat}"
        training = write_seeds(work / "seeds", args.seeds, seed=TRAIN_SEED + repeat)
        refuse_overlap(training, held_out)
        before = measured(model_path(), held_out, repeat, work / "before.json", samples=SAMPLES)
        settings = (str(_recipe(training)), *asked, *args.settings)
        rollouts = _sampled(work, settings, TRAIN_SEED + repeat)
        sums.append(_sums(rollouts, training))
        for part in parts:
            how = {"seed": repeat, "steps": args.steps, "rows": args.pairs, "rate": args.rate}
            trained = _trained(part, rollouts, work, settings, how)
            kept, model = work / f"{part.file_name}.json", work / part.file_name / "model"
            after = measured(model, held_out, repeat, kept, samples=SAMPLES)
            run = {"before": before, "after": {**after, **trained}}
            found.setdefault(part.name, []).append(run)
            print(part.name, repeat, {k: v for k, v in after.items() if isinstance(v, float)})
    lines = list(_lines(found, sums, args.rate))
    if args.ratios:
        title = "DropoutNTP by the part of a response that is kept"
        record("ratios", title, lines, args.results, module="parts")
        return 0
    record("parts", "What each part of a build is worth", lines, args.results)
    return 0 if _reached(found) else 1


def _recipe(training: Path) -> Path:
    """A recipe with all seeds, and every second question with a truth once more without it."""
    rows = [json.loads(line) for line in training.read_text(encoding="utf-8").splitlines()]
    asked = [row for row in rows if "answer" in row][1::2]
    withheld = training.with_name("withheld.jsonl")
    with withheld.open("w", encoding="utf-8") as file:
        for row in asked:
            row["id"] = WITHHELD + row["id"]
            del row["answer"]
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    sources = [{"path": training.name}, {"path": withheld.name, "branch": "majority"}]
    recipe = training.with_name("recipe.yaml")
    base = str(Path("pipelines/demo.yaml").resolve())
    recipe.write_text(json.dumps({"base": base, "seeds": sources}), encoding="utf-8")
    return recipe


def _sampled(work: Path, settings: tuple[str, ...], world: int) -> list[Rollout]:
    """All rollouts, those of descriptions compared by the judge."""
    recipe, *more = settings
    build, kept = work / "build", work / "compared"
    if not kept.exists():
        run_module("mmpr_builder", "sample", recipe, f"out={build}", *more)
        config = load_config(recipe, [*more, *JUDGED])
        found = [asyncio.run(_compared(one, config, world)) for one in read_rollouts(build)]
        write_rollouts(found, kept)
    return list(read_rollouts(kept))


async def _compared(rollout: Rollout, config: Config, world: int) -> Rollout:
    if rollout.seed.has_truth or rollout.seed.id.startswith(WITHHELD):
        return rollout
    scene = make_scene(world, int(rollout.seed.id.rpartition("-")[2]), "eval")
    return await compared(Request("", ""), rollout, config, Knowing(scene))


def _trained(
    part: Part,
    rollouts: list[Rollout],
    work: Path,
    settings: tuple[str, ...],
    how: dict[str, Any],
) -> dict[str, Any]:
    """How many pairs there are and were taken, after the training that is not done yet."""
    folder = work / part.file_name
    if not (folder / "model" / "training.json").exists():
        recipe, *more = settings
        own = [f"pairing.kinds={','.join(part.kinds)}", "pairing.max_per_seed=4", *part.settings]
        write_rollouts(rollouts, folder / "build")
        run_module("mmpr_builder", "pair", recipe, f"out={folder / 'build'}", *more, *JUDGED, *own)
        ids = {one.seed.id for one in rollouts}
        rows = load_pairs(folder / "build").select_columns(["id", "seed_id", "dropout_keep"])
        able = [
            row["id"]
            for row in rows
            if part.takes(row["seed_id"], WITHHELD + row["seed_id"] in ids)
            and part.keep in (None, row["dropout_keep"])
        ]
        drawn = sorted(able, key=lambda name: content_id("parts", name))[: how["rows"]]
        told = {"kinds": part.kinds, "losses": MPO, "ids": drawn, **TRAINING, **how}
        run_module(
            "benchmarks.mpo_train", str(folder / "build"), str(folder / "model"), json.dumps(told)
        )
        (folder / "able.json").write_text(json.dumps(len(able)), encoding="utf-8")
    trained = json.loads((folder / "model" / "training.json").read_text(encoding="utf-8"))
    able = json.loads((folder / "able.json").read_text(encoding="utf-8"))
    return {"pairs": trained["pairs"], "able": able}


def _sums(rollouts: list[Rollout], training: Path) -> dict[str, float]:
    """Tokens of each part, and what the majorities are worth."""
    lines = training.read_text(encoding="utf-8").splitlines()
    truths = {row["id"]: row.get("answer") for row in map(json.loads, lines)}
    found: Counter[str] = Counter()
    with Judge() as judge:
        config = load_config(str(training.with_name("recipe.yaml")), SAMPLED)
        for one in rollouts:
            asked = one.seed.id.startswith(WITHHELD)
            found["responses" if not asked else "majority"] += sum(r.tokens for r in one.responses)
            found["majority"] += asked * sum(r.tokens for r in one.blind)
            for response in one.responses:
                found["dropout"] += sum(c.tokens for c in response.continuations)
                for again in response.with_image:
                    found["steps" if again.keep >= 1 else "faithful"] += again.tokens
            if asked:
                settled_one = settled(one, config, judge).seed
                found["asked"] += 1
                if settled_one.truth_source == "majority":
                    truth = truths[one.seed.id.removeprefix(WITHHELD)]
                    (answer,) = settled_one.answers
                    verdict = judge.score_answer(answer, [truth], choices=one.seed.choices)
                    found[f"majority_{verdict.outcome}"] += 1
    return dict(found)


def _lines(
    found: dict[str, list[dict[str, Any]]], sums: list[dict[str, float]], rate: float
) -> Iterator[str]:
    runs = next(iter(found.values()))
    before = runs[0]["before"]
    total = sum((Counter(one) for one in sums), Counter())
    right = total["majority_correct"]
    settled_ones = sum(n for name, n in total.items() if name.startswith("majority_"))
    tokens = ", ".join(f"{name} {total[name]:,}" for name in TOKENS)
    yield (
        f"The demo model before: pass@1 {100 * before['pass@1']:.1f}, greedy"
        f" {100 * before['greedy']:.1f} of {before['seeds']} questions, wrong facts"
        f" {100 * before['facts_wrong']:.1f} % of {len(before['descriptions'])} descriptions;"
        f" {SAMPLES} samples of each; repeats: {len(runs)}, learning rate {rate},"
        f" batch {TRAINING['batch']}. Tokens sampled: {tokens}. Of {total['asked']} questions"
        f" without their truth {settled_ones} got one by majority, {right} of them the right one."
        " Points gained with 95 % intervals over pictures and repeats."
    )
    yield ""
    header = ("trained on", "pairs (of)", "pass@1", "greedy", "wrong facts", "wrong, greedy",
              "facts named", "pass@1 less the first")  # fmt: skip
    yield from table(header, [_row(name, each, found) for name, each in found.items()])


def _row(
    name: str, runs: list[dict[str, Any]], found: dict[str, list[dict[str, Any]]]
) -> list[object]:
    after = [run["after"] for run in runs]
    first = [run["after"] for run in next(iter(found.values()))]
    pairs, able = (spread([one[what] for one in after]) for what in ("pairs", "able"))
    return [
        name,
        f"{pairs} ({able})",
        *(gains(runs, figure) for figure in ("pass@1", "greedy")),
        *(gains(runs, figure, "descriptions") for figure in ("wrong", "greedy")),
        f"{mean(gain_of(runs, 'facts_named')) / 100:+.1f}",
        "" if name == next(iter(found)) else between(first, after, "pass@1"),
    ]


def _reached(found: dict[str, list[dict[str, Any]]]) -> bool:
    """Two points of pass@1 over outcome pairs, greedy not worse, 0.7 of the wrong facts."""
    whole, first = (found[part.name] for part in (PARTS[-1], PARTS[0]))
    after, other = ([run["after"] for run in runs] for runs in (whole, first))
    wrong = mean(run["after"]["facts_wrong"] / run["before"]["facts_wrong"] for run in whole)
    better = between(other, after, "pass@1").mean >= 2
    return better and between(other, after, "greedy").high >= 0 and wrong <= 0.7


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
