"""Template files: read, checked, and their style told by what the text asks for."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, get_args

import yaml

from mmpr_builder.config import find_shipped, shipped_folder, shipped_names
from mmpr_builder.errors import InputError
from mmpr_builder.records import IMAGE_PLACEHOLDER, Language, Style, Template

_STYLES: tuple[Style, ...] = get_args(Style)
LANGUAGES: tuple[Language, ...] = get_args(Language)
JUDGE_PREFIX = "judge_"
"""Shipped prompts of such a name are for the judge of `scoring.judge` and no templates."""

SLOT = "{question}"
_FRONT_MATTER = re.compile(r"\A---\n(?P<head>.*?)^---\n", re.DOTALL | re.MULTILINE)
_ASKS_FINAL = re.compile(r"final answer\s*[:：]|(?:最终)?答案\s*[:：]", re.IGNORECASE)
_CJK = re.compile(r"[\u4e00-\u9fff]")


def load_template(name_or_path: str | Path, *, open_style: bool = False) -> Template:
    """A shipped template by name (`boxed_en`), or a file.

    A file without front matter has the style its text asks for: `<think>` and `\\boxed` make
    think_boxed, `\\boxed` boxed, "Final answer:" or "最终答案：" final_answer. With `open_style` a
    file that asks for nothing is of style open (a template for seeds without a truth).

    Raises `InputError`: no such template, no `{question}`, unknown style, no style to be seen.
    """
    path = find_shipped("prompts", str(name_or_path), ".txt")
    if path is None:
        names = template_names()
        near = difflib.get_close_matches(Path(name_or_path).stem, names, n=1, cutoff=0.0)
        hint = f" (the nearest is {near[0]!r})" if near else ""
        raise InputError(
            f"template {str(name_or_path)!r} is neither a file nor a shipped template{hint}:"
            f" give the path of a text file, or one of {', '.join(names)}"
        )
    try:
        raw = path.read_text(encoding="utf-8-sig")  # newlines become \n here
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"template {path}: cannot be read as UTF-8 text: {error}") from None
    head, text = _split_front_matter(raw, path)
    _check_slot(text, path)
    style = _style(head.get("style"), text, path, open_style)
    language = _language(head.get("language"), text, path)
    is_shipped = path.parent == shipped_folder("prompts")
    name = path.stem if is_shipped else str(name_or_path)
    return Template(name=name, text=text, style=style, language=language)


def template_names() -> list[str]:
    """Names of the shipped templates, sorted."""
    names = shipped_names("prompts", ".txt")
    return [name for name in names if not name.startswith(JUDGE_PREFIX)]


def _split_front_matter(raw: str, path: Path) -> tuple[dict[str, Any], str]:
    found = _FRONT_MATTER.match(raw)
    if found is None:
        return {}, raw.strip("\n")
    try:
        head = yaml.safe_load(found["head"]) or {}
    except yaml.YAMLError as error:
        raise InputError(f"template {path}: the block between --- is not YAML: {error}") from None
    unknown = sorted(set(head) - {"style", "language"}, key=str) if isinstance(head, dict) else head
    if unknown:
        raise InputError(
            f"template {path}: the block between --- holds {unknown!r}; only `style` and"
            " `language` belong there"
        )
    return head, raw[found.end() :].strip("\n")


def _check_slot(text: str, path: Path) -> None:
    if text.count(SLOT) != 1:
        has = "has no {question}" if SLOT not in text else "has {question} more than once"
        raise InputError(
            f"template {path} {has}: write {{question}} once, where the question goes;"
            f" it begins {text[:60]!r}"
        )
    if IMAGE_PLACEHOLDER in text:
        raise InputError(
            f"template {path} holds an {IMAGE_PLACEHOLDER} of its own: remove it, questions bring"
            " theirs"
        )


def _style(value: Any, text: str, path: Path, open_style: bool) -> Style:
    if value is not None:
        if value not in _STYLES:
            raise InputError(
                f"template {path}: unknown style {value!r}; valid are {', '.join(_STYLES)}"
            )
        style: Style = value
        return style
    if "\\boxed" in text:
        return "think_boxed" if "<think>" in text else "boxed"
    if _ASKS_FINAL.search(text):
        return "final_answer"
    if open_style:
        return "open"
    raise InputError(
        f'template {path} does not say how to mark the answer (no \\boxed, no "Final answer:"):'
        " say so in the text, or begin the file with the lines ---, style: STYLE, --- where STYLE"
        f" is one of {', '.join(_STYLES)}"
    )


def _language(value: Any, text: str, path: Path) -> Language:
    if value is None:
        return "zh" if _CJK.search(text) else "en"
    if value not in LANGUAGES:
        raise InputError(
            f"template {path}: unknown language {value!r}; valid are {', '.join(LANGUAGES)}"
        )
    language: Language = value
    return language
