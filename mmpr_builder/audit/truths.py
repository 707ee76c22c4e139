"""The truths of a seed, each scored against itself: what fails that can never be answered right.

    Finding("q7", "seeds.jsonl:118", "maps", "choice", "not_an_option", value="E", …)

Two degrees: *unusable* (no truth of the seed works, so every token sampled for it is wasted) and
*doubtful* (it can be sampled, but a right response may be called wrong). Doubts are options of
equal value, truths that contradict one another, and answers that extraction loses: for these a
truth is put into whole synthetic responses.

    ("12", "math", "boxed", "en")  ->  "… So the answer is $\\boxed{12}$."
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any

from mmpr_builder.config import Config
from mmpr_builder.pairing import scorer_for
from mmpr_builder.pairing.verdicts import Scores, asked_of, judge_answer, judge_text
from mmpr_builder.prompts import Templates
from mmpr_builder.records import Asked, Drop, Language, Seed, Style
from mmpr_builder.scoring import Judge
from mmpr_builder.scoring.auto import (
    ANNOTATORS,
    ENOUGH_ANNOTATORS,
    counted,
    kind_of,
    of_annotators,
    usable_truth,
)
from mmpr_builder.scoring.clean import MAX_CHARS, clean
from mmpr_builder.scoring.decision import Decision, Query, unknown
from mmpr_builder.scoring.latex import plain
from mmpr_builder.scoring.numbers.quantity import parse_quantity
from mmpr_builder.scoring.words.choice import match_option, read_gold
from mmpr_builder.seeds.choices import find_choices

SHOWN = 200
"""Characters of a truth, or of a detail, that a finding keeps at most."""

REMEDIES = {
    "empty_truth": "write the answer, or leave the field out if it is not known",
    "truth_too_long": "give the answer alone, or leave it out: then the seed goes to DropoutNTP",
    "not_an_option": "give the letter or the text of one of the options, or mend the options",
    "undecided_truth": "write it in a simpler form, or fix another scorer for its source",
    "unequal_to_itself": "write it in a simpler form, or fix another scorer for its source",
    "contradicting_truths": "keep the truths that are right",
    "few_annotators": "keep the truths that are right, each once",
    "ambiguous_options": "make the options differ, or leave the seed out",
    "lost_in_extraction": "write the truth on one line without marks of its own, or use another"
    " prompts.style",
}
"""Reason of a finding -> what to do about it."""

_Found = tuple[str, str, str]  # Reason, detail, truth or option.


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a seed's truths. `value` is the truth or option concerned."""

    seed_id: str
    origin: str
    source: str
    kind: str
    """What the truth is compared as: the scorer fixed for it, or what "auto" takes it for."""
    reason: str
    """A key of `REMEDIES`."""
    unusable: bool
    """True: no response can be right. False: doubtful."""
    value: str
    detail: str

    @classmethod
    def of(cls, seed: Seed, kind: str, found: _Found, *, unusable: bool) -> Finding:
        """A finding about a truth of this seed."""
        reason, detail, value = found
        shown = value if len(value) <= SHOWN else f"{value[:SHOWN]}…"
        return cls(seed.id, seed.origin, seed.source, kind, reason, unusable, shown, detail)

    @property
    def remedy(self) -> str:
        return REMEDIES[self.reason]


UNUSABLE_TRUTH = "unusable_truth"
"""Reason of the `Drop` of a seed that no response could answer right."""


def kind_of_seed(seed: Seed, scorer: str) -> str:
    """What the seed's first usable truth is compared as."""
    if scorer != "auto":
        return scorer
    truth = next((truth for truth in seed.answers if usable_truth(truth)), None)
    return "none" if truth is None else kind_of(clean(truth), seed.choices)


