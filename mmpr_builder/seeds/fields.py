"""What the fields of a row mean: each function checks one and says exactly what is wrong with it.

Two readings that differ are an error of the row, not a guess: an answer that is one option by its
letter and another by its text, or a reference answer that is no option at all.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from mmpr_builder.errors import RowError
from mmpr_builder.io.images import data_url
from mmpr_builder.records import IMAGE_PLACEHOLDER, ImageRef
from mmpr_builder.seeds.choices import MAX_CHOICES, find_choices
from mmpr_builder.seeds.formats import quote
from mmpr_builder.seeds.replies import listed, truth, written
from mmpr_builder.seeds.roles import ALIASES, find, is_empty

Fields = Mapping[str, Any]

MAX_TRUTHS = 1_000  # Different reference answers of a row. The longest real list had some 60.
MAX_REPEATS = 10  # Of one of them: VQA asks ten annotators, three of them make an answer right.
MAX_IMAGES = 512  # As many frames of a video as a context of 128 k tokens holds.
MAX_QUESTION_CHARS = 200_000  # More than any model holds beside an image; of contexts, too.
MAX_NAME_CHARS = 1000  # Of ids and sources, which logs, counts and reports repeat.

_NUMBERED = re.compile(r"<image[ _]?(\d{1,3})>")
# <|im_end|>, <|image_pad|>, DeepSeek's <｜end▁of▁sentence｜>, InternVL's, Gemma's, Llama's, Phi's.
_SPECIAL = re.compile(
    r"<[|｜][^|｜<>\s]{1,60}[|｜]>|</?IMG_CONTEXT>|<(?:start|end)_of_(?:turn|image|utterance)>"
    r"|\[/?INST\]|<</?SYS>>"
)
_LABEL = re.compile(
    r"\A\s*+(?:[(（\[]\s*+)?([A-ZＡ-Ｚ])\s*+(?:[)）\]][.:：]?|[.．:：、])\s*+(.*)\Z", re.DOTALL
)


def row_id(fields: Fields) -> str | None:
    """The row's own id as text, or None."""
    name, value = find(fields, "id")
    if value is None or value == "":
        return None
    if isinstance(value, str) and len(value) <= MAX_NAME_CHARS:
        return clean(name, value)
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    what = f"a number or a string of at most {MAX_NAME_CHARS} characters"
    raise RowError("bad_id_field", f"field {name!r} must be {what}{got(value)}")


def question_of(fields: Fields) -> str:
    """The question as it is written, never empty."""
    text = text_of(fields, "question")
    if text is None:
        names = ", ".join(ALIASES["question"])
        raise RowError("missing_question", f"no field {names}; fields are {quote(list(fields))}")
    words = _NUMBERED.sub("", text).replace(IMAGE_PLACEHOLDER, "") if "<" in text else text
    if not words.strip():
        name, value = find(fields, "question")
        raise RowError("missing_question", f"field {name!r} has no text: {quote(value)}")
    return text


def text_of(fields: Fields, what: str) -> str | None:
    """A field that must be text, None if it is not there."""
    name, value = find(fields, what)
    if value is None:
        return None
    if not isinstance(value, str):
        raise RowError(f"bad_{what}_field", f"field {name!r} must be a string{got(value)}")
    most = MAX_NAME_CHARS if what == "source" else MAX_QUESTION_CHARS
    if len(value) > most:
        reason = "bad_source_field" if what == "source" else "question_too_long"
        detail = f"field {name!r} has {len(value)} characters, over {most}: {quote(value)}"
        raise RowError(reason, detail)
    return clean(name, value.replace("\r\n", "\n"))


def images_of(fields: Fields) -> tuple[str | ImageRef, ...]:
    """Images as written (paths, URLs) or as references into the table they are embedded in."""
    name, value = find(fields, "image")
    if isinstance(value, ImageRef):
        return (value,)
    value = listed(value)
    if value in (None, "", []) or (isinstance(value, dict) and is_empty(value)):
        return ()
    items = value if isinstance(value, list) else [value]
    if len(items) > MAX_IMAGES:
        raise RowError("too_many_images", f"field {name!r} has {len(items):,}, over {MAX_IMAGES}")
    return tuple([_image(name, value, item) for item in items])


def _image(name: str, value: Any, item: Any) -> str | ImageRef:
    if isinstance(item, ImageRef):
        return item
    if isinstance(item, dict) and not item.get("bytes"):
        item = next((item[key] for key in ("path", "url") if isinstance(item.get(key), str)), item)
    if isinstance(item, str) and item.strip() and "\0" not in item:
        return item if item.startswith("data:") else data_url(item) or clean(name, item)
    raise RowError(
        "bad_image_field", f"field {name!r} must be a string or a list of strings{got(value)}"
    )


