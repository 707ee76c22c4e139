"""Which steps of a response are right, for process reward models: from builds with `steps.apply`.

    prm        a chat as in VisualPRM400K: question and first step -> +, second step -> -, …
    stepwise   prompt, completions: [first step, …], labels: [True, …]          TRL's form

A row ends before the first step of which nothing is known. The responses are those whose steps
were tried, and in frugal builds the right ones beside them, of which no step is wrong. VisualPRM
(arXiv 2503.10291) calls a step right if one of its continuations gets there; here it also is if a
later step leads there. InternVL's chat trainer reads the first form. PRMTrainer (of TRL 0.19; 1.16
has none) reads texts alone: the first three columns of the second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmpr_builder.config import Config
from mmpr_builder.errors import RowError
from mmpr_builder.export.destination import ImageFiles, JsonlFiles, write_json
from mmpr_builder.export.faults import pair_faults
from mmpr_builder.export.items import Item
from mmpr_builder.export.options import ExportOptions
from mmpr_builder.export.responses import SplitFiles, query_item, with_images
from mmpr_builder.export.writing import Format
from mmpr_builder.io.tables import plain
from mmpr_builder.output import schema_of
from mmpr_builder.prompts import parts
from mmpr_builder.records import Rollout, Verdict, content_id
from mmpr_builder.steps import ends_from, is_right, labels_of, steps_of, tried

ASKED = (
    "You check solutions step by step. The first message holds a question and the first step of its"
    " solution, each later message the next step. Reply + if everything so far is right, else -."
)


def _rows(
    rollout: Rollout, verdicts: Sequence[Verdict], config: Config, options: ExportOptions
) -> Iterator[Item]:
    """The responses of a judged rollout whose steps were tried, with a label for each step."""
    responses, steps = rollout.responses, config.steps
    if steps.apply == "none":
        raise RowError("no_steps", "no steps were tried: sample with steps.apply=exact")
    judged = list(zip(responses, verdicts, strict=True))
    right = [r.text for r, verdict in judged if is_right(r.finish_reason, verdict)]
    query = query_item(rollout, config)
    question, made = plain(rollout.seed.question), 0
    for index in tried(responses, verdicts, steps.responses):
        response, verdict = judged[index]
        labels = labels_of(response, verdict, steps.cut, right)
        known = labels.index(None) if None in labels else len(labels)
        if not known:
            continue
        ends = [ends_from(response.with_image, step) for step in range(1, known + 1)]
        row = {
            "prompt": question,
            "completions": plain(steps_of(response.text, steps.cut)[:known]),
            "labels": labels[:known],
            "values": [said.count(True) / len(said) if said else None for said in ends],
            "id": content_id(rollout.seed.id, "steps", response.text),
            **{"seed_id": rollout.seed.id, "source": plain(rollout.seed.source)},
            **{"model": plain(rollout.model), "answer": plain(rollout.seed.answers[0])},
        }
        made += 1
        text = "\n".join(row["completions"])
        shown = {"parts": tuple(parts(question)), "text": question}
        yield replace(query, id=row["id"], chosen=text, row=row, **shown)
    if not made:
        raise RowError("no_steps", "no response whose first step is known to be right or wrong")


class _ChatWriter:
    """`meta.json`, JSON lines and images, as InternVL's chat trainer reads them."""

    def __init__(self, folder: Path, home: Path, options: ExportOptions) -> None:
        self._folder, self._home = folder, home
        self._lines, self._images = JsonlFiles(folder), ImageFiles(folder / "images")

    def add(self, item: Item) -> None:
        assert item.row is not None
        names = [self._images.add(picture.read()) for picture in item.pictures]
        turns = [{"from": "system", "value": ASKED}]
        head = f"### Question:\n{item.text}\n\n### Solution Process:\n"
        for step, label in zip(item.row["completions"], item.row["labels"], strict=True):
            turns.append({"from": "human", "value": head + step})
            turns.append({"from": "gpt", "value": "+" if label else "-"})
            head = ""
        image = {"image": names[0] if len(names) == 1 else names} if names else {}
        about = {name: item.row[name] for name in ("id", "seed_id", "source", "values")}
        self._lines.add(f"{item.split}.jsonl", {**about, **image, "conversations": turns})

    def finish(self) -> dict[str, Any]:
        self._lines.flush()
        entries = {name.removesuffix(".jsonl"): n for name, n in sorted(self._lines.rows.items())}
        for name, length in entries.items():
            place = {"root": f"{self._home}/images/", "annotation": f"{self._home}/{name}.jsonl"}
            entry = {**place, "data_augment": False, "repeat_time": 1, "length": length}
            recipe = "meta.json" if name == "train" else "validation.json"
            write_json(self._folder / recipe, {"mmpr_steps": entry})
        return {"images": len(self._images), "entries": entries}


def _open_stepwise(folder: Path, home: Path, options: ExportOptions) -> SplitFiles:
    from datasets import Features, Image, List, Value

    text = Value("string")
    columns = {
        **{"prompt": text, "completions": List(text), "labels": List(Value("bool"))},
        **{"images": List(Image(mode="RGB")), "values": List(Value("float64"))},
        **dict.fromkeys(("id", "seed_id", "source", "model", "answer"), text),
    }
    return SplitFiles(folder, options, "train", schema_of(Features(columns)), with_images)


PRM = Format("prm", pair_faults, _ChatWriter, options=("mount",), rows=_rows)
STEPWISE = Format("stepwise", pair_faults, _open_stepwise, rows=_rows)
