"""Which column of a row holds what: names known by themselves, those of `columns`, and look-alikes.

    {"index": 7, "question": "Q?", "A": "cat", "B": "dog", "image": "iVBORw0KGgo…"}   MMBench
      -> {"index": 7, "question": "Q?", "choices": ["cat", "dog"], "image": "iVBORw0KGgo…"}
    {"question": "See <image 1>.", "image_1": …, "image_2": None}                       MMMU
      -> {"question": "See <image 1>.", "images": […]}
    {"question": "Q?", "photo_path": "1.png"}   the error "unread_columns": no other image is there

What looks like a picture, options or a reference answer is never passed over in silence.
"""

from __future__ import annotations

import re
import string
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import takewhile
from typing import Any, NamedTuple

from mmpr_builder.errors import RowError
from mmpr_builder.io.images import data_url
from mmpr_builder.io.seed_files import tell
from mmpr_builder.records import ImageRef

#: Names of a field in data sets, ours first: the first one that is not empty counts.
ALIASES: dict[str, tuple[str, ...]] = {
    "id": ("id", "question_id", "item_id", "uid", "qid", "index", "pid", "sample_id"),
    "question": ("question", "query", "prompt", "problem", "text", "instruction"),
    "image": (
        *("decoded_image", "image", "images", "image_path", "file_name", "image_paths", "img"),
        *("imgs", "img_path", "image_file", "image_url", "image_urls", "imgname", "picture"),
        *("image_local_name", "file_path"),
    ),
    "answer": (
        *("answer", "answers", "gt", "gt_answer", "ground_truth", "label", "gold", "target"),
        *("correct_answer", "final_answer", "solution"),
    ),
    "choices": ("choices", "options", "candidates"),
    "source": ("source", "data_source"),
    "context": ("context", "hint"),
}
TURNS = ("conversations", "texts", "messages")
"""Columns that hold conversations."""
MEDIA = ("video", "videos", "video_path", "audio", "audios")
"""Columns that hold what cannot be asked about; `tools` are refused where conversations are."""

_NUMBERED = re.compile(r"(?:image|img)[ _-]?(\d{1,3})", re.IGNORECASE)
_OPTION = re.compile(r"(?:option|choice)[ _-]?([a-z]|\d{1,2})", re.IGNORECASE)
_LIKE = {
    "image": re.compile(
        r"(?:(?<!\w)\w+_)?(?:img|image|picture|photo|figure|pic|diagram|screenshot|thumbnail)s?"
        r"(?:_?(?:path|file|name|url|uri|link|b64|base64|bytes|data|id|\d++))*+",
        re.IGNORECASE,
    ),
    "choices": re.compile(
        r"(?:(?<!\w)\w+_)?(?:option|choice|candidate|distractor)s?(?:_?\w)?", re.I
    ),
    "answer": re.compile(
        r"(?:(?:correct|right|gold|golden|true|truth|reference|ref|expected|direct|short)_?)?"
        r"(?:answer|label|truth|target|solution|response|completion|output|reference|choice)s?"
        r"(?:_?(?:idx|index|key|letter|text|option|value))?",
        re.IGNORECASE,
    ),
}
_PICTURE_NAME = re.compile(r"[^\n]{1,1000}\.(?:png|jpe?g|webp|gif|bmp|tiff?)", re.IGNORECASE)
_LONG = 200  # A longer text is no reference answer that a response could be compared with.

Mapped = tuple[tuple[str, tuple[str, ...]], ...]
"""The setting `columns`: (role, names of its columns)."""


def mapping(columns: Mapping[Any, str | Sequence[str]]) -> Mapped:
    """The setting `columns` in a form that can be a key."""
    return tuple(
        (role, (names,) if isinstance(names, str) else tuple(names))
        for role, names in columns.items()
    )


def is_empty(value: Any) -> bool:
    """Whether a field says nothing: null, blank text, an empty list or table, an empty picture."""
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, Mapping):
        return all(item is None for item in value.values())
    if isinstance(value, list):
        return all(isinstance(item, str) and not item.strip() for item in value)
    return value is None


