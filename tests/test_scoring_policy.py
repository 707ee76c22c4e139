"""The policy page says what the program does: each row of its tables is run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmpr_builder.config import ScoringConfig
from mmpr_builder.scoring import Judge

PAGE = Path(__file__).parents[1] / "docs" / "scoring.md"
Row = dict[str, str]


def rows(first: str) -> list[Row]:
    """The rows of all tables whose first column is headed `first`."""
    found: list[Row] = []
    header: list[str] | None = None
    for line in PAGE.read_text("utf-8").splitlines():
        if not line.startswith("|"):
            header = None
            continue
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if header is None:
            header = cells
        elif header[0] == first and not set("".join(cells)) <= set("-"):
            found.append(dict(zip(header, cells, strict=True)))
    return found


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge(ScoringConfig(timeout_s=20.0)) as shared:  # A busy machine changes no verdict.
        yield shared


@pytest.mark.parametrize("row", rows("truth"), ids=lambda row: f"{row['truth']}|{row['answer']}")
def test_answers_are_judged_as_the_page_says(row: Row, judge: Judge) -> None:
    choices = [option.strip() for option in row["options"].split(";")] if "options" in row else None
    scorer = row.get("scorer", "choice" if choices else "math")
    question = row.get("question")
    verdict = judge.score_answer(
        row["answer"], row["truth"], scorer=scorer, choices=choices, question=question
    )
    assert verdict.outcome == row["verdict"], verdict
    if scorer == "math":  # and a recipe that fixes nothing decides the same
        verdict = judge.score_answer(row["answer"], row["truth"], question=question)
        assert verdict.outcome == row["verdict"], verdict


@pytest.mark.parametrize("row", rows("response"), ids=lambda row: row["response"])
def test_responses_are_judged_as_the_page_says(row: Row, judge: Judge) -> None:
    # A line of a table cannot hold line breaks: its markers begin a line here.
    text = re.sub(r"(?=Final answer:|答案：)", "\n", row["response"])
    verdict = judge.score_response(text, row["truth"], style=row["style"])  # type: ignore[arg-type]
    assert verdict.outcome == row["verdict"], verdict


def test_every_scorer_and_every_verdict_has_examples() -> None:
    examples = rows("truth")
    assert len(examples) > 120
    assert {row["verdict"] for row in examples} == {"correct", "incorrect", "undecided"}
    assert {row["scorer"] for row in examples if "scorer" in row} == (
        {"auto", "math", "vqa", "exact", "anls", "relaxed"}
    )