def place_images(
    question: str, images: tuple[str | ImageRef, ...]
) -> tuple[str, tuple[str | ImageRef, ...]]:
    """The question with exactly one `<image>` per image, and the images in that order.

    Missing placeholders go in front, a line each. Numbered ones (`<image1>` of MathVision,
    `<image 1>` of MMMU) become plain ones in the order of the text.
    """
    count = question.count(IMAGE_PLACEHOLDER)
    if not count and "<image" in question and (marks := _NUMBERED.findall(question)):
        numbers = list(map(int, marks))
        if sorted(numbers) != list(range(1, len(images) + 1)):
            raise RowError(
                "placeholder_mismatch",
                f"placeholders <image{numbers}> for {len(images)} image(s): each needs exactly one",
            )
        return _NUMBERED.sub(IMAGE_PLACEHOLDER, question), tuple(images[n - 1] for n in numbers)
    if count == 0:
        return f"{IMAGE_PLACEHOLDER}\n" * len(images) + question, images
    if count != len(images):
        raise RowError(
            "placeholder_mismatch",
            f"{count} <image> placeholder(s) for {len(images)} image(s) in {quote(question)}:"
            " give one per image, or none",
        )
    return question, images


def numbered_to_plain(text: str) -> str:
    """An option whose picture has a number, as its question shows it."""
    return _NUMBERED.sub(IMAGE_PLACEHOLDER, text) if "<image" in text else text


def check_special_tokens(text: str) -> None:
    """Raise `RowError` "special_token" for what chat templates write between turns and for images:
    an engine, and each trainer, reads it in a question as that, too."""
    words = text.replace(IMAGE_PLACEHOLDER, "")
    if ("<" in words or "[" in words) and (found := _SPECIAL.search(text)):
        raise special_token(found[0])


def special_token(text: str) -> RowError:
    """The error of a question in which a model's special token stands."""
    return RowError("special_token", f"{text!r} means something to models: write it another way")


def choices_of(fields: Fields) -> tuple[str, ...]:
    """Option texts from a `choices` field: a list, a table of letters, or the text of either."""
    name, value = find(fields, "choices")
    if isinstance(value, str):
        value = _choices_in_text(value) if value.strip() else None
    if isinstance(value, dict):
        value = {k: v for k, v in value.items() if v is not None}  # Parquet fills up with nulls
        if list(value) != [chr(ord("A") + i) for i in range(len(value))]:
            raise RowError("bad_choices_field", f"field {name!r}: keys must be A, B, …{got(value)}")
        value = list(value.values())
    if value is None or value == []:
        return ()
    if not isinstance(value, list) or not 2 <= len(value) <= MAX_CHOICES:
        raise RowError(
            "bad_choices_field", f"field {name!r} must be a list of 2 to {MAX_CHOICES}{got(value)}"
        )
    return _without_labels([_scalar(name, item, value, "bad_choices_field") for item in value])


def _choices_in_text(value: str) -> Any:
    if isinstance(found := listed(value), list):
        return found
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        shown = find_choices(value)
        return list(shown.texts) if shown else value


def _without_labels(texts: list[str]) -> tuple[str, ...]:
    """`A. cat` -> `cat`, if all options are lettered in order."""
    found = [_LABEL.match(text) for text in texts]
    if all(
        m and unicodedata.normalize("NFKC", m[1]) == chr(ord("A") + i) and m[2]
        for i, m in enumerate(found)
    ):
        return tuple(m[2].strip() for m in found if m)
    return tuple(texts)


def answers_of(fields: Fields, choices: Sequence[str], *, indices: bool) -> tuple[str, ...]:
    """Accepted reference answers, best first; () where none is known (absent, null, "" or []).

    With `choices` an answer becomes the letter of its option; with `indices` a whole number may be
    the position of the option, from 0. Repeated answers (ten annotators) are kept, the most
    frequent first: scorers may count them.
    """
    name, value = find(fields, "answer")
    if value is None:
        return ()
    value = listed(value)
    items = value if isinstance(value, list) else [value]
    if name == "solution":  # A derivation, as a rule, with the answer at its end.
        items = [truth(item) if isinstance(item, str) else item for item in items]
        items = [item for item in items if item is not None]
    if items and all(isinstance(item, dict) and "answer" in item for item in items):
        items = [item["answer"] for item in items]  # VQAv2's annotators
    items = _bounded(name, [i for i in items if not (isinstance(i, str) and not i.strip())])
    texts = [_letter_of(item, choices, indices, name) for item in items]
    if len(texts) < 2:
        return tuple(texts)
    counts = Counter(texts)
    return tuple(sorted(texts, key=counts.__getitem__, reverse=True))


