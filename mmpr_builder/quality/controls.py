"""What each control was given and what it left aside, from the content of a build's run.json.

    Decontamination   quality.decontaminate.against=mathvista.jsonl
                      12,400 questions read    contaminated: 31
    DropoutNTP gate   quality.dropout_gate=true
                      49,112 continuations     missing_image: 210, near_equal: 1,020

For the report and the data card. A control is on where one of its settings is not the default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mmpr_builder.config import Config
from mmpr_builder.config.identity import flattened
from mmpr_builder.quality.contamination import CONTAMINATED
from mmpr_builder.quality.screening import NEAR_DUPLICATE, NOT_SCREENED
from mmpr_builder.quality.suspects import SOLVED_BLIND, SUSPECT_TRUTH

_OF_CONTINUATION = "continuation_"


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
    """One control: what turns it on, what it looks at, and in a build what it left aside.

    `name` is a stable word, `keys` are of the settings that turn it on, `unit` is of what it is
    given, `counted` where the counts of run.json say how much that was, `drops` are (stage,
    reason). Of a build: `settings` as `key=value` that are not the default, `given`, `left`.
    """

    name: str
    title: str
    keys: tuple[str, ...]
    what: str
    unit: str
    counted: str
    drops: tuple[tuple[str, str], ...] = ()
    settings: tuple[str, ...] = ()
    given: int | None = None
    left: tuple[Left, ...] = ()


_READ = ("questions", "seeds.read")
_SAMPLED = ("responses", "responses.sampled")
_MADE = ("pairs", "pairs.total")

CONTROLS = (
    Control(
        "licences", "Licences", ("licenses",),
        "Leaves out sources whose licence forbids commercial use, or is not known to allow it.",
        *_READ,
    ),
    Control(
        "decontamination", "Decontamination",
        ("quality.decontaminate.against", "quality.decontaminate"),
        "Drops questions that are in an evaluation set: the same picture with a similar question,"
        " or nearly the same long question where one side has no picture.",
        *_READ, drops=(("quality", CONTAMINATED), ("quality", NOT_SCREENED)),
    ),
    Control(
        "near_duplicates", "Near-duplicates of questions", ("quality.near_duplicates",),
        "Drops questions that ask the same, with the same truth, of the same picture as an earlier"
        " one, or nearly the same long text.",
        *_READ, drops=(("quality", NEAR_DUPLICATE), ("quality", NOT_SCREENED)),
    ),
    Control(
        "suspect_truths", "Suspect truths", ("quality.suspect_truths",),
        "Sets aside questions whose responses clearly agree on another answer than the truth.",
        "questions", "seeds.with_truth", drops=(("quality", SUSPECT_TRUTH),),
    ),
    Control(
        "blind", "Image dependence", ("sampling.blind", "quality.max_blind"),
        "Asks each question some times without its images; with a limit, those that are solved"
        " blind are dropped.",
        "questions", "blind.seeds.measured", drops=(("quality", SOLVED_BLIND),),
    ),
    Control(
        "pass_rate", "Band of pass rates", ("quality.pass_rate",),
        "Drops questions that are too easy or too hard for the model that answered.",
        "questions", "seeds.with_truth", drops=(("quality", "pass_rate_outside"),),
    ),
    Control(
        "hygiene", "Response hygiene", ("quality.hygiene",),
        "Keeps responses with loops, the wrong language, leaked tokens, refusals or a last step"
        " that contradicts the answer from being chosen; leaked tokens and refusals from being"
        " rejected, too.",
        *_SAMPLED, drops=(("quality", "no_clean_pair"),),
    ),
    Control(
        "faithful", "Faithfulness", ("quality.min_faithful",),
        "Keeps right responses from being chosen whose middle seldom leads to the answer again.",
        *_SAMPLED,
    ),
    Control(
        "distinct", "Near-copies among responses", ("quality.distinct",),
        "Counts responses to a question that nearly repeat each other once.",
        *_SAMPLED,
    ),
    Control(
        "dropout_gate", "DropoutNTP gate", ("quality.dropout_gate",),
        "Keeps continuations from being rejected that nearly equal the original, speak of a missing"
        " image, go round in circles or run away.",
        "continuations", "responses.continued",
    ),
    Control(
        "policy", "Pair policy",
        (
            *("pairing.max_per_response", "pairing.rejected_first", "pairing.partner"),
            *("pairing.max_gap", "pairing.shares"),
        ),
        "Decides which right response meets which wrong one, and how often one may stand.",
        *_MADE, drops=(("pairing", "lengths_apart"),),
    ),
    Control(
        "lengths", "Length balance", ("quality.balance.lengths",),
        "Leaves out pairs until the longer text is as often chosen as rejected at each size of gap,"
        " by kind and source.",
        *_MADE, drops=(("quality", "length_balance"),),
    ),
    Control(
        "answers", "Answer balance", ("quality.balance.answers",),
        "Leaves out pairs until yes, no and letters of options are as often chosen as rejected, by"
        " source.",
        *_MADE, drops=(("quality", "answer_balance"),),
    ),
    Control(
        "shares", "Shares of kinds", ("quality.balance.shares",),
        "Leaves out pairs of kinds that have more than their share of all.",
        *_MADE, drops=(("quality", "kind_shares"),),
    ),
)  # fmt: skip


def controls_of(run: Mapping[str, Any]) -> tuple[tuple[Control, ...], tuple[tuple[str, str], ...]]:
    """(those that were on, (title, key) of those that were off), in the order of the pipeline."""
    recorded, defaults = _with_band(run["config"]), _with_band(Config().model_dump(mode="json"))
    on: list[Control] = []
    off: list[tuple[str, str]] = []
    for control in CONTROLS:
        said = dict.fromkeys(
            f"{key}={_shown(value)}"
            for top in control.keys
            for key, value in flattened(_at(recorded, top), top).items()
            if value is not None and value != _at(defaults, key)
        )
        # Evaluation sets are what turns decontamination on; its other settings alone do nothing.
        on_alone = control.name != "decontamination" or _at(run["config"], control.keys[0])
        if said and on_alone:
            left = tuple(_left(control, run))
            on.append(replace(control, settings=tuple(said), given=_given(control, run), left=left))
        else:
            off.append((control.title, control.keys[0]))
    return tuple(on), tuple(off)


def _with_band(config: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded settings with `quality.pass_rate`, of which its two bounds are recorded."""
    quality = config["quality"]
    band = [quality.get("min_pass_rate"), quality.get("max_pass_rate")]
    return {**config, "quality": {**quality, "pass_rate": band}}


