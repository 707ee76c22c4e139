"""The settings as a table of keys, defaults and descriptions."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from mmpr_builder.config.inputs import SourceConfig
from mmpr_builder.config.whole import Config


def valid_keys() -> list[str]:
    """All dotted keys of the settings, in the order of the settings table."""
    return [key for key, _, _ in settings_table()]


def settings_table() -> list[tuple[str, str, str]]:
    """(key, default, description) of every setting, for the README and `mmpr settings`."""
    rows: list[tuple[str, str, str]] = []
    _collect(Config, "", rows)
    return rows


def _collect(model: type[BaseModel], prefix: str, rows: list[tuple[str, str, str]]) -> None:
    for name, field in model.model_fields.items():
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("hidden"):
            continue
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            _collect(section, f"{prefix}{name}.", rows)
            continue
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        if name == "seeds":
            default = "demo"
        shown = "" if default is None else json.dumps(_plain(default), ensure_ascii=False)
        rows.append((f"{prefix}{name}", shown.strip('"'), field.description or ""))
        if name == "seeds":
            _collect(SourceConfig, "seeds.N.", rows)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
