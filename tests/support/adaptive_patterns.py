"""Responses by pattern, and what adaptive sampling makes of them."""

from __future__ import annotations

from collections.abc import Sequence

from mmpr_builder.config import Config, load_config
from mmpr_builder.pairing.need import (
    Tally,
    marks,
    rule_for,
)
from mmpr_builder.records import (
    ImageRef,
    Response,
    Seed,
    Template,
    Verdict,
)

SEED = Seed(id="q", question="How many?", answers=("3",))
OPEN = Seed(id="o", question="<image>\nDescribe it.", images=(ImageRef("x.png"),))
TEMPLATE = Template("plain_en", "{question}")
LETTERS = {"+": "correct", "-": "incorrect", "0": "no_answer", "?": "undecided"}


def settings(*overrides: str) -> Config:
    return load_config(None, ["sampling.policy=adaptive", *overrides])


def judged(
    pattern: str, texts: Sequence[int] | None = None
) -> tuple[list[Response], list[Verdict]]:
    """Responses by pattern: + right, - wrong, 0 no answer, ? undecided, | wrong and cut."""
    responses, verdicts = [], []
    for index, letter in enumerate(pattern):
        number = index if texts is None else texts[index]
        finish = "length" if letter == "|" else "stop"
        responses.append(Response(f"{letter} {number}", 5, finish, index))
        verdicts.append(Verdict(LETTERS.get(letter, "incorrect")))  # type: ignore[arg-type]
    return responses, verdicts


def tally_of(pattern: str, config: Config, texts: Sequence[int] | None = None) -> Tally:
    rule = rule_for(SEED, config)
    tally = Tally(rule)
    for mark in marks(SEED, *judged(pattern, texts), rule):
        tally.add(mark)
    return tally
