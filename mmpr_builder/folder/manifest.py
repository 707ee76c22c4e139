"""The manifest: what a build samples, with which settings, in which units.

    out/manifest.json   {"format": 1, "identity": {"sampling.n": 32, …}, "templates": {…},
                         "model": {…}, "inputs": {"0:a.jsonl": "…"},
                         "units": [{"name": "unit-00000", "count": 64, "first": 0, …}, …], …}

Planning writes it last, so its existence means that planning is complete. A run whose settings,
templates, model or inputs would give other rollouts is refused, with the difference named. Only
`extend` replaces it, by one with the same units and more of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from mmpr_builder.config import (
    Config,
    SourceConfig,
    as_stated,
    as_written,
    identity_hash,
    sampling_identity,
)
from mmpr_builder.errors import BuildConflictError, InputError
from mmpr_builder.escaping import redacted
from mmpr_builder.folder import join, read_json, write_json
from mmpr_builder.io.stores import is_there

MANIFEST_NAME = "manifest.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Unit:
    """Consecutive seeds that are sampled together and published as one Parquet part."""

    name: str
    first: int
    """Index of its first seed in the build's input order."""
    count: int
    """Its seeds, whose indices have gaps where input rows were dropped."""
    image_bytes: int
    digest: str
    """Hash of its seeds and of the sampling settings; a part with another one is foreign."""


HUB = "hub:"
"""Stands in `Manifest.versions` before the ids of data sets."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Everything that decides a build's rollouts, each as name -> value."""

    settings: dict[str, Any]
    templates: dict[str, str]
    model: dict[str, str]
    inputs: dict[str, str]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A complete plan of the first half of a build."""

    identity: Identity
    units: tuple[Unit, ...]
    drops: int
    """Input rows that planning dropped; they are in seeds/drops.parquet."""
    versions: dict[str, str]
    extensions: int = 0
    """How often seeds were added; above 0, seeds/order-N.parquet has the input order of all seeds,
    and seeds/drops-N.parquet the drops."""

    @property
    def revisions(self) -> dict[str, str]:
        """Hub id -> commit, of the model and of the data sets; without those not known."""
        hub = {name: commit for name, commit in self.versions.items() if name.startswith(HUB)}
        found = {name.removeprefix(HUB): commit for name, commit in hub.items()}
        for kind in ("model", "lora"):
            if commit := self.identity.model.get(f"{kind}.commit"):
                found[self.identity.model[kind]] = commit
        return found

    @property
    def seeds(self) -> int:
        """Seeds to sample."""
        return sum(unit.count for unit in self.units)

    def to_json(self) -> dict[str, Any]:
        identity = asdict(self.identity)
        return {
            "format": FORMAT,
            "identity": identity.pop("settings"),
            "identity_hash": identity_hash(self.identity.settings),
            **identity,
            "seeds": self.seeds,
            "drops": self.drops,
            "units": [asdict(unit) for unit in self.units],
            "versions": self.versions,
            "extensions": self.extensions,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        parts = [content[name] for name in ("identity", "templates", "model", "inputs")]
        # Earlier versions stored passwords and signatures of URLs.
        identity = Identity(*map(redacted, parts))
        names = [field.name for field in fields(Unit)]
        units = tuple(Unit(**{name: unit[name] for name in names}) for unit in content["units"])
        extensions = content.get("extensions", 0)
        return cls(identity, units, content["drops"], content["versions"], extensions)


def has_manifest(out: str) -> bool:
    """Whether this folder is planned."""
    return is_there(join(out, MANIFEST_NAME))


def read_manifest(out: str) -> Manifest:
    """Raises `InputError` for a missing or damaged one, or another format."""
    uri = join(out, MANIFEST_NAME)
    content = read_json(uri)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise InputError(
            f"{uri}: format {found!r}, this version reads {FORMAT}: use the version of"
            " mmpr-builder that made the folder, or another out="
        )
    try:
        return Manifest.from_json(content)
    except (KeyError, TypeError) as error:
        raise InputError(f"{uri}: damaged ({error!r}): start again with another out=") from None


def as_planned(config: Config) -> Config:
    """`config` with what its folder's plan states, if there is one (`as_stated`)."""
    if not has_manifest(config.out):
        return config
    return as_stated(config, read_manifest(config.out).identity.settings)


def write_manifest(out: str, manifest: Manifest) -> None:
    write_json(join(out, MANIFEST_NAME), manifest.to_json())


def refuse_other_build(out: str, old: Identity, new: Identity) -> None:
    """Raise `BuildConflictError` naming each difference, its old and its new value, and the fix."""
    lines = _setting_lines(old.settings, new.settings)
    if not lines:
        lines += _differences("template", old.templates, new.templates, "its text or style")
        lines += _model_lines(old.model, new.model)
        lines += _differences("input", old.inputs, new.inputs, "its content")
    _refuse(out, lines, can_extend=not _other_rollouts(old, new))


