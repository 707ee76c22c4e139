"""Reads settings: a recipe in YAML, its `base`, `key=value` overrides; says what is wrong. Finds
the recipes and prompts that are shipped.

load_config("demo", ["sampling.temprature=1"])
  -> ConfigError: …unknown key 'sampling.temprature' …; the nearest valid key is …
"""

from __future__ import annotations

import difflib
import glob
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mmpr_builder.config.identity import flattened
from mmpr_builder.config.sections import SourceConfig
from mmpr_builder.config.whole import NO_LICENSED_SOURCE, NO_SUCH_SOURCE, Config, paths_in
from mmpr_builder.errors import ConfigError

Shipped = Literal["pipelines", "prompts"]


def shipped_folder(kind: Shipped) -> Path:
    """The folder of shipped recipes or prompts, in an installed package or in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "_shipped" / kind
    return installed if installed.is_dir() else package.parent / kind


def shipped_names(kind: Shipped, suffix: str) -> list[str]:
    """Names (without suffix) of what is shipped, sorted."""
    return sorted(path.stem for path in shipped_folder(kind).glob(f"*{suffix}"))


def find_shipped(kind: Shipped, name: str, suffix: str) -> Path | None:
    """`name` as a file of the user's, else as a shipped one (`demo`, `pipelines/demo.yaml`)."""
    path = Path(name).expanduser()
    if path.is_file():
        return path
    shipped = shipped_folder(kind) / path.name.removesuffix(suffix)
    shipped = shipped.with_name(shipped.name + suffix)
    is_ours = path.parent in (Path(), Path(kind))
    return shipped if is_ours and shipped.is_file() else None


def valid_keys() -> list[str]:
    """All dotted keys of the settings, in the order of the settings table."""
    return [key for key, _, _ in settings_table()]


def settings_table() -> list[tuple[str, str, str]]:
    """(key, default, description) of every setting, for the README and `mmpr settings`."""
    rows: list[tuple[str, str, str]] = []
    for key, field in _fields(Config):
        if not field.json_schema_extra:
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            default = "demo" if key == "seeds" else default
            shown = "" if default is None else json.dumps(default, ensure_ascii=False)
            rows.append((key, shown.strip('"'), field.description or ""))
    return rows


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """(dotted key, field) of all settings, those that are hidden among them."""
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from _fields(section, f"{prefix}{name}.")
            continue
        yield f"{prefix}{name}", field
        if name == "seeds":
            yield from _fields(SourceConfig, "seeds.N.")


