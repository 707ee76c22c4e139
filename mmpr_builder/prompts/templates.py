"""Template files, and which of them a seed gets: by its reference answer, source, domain, language.

prompts.template: {chart: {plain: 1, visual: 1}}   visual_STYLE_en for half of the seeds of charts
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml

from mmpr_builder.config import (
    Config,
    SourceConfig,
    asks_majority,
    find_shipped,
    shipped_folder,
    shipped_names,
)
from mmpr_builder.errors import InputError
from mmpr_builder.records import IMAGE_PLACEHOLDER, Language, Seed, Style, Template, derived_seed

_STYLES: tuple[Style, ...] = get_args(Style)
LANGUAGES: tuple[Language, ...] = get_args(Language)
JUDGE_PREFIX, RANK_PREFIX = "judge_", "rank_"
"""Shipped prompts of such names are for the judge of `scoring.judge` and no templates."""

SLOT = "{question}"
_FRONT_MATTER = re.compile(r"\A---\n(?P<head>.*?)^---\n", re.DOTALL | re.MULTILINE)
_BROKEN_HEAD = re.compile(
    r"\s*(---[ \t]*\n|[a-z_]+[ \t]*:[^{]*^---[ \t]*$"
    r"|([a-z_]+[ \t]*:[^\n{]*\n)*(style|language)[ \t]*:[ \t]*\w+[ \t]*\n)",
    re.MULTILINE,
)
# A name in braces that belong to no formula: \boxed{X}, x^{n}, \frac{a}{b} are the model's.
_SLOT_LIKE = re.compile(r"(?<![\\\w}^{])\{+[A-Za-z_]\w*\}+")
_ASKS_FINAL = re.compile(r"final answer\s*[:：]|(?:最终)?答案\s*[:：]", re.IGNORECASE)
_CJK = re.compile(r"[\u4e00-\u9fff]")


def load_template(name_or_path: str | Path, *, open_style: bool = False) -> Template:
    """A shipped template by name (`boxed_en`), or a file.

    A file without front matter has the style its text asks for: `<think>` and `\\boxed` make
    think_boxed, `\\boxed` boxed, "Final answer:" or "最终答案：" final_answer; with `open_style` a
    file that asks for nothing is of style open. Raises `InputError`: no such template, no
    `{question}`, another slot, a block of settings that is none, an unknown style, no style to be
    seen.
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
    return [name for name in names if not name.startswith((JUDGE_PREFIX, RANK_PREFIX))]