def _bounded(name: str, items: list[Any]) -> list[Any]:
    """At most `MAX_REPEATS` of each answer; more would say nothing new."""
    if len(items) <= MAX_REPEATS:
        return items
    seen: Counter[str] = Counter()
    kept = []
    for item in items:
        seen[text := repr(item)] += 1
        if seen[text] <= MAX_REPEATS:
            kept.append(item)
    if len(seen) > MAX_TRUTHS:
        detail = f"field {name!r} has over {MAX_TRUTHS:,} different truths"
        raise RowError("too_many_answers", detail)
    return kept


def _letter_of(item: Any, choices: Sequence[str], indices: bool, name: str) -> str:
    text = written(_scalar(name, item, item, "bad_answer_field"))
    if not choices:
        return text
    # pandas makes 1.0 of the position 1 where other rows have none.
    if indices and not isinstance(item, str) and abs(item) < 100 and item == int(item):
        by_label = chr(ord("A") + int(item)) if 0 <= item < len(choices) else None
    else:
        by_label = _option_by_label(text, choices)
    if by_label and not indices:
        return by_label
    by_text = _option_by_text(text, choices)
    if by_text and by_label and by_text != by_label:
        raise RowError(
            "ambiguous_answer",
            f"field {name!r} = {quote(item)} is option {by_text} by its text and {by_label} by its"
            f" letter or position, of {quote(list(choices))}; give the whole text, or a letter that"
            " is no option's text",
        )
    found = by_label or by_text or _options_together(text, choices)
    if found is None and indices and text.isdecimal() and int(text[:9]) < len(choices):
        found = chr(ord("A") + int(text[:9]))  # Out of a CSV, where numbers are text.
    if found is None:
        detail = f"field {name!r} = {quote(item)} is none (or several) of {quote(list(choices))}"
        raise RowError("answer_not_in_choices", detail)
    return found


def _option_by_text(text: str, choices: Sequence[str]) -> str | None:
    """The letter of the one option with this text, to the letter or else folded."""
    for same in (str.strip, fold):
        wanted = same(text)
        found = [i for i, choice in enumerate(choices) if same(choice) == wanted]
        if len(found) == 1:
            return chr(ord("A") + found[0])
    return None


def _option_by_label(text: str, choices: Sequence[str]) -> str | None:
    """The letter in "B", "(B)" or "B. cat", if there is such an option, and it is the cat."""
    label = _LABEL.match(text + "." if len(text) == 1 else text)
    if label is None:
        return None
    letter = unicodedata.normalize("NFKC", label[1])
    index = ord(letter) - ord("A")
    if index >= len(choices) or (label[2] and fold(label[2]) != fold(choices[index])):
        return None
    return letter


def _options_together(text: str, choices: Sequence[str]) -> str | None:
    """ "AD" or "A, D": several options that are right together."""
    letters = re.sub(r"[\s,，、;]", "", text)
    known = {chr(ord("A") + i) for i in range(len(choices))}
    is_several = 1 < len(letters) == len(set(letters)) and set(letters) <= known
    return letters if is_several else None


def fold(text: str) -> str:
    """For comparing option texts: ignores width, case, blanks and a final full stop."""
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split()).rstrip(".。")


def _scalar(name: str, item: Any, value: Any, reason: str) -> str:
    """Text or a finite number, as text. Booleans, NaN, tables and nested lists are errors."""
    if isinstance(item, str) and item.strip():
        return clean(name, item.strip())
    if isinstance(item, int | Decimal) and not isinstance(item, bool):
        return str(item)
    if isinstance(item, float) and math.isfinite(item):
        return str(int(item)) if item.is_integer() and abs(item) < 1e15 else repr(item)
    raise RowError(reason, f"field {name!r} must hold text or finite numbers{got(value)}")


def clean(name: str, text: str) -> str:
    """`text`, unless it cannot be written as UTF-8 (half an emoji, `\\ud83d`)."""
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            detail = f"field {name!r} has a lone surrogate"
            detail += f", or a byte that is not UTF-8, at character {error.start}"
            raise RowError("invalid_unicode", f"{detail}: {text[:80]!a}") from None
    return text


def got(value: Any) -> str:
    return f", got {type(value).__name__} ({quote(value)})"
