"""Rewards for verl and TRL that judge as the pairs were judged. verl loads this file by its path:

    reward.custom_reward_function.path=…/mmpr_builder/export/verl_reward.py
    reward.custom_reward_function.name=compute_score

Without one verl knows only the data sets it ships and raises for every other `data_source`. TRL
takes `trl_reward` itself, with the columns of `mmpr export --to grpo`.
"""

from __future__ import annotations

from typing import Any

from mmpr_builder.scoring import score_response


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    **_: Any,
) -> float:
    """1.0 for a right final answer in the style that was asked for, else 0.0.

    `extra_info` is the column of that name of the export: it holds all accepted truths, the
    options, the style and the scorer. An undecided response earns nothing.
    """
    info = extra_info or {}
    truths = info.get("answers")
    choices = info.get("choices")
    verdict = score_response(
        solution_str,
        [ground_truth] if truths is None or not len(truths) else list(truths),
        style=info.get("style") or "final_answer",
        scorer=info.get("scorer") or "auto",
        choices=None if choices is None or not len(choices) else list(choices),
        question=info.get("question"),
    )
    return float(verdict.outcome == "correct")


def trl_reward(
    completions: list[Any],
    answers: list[list[str]],
    *,
    style: list[str],
    scorer: list[str],
    choices: list[list[str]],
    question: list[str],
    **_: Any,
) -> list[float]:
    """`compute_score` of each completion: a text, or a conversation that ends with the response."""
    rows = zip(completions, answers, style, scorer, choices, question, strict=True)
    names = ("answers", "style", "scorer", "choices", "question")
    return [
        compute_score("", _text(said), truths[0], dict(zip(names, (truths, *rest), strict=True)))
        for said, truths, *rest in rows
    ]


def _text(completion: Any) -> str:
    said = completion if isinstance(completion, str) else completion[-1]["content"]
    return said if isinstance(said, str) else "".join(part.get("text") or "" for part in said)
