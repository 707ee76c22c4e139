"""What may be chosen for an export."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from mmpr_builder.errors import ConfigError
from mmpr_builder.records import Kind

KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class PerEntry:
    """A number for all entries of a recipe, or for those of one name, source or kind.

    `PerEntry.parse("--repeat-time", ["2", "dropout_ntp=0.5"])`: a name wins over a source, a
    source over a kind, a kind over the plain number.
    """

    plain: float | None = None
    named: tuple[tuple[str, float], ...] = ()

    @classmethod
    def parse(cls, option: str, words: Iterable[str]) -> PerEntry:
        """Raises `ConfigError` for what is no number above 0."""
        plain: float | None = None
        named: dict[str, float] = {}
        for word in words:
            name, equals, raw = word.rpartition("=")
            try:
                value = float(raw)
            except ValueError:
                value = 0.0
            if not 0 < value < float("inf"):
                raise ConfigError(
                    f"{option} {word!r}: {raw!r} is no number above 0: give N, or NAME=N where"
                    " NAME is an entry, a source or a kind"
                )
            if equals:
                named[name] = value
            else:
                plain = value
        return cls(plain, tuple(named.items()))

    def value(self, entry: str, source: str, kind: str) -> float | None:
        """The number for one entry; None where none is set."""
        numbers = dict(self.named)
        return next(
            (numbers[name] for name in (entry, source, kind) if name in numbers), self.plain
        )

    def unused(self, known: Iterable[str]) -> list[str]:
        """Names that stand for no entry, source or kind of `known`."""
        there = {*known, *KINDS}
        return [name for name, _ in self.named if name not in there]

    def numbers(self) -> list[float]:
        """All numbers that are set."""
        return [n for n in (self.plain, *dict(self.named).values()) if n is not None]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """`mount` is where the trainer will find the export; None: where it is written.

    With `model` its own special tokens and its `context` decide which rows are left out.
    `validation` is the share of pictures whose rows are kept apart, `max_pairs` how many rows are
    drawn, evenly over sources and kinds. `control`: as many rows, made without the quality filters.
    """

    kinds: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    repeat_time: PerEntry = PerEntry()
    max_dynamic_patch: PerEntry = PerEntry()
    mount: str | None = None
    pass_rate: tuple[float, float] = (0.2, 0.8)
    per_question: int = 1
    validation: float = 0.0
    max_pairs: int | None = None
    control: bool = False
    model: str | None = None
    context: int | None = None
    overwrite: bool = False
    referenced: bool = False
    """The pairs have reference log-probabilities; `write_export` finds out."""


def check_names(option: str, names: Sequence[str], known: Collection[str]) -> None:
    """Raises `ConfigError` for the first of `names` that is not among `known`."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            hint = f" (the nearest is {near[0]!r})" if near else ""
            raise ConfigError(
                f"{option} {name!r}: unknown{hint}: there are {', '.join([*known][:20])}"
            )
