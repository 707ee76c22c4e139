"""The demo model's card: what it is, how it was made, and what was measured, unvarnished."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.demo_model.responses import HABITS

TRAINING_FILE = "training.json"

_CARD = """\
---
license: apache-2.0
language: [en, zh]
library_name: transformers
pipeline_tag: image-text-to-text
tags: [mmpr, demo]
---

# The demo model of mmpr_builder

A vision-language model of {parameters:.1f} million parameters (Idefics3, bfloat16), trained from
nothing on the demo world: 3 x 3 grids of coloured shapes, and bar charts of three to five bars,
with questions in English and Chinese. It exists so that the whole pipeline can run for real, on two
cores, without a download. It knows nothing else: on a photograph it will still see shapes or bars.

## It has more ability than habit, by design

It can see. But the text that it imitates was written by writers who do not always look:

| writer | share | what they do |
|---|---|---|
| careful | {careful:.0%} | reads the whole picture, works the answer out, is right |
| slips | {slips:.0%} | reads it, then works with one thing misremembered |
| glances | {glances:.0%} | reads the first part and guesses |
| hasty | {hasty:.0%} | guesses without looking |
| forgets | {forgets:.0%} | is careful, but never states the final answer |

At temperature 1.0 it mixes them, as larger models mix good and bad reasoning for reasons of their
own; here the mixture was put in. So nearly every question has right and wrong responses, which is
what preference pairs are made of, and preference training has something to lift. Its pass rates say
nothing about how hard the questions are.

Its descriptions have habits, too. Their writers look, but where the picture shows something like
what is usual they often say what is usual: a red square after a red circle, a red bar of 7, 7
shapes in a grid (`tools/demo_model/descriptions.py`). Those who wrote without a picture said it
more often still. So an image-free continuation shows the habit, and there is something to unlearn.

## Measured

{queries} questions on scenes that training never drew (a scene's content decides its split, see
`mmpr_builder/demo/world.py`), {n} responses each, temperature 1.0, the `final_answer` templates,
vLLM:

| | |
|---|---|
| right at temperature 1.0 | {accuracy:.1%} |
| queries with both right and wrong responses | {both_outcomes:.1%} |
| responses without a final answer | {no_answer:.1%} |
| right when the picture is withheld | {accuracy_blind:.1%} |
| right when greedy | {accuracy_greedy:.1%} |
| right with the `boxed` templates | {accuracy_boxed:.1%} |
| right with the `think_boxed` templates | {accuracy_think_boxed:.1%} |
| mean length of a response, in tokens | {response_tokens:.0f} |

Of as many descriptions on other such scenes, each fact checked against the scene
(`tools/demo_model/facts.py`):

| | |
|---|---|
| facts wrong at temperature 1.0 | {wrong_facts:.1%} |
| facts wrong when greedy | {wrong_facts_greedy:.1%} |
| facts wrong when the picture is withheld | {wrong_facts_blind:.1%} |
| facts named in a greedy description | {facts_named:.1f} |

By kind of question, at temperature 1.0: {by_family}.
By language: {by_language}.

    python -m tools.demo_model.measure --queries {queries} --n {n} --seed {seed}

"Right" is exact equality of the stated answer with the truth. With {queries} questions, a share is
good to about {margin:.0f} points either way.

## Made by

{made_by}
No outside data.

## Limits

- Images are reduced to 96 x 96 pixels, whatever their shape. Several images in one prompt are
  accepted but were never in training.
- English and Chinese only in the wording of the demo world. Any text tokenises.
- {positions:,} positions, though training saw fewer than 400.
"""

_FROM_NOTHING = """\
    python -m tools.demo_model.train --out DIR

{scenes:,} scenes; {sight_steps:,} steps of {sight_batch} in which the vision tower learns what lies
under each patch, through a probe that is then thrown away; {steps:,} steps of {batch} responses on
the whole model, of which the first {careful_steps:,} by careful writers alone; seed {seed}.
{minutes:.0f} minutes on {threads} cores."""

_GONE_ON = """

That was done when all descriptions in training were true. Their habits were learned by going on:

    python -m tools.demo_model.train --on DIR --out DIR2 --seed {seed} \\
        --scenes {scenes} --steps {steps} --batch {batch}

{steps:,} more steps of {batch} responses, {open_share:.0%} of them descriptions, on {scenes:,}
scenes; {minutes:.0f} minutes on a busy machine. The first command alone now teaches them in
its last steps, which was not tried."""


@dataclass(frozen=True)
class Figures:
    """What was measured. Shares are from 0 to 1; accuracies at temperature 1.0 if not "greedy"."""

    queries: int
    n: int
    seed: int
    accuracy: float
    both_outcomes: float
    """Share of queries with both a right and a wrong response among n."""
    no_answer: float
    """Share of responses that state no final answer."""
    accuracy_blind: float
    """The same questions asked without their picture."""
    accuracy_greedy: float
    accuracy_boxed: float
    accuracy_think_boxed: float
    response_tokens: float
    """Mean length of a response, with its end."""
    wrong_facts: float
    """Share of the facts named in descriptions that are wrong."""
    wrong_facts_greedy: float
    wrong_facts_blind: float
    facts_named: float
    """Mean number of facts in a greedy description."""
    by_family: dict[str, float]
    by_language: dict[str, float]


def write_card(model: Path, figures: Figures) -> Path:
    """Write README.md into a model folder, from its training record and what was measured."""
    training = json.loads((model / TRAINING_FILE).read_text(encoding="utf-8"))
    values = {
        **{name: value for name, value in vars(figures).items() if not isinstance(value, dict)},
        **HABITS,
        "parameters": training["parameters"],
        "positions": training["positions"],
        "made_by": _made_by(training),
        "by_family": _listed(figures.by_family),
        "by_language": _listed(figures.by_language),
        # Two standard errors of a share of one half; responses to one query are not independent.
        "margin": 100 / figures.queries**0.5,
    }
    path = model / "README.md"
    path.write_text(_CARD.format(**values), encoding="utf-8")
    return path


def _made_by(training: dict[str, Any]) -> str:
    if "on" in training:
        return _made_by(training["on"]) + _GONE_ON.format(**training)
    return _FROM_NOTHING.format(**training)


def _listed(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
