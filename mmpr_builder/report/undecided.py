"""Undecided answers for a person to label: by rule, in turns, those that have a label left out.

    rule "ambiguous"   q7: "about 3 or 4"   truth 3   4 responses

What the person says is saved as labels.jsonl, which `scoring.labels` takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from itertools import zip_longest
from typing import Any

from mmpr_builder.errors import InputError, RowError
from mmpr_builder.escaping import visible
from mmpr_builder.io import images, stores
from mmpr_builder.output import UNDECIDED_NAME
from mmpr_builder.pairing import read_labels
from mmpr_builder.records import ImageRef
from mmpr_builder.report.samples import thumbnail
from mmpr_builder.report.texts import question_text

SHOWN = 100


def read_undecided(out: str, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The first `SHOWN` answers without a label, rules in turn, with small pictures. Pictures that
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
    turns = (item for turn in zip_longest(*by_rule.values()) for item in turn if item)
    return [_shown(item) for _, item in zip(range(SHOWN), turns, strict=False)]


def _shown(item: Mapping[str, Any]) -> dict[str, Any]:
    pictures = []
    for ref in item["images"]:
        with suppress(RowError):
            pictures.append(thumbnail(images.read_bytes(ImageRef(**ref))))
    texts = ("seed", "source", "rule", "reason", "answer", "text")
    return {
        **item,
        **{name: visible(str(item[name] or "")) for name in texts},
        "question": visible(question_text(item["question"])),
        "truth": [visible(answer) for answer in item["truth"]],
        "pictures": pictures,
    }
