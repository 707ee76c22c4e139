"""Chinese answers of several parts, each with its name, and quotients with their remainders.

labelled("众数是9，中位数是8")  -> {"众数": "9", "中位数": "8"}, in any order
with_remainder("7……3")         -> ("7", "3"), as 7余3 and 商7余3
"""

from __future__ import annotations

import re

from mmpr_builder.scoring.decision import Compare, Decision, all_of, no, unknown
from mmpr_builder.scoring.neutral_zh import changes_zh
from mmpr_builder.scoring.quantity import parse_quantity
from mmpr_builder.scoring.question_zh import squeezed

_CUT = re.compile(
    r"[;；，。、]|,(?![0-9]{3}(?![0-9]))|(?<=[\u3400-\u9fff0-9])(?:和|而)(?=[\u3400-\u9fff])"
)
_LABEL = re.compile(
    r"(?:所以|因此|答:?|即|则|其中|那么|故|分别是)*"
    r"(?P<label>[\u3400-\u9fff]{1,8}?)(?:的)?(?:今年)?(?:各|共|一共)?"
    r"(?P<verb>是|为|有|等于|约为|约|=|:)?(?P<value>[-+0-9\\√(.负零一二两三四五六七八九十百千万].*)\Z"
)
_LEFT_OVER = re.compile(
    r"(?:商(?:是|为)?)?(?P<whole>[0-9]{1,12})[\u3400-\u9fff]?(?:[,，]?(?:余数?(?:是|为)?|\\ldots)|\s*[Rr]\s*)"
    r"(?:\\ldots)?(?P<rest>[0-9]{1,12})[\u3400-\u9fff]?\Z"
)
_DIVISION = re.compile(r"([0-9]{1,12})(?:\\div|/)([0-9]{1,12})=")
_MAX_CHARS, _MAX_PARTS = 120, 8


def labelled(text: str) -> dict[str, str] | None:
    """The parts of a list by their names, or None where one has none, or two have the same."""
    if text.isascii() or len(text) > _MAX_CHARS:
        return None
    items = [item.strip(" .") for item in _CUT.split(squeezed(text)) if item.strip(" .")]
    parts: dict[str, str] = {}
    for item in items[: _MAX_PARTS + 1]:
        found = _LABEL.match(item)
        name = found["label"].removesuffix("子") or "子" if found else ""
        quantity = parse_quantity(found["value"]) if found else None
        if found is None or quantity is None or name in parts or changes_zh(name):
            return None
        parts[name] = found["value"]
    return parts if 0 < len(parts) <= _MAX_PARTS else None


def has_parts(text: str) -> bool:
    """Whether a truth has several named values, or is a quotient with its remainder."""
    return with_remainder(text) is not None or len(labelled(text) or ()) > 1


def compare_labelled(p: str, g: str, compare: Compare) -> Decision | None:
    """A truth of several named values; None for any other truth."""
    truth = labelled(g)
    if truth is None or len(truth) < 2:
        return None
    said = labelled(p)
    if said is None:
        return None if p.isascii() else _unread(p, truth)
    whole = {name.rpartition("的")[2] for name in said}
    if len(whole) == len(said) and whole <= set(truth):  # 函数的最大值
        said = {name.rpartition("的")[2]: value for name, value in said.items()}
    if set(said) < set(truth):
        return no("structure", f"{len(said)} of {len(truth)} values")
    if set(said) != set(truth):
        return unknown("name", f"{'、'.join(said)} against {'、'.join(truth)}")
    return all_of((compare(said[name], truth[name]) for name in truth), "structure")


def _unread(p: str, truth: dict[str, str]) -> Decision | None:
    """Undecided where all the values are there, among words that are not read."""
    if all(value.strip() in p for value in truth.values()):
        return unknown("words", "not every word beside the values is known to be neutral")
    return None


def with_remainder(text: str) -> tuple[str, str] | None:
    """(quotient, remainder) of `7……3`, `7余3`, `商是7，余数是3`; None for anything else."""
    bare = text.replace(" ", "") if len(text) <= 60 else ""
    division = _DIVISION.match(bare)
    found = _LEFT_OVER.match(bare[division.end() :] if division else bare)
    if found is None:
        return None
    whole, rest = int(found["whole"]), int(found["rest"])
    if division and int(division[1]) != int(division[2]) * whole + rest:
        return None
    return found["whole"], found["rest"]


def compare_remainders(p: str, g: str, compare: Compare) -> Decision | None:
    """Both numbers of a division count; None where the truth is no quotient with remainder."""
    truth, said = with_remainder(g), with_remainder(p)
    if truth is None or (said is None and not parse_quantity(p)):
        return None
    if said is None:
        return no("structure", "a quotient without its remainder")
    return all_of((compare(a, b) for a, b in zip(said, truth, strict=True)), "structure")