def check_truth(seed: Seed, judge: Scores, scorer: str = "auto") -> Finding | None:
    """Why no truth of this seed can be used; None if one can, or if it has none.

    Each accepted truth is compared with itself by the scorer that the seed has in a build.
    """
    if not seed.has_truth:
        return None
    problems = []
    for truth in seed.answers:
        problem = problem_of(truth, seed, judge, scorer)
        if problem is None:
            return None
        problems.append((*problem, truth))
    return Finding.of(seed, kind_of_seed(seed, scorer), problems[0], unusable=True)


def screen(items: Iterable[Seed | Drop], config: Config) -> Iterator[Seed | Drop]:
    """Seeds without a usable truth become drops of reason `unusable_truth` before any sampling.

    With `scoring.unusable_truth=open` they go on as seeds without a truth. No process is started.
    """
    with closing(Judge(config.scoring, symbolic=_not_asked)) as judge:
        for item in items:
            finding = None
            if isinstance(item, Seed):
                finding = check_truth(item, judge, scorer_for(item, config))
            if finding is None:
                yield item
            elif config.scoring.unusable_truth == "open" and isinstance(item, Seed):
                yield replace(item, answers=())
            else:
                detail = f"{finding.origin}: {finding.reason}: {finding.detail}: {finding.remedy}"
                yield Drop(finding.seed_id, "audit", UNUSABLE_TRUTH, detail)


def _not_asked(query: Query) -> Decision:
    """Planning takes bounded time, so a truth that only sympy could check counts as usable."""
    return unknown("not_asked", "no symbolic mathematics while planning")


def problem_of(truth: str, seed: Seed, judge: Scores, scorer: str) -> tuple[str, str] | None:
    """(reason, detail) for a truth that is not right when compared with itself."""
    if len(truth) > MAX_CHARS:
        return "truth_too_long", f"{len(truth):,} characters, over {MAX_CHARS:,}"
    if not usable_truth(truth):
        return "empty_truth", f"{truth!r} is empty once markup is removed"
    if scorer in ("auto", "choice") and (unknown_option := option_unknown(truth, seed)):
        return unknown_option
    asked = Asked((truth,), scorer, seed.choices, seed.question)
    verdict = judge_answer(judge, truth, asked)
    if verdict.outcome == "correct" or verdict.rule == "not_asked":
        return None
    reason = "undecided_truth" if verdict.outcome == "undecided" else "unequal_to_itself"
    return reason, f"{verdict.outcome} against itself ({verdict.rule}: {verdict.reason})"


def option_unknown(truth: str, seed: Seed) -> tuple[str, str] | None:
    if not seed.choices or read_gold(clean(truth), seed.choices) is not None:
        return None
    shown = "; ".join(seed.choices)[:SHOWN]
    return "not_an_option", f"{truth[:60]!r} is none of the {len(seed.choices)} options: {shown}"


_REASONING: dict[Language, str] = {
    "en": "The picture shows what is asked for, and it can be read off step by step.",
    "zh": "从图中可以一步一步读出所求的内容。",
}


def responses_saying(truth: str, kind: str, style: Style, language: Language) -> list[str]:
    """Responses of this style whose final answer is the truth, plain and in its usual markup.

    Style "open" marks no answer: no responses.
    """
    if style == "open":
        return []
    lead = _REASONING[language]
    if style == "boxed":
        close = (
            "所以答案是 $\\boxed{%}$。" if language == "zh" else "So the answer is $\\boxed{%}$."
        )
        wraps = [f"{lead}\n{close}", f"{lead}\n\\[\\boxed{{%}}\\]"]
    elif style == "think_boxed":
        wraps = [f"<think>\n{lead}\n</think>\n\\boxed{{%}}"]
    elif language == "zh":
        wraps = [f"{lead}\n最终答案：%", f"{lead}\n**最终答案：** %"]
    else:
        wraps = [f"{lead}\nFinal answer: %", f"{lead}\n**Final answer:** %"]
    said = [truth, *_marked_up(truth, kind, in_box=style != "final_answer")]
    return [wrap.replace("%", answer, 1) for wrap in wraps for answer in said]


