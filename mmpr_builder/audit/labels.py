r"""A labelled file against the scorer: confusion table, error rates, and every disagreement; and
people's preferences against the judge of open questions.

    {"id": "a1", "pred": "12 cm", "gold": "12", "expected": true}
    {"response": "…\nFinal answer: B", "gold": ["B"], "choices": ["5", "12"], "label": "correct"}

One JSON object per line. Fields, each under any of its names:

    pred, predicted, prediction      an extracted answer, or
    response, text                   a whole response, of style `style` (or `prompt_version`)
    gold, truth, truths, answers     a truth or a list of accepted ones
    expected, label, outcome         true/false, or correct, incorrect, no_answer, undecided, or
                                     not_correct (anything but correct, so `must` in its place)
    scorer, choices, question        as in a build; optional
    id, corpus or kind               its name, and what to count it under (default: the scorer)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from mmpr_builder.errors import InputError
from mmpr_builder.extraction import STYLES
from mmpr_builder.pairing.verdicts import Scores, judge_answer, judge_text, saved_lines
from mmpr_builder.records import Asked, Outcome, Rollout, Style, Verdict, content_id
from mmpr_builder.scoring.auto import SCORERS

NOT_CORRECT = "not_correct"
"""A label that allows every outcome but "correct"."""

_LABELS = (*get_args(Outcome), NOT_CORRECT)
_STYLE_OF_PROMPT = {"en": "final_answer", "zh": "final_answer", "think": "think_boxed"}
_NAMES = {
    "predicted": ("pred", "predicted", "prediction"),
    "response": ("response", "text"),
    "truth": ("gold", "truth", "truths", "answers"),
    "label": ("expected", "label", "outcome"),
    "style": ("style", "prompt_version"),
}


@dataclass(frozen=True, slots=True)
class LabelledCase:
    """One answer or response with the verdict it should get. `where` is `file:line`."""

    id: str
    where: str
    truths: tuple[str, ...]
    expected: str
    said: str
    style: Style | None
    """The style of a whole response; None where `said` is an extracted answer."""
    scorer: str = "auto"
    choices: tuple[str, ...] = ()
    question: str | None = None
    kind: str = ""

    def agrees(self, verdict: Verdict) -> bool:
        if self.expected == NOT_CORRECT:
            return verdict.outcome != "correct"
        return verdict.outcome == self.expected


@dataclass(frozen=True, slots=True)
class Rate:
    """`hits` of `of` cases, with the 95 % interval of Wilson's score."""

    hits: int
    of: int

    @property
    def share(self) -> float | None:
        return self.hits / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high) for the true rate; the whole range where there are no cases."""
        if not self.of:
            return 0.0, 1.0
        from scipy.stats import binomtest

        low, high = binomtest(self.hits, self.of).proportion_ci(method="wilson")
        return float(low), float(high)

    def to_json(self) -> dict[str, Any]:
        low, high = self.interval
        return {**asdict(self), "share": self.share, "low": low, "high": high}


@dataclass(frozen=True, slots=True)
class Confusion:
    """What a set of judged cases adds up to; (label, outcome) -> cases."""

    counts: Mapping[tuple[str, str], int]

    @property
    def false_positives(self) -> Rate:
        """Called correct, of the cases that are labelled anything else."""
        return self._rate(right=False)

    @property
    def misses(self) -> Rate:
        """Not called correct, of the cases that are labelled correct."""
        return self._rate(right=True)

    def to_json(self) -> dict[str, Any]:
        """The table and both error rates as plain values."""
        table = [
            {"label": label, "outcome": outcome, "cases": count}
            for (label, outcome), count in sorted(self.counts.items())
        ]
        rates = {"false_positives": self.false_positives, "misses": self.misses}
        return {"confusion": table, **{name: rate.to_json() for name, rate in rates.items()}}

    def _rate(self, *, right: bool) -> Rate:
        """How many of the cases labelled correct, or of the others, are called the other one."""
        of = {key: n for key, n in self.counts.items() if (key[0] == "correct") == right}
        missed = sum(n for (_, outcome), n in of.items() if (outcome == "correct") != right)
        return Rate(missed, sum(of.values()))


def read_cases(path: str | Path) -> Iterator[LabelledCase]:
    """The cases of a labelled file. Raises `InputError` naming line and field of a bad one."""
    for number, line in saved_lines("--labels", path):
        if line.strip():
            yield _case(line, f"{Path(path).name}:{number}")


def compare_preferences(path: str | Path, rollouts: Iterable[Rollout]) -> Counter[str]:
    """What a build's judge found of texts that people prefer, by outcome; "not_compared" where it
    was not asked. Raises `InputError` for a line that is no preference.

    {"seed": "q7", "better": "A dog lies on a red sofa.", "worse": "A cat lies on a red sofa."}
    """
    found: dict[tuple[str, ...], str] = {}
    turned = {"better": "worse", "worse": "better"}
    for rollout in rollouts:
        for response in rollout.responses:
            for one in response.compared:
                pair = content_id(response.text), one.other
                found[rollout.seed.id, *pair] = one.outcome
                found[rollout.seed.id, *pair[::-1]] = turned.get(one.outcome, one.outcome)
    counts: Counter[str] = Counter()
    for number, line in saved_lines("--preferences", path):
        try:
            row = json.loads(line) if line.strip() else None
            texts = row and (row["seed"], content_id(row["better"]), content_id(row["worse"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(
                f"{path}:{number}: {line[:80]!r} is no preference: give an object with `seed`, and"
                " two texts as `better` and `worse`"
            ) from None
        counts.update([found.get(texts, "not_compared")] if texts else [])
    return counts


def judge_case(judge: Scores, case: LabelledCase) -> Verdict:
    """What the scorer says of one case."""
    asked = Asked(case.truths, case.scorer, case.choices, case.question)
    if case.style is None:
        return judge_answer(judge, case.said, asked)
    return judge_text(judge, case.said, replace(asked, style=case.style))


def confusion(judged: Iterable[tuple[LabelledCase, Verdict]]) -> Confusion:
    """The confusion table of judged cases."""
    return Confusion(Counter((case.expected, verdict.outcome) for case, verdict in judged))


def _case(line: str, where: str) -> LabelledCase:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: not a JSON object: {error}") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: a case is a JSON object, got {type(row).__name__}")
    predicted, response = _field(row, "predicted"), _field(row, "response")
    if (predicted is None) == (response is None):
        raise InputError(
            f"{where}: give an answer ({', '.join(_NAMES['predicted'])}) or a whole response"
            f" ({', '.join(_NAMES['response'])}), one of the two"
        )
    scorer = str(row.get("scorer") or "auto")
    if scorer not in SCORERS:
        raise InputError(f"{where}: scorer {scorer!r} is unknown: use {', '.join(SCORERS)}")
    return LabelledCase(
        id=str(row.get("id") or where),
        where=where,
        truths=_texts(_field(row, "truth"), "gold", where),
        expected=_label(row, where),
        said=_text(predicted if response is None else response, "pred or response", where),
        style=None if response is None else _style(row, where),
        scorer=scorer,
        choices=_texts(row["choices"], "choices", where) if row.get("choices") else (),
        question=row.get("question"),
        kind=str(row.get("corpus") or row.get("kind") or scorer),
    )


def _field(row: Mapping[str, Any], what: str) -> Any:
    return next((row[name] for name in _NAMES[what] if row.get(name) is not None), None)


def _text(value: Any, name: str, where: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise InputError(f"{where}: field {name} must be text, got {value!r}")


def _texts(value: Any, name: str, where: str) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    return tuple(_text(item, name, where) for item in items)


def _label(row: Mapping[str, Any], where: str) -> str:
    value = _field(row, "label")
    if isinstance(value, bool):
        return "correct" if value else "incorrect"
    if value is None and "must" in row:
        return NOT_CORRECT
    if value in _LABELS:
        return str(value)
    raise InputError(
        f"{where}: label {value!r} ({', '.join(_NAMES['label'])}) must be true, false or one of"
        f" {', '.join(_LABELS)}"
    )


def _style(row: Mapping[str, Any], where: str) -> Style:
    value = _field(row, "style") or "final_answer"
    style = _STYLE_OF_PROMPT.get(value, value)
    if style not in STYLES:
        raise InputError(f"{where}: style {value!r} is unknown: use one of {', '.join(STYLES)}")
    return cast(Style, style)
