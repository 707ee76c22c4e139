"""Truths that can be used and may still fail: options of equal value, truths that contradict one
another, answers that extraction loses."""

from __future__ import annotations

from mmpr_builder.audit.dress import responses_saying
from mmpr_builder.audit.finding import SHOWN, Finding, Scorer, finding_of
from mmpr_builder.audit.truths import check_truth, kind_of_seed, option_unknown, problem_of
from mmpr_builder.records import Language, Seed, Style
from mmpr_builder.scoring.auto import usable_truth
from mmpr_builder.scoring.choice import read_gold
from mmpr_builder.scoring.clean import MAX_CHARS, clean
from mmpr_builder.scoring.latex import plain
from mmpr_builder.scoring.options import match_option
from mmpr_builder.scoring.quantity import parse_quantity
from mmpr_builder.seeds.choices import find_choices

_MAX_TRUTHS = 8  # Compared with one another; a question's annotators are about ten.


def check_seed(
    seed: Seed, judge: Scorer, *, scorer: str, style: Style, language: Language
) -> list[Finding]:
    """Everything that is wrong with the truths of a seed, the unusable first.

    `style` and `language` are those of the template it is asked with. May ask the symbolic workers
    whether two options are equal.
    """
    if not seed.has_truth:
        return []
    unusable = check_truth(seed, judge, scorer)
    if unusable is not None:
        return [unusable]
    kind = kind_of_seed(seed, scorer)
    found: list[Finding] = []
    for truth in dict.fromkeys(seed.answers):
        problem = problem_of(truth, seed, judge, scorer) or option_unknown(truth, seed)
        problem = problem or _beyond_options(truth, seed)
        problem = problem or _lost(truth, seed, judge, scorer, kind, style, language)
        problem = problem or _ambiguous(truth, seed, judge)
        if problem is not None:
            found.append(finding_of(seed, kind, *problem, truth, unusable=False))
    contradiction = _contradiction(seed, judge, scorer)
    if contradiction is not None:
        found.append(contradiction)
    return found


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
    truth: str,
    seed: Seed,
    judge: Scorer,
    scorer: str,
    kind: str,
    style: Style,
    language: Language,
) -> tuple[str, str] | None:
    """A response that says the truth in one of the usual dresses and is not called right."""
    for text in responses_saying(truth, kind, style, language):
        verdict = judge.score_response(
            text,
            [truth],
            style=style,
            scorer=scorer,
            choices=list(seed.choices) or None,
            question=seed.question,
        )
        if verdict.outcome != "correct" and verdict.rule not in ("timeout", "screened"):
            said = text.rpartition("\n")[2] if "\n" not in truth else text
            detail = f"{said!r} gives {verdict.answer!r}: {verdict.outcome} ({verdict.rule})"
            return "lost_in_extraction", detail[:SHOWN]
    return None


def _ambiguous(truth: str, seed: Seed, judge: Scorer) -> tuple[str, str] | None:
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
        if same or judge.score_answer(text, [own]).outcome == "correct":
            detail = f"option {_letter(other)} ({text!r}) equals option {_letter(right)} ({own!r})"
            return "ambiguous_options", detail[:SHOWN]
    return None


def _has_words(option: str) -> bool:
    """Options can be pictures, or be left empty where the picture shows them."""
    return bool(clean(option.replace("<image>", "")[:MAX_CHARS]))


def _letter(index: int) -> str:
    return chr(ord("A") + index)


def _contradiction(seed: Seed, judge: Scorer, scorer: str) -> Finding | None:
    """Two accepted truths that are numbers, and not the same one under the seed's scorer."""
    numbers = [
        truth
        for truth in dict.fromkeys(seed.answers)
        if usable_truth(truth) and _is_number(truth) and not seed.choices
    ][:_MAX_TRUTHS]
    for i, left in enumerate(numbers):
        for right in numbers[i + 1 :]:
            verdict = judge.score_answer(right, [left], scorer=scorer, question=seed.question)
            if verdict.outcome == "incorrect":
                detail = f"accepted are {left!r} and {right!r}"
                kind = kind_of_seed(seed, scorer)
                return finding_of(seed, kind, "contradicting_truths", detail, right, unusable=False)
    return None


def _is_number(truth: str) -> bool:
    quantity = parse_quantity(plain(clean(truth)))
    return quantity is not None and quantity.number is not None
