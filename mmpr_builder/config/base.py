"""What all tables of settings have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Weight = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def split_commas(value: object) -> object:
    """A list, or its items separated by commas, as on the command line.

    Raises `ValueError` for an empty item: what was to stand there would be left out unseen.
    """
    if not isinstance(value, str):
        return value
    items = [part.strip() for part in value.split(",")]
    if "" in items:
        raise ValueError("an item is empty: name each, with one comma between two")
    return items
