r"""Stage 2: prompts. A template is a text file; the style of the answer travels with the text.

    ---
    style: boxed
    language: en
    ---
    {question}

    Work it out step by step, then give the final answer once, inside \boxed{}.

`{question}` is replaced as plain text, once: braces in questions and templates mean nothing. A file
without the block at the top gets its style from what the text itself asks for.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml

from mmpr_builder.config import Config, find_shipped, shipped_folder, shipped_names
from mmpr_builder.errors import InputError
from mmpr_builder.records import IMAGE_PLACEHOLDER, Language, Seed, Style, Template

_STYLES: tuple[Style, ...] = get_args(Style)
_LANGUAGES: tuple[Language, ...] = get_args(Language)
_SLOT = "{question}"
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
        names = shipped_names("prompts", ".txt")
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
    if text.count(_SLOT) != 1:
        has = "has no {question}" if _SLOT not in text else "has {question} more than once"
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
    if value not in _LANGUAGES:
        raise InputError(
            f"template {path}: unknown language {value!r}; valid are {', '.join(_LANGUAGES)}"
        )
    language: Language = value
    return language


@dataclass(frozen=True, slots=True)
class Templates:
    """All templates a build can need, by language; sources with templates of their own by name."""

    truth: Mapping[Language, Template]
    open: Mapping[Language, Template]
    sources: Mapping[str, Mapping[Language, Template]]
    language: Language | None = None
    """Prompt language for all seeds; None follows each seed's own."""

    def pick(self, seed: Seed) -> Template:
        """The template of one seed: by its truth (or none), its source and its language."""
        language = self.language or seed.language
        if not seed.has_truth:
            return self.open[language]
        return self.sources.get(seed.source, self.truth)[language]

    def all(self) -> list[Template]:
        """Every distinct template, sorted by name."""
        sets = [self.truth, self.open, *self.sources.values()]
        languages = [self.language] if self.language else list(_LANGUAGES)
        found = {one[language].name: one[language] for one in sets for language in languages}
        return [found[name] for name in sorted(found)]

    def fingerprint(self) -> dict[str, str]:
        """Template name -> 16 hex digits over its style and text: part of what a rollout says."""
        return {
            template.name: hashlib.sha256(
                f"{template.style}\n{template.text}".encode()
            ).hexdigest()[:16]
            for template in self.all()
        }


def load_templates(config: Config) -> Templates:
    """Load what the config's prompts and sources can need.

    A source's own template is found by the source's name, so such a source needs one.

    Raises `InputError` at once for any template that is missing or wrong.
    """
    prompts = config.prompts
    standard: dict[Language, str] = {"en": f"{prompts.style}_en", "zh": f"{prompts.style}_zh"}
    bare: dict[Language, str] = {"en": "open_en", "zh": "open_zh"}
    truth = _by_language(prompts.template, standard, "prompts.template")
    sources: dict[str, Mapping[Language, Template]] = {}
    for i, source in enumerate(config.seeds):
        if source.template is None:
            continue
        if source.name is None:
            raise InputError(
                f"seeds.{i} ({source.path!r}) has a template of its own but no name: set its"
                " `name`, by which its seeds are known"
            )
        own = _by_language(source.template, standard, f"seeds.{i}.template", truth)
        if sources.setdefault(source.name, own) != own:
            raise InputError(
                f"seeds.{i}: another source named {source.name!r} has other templates: rename one"
            )
    return Templates(
        truth=truth,
        open=_by_language(prompts.open_template, bare, "prompts.open_template", open_style=True),
        sources=sources,
        language=None if prompts.language == "auto" else prompts.language,
    )


def _by_language(
    setting: str | dict[str, str] | None,
    standard: Mapping[Language, str],
    key: str,
    fallback: Mapping[Language, Template] | None = None,
    *,
    open_style: bool = False,
) -> dict[Language, Template]:
    """Templates for both languages: one for all, one per language, or the standard ones."""
    if isinstance(setting, dict) and (unknown := sorted(set(setting) - set(_LANGUAGES))):
        raise InputError(
            f"{key}: unknown language {unknown[0]!r}; valid are {', '.join(_LANGUAGES)}"
        )
    found: dict[Language, Template] = {}
    for language in _LANGUAGES:
        name = setting if isinstance(setting, str) else (setting or {}).get(language)
        if name is None and fallback is not None:
            found[language] = fallback[language]
            continue
        template = load_template(name or standard[language], open_style=open_style)
        if template.style == "open" and not open_style:
            raise InputError(
                f"{key}: template {template.name!r} is of style open, which asks for no answer"
                " that could be checked: use one of another style, or prompts.open_template"
            )
        found[language] = template
    return found


def pick_template(seed: Seed, templates: Templates) -> Template:
    """`templates.pick(seed)`."""
    return templates.pick(seed)


def render(template: Template, seed: Seed) -> str:
    """The prompt text of a seed; keeps one `<image>` per image (see `split_images`)."""
    return template.text.replace(_SLOT, seed.question, 1)


def split_images(prompt: str) -> list[str | None]:
    """A prompt as its text parts, with None where an image stands; empty texts are left out.

    `"<image>\\nWhat is this?"` -> `[None, "\\nWhat is this?"]`
    """

    def parts() -> Iterator[str | None]:
        for i, text in enumerate(prompt.split(IMAGE_PLACEHOLDER)):
            if i:
                yield None
            if text:
                yield text

    return list(parts())


def parts(prompt: str) -> list[str | None]:
    """A prompt as the parts of a chat message: texts, and None for each image.

    The line break that data sets write between `<image>` and the text is dropped: what stands
    between the two is up to the model's own chat template.
    """
    raw = split_images(prompt)
    shown: list[str | None] = []
    for before, part, after in zip(["", *raw], raw, [*raw[1:], ""], strict=False):
        if part is None:
            shown.append(None)
            continue
        text = part.removeprefix("\n") if before is None else part
        text = text.removesuffix("\n") if after is None else text
        if text:
            shown.append(text)
    return shown
