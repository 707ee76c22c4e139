"""What documentation takes from the settings: `python -m tools.reference` writes both files.

docs/settings.md                a table of keys for each section
pipelines/recipe.schema.json    a JSON Schema of recipes, by which editors complete keys
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from mmpr_builder.config import Config, settings_table

ROOT = Path(__file__).parents[1]
SETTINGS = ROOT / "docs" / "settings.md"
SCHEMA = ROOT / "pipelines" / "recipe.schema.json"

HEAD = """\
# Settings

<!-- Written by `python -m tools.reference`; a test compares it with the settings. -->

A recipe is a YAML file of these keys. `key=value` on the command line wins over it. An unknown key
is an error that names the nearest valid one. `mmpr settings` prints the keys in the terminal.

[pipelines/recipe.schema.json](../pipelines/recipe.schema.json) describes recipes to editors. With
this first line, an editor with a YAML language server completes the keys and shows what they mean:

```yaml
# yaml-language-server: $schema=/path/to/pipelines/recipe.schema.json
```

`base: RECIPE` takes another recipe, by name or path, for everything that a recipe leaves out.

On the command line `seeds.0.scorer=relaxed` sets a key of the first source of a recipe, and
`seeds.chartqa.limit=500` one of a source with a name. `seeds='[{path: a.jsonl, root: /images},
b.parquet]'` replaces them all. A list may be written as one text with commas, such as
`dropout.keep=0.25,0.5`.

**What a build's folder fixes.** A folder refuses settings that would change its rollouts (`model`,
`lora`, `seeds`, `limit`, `prompts`, `sampling`, `dropout`, `images`, `engine`,
`scoring.unusable_truth`) or its seeds (`quality.decontaminate`, `quality.near_duplicates`), and
names the one that differs. All others can change between runs, `sampling.endpoint` and a source's
`scorer`, `license`, `get` and `forbidden_splits` among them.
"""

_WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` · `false`",
    "array": "list",
    "object": "table",
}


def settings_page() -> str:
    """`docs/settings.md`: a section for each table of a recipe, the keys outside of any first."""
    schema = Config.model_json_schema()
    parts = [HEAD]
    sections: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for row in settings_table():
        sections[row[0].rpartition(".")[0]].append(row)
    tables = list(dict.fromkeys(name.partition(".")[0] for name in ("", *sections)))
    for section in sorted(sections, key=lambda name: (tables.index(name.partition(".")[0]), name)):
        about = _at(schema, section).get("description", "") if section else "The build as a whole."
        parts.append(f"## {section or 'Build'}\n\n{about}\n")
        parts.append("| key | values | default | what it does |\n|---|---|---|---|")
        for key, default, description in sections[section]:
            shown = f"`{default}`" if default else ""
            values = _values(_at(schema, key)).replace("|", "\\|")
            parts.append(f"| `{key}` | {values} | {shown} | {description} |")
        parts.append("")
    return "\n".join(parts)


def recipe_schema() -> dict[str, Any]:
    """The schema of a recipe: as lenient as reading one, which fills in paths from a `base`."""
    schema = Config.model_json_schema()
    for table in (schema, *schema["$defs"].values()):
        table.pop("required", None)
        for name, field in list(table.get("properties", {}).items()):
            field.pop("title", None)
            if field.get("hidden"):
                del table["properties"][name]
            elif any(kind.get("type") == "array" for kind in (field, *field.get("anyOf", []))):
                about = {k: field.pop(k) for k in ("description", "default") if k in field}
                # A list may be written as one text with commas.
                table["properties"][name] = about | {
                    "anyOf": [*field.get("anyOf", [field]), {"type": ["string", "number"]}]
                }
    source = {"$ref": "#/$defs/SourceConfig"}
    schema["properties"]["seeds"] = {
        "description": schema["properties"]["seeds"]["description"],
        "anyOf": [
            {"type": "string"},
            {"type": "array", "items": {"anyOf": [{"type": "string"}, source]}},
            source,
            {"type": "object", "additionalProperties": source},
        ],
    }
    schema["properties"]["base"] = {
        "description": "Another recipe, by name or path: what is not said here is taken from it.",
        "type": "string",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Recipe of mmpr_builder",
    }


def _at(schema: dict[str, Any], key: str) -> dict[str, Any]:
    """The part of the schema that describes a key."""
    part = schema
    for name in key.split("."):
        part = part["items"] if name == "N" else part["properties"][name]
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rpartition("/")[2]]
    return part


def _values(field: dict[str, Any]) -> str:
    """What a key takes, in words: `fixed` · `adaptive`, whole number from 1."""
    kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
    return " or ".join(dict.fromkeys(map(_kind, kinds)))


def _kind(field: dict[str, Any]) -> str:
    if "const" in field or "enum" in field:
        return " · ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    words = _WORDS[field["type"]]
    low = field.get("minimum", field.get("exclusiveMinimum"))
    high = field.get("maximum", field.get("exclusiveMaximum"))
    if low is not None:
        words += f" {'from' if 'minimum' in field else 'above'} {low:g}"
    if high is not None:
        words += f" {'to' if 'maximum' in field else 'below'} {high:g}"
    return words


def main() -> None:
    """Write both files."""
    SETTINGS.write_text(settings_page(), encoding="utf-8")
    text = json.dumps(recipe_schema(), indent=1, ensure_ascii=False, sort_keys=False)
    SCHEMA.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
