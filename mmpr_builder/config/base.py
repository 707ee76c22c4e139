"""What all tables of settings have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Weight = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def split_commas(value: object) -> object:
    """A list, or its items separated by commas, as on the command line."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value
