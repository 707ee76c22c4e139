"""What each control was given and what it left aside, from the content of a build's run.json.

    Decontamination   quality.decontaminate.against=mathvista.jsonl
                      12,400 questions read    contaminated: 31
    DropoutNTP gate   quality.dropout_gate=true
                      49,112 continuations     missing_image: 210, near_equal: 1,020

For the report and the data card. A control is on where one of its settings is not the default.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from mmpr_builder.config import Config
from mmpr_builder.quality.contamination import CONTAMINATED
from mmpr_builder.quality.filters import SOLVED_BLIND
from mmpr_builder.quality.near_duplicates import NEAR_DUPLICATE
from mmpr_builder.quality.screening import NOT_SCREENED
from mmpr_builder.quality.suspects import SUSPECT_TRUTH
from mmpr_builder.records import Response

_OF_CONTINUATION = "continuation_"
_NEAR_COPY = "near_copy"


@dataclass(frozen=True, slots=True)
class Left:
    """`count` of `unit` ("questions", "responses", "continuations", "pairs", "sources") that were
    left aside for one reason; `stage` is that of the drops, "" where they are none."""

    reason: str
    count: int
    unit: str
    stage: str = ""


@dataclass(frozen=True, slots=True)
class Control:
    """One control that was on. `name` is a stable word, `settings` are `key=value`."""

    name: str
    title: str
    what: str
    settings: tuple[str, ...]
    given: int | None
    unit: str
    """Of `given`."""
    left: tuple[Left, ...]


@dataclass(frozen=True, slots=True)
class _Kind:
    """A control there is: the settings that turn it on, what it looks at and leaves aside."""

    name: str
    title: str
    keys: tuple[str, ...]
    what: str
    unit: str
    given: str
    """Where in the counts the number stands that it was given, as `seeds.read`."""
    drops: tuple[tuple[str, str], ...] = ()
    """(stage, reason) of its drops."""
    faults: Callable[[str], bool] | None = None
    """Which reasons of `this_run.quality` are its own."""
    pairs: str = ""
    """Its reason among the pairs that `counts.balance` left out."""


_READ = ("questions", "seeds.read")
_SAMPLED = ("responses", "responses.sampled")
_MADE = ("pairs", "pairs.total")

_KINDS = (
    _Kind(
        "licences", "Licences", ("licenses",),
        "Leaves out sources whose licence forbids commercial use, or is not known to allow it.",
        *_READ,
    ),
    _Kind(
        "decontamination", "Decontamination",
        ("quality.decontaminate.against", "quality.decontaminate"),
        "Drops questions that are in an evaluation set: the same picture with a similar question,"
        " or nearly the same long question where one side has no picture.",
        *_READ, drops=(("quality", CONTAMINATED), ("quality", NOT_SCREENED)),
    ),
    _Kind(
        "near_duplicates", "Near-duplicates of questions", ("quality.near_duplicates",),
        "Drops questions that ask the same, with the same truth, of the same picture as an earlier"
        " one, or nearly the same long text.",
        *_READ, drops=(("quality", NEAR_DUPLICATE), ("quality", NOT_SCREENED)),
    ),
    _Kind(
        "suspect_truths", "Suspect truths", ("quality.suspect_truths",),
        "Sets aside questions whose responses clearly agree on another answer than the truth.",
        "questions", "seeds.with_truth", drops=(("quality", SUSPECT_TRUTH),),
    ),
    _Kind(
        "blind", "Image dependence", ("sampling.blind", "quality.max_blind"),
        "Asks each question some times without its images; with a limit, those that are solved"
        " blind are dropped.",
        "questions", "blind.seeds.measured", drops=(("quality", SOLVED_BLIND),),
    ),
    _Kind(
        "pass_rate", "Band of pass rates", ("quality.min_pass_rate", "quality.max_pass_rate"),
        "Drops questions that are too easy or too hard for the model that answered.",
        "questions", "seeds.with_truth", drops=(("quality", "pass_rate_outside"),),
    ),
    _Kind(
        "hygiene", "Response hygiene", ("quality.hygiene",),
        "Keeps responses with loops, the wrong language, leaked tokens, refusals or a last step"
        " that contradicts the answer from being chosen; leaked tokens and refusals from being"
        " rejected, too.",
        *_SAMPLED, drops=(("quality", "no_clean_pair"),),
        faults=lambda reason: reason != _NEAR_COPY and not reason.startswith(_OF_CONTINUATION),
    ),
    _Kind(
        "distinct", "Near-copies among responses", ("quality.distinct",),
        "Counts responses to a question that nearly repeat each other once.",
        *_SAMPLED, faults=lambda reason: reason == _NEAR_COPY,
    ),
    _Kind(
        "dropout_gate", "DropoutNTP gate", ("quality.dropout_gate",),
        "Keeps continuations from being rejected that nearly equal the original, speak of a missing"
        " image, go round in circles or run away.",
        "continuations", "responses.continued",
        faults=lambda reason: reason.startswith(_OF_CONTINUATION),
    ),
    _Kind(
        "policy", "Pair policy",
        (
            *("pairing.max_per_response", "pairing.rejected_first", "pairing.partner"),
            *("pairing.max_gap", "pairing.shares"),
        ),
        "Decides which right response meets which wrong one, and how often one may stand.",
        *_MADE, drops=(("pairing", "lengths_apart"),),
    ),
    _Kind(
        "lengths", "Length balance", ("quality.balance.lengths",),
        "Leaves out pairs until chosen and rejected are about equally long on average, by kind and"
        " source.",
        *_MADE, drops=(("quality", "length_balance"),), pairs="length_balance",
    ),
    _Kind(
        "answers", "Answer balance", ("quality.balance.answers",),
        "Leaves out pairs until yes, no and letters of options are as often chosen as rejected, by"
        " source.",
        *_MADE, drops=(("quality", "answer_balance"),), pairs="answer_balance",
    ),
)  # fmt: skip


def controls_of(run: Mapping[str, Any]) -> tuple[tuple[Control, ...], tuple[tuple[str, str], ...]]:
    """(those that were on, (title, key) of those that were off), in the order of the pipeline."""
    defaults = Config().model_dump(mode="json")
    on: list[Control] = []
    off: list[tuple[str, str]] = []
    for kind in _KINDS:
        said = tuple(
            dict.fromkeys(
                f"{key}={_shown(value)}"
                for top in kind.keys
                for key, value in _flat(top, _at(run["config"], top))
                if value is not None and value != _at(defaults, key)
            )
        )
        if said and _is_on(kind, run["config"]):
            on.append(_found(kind, said, run))
        else:
            off.append((kind.title, kind.keys[0]))
    return tuple(on), tuple(off)


def _is_on(kind: _Kind, config: Mapping[str, Any]) -> bool:
    """Evaluation sets are what turns decontamination on; its other settings alone do nothing."""
    return kind.name != "decontamination" or bool(_at(config, "quality.decontaminate.against"))


def _found(kind: _Kind, said: tuple[str, ...], run: Mapping[str, Any]) -> Control:
    counts, drops = run["counts"], run["counts"]["drops"]
    left = [
        Left(reason, drops[stage][reason], "questions", stage)
        for stage, reason in kind.drops
        if drops.get(stage, {}).get(reason)
    ]
    if kind.faults is not None:
        faults = run["this_run"].get("quality", {})
        unit = kind.unit
        ours = [(n, reason) for reason, n in faults.items() if kind.faults(reason)]
        left += [
            Left(reason.removeprefix(_OF_CONTINUATION), n, unit)
            for n, reason in sorted(ours, key=lambda row: (-row[0], row[1]))
        ]
    gone = _at(counts, "balance.left_out") or {}
    for pair_kind, n in gone.get(kind.pairs, {}).items():
        left.append(Left(f"{pair_kind} pairs", n, "pairs"))
    if kind.name == "licences":
        sources = run["config"]["left_out"]
        left += [Left(f"{one['name']}: {one['reason']}", 1, "sources") for one in sources]
    given = _at(counts, kind.given)
    if kind.name == "dropout_gate" and counts.get("continuations"):
        # A response may have one at each of several ratios.
        given = sum(at["made"] for at in counts["continuations"].values())
    if kind.unit == "pairs":
        given += sum(sum(by.values()) for by in gone.values())
    return Control(kind.name, kind.title, kind.what, said, given, kind.unit, tuple(left))


def _at(tree: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None where it is not there (other versions)."""
    found: Any = tree
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _flat(key: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and key != "pairing.shares":
        return [row for name, inner in value.items() for row in _flat(f"{key}.{name}", inner)]
    return [(key, value)]


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {inner}" for name, inner in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)


# ---- findings
# What judging and pairing see of seeds beside their pairs, to be counted in run.json.


@dataclass
class Findings:
    """Sums over seeds; workers fill one for each part and hand it on with the part's counts."""

    continuations: Counter[tuple[float, str]] = field(default_factory=Counter)
    """(ratio kept, why it is not fit to be rejected; "" if it is) -> continuations."""
    not_made: Counter[float] = field(default_factory=Counter)
    """Ratio asked for -> responses that were to be continued there and were not; 0 where all were.
    """
    blind: Counter[tuple[str, str]] = field(default_factory=Counter)
    """("seeds", what came of them without images), ("responses", outcome) and ("pass_rates",
    rate) -> seeds, responses, seeds."""

    uncontrolled: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """Of the pairs as they would be without controls of lengths and answers, where one is on:
    `pairing.weighing.sums`."""

    def clear(self) -> None:
        """Forget everything, for another pass over the same seeds."""
        for entry in fields(self):
            getattr(self, entry.name).clear()

    def add(self, other: Findings) -> None:
        """Add the sums over other seeds."""
        for entry in fields(self):
            getattr(self, entry.name).update(getattr(other, entry.name))

    def asked(self, responses: Sequence[Response], ratios: Sequence[float]) -> None:
        """Count what responses that were to be continued at each of these ratios lack."""
        for keep in ratios:
            made = sum(any(c.keep == keep for c in r.continuations) for r in responses)
            self.not_made[keep] += len(responses) - made

    def set_aside(self, responses: Sequence[Response], reason: str) -> None:
        """Count the continuations of a seed of which nothing is used, whatever they are worth."""
        for response in responses:
            for continuation in response.continuations:
                self.continuations[continuation.keep, reason] += 1

    def not_wrong(self, stored: Sequence[Response], usable: Sequence[Response]) -> None:
        """Count continuations that judging took away: right, or not known to be wrong."""
        for before, after in zip(stored, usable, strict=True):
            if before is after:
                continue
            kept = {continuation.keep for continuation in after.continuations}
            for continuation in before.continuations:
                if continuation.keep not in kept:
                    self.continuations[continuation.keep, "not_wrong"] += 1