def find(fields: Mapping[str, Any], what: str) -> tuple[str, Any]:
    """(name, value) of the first alias that is not empty, else of the first that is there."""
    empty = ""
    for name in ALIASES[what]:
        if name in fields and (value := fields[name]) is not None:
            # Text is the usual case: no call for it.
            if value.strip() if isinstance(value, str) else not is_empty(value):
                return name, value
            empty = empty or name
    return (empty, fields[empty]) if empty else (ALIASES[what][0], None)


class _Plan(NamedTuple):
    """What the names of a row's columns say; rows of one file nearly always have the same ones."""

    renamed: tuple[tuple[str, str], ...]
    several: tuple[tuple[str, tuple[str, ...]], ...]
    """Roles with the columns that they are gathered from."""
    media: tuple[str, ...]
    left: tuple[str, ...]
    """Columns that nothing reads."""
    gone: frozenset[str]
    """What the setting `columns` takes for a role, or leaves out by naming others."""
    is_standard: bool
    """Whether rows are as they should be."""


@lru_cache(maxsize=64)
def _plan(names: tuple[str, ...], mapped: Mapped) -> _Plan:
    known = {alias for aliases in ALIASES.values() for alias in aliases}.union(TURNS, MEDIA)
    gone = {name for _, own in mapped for name in own}
    free = [name for name in names if name not in gone]
    renamed = {
        name: name.lower()
        for name in free
        if name not in known and name.lower() in known and name.lower() not in names
    }
    numbered = {int(m[1]): name for name in free if (m := _NUMBERED.fullmatch(name))}
    gathered = {"choices": _options(free), "image": tuple(numbered[n] for n in sorted(numbered))}
    used = known.union(gone, renamed, *gathered.values())
    roles = {role for role, _ in mapped}
    found = (
        tuple(renamed.items()),
        tuple((role, own) for role, own in gathered.items() if own and role not in roles),
        tuple(name for name in MEDIA if name in free),
        tuple(name for name in names if name not in used),
        frozenset(gone.union(*(ALIASES[role] for role in roles))),
    )
    return _Plan(*found, is_standard=not any(found))


def _options(names: Sequence[str]) -> tuple[str, ...]:
    """The columns A, B, C … or option_a, option_b … or choice_1, choice_2 …, if there are two."""
    run = list(takewhile(names.__contains__, string.ascii_uppercase))
    if len(run) > 1:
        return tuple(run)
    named = {m[1].lower(): name for name in names if (m := _OPTION.fullmatch(name))}
    keys = sorted(named, key=lambda key: (len(key), key))
    starts = (string.ascii_lowercase, range(27), range(1, 27))
    fits = any(keys == [str(key) for key in start[: len(keys)]] for start in starts)
    return tuple(named[key] for key in keys) if len(keys) > 1 and fits else ()


def worth_reading(names: Sequence[str], pictures: Iterable[str], mapped: Mapped) -> list[str]:
    """The columns of a table that rows are made of, or that look like it."""
    left, pictures = _plan(tuple(names), mapped).left, set(pictures)
    like = (*_LIKE.values(), re.compile("tools"))
    skipped = {n for n in left if n not in pictures and not any(p.fullmatch(n) for p in like)}
    return [name for name in names if name not in skipped]


