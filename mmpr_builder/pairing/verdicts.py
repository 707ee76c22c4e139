"""What is right and what is wrong among the responses of a rollout, before anything is paired."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol, get_args

from mmpr_builder.config import Config, sources_of
from mmpr_builder.errors import InputError
from mmpr_builder.extraction import open_thought
from mmpr_builder.io import stores
from mmpr_builder.pairing.pooled import PooledRollout
from mmpr_builder.records import Asked, Response, Rollout, Seed, Style, Verdict, content_id
from mmpr_builder.steps import first_wrong, is_right, labels_of

NO_TRUTH = Verdict("undecided", rule="no_truth", reason="the truth of this question is not known")


class Scores(Protocol):
    """What pairing and audits need of a judge, such as `scoring.Judge`."""

    def score_answer(
        self,
        predicted: str | None,
        gold: Sequence[str],
        *,
        scorer: str,
        choices: Sequence[str] | None,
        question: str | None,
    ) -> Verdict: ...

    def score_response(
        self,
        text: str,
        gold: Sequence[str],
        *,
        style: Style,
        scorer: str,
        choices: Sequence[str] | None,
        question: str | None,
    ) -> Verdict: ...


def asked_of(seed: Seed, scorer: str, style: Style = "final_answer") -> Asked:
    """What a response to a seed is judged by."""
    return Asked(seed.answers, scorer, seed.choices, seed.question, style)


def _how(asked: Asked) -> dict[str, Any]:
    choices = asked.choices or None
    return {"scorer": asked.scorer, "choices": choices, "question": asked.question}


def judge_answer(judge: Scores, answer: str, asked: Asked) -> Verdict:
    """The verdict on an extracted answer."""
    return judge.score_answer(answer, asked.golds, **_how(asked))


def judge_text(judge: Scores, text: str, asked: Asked) -> Verdict:
    """The verdict on a whole response."""
    return judge.score_response(text, asked.golds, style=asked.style, **_how(asked))


def right_with(judge: Scores, asked: Asked) -> Callable[[str, str], bool]:
    """Whether an answer is right with another answer in the place of the accepted ones."""

    def is_right(answer: str, gold: str) -> bool:
        return judge_answer(judge, answer, replace(asked, golds=(gold,))).outcome == "correct"

    return is_right


Label = Literal["correct", "incorrect", "skip"]
Labels = Mapping[str, Label]
"""`label_id` -> what a person said of an undecided answer: correct, incorrect or skip."""


def label_id(seed: Seed, answer: str) -> str:
    """What a label is known by: as long as question, accepted answers and answer are the same."""
    return content_id("label", seed.id, seed.question, *seed.answers, answer)


def saved_lines(setting: str, uri: str | Path) -> list[tuple[int, str]]:
    """(number, text) of the lines of a text file. Raises `InputError` without one."""
    try:
        # Other characters that end a line may stand in names and notes.
        return list(enumerate(stores.read_bytes(uri).decode("utf-8-sig").split("\n"), 1))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{setting}={uri}: cannot be read ({error}): give a text file, such as one"
            " saved in a report"
        ) from None


def read_labels(uri: str | None) -> dict[str, Label]:
    """The labels that a person saved in the report; none without a file.

        {"id": "9f3c0a6d2b7e41c58d90e1f2a3b4c5d6", "label": "correct", "seed": "q1", …}

    A later line outdoes an earlier one. Raises `InputError` for a file or a line that is none.
    """
    if uri is None:
        return {}
    found: dict[str, Label] = {}
    for number, line in saved_lines("scoring.labels", uri):
        try:
            item = json.loads(line) if line.strip() else None
            if item is not None:
                found[str(item["id"])] = _LABELS[item["label"]]
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{uri}:{number}: {line[:80]!r} is no label: give an object with `id` and `label`,"
                f" one of {', '.join(_LABELS)}"
            ) from None
    return found


_LABELS: dict[str, Label] = {name: name for name in get_args(Label)}


def _labelled(seed: Seed, response: Response, verdict: Verdict, labels: Labels) -> Verdict:
    """The verdict, or what a person said where no rule decided."""
    if not labels or verdict.outcome != "undecided":
        return verdict
    said = labels.get(label_id(seed, verdict.answer or response.text))
    if said is None or said == "skip":
        return verdict
    return replace(verdict, outcome=said, rule="label", reason="a person labelled it")


def judge_responses(
    rollout: Rollout, config: Config, judge: Scores, labels: Labels = MappingProxyType({})
) -> tuple[list[Verdict], tuple[Response, ...]]:
    """Score the responses of a rollout in the style of its prompt; returns them as pairing may use
    them, too. Blocks for as long as the judge takes. Without a truth nothing is scored.

    What ends inside an open thought was cut, whatever its engine says: trainers' chat templates
    close the thought, and a text that only one side has gives the pair away.
    """
    if isinstance(rollout, PooledRollout):
        if rollout.drop is not None:
            undecided = Verdict("undecided", rule=rollout.drop.reason, reason=rollout.drop.detail)
            return [undecided] * len(rollout.responses), rollout.responses
        judged = [
            judge_responses(member, config.model_copy(update={"steps": of.steps}), judge, labels)
            for member, of in zip(rollout.members, rollout.settings, strict=True)
        ]
        return [v for one, _ in judged for v in one], tuple(r for _, one in judged for r in one)
    ended = tuple(with_true_ends(response) for response in rollout.responses)
    if not rollout.seed.has_truth:
        return [NO_TRUTH] * len(ended), ended
    score = _scores_of(rollout, config, judge)
    verdicts = [_labelled(rollout.seed, r, score(r.text), labels) for r in ended]
    responses = tuple(
        _without_right_continuations(response, verdict, score)
        for response, verdict in zip(ended, verdicts, strict=True)
    )
    return verdicts, _with_steps_judged(responses, verdicts, config.steps.cut, score)


def judge_blind(rollout: Rollout, config: Config, judge: Scores) -> list[Verdict]:
    """Score the samples without images like the others; blocks as long as the judge takes."""
    if isinstance(rollout, PooledRollout):
        return [v for member in rollout.members for v in judge_blind(member, config, judge)]
    if not rollout.blind:
        return []
    score = _scores_of(rollout, config, judge)
    return [score(response.text) for response in rollout.blind]


def scorer_for(seed: Seed, config: Config) -> str:
    """The scorer of a seed: its source's in this recipe (that of all seeds where it is the only
    one, unless they are pooled), else its own, noted when it was read, else `scoring.scorer`."""
    found = {source.scorer for source in sources_of(seed, config)}
    scorer = found.pop() if len(found) == 1 else seed.scorer
    return config.scoring.scorer if scorer == "auto" else scorer


def _scores_of(rollout: Rollout, config: Config, judge: Scores) -> Callable[[str], Verdict]:
    """What the judge says of a text of this rollout; equal texts are judged once."""
    asked = asked_of(rollout.seed, scorer_for(rollout.seed, config), rollout.style)
    return functools.cache(functools.partial(judge_text, judge, asked=asked))


def with_true_ends(response: Response) -> Response:
    """The same, as cut at its length where it, or its continuation, stops inside a thought."""
    found = replace(response, finish_reason=_end(response.finish_reason, response.text))
    return found.with_continuations(
        replace(c, finish_reason=_end(c.finish_reason, c.prefix + c.text))
        for c in response.continuations
    )


def _end(finish_reason: str, text: str) -> str:
    return "length" if finish_reason == "stop" and open_thought(text) else finish_reason


def _with_steps_judged(
    responses: tuple[Response, ...],
    verdicts: Sequence[Verdict],
    cut: str,
    score: Callable[[str], Verdict],
) -> tuple[Response, ...]:
    """The responses with verdicts on their continuations with the image, and the first wrong step
    of each as far as these tell it."""
    if not any(response.with_image for response in responses):
        return responses
    judged = list(zip(responses, verdicts, strict=True))
    right = [r.text for r, verdict in judged if is_right(r.finish_reason, verdict)]

    def with_steps(response: Response, verdict: Verdict) -> Response:
        if not response.with_image:
            return response
        made = tuple(
            replace(
                c,
                verdict=score(c.prefix + c.text),
                finish_reason=_end(c.finish_reason, c.prefix + c.text),
            )
            for c in response.with_image
        )
        found = replace(response, with_image=made)
        return replace(found, first_wrong=first_wrong(labels_of(found, verdict, cut, right)))

    return tuple(with_steps(response, verdict) for response, verdict in judged)


def _without_right_continuations(
    response: Response, verdict: Verdict, score: Callable[[str], Verdict]
) -> Response:
    """Where the truth is known, a continuation is rejected only if it is known not to be right."""
    if response.continuation is None or verdict.outcome != "correct":
        return response
    return response.with_continuations(
        c
        for c in response.continuations
        if score(c.prefix + c.text).outcome in ("incorrect", "no_answer")
    )