def _split_front_matter(raw: str, path: Path) -> tuple[dict[str, Any], str]:
    found = _FRONT_MATTER.match(raw)
    if found is None:
        if _BROKEN_HEAD.match(raw):
            raise InputError(
                f"template {path}: its block of settings stands between two lines of --- alone, the"
                f" first of them at the top of the file; it begins {raw[:60]!r}"
            )
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
    other = next((found[0] for found in _SLOT_LIKE.finditer(text) if found[0] != SLOT), None)
    if other is not None:
        raise InputError(
            f"template {path} holds {other}, which nothing fills in: {SLOT} alone is replaced;"
            " questions bring their images and options with them. Remove it, or write it without"
            " braces"
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


Choices = tuple[tuple[Template, float], ...]
"""Templates with the weights at which they are picked, sorted by name."""

PLAIN = "plain"
"""In a mix: the template that would be used without the mix."""


@dataclass(frozen=True, slots=True)
class Templates:
    """All templates a build can need, by language; those of sources by the source's name."""

    truth: Mapping[Language, Choices]
    open: Mapping[Language, Choices]
    sources: Mapping[str, Mapping[Language, Choices]]
    open_sources: Mapping[str, Mapping[Language, Choices]]
    language: Language | None = None
    """Prompt language for all seeds; None follows each seed's own."""
    config: Config | None = None
    """Says which seeds without a truth are asked for an answer all the same."""

    def pick(self, seed: Seed) -> Template:
        """The template of one seed: by its reference answer (or none), source and language.

        Where there are several, the seed's id decides: the same whatever is sampled beside it.
        """
        language = self.language or seed.language
        answered = seed.has_truth or (self.config and asks_majority(seed, self.config))
        own, usual = (self.sources, self.truth) if answered else (self.open_sources, self.open)
        return _weighted(own.get(seed.source, usual)[language], seed.id)

    def all(self) -> list[Template]:
        """Every distinct template, sorted by name."""
        sets = [self.truth, self.open, *self.sources.values(), *self.open_sources.values()]
        languages = [self.language] if self.language else list(LANGUAGES)
        found = {one.name: one for each in sets for key in languages for one, _ in each[key]}
        return [found[name] for name in sorted(found)]

    def fingerprint(self) -> dict[str, str]:
        """Template name -> 16 hex digits over its style and text: part of what a rollout says."""
        return {
            template.name: hashlib.sha256(
                f"{template.style}\n{template.text}".encode()
            ).hexdigest()[:16]
            for template in self.all()
        }


def _weighted(choices: Choices, key: str) -> Template:
    """One of the templates, each as likely over many keys as its weight says."""
    if len(choices) == 1:
        return choices[0][0]
    point = derived_seed(0, "template", key) / 2**32 * sum(weight for _, weight in choices)
    for template, weight in choices:
        point -= weight
        if point < 0:
            return template
    return choices[-1][0]


def load_templates(config: Config) -> Templates:
    """Load what the config's prompts and sources can need; a source that has templates of its own,
    or a domain with a mix, needs a name. Raises `InputError` for a template that is missing or
    wrong."""
    prompts = config.prompts
    standard: dict[Language, str] = {"en": f"{prompts.style}_en", "zh": f"{prompts.style}_zh"}
    bare: dict[Language, str] = {"en": "open_en", "zh": "open_zh"}
    truth = _by_language(prompts.template, standard, "prompts.template")
    open_ = _by_language(prompts.open_template, bare, "prompts.open_template", open_style=True)
    sources: dict[str, Mapping[Language, Choices]] = {}
    open_sources: dict[str, Mapping[Language, Choices]] = {}
    for i, source in enumerate(config.seeds):
        own = _own_templates(config, i, standard, truth)
        mix = prompts.open_mix.get(source.domain) if source.domain else None
        own_open = (
            _mixed(mix, open_, "open", f"prompts.open_template.{source.domain}") if mix else None
        )
        for found, known in ((own, sources), (own_open, open_sources)):
            _add(found, known, i, source)
    return Templates(
        truth=_alone(truth),
        open=_alone(open_),
        sources=sources,
        open_sources=open_sources,
        language=None if prompts.language == "auto" else prompts.language,
        config=config,
    )


def _own_templates(
    config: Config, i: int, standard: Mapping[Language, str], truth: Mapping[Language, Template]
) -> Mapping[Language, Choices] | None:
    """A source's own templates for seeds with a reference answer; None for the usual."""
    source, style = config.seeds[i], config.prompts.style
    if source.template is not None:
        key = f"seeds.{i}.template"
        return _alone(_by_language(source.template, standard, key, truth))
    if source.templates is not None:
        return _mixed(source.templates, truth, style, f"seeds.{i}.template")
    mix = config.prompts.mix.get(source.domain) if source.domain else None
    return _mixed(mix, truth, style, f"prompts.template.{source.domain}") if mix else None


def _add(
    own: Mapping[Language, Choices] | None,
    known: dict[str, Mapping[Language, Choices]],
    i: int,
    source: SourceConfig,
) -> None:
    if own is None:
        return
    if source.name is None:
        raise InputError(
            f"seeds.{i} ({source.path!r}) has templates of its own but no name: set its"
            " `name`, by which its seeds are known"
        )
    if known.setdefault(source.name, own) != own:
        raise InputError(
            f"seeds.{i}: another source named {source.name!r} has other templates: rename one"
        )


def _alone(templates: Mapping[Language, Template]) -> dict[Language, Choices]:
    return {language: ((template, 1.0),) for language, template in templates.items()}


def _mixed(
    weights: Mapping[str, float], plain: Mapping[Language, Template], style: str, key: str
) -> dict[Language, Choices]:
    """The templates of a mix, for both languages; those of weight 0 are left out."""
    wanted = {name: weight for name, weight in weights.items() if weight > 0}
    if not wanted:
        raise InputError(f"{key} = {dict(weights)!r}: give at least one a weight above 0")
    found: dict[Language, Choices] = {}
    for language in LANGUAGES:
        loaded = {
            name: plain[language] if name == PLAIN else _variant(name, style, language, key)
            for name in wanted
        }
        pairs = [(template, wanted[name]) for name, template in loaded.items()]
        found[language] = tuple(sorted(pairs, key=lambda pair: pair[0].name))
    return found


def _variant(name: str, style: str, language: Language, key: str) -> Template:
    """`visual` as the shipped `visual_STYLE_LANGUAGE`; else a template by its name or path."""
    shipped = template_names()
    usual = (f"{name}_{style}_{language}", f"{name}_{language}")
    wanted = next((one for one in usual if one in shipped), name)
    template = load_template(wanted, open_style=style == "open")
    if (template.style == "open") != (style == "open"):
        needs = "style open" if style == "open" else "a style that asks for an answer"
        raise InputError(f"{key}: template {template.name!r} must be of {needs}")
    return template


def _by_language(
    setting: str | dict[str, str] | None,
    standard: Mapping[Language, str],
    key: str,
    fallback: Mapping[Language, Template] | None = None,
    *,
    open_style: bool = False,
) -> dict[Language, Template]:
    """Templates for both languages: one for all, one per language, or the standard ones."""
    if isinstance(setting, dict) and (unknown := sorted(set(setting) - set(LANGUAGES))):
        raise InputError(
            f"{key}: unknown language {unknown[0]!r}; valid are {', '.join(LANGUAGES)}"
        )
    found: dict[Language, Template] = {}
    for language in LANGUAGES:
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