def standard(fields: Mapping[str, Any], mapped: Mapped, place: str) -> Mapping[str, Any]:
    """The fields of a row under names that `find` knows. `place` is told with what is not read.

    Raises `RowError` for columns that look like what the row lacks, and for video and sound.
    """
    plan = _plan(tuple(fields), mapped)
    if plan.is_standard:
        return fields
    row = {name: value for name, value in fields.items() if name not in plan.gone}
    for old, new in plan.renamed:
        row[new] = row.pop(old)
    for name in plan.media:
        value = row[name]
        if isinstance(value, str | list | Mapping | ImageRef) and not is_empty(value):
            raise RowError(
                "media_not_supported",
                f"field {name!r}: only pictures can be asked about: give frames of a video as"
                " `images`, in order, with one <image> for each in the question",
            )
    for role, names in plan.several:
        values = _cells(role, [(name, row[name]) for name in names])
        if values and is_empty(find(row, role)[1]):
            row["images" if role == "image" else role] = values
        elif values:
            _tell_unread(place, role, names)
    for role, names in mapped:
        values = _cells(role, [(name, fields.get(name)) for name in names])
        row[role] = values[0] if values and len(names) == 1 else values or None
    if plan.left:
        _check_left(row, plan, {role for role, _ in mapped}, place)
    return row


def read_from(fields: Mapping[str, Any], mapped: Mapped = ()) -> dict[str, str]:
    """Role -> the names of the columns of a row that it is read from; for roles that it has."""
    plan = _plan(tuple(fields), mapped)
    own = {name: name for name in fields if name not in plan.gone}
    own |= {new: old for old, new in plan.renamed}
    row = {new: fields[old] for new, old in own.items()}
    found = ((role, *find(row, role)) for role in ALIASES)
    said = {role: own[name] for role, name, value in found if not is_empty(value)}
    turns = next((own[name] for name in TURNS if isinstance(row.get(name), list)), None)
    if turns and "question" not in said:
        said = {"question": turns, "answer": turns, **said}
    several = (*plan.several, *mapped)
    return said | {r: ", ".join(names) for r, names in several if names and r not in said}


def _cells(role: str, cells: list[tuple[str, Any]]) -> list[Any]:
    """Cells of several columns without the empty ones (pandas fills with NaN); an option without
    text before others would move their letters."""
    there = [(name, v) for name, v in cells if not is_empty(v) and v == v]
    if role == "choices" and there != cells[: len(there)]:
        names = [name for name, _ in there]
        raise RowError("bad_choices_field", f"options only in {names}: give those before, too")
    return [value for _, value in there]


def _check_left(row: Mapping[str, Any], plan: _Plan, mapped: Container[str], place: str) -> None:
    for role, pattern in _LIKE.items():
        like = [name for name in plan.left if _looks_like(role, pattern, name, row[name])]
        if not like or role in mapped:
            continue
        if not is_empty(find(row, role)[1]) or any(isinstance(row.get(t), list) for t in TURNS):
            like = [name for name in like if not name.lower().endswith("id")]
        elif not (
            isinstance(value := row[like[0]], str) and role == "answer" and len(value) > _LONG
        ):
            raise RowError(
                "unread_columns",
                f"no field holds its {role}, and {', '.join(map(repr, like[:8]))} looks like one:"
                f" set seeds.N.columns={{{role}: {like[0]}}}, or {{{role}: []}} if it is none",
            )
        _tell_unread(place, role, like)


def _looks_like(role: str, pattern: re.Pattern[str], name: str, value: Any) -> bool:
    if is_empty(value) or isinstance(value, bool):
        return False
    if role == "choices":
        shaped = isinstance(value, list | Mapping) or str(value)[:1] in "[{("
        return shaped and pattern.fullmatch(name) is not None
    first = value[0] if isinstance(value, list) and role == "image" else value
    shown = isinstance(first, str) and (_PICTURE_NAME.fullmatch(first) or data_url(first))
    if role == "image" and (shown or isinstance(first, ImageRef)):
        return True
    return pattern.fullmatch(name) is not None


_told: set[tuple[str, str]] = set()


def _tell_unread(place: str, role: str, names: Sequence[str]) -> None:
    """Warn once for each file and role."""
    if not names or (place, role) in _told:
        return
    _told.add((place, role))
    tell(
        f"{place}: not read: {', '.join(map(repr, names[:8]))}, which looks like {role}; to read it"
        f" set seeds.N.columns={{{role}: {names[0]}}}"
    )
