"""What a build left aside: examples of every reason, and what its quality controls found.

    ("seeds", "image_missing")   seed "q7": "images/07.png: no such file"   from drops/
    "repetition"                 seed "q9": "so it is so it is so it is"    from rollouts/
    decontamination              31 of 12,400 questions: contaminated
    "ambiguous"                  seed "q7": "about 3 or 4", truth 3         from undecided.jsonl

A build counts what its controls left aside of responses and continuations, and does not list it:
the same functions find the first ones again. Where the rollouts are gone there are none. What a
control measured besides (samples without images, balance) the page takes from the counts. What a
person says of undecided answers is saved as labels.jsonl, which `scoring.labels` takes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from mmpr_builder.errors import InputError, RowError
from mmpr_builder.escaping import visible
from mmpr_builder.extraction import extract_answer
from mmpr_builder.io import images, stores, tables
from mmpr_builder.output import UNDECIDED_NAME, read_drops, read_rollouts, read_rows
from mmpr_builder.pairing import read_labels
from mmpr_builder.quality.contamination import CONTAMINATED
from mmpr_builder.quality.controls import Control, Left, controls_of
from mmpr_builder.quality.hygiene import continuation_fault, response_fault
from mmpr_builder.records import ImageRef, Rollout
from mmpr_builder.report.samples import in_turns, thumbnail
from mmpr_builder.report.texts import question_text

EXAMPLES = 3
UNDECIDED = 100
_SHOWN = 300
_TEXT = 160
_RULE = re.compile(r": (question_and_image|question|image): ")
_MOST_RESPONSES = 4_000
"""Read at most: about a second. A reason rarer than one in a thousand may show no example."""


@dataclass(frozen=True, slots=True)
class Example:
    """A seed that was dropped or a response left aside; `question` may also be the response."""

    item_id: str
    detail: str
    question: str = ""


def read_examples(out: str) -> dict[tuple[str, str], list[Example]]:
    """The first dropped seeds of each (stage, reason), in the order of the build."""
    found: dict[tuple[str, str], list[Example]] = {}
    for drop in read_drops(out):
        examples = found.setdefault((drop.stage, drop.reason), [])
        if len(examples) < EXAMPLES:
            examples.append(Example(drop.item_id, visible(drop.detail[:_SHOWN])))
    questions = _questions(out, {e.item_id for examples in found.values() for e in examples})
    return {
        key: [replace(e, question=questions.get(e.item_id, "")) for e in examples]
        for key, examples in found.items()
    }


def _questions(out: str, wanted: set[str]) -> dict[str, str]:
    """Questions by seed id, from the rollouts as far as they are there."""
    found: dict[str, str] = {}
    parts = tables.list_parts(f"{out}/rollouts") if wanted else []
    for row in read_rows(parts, ["id", "question"]):
        if len(found) == len(wanted):
            break
        if row["id"] in wanted:
            found[row["id"]] = question_text(row["question"])[:_SHOWN]
    return found


def read_asides(out: str, wanted: Iterable[str]) -> dict[str, list[Example]]:
    """The first responses of each reason of `this_run.quality` that is wanted."""
    found: dict[str, list[Example]] = {reason: [] for reason in wanted}
    responses = 0
    for rollout in read_rollouts(tables.list_parts(f"{out}/rollouts")) if found else ():
        if responses >= _MOST_RESPONSES or all(len(some) >= EXAMPLES for some in found.values()):
            break
        responses += len(rollout.responses)
        for reason, detail, text in _faults(rollout):
            some = found.get(reason, [])
            # Of different questions: what is wrong once is often wrong in all its responses.
            if len(some) < EXAMPLES and (not some or some[-1].item_id != rollout.seed.id):
                some.append(_example(rollout.seed.id, detail, text))
    return {reason: some for reason, some in found.items() if some}


def _faults(rollout: Rollout) -> Iterator[tuple[str, str, str]]:
    """(reason, detail, text) of its responses and continuations."""
    seed = rollout.seed
    for response in rollout.responses:
        answer = None if rollout.style == "open" else extract_answer(response.text, rollout.style)
        fault = response_fault(
            response.text,
            question=seed.question,
            language=seed.language,
            answer=answer,
            choices=seed.choices,
        )
        if fault is not None:
            yield fault.reason, fault.detail, response.text
        for continuation in response.continuations:
            fault = continuation_fault(response, continuation)
            if fault is not None and continuation.finish_reason == "stop":
                yield f"continuation_{fault.reason}", fault.detail, continuation.text


def _example(name: str, detail: str, text: str) -> Example:
    text = text.strip()
    cut = "…" if len(text) > _TEXT else ""
    return Example(name, visible(detail[:_TEXT]), visible(text[:_TEXT]) + cut)


Examples = Mapping[tuple[str, str], Sequence[Example]]


def shown_controls(out: str, run: Mapping[str, Any], examples: Examples) -> dict[str, Any]:
    """`controls` that were on, and `controls_off`, as the page's template takes them."""
    on, off = controls_of(run)
    asides = read_asides(out, run["this_run"].get("quality", {}) if on else {})
    measured = {**(run["counts"].get("balance") or {}), "blind": run["counts"].get("blind")}
    shown = [
        {
            "control": control,
            "rows": [_row(control, left, examples, asides) for left in control.left],
            "measured": measured.get(control.name) or {},
            "removed": _removed(out, run) if control.name == "decontamination" else (),
        }
        for control in on
    ]
    return {"controls": shown, "controls_off": off}