def load_config(recipe: str | Path | None, overrides: Iterable[str] = ()) -> Config:
    """Read a recipe (or only defaults), apply overrides, check everything.

    Raises `ConfigError` quoting the value, the key and the nearest valid key.
    """
    own = _read_recipe(recipe) if recipe is not None else {}
    data = _with_base(dict(own), str(recipe), ()) if own else {}
    overrides = list(overrides)
    # A whole table before its keys, so that none is lost whatever their order.
    for override in sorted(overrides, key=lambda one: one.partition("=")[0].count(".")):
        _apply_override(data, override)
    path = None if recipe is None else find_shipped("pipelines", str(recipe), ".yaml")
    is_ours = path is not None and path.parent.resolve() == shipped_folder("pipelines").resolve()
    theirs = [*overrides, *({} if is_ours else flattened(own))]
    images = data.get("images") or {}
    if isinstance(images, dict) and _sets_budget(flattened(data)) and not _sets_budget(theirs):
        data["images"] = {**images, "asked": False}
    _refuse_earlier(data, str(recipe), overrides)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        named = data["seeds"] if isinstance(data.get("seeds"), dict) else {}
        lines = [_explain(item, str(recipe), overrides, list(named)) for item in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def _sets_budget(words: Iterable[str]) -> bool:
    return any(name in word for word in words for name in ("tiles", "pixels"))


def _hidden(why: str) -> dict[str, Any]:
    return {
        key: field.json_schema_extra[why]
        for key, field in _fields(Config)
        if isinstance(field.json_schema_extra, dict) and why in field.json_schema_extra
    }


FOLLOWED: dict[str, str] = _hidden("follows")
"""Settings of earlier versions -> the setting that each of them follows now."""
ALWAYS: dict[str, Any] = _hidden("always")
"""Settings of earlier versions -> the one value that each of them has now."""


def as_written(key: str) -> str:
    """A key of recorded settings as a recipe has it: `prompts.mix.chart` is in `prompts.template`
    there. What a table holds may have a field of its own."""
    plain = re.sub(r"^seeds\.\d+", "seeds.N", key)
    for old, new in FOLLOWED.items():
        (section, _, name), (place, _, now) = old.rpartition("."), new.rpartition(".")
        if section == place and _is_in(plain, old):
            return key.replace(f".{name}", f".{now}", 1)
    return key


def _refuse_earlier(data: dict[str, Any], recipe: str, overrides: list[str]) -> None:
    """Raise `ConfigError` for a setting of an earlier version, naming the one to use instead."""
    for key, value in flattened(data).items():
        first, _, rest = key.partition(".")
        # Sources stand in a list, in a table by name, or are one table.
        of_source = (f"seeds.N.{rest}", f"seeds.N.{rest.partition('.')[2]}")
        names = of_source if first == "seeds" else (key,)
        earlier = (o for o in (*FOLLOWED, *ALWAYS) if any(_is_in(name, o) for name in names))
        if (old := next(earlier, None)) is not None:
            blamed = (o for o in reversed(overrides) if _is_in(key, o.partition("=")[0].strip()))
            follows, always = FOLLOWED.get(old), ALWAYS.get(old)
            raise ConfigError(
                f"{next(blamed, recipe)}: {old!r} (value {value!r}) is no setting any more: it "
                + (f"follows {follows!r}; set that instead" if follows else f"is always {always!r}")
            )


def _is_in(key: str, table: str) -> bool:
    return f"{key}.".startswith(f"{table}.")


def _read_recipe(recipe: str | Path) -> dict[str, Any]:
    path = find_shipped("pipelines", str(recipe), ".yaml")
    if path is None or path.suffix in _SEED_ENDINGS:
        seeds = f", or seeds={recipe} if it holds seeds" if Path(recipe).exists() else ""
        raise ConfigError(
            f"recipe {str(recipe)!r} is neither a YAML file nor a shipped recipe"
            f" ({', '.join(shipped_names('pipelines', '.yaml'))}): give the path of one{seeds}"
        )
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise ConfigError(
            f"{path}: {size:,} bytes, and a recipe has {_MOST_BYTES:,} at most: name many files by"
            " their folder or a pattern"
        )
    try:
        data = _parsed(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a recipe is a table of settings, got {type(data).__name__}")
    folder = path.parent
    if folder.resolve() in (shipped_folder("pipelines").resolve(), Path.cwd()):
        return data
    return {key: _placed(value, key, path) for key, value in data.items()}


_MOST_BYTES, _MOST_VALUES, _DEEPEST, _LONGEST_NUMBER = 2**20, 200_000, 50, 100
_TOO_DEEP = f"nested more than {_DEEPEST} deep"


_SEED_ENDINGS = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".tar", ".zip")
"""What is no recipe by its name: a line of JSON is YAML as well. Reading has `io.seed_files`."""


def _parsed(text: str) -> Any:
    """The value of a YAML text. Raises `yaml.YAMLError`, also for what would take minutes or
    gigabytes: aliases of aliases, a value within itself, deep nesting, numbers without end."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        _refuse_bombs(node)
        return None if node is None else loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError(_TOO_DEEP) from None
    except ValueError as error:  # Say, the 99th of a month.
        raise yaml.YAMLError(str(error)) from None


def _refuse_bombs(node: yaml.Node | None) -> None:
    """Count values as if every alias were written out. A key that stands twice in a table is
    refused, too: YAML would forget the first one."""
    seen, stack = 0, [] if node is None else [(node, 0)]
    while stack:
        one, depth = stack.pop()
        seen, problem = seen + 1, ""
        if isinstance(one, yaml.MappingNode):
            stack += [(child, depth + 1) for pair in one.value for child in pair]
            keys = Counter(key.value for key, _ in one.value if isinstance(key, yaml.ScalarNode))
            problem = ", ".join(f"the key {key!r} {n} times" for key, n in keys.items() if n > 1)
        elif isinstance(one, yaml.SequenceNode):
            stack += [(child, depth + 1) for child in one.value]
        elif one.tag.endswith((":int", ":float")) and len(one.value) > _LONGEST_NUMBER:
            problem = f"a number of {len(one.value):,} characters"
        if depth > _DEEPEST:
            problem = _TOO_DEEP
        elif seen > _MOST_VALUES:
            problem = f"over {_MOST_VALUES:,} values, those of an alias counted wherever it stands"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=one.start_mark)


_PATHS = (
    *("model", "lora", "data", "engine.chat_template", "scoring.judge.prompt", "scoring.labels"),
    *("prompts.template", "prompts.open_template"),
    *("pairing.reject_list", "quality.decontaminate.against"),
    *(f"seeds.{name}" for name in ("path", "root", "roots", "template")),
)
"""Settings that name what a build reads. Folders of builds (`out`, `rollouts`, `replay_from`) start
at the working folder."""


def _placed(value: Any, key: str, recipe: Path) -> Any:
    """A value of a recipe, with the paths in it as they are seen from the working folder."""
    if isinstance(value, str):
        place = "seeds.path" if key == "seeds" else key
        if place not in _PATHS:
            return value
        several = key in ("seeds", "seeds.roots", "quality.decontaminate.against")
        parts = value.split(",") if several else [value]
        return ",".join(_beside(part.strip(), place, recipe) for part in parts)
    if isinstance(value, list):
        inside = "seeds.path" if key == "seeds" else key
        return [_placed(v, inside if isinstance(v, str) else key, recipe) for v in value]
    if not isinstance(value, dict):
        return value
    if key in _PATHS:  # Templates by language, or with weights by template and domain.
        return {
            _beside(k, key, recipe) if isinstance(v, int | float) else k: _placed(v, key, recipe)
            for k, v in value.items()
        }
    named = key == "seeds" and all(isinstance(v, dict) for v in value.values())
    return {k: _placed(v, key if named else f"{key}.{k}", recipe) for k, v in value.items()}


_FILE_LIKE = re.compile(r"[*?[]|/.*/|\.[A-Za-z]\w*$")


def _beside(value: str, key: str, recipe: Path) -> str:
    """A relative path from the recipe's folder on; names of models, templates and data sets as
    they are. Raises `ConfigError` for what is only in the working folder."""
    if not value or value == "demo" or value[0] in "/~" or "://" in value or "{" in value:
        return value
    beside = os.path.normpath(recipe.parent / value)
    if glob.glob(beside):
        return beside
    if glob.glob(value):
        raise ConfigError(
            f"{recipe}: {key} = {value!r}: paths in a recipe start at its own folder, and {beside}"
            f" is not there; {value} is in the working folder: write"
            f" {os.path.relpath(value, recipe.parent)!r}, or set it on the command line"
        )
    is_file = value[0] == "." or (_FILE_LIKE.search(value) and key not in ("model", "lora"))
    return beside if is_file else value


_MOST_BASES = 20


def _with_base(data: dict[str, Any], recipe: str, above: tuple[str, ...]) -> dict[str, Any]:
    """A recipe with what it leaves out filled in from its `base`, another recipe."""
    base = data.pop("base", None)
    if base is None:
        return data
    if not isinstance(base, str) or base in above or len(above) >= _MOST_BASES:
        back = "leads back to itself, or to too many others" if isinstance(base, str) else ""
        raise ConfigError(
            f"{recipe}: base = {base!r}{back and f' {back}'}: give another recipe, by name or path"
        )
    beside = Path(recipe).parent / base
    found = str(beside) if beside.is_file() else base
    under = _with_base(_read_recipe(found), found, (*above, base))
    merged: dict[str, Any] = _merged(under, data)
    return merged


def _merged(under: Any, over: Any) -> Any:
    """`over`, and in tables also what only `under` has."""
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    return {
        key: _merged(under.get(key), over.get(key, under.get(key))) for key in {**under, **over}
    }


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, equals, raw = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override {override!r} is not of the form key=value, say sampling.n=16")
    try:
        value = _parsed(raw) if raw.strip() else None
    except yaml.YAMLError:
        value = raw
    *parents, last = key.strip().split(".")
    table: Any = data
    for parent in parents:
        table = _step_into(table, parent, override)
    if isinstance(table, list):
        _step_into(table, last, override)
        table[int(last)] = raw
        return
    # Text stays text, even where YAML would read something else out of it (say, out=2024).
    table[last] = raw if raw.strip() and _is_text(key.strip(), raw) else value


def _step_into(table: Any, part: str, override: str) -> Any:
    """The table under `part`; `seeds.0` is the first source, a bare path or a table."""
    if isinstance(table, list):
        if not part.isdigit() or int(part) >= len(table):
            raise ConfigError(
                f"override {override!r}: no source {part!r}: there are {len(table)} sources,"
                " of which seeds.0 is the first"
            )
        if isinstance(table[int(part)], str):
            table[int(part)] = {"path": table[int(part)]}
        return table[int(part)]
    if part.isdigit() and part not in table and int(part) < len(table):
        part = list(table)[int(part)]  # Sources by name have numbers, too.
    child = table.setdefault(part, {})
    if part == "seeds" and isinstance(child, str):
        child = table[part] = paths_in(child)
    if not isinstance(child, dict | list):
        raise ConfigError(
            f"override {override!r}: {part!r} is a value, not a table: mmpr settings lists the keys"
        )
    return child


_TEXT_KEYS = (
    *("out", "model", "name", "lora", "data", "sampling.replay_from", "sampling.endpoint.url"),
    *("pairing.reject_list", "scoring.labels"),
    *("scoring.judge.url", "scoring.judge.model", "scoring.judge.prompt"),
)


def _is_text(key: str, raw: str) -> bool:
    if key == "seeds":
        return not raw.lstrip().startswith(("[", "{"))
    return key in _TEXT_KEYS or (key.startswith("seeds.") and key.endswith((".path", ".root")))


def _explain(item: Any, recipe: str, overrides: list[str], named: list[str]) -> str:
    """What is wrong, where, and the fix. `named` are the sources of a table of them, by number."""
    loc = list(item["loc"]) or ["licenses" if item["type"] == NO_LICENSED_SOURCE else "settings"]
    if loc[0] == "seeds" and len(loc) > 1 and len(named) > loc[1]:
        loc[1] = named[loc[1]]
    key = ".".join(str(part) for part in loc)
    key = "sources" if item["type"] == NO_SUCH_SOURCE else as_written(key)
    # An override is to blame if it set the key or something under or above it.
    given = [(o.split("=")[0].strip(), o) for o in overrides]
    blamed = [o for k, o in given if f"{k}.".startswith(f"{key}.") or f"{key}.".startswith(f"{k}.")]
    where = blamed[-1] if blamed else recipe
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, valid_keys(), n=1, cutoff=0.0)
        hint = f"; the nearest valid key is {near[0]!r}" if near else ""
        return f"{where}: unknown key {key!r} (value {item['input']!r}){hint}"
    if item["type"] in (NO_SUCH_SOURCE, NO_LICENSED_SOURCE):
        return f"{where}: {key}: {item['msg']}"
    if item["input"] is None:
        default = {name: shown for name, shown, _ in settings_table()}.get(key)
        told = f" (its default is {default})" if default else ""
        return f"{where}: {key} has no value: give it one{told}, or leave it out"
    if item["type"] == "model_type":
        return f"{where}: {key} = {item['input']!r}: it is a table: set {key}.KEY=VALUE"
    return f"{where}: {key} = {item['input']!r}: {item['msg'].removeprefix('Value error, ')}"