def _left(control: Control, run: Mapping[str, Any]) -> Iterator[Left]:
    """What a control left aside: seeds by drop, responses and continuations, pairs, sources."""
    drops, filtered = run["counts"]["drops"], run["this_run"].get("quality", {})
    for stage, reason in control.drops:
        if count := drops.get(stage, {}).get(reason):
            yield Left(reason, count, "questions", stage)
    for reason, count in sorted(filtered.items(), key=lambda row: (-row[1], row[0])):
        if control.name == _filter_of(reason):
            yield Left(reason.removeprefix(_OF_CONTINUATION), count, control.unit)
    for _, reason in control.drops:
        for kind, count in _left_out(run).get(reason, {}).items():
            yield Left(f"{kind} pairs", count, "pairs")
    if control.name == "licences":
        for one in run["config"]["left_out"]:
            yield Left(f"{one['name']}: {one['reason']}", 1, "sources")


def _filter_of(reason: str) -> str:
    """The control that filters responses and continuations for this reason."""
    if reason.startswith(_OF_CONTINUATION):
        return "dropout_gate"
    return {"near_copy": "distinct", "unfaithful": "faithful"}.get(reason, "hygiene")


def _given(control: Control, run: Mapping[str, Any]) -> Any:
    """How much a control looked at."""
    counts = run["counts"]
    if control.name == "dropout_gate" and counts.get("continuations"):
        # A response may have one at each of several ratios.
        return sum(at["made"] for at in counts["continuations"].values())
    given = _at(counts, control.counted)
    if control.unit == "pairs":
        given += sum(sum(by.values()) for by in _left_out(run).values())
    return given


def _left_out(run: Mapping[str, Any]) -> Mapping[str, Mapping[str, int]]:
    """Reason -> kind -> pairs that the balance over the build left out."""
    return _at(run["counts"], "balance.left_out") or {}


def _at(tree: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None where it is not there (other versions)."""
    found: Any = tree
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