def _row(
    control: Control, left: Left, examples: Examples, asides: Mapping[str, Sequence[Example]]
) -> dict[str, Any]:
    """One reason for which a control left something aside; `share` of what it was given."""
    found = examples.get((left.stage, left.reason), ())
    if not left.stage:
        found = asides.get(left.reason) or asides.get(f"continuation_{left.reason}") or ()
    given = control.given if left.unit == control.unit else None
    return {
        "label": visible(left.reason),
        "count": left.count,
        "unit": left.unit,
        "share": left.count / given if given else None,
        "examples": found,
    }


def _removed(out: str, run: Mapping[str, Any]) -> tuple[tuple[str, str, int], ...]:
    """(evaluation set, rule, questions): how many each set cost, by the rule that found them."""
    against = run["config"]["quality"]["decontaminate"]["against"]
    found: Counter[tuple[str, str]] = Counter()
    for drop in read_drops(out):
        rule = _RULE.search(drop.detail) if drop.reason == CONTAMINATED else None
        if rule is not None:
            rest = drop.detail[rule.end() :]
            sets = [name for name in against if rest.startswith(f"{name}, ")]
            found[max(sets, key=len, default="?"), rule[1]] += 1
    rows = sorted(found.items(), key=lambda row: (-row[1], row[0]))
    return tuple((visible(name), rule.replace("_", " "), n) for (name, rule), n in rows)


def read_undecided(out: str, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The first `UNDECIDED` answers without a label, rules in turn, with small pictures. Those that
    lie elsewhere than on this machine are not fetched."""
    place = f"{out}/{UNDECIDED_NAME}"
    if not stores.is_there(place):
        return []
    labels: Mapping[str, object] = {}
    with suppress(InputError):  # A file that is gone: all are shown.
        labels = read_labels(config["scoring"].get("labels"))
    by_rule: dict[str, list[dict[str, Any]]] = {}
    for line in stores.read_bytes(place).decode("utf-8").splitlines():
        item = json.loads(line)
        if item["id"] not in labels:
            by_rule.setdefault(item["rule"], []).append(item)
    return [_shown(item) for item in in_turns(by_rule.values())[:UNDECIDED]]


def _shown(item: Mapping[str, Any]) -> dict[str, Any]:
    pictures = []
    for ref in item["images"]:
        with suppress(RowError):
            pictures.append(thumbnail(images.open_image(images.read_bytes(ImageRef(**ref)))))
    texts = ("seed", "source", "rule", "reason", "answer", "text")
    return {
        **item,
        **{name: visible(str(item[name] or "")) for name in texts},
        "question": visible(question_text(item["question"])),
        "truth": [visible(answer) for answer in item["truth"]],
        "pictures": pictures,
    }