def refuse_other_rollouts(out: str, old: Identity, new: Identity) -> None:
    """`refuse_other_build` for a build that may grow: by sources, templates, limits and inputs.

    Whether the inputs still have its seeds is not checked here.
    """
    _refuse(out, _other_rollouts(old, new))


def refuse_other_settings(out: str, old: Identity, config: Config, *, extend: bool = False) -> None:
    """The same for the settings alone."""
    new = sampling_identity(config)
    growing = _shrinking_lines(old.settings, new)
    _refuse(out, growing if extend else _setting_lines(old.settings, new), can_extend=not growing)


def _refuse(out: str, lines: Sequence[str], *, can_extend: bool = False) -> None:
    if lines:
        more = "\n`mmpr build … --extend` keeps that build and samples only seeds that are new."
        raise BuildConflictError(
            f"{out}: holds a build whose rollouts would differ from what is asked now:\n"
            + "\n".join(lines)
            + "\nGive another out= for the new build, or restore what differs to continue this one."
            + (more if can_extend else "")
        )


def _other_rollouts(old: Identity, new: Identity) -> list[str]:
    """Differences that would change the rollouts of seeds that are there already."""
    templates = {name: new.templates[name] for name in old.templates if name in new.templates}
    return [
        *_shrinking_lines(old.settings, new.settings),
        *_differences("template", old.templates, templates, "its text or style"),
        *_model_lines(old.model, new.model),
    ]


def _model_lines(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Earlier plans lack the digests of weights."""
    known = {k: v for k, v in new.items() if k in old or not k.endswith(".content")}
    return _differences("model", old, known, None)


def _shrinking_lines(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Differences in settings other than more sources and higher limits."""
    found = [
        (key, before, after)
        for key, before, after in _setting_differences(old, new)
        if not key.startswith("seeds.") and not (key == "limit" and _is_higher(before, after))
    ]
    candidates = _sources(new)
    for number, source in _sources(old).items():
        same = [n for n, other in candidates.items() if not _source_differences(source, other)]
        if same:
            del candidates[same[0]]
            continue
        # The source of the same path shows best what differs.
        near = [n for n, other in candidates.items() if other["path"] == source["path"]]
        other = candidates.pop(near[0]) if near else {}
        names = _source_differences(source, other) if near else ["path"]
        found += [(f"seeds.{number}.{key}", source.get(key), other.get(key)) for key in names]
    return _lines(found)


def _sources(settings: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Number of a source -> its settings, defaults included; tables (templates) as flat keys."""
    defaults = _source_defaults()
    sources: dict[int, dict[str, Any]] = {}
    for key, value in settings.items():
        if match := re.fullmatch(r"seeds\.(\d+)\.(.+)", key):
            sources.setdefault(int(match[1]), dict(defaults))[match[2]] = value
    return sources


def _source_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [
        key
        for key in sorted({*old, *new})
        # These decide which rows become seeds, and not what those are asked.
        if key not in ("scorer", "roots", "allow") and old.get(key) != new.get(key)
        if not (key == "limit" and _is_higher(old.get(key), new.get(key)))
    ]


def _source_defaults() -> dict[str, Any]:
    return SourceConfig(path="").model_dump(mode="json")


def _is_higher(old: int | None, new: int | None) -> bool:
    return new is None or (old is not None and new > old)


def _setting_lines(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return _lines(_setting_differences(old, new))


def _lines(differences: Sequence[tuple[str, Any, Any]]) -> list[str]:
    return [
        f"  {as_written(key)}: {_shown(before)} in that build, {_shown(after)} now"
        for key, before, after in differences
    ]


def _setting_differences(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    """A key that one side lacks has its default there: versions may add settings."""
    numbers = {key.split(".")[1] for key in (*old, *new) if key.startswith("seeds.")}
    of_source = _source_defaults()
    defaults = sampling_identity(Config())
    defaults |= {f"seeds.{n}.{key}": value for n in numbers for key, value in of_source.items()}
    before, after = defaults | {**old}, defaults | {**new}
    keys = sorted({*old, *new}, key=_natural)
    found = [(key, before.get(key), after.get(key)) for key in keys]
    # An empty table is the absence of its keys, which are compared themselves.
    return [(key, a, b) for key, a, b in found if a != b and {} not in (a, b)]


def _differences(
    what: str, old: Mapping[str, str], new: Mapping[str, str], changed: str | None
) -> list[str]:
    lines = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if before is None or after is None:
            lines.append(f"  {what} {name}: {'only now' if before is None else 'no longer there'}")
        elif changed is not None:
            lines.append(f"  {what} {name}: {changed} changed since")
        else:
            lines.append(f"  {what} {name}: {_shown(before)} in that build, {_shown(after)} now")
    return lines


def _shown(value: Any) -> str:
    return "unset" if value is None else json.dumps(value, ensure_ascii=False)


def _natural(key: str) -> list[tuple[int, str]]:
    """seeds.2.path before seeds.10.path."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in key.split(".")]