def _marked_up(truth: str, kind: str, *, in_box: bool) -> list[str]:
    if kind == "choice" and len(truth) == 1:
        return [f"({truth})", f"\\text{{{truth}}}" if in_box else f"**{truth}**"]
    if in_box and kind in ("vqa", "anls") and not set(truth) & set("\\${}"):
        return [f"\\text{{{truth}}}"]
    if not in_box and kind == "math" and "$" not in truth and "\n" not in truth:
        return [f"${truth}$"]
    return []


_MAX_TRUTHS = 8  # Compared with one another; a question's annotators are about ten.


def check_seed(
    seed: Seed, judge: Scores, *, scorer: str, style: Style, language: Language
) -> list[Finding]:
    """Everything that is wrong with the truths of a seed, the unusable first.

    `style` and `language` are those of the template it is asked with.
    """
    if not seed.has_truth:
        return []
    unusable = check_truth(seed, judge, scorer)
    if unusable is not None:
        return [unusable]
    kind = kind_of_seed(seed, scorer)
    found: list[_Found] = []
    for truth in dict.fromkeys(seed.answers):
        problem = (
            problem_of(truth, seed, judge, scorer)
            or option_unknown(truth, seed)
            or _beyond_options(truth, seed)
            or _lost(truth, kind, language, judge, asked_of(seed, scorer, style))
            or _ambiguous(truth, seed, judge)
        )
        if problem is not None:
            found.append((*problem, truth))
    found += _few_annotators(seed, judge, scorer)
    found += _contradiction(seed, judge, scorer)
    return [Finding.of(seed, kind, one, unusable=False) for one in found]


def _beyond_options(truth: str, seed: Seed) -> tuple[str, str] | None:
    """A letter that none of the options in the question's text has: they were not read as options,
    for the truth is none of them."""
    letter = clean(truth)
    if seed.choices or not (len(letter) == 1 and "A" <= letter <= "Z"):
        return None
    found = find_choices(seed.question)
    if found is None or ord(letter) - ord("A") < len(found.texts):
        return None
    shown = "; ".join(found.texts)[:SHOWN]
    return "not_an_option", f"{letter!r} is none of the {len(found.texts)} options: {shown}"


def _lost(
    truth: str, kind: str, language: Language, judge: Scores, asked: Asked
) -> tuple[str, str] | None:
    """A response that says the truth in its usual markup and is not called right."""
    for text in responses_saying(truth, kind, asked.style, language):
        verdict = judge_text(judge, text, replace(asked, golds=(truth,)))
        if verdict.outcome != "correct" and verdict.rule not in ("timeout", "screened"):
            said = text.rpartition("\n")[2] if "\n" not in truth else text
            detail = f"{said!r} gives {verdict.answer!r}: {verdict.outcome} ({verdict.rule})"
            return "lost_in_extraction", detail[:SHOWN]
    return None


def _ambiguous(truth: str, seed: Seed, judge: Scores) -> tuple[str, str] | None:
    """Another option says the same as the right one: by its words or by its value."""
    named = read_gold(clean(truth), seed.choices) if seed.choices else None
    if named is None or len(named) != 1:
        return None
    (right,) = named
    own = seed.choices[right]
    if not _has_words(own):
        return None
    for other, text in enumerate(seed.choices):
        if other == right or not _has_words(text):
            continue
        same = match_option(own, (own, text)) is None
        if same or judge_answer(judge, text, Asked((own,))).outcome == "correct":
            detail = f"option {_letter(other)} ({text!r}) equals option {_letter(right)} ({own!r})"
            return "ambiguous_options", detail[:SHOWN]
    return None


def _has_words(option: str) -> bool:
    """Options can be pictures, or be left empty where the picture shows them."""
    return bool(clean(option.replace("<image>", "")[:MAX_CHARS]))


def _letter(index: int) -> str:
    return chr(ord("A") + index)


def _contradiction(seed: Seed, judge: Scores, scorer: str) -> Iterator[_Found]:
    """Two accepted truths that are numbers, and not the same one under the seed's scorer."""
    numbers = [
        truth
        for truth in dict.fromkeys(seed.answers)
        if usable_truth(truth) and _is_number(truth) and not seed.choices
    ]
    for left, right in combinations(numbers[:_MAX_TRUTHS], 2):
        verdict = judge_answer(judge, right, Asked((left,), scorer, (), seed.question))
        if verdict.outcome == "incorrect":
            yield "contradicting_truths", f"accepted are {left!r} and {right!r}", right
            return


def _few_annotators(seed: Seed, judge: Scores, scorer: str) -> Iterator[_Found]:
    """No three of ten annotators agree: no response can be right."""
    truths = counted(seed.answers)
    asked = asked_of(seed, scorer)
    if of_annotators(truths) and not any(
        judge_answer(judge, truth, asked).outcome == "correct" for truth in truths
    ):
        detail = f"no {ENOUGH_ANNOTATORS} of {ANNOTATORS} agree: {'; '.join(truths)}"
        yield "few_annotators", detail[:SHOWN], next(iter(truths))


def _is_number(truth: str) -> bool:
    quantity = parse_quantity(plain(clean(truth)))
    return quantity is not None and quantity.number is not None


@dataclass
class Row:
    """The seeds of one source that are compared as one kind. Reasons count seeds, not truths."""

    seeds: int = 0
    unusable: Counter[str] = field(default_factory=Counter)
    doubtful: Counter[str] = field(default_factory=Counter)
    clean: int = 0
    """Seeds about which nothing was found."""


@dataclass
class SeedAudit:
    """What was found; `rows` by (source, kind)."""

    without_truth: int = 0
    unread: Counter[str] = field(default_factory=Counter)
    """Input rows that are no seeds, by reason."""
    first_unread: dict[str, str] = field(default_factory=dict)
    """Detail of the first of them, by reason."""
    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def seeds(self) -> int:
        """Seeds with a truth."""
        return sum(row.seeds for row in self.rows.values())

    def add(self, seed: Seed, kind: str, found: list[Finding]) -> None:
        row = self.rows.setdefault((seed.source, kind), Row())
        row.seeds += 1
        row.clean += not found
        row.unusable.update({one.reason for one in found if one.unusable})
        row.doubtful.update({one.reason for one in found if not one.unusable})
        self.findings += found

    def to_json(self) -> dict[str, Any]:
        """Counts and the complete list of findings, as plain values."""
        return {
            "seeds_with_truth": self.seeds,
            "seeds_without_truth": self.without_truth,
            "unread": dict(sorted(self.unread.items())),
            "rows": [
                {
                    "source": source,
                    "kind": kind,
                    "seeds": row.seeds,
                    "clean": row.clean,
                    "unusable": dict(sorted(row.unusable.items())),
                    "doubtful": dict(sorted(row.doubtful.items())),
                }
                for (source, kind), row in sorted(self.rows.items())
            ],
            "findings": [{**asdict(one), "remedy": one.remedy} for one in self.findings],
        }


def audit_seeds(
    items: Iterable[Seed | Drop], config: Config, templates: Templates, judge: Scores
) -> SeedAudit:
    """Check the truths of all seeds as a build with this config would score them."""
    audit = SeedAudit()
    for item in items:
        if isinstance(item, Drop):
            audit.unread[item.reason] += 1
            audit.first_unread.setdefault(item.reason, item.detail)
        elif not item.has_truth:
            audit.without_truth += 1
        else:
            scorer = scorer_for(item, config)
            template = templates.pick(item)
            found = check_seed(
                item, judge, scorer=scorer, style=template.style, language=template.language
            )
            audit.add(item, kind_of_seed(item, scorer), found)
    return audit
